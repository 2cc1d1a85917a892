"""What a program does to a run that it has started: send events, cancel, pause, resume, rewind, restart.

Each checks what it is given and is one atomic step of the store; then the run is told where it runs here. None of these
may be called in a workflow's own code, where a replay would do it again, but for sending events, whose ids make a
second sending the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from ._clock import Clock
from ._context import current_scope, refuse_in_workflow
from ._engine.engine import Engine
from ._engine.replay import is_unsettled, settled
from ._engine.retention import PURGED_AT_ONCE
from ._failures import origin_of_failure
from ._identifiers import check_name, check_text, check_workflow_id
from ._ids import fresh_ids, new_workflow_id
from ._options import check_count
from ._times import limited_seconds_of, utc_of
from .db_manager.base import BaseDatabaseManager
from .errors import WorkflowConflictError, WorkflowNotFoundError, WorkflowStateError
from .models import (
    ActivityStatus,
    ControlRequest,
    EventRecord,
    StepRecord,
    WorkflowRecord,
    WorkflowStatus,
)
from .serialization import Serializer

_COMPLETED = ActivityStatus.COMPLETED.value
_FAILED = ActivityStatus.FAILED.value
_CANCELLED = ActivityStatus.CANCELLED.value
_WAITING = ActivityStatus.WAITING.value


class Control:
    """The requests of one orchestrator."""

    def __init__(self, database: BaseDatabaseManager, engine: Engine, serializer: Serializer, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._serializer = serializer
        self._clock = clock

    def raise_event(self, workflow_id: str, name: str, payload: Any, event_id: str | None) -> None:
        """See ``Orchestrator.raise_event``."""
        check_workflow_id(workflow_id)
        check_name("event", name)
        if event_id is not None:
            check_workflow_id(event_id, "event id")
        text, _ = self._serializer.encode(payload, what=f"payload of event {name!r}")

        def send(ids: Iterator[str]) -> None:
            event = EventRecord(id=event_id or next(ids), name=name, payload=text, sent_at=self._clock.now())
            self._database.add_event(workflow_id, event)
            self._engine.notice_event(workflow_id)

        scope = current_scope()
        if scope is None:
            send(fresh_ids())
        else:  # a step also with an id of its own
            scope.make_effect("send", name, text, send, f"{workflow_id}\n{name}\n{text}")

    def cancel(self, workflow_id: str) -> None:
        """See ``Orchestrator.cancel_workflow``."""
        self._check("cancel_workflow", workflow_id)
        self._database.cancel_workflow(workflow_id)
        self._engine.notice_request(workflow_id, ControlRequest.CANCEL)

    def pause(self, workflow_id: str) -> None:
        """See ``Orchestrator.pause_workflow``."""
        self._check("pause_workflow", workflow_id)
        self._database.pause_workflow(workflow_id)
        self._engine.notice_request(workflow_id, ControlRequest.PAUSE)

    def resume(self, workflow_id: str) -> None:
        """See ``Orchestrator.resume_workflow``."""
        self._check("resume_workflow", workflow_id)
        self._database.resume_workflow(workflow_id)
        self._engine.notice_request(workflow_id, None)

    def rewind(self, workflow_id: str) -> None:
        """See ``Orchestrator.rewind_workflow``."""
        self._check("rewind_workflow", workflow_id)
        self._rewind(self._existing(workflow_id))
        self._engine.wake()

    def restart(self, workflow_id: str, from_step: int, new_id: str | None) -> str:
        """See ``Orchestrator.restart_workflow``."""
        self._check("restart_workflow", workflow_id)
        if not isinstance(from_step, int) or isinstance(from_step, bool):
            raise TypeError(f"from_step is an int, not {type(from_step).__name__}")
        found = new_workflow_id() if new_id is None else check_workflow_id(new_id)
        record = self._existing(workflow_id)
        steps = self._database.get_steps(workflow_id)
        shared = _shared_steps(workflow_id, steps, from_step)
        now = self._clock.now()
        new = WorkflowRecord(
            id=found,
            name=record.name,
            status=WorkflowStatus.PROCESSING,
            input=record.input,
            version=self._engine.version_of(record.name),
            created_at=now,
            updated_at=now,
        )
        existing = self._engine.create(new, steps=shared, events=self._untaken_events(workflow_id, shared))
        if existing is not None:
            raise WorkflowConflictError(
                f"workflow id {found!r} belongs to a run of {existing.name!r} already; choose another id", found
            )
        return found

    def purge(
        self,
        older_than: float | timedelta | datetime,
        name: str | None,
        status: WorkflowStatus | str | None,
        limit: int | None,
    ) -> int:
        """See ``Orchestrator.purge_workflows``. In short transactions, so that nobody has to wait for long."""
        refuse_in_workflow("purge_workflows")
        if isinstance(older_than, datetime):
            before = utc_of(older_than, "purge_workflows()")
        else:
            before = self._clock.now() - timedelta(
                seconds=limited_seconds_of(older_than, "the age for purge_workflows()")
            )
        check_count("limit", limit, 0, or_none=True)
        check_text("the name of purge_workflows()", name)
        wanted = None if status is None else WorkflowStatus(status)
        if wanted is not None and not wanted.is_final:
            raise ValueError(f"purge_workflows() deletes runs that have ended, and none that is {wanted.value!r} has")
        purged = 0
        while limit is None or purged < limit:
            batch = PURGED_AT_ONCE if limit is None else min(PURGED_AT_ONCE, limit - purged)
            count = self._database.purge_workflows(before, name=name, status=wanted, limit=batch)
            purged += count
            if count < batch:
                break
        return purged

    # --- parts ------------------------------------------------------------------------------------------------------

    def _check(self, method: str, workflow_id: str) -> None:
        check_workflow_id(workflow_id)
        refuse_in_workflow(method)

    def _existing(self, workflow_id: str) -> WorkflowRecord:
        record = self._database.read_workflow(workflow_id)
        if record is None:
            raise WorkflowNotFoundError(workflow_id)
        return record

    def _rewind(self, record: WorkflowRecord) -> None:
        if record.status is not WorkflowStatus.FAILED:
            raise WorkflowStateError(
                f"workflow {record.id} ({record.name}) is {record.status.value}: only a failed one can be rewound",
                record.id,
                record.status.value,
            )
        drop, replace = [], []
        origin = origin_of_failure(record.error)
        for step in self._database.get_steps(record.id):
            if self._waits_again(record, step, origin):
                replace.append(step._replace(status=_WAITING, error=None, error_message=None, completed_at=None))
            elif _is_to_run_again(step, origin) or self._was_cancelled(step):
                drop.append(step.sequence)
            elif origin is not None and is_unsettled(step):
                replace.append(settled(step))
        self._database.reopen_workflow(record.id, record.epoch, drop, replace)

    def _waits_again(self, run: WorkflowRecord, step: StepRecord, origin: dict[str, Any] | None) -> bool:
        """Return whether a step goes on waiting for a child workflow that failed; that is rewound then.

        So does one whose child has failed without the code having seen it, because another failure was faster.
        """
        if step.kind != "workflow" or step.state is None or origin is None or step.sequence >= origin["seen_at"]:
            return False
        is_unseen = step.status == _WAITING
        if not is_unseen and (step.status != _FAILED or step.sequence < origin["sequence"]):
            return False
        child = self._database.read_workflow(_child_id(step))
        if child is None or child.status is WorkflowStatus.CANCELLED:
            return False
        if is_unseen and (child.status is not WorkflowStatus.FAILED or child.parent_id != run.id):
            return False
        # One that does not stand as failed was rewound before, by a call that did not get any further.
        if child.status is WorkflowStatus.FAILED:
            self._rewind(child)
        return True

    def _was_cancelled(self, step: StepRecord) -> bool:
        """Return whether a step waits for a child workflow that was cancelled with the run."""
        if step.kind != "workflow" or step.status != _WAITING:
            return False
        child = self._database.read_workflow(_child_id(step))
        return child is not None and child.status is WorkflowStatus.CANCELLED

    def _untaken_events(self, workflow_id: str, shared: Sequence[StepRecord]) -> list[EventRecord]:
        if "waiting" not in self._database.capabilities:
            return []
        taken = {_state(step)["event"] for step in shared if step.kind == "event" and step.status == _COMPLETED}
        return [event for event in self._database.load_events(workflow_id) if event.position not in taken]


def _is_to_run_again(step: StepRecord, origin: dict[str, Any] | None) -> bool:
    """Return whether a step failed with the run, or was made because of that.

    Siblings that were submitted before the failure was seen keep their results; where they failed too, they run again:
    of those before it, the ones that the code did not see.
    """
    if origin is None:
        return False
    if step.sequence < origin["sequence"]:
        return step.sequence in origin.get("unseen", ())
    return step.sequence >= origin["seen_at"] or step.status in (_FAILED, _CANCELLED)


def _shared_steps(workflow_id: str, steps: Sequence[StepRecord], from_step: int) -> list[StepRecord]:
    """Return the steps below ``from_step``, with those that 1.0.2 recorded.

    Raises:
        ValueError: There is no such step, or one below it has not ended.
    """
    end = max((step.sequence for step in steps), default=-1) + 1
    if not 0 <= from_step <= max(end, 0):
        raise ValueError(
            f"workflow {workflow_id} has {max(end, 0)} steps: from_step is 0 to {max(end, 0)}, not {from_step}"
        )
    shared = [step for step in steps if from_step > 0 and step.sequence < from_step]
    for step in shared:
        # A timer or an event that the code went past is waited for in the new run too: it may have lost a race.
        goes_on = step.status == _WAITING and step.kind in ("timer", "event") and step.sequence < end - 1
        if step.sequence >= 0 and step.status not in (_COMPLETED, _FAILED) and not goes_on:
            raise ValueError(
                f"step {step.sequence} ({step.name}) of workflow {workflow_id} is {step.status}: only steps that have "
                f"ended can be shared; choose a from_step up to {step.sequence}"
            )
    return [settled(step) if is_unsettled(step) else step for step in shared]


def _child_id(step: StepRecord) -> str:
    return str(_state(step).get("workflow_id", ""))


def _state(step: StepRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(step.state or "{}")
    return found
