"""Waiting without a worker: for a time, an event, or a child workflow.

Each wait is a step. Where it is not over, the step is stored as ``waiting``, together with what the run waits for, and
the run leaves its worker; when it is replayed, the step says what was waited for and since when, so that neither a
crash nor a slow start moves a deadline. Nothing is marked as taken in the store: an event is taken by the step that
names its position, so it is taken as durably as the step is stored, and once.

A child workflow is created in the same write as its parent's step, under an id made of the parent's id and the step's
ordinal, so it is created once. Its end makes the parent ready, in the same write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, Protocol

from .._clock import Clock
from .._failures import decode_failure, encode_failure
from .._futures import DurableFuture
from .._identifiers import MAX_WORKFLOW_ID_LENGTH
from .._options import RunOptions
from .._registry import WorkflowRegistry
from ..errors import EventTimeoutError, SerializationError, WorkflowConflictError, WorkflowFailedError
from ..models import (
    NEVER,
    ActivityStatus,
    EventRecord,
    StepOutcome,
    StepRecord,
    WorkflowRecord,
    WorkflowStatus,
)
from .interrupts import InterruptHost, Interrupts
from .journal import Journal

_COMPLETED = ActivityStatus.COMPLETED.value
_FAILED = ActivityStatus.FAILED.value
_CANCELLED = ActivityStatus.CANCELLED.value
_WAITING = ActivityStatus.WAITING.value


class WaitHost(InterruptHost, Protocol):
    """What is needed of the engine around."""

    registry: WorkflowRegistry
    clock: Clock

    def require_waiting(self, what: str) -> None:
        """Raise unless the database can keep runs that wait.

        Raises:
            UnsupportedOperationError: It cannot.
        """
        ...


@dataclass(slots=True)
class Child:
    """One child workflow, as its parent's call stands."""

    sequence: int
    name: str
    workflow_id: str
    arguments: str
    started_at: datetime
    is_new: bool
    settled: StepOutcome | None = None


