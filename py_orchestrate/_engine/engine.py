"""The engine: what an orchestrator starts and stops.

It holds the owner's name under which runs are claimed, the workers, and the runs that are under way, and it decides
who runs what: a new run goes straight to a free worker, which claims it in the commit that creates it; when all are
busy it is stored free, and a worker that ends a run claims the oldest one in the commit that stores the end. So no
queue grows in memory, and any orchestrator on the store may take what waits.

States: ``new`` -> ``running`` -> ``stopping`` -> ``stopped`` -> ``running`` …; ``forked`` in the child of a process in
which it was running.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .._clock import Clock
from .._context import Unwind, current_scope, watch_threads
from .._forks import watch_forks
from .._registry import WorkflowRegistry
from ..db_manager.base import BaseDatabaseManager
from ..errors import ClaimLostError, OrchestratorStateError, StorageError, UnsupportedOperationError
from ..models import (
    ControlRequest,
    EventRecord,
    StepRecord,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowSuspension,
)
from ..serialization import Serializer
from .bodies import BodyRunner
from .exits import GRACE_SECONDS, ending_error, is_ending, leave_at_exit
from .leases import Leases
from .recovery import QueueArguments, RecoveryLoop
from .retention import Rules
from .runner import WorkflowRun
from .waiters import Waiter, Waiters
from .workers import EventLoopThread, WorkerPool

if TYPE_CHECKING:
    from ..queues import Queue

_logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.05
_LONGEST_RETRY_SECONDS = 5.0
_RUNS_SHOWN = 10


class Engine:
    """Runs the workflows of one orchestrator."""

    def __init__(
        self,
        *,
        database: BaseDatabaseManager,
        registry: WorkflowRegistry,
        serializer: Serializer,
        clock: Clock,
        max_workers: int,
        poll_interval_seconds: float,
        lease_seconds: float,
        max_recoveries: int | None,
        kept_for: Rules,
        queues: Sequence[Queue],
        closes_database: bool,
    ) -> None:
        self.database = database
        self.registry = registry
        self.serializer = serializer
        self.clock = clock
        self.owner = ""
        self.max_recoveries = max_recoveries
        self.max_workers = max_workers
        self._poll_interval = poll_interval_seconds
        self._lease_seconds = lease_seconds
        self._kept_for = kept_for
        self.queue_arguments: QueueArguments = {"queues": tuple(queues)} if queues else {}
        self._queue_names = [queue.name for queue in queues]
        self._closes_database = closes_database
        self._told_of_single_process = False
        self._told_of_start = False
        self._state = "new"
        self._renew_lock()
        self._reset()
        watch_forks(self)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def _reset(self) -> None:
        """Forget every run, and all threads with what belongs to them."""
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self.is_leaving = False
        self._has_left_for_good = False
        self._busy = 0
        self._capacity = self.max_workers
        self._something_waits = False
        self._runs: dict[str, WorkflowRun] = {}
        self._dispatched: set[str] = set()
        self._waiters = Waiters()
        self._loop = EventLoopThread()
        self.bodies = BodyRunner(self.registry, self.serializer, self.clock, self._loop.run, self)
        self._workers = WorkerPool("worker", self.max_workers)
        self._activity_threads = WorkerPool("activity", self.max_workers)
        self._recovery = RecoveryLoop(self, poll_interval_seconds=self._poll_interval, kept_for=self._kept_for)
        self._leases = Leases(self, lease_seconds=self._lease_seconds)

    def after_fork_in_child(self) -> None:
        """Let go of the parent's threads; the runs go on there, not here."""
        for run in self._runs.values():
            run.abandon()  # the child of a workflow's thread has its context, but must not record
        if self._state in ("running", "stopping"):
            self._state = "forked"
        self._renew_lock()
        self._reset()

    # --- start and stop ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register as an owner and begin to claim; nothing if already running.

        Raises:
            OrchestratorStateError: Workflows are still running since the last stop, or the program is ending.
            StorageError: The database cannot be written.
        """
        with self._lock:
            if is_ending():
                raise ending_error()
            if self._state == "running":
                return
            if self._state == "stopping":
                raise OrchestratorStateError(
                    f"the orchestrator is still stopping: {self._describe_runs()}; call start() when stop() has "
                    "returned True"
                )
            self._reset()
            owner = os.urandom(16).hex()
            self._register(owner)
            self.owner = owner
            self._tell_of_single_process()
            watch_threads()
            self._state = "running"
            self._recovery.start()
            self._leases.start()
        leave_at_exit(self)

    def stop(self, timeout: float | None) -> bool:
        """Stop claiming and wait for what runs; return whether all of it has ended."""
        with self._lock:
            if self._state == "forked":
                self._state = "new"
            if self._state in ("new", "stopped"):
                return True
            self._state = "stopping"
            self._stopping.set()
            self._waiters.rouse_all()
        self._recovery.stop()
        if self._is_own_thread():
            _logger.warning("stop() was called by a workflow of this orchestrator; it stops when that has ended")
            return False
        with self._changed:
            longest = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
            if not self._changed.wait_for(lambda: self._busy == 0, longest):
                _logger.warning(
                    "stop() does not wait any longer for %s; they end at their next step, and go on at the next start",
                    self._describe_runs(),
                )
                self.begin_leaving()
                return False
            self._retire()
        self._leases.join()
        return True

    def _register(self, owner: str) -> None:
        names = self._queue_names
        self.database.register_owner(owner, **({"queues": names} if names else {}))

    def begin_leaving(self) -> None:
        """See ``exits.Leaver``."""
        self.is_leaving = True  # see RunHost: each durable call looks at it
        self._leaving.set()

    def leave(self, timeout: float = GRACE_SECONDS) -> None:
        """See ``exits.Leaver``."""
        was_active = self._state in ("running", "stopping")
        self.begin_leaving()
        self.stop(timeout)
        if was_active and is_ending():
            self._has_left_for_good = True
            self._waiters.rouse_all()

    def give_up(self) -> None:
        """See ``exits.Leaver``."""
        with self._lock:
            if self._state not in ("running", "stopping"):
                return
            self._state = "stopped"
            self.begin_leaving()
            for run in self._runs.values():
                run.lose()
            self._workers.stop()
            self._activity_threads.stop()
            self._leases.sign_off()

    def join(self, timeout: float) -> None:
        """See ``exits.Leaver``."""
        if self._state == "stopped":
            self._leases.join(timeout)

    def renew_owner(self) -> None:
        """See ``LeaseHost``."""
        with self._lock:
            if self._state not in ("running", "stopping"):
                return
            runs = list(self._runs.values())
            _logger.warning(
                "this orchestrator has given no sign of life for longer than its lease of %s s, so that others may go "
                "on with its runs; what it does in them from now on is not recorded: %s",
                self._lease_seconds,
                self._describe_runs(),
            )
            lost, self.owner = self.owner, os.urandom(16).hex()
            self._register(self.owner)
        for run in runs:
            run.lose()
        self.database.release_owner(lost)  # what else belongs to it, such as a lock file

    def _retire(self) -> None:
        """Give the claims back and end the threads, once nothing runs; the lock is held."""
        if self._state != "stopping":
            return
        self._state = "stopped"
        self._leases.stop()
        self._workers.stop()
        self._activity_threads.stop()
        self._loop.stop()
        self.sign_off()

    def sign_off(self) -> None:
        """See ``LeaseHost``. What still runs keeps the database open."""
        try:
            self.database.release_owner(self.owner)
            if self._closes_database and not self._runs:
                self.database.close()
        except StorageError as error:
            _logger.warning("the orchestrator could not sign off; others will notice that it is gone: %s", error)

    def _is_own_thread(self) -> bool:
        pools = (self._workers, self._activity_threads, self._loop)
        return any(pool.owns_current_thread() for pool in pools)

    def _describe_runs(self) -> str:
        runs = [f"{run.record.name} {run.record.id} (in {run.current_activity})" for run in self.active_runs()]
        more = len(runs) - _RUNS_SHOWN
        shown = ", ".join(runs[:_RUNS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"{len(runs)} running workflow(s): {shown}"

    def _tell_of_single_process(self) -> None:
        if "leases" not in self.database.capabilities and not self._told_of_single_process:
            self._told_of_single_process = True
            _logger.warning(
                "%s has no leases: use its store from one orchestrator in one process only",
                type(self.database).__name__,
            )

    # --- handing out work -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for runs to take up, because one has just become ready."""
        with self._lock:
            self._something_waits = True
            if self._state == "running" and self._busy < self._capacity:
                self._recovery.wake()

    def create(
        self, record: WorkflowRecord, *, steps: Sequence[StepRecord] = (), events: Sequence[EventRecord] = ()
    ) -> WorkflowRecord | None:
        """Store a new run, which nobody has claimed, and run it where a worker is free.

        Args:
            record: The run.
            steps: A history that it begins with.
            events: Events that it begins with.

        Returns:
            What ``create_workflow`` returns: ``None``, or the run that has the id already.

        Raises:
            OrchestratorStateError: The orchestrator was stopped, or was started before a fork.
        """
        self._check_accepting(record.queue)
        history: dict[str, Any] = {"steps": steps, "events": events} if steps or events else {}
        # What belongs to a queue is subject to its limits, and so is claimed as any other; and what is not registered
        # here, as the workflow of a restarted run need not be, is for those that have it.
        is_for_any = record.queue is None and record.wake_at is None and record.name in self.registry.workflows
        if not is_for_any or not self._reserve_one():
            existing = self.database.create_workflow(record, **history)
            if record.wake_at is not None:
                self._recovery.expect(record.wake_at)
            self.wake()
            return existing
        handed_over = False
        try:
            own = record._replace(owner=self.owner, epoch=1)
            existing = self.database.create_workflow(own, **history)
            if existing is None:
                handed_over = True
                self.dispatch(own, is_new=not history)
            return existing
        finally:
            if not handed_over:
                self.free(1)

    def _check_accepting(self, queue: str | None) -> None:
        """Raise unless new runs may be stored."""
        if self._state == "forked":
            raise OrchestratorStateError(
                "the orchestrator was started before this process was forked; call start() in the child"
            )
        if is_ending():
            raise ending_error()
        # What a stop waits for may go on as planned; what it no longer waits for may not.
        if self._state in ("stopping", "stopped") and (self._leaving.is_set() or not self._holds_worker()):
            raise OrchestratorStateError(f"the orchestrator is {self._state}; call start() to use it again")
        is_for_others = queue is not None and queue not in self._queue_names
        if self._state == "new" and not self._told_of_start and not is_for_others:
            self._told_of_start = True
            _logger.warning("the orchestrator is not started: its workflows are stored and wait for start()")

    def _reserve_one(self) -> bool:
        """Reserve a worker for a new run; false only where all of them have something to do."""
        if not self.reserve(1):
            self._recovery.wait_for_claims()
            return bool(self.reserve(1))
        return True

    def reserve(self, limit: int | None = None) -> int:
        """See ``RecoveryHost``."""
        with self._lock:
            if self._state != "running":
                return 0
            free = max(0, self._capacity - self._busy)
            reserved = free if limit is None else min(limit, free)
            self._busy += reserved
            return reserved

    def free(self, workers: int) -> None:
        """See ``RecoveryHost``."""
        if not workers:
            return
        with self._changed:
            self._busy -= workers
            if self._something_waits and self._state == "running":
                self._something_waits = False
                self._recovery.wake()
            if self._busy == 0:
                self._retire()  # if a stop() that no longer waits, or cannot, left that to the last run
            self._changed.notify_all()

    def remind(self) -> None:
        """See ``RecoveryHost``."""
        self._something_waits = True

    def dispatch(self, record: WorkflowRecord, *, is_new: bool) -> None:
        """See ``RecoveryHost``."""
        self._dispatched.add(record.id)
        self._workers.submit(lambda: self._work(record, is_new=is_new))

    def _work(self, record: WorkflowRecord, *, is_new: bool) -> None:
        """Run ``record`` and whatever is claimed in its place, on a worker."""
        current: WorkflowRecord | None = record
        try:
            while current is not None:
                current, is_new = self._run(current, is_new=is_new), False
        finally:
            self.free(1)

    def _run(self, record: WorkflowRecord, *, is_new: bool) -> WorkflowRecord | None:
        run = WorkflowRun(self, record, is_new=is_new)
        with self._lock:
            self._runs[record.id] = run
            self._dispatched.discard(record.id)
        self._recovery.notice_run()
        try:
            return run.execute()
        finally:
            with self._lock:
                # One that has left its worker may have been taken up by another worker here already.
                if self._runs.get(record.id) is run:
                    del self._runs[record.id]
            self._waiters.rouse(record.id)

    # --- what a run needs (see RunHost) -------------------------------------------------------------------------------

    def persist(self, write: Callable[[], Any]) -> Any:
        """See ``RunHost``."""
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                return write()
            except ClaimLostError as lost:
                _logger.debug("%s", lost)  # that the lease has ended is told with the next beat
                raise Unwind from lost
            except StorageError as error:
                _logger.warning("a write is tried again in %.2f s: %s", delay, error)
                if self._leaving.wait(delay):
                    raise Unwind from error
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    def in_background(self, work: Callable[[], None]) -> None:
        """See ``RunHost``."""
        self._activity_threads.submit(work)

    def hold(self, seconds: float) -> None:
        """See ``RunHost``."""
        if self._stopping.wait(seconds):
            raise Unwind

    @property
    def can_wait(self) -> bool:
        """See ``RunHost``."""
        return "waiting" in self.database.capabilities

    def require_waiting(self, what: str) -> None:
        """See ``RunHost``."""
        self.require("waiting", what)

    def require(self, capability: str, what: str) -> None:
        """Raise unless the database can do something.

        Raises:
            UnsupportedOperationError: It cannot.
        """
        if capability not in self.database.capabilities:
            raise UnsupportedOperationError(
                f'{type(self.database).__name__} cannot {what}: it lacks the capability "{capability}"; use '
                "SQLiteDatabaseManager"
            )

    def finish(self, record: WorkflowRecord, end: WorkflowEnd) -> WorkflowRecord | None:
        """See ``RunHost``."""
        if not self._may_claim:
            self.persist(lambda: self.database.finish_workflow(record.id, record.epoch, end))
            self._waiters.hand_over(record, end)
            self._something_waits = self._something_waits or record.parent_id is not None
            return None
        claimed = self.persist(
            lambda: self.database.finish_and_claim(
                record.id, record.epoch, end, owner=self.owner, names=self.workflow_names(), **self.queue_arguments
            )
        )
        self._waiters.hand_over(record, end)
        return self._following(claimed, end.children)

    def suspend(self, record: WorkflowRecord, suspension: WorkflowSuspension) -> WorkflowRecord | None:
        """See ``RunHost``."""
        if not self._may_claim:
            self.persist(lambda: self.database.suspend_workflow(record.id, record.epoch, suspension))
            self._something_waits = True
            following = None
        else:
            claimed = self.persist(
                lambda: self.database.suspend_and_claim(
                    record.id,
                    record.epoch,
                    suspension,
                    owner=self.owner,
                    names=self.workflow_names(),
                    **self.queue_arguments,
                )
            )
            following = self._following(claimed, suspension.children)
        if suspension.wake_at is not None:
            self._recovery.expect(suspension.wake_at)
        return following

    def begin_anew(self, record: WorkflowRecord, continuation: WorkflowContinuation) -> None:
        """See ``RunHost``."""
        self.persist(lambda: self.database.continue_workflow(record.id, record.epoch, continuation))
        self._something_waits = True  # it is ready, and this worker is about to be free

    @property
    def _may_claim(self) -> bool:
        """Whether a worker that ends one run may take up another one."""
        return self._state == "running" and self._busy <= self._capacity

    def _following(self, claimed: list[WorkflowRecord], children: Sequence[WorkflowRecord]) -> WorkflowRecord | None:
        """Return the run that was claimed in another's place, if it is to run."""
        if children:
            self.notice_children()
        if not claimed:
            return None
        if self._state != "running":  # stopped meanwhile: what is not begun stays for others
            self.persist(lambda: self.database.release_workflow(claimed[0].id, claimed[0].epoch))
            return None
        return claimed[0]

    def notice_children(self) -> None:
        """See ``RunHost``."""
        self.wake()

    def notice_event(self, workflow_id: str) -> None:
        """Look for a run that an event was sent to, be it that it runs here and waits for the first of several."""
        run = self._runs.get(workflow_id)
        if run is not None:
            run.rouse()
        self.wake()

    def notice_request(self, workflow_id: str, request: ControlRequest | None) -> None:
        """See ``RunHost``."""
        run = self._runs.get(workflow_id)
        if run is not None:
            run.notice(request)
        self.wake()

    # --- what the recovery loop and the orchestrator need -------------------------------------------------------------

    def active_runs(self) -> list[WorkflowRun]:
        """See ``RecoveryHost``."""
        return list(self._runs.values())

    def workflow_names(self) -> Collection[str]:
        """See ``RecoveryHost``."""
        return list(self.registry.workflows)

    def version_of(self, name: str) -> str | None:
        """Return the version of a workflow's code; ``None`` where it has none, or is not registered here."""
        return self.registry.workflow_definition(name).version if name in self.registry.workflows else None

    def current_activity(self, record: WorkflowRecord) -> str | None:
        """Return the name of the activity that a run is in, or was last: at once, where it runs here."""
        run = None if record.status.is_final else self._runs.get(record.id)
        return record.current_activity if run is None else run.current_activity or record.current_activity

    def is_under_way(self, workflow_id: str) -> bool:
        """Return whether a run runs here, or is about to."""
        return workflow_id in self._runs or workflow_id in self._dispatched

    @contextlib.contextmanager
    def waiting_for(self, workflow_id: str, notify: Callable[[], None]) -> Iterator[Waiter]:
        """Call ``notify``, on any thread, whenever a run of this engine ends or leaves, and when the engine stops.

        A worker that waits is replaced by another for as long, so that workflows that wait for others cannot use up the
        workers that those need.
        """
        waiter = self._waiters.add(workflow_id, notify)
        holds_worker = self._holds_worker()
        if holds_worker:
            self._change_capacity(+1)
        try:
            yield waiter
        finally:
            if holds_worker:
                self._change_capacity(-1)
            self._waiters.remove(workflow_id, waiter)

    def check_hope(self, record: WorkflowRecord) -> None:
        """Raise if somebody waits in vain for a run that has not ended.

        A run that waits leaves, where a stop keeps the other one from beginning, or from going on, here: else the stop
        would wait for the one, and the one for ever for the other.

        Raises:
            Unwind: The calling code is a run's.
            OrchestratorStateError: The program ends, and nobody else has the run now.
        """
        is_left = self._has_left_for_good and record.owner in (None, self.owner)
        if (is_left or (self._state != "running" and record.id not in self._runs)) and self._holds_worker():
            scope = current_scope()
            assert scope is not None  # noqa: S101 - or it would hold no worker
            scope.unwind()
        if is_left:
            raise ending_error()

    def _holds_worker(self) -> bool:
        """Return whether the calling code belongs to a run of this engine, be it in a thread of an activity's own."""
        scope = current_scope()
        return scope is not None and scope.info().workflow_id in self._runs

    def _change_capacity(self, by: int) -> None:
        with self._lock:
            self._capacity += by
            for pool in (self._workers, self._activity_threads):
                pool.change_limit(by)
        if by > 0:
            self._recovery.wake()
