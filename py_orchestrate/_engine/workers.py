"""Threads that run work, and a thread that runs an event loop.

The threads are daemons, not those of ``concurrent.futures.ThreadPoolExecutor``: the interpreter joins that one's
threads at exit, after it has begun to refuse new work, and so a script that falls off its end would wait for whole
workflows, or for ever. What has to end in order is ended by ``exits.py``.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .._forks import end_forked_child

if TYPE_CHECKING:
    import asyncio

_logger = logging.getLogger(__name__)


class _Worker:
    """A thread of a pool: while it is idle, ``turn`` is released when there is ``work``, or it is to end."""

    __slots__ = ("turn", "work")

    def __init__(self) -> None:
        self.work: Callable[[], None] | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class WorkerPool:
    """Up to ``limit`` threads, started when needed; what is submitted beyond that waits in a queue.

    Work is handed to one idle thread, the one that was busy last, by a lock of its own: with a ``queue.Queue`` or a
    condition that all share, the thread that is woken has to wait a second time, for their lock.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._queue: deque[Callable[[], None]] = deque()
        self._idle: list[_Worker] = []
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._stopped = False
        self._lock = threading.Lock()

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work`` on one of the threads."""
        with self._lock:
            if not self._idle:
                self._queue.append(work)
                self._serve_queue()
                return
            worker = self._idle.pop()
            worker.work = work
        worker.turn.release()

    def change_limit(self, by: int) -> None:
        """Allow more threads, or fewer: those that are running are not ended."""
        with self._lock:
            self._limit += by
            self._serve_queue()  # what was submitted under a lower limit

    def stop(self) -> None:
        """Let the threads end when the queue is empty."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.turn.release()

    def owns_current_thread(self) -> bool:
        """Return whether the calling thread is one of these."""
        return threading.current_thread() in self._threads

    def _serve_queue(self) -> None:
        """Start a thread for what waits, if one more is allowed; the lock is held, and nobody is idle."""
        if self._queue and len(self._threads) < self._limit:
            self._started += 1
            thread = threading.Thread(
                target=self._main, name=f"py_orchestrate-{self._name}-{self._started}", daemon=True
            )
            self._threads.add(thread)
            thread.start()

    def _main(self) -> None:
        worker = _Worker()
        while (work := self._next(worker)) is not None:
            try:
                work()
            except BaseException:
                _logger.exception("unexpected error on thread %s", threading.current_thread().name)
            del work  # a waiting thread must not keep the last run's objects alive
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self, worker: _Worker) -> Callable[[], None] | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            if self._stopped:
                return None
            self._idle.append(worker)
        worker.turn.acquire()
        work, worker.work = worker.work, None
        return work


class EventLoopThread:
    """An asyncio event loop on a thread of its own, started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(
        self, coroutine: Coroutine[Any, Any, Any], on_start: Callable[[Callable[[], object]], object] | None = None
    ) -> Any:
        """Run the coroutine on the loop and wait for what it comes to.

        Args:
            coroutine: What to run.
            on_start: Is handed what cancels it.
        """
        import asyncio  # half of this package's import time, and needed by async activities only

        future = asyncio.run_coroutine_threadsafe(_outcome(coroutine), self._started_loop())
        if on_start is not None:
            on_start(future.cancel)
        error, result = future.result()
        if error is not None:
            raise error
        return result

    def owns_current_thread(self) -> bool:
        """Return whether the calling thread is the loop's."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the loop's thread."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="py_orchestrate-event-loop", daemon=True
                )
                self._thread.start()
            return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _outcome(coroutine: Coroutine[Any, Any, Any]) -> tuple[BaseException | None, Any]:
    # Caught in here, so that a SystemExit does not end the loop and a CancelledError stays what it is.
    process = os.getpid()
    try:
        result = await coroutine
    except BaseException as error:  # noqa: BLE001 - raised again by run()
        end_forked_child(process, error)
        return error, None
    end_forked_child(process)
    return None, result