class Waits:
    """The waits of one run, on the workflow's thread."""

    def __init__(self, host: WaitHost, journal: Journal, interrupts: Interrupts) -> None:
        self._host = host
        self._journal = journal
        self._interrupts = interrupts
        self._taken: dict[str, int] | None = None

    # --- time ---------------------------------------------------------------------------------------------------------

    def sleep_until(self, moment: Callable[[datetime], datetime], arguments: str) -> None:
        """Wait for a time, which is worked out from now when the call is made for the first time."""
        sequence, step = self._next("timer", "sleep")
        if step is not None and step.is_final:
            self._replayed(step)
            return
        now = self._host.clock.now()
        state = _state(step) if step is not None else {"wake_at": moment(now).isoformat(), "since": now.isoformat()}
        due, since = datetime.fromisoformat(state["wake_at"]), datetime.fromisoformat(state["since"])
        if now < due:
            self._interrupts.check(sequence, "timer", "sleep", arguments)
            if step is None:
                self._keep(sequence, "timer", "sleep", _WAITING, arguments, state=state)
            self._interrupts.suspend(due)
        self._keep(sequence, "timer", "sleep", _COMPLETED, arguments, output="null", state=state, started_at=since)

    # --- events -------------------------------------------------------------------------------------------------------

    def wait_for_event(self, name: str, timeout: float | None, deadline_of: Callable[[datetime], datetime]) -> Any:
        """Wait for the oldest event of the name that was not taken yet.

        Raises:
            EventTimeoutError: None was sent in time.
        """
        sequence, step = self._next("event", name)
        if step is not None and step.is_final:
            return self._replayed(step)
        arguments = json.dumps({"timeout": timeout})
        now = self._host.clock.now()
        if step is not None:
            state = _state(step)
        else:
            until = None if timeout is None else deadline_of(now).isoformat()
            state = {"deadline": until, "since": now.isoformat()}
        since = datetime.fromisoformat(state["since"])
        deadline = None if state["deadline"] is None else datetime.fromisoformat(state["deadline"])
        event = self._oldest_event(name, deadline)
        if event is not None:
            value = self._decoded(event.payload)
            self._keep(
                sequence, "event", name, _COMPLETED, arguments, output=event.payload,
                state={**state, "event": event.position}, started_at=since,
            )  # fmt: skip
            self._taken_events()[name] = event.position
            return value
        if deadline is not None and now >= deadline:
            error = EventTimeoutError(f"no event {name!r} was sent within {timeout} s")
            return self._replayed(self._keep_failure(sequence, "event", name, arguments, error, since))
        self._interrupts.check(sequence, "event", name, arguments)
        if step is None:
            self._keep(sequence, "event", name, _WAITING, arguments, state=state)
        self._interrupts.suspend(NEVER if deadline is None else deadline, f"event:{name}")

    def _oldest_event(self, name: str, deadline: datetime | None) -> EventRecord | None:
        after = self._taken_events().get(name, 0)
        database, workflow_id = self._host.database, self._journal.record.id
        found: list[EventRecord] = self._host.persist(
            lambda: database.load_events(workflow_id, name=name, after=after, limit=1)
        )
        if not found or (deadline is not None and found[0].sent_at > deadline):
            return None
        return found[0]

    def _taken_events(self) -> dict[str, int]:
        """Return the position of the last event of each name that was taken."""
        if self._taken is None:
            self._taken = {}
            for step in self._journal.history.of_kind("event"):
                if step.status == _COMPLETED:
                    self._taken[step.name] = max(self._taken.get(step.name, 0), _state(step)["event"])
        return self._taken

    # --- child workflows ----------------------------------------------------------------------------------------------

    def start_child(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions
    ) -> DurableFuture[Any]:
        """Start a child workflow and return its future."""
        child = self._child(name, args, kwargs, options)
        return DurableFuture(lambda: self._settle(child))

    def _child(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions) -> Child:
        sequence, step = self._next("workflow", name)
        now = self._host.clock.now()
        if step is not None:
            child_id = _state(step).get("workflow_id", "") if step.state is not None else ""
            child = Child(sequence, name, child_id, "null", now, is_new=False)
            if step.is_final:
                child.settled = step
                return child
        else:
            child = self._new_child(sequence, name, args, kwargs, options)
            if child.settled is not None:
                return child
        if not self._interrupts.is_shielded:
            self._interrupts.children[sequence] = child.workflow_id
        return child

    def _new_child(
        self, sequence: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions
    ) -> Child:
        now = self._host.clock.now()
        child_id = options.workflow_id or self._new_child_id(sequence)
        child = Child(sequence, name, child_id, "null", now, is_new=True)
        try:
            definition = self._host.registry.workflow_definition(name)
            what = f"argument of workflow {name!r}"
            child.arguments, _ = self._host.serializer.encode(
                definition.bind(args, kwargs), what=what, types=definition.types
            )
            deadline = options.deadline(now)
        except Exception as error:  # noqa: BLE001 - recorded as the call's failure
            child.settled = self._keep_failure(sequence, "workflow", name, child.arguments, error)
            return child
        self._interrupts.check(sequence, "workflow", name, child.arguments)
        record = WorkflowRecord(
            id=child.workflow_id,
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=child.arguments,
            parent_id=self._journal.record.id,
            deadline=deadline,
            created_at=now,
            updated_at=now,
        )
        self._keep(sequence, "workflow", name, _WAITING, child.arguments, state=_child_state(child), child=record)
        return child

    def _new_child_id(self, sequence: int) -> str:
        """Return the id of a child that is about to be created.

        One of that id is there already if the run was rewound, and an earlier child at this place is forgotten.
        """
        run = self._journal.record
        found = child_id_of(run.id, sequence)
        is_first_attempt = run.epoch == 1
        return (
            found if is_first_attempt or self._read(found) is None else child_id_of(f"{run.id}-r{run.epoch}", sequence)
        )

    def _settle(self, child: Child) -> Any:
        self._journal.check_thread()
        if child.settled is None:
            self._interrupts.guard()
            child.settled = self._outcome_of(child)
            self._interrupts.children.pop(child.sequence, None)
        return self._replayed(child.settled)

    def _outcome_of(self, child: Child) -> StepOutcome:
        """Return what a child has come to, and record it, or leave the worker until it has ended."""
        record = None if child.is_new else self._read(child.workflow_id)
        child.is_new = False  # at the next look it may have ended
        if record is not None and record.parent_id != self._journal.record.id:
            message = f"the id {child.workflow_id!r} of a child workflow belongs to another run"
            conflict = WorkflowConflictError(message, child.workflow_id)
            return self._keep_failure(child.sequence, "workflow", child.name, child.arguments, conflict)
        if record is None or not record.status.is_final:
            self._wait_for_child(child)
        if record.status is WorkflowStatus.DONE:
            return self._keep(
                child.sequence, "workflow", child.name, _COMPLETED, record.input, output=record.output,
                state=_child_state(child), started_at=record.created_at,
            )  # fmt: skip
        if record.status is WorkflowStatus.CANCELLED:
            if self._interrupts.is_cancellation_due:
                self._interrupts.cancel(child.sequence, "workflow", child.name, record.input)
            error = WorkflowFailedError(child.workflow_id, "cancelled", record.error_message or "")
            return self._keep_failure(child.sequence, "workflow", child.name, record.input, error)
        step = StepRecord(
            child.sequence, "workflow", child.name, _FAILED, record.input, None, record.error, record.error_message,
            record.created_at, record.updated_at, json.dumps(_child_state(child)),
        )  # fmt: skip
        self._journal.keep(step)
        return step.outcome

    def _wait_for_child(self, child: Child) -> NoReturn:
        if self._interrupts.is_cancellation_due:
            self._interrupts.cancel_children()  # it may clean up first, and then it is this run's turn
        self._interrupts.suspend(NEVER, f"workflow:{child.workflow_id}")

    def _read(self, workflow_id: str) -> WorkflowRecord | None:
        found: WorkflowRecord | None = self._host.persist(lambda: self._host.database.read_workflow(workflow_id))
        return found

    # --- shared -------------------------------------------------------------------------------------------------------

    def _next(self, kind: str, name: str) -> tuple[int, StepOutcome | None]:
        self._interrupts.guard()
        return self._journal.next(kind, name)

    def _replayed(self, step: StepOutcome) -> Any:
        serializer = self._host.serializer
        if step.status == _CANCELLED:
            self._interrupts.replay(decode_failure(step.error, None, serializer), step.sequence)
        if step.status == _FAILED:
            self._journal.raise_failure(decode_failure(step.error, None, serializer), step.sequence)
        types = None
        if step.kind == "workflow" and step.name in self._host.registry.workflows:
            types = self._host.registry.workflow_definition(step.name).types
        return self._decoded(step.output or "null", types)

    def _decoded(self, text: str, types: Mapping[str, type] | None = None) -> Any:
        try:
            return self._host.serializer.decode(text, types=types)
        except SerializationError as error:  # no failure of the step's, which the code might handle
            self._journal.fail(error)

    def _keep(
        self,
        sequence: int,
        kind: str,
        name: str,
        status: str,
        arguments: str,
        *,
        output: str | None = None,
        state: dict[str, Any] | None = None,
        child: WorkflowRecord | None = None,
        started_at: datetime | None = None,
    ) -> StepOutcome:
        now = self._host.clock.now()
        step = StepRecord(
            sequence, kind, name, status, arguments, output, None, None,
            started_at or now, None if status == _WAITING else now, None if state is None else json.dumps(state),
        )  # fmt: skip
        self._journal.keep(step, child)
        return step.outcome

    def _keep_failure(
        self, sequence: int, kind: str, name: str, arguments: str, error: Exception, started_at: datetime | None = None
    ) -> StepOutcome:
        failure = encode_failure(error, self._host.serializer)
        now = self._host.clock.now()
        step = StepRecord(
            sequence, kind, name, _FAILED, arguments, None, failure.document, failure.message, started_at or now, now
        )
        self._journal.keep(step)
        return step.outcome


def child_id_of(workflow_id: str, sequence: int) -> str:
    """Return the id of what a run creates at a place of its code, the same in every replay."""
    found = f"{workflow_id}-{sequence}"
    if len(found) > MAX_WORKFLOW_ID_LENGTH:
        found = f"{hashlib.sha256(workflow_id.encode()).hexdigest()}-{sequence}"
    return found


def _child_state(child: Child) -> dict[str, Any]:
    return {"workflow_id": child.workflow_id}


def _state(step: StepOutcome) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(step.state or "{}")
    return state
