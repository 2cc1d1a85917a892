"""Group commit: threads that write at the same moment share one transaction.

There is no writer thread. The calling thread that gets the lock leads: it takes every waiting operation, runs them in
one transaction, and so pays for one flush to disk; the others find their operation done when they get the lock. A lone
writer therefore costs no hand-over between threads, and eight of them cost one flush instead of eight.

Guarantees, which the tests hold it to:

* ``submit`` returns only after the transaction that holds its operation is committed.
* An operation that raises does not harm its neighbours: the batch is rolled back and each is run in a transaction of
  its own. A transaction that cannot begin is everybody's error at once, for waiting in turn would take many times as
  long.
* A leader that is interrupted (Ctrl+C in the main thread) leaves its followers' operations to the next leader.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .._forks import ForkHolder, hold_for_forks

_FORK_WAIT_SECONDS = 5.0

Operation = Callable[[Any], Any]
"""What to do inside a transaction, given the connection; may be called again after a rollback."""


class TransactionSource(ForkHolder, Protocol):
    """Where the leader gets its transaction from; told of a fork when no transaction is open."""

    def begin(self) -> Any:
        """Begin a write transaction and return the connection to use."""
        ...

    def commit(self) -> None:
        """Commit durably."""
        ...

    def rollback(self) -> bool:
        """End the transaction without its writes; return whether there was one to end."""
        ...


class _Request:
    __slots__ = ("done", "error", "operation", "result")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Runs operations in shared transactions, in the calling threads."""

    def __init__(self, source: TransactionSource, *, batch_limit: int = 512) -> None:
        self._source = source
        self._batch_limit = batch_limit
        self._waiting: deque[_Request] = deque()
        self._leading = threading.Lock()
        self._held = False
        hold_for_forks(self)

    def before_fork(self) -> None:
        """Let the transaction that runs come to its end, and begin no other until the fork is over."""
        self._held = self._leading.acquire(timeout=_FORK_WAIT_SECONDS)
        if self._held:
            self._source.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self._held = False
            self._source.after_fork_in_parent()
            self._leading.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's waiting operations, whose threads are not here."""
        self._waiting = deque()
        self._leading = threading.Lock()
        self._held = False
        self._source.after_fork_in_child()

    def alone(self) -> AbstractContextManager[object]:
        """Keep every transaction out for as long as the context lasts."""
        return self._leading

    def submit(self, operation: Operation) -> Any:
        """Run ``operation`` in a transaction and return its result once that is durable."""
        request = _Request(operation)
        self._waiting.append(request)
        while not request.done:
            with self._leading:
                if not request.done:
                    self._lead(request)
        if request.error is not None:
            raise request.error
        return request.result

    def _lead(self, own: _Request) -> None:
        batch: list[_Request] = []
        while self._waiting and len(batch) < self._batch_limit:
            batch.append(self._waiting.popleft())
        try:
            self._run(batch)
        except BaseException:
            # Only an interrupt gets here. What is not done goes back to the front, in order, for the next leader; the
            # interrupted caller's own operation is dropped, since nobody waits for it.
            self._waiting.extendleft(request for request in reversed(batch) if not (request.done or request is own))
            raise

    def _run(self, batch: list[_Request]) -> None:
        try:
            connection = self._source.begin()
        except Exception as error:  # noqa: BLE001 - handed to the callers
            self._fail(batch, error)
            return
        try:
            self._transact(connection, batch)
        except Exception as error:  # noqa: BLE001 - as above
            if len(batch) == 1:
                self._fail(batch, error)
            else:
                for request in batch:
                    self._run([request])

    def _transact(self, connection: Any, batch: list[_Request]) -> None:
        results: list[Any] = []
        try:
            results.extend(request.operation(connection) for request in batch)
            self._source.commit()
            self._settle(batch, results)
        except Exception:
            self._source.rollback()
            raise
        except BaseException:
            # An interrupt can arrive after the commit; then there is nothing left to roll back, and the batch is done.
            if not self._source.rollback() and len(results) == len(batch):
                self._settle(batch, results)
            raise

    @staticmethod
    def _settle(batch: list[_Request], results: list[Any]) -> None:
        for request, result in zip(batch, results, strict=True):
            request.result = result
            request.done = True

    @staticmethod
    def _fail(batch: list[_Request], error: Exception) -> None:
        for request in batch:
            request.error = error
            request.done = True
