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
* A caller that is interrupted (Ctrl+C in the main thread), leading or waiting, leaves the others' operations to the
  next leader.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from .._clock import SystemClock
from .._forks import ForkHolder, hold_for_forks
from ._pacing import Pacing

_FORK_WAIT_SECONDS = 5.0

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
        is_given_up: Whether its caller no longer waits for its turn.
    """

    __slots__ = ("done", "error", "is_given_up", "is_large", "leads", "next", "operation", "result", "thread", "turn")

    def __init__(self, operation: Operation, *, is_large: bool = False) -> None:
        self.operation = operation
        self.is_large = is_large
        self.thread = threading.get_ident()
        self.done = False
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.turn: threading.Lock | None = None
        self.next: _Request | None = None
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
        self._is_led = False
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
            self._pass_on(request)

    def after_fork_in_child(self) -> None:
        """Forget the parent's waiting operations, whose threads are not here."""
        self._waiting = deque()
        self._is_led = False
        self._mutex = threading.Lock()
        self._held_for_fork = None
        self._source.after_fork_in_child()

    def submit(self, operation: Operation, *, is_large: bool = False) -> Any:
        """Run ``operation`` in a transaction and return its result once that is durable.

        Args:
            operation: What to do.
            is_large: Whether it writes much, and so leaves room for others; see ``_pacing.py``.
        """
        if is_large:
            self._pacing.wait()
        request = _Request(operation, is_large=is_large)
        self._take_turn(request)
        if not request.done:
            try:
                self._run(self._batch(request), request)
                if self._waiting:  # once more, for it takes time to hand over the lead
                    self._run(self._batch(), request)
            finally:
                self._pass_on(request)
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
            self._pass_on(request)

    def _lead_alone(self, timeout: float = -1) -> _Request | None:
        """Become the leader, not merely done in somebody's transaction; return ``None`` if the time is over before."""
        while True:
            # A fresh one each time: whoever has done the last one may still look at it.
            request = _Request(_nothing)
            self._take_turn(request, timeout)
            if not request.done:
                return request if request.leads else None

    def _take_turn(self, request: _Request, timeout: float = -1) -> None:
        """Return when the request is done, or is to lead, or ``timeout`` seconds are over (never, if negative)."""
        with self._mutex:
            if not self._is_led:
                self._is_led = request.leads = True
                return
            request.turn = threading.Lock()
            request.turn.acquire()
            self._waiting.append(request)
        try:
            if request.turn.acquire(timeout=timeout):
                _release(request.next)
                return
        except BaseException:
            self._give_up_turn(request)
            if request.leads:
                self._pass_on(request)
            raise
        self._give_up_turn(request)

    def _give_up_turn(self, request: _Request) -> None:
        with self._mutex:
            request.is_given_up = True
            with contextlib.suppress(ValueError):
                self._waiting.remove(request)
        _release(request.next)

    def _batch(self, *own: _Request) -> list[_Request]:
        batch = [*own]
        self._extend(batch)
        return batch

    def _extend(self, batch: list[_Request]) -> None:
        with self._mutex:
            while self._waiting and len(batch) < self._batch_limit:
                batch.append(self._waiting.popleft())

    def _pass_on(self, own: _Request) -> None:
        """Make the first of those that wait the leader, if any waits."""
        with self._mutex:
            own.leads = False
            if not self._waiting:
                self._is_led = False
                return
            following = self._waiting.popleft()
            following.leads = True
        assert following.turn is not None  # noqa: S101 - everyone that waits has one
        following.turn.release()

    def _run(self, batch: list[_Request], own: _Request) -> None:
        began = time.monotonic()
        try:
            self._transact(batch)
            small = [request.thread for request in batch if not request.is_large]
            self._pacing.note_small(small)
            if len(small) < len(batch):
                for request in batch:
                    if request.is_large:
                        self._pacing.note_large(request.thread, time.monotonic() - began)
        except BaseException:
            # An interrupt. What is not done goes back to the front, in order, for the next leader, but for the
            # interrupted caller's own operation: nobody waits for it.
            with self._mutex:
                self._waiting.extendleft(
                    request
                    for request in reversed(batch)
                    if not (request.done or request.is_given_up or request is own)
                )
            self._wake([request for request in batch if request.done])  # it may have come in the midst of that
            raise

    def _transact(self, batch: list[_Request], *, may_grow: bool = True) -> None:
        """Run the batch in one transaction, or, where that fails, each in one of its own."""
        settle = partial(self._settle, batch)
        operations = [request.operation for request in batch]

        def join() -> None:
            if may_grow:
                self._extend(batch)
                operations.extend(request.operation for request in batch[len(operations) :])

        try:
            if self._source.merge(operations, settle, join):
                return
            connection = self._source.begin(join)
        except Exception as error:  # noqa: BLE001 - handed to the callers, each of which raises it
            self._fail(batch, error)
            return
        self._run_in_turn(batch, connection, settle)
        for request in batch:
            if not request.done:
                self._transact([request], may_grow=False)

    def _run_in_turn(self, batch: list[_Request], connection: Any, settle: Callable[[list[Any]], None]) -> None:
        """Run the operations in the transaction that has begun; where that fails, a lone one fails."""
        results = []
        try:
            for request in batch:
                results.append(request.operation(connection))  # noqa: PERF401 - what is done so far counts below
            self._source.commit()
            settle(results)
        except Exception as error:  # noqa: BLE001 - as above
            self._source.rollback()
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
                if request.turn is not None and not (request.leads or request.is_given_up):
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
