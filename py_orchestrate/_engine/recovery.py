"""The background loop: takes up runs that nobody holds, starts those of schedules, and stores what lingers in others.

One turn is ``tick(now)``. In-process work never waits for a turn: it is handed over directly, or wakes the loop. An
idle turn costs a few small reads. A storage that fails makes the turns rarer, up to once in
``_LONGEST_BACKOFF_SECONDS``, and never ends the loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypedDict

from .._clock import Clock
from ..db_manager.base import BaseDatabaseManager
from ..errors import OrchestrateError
from ..models import Outlook, WorkflowRecord
from .retention import Retention, Rules
from .runner import WorkflowRun
from .scheduler import Scheduler

if TYPE_CHECKING:
    from ..queues import Queue

_logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.05
_LONGEST_BACKOFF_SECONDS = 30.0
_BETWEEN_POLLS = timedelta(milliseconds=20)
_UNKNOWN_NAMES = (
    "workflows are waiting whose names nobody has registered here: %s; they stay as they are until an "
    "orchestrator that has imported them starts"
)
_UNCONSUMED = (
    "workflows are waiting in queues that no orchestrator consumes: %s; they stay as they are until one starts with "
    "Orchestrator(queues=[...])"
)


class QueueArguments(TypedDict, total=False):
    """What a database manager is told of queues; empty where there are none, for one that knows of none."""

    queues: Sequence[Queue]


class RecoveryHost(Protocol):
    """What the loop needs of the engine around it."""

    database: BaseDatabaseManager
    clock: Clock
    owner: str
    queue_arguments: QueueArguments

    def active_runs(self) -> list[WorkflowRun]:
        """Return the runs that are running here."""
        ...

    def workflow_names(self) -> Collection[str]:
        """Return the names that may be claimed."""
        ...

    def reserve(self, limit: int | None = None) -> int:
        """Reserve up to ``limit`` free workers, all by default, and return how many."""
        ...

    def free(self, workers: int) -> None:
        """Give reserved workers back."""
        ...

    def remind(self) -> None:
        """Wake the loop as soon as a worker is free: something waits for one."""
        ...

    def dispatch(self, record: WorkflowRecord, *, is_new: bool) -> None:
        """Run a claimed run on a reserved worker."""
        ...

    def wake(self) -> None:
        """Look for runs to take up, because one has just become ready."""
        ...

    def version_of(self, name: str) -> str | None:
        """Return the version of a workflow's code; ``None`` where it has none, or is not registered here."""
        ...


