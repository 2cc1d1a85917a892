"""The reference backend: one lock, dicts, nothing on disk. For tests, and to read when you write a backend of your own.

Several orchestrators of one process may share a manager; with the process its workflows are gone. Records are immutable
and payloads stay the text that they came as, so nothing that a caller holds can change what is stored.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import ClassVar

from .._forks import watch_forks
from ..errors import ClaimLostError, StorageError
from ..models import (
    ActivityExecution,
    ActivityStatus,
    StepOutcome,
    StepRecord,
    WorkflowEnd,
    WorkflowInstance,
    WorkflowRecord,
    WorkflowStatus,
)
from . import _documents as documents
from ._records import RecordDatabaseManager, refuse_unfinished

__all__ = ["MemoryDatabaseManager"]


class _Run:
    """A workflow and its history."""

    __slots__ = ("own_ids", "record", "steps")

    def __init__(self, record: WorkflowRecord) -> None:
        self.record = record
        self.steps: dict[int, StepRecord] = {}
        self.own_ids: dict[int, str] = {}
        """The ids of executions that their caller named, by ordinal."""

    def store(self, steps: Iterable[StepRecord]) -> None:
        """Store steps, all or none; a completed one is never replaced."""
        accepted: dict[int, StepRecord] = {}
        for step in steps:
            known = accepted.get(step.sequence) or self.steps.get(step.sequence)
            if known is None or known.status != ActivityStatus.COMPLETED.value:
                accepted[step.sequence] = step
        self.steps.update(accepted)

    def by_sequence(self) -> list[StepRecord]:
        return [self.steps[sequence] for sequence in sorted(self.steps)]

    def place_of(self, execution_id: str, step: StepRecord) -> int:
        """Return the negative ordinal for an execution that its caller named: where it was, else by its time."""
        for sequence, own_id in self.own_ids.items():
            if own_id == execution_id:
                return sequence
        own = [step for step in self.by_sequence() if step.sequence < 0]
        place = min((other.sequence for other in own if other.started_at > step.started_at), default=0) - 1
        for other in own:
            if other.sequence <= place:
                moved = other.sequence - 1
                self.steps[moved] = self.steps.pop(other.sequence)._replace(sequence=moved)
                self.own_ids[moved] = self.own_ids.pop(
                    other.sequence, documents.step_id(self.record.id, other.sequence)
                )
        return place


class MemoryDatabaseManager(RecordDatabaseManager):
    """Workflow persistence in this process's memory."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"leases"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: set[str] = set()
        self._runs: dict[str, _Run] = {}
        """Every run, in the order of arrival."""
        self._processing: OrderedDict[str, _Run] = OrderedDict()
        """Those that are ``processing``, in the same order, so that a claim does not search the finished ones."""
        watch_forks(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, whose holder may be gone. The child goes on with a copy of its own."""
        self._lock = threading.Lock()

    # --- ownership ------------------------------------------------------------------------------------------------

    def register_owner(self, owner: str) -> None:
        """See the base class."""
        with self._lock:
            self._owners.add(owner)

    def release_owner(self, owner: str) -> None:
        """See the base class."""
        with self._lock:
            self._owners.discard(owner)
            for run in self._processing.values():
                if run.record.owner == owner:
                    run.record = replace(run.record, owner=None)

    # --- one run --------------------------------------------------------------------------------------------------

    def create_workflow(self, record: WorkflowRecord) -> WorkflowRecord | None:
        """See the base class."""
        with self._lock:
            existing = self._runs.get(record.id)
            if existing is not None:
                return existing.record
            if record.owner is not None and record.owner not in self._owners:
                record = replace(record, owner=None)
            self._insert(record)
            return None

    def claim_workflows(self, owner: str, names: Iterable[str], limit: int) -> list[WorkflowRecord]:
        """See the base class."""
        wanted = frozenset(names)
        with self._lock:
            return self._claim(owner, wanted, limit)

    def pending_names(self) -> set[str]:
        """See the base class."""
        with self._lock:
            return {run.record.name for run in self._processing.values() if run.record.owner is None}

    def release_workflow(self, workflow_id: str, epoch: int) -> None:
        """See the base class."""
        with self._lock:
            run = self._processing.get(workflow_id)
            if run is not None and run.record.epoch == epoch:
                run.record = replace(run.record, owner=None)

    def load_outcomes(self, workflow_id: str) -> list[StepOutcome]:
        """See the base class."""
        return [step.outcome for step in self.get_steps(workflow_id)]

    def record_steps(
        self, workflow_id: str, epoch: int, steps: Sequence[StepRecord], *, current_activity: str | None = None
    ) -> None:
        """See the base class."""
        with self._lock:
            run = self._claimed(workflow_id, epoch)
            run.store(steps)
            if current_activity is not None:
                run.record = replace(run.record, current_activity=current_activity, updated_at=datetime.now(UTC))

    def finish_workflow(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        """See the base class."""
        with self._lock:
            self._finish(workflow_id, epoch, end)

    def finish_and_claim(
        self, workflow_id: str, epoch: int, end: WorkflowEnd, *, owner: str, names: Iterable[str]
    ) -> list[WorkflowRecord]:
        """See the base class."""
        wanted = frozenset(names)
        with self._lock:
            self._finish(workflow_id, epoch, end)
            return self._claim(owner, wanted, 1)

    # --- reading --------------------------------------------------------------------------------------------------

    def read_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """See the base class."""
        run = self._runs.get(workflow_id)
        return None if run is None else run.record

    def get_steps(self, workflow_id: str) -> list[StepRecord]:
        """See the base class."""
        with self._lock:
            run = self._runs.get(workflow_id)
            return [] if run is None else run.by_sequence()

    def page_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> list[WorkflowRecord]:
        """See the base class."""
        with self._lock:
            if cursor is not None and cursor not in self._runs:
                raise LookupError(f"no workflow has the cursor's id {cursor!r}")
            records = (run.record for run in reversed(self._runs.values()))
            if cursor is not None:
                for record in records:
                    if record.id == cursor:
                        break
            chosen = (
                record
                for record in records
                if (name is None or record.name == name) and (status is None or record.status is status)
            )
            return list(islice(chosen, limit))

    def delete_workflow(self, workflow_id: str) -> bool:
        """See the base class."""
        with self._lock:
            run = self._runs.get(workflow_id)
            if run is None:
                return False
            refuse_unfinished(run.record)
            del self._runs[workflow_id]
            return True

    # --- 1.0.2's seven methods ------------------------------------------------------------------------------------

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        """See the base class."""
        record = documents.record_from_instance(workflow)
        with self._lock:
            run = self._runs.get(record.id)
            if run is None:
                self._insert(record)
            else:
                known = run.record
                self._update(run, replace(record, owner=known.owner, epoch=known.epoch, error=known.error))

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """See the base class."""
        (step,) = documents.steps_from_executions(execution.workflow_id, [execution])
        with self._lock:
            run = self._runs.get(execution.workflow_id)
            if run is None:
                raise StorageError(
                    f"no workflow has the id {execution.workflow_id!r} of the execution {execution.id!r}"
                )
            if step.sequence < 0:  # an id of the caller's own
                step = step._replace(sequence=run.place_of(execution.id, step))
                run.own_ids[step.sequence] = execution.id
            run.steps[step.sequence] = step

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """See the base class."""
        executions = []
        with self._lock:
            run = self._runs.get(workflow_id)
            steps = [] if run is None else sorted(run.by_sequence(), key=lambda step: step.started_at)
            for step in steps:
                execution = documents.execution_from_step(workflow_id, step)
                execution.id = run.own_ids.get(step.sequence, execution.id) if run is not None else execution.id
                executions.append(execution)
        return executions

    # --- with the lock held ---------------------------------------------------------------------------------------

    def _insert(self, record: WorkflowRecord) -> None:
        run = self._runs[record.id] = _Run(record)
        if record.status is WorkflowStatus.PROCESSING:
            self._processing[record.id] = run

    def _update(self, run: _Run, record: WorkflowRecord) -> None:
        run.record = record
        if record.status is not WorkflowStatus.PROCESSING:
            self._processing.pop(record.id, None)
        elif record.id not in self._processing:  # it returns to its place in the order of arrival
            processing = [run for run in self._runs.values() if run.record.status is WorkflowStatus.PROCESSING]
            self._processing = OrderedDict((run.record.id, run) for run in processing)

    def _claim(self, owner: str, names: frozenset[str], limit: int) -> list[WorkflowRecord]:
        if owner not in self._owners:
            return []
        claimed = []
        free = (run for run in self._processing.values() if run.record.owner is None and run.record.name in names)
        for run in islice(free, max(limit, 0)):
            run.record = replace(run.record, owner=owner, epoch=run.record.epoch + 1)
            claimed.append(run.record)
        return claimed

    def _claimed(self, workflow_id: str, epoch: int) -> _Run:
        run = self._processing.get(workflow_id)
        if run is None or run.record.owner is None or run.record.epoch != epoch:
            raise ClaimLostError(workflow_id, epoch)
        return run

    def _finish(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        run = self._claimed(workflow_id, epoch)
        ended = replace(
            run.record,
            status=end.status,
            output=end.output,
            error=end.error,
            error_message=end.error_message,
            current_activity=end.current_activity,
            owner=None,
            updated_at=end.finished_at,
        )
        run.store(end.steps)
        self._update(run, ended)
