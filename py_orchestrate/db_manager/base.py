"""The storage interface: what a database manager promises, in words.

The seven abstract methods are 1.0.2's, so a manager written against it still loads. The rest are concrete: each is one
atomic step named by what the engine intends, and each has a default that is correct over the seven methods for a store
used by one process, so that such a manager runs unchanged. There is no transaction object, because a store such as
Cosmos DB is atomic only inside one partition; whatever must hold together goes into one call.

A manager with ``"leases"`` in its ``capabilities`` overrides all intent-level methods, and several orchestrators, in
several processes, may then share its store. One with ``"waiting"`` can keep runs that wait without a worker: for a
time, an event or a child workflow; and its users may cancel, pause, resume and rewind runs. One with ``"queues"`` keeps
to the limits of queues, and one with ``"schedules"`` keeps schedules. The defaults cannot, for 1.0.2's records have no
room for what a run waits for.

The waiting rule. A run may be claimed when it is ``processing``, has no owner, and its ``wake_at`` is none or has
passed; a claim clears ``wake_at`` and ``waiting_for``. A signal (an event, the end of a child, a request) adds one to
the run's ``signals`` in the same atomic step, and makes the run ready if it was waiting for it, or for any. A run that
is about to wait says how many signals it knew of, and if there have been more it is ready at once. So no signal falls
between looking for it and waiting for it.

The fencing rule. ``claim_workflows`` and ``create_workflow`` with an owner raise a run's ``epoch``. Every later write
of that run's history names the epoch it was claimed with; a manager refuses it, writing nothing, with
``ClaimLostError`` when the run's epoch is another one or the run is no longer ``processing``.
"""

from __future__ import annotations

import json
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from .._forks import watch_forks
from ..errors import ClaimLostError, UnsupportedOperationError
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
from ._documents import (
    activities_from_documents,
    activity_from_document,
    activity_to_document,
    workflow_from_document,
    workflow_to_document,
    workflows_from_documents,
)

if TYPE_CHECKING:
    from .._instances import ActivityExecution, WorkflowInstance
    from ..queues import Queue

__all__ = [
    "BaseDatabaseManager",
    "activities_from_documents",
    "activity_from_document",
    "activity_to_document",
    "workflow_from_document",
    "workflow_to_document",
    "workflows_from_documents",
]


_logger = logging.getLogger(__name__)


class _SingleProcess:
    """What the default methods remember, for one process: who holds which run, under which epoch.

    Epochs come from one counter, so that what a finished run leaves behind can be forgotten and still no epoch of a run
    comes back.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.registered: set[str] = set()
        self.owners: dict[str, str] = {}
        self.epochs: dict[str, int] = {}
        self.last_epoch = 0
        self.completed: dict[str, set[int]] = {}
        watch_forks(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, whose holder may be gone; the runs stay the parent's."""
        self.lock = threading.RLock()

    def claim(self, workflow_id: str, owner: str, epoch: int) -> None:
        """Let the owner hold the run."""
        self.owners[workflow_id] = owner
        self.epochs[workflow_id] = epoch
        self.last_epoch = max(self.last_epoch, epoch)

    def free(self, workflow_id: str) -> None:
        """Let nobody hold the run."""
        self.owners.pop(workflow_id, None)
        self.completed.pop(workflow_id, None)


