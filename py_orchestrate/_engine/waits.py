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
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from .._clock import Clock
from .._failures import Failure, encode_failure
from .._futures import DurableFuture
from .._identifiers import MAX_WORKFLOW_ID_LENGTH
from .._options import RunOptions
from .._registry import WorkflowRegistry
from ..errors import EventTimeoutError, WorkflowConflictError, WorkflowFailedError
from ..models import (
    NEVER,
    ActivityStatus,
    EventRecord,
    StepOutcome,
    WorkflowRecord,
    WorkflowStatus,
)
from .calls import Call
from .interrupts import InterruptHost, Interrupts
from .journal import Journal

_COMPLETED = ActivityStatus.COMPLETED.value


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
    """One child workflow, as its parent's call stands.

    Attributes:
        call: The call.
        workflow_id: The child's id.
        is_new: Whether it is created in this attempt, and cannot have ended.
        settled: What the call has come to.
    """

    call: Call
    workflow_id: str
    is_new: bool = False
    settled: StepOutcome | None = None

    @property
    def state(self) -> dict[str, Any]:
        """What the step has to know of it."""
        return {"workflow_id": self.workflow_id}


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
        call = Call(sequence, "timer", "sleep", arguments)
        now = self._host.clock.now()
        state = _state(step) if step is not None else {"wake_at": moment(now).isoformat(), "since": now.isoformat()}
        due, since = datetime.fromisoformat(state["wake_at"]), datetime.fromisoformat(state["since"])
        self._interrupts.check(call)
        if now < due:
            if step is None:
                self._journal.keep(call.step(ActivityStatus.WAITING, since, None, state=state))
            self._interrupts.suspend(due)
        self._journal.keep(call.step(ActivityStatus.COMPLETED, since, now, output="null", state=state))

    # --- events -------------------------------------------------------------------------------------------------------

    def wait_for_event(self, name: str, timeout: float | None, deadline_of: Callable[[datetime], datetime]) -> Any:
        """Wait for the oldest event of the name that was not taken yet.

        Raises:
            EventTimeoutError: None was sent in time.
        """
        sequence, step = self._next("event", name)
        if step is not None and step.is_final:
            return self._replayed(step)
        call = Call(sequence, "event", name, json.dumps({"timeout": timeout}))
        now = self._host.clock.now()
        if step is not None:
            state = _state(step)
        else:
            until = None if timeout is None else deadline_of(now).isoformat()
            state = {"deadline": until, "since": now.isoformat()}
        since = datetime.fromisoformat(state["since"])
        deadline = None if state["deadline"] is None else datetime.fromisoformat(state["deadline"])
        self._interrupts.check(call)
        # What is there before the deadline counts, whatever its sender's clock says; after it, that is all to go by.
        event = self._oldest_event(name, deadline if deadline is not None and now >= deadline else None)
        if event is not None:
            state["event"] = event.position
            taken = call.step(ActivityStatus.COMPLETED, since, now, output=event.payload, state=state)
            value = self._replayed(taken.outcome)
            self._journal.keep(taken)
            self._taken_events()[name] = event.position
            return value
        if deadline is not None and now >= deadline:
            error = EventTimeoutError(f"no event {name!r} was sent within {timeout} s")
            return self._replayed(self._failed(call, error, since))
        if step is None:
            self._journal.keep(call.step(ActivityStatus.WAITING, since, None, state=state))
        return self._interrupts.suspend(NEVER if deadline is None else deadline, f"event:{name}")

    def _oldest_event(self, name: str, sent_by: datetime | None) -> EventRecord | None:
        """Return the oldest event of the name that was not taken yet, unless it was sent too late."""
        after = self._taken_events().get(name, 0)
        database, workflow_id = self._host.database, self._journal.record.id
        found: list[EventRecord] = self._host.persist(
            lambda: database.load_events(workflow_id, name=name, after=after, limit=1)
        )
        if not found or (sent_by is not None and found[0].sent_at > sent_by):
            return None
        return found[0]

    def taken_events(self) -> dict[str, int]:
        """Return the position of the last event of each name that was taken, here and before."""
        return dict(self._taken_events())

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
        sequence, step = self._next("workflow", name)
        if step is None:
            child = self._new_child(sequence, name, args, kwargs, options)
        else:
            child = Child(Call(sequence, "workflow", name), _state(step).get("workflow_id", ""))
            if step.is_final:
                child.settled = step
        if child.settled is None and not self._interrupts.is_shielded:
            self._interrupts.children[sequence] = child.workflow_id
        return DurableFuture(lambda: self._settle(child))

    def _new_child(
        self, sequence: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions
    ) -> Child:
        now = self._host.clock.now()
        try:
            definition = self._host.registry.workflow_definition(name)
            what = f"argument of workflow {name!r}"
            arguments = definition.bind(args, kwargs)
            text, _ = self._host.serializer.encode(arguments, what=what, types=definition.types)
            deadline = options.deadline(now)
            child_id, exists = self._place_of_child(options.workflow_id, sequence, (name, text))
        except Exception as error:  # noqa: BLE001 - recorded as the call's failure
            call = Call(sequence, "workflow", name)
            return Child(call, "", settled=self._failed(call, error, now))
        call = Call(sequence, "workflow", name, text)
        self._interrupts.check(call)
        record = WorkflowRecord(
            id=child_id,
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=text,
            parent_id=self._journal.record.id,
            deadline=deadline,
            created_at=now,
            updated_at=now,
        )
        child = Child(call, child_id, is_new=not exists)
        self._journal.keep(call.step(ActivityStatus.WAITING, now, None, state=child.state), record)
        return child

    def _place_of_child(self, own_id: str | None, sequence: int, what: tuple[str, str]) -> tuple[str, bool]:
        """Return the id of a child, and whether that is there already, by a call with the same id of the user's own.

        Raises:
            WorkflowConflictError: Another run has the id.
        """
        run = self._journal.record
        found = own_id or child_id_of(run.stem, sequence)
        existing = self._read(found)
        if existing is None:
            return found, False
        if existing.parent_id != run.id:
            raise _conflict(found)
        if own_id is None:  # the run was rewound, and an earlier child at this place is forgotten
            return child_id_of(f"{run.stem}-r{run.epoch}", sequence), False
        if existing.name != what[0] or (existing.input != what[1] and not existing.generation):
            raise _conflict(found)
        return found, True

    def _settle(self, child: Child) -> Any:
        self._journal.check_thread()
        if child.settled is None:
            self._interrupts.guard()
            child.settled = self._outcome_of(child)
            self._interrupts.children.pop(child.call.sequence, None)
        return self._replayed(child.settled)

    def _outcome_of(self, child: Child) -> StepOutcome:
        """Return what a child has come to, and record it, or leave the worker until it has ended."""
        record = None if child.is_new else self._read(child.workflow_id)
        if record is not None and record.parent_id != self._journal.record.id:
            return self._failed(child.call, _conflict(child.workflow_id), record.created_at)
        if record is None or not record.status.is_final:
            if self._interrupts.is_cancellation_due:
                self._interrupts.cancel_children()  # it may clean up first, and then it is this run's turn
            self._interrupts.suspend(NEVER, f"workflow:{child.workflow_id}")
        call = child.call._replace(arguments=record.input)
        if record.status is WorkflowStatus.CANCELLED:
            if self._interrupts.is_cancellation_due:
                self._interrupts.cancel(call)
            error = WorkflowFailedError(child.workflow_id, "cancelled", record.error_message or "")
            return self._failed(call, error, record.created_at)
        is_done = record.status is WorkflowStatus.DONE
        step = call.step(
            ActivityStatus.COMPLETED if is_done else ActivityStatus.FAILED,
            record.created_at,
            record.updated_at,
            output=record.output,
            failure=Failure(record.error, record.error_message),
            state=child.state,
        )
        self._journal.keep(step)
        return step.outcome

    def _read(self, workflow_id: str) -> WorkflowRecord | None:
        found: WorkflowRecord | None = self._host.persist(lambda: self._host.database.read_workflow(workflow_id))
        return found

    # --- shared -------------------------------------------------------------------------------------------------------

    def _next(self, kind: str, name: str) -> tuple[int, StepOutcome | None]:
        self._interrupts.guard()
        return self._journal.next(kind, name)

    def _replayed(self, step: StepOutcome) -> Any:
        types = None
        if step.kind == "workflow" and step.name in self._host.registry.workflows:
            types = self._host.registry.workflow_definition(step.name).types
        return self._interrupts.replay(step, types)

    def _failed(self, call: Call, error: Exception, started_at: datetime) -> StepOutcome:
        failure = encode_failure(error, self._host.serializer)
        step = call.step(ActivityStatus.FAILED, started_at, self._host.clock.now(), failure=failure)
        self._journal.keep(step)
        return step.outcome


def _conflict(workflow_id: str) -> WorkflowConflictError:
    return WorkflowConflictError(f"the id {workflow_id!r} of a child workflow belongs to another run", workflow_id)


def child_id_of(workflow_id: str, sequence: int) -> str:
    """Return the id of what a run creates at a place of its code, the same in every replay."""
    found = f"{workflow_id}-{sequence}"
    if len(found) > MAX_WORKFLOW_ID_LENGTH:
        found = f"{hashlib.sha256(workflow_id.encode()).hexdigest()}-{sequence}"
    return found


def _state(step: StepOutcome) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(step.state or "{}")
    return state