class RecoveryLoop:
    """Calls ``tick`` on a thread of its own, until stopped."""

    def __init__(
        self,
        host: RecoveryHost,
        *,
        poll_interval_seconds: float,
        kept_for: Rules = MappingProxyType({}),
    ) -> None:
        self._host = host
        self._retention = Retention(host, kept_for)
        self._poll_interval = poll_interval_seconds
        self._poll_due = host.clock.monotonic()
        self._next_wake: datetime | None = None
        self._backoff = 0.0
        self._scheduler = Scheduler(host)
        self._unknown_names: set[str] = set()
        self._unconsumed: set[str] = set()
        self._claiming = threading.Lock()
        self._expecting = threading.Lock()
        self._runs_begun = 0
        self._runs_seen = 0
        self._dozes = False
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="py_orchestrate-recovery", daemon=True)

    def start(self) -> None:
        """Start the thread; its first turn comes at once."""
        self._thread.start()

    def wake(self) -> None:
        """Look for runs to take up now."""
        self._poll_due = self._host.clock.monotonic()
        self._wake.set()

    def expect(self, wake_at: datetime) -> None:
        """Take up runs also at a time, because one of them wakes then."""
        if self._remember(wake_at):
            self._wake.set()

    def _remember(self, wake_at: datetime) -> bool:
        """Note a time to take up runs at; return whether it is the earliest."""
        with self._expecting:
            if self._next_wake is not None and self._next_wake <= wake_at:
                return False
            self._next_wake = wake_at
            return True

    def notice_run(self) -> None:
        """Tell the loop that a run has begun, so that it looks after it; only a loop that dozes has to be woken."""
        self._runs_begun += 1
        if self._dozes:
            self._wake.set()

    def wait_for_claims(self) -> None:
        """Wait while claims are under way: until they have come to something, they reserve every free worker."""
        with self._claiming:
            pass

    def stop(self) -> None:
        """End the thread, and wait for it unless it is the caller."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def tick(self, now: float) -> float:
        """Take one turn at the monotonic time ``now``; return in how many seconds the next one is due."""
        runs = self._host.active_runs()
        busy = bool(runs) or self._runs_begun != self._runs_seen
        self._runs_seen = self._runs_begun
        for run in runs:
            self._guarded(run.tend)
        if now >= self._poll_due or self._seconds_to_wake() <= 0:
            self._poll_due = now + self._poll_interval  # before the claim, so that a wake() meanwhile counts
            if self._guarded(self._poll):
                self._backoff = 0.0
            else:
                self._backoff = min(max(self._backoff * 2, 0.5), _LONGEST_BACKOFF_SECONDS)
                self._poll_due = now + max(min(self._poll_interval, _LONGEST_BACKOFF_SECONDS), self._backoff)
        self._guarded(lambda: self._retention.turn(now))
        wait = min(self._poll_due - now, self._seconds_to_wake(), self._retention.seconds_to_turn(now))
        return min(wait, LINGER_SECONDS) if busy else wait

    def _main(self) -> None:
        while not self._stopping:
            self._dozes = True  # before the turn, so that a run that begins during it is not overlooked
            self._wake.clear()
            wait = self.tick(self._host.clock.monotonic())
            self._dozes = wait > LINGER_SECONDS
            if not self._stopping:
                self._wake.wait(min(max(0.0, wait), threading.TIMEOUT_MAX))

    def _seconds_to_wake(self) -> float:
        with self._expecting:
            if self._next_wake is None:
                return float("inf")
            return (self._next_wake - self._host.clock.now()).total_seconds()

    def _poll(self) -> None:
        with self._expecting:
            self._next_wake = None  # before the look, so that an expect() meanwhile counts
        now = self._host.clock.now()
        names = set(self._host.workflow_names())
        outlook = self._look(now)
        waiting, unconsumed = outlook.ready, outlook.unconsumed
        left = 1
        if outlook.tick_at is not None and self._scheduler.mend(now):
            outlook = self._look(now)
        if outlook.tick_at is not None and outlook.tick_at <= now:
            self._scheduler.turn(now)
            outlook = self._look(now)
        if (outlook.wake_at is not None and outlook.wake_at <= now) or outlook.ready & names:
            left = self._claim(names)
            outlook = self._look(now)
        self._expect_next(outlook.wake_at, left)
        if outlook.tick_at is not None and outlook.tick_at > now:
            self._remember(outlook.tick_at)
        self._tell_once(self._unknown_names, waiting - names, _UNKNOWN_NAMES)
        self._tell_once(self._unconsumed, unconsumed, _UNCONSUMED)
        runs = self._host.active_runs()
        requests = self._host.database.pending_requests(self._host.owner) if runs else {}
        for run in runs:
            if run.record.id in requests:
                run.notice(requests[run.record.id])

    def _look(self, now: datetime) -> Outlook:
        return self._host.database.look(self._host.owner, now=now, **self._host.queue_arguments)

    def _expect_next(self, wake_at: datetime | None, left: int) -> None:
        """Come back when the next run wakes, or, where no worker is left for one that is due, when one is free."""
        now = self._host.clock.now()
        if wake_at is None:
            return
        if left or wake_at > now:
            # Many that are due one after another wake together.
            self._remember(max(wake_at, now + _BETWEEN_POLLS))
        else:
            self._host.remind()

    def _claim(self, names: Collection[str]) -> int:
        """Take up what is ready; return how many workers are left."""
        with self._claiming:
            reserved = self._host.reserve()
            try:
                if reserved:
                    for record in self._host.database.claim_workflows(
                        self._host.owner, names, reserved, now=self._host.clock.now(), **self._host.queue_arguments
                    ):
                        reserved -= 1
                        self._host.dispatch(record, is_new=False)
            finally:
                self._host.free(reserved)
        return reserved

    @staticmethod
    def _tell_once(told: set[str], found: Collection[str], text: str) -> None:
        """Warn of what is found, but for what has been told of."""
        new = set(found) - told
        if new:
            told |= new
            _logger.warning(text, ", ".join(sorted(map(repr, new))))

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Run the action; log what it raises, because the loop must go on. Return whether it succeeded."""
        try:
            action()
        except OrchestrateError as error:
            _logger.warning("the background loop will try again: %s", error)
            return False
        except Exception:
            _logger.exception("unexpected error in the background loop; it goes on")
            return False
        return True