class BaseDatabaseManager(ABC):
    """Abstract database manager for workflow persistence."""

    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What the store can do beyond 1.0.2's: ``"leases"`` (several orchestrators may share it), ``"waiting"`` (timers,
    events, child workflows, and the control of runs), ``"transactions"`` (activities that write to the same store),
    ``"queues"`` (queues with limits, priorities, deduplication keys), ``"schedules"``. An engine hands an argument
    ``queues`` only to managers with that capability."""

    # --- 1.0.2's seven methods ------------------------------------------------------------------------------------

    @abstractmethod
    def save_workflow(self, workflow: WorkflowInstance) -> None:
        """Insert the workflow, or replace the one with its id."""

    @abstractmethod
    def get_workflow(self, workflow_id: str) -> WorkflowInstance | None:
        """Return the workflow, or ``None`` if there is none; never ``None`` for "could not ask"."""

    @abstractmethod
    def get_workflows_by_name(self, name: str) -> list[WorkflowInstance]:
        """Return all workflows of one name, newest first."""

    @abstractmethod
    def list_workflows(self) -> list[WorkflowInstance]:
        """Return all workflows, newest first."""

    @abstractmethod
    def get_processing_workflows(self) -> list[WorkflowInstance]:
        """Return the workflows that are still ``processing``, oldest first."""

    @abstractmethod
    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """Insert the execution, or replace the one with its id."""

    @abstractmethod
    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """Return a workflow's executions, oldest first."""

    # --- ownership ------------------------------------------------------------------------------------------------

    def register_owner(self, owner: str, *, queues: Sequence[str] = ()) -> None:
        """Announce an orchestrator, before its first claim. ``owner`` is fresh at every start and never used again.

        An owner that is not registered, or no longer, holds nothing: a run that it claims late goes to the next one.

        Args:
            owner: The orchestrator.
            queues: The names of the queues that it consumes.
        """
        del queues
        state = self._single_process()
        with state.lock:
            state.registered.add(owner)

    def release_owner(self, owner: str) -> None:
        """Give up every claim of the owner and forget it; its runs can be claimed at once. Unknown owners are fine."""
        state = self._single_process()
        with state.lock:
            state.registered.discard(owner)
            for workflow_id in [key for key, value in state.owners.items() if value == owner]:
                state.free(workflow_id)

    def beat_owner(self, owner: str) -> dict[str, int]:
        """Give a sign of life of an orchestrator, and return how often each registered one has given one.

        Whether one is silent is for its observers to say, each by its own monotonic clock: the clocks of machines
        differ, and are set. An orchestrator that is not among them has been silent itself for longer than its lease:
        its claims are gone.
        """
        state = self._single_process()
        with state.lock:
            return dict.fromkeys(state.registered, 0)

    def expire_owner(self, owner: str, beats: int, *, now: datetime | None = None) -> bool:
        """Do what ``release_owner`` does, unless the owner has given a sign of life: one conditional write.

        Its runs count one crash more. One that has crashed several times in a row goes on after a while only.

        Args:
            owner: Whose lease has ended.
            beats: How often it had given a sign of life when it was last looked at.
            now: From when that while counts; the machine's time by default.

        Returns:
            Whether it was released by this call.
        """
        del owner, beats, now
        return False

    # --- one run --------------------------------------------------------------------------------------------------

    def create_workflow(
        self, record: WorkflowRecord, *, steps: Sequence[StepRecord] = (), events: Sequence[EventRecord] = ()
    ) -> WorkflowRecord | None:
        """Store a new run if its id is free.

        With ``record.owner`` set, the run is born claimed by that owner, under ``record.epoch``.

        Args:
            record: The run.
            steps: A history that it begins with.
            events: Events that it begins with, with their positions.

        Returns:
            ``None`` if the run was stored, else the run that has the id already, or the run of the same queue that has
            its deduplication key and has not ended. Of several callers at once, exactly one gets ``None``. The run is
            durable when this returns.
        """
        if steps or events:
            raise self._cannot("begin a run with a history")
        state = self._single_process()
        with state.lock:
            existing = self.get_workflow(record.id)
            if existing is not None:
                return self._with_claim(documents.record_from_instance(existing))
            self.save_workflow(documents.instance_from_record(record))
            if record.owner is not None and record.owner in state.registered:
                state.claim(record.id, record.owner, record.epoch)
                state.completed[record.id] = set()
            return None

    def claim_workflows(
        self,
        owner: str,
        names: Iterable[str],
        limit: int,
        *,
        now: datetime | None = None,
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """Claim up to ``limit`` runs that nobody holds and that are ready, whose name is in ``names``.

        A run is free when it is ``processing`` and its owner is none, or is known to be dead. Each claim is one
        conditional write that raises the run's epoch: of several claimers, one wins. A run that cannot be read is
        passed over, never a reason to fail.

        With queues, which runs go first is what ``_claims.py`` says; without, the oldest.

        Args:
            owner: The claimer, which is registered.
            names: What it can run.
            limit: How many it can run now.
            now: The time against which ``wake_at`` is held; the machine's by default.
            queues: The queues that it consumes. Their limits hold however many claim at once; runs of others are left.

        Returns:
            The claimed runs, with their new epoch. Empty when there is nothing to do.
        """
        wanted = set(names)
        claimed: list[WorkflowRecord] = []
        state = self._single_process()
        with state.lock:
            for instance in self.get_processing_workflows() if limit > 0 and owner in state.registered else ():
                if len(claimed) >= limit:
                    break
                if instance.name in wanted and instance.id not in state.owners:
                    try:
                        record = documents.record_from_instance(instance)
                    except (AttributeError, TypeError, ValueError) as error:
                        _logger.warning("workflow %s cannot be read and is passed over: %s", instance.id, error)
                        continue
                    state.claim(record.id, owner, state.last_epoch + 1)
                    claimed.append(self._with_claim(record))
        return claimed

    def look(self, owner: str = "", *, now: datetime | None = None, queues: Sequence[Queue] = ()) -> Outlook:
        """Return what there is to claim, and free the runs of orchestrators that are known to be dead.

        Where the ``deadline`` of a run has passed that nobody holds, and that is ready or paused, its cancellation is
        requested: nobody may be there to take it up and notice. Its ``deadline`` stays, and tells why.

        This is what an idle orchestrator does in each turn: one cheap query.

        Args:
            owner: Who looks.
            now: The time against which deadlines and the rates of queues are held, and when the dead were found, for
                their runs' delays; the machine's time by default.
            queues: The queues that it consumes.
        """
        del owner, now, queues
        state = self._single_process()
        with state.lock:
            names = {run.name for run in self.get_processing_workflows() if run.id not in state.owners}
        return Outlook(frozenset(names), None)

    def list_queues(self) -> list[QueueRecord]:
        """Return every queue that has runs that are ready or held, or that an orchestrator consumes, by name."""
        raise self._cannot("keep queues", "queues")

    # --- schedules ("schedules" in capabilities) --------------------------------------------------------------------

    def store_schedule(self, record: ScheduleRecord, *, runs: Sequence[WorkflowRecord] = ()) -> bool:
        """Store a schedule, and the runs that it starts, if the revision before is what is stored: one atomic step.

        Args:
            record: The schedule. With revision 1 it is stored if its id is free, else in place of the one with the
                revision before.
            runs: Runs to create with it. One whose id is taken is passed over.

        Returns:
            Whether it was stored; of several callers at once, one gets ``True``, and only its runs are created.
        """
        raise self._cannot("keep schedules", "schedules")

    def read_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """Return the schedule, or ``None`` if there is none."""
        raise self._cannot("keep schedules", "schedules")

    def list_schedules(self, *, due_at: datetime | None = None) -> list[ScheduleRecord]:
        """Return the schedules, by id.

        Args:
            due_at: Only those that are due at this time.
        """
        raise self._cannot("keep schedules", "schedules")

    def delete_schedule(self, schedule_id: str) -> bool:
        """Delete a schedule; return whether there was one. The runs that it has started stay."""
        raise self._cannot("keep schedules", "schedules")

    # --- a run that is held -----------------------------------------------------------------------------------------

    def release_workflow(self, workflow_id: str, epoch: int) -> None:
        """Give up the claim made with ``epoch``, so that the run can be claimed at once; nothing if it is lost."""
        state = self._single_process()
        with state.lock:
            if state.epochs.get(workflow_id) == epoch:
                state.free(workflow_id)

    def load_outcomes(self, workflow_id: str) -> list[StepOutcome]:
        """Return what a replay needs of every recorded step, by sequence, with one query."""
        state = self._single_process()
        with state.lock:
            steps = self.get_steps(workflow_id)
            if workflow_id in state.owners:
                state.completed[workflow_id] = _completed(steps)
        return [step.outcome for step in steps]

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
        """Store steps of a run, all or none, durably.

        A step's place is ``(workflow_id, sequence)``. A ``completed`` step is never replaced. One that is ``running``
        or ``failed`` is, because it may run again.

        Args:
            workflow_id: The run.
            epoch: The epoch it was claimed with.
            steps: The steps, in any order.
            current_activity: The activity that runs now; ``None`` leaves what is stored.
            children: Runs to create in the same atomic step. One whose id is taken is passed over.
            custom_status: What the run publishes of itself; ``None`` leaves what is stored.

        Returns:
            What has been requested of the run and not been noticed yet.

        Raises:
            ClaimLostError: The claim is lost; nothing was written.
        """
        if children:
            raise self._cannot("create child workflows")
        if custom_status is not None:
            raise self._cannot("publish a custom status")
        state = self._single_process()
        with state.lock:
            instance = self._fenced(workflow_id, epoch)
            self._save_steps(workflow_id, steps)
            if current_activity is not None:
                changed = documents.changed(instance, current_activity=current_activity, updated_at=datetime.now(UTC))
                self.save_workflow(changed)
        return None

    def record_transaction(self, workflow_id: str, epoch: int, body: Callable[[Any], StepRecord | None]) -> None:
        """Run ``body`` in a transaction of the store, and store the step that it returns in the same one, durably.

        Args:
            workflow_id: The run.
            epoch: The epoch it was claimed with.
            body: Is given the store's connection, and may be called again if the transaction cannot be committed. Where
                it returns ``None`` or raises, nothing is stored of what it did.

        Raises:
            ClaimLostError: The claim is lost; ``body`` was not called.
            TransactionError: ``body`` returned a step, but what it did cannot be committed, now or later.
            UnsupportedOperationError: The store has no transactions (``"transactions"`` in ``capabilities``).
        """
        raise UnsupportedOperationError(
            f'{type(self).__name__} has no transactions: it lacks the capability "transactions"; use '
            "SQLiteDatabaseManager"
        )

    def finish_workflow(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        """Store a run's last steps and its end, all or none, durably, and give up the claim.

        Its children are created in the same atomic step. If it has a parent, that gets the signal ``workflow:<id>``.

        Raises:
            ClaimLostError: The claim is lost; nothing was written.
        """
        state = self._single_process()
        payload = end.output if end.output is not None else end.error
        if end.children:
            raise self._cannot("create child workflows")
        if end.custom_status is not None:
            raise self._cannot("publish a custom status")
        with state.lock:
            ended = documents.changed(
                self._fenced(workflow_id, epoch),
                status=end.status,
                output_data=json.loads(payload) if payload is not None else None,
                error_message=end.error_message,
                current_activity=end.current_activity,
                updated_at=end.finished_at,
            )
            self._save_steps(workflow_id, end.steps)
            self.save_workflow(ended)
            state.free(workflow_id)
            state.epochs.pop(workflow_id, None)

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
        """Finish a run as ``finish_workflow`` does and claim up to one other in its place.

        A store that can do both in one commit spares every run of a busy queue a commit. The claim's ``now`` is the
        end's time.
        """
        self.finish_workflow(workflow_id, epoch, end)
        return self.claim_workflows(owner, names, 1, queues=queues)

    # --- waiting ("waiting" in capabilities) ------------------------------------------------------------------------

    def suspend_workflow(self, workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> None:
        """Store a run's last steps and what it waits for, all or none, durably, and give up the claim.

        Its children are created in the same atomic step. It is ready at once if it has received more signals than it
        knew of. If a pause was requested, it becomes ``paused``, and the request is fulfilled.

        Raises:
            ClaimLostError: The claim is lost; nothing was written.
        """
        raise self._cannot("keep runs that wait")

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
        """Suspend a run as ``suspend_workflow`` does and claim up to one in its place, perhaps one of its children.

        The claim's ``now`` is the suspension's time.
        """
        self.suspend_workflow(workflow_id, epoch, suspension)
        return self.claim_workflows(owner, names, 1, now=suspension.suspended_at, queues=queues)

    def continue_workflow(self, workflow_id: str, epoch: int, continuation: WorkflowContinuation) -> None:
        """Let a run begin anew: with other arguments, one more ``generation``, none of its steps, ready, nobody's.

        The events that it has taken are forgotten, but for their ids, which are known until it begins anew once more.
        Its children are created in the same atomic step. A pause that was requested is fulfilled.

        Raises:
            ClaimLostError: The claim is lost; nothing was written.
        """
        raise self._cannot("let runs begin anew")

    def add_event(self, workflow_id: str, event: EventRecord) -> None:
        """Store an event for a run that has not ended, after its others, durably: the signal ``event:<name>``.

        An event whose id the run has already is the same event: nothing happens, even if the run has ended since.

        Raises:
            WorkflowNotFoundError: There is no such run.
            WorkflowStateError: It has ended; nothing was stored.
        """
        raise self._cannot("keep events")

    def load_events(
        self, workflow_id: str, *, name: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventRecord]:
        """Return events that a run was sent, in the order of arrival; which it has taken is told by its steps.

        Args:
            workflow_id: The run.
            name: Only events of this name.
            after: Only those with a higher position.
            limit: At most so many; ``None`` for all.
        """
        raise self._cannot("keep events")

    # --- control ("waiting" in capabilities) ------------------------------------------------------------------------

    def cancel_workflow(self, workflow_id: str) -> None:
        """Request that a run that has not ended be cancelled: a signal that makes it ready, also if it is paused.

        The run's code notices it and ends the run, so that it can clean up. It replaces a request to pause, and the
        run's ``deadline``, which no longer counts.

        Raises:
            WorkflowNotFoundError: There is no such run.
            WorkflowStateError: It has ended.
        """
        raise self._cannot("cancel runs")

    def pause_workflow(self, workflow_id: str) -> None:
        """Let a run that nobody holds be ``paused`` at once, keeping what it waits for; request it of one that is held.

        Nothing happens if it is paused, or requested to be.

        Raises:
            WorkflowNotFoundError: There is no such run.
            WorkflowStateError: It has ended, or was requested to be cancelled.
        """
        raise self._cannot("pause runs")

    def resume_workflow(self, workflow_id: str) -> None:
        """Let a paused run be ``processing`` again, and withdraw a request to pause. Nothing happens to other runs.

        Raises:
            WorkflowNotFoundError: There is no such run.
            WorkflowStateError: It has ended.
        """
        raise self._cannot("pause runs")

    def reopen_workflow(
        self, workflow_id: str, epoch: int, drop: Iterable[int], replace: Sequence[StepRecord] = ()
    ) -> None:
        """Let a ``failed`` run be ``processing`` again, ready, without its failure, its deadline and some of its steps.

        Args:
            workflow_id: The run.
            epoch: Its epoch when the steps were chosen.
            drop: The ordinals of the steps to forget.
            replace: Steps that are to stand otherwise; none of those that are completed or cancelled.

        Raises:
            WorkflowNotFoundError: There is no such run.
            WorkflowStateError: It is not failed, or its epoch is another one; nothing was changed.
        """
        raise self._cannot("rewind runs")

    def pending_requests(self, owner: str) -> dict[str, ControlRequest]:
        """Return what has been requested of the runs that an owner holds, by their ids; one cheap read."""
        return {}

    # --- reading --------------------------------------------------------------------------------------------------

    def read_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """Return the run, or ``None`` if there is none."""
        instance = self.get_workflow(workflow_id)
        return None if instance is None else self._with_claim(documents.record_from_instance(instance))

    def get_steps(self, workflow_id: str) -> list[StepRecord]:
        """Return every recorded step of a run, by sequence."""
        return documents.steps_from_executions(workflow_id, self.get_activity_executions(workflow_id))

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
        """Return runs, newest first.

        Args:
            name: Only runs of this name.
            status: Only runs with this status.
            limit: At most so many; ``None`` for all.
            cursor: The id of the last run of the page before; runs that are older than it follow.
            version: Only runs that began with this version of their code.
            queue: Only runs in this queue.

        Raises:
            LookupError: No run has the cursor's id.
        """
        instances = self.list_workflows() if name is None or cursor is not None else self.get_workflows_by_name(name)
        if cursor is not None:  # which may be of any name, so its place is in the list of all
            ids = [instance.id for instance in instances]
            if cursor not in ids:
                raise LookupError(f"no workflow has the cursor's id {cursor!r}")
            instances = instances[ids.index(cursor) + 1 :]
        if version is not None or queue is not None:  # which 1.0.2's records have no room for
            return []
        if name is not None:
            instances = [instance for instance in instances if instance.name == name]
        if status is not None:
            instances = [instance for instance in instances if instance.status == status]
        return [self._with_claim(documents.record_from_instance(instance)) for instance in instances[:limit]]

    def delete_workflow(self, workflow_id: str) -> bool:
        """Delete a finished run and its history; return whether there was one.

        Raises:
            UnsupportedOperationError: The store cannot delete, or the run is not finished; nothing was deleted.
        """
        raise UnsupportedOperationError(f"{type(self).__name__} cannot delete workflows: it has no delete_workflow")

    def purge_workflows(
        self,
        ended_before: datetime,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int = 100,
    ) -> int:
        """Delete runs that have ended, with their histories, those that ended first before the others.

        A child workflow whose parent has not ended stays: the parent may not have taken its result yet.

        Args:
            ended_before: Only runs that ended before this time.
            name: Only runs of this name.
            status: Only runs with this status.
            limit: At most so many, in one short transaction.

        Returns:
            How many were deleted; fewer than ``limit`` when no more are left.

        Raises:
            UnsupportedOperationError: The store cannot delete.
        """
        raise UnsupportedOperationError(f"{type(self).__name__} cannot delete workflows: it has no purge_workflows")

    def close(self) -> None:
        """Release connections and the like; the next call opens them again."""

    # --- the defaults' own parts ----------------------------------------------------------------------------------

    def _cannot(self, what: str, capability: str = "waiting") -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f'{type(self).__name__} cannot {what}: it lacks the capability "{capability}"; use SQLiteDatabaseManager'
        )

    def _single_process(self) -> _SingleProcess:
        # A user's manager need not call this class's __init__, so the state is made on first use; setdefault on a
        # dict is atomic, so two threads get one state.
        state: _SingleProcess | None = self.__dict__.get("_single_process_state")
        return self.__dict__.setdefault("_single_process_state", _SingleProcess()) if state is None else state

    def _with_claim(self, record: WorkflowRecord) -> WorkflowRecord:
        state = self._single_process()
        return documents.with_claim(record, state.owners.get(record.id), state.epochs.get(record.id, 0))

    def _fenced(self, workflow_id: str, epoch: int) -> WorkflowInstance:
        state = self._single_process()
        instance = self.get_workflow(workflow_id)
        if (
            instance is None
            or instance.status != WorkflowStatus.PROCESSING
            or workflow_id not in state.owners
            or state.epochs.get(workflow_id) != epoch
        ):
            raise ClaimLostError(workflow_id, epoch)
        return instance

    def _save_steps(self, workflow_id: str, steps: Sequence[StepRecord]) -> None:
        state = self._single_process()
        completed = state.completed.get(workflow_id)
        if completed is None:
            completed = state.completed[workflow_id] = _completed(self.get_steps(workflow_id))
        # All are converted before one is saved, and saved in their order: what a crash leaves is a history, cut short.
        ordered = sorted(steps, key=lambda step: step.sequence)
        for step, execution in [(step, documents.execution_from_step(workflow_id, step)) for step in ordered]:
            if step.sequence not in completed:
                self.save_activity_execution(execution)
                if step.status == ActivityStatus.COMPLETED.value:
                    completed.add(step.sequence)


def _completed(steps: Iterable[StepRecord]) -> set[int]:
    return {step.sequence for step in steps if step.status == ActivityStatus.COMPLETED.value}
