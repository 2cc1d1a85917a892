"""Group commit: threads that write at the same moment share one transaction.

There is no writer thread. A calling thread that finds nobody leading leads: it takes every waiting operation, runs them
in one transaction with its own, and so pays for one flush to disk; once more for those that arrived meanwhile, if any
did; then it hands the lead to the first of those that arrived since. A lone writer therefore costs no hand-over between
threads, eight of them cost one flush instead of eight, and nobody waits for more than two flushes of others. Where the
source can do a whole batch at once (``merge``), it is asked to. What arrives while another process keeps the batch
waiting joins it: the longer the wait, the more is done by one flush.

Those whose operations are done are woken one by another, not all at once: threads that are woken together queue up for
the interpreter, and each of them pays for two waits then.

Guarantees, which the tests hold it to:

* ``submit`` returns only after the transaction that holds its operation is committed.
* An operation that raises does not harm its neighbours: the batch is rolled back and each is run in a transaction of
  its own. A transaction that cannot begin is everybody's error at once, for waiting in turn would take many times as
  long.
* A caller that is interrupted (Ctrl+C in the main thread), leading or waiting, at any line of this module, leaves the
  others' operations to the next leader, and nobody waiting.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from .._clock import SystemClock
from .._forks import ForkHolder, hold_for_forks
from ..errors import DurableCallError
from ._pacing import Pacing

_FORK_WAIT_SECONDS = 5.0
_IN_TRANSACTION = (
    "a transactional activity cannot start workflows, send events or write to its orchestrator's database in another "
    "way but through its connection: the write would wait for the activity's own transaction to end. Do it in the "
    "workflow, or in another activity"
)

Operation = Callable[[Any], Any]
"""What to do inside a transaction, given the connection; may be called again after a rollback."""


class TransactionSource(ForkHolder, Protocol):
    """Where the leader gets its transaction from; told of a fork when no transaction is open."""

    def begin(self, join: Callable[[], None]) -> Any:
        """Begin a write transaction and return the connection to use.

        Args:
            join: Is called when another process has kept this one waiting: it adds what has arrived meanwhile.
        """
        ...

    def commit(self) -> None:
        """Commit durably."""
        ...

    def merge(self, operations: list[Operation], settle: Callable[[list[Any]], None], join: Callable[[], None]) -> bool:
        """Do all of the operations at once, durably, if they can be, and hand their results to ``settle``.

        Args:
            operations: What to do.
            settle: Takes the results.
            join: As for ``begin``: it may add to ``operations``.

        Returns:
            Whether it was done; where not, nothing was.
        """
        ...

    def rollback(self) -> bool:
        """End the transaction without its writes; return whether there was one to end."""
        ...


class _Request:
    """One caller's operation; ``turn`` is released when it is done, or when its caller is to lead.

    Attributes:
        next: Whose turn comes when this one's caller has taken its own.
        heir: Who leads after this one's caller.
        is_given_up: Whether its caller no longer waits for its turn.
    """

    __slots__ = ("done", "error", "heir", "is_given_up", "is_large", "next", "operation", "result", "thread", "turn")

    def __init__(self, operation: Operation, *, is_large: bool = False) -> None:
        self.operation = operation
        self.is_large = is_large
        self.thread = threading.get_ident()
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.turn: threading.Lock | None = None
        self.next: _Request | None = None
        self.heir: _Request | None = None
        self.is_given_up = False


def _nothing(_connection: Any) -> None:
    """Do nothing: the operation of a caller that only wants to be alone."""


class GroupCommit:
    """Runs operations in shared transactions, in the calling threads."""

    def __init__(self, source: TransactionSource, *, batch_limit: int = 512) -> None:
        self._source = source
        self._batch_limit = batch_limit
        self._pacing = Pacing(SystemClock())
        self._waiting: deque[_Request] = deque()
        self._leader: _Request | None = None
        self._mutex = threading.Lock()  # held for moments only: around the two above
        self._held_for_fork: _Request | None = None
        hold_for_forks(self)

    def before_fork(self) -> None:
        """Let the transaction that runs come to its end, and begin no other until the fork is over."""
        request = self._lead_alone(_FORK_WAIT_SECONDS)
        if request is not None:
            self._held_for_fork = request
            self._source.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        request, self._held_for_fork = self._held_for_fork, None
        if request is not None:
            self._source.after_fork_in_parent()
            self._leave(request)

    def after_fork_in_child(self) -> None:
        """Forget the parent's waiting operations, whose threads are not here."""
        self._waiting = deque()
        self._leader = None
        self._mutex = threading.Lock()
        self._held_for_fork = None
        self._source.after_fork_in_child()

    def submit(self, operation: Operation, *, is_large: bool = False) -> Any:
        """Run ``operation`` in a transaction and return its result once that is durable.

        Args:
            operation: What to do.
            is_large: Whether it writes much, and so leaves room for others; see ``_pacing.py``.

        Raises:
            DurableCallError: The calling thread keeps all transactions out.
        """
        if is_large:
            self._pacing.wait()
        request = _Request(operation, is_large=is_large)
        batch: list[_Request] = []
        try:
            self._take_turn(request)
            if not request.done:
                batch.append(request)
                self._extend(batch)
                self._run(batch)
                if self._waiting:  # once more, for it takes time to hand over the lead
                    batch = []
                    self._extend(batch)
                    self._run(batch)
                self._leave(request)
        except BaseException:  # an interrupt, wherever it came
            self._leave(request, batch)
            raise
        if request.error is not None:
            raise request.error
        return request.result

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every transaction out for as long as the context lasts."""
        request = self._lead_alone()
        assert request is not None  # noqa: S101 - there is no time limit
        try:
            yield
        finally:
            self._leave(request)

    def _lead_alone(self, timeout: float = -1) -> _Request | None:
        """Become the leader, not merely done in somebody's transaction; return ``None`` if the time is over before."""
        while True:
            # A fresh one each time: whoever has done the last one may still look at it.
            request = _Request(_nothing)
            try:
                has_turn = self._take_turn(request, timeout)
            except BaseException:
                self._leave(request)
                raise
            if not has_turn:
                self._leave(request)
                return None
            if not request.done:
                return request

    def _take_turn(self, request: _Request, timeout: float = -1) -> bool:
        """Wait until the request is done, or is to lead, for up to so many seconds; return whether it is."""
        with self._mutex:
            if self._leader is None:
                self._leader = request
                return True
            if self._leader.thread == request.thread and timeout < 0:
                raise DurableCallError(_IN_TRANSACTION)
            request.turn = threading.Lock()
            request.turn.acquire()
            self._waiting.append(request)
        if not request.turn.acquire(timeout=timeout):
            return False
        _release(request.next)
        if self._leader is request:
            with self._mutex:
                self._waiting.remove(request)
        return True

    def _leave(self, own: _Request, batch: Sequence[_Request] = ()) -> None:
        """Let nobody wait for a caller that goes: neither its followers nor, after an interrupt, those of its batch.

        Whatever an interrupt has kept it from is done when it is called again.

        Args:
            own: The caller's request.
            batch: What the caller was about to do. What is not done of it goes back to the front, in order, for the
                next leader, but for its own: nobody waits for that.
        """
        with self._mutex:
            own.is_given_up = True
            if own in self._waiting:
                self._waiting.remove(own)
            if self._leader is own:
                for request in reversed(batch):
                    if not (request.done or request.is_given_up or request in self._waiting):
                        self._waiting.appendleft(request)
                own.heir = self._waiting[0] if self._waiting else None
                self._leader = own.heir
        for request in batch:
            if request.done:
                _release(request)
        _release(own.heir)
        _release(own.next)

    def _extend(self, batch: list[_Request]) -> None:
        """Add those that wait to a batch."""
        with self._mutex:
            while self._waiting and len(batch) < self._batch_limit:
                batch.append(self._waiting[0])  # in both for a moment, so that an interrupt loses nothing
                self._waiting.popleft()

    def _run(self, batch: list[_Request]) -> None:
        began = time.monotonic()
        self._transact(batch)
        small = [request.thread for request in batch if not request.is_large]
        self._pacing.note_small(small)
        if len(small) < len(batch):
            for request in batch:
                if request.is_large:
                    self._pacing.note_large(request.thread, time.monotonic() - began)

    def _transact(self, batch: list[_Request], *, may_grow: bool = True) -> None:
        """Run the batch in one transaction, or, where that fails, each in one of its own."""
        settle = partial(self._settle, batch)
        operations = [request.operation for request in batch]
        began_with = len(batch)

        def join() -> None:
            if may_grow:
                self._extend(batch)
                operations.extend(request.operation for request in batch[len(operations) :])

        try:
            if self._source.merge(operations, settle, join):
                return
            self._run_in_turn(batch, settle, join)
        except Exception as error:  # noqa: BLE001 - handed to the callers, each of which raises it
            self._put_back(batch, began_with)
            self._fail(batch, error)
            return
        for request in batch:
            if not request.done:
                self._transact([request], may_grow=False)

    def _put_back(self, batch: list[_Request], first: int) -> None:
        """Let those that joined a batch wait again: they have not waited for as long as those who give up."""
        with self._mutex:
            for request in reversed(batch[first:]):
                if not request.is_given_up:
                    self._waiting.appendleft(request)
            del batch[first:]

    def _run_in_turn(
        self, batch: list[_Request], settle: Callable[[list[Any]], None], join: Callable[[], None]
    ) -> None:
        """Run the operations in one transaction; where that fails, only a lone one fails.

        Raises:
            Exception: The transaction could not begin.
        """
        results = []
        has_begun = False
        try:
            connection = self._source.begin(join)
            has_begun = True
            for request in batch:
                results.append(request.operation(connection))  # noqa: PERF401 - what is done so far counts below
            self._source.commit()
            settle(results)
        except Exception as error:
            self._source.rollback()
            if not has_begun:
                raise
            if len(batch) == 1:
                self._fail(batch, error)
        except BaseException:
            # An interrupt can arrive after the commit; then there is nothing left to roll back, and the batch is done.
            if not self._source.rollback() and len(results) == len(batch):
                settle(results)
            raise

    def _settle(self, batch: list[_Request], results: list[Any]) -> None:
        for request, result in zip(batch, results, strict=True):
            request.result = result
        self._wake(batch)

    def _fail(self, batch: list[_Request], error: Exception) -> None:
        for request in batch:
            request.error = error
        self._wake(batch)

    def _wake(self, batch: list[_Request]) -> None:
        """Let the callers of a batch go on."""
        following: _Request | None = None
        is_repeated = False
        with self._mutex:
            for request in reversed(batch):
                is_repeated = is_repeated or request.done
                request.done = True
                if request.turn is not None and not (request is self._leader or request.is_given_up):
                    request.next, following = following, request
        # An interrupt has kept the first try from its end; some may have gone on without waking the next.
        if is_repeated:
            for request in batch:
                _release(request)
        _release(following)


def _release(request: _Request | None) -> None:
    """Let a request's caller have its turn; it may have had it."""
    if request is not None and request.turn is not None:
        with contextlib.suppress(RuntimeError):
            request.turn.release()
