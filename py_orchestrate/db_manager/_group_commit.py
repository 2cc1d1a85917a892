"""Group commit: threads that write at the same moment share one transaction.

There is no writer thread. The calling thread that gets the lock leads: it takes every waiting operation, runs them in
one transaction, and so pays for one flush to disk; the others find their operation done when they get the lock. A lone
writer therefore costs no hand-over between threads, and eight of them cost one flush instead of eight.

Guarantees, which the tests hold it to:

* ``submit`` returns only after the transaction that holds its operation is committed.
* An operation that raises does not harm its neighbours: the batch is rolled back and each is run in a transaction of its
  own.
* A leader that is interrupted (Ctrl+C in the main thread) leaves its followers' operations to the next leader.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .._forks import watch_forks

Operation = Callable[[Any], Any]
"""What to do inside a transaction, given the connection; may be called again after a rollback."""


class TransactionSource(Protocol):
    """Where the leader gets its transaction from."""

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
        watch_forks(self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's waiting operations, whose threads are not here."""
        self._waiting = deque()
        self._leading = threading.Lock()

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
        batch = []
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
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - handed to the callers, each of which raises its own
            if len(batch) == 1:
                batch[0].error = error
                batch[0].done = True
            else:
                for request in batch:
                    self._run([request])

    def _transact(self, batch: list[_Request]) -> None:
        connection = self._source.begin()
        results = []
        try:
            for request in batch:
                results.append(request.operation(connection))
            self._source.commit()
        except Exception:
            self._source.rollback()
            raise
        except BaseException:
            # An interrupt can arrive between the commit and the next line; then there is nothing left to roll back,
            # and the batch is done.
            if not self._source.rollback() and len(results) == len(batch):
                self._settle(batch, results)
            raise
        self._settle(batch, results)

    @staticmethod
    def _settle(batch: list[_Request], results: list[Any]) -> None:
        for request, result in zip(batch, results, strict=True):
            request.result = result
            request.done = True
