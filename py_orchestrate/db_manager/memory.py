"""The reference backend: one lock, dicts, nothing on disk. For tests, and to read when you write a backend of your own.

Several orchestrators of one process may share a manager; with the process its workflows are gone. Records are immutable
and payloads stay the text that they came as, so nothing that a caller holds can change what is stored. What is decided
about a run is decided here, under the lock; ``_memory_runs.py`` keeps the runs where they can be found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar

from .._forks import hold_for_forks
from ..errors import ClaimLostError, StorageError
from ..models import (
    ActivityStatus,
    ControlRequest,
    EventRecord,
    Outlook,
    QueueRecord,
    ScheduleRecord,
    StepOutcome,
    StepRecord,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)
from . import _documents as documents
from ._claims import Claimer
from ._crashes import recovery_time
from ._memory_runs import Run, Runs
from ._records import RecordDatabaseManager, queue_records, refusal, refuse_unfinished

if TYPE_CHECKING:
    from .._instances import ActivityExecution, WorkflowInstance
    from ..queues import Queue

__all__ = ["MemoryDatabaseManager"]

_FORK_WAIT_SECONDS = 5


class MemoryDatabaseManager(RecordDatabaseManager):
    """Workflow persistence in this process's memory."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"leases", "waiting", "queues", "schedules"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_held_for_fork = False
        self._runs = Runs()
        self._schedules: dict[str, ScheduleRecord] = {}
        hold_for_forks(self)

    def before_fork(self) -> None:
        """Let no change be under way while the process is copied."""
        self._is_held_for_fork = self._lock.acquire(timeout=_FORK_WAIT_SECONDS)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Replace the lock, whose holder may be gone. The child goes on with a copy of its own."""
        self._is_held_for_fork = False
        self._lock = threading.Lock()

    # --- ownership ------------------------------------------------------------------------------------------------

    def register_owner(self, owner: str, *, queues: Sequence[str] = ()) -> None:
        """See the base class."""
        with self._lock:
            self._runs.register_owner(owner, queues)

    def release_owner(self, owner: str) -> None:
        """See the base class."""
        with self._lock:
            self._runs.release_owner(owner)

    def beat_owner(self, owner: str) -> dict[str, int]:
        """See the base class."""
        with self._lock:
            if owner in self._runs.beats:
                self._runs.beats[owner] += 1
            return dict(self._runs.beats)

    def expire_owner(self, owner: str, beats: int, *, now: datetime | None = None) -> bool:
        """See the base class."""
        moment = datetime.now(UTC) if now is None else now
        with self._lock:
            if self._runs.beats.get(owner) != beats:
                return False
            for run in self._runs.held_by(owner):
                crashes = run.record.crashes + 1
                self._runs.change(run, owner=None, crashes=crashes, wake_at=recovery_time(crashes, moment))
            self._runs.release_owner(owner)
            return True

    # --- one run --------------------------------------------------------------------------------------------------

    def create_workflow(
        self, record: WorkflowRecord, *, steps: Sequence[StepRecord] = (), events: Sequence[EventRecord] = ()
    ) -> WorkflowRecord | None:
        """See the base class."""
        with self._lock:
            existing = self._runs.insert(record, steps, events)
            return None if existing is None else existing.record

    def claim_workflows(
        self,
        owner: str,
        names: Iterable[str],
        limit: int,
        *,
        now: datetime | None = None,
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class."""
        claimer = Claimer.of(owner, names, queues)
        moment = datetime.now(UTC) if now is None else now
        with self._lock:
            return self._runs.claim(claimer, limit, moment)

    def look(self, owner: str = "", *, now: datetime | None = None, queues: Sequence[Queue] = ()) -> Outlook:
        """See the base class."""
        claimer = Claimer.of(owner, (), queues)
        moment = datetime.now(UTC) if now is None else now
        with self._lock:
            self._runs.expire(moment)
            names, times = self._runs.ready_names(claimer, moment)
            times += self._runs.next_limits()
            if (wake_at := self._runs.next_wake()) is not None:
                times.append(wake_at)
            consumed = {queue for queues in self._runs.consumed.values() for queue in queues}
            ready = self._runs.ready_by_queue().keys() - {""}
            ticks = [record.due_at for record in self._schedules.values() if record.due_at is not None]
        return Outlook(
            frozenset(names), min(times, default=None), frozenset(ready - consumed), min(ticks, default=None)
        )

    def list_queues(self) -> list[QueueRecord]:
        """See the base class."""
        with self._lock:
            ready, held = self._runs.ready_by_queue(), self._runs.held_by_queue()
            counts = {name: (ready.get(name, 0), held.get(name, 0)) for name in {*ready, *held} - {""}}
            return queue_records(counts, self._runs.consumed.values())

    # --- schedules ------------------------------------------------------------------------------------------------

    def store_schedule(self, record: ScheduleRecord, *, runs: Sequence[WorkflowRecord] = ()) -> bool:
        """See the base class."""
        with self._lock:
            stored = self._schedules.get(record.id)
            if record.revision - 1 != (0 if stored is None else stored.revision):
                return False
            self._schedules[record.id] = record
            self._runs.insert_new(runs)
            return True

    def read_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """See the base class."""
        return self._schedules.get(schedule_id)

    def list_schedules(self, *, due_at: datetime | None = None) -> list[ScheduleRecord]:
        """See the base class."""
        with self._lock:
            records = sorted(self._schedules.values(), key=attrgetter("id"))
        if due_at is None:
            return records
        return [record for record in records if record.due_at is not None and record.due_at <= due_at]

    def delete_schedule(self, schedule_id: str) -> bool:
        """See the base class."""
        with self._lock:
            return self._schedules.pop(schedule_id, None) is not None

    def release_workflow(self, workflow_id: str, epoch: int) -> None:
        """See the base class."""
        with self._lock:
            run = self._runs.find(workflow_id)
            if run is not None and run.record.epoch == epoch:
                self._runs.change(run, owner=None)

    def load_outcomes(self, workflow_id: str) -> list[StepOutcome]:
        """See the base class."""
        return [step.outcome for step in self.get_steps(workflow_id)]

    def record_steps(
        self,
        workflow_id: str,
        epoch: int,
        steps: Sequence[StepRecord],
        *,
        current_activity: str | None = None,
        children: Sequence[WorkflowRecord] = (),
        custom_status: str | None = None,
    ) -> ControlRequest | None:
        """See the base class."""
        with self._lock:
            run = self._claimed(workflow_id, epoch)
            run.store(steps)
            if run.record.crashes and any(step.status != ActivityStatus.RUNNING for step in steps):
                self._runs.change(run, crashes=0)
            self._runs.insert_new(children)
            if current_activity is not None:
                self._runs.change(run, current_activity=current_activity, updated_at=datetime.now(UTC))
            if custom_status is not None:
                self._runs.change(run, custom_status=custom_status)
            return run.record.request

    def finish_workflow(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        """See the base class."""
        with self._lock:
            self._finish(workflow_id, epoch, end)

    def finish_and_claim(
        self,
        workflow_id: str,
        epoch: int,
        end: WorkflowEnd,
        *,
        owner: str,
        names: Iterable[str],
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class."""
        claimer = Claimer.of(owner, names, queues)
        with self._lock:
            self._finish(workflow_id, epoch, end)
            return self._runs.claim(claimer, 1, end.finished_at)

    # --- waiting --------------------------------------------------------------------------------------------------

    def suspend_workflow(self, workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> None:
        """See the base class."""
        with self._lock:
            self._suspend(workflow_id, epoch, suspension)

    def suspend_and_claim(
        self,
        workflow_id: str,
        epoch: int,
        suspension: WorkflowSuspension,
        *,
        owner: str,
        names: Iterable[str],
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class."""
        claimer = Claimer.of(owner, names, queues)
        with self._lock:
            self._suspend(workflow_id, epoch, suspension)
            return self._runs.claim(claimer, 1, suspension.suspended_at)

    def continue_workflow(self, workflow_id: str, epoch: int, continuation: WorkflowContinuation) -> None:
        """See the base class."""
        with self._lock:
            run = self._claimed(workflow_id, epoch)
            run.drop(list(run.steps))
            run.forget_events(continuation.taken)
            self._runs.insert_new(continuation.children)
            is_pausing = run.record.request is ControlRequest.PAUSE
            self._runs.change(
                run,
                status=WorkflowStatus.PAUSED if is_pausing else WorkflowStatus.PROCESSING,
                owner=None,
                input=continuation.input,
                version=continuation.version,
                generation=run.record.generation + 1,
                crashes=0,
                request=None if is_pausing else run.record.request,
                custom_status=continuation.custom_status or run.record.custom_status,
                updated_at=continuation.continued_at,
            )

    def add_event(self, workflow_id: str, event: EventRecord) -> None:
        """See the base class."""
        with self._lock:
            run = self._runs.find(workflow_id)
            if run is not None and event.id in run.event_ids:
                return
            run = self._unended(workflow_id, f"an event {event.name!r} cannot reach it")
            run.receive(event)
            self._runs.signal(run, f"event:{event.name}")

    def load_events(
        self, workflow_id: str, *, name: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventRecord]:
        """See the base class."""
        with self._lock:
            run = self._runs.find(workflow_id)
            return [] if run is None else list(islice(run.events_after(after, name), limit))

    # --- control --------------------------------------------------------------------------------------------------

    def cancel_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        with self._lock:
            run = self._unended(workflow_id, "it cannot be cancelled")
            self._runs.cancel(run, deadline=None)

    def pause_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        with self._lock:
            run = self._unended(workflow_id, "it cannot be paused")
            if run.record.request is ControlRequest.CANCEL:
                raise refusal(workflow_id, run.record, "it cannot be paused")
            if run.record.owner is None:
                self._runs.change(run, status=WorkflowStatus.PAUSED, request=None)
            else:
                self._runs.change(run, request=ControlRequest.PAUSE)

    def resume_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        with self._lock:
            run = self._unended(workflow_id, "it cannot be resumed")
            request = None if run.record.request is ControlRequest.PAUSE else run.record.request
            self._runs.change(run, status=WorkflowStatus.PROCESSING, request=request)

    def reopen_workflow(
        self, workflow_id: str, epoch: int, drop: Iterable[int], replace: Sequence[StepRecord] = ()
    ) -> None:
        """See the base class."""
        dropped = list(drop)
        with self._lock:
            run = self._runs.find(workflow_id)
            if run is None or run.record.status is not WorkflowStatus.FAILED or run.record.epoch != epoch:
                record = None if run is None else run.record
                raise refusal(workflow_id, record, "only one that stands as failed can be rewound")
            run.drop(dropped)
            run.store(replace)
            self._runs.change(
                run,
                status=WorkflowStatus.PROCESSING,
                output=None,
                error=None,
                error_message=None,
                current_activity=None,
                deadline=None,
                request=None,
                wake_at=None,
                waiting_for=None,
                crashes=0,
                deduplication_key=None,
            )

    def pending_requests(self, owner: str) -> dict[str, ControlRequest]:
        """See the base class."""
        with self._lock:
            records = [run.record for run in self._runs.held_by(owner)]
        return {record.id: record.request for record in records if record.request is not None}

    # --- reading --------------------------------------------------------------------------------------------------

    def read_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """See the base class."""
        run = self._runs.find(workflow_id)
        return None if run is None else run.record

    def get_steps(self, workflow_id: str) -> list[StepRecord]:
        """See the base class."""
        with self._lock:
            run = self._runs.find(workflow_id)
            return [] if run is None else run.by_sequence()

    def page_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        version: str | None = None,
        queue: str | None = None,
    ) -> list[WorkflowRecord]:
        """See the base class."""
        with self._lock:
            if cursor is not None and self._runs.find(cursor) is None:
                raise LookupError(f"no workflow has the cursor's id {cursor!r}")
            records = self._runs.newest_first()
            if cursor is not None:
                for record in records:
                    if record.id == cursor:
                        break
            chosen = (
                record
                for record in records
                if (name is None or record.name == name)
                and (status is None or record.status is status)
                and (version is None or record.version == version)
                and (queue is None or record.queue == queue)
            )
            return list(islice(chosen, limit))

    def delete_workflow(self, workflow_id: str) -> bool:
        """See the base class."""
        with self._lock:
            run = self._runs.find(workflow_id)
            if run is None:
                return False
            refuse_unfinished(run.record)
            self._runs.delete(run)
            return True

    def purge_workflows(
        self,
        ended_before: datetime,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int = 100,
    ) -> int:
        """See the base class."""
        with self._lock:
            ended = [
                record
                for record in self._runs.newest_first()
                if record.status.is_final
                and record.updated_at < ended_before
                and (name is None or record.name == name)
                and (status is None or record.status is status)
                and ((parent := self._runs.find(record.parent_id)) is None or parent.record.status.is_final)
            ]
            oldest = sorted(ended, key=lambda record: record.updated_at)[: max(0, limit)]
            for record in oldest:
                if (run := self._runs.find(record.id)) is not None:
                    self._runs.delete(run)
            return len(oldest)

    # --- 1.0.2's seven methods ------------------------------------------------------------------------------------

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        """See the base class. What 1.0.2 does not know of the run stays, but for the claim on one that does not run."""
        record = documents.record_from_instance(workflow)
        with self._lock:
            run = self._runs.insert(record)
            if run is not None:
                is_revived = run.record.status.is_final and not record.status.is_final
                self._runs.change(
                    run,
                    deduplication_key=None if is_revived else run.record.deduplication_key,
                    name=record.name,
                    status=record.status,
                    input=record.input,
                    output=record.output,
                    error_message=record.error_message,
                    current_activity=record.current_activity,
                    owner=run.record.owner if record.status is WorkflowStatus.PROCESSING else None,
                    created_at=record.created_at,
                    updated_at=record.updated_at,
                )

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """See the base class."""
        (step,) = documents.steps_from_executions(execution.workflow_id, [execution])
        with self._lock:
            run = self._runs.find(execution.workflow_id)
            if run is None:
                raise StorageError(
                    f"no workflow has the id {execution.workflow_id!r} of the execution {execution.id!r}"
                )
            if step.sequence < 0:  # an id of the caller's own
                step = step._replace(sequence=run.place_of(execution.id, step))
                run.own_ids[step.sequence] = execution.id
            run.steps[step.sequence] = step

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """See the base class. Steps of the other kinds are not 1.0.2's, whose readers know nothing else."""
        executions = []
        with self._lock:
            run = self._runs.find(workflow_id)
            steps = [] if run is None else sorted(run.by_sequence(), key=lambda step: step.started_at)
            for step in steps:
                if step.kind == "activity":
                    execution = documents.execution_from_step(workflow_id, step)
                    execution.id = run.own_ids.get(step.sequence, execution.id) if run is not None else execution.id
                    executions.append(execution)
        return executions

    # --- with the lock held ---------------------------------------------------------------------------------------

    def _claimed(self, workflow_id: str, epoch: int) -> Run:
        run = self._runs.find(workflow_id)
        if (
            run is None
            or run.record.status is not WorkflowStatus.PROCESSING
            or run.record.owner is None
            or run.record.epoch != epoch
        ):
            raise ClaimLostError(workflow_id, epoch)
        return run

    def _unended(self, workflow_id: str, otherwise: str) -> Run:
        """Return the run, or raise, saying what cannot be done, if there is none or it has ended."""
        run = self._runs.find(workflow_id)
        if run is None or run.record.status.is_final:
            raise refusal(workflow_id, None if run is None else run.record, otherwise)
        return run

    def _finish(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        run = self._claimed(workflow_id, epoch)
        run.store(end.steps)
        self._runs.insert_new(end.children)
        self._runs.change(
            run,
            status=end.status,
            output=end.output,
            error=end.error,
            error_message=end.error_message,
            current_activity=end.current_activity,
            owner=None,
            wake_at=None,
            waiting_for=None,
            request=None,
            custom_status=end.custom_status or run.record.custom_status,
            updated_at=end.finished_at,
        )
        parent = self._runs.find(run.record.parent_id)
        if parent is not None:
            self._runs.signal(parent, f"workflow:{workflow_id}")

    def _suspend(self, workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> None:
        run = self._claimed(workflow_id, epoch)
        run.store(suspension.steps)
        self._runs.insert_new(suspension.children)
        is_ready = run.record.signals != suspension.signals
        is_pausing = run.record.request is ControlRequest.PAUSE
        self._runs.change(
            run,
            status=WorkflowStatus.PAUSED if is_pausing else WorkflowStatus.PROCESSING,
            owner=None,
            crashes=0,
            wake_at=None if is_ready else suspension.wake_at,
            waiting_for=None if is_ready else suspension.waiting_for,
            request=None if is_pausing else run.record.request,
            custom_status=suspension.custom_status or run.record.custom_status,
            updated_at=suspension.suspended_at,
        )
