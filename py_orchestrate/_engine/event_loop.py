"""The event loop of an async workflow: deterministic, on the workflow's own thread, and without a clock of its own.

Callbacks run in the order in which they were scheduled, so the code's way is fixed by what it waits for. When nothing
can run, the loop waits for the first of all that the tasks wait for (activities, child workflows, events, timers), and
which it was is recorded; where there is only one, nothing is. asyncio keeps tasks in sets (a ``TaskGroup`` cancels its
tasks in the order of one), so the loop's tasks and futures are hashed by the order in which they were made, and not by
their addresses, which are others in each run. A delay of the loop's (``asyncio.sleep``,
``asyncio.timeout``) is a durable timer, and ``time()`` goes by these alone. What would bring in something that is not
recorded (sockets, threads, child processes) is refused.

A run that leaves its worker closes its coroutines where they stand; what they do then counts for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any, NoReturn, Protocol

from .._context import set_scope
from .._futures import Pending
from ..errors import DurableCallError, WorkflowCancelled
from .interrupts import Interrupts
from .journal import Journal

_logger = logging.getLogger(__name__)


class LoopHost(Protocol):
    """What the loop needs of the run around it."""

    journal: Journal

    def loop_timer(self, seconds: float) -> Pending:
        """Return a timer that has begun."""
        ...

    def ended(self, candidates: Sequence[Pending]) -> list[int]:
        """Return the ordinals of those that have come to an end, when one has."""
        ...

    def is_outcome(self, error: BaseException) -> bool:
        """Return whether a call has come to this failure."""
        ...


class _Entry:
    """Somebody who waits for something: a task, by a future, or a callback that is due at a time."""

    def __init__(
        self, pending: Pending, waiter: asyncio.Future[Any] | asyncio.TimerHandle, *, is_shielded: bool
    ) -> None:
        self.pending = pending
        self.waiter = waiter
        self.is_shielded = is_shielded

    @property
    def is_live(self) -> bool:
        """Whether the waiter still waits."""
        if isinstance(self.waiter, asyncio.TimerHandle):
            return not self.waiter.cancelled()
        return not self.waiter.done()


class _Task(asyncio.Task[Any]):
    """A task that has the same place in a set in every replay: small whole numbers are their own hashes."""

    def __init__(self, coroutine: Any, *, ordinal: int, **options: Any) -> None:
        self._ordinal = ordinal  # first: asyncio puts a task into a set while it is made
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._ordinal


class _Future(asyncio.Future[Any]):
    """A future that has the same place in a set in every replay."""

    def __init__(self, *, ordinal: int, loop: asyncio.AbstractEventLoop) -> None:
        self._ordinal = ordinal
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._ordinal


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The loop of one attempt of one run."""

    def __init__(self, host: LoopHost, interrupts: Interrupts) -> None:
        self._host = host
        self._interrupts = interrupts
        self._ready: deque[asyncio.Handle] = deque()
        self._entries: list[_Entry] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._ordinals = itertools.count()  # of its tasks and futures
        self._main: asyncio.Task[Any] | None = None
        self._task_factory: Any = None
        self._is_main_cancelled = False
        self._time = 0.0
        self._is_closed = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the workflow's coroutine to its end, and then what it has left running, cancelled, to theirs.

        Raises:
            Unwind: The run leaves its worker.
            WorkflowCancelled: The run was cancelled, and has cleaned up.
            BaseException: What the coroutine raised.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented for those who implement loops
            coroutine.close()
            raise DurableCallError("an async workflow cannot be run inside a running event loop")
        asyncio._set_running_loop(self)  # noqa: SLF001 - as above
        try:
            main = self._main = self.create_task(coroutine)
            self._drive(main.done)
            left = [task for task in self._tasks if not task.done()]
            for task in left:
                task.cancel()
            self._drive(lambda: all(task.done() for task in left))
            return self._outcome(main)
        finally:
            self._close()
            asyncio._set_running_loop(None)  # noqa: SLF001 - as above

    def wait(self, pending: Pending) -> Generator[Any, None, Any]:
        """Wait for the end of a call; what ``await future`` goes through.

        A failure is raised here, where the wait is. What asyncio raises in a task, it raises from outside: it refuses
        to do so with ``StopIteration``, and with ``GeneratorExit`` it would close the coroutines further in.

        Raises:
            DurableCallError: The future belongs to another run.
            BaseException: What the call failed with.
        """
        if pending.journal is not self._host.journal:
            raise DurableCallError("a future of another run was awaited")
        self._interrupts.guard()
        future: asyncio.Future[Any] = asyncio.Future(loop=self)
        self._entries.append(_Entry(pending, future, is_shielded=self._interrupts.is_shielded))
        value, error = yield from future
        if error is not None:
            raise error  # Python makes a RuntimeError of StopIteration here, as it does at every coroutine's edge
        return value

    # --- driving ------------------------------------------------------------------------------------------------------

    def _drive(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            if not self._ready:
                self._wait()
            while self._ready and not is_over():
                handle = self._ready.popleft()
                if not handle.cancelled():
                    self._run(handle)
                if self._host.journal.left is not None:  # raised in a task, which keeps it for itself
                    raise self._host.journal.left

    def _run(self, handle: asyncio.Handle) -> None:
        try:
            handle._run()  # noqa: SLF001 - what every loop calls
        except (KeyboardInterrupt, SystemExit) as error:
            # A task raises these beside keeping them. Here they are an activity's failure, for whoever awaits the task.
            if not self._host.is_outcome(error):
                raise

    def _wait(self) -> None:
        """Wait for the first of all that is waited for, and make ready who waits for it."""
        self._entries = [entry for entry in self._entries if entry.is_live]
        if self._interrupts.raised is not None and self._cancel(self._interrupts.raised):
            return
        if not self._entries:
            self._host.journal.fail(
                DurableCallError(
                    "the workflow awaits something that is not durable, or that nothing in it brings about: nothing is "
                    "left to run or to wait for. Await activities, child workflows, timers and events; what talks to "
                    "the world belongs into an activity"
                )
            )
        all_shielded = all(entry.is_shielded for entry in self._entries)
        candidates = list({entry.pending.sequence: entry.pending for entry in self._entries}.values())
        try:
            with self._interrupts.shield() if all_shielded else contextlib.nullcontext():
                over = self._host.ended(candidates) if len(candidates) > 1 else [candidates[0].sequence]
                for sequence in over:
                    self._settle(next(each for each in candidates if each.sequence == sequence))
        except WorkflowCancelled as signal:
            self._cancel(signal)

    def _settle(self, pending: Pending) -> None:
        """Hand what a call came to, to all who wait for it.

        Raises:
            WorkflowCancelled: The workflow is cancelled instead.
        """
        value, error = None, None
        try:
            value = pending.settle()
        except WorkflowCancelled:
            raise
        except BaseException as raised:
            if self._host.journal.left is not None:
                raise
            error = raised
        for entry in self._entries:
            if entry.pending is not pending or not entry.is_live:
                continue
            if isinstance(entry.waiter, asyncio.TimerHandle):
                self._time = max(self._time, entry.waiter.when())
                self._ready.append(entry.waiter)
            else:
                entry.waiter.set_result((value, error))
        self._entries = [entry for entry in self._entries if entry.pending is not pending]

    def _cancel(self, signal: WorkflowCancelled) -> bool:
        """Raise the workflow's cancellation in the tasks that wait, but for those under a shield.

        Returns:
            Whether anybody was told; a delay of asyncio's own cannot be, and is only forgotten.
        """
        told = False
        for entry in self._entries:
            if isinstance(entry.waiter, asyncio.Future) and entry.is_live and not entry.is_shielded:
                entry.waiter.set_exception(WorkflowCancelled(str(signal), signal.reason))
                told = True
        self._entries = [entry for entry in self._entries if entry.is_live and entry.is_shielded]
        if not told and not self._entries and not self._is_main_cancelled:
            assert self._main is not None  # noqa: S101 - it is what is driven
            self._is_main_cancelled = told = self._main.cancel()  # in the end it waits for such a delay
        return told

    def _outcome(self, main: asyncio.Task[Any]) -> Any:
        raised = self._interrupts.raised
        if raised is not None and (main.cancelled() or _is_cancellation(main.exception())):
            raise WorkflowCancelled(str(raised), raised.reason)
        return main.result()

    def _close(self) -> None:
        """Close what is left, here and now: what a garbage collector closes, it closes on any thread."""
        self._is_closed = True
        for task in self._tasks:
            if task.done():
                if not task.cancelled():
                    task.exception()  # it has been seen: nobody has to be told of it
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio.gather does
            coroutine = task.get_coro()
            # What it does with the signal counts for nothing, as everything that a run does after it has left.
            with contextlib.suppress(BaseException):
                coroutine.close()  # type: ignore[union-attr]
        self._tasks.clear()
        self._entries.clear()
        self._ready.clear()

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Run a callback after those that are ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after a delay, which is a durable timer."""
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        """Run a callback at a time of ``time()``."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if when <= self._time:
            self._ready.append(handle)
        else:
            timer = self._host.loop_timer(when - self._time)
            self._entries.append(_Entry(timer, handle, is_shielded=self._interrupts.is_shielded))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by a handle; ``_wait`` leaves it out."""

    def time(self) -> float:
        """Return the seconds that the loop's timers have taken: the same in every replay."""
        return self._time

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return _Future(ordinal=next(self._ordinals), loop=self)

    def create_task(self, coro: Any, *, context: Context | None = None, **options: Any) -> asyncio.Task[Any]:
        """Run a coroutine beside the others.

        Raises:
            DurableCallError: ``asyncio.as_completed`` was given a coroutine. It takes tasks in a fixed order only.
        """
        if _is_called_by_as_completed():
            coro.close()
            raise DurableCallError(
                "an async workflow cannot hand coroutines to asyncio.as_completed(), which would begin them in another "
                "order in each run. Begin them first: durable.as_completed() takes what act.submit() returns, and "
                "asyncio.as_completed() takes tasks of asyncio.create_task()"
            )
        context = copy_context() if context is None else context
        context.run(set_scope, self._host)  # type: ignore[arg-type]  # a context of the user's own may lack it
        if self._task_factory is not None:
            options.setdefault("eager_start", True)
        task = _Task(coro, ordinal=next(self._ordinals), loop=self, context=context, **options)
        self._tasks.append(task)
        return task

    def set_task_factory(self, factory: Any) -> None:
        """Let tasks begin at once, with ``asyncio.eager_task_factory``, or in their turn, with ``None``.

        Raises:
            DurableCallError: It is another factory, whose tasks would have another place in a set in each run.
        """
        if factory is not None and factory is not asyncio.eager_task_factory:
            raise DurableCallError(
                "an async workflow takes no task factory but asyncio.eager_task_factory: a TaskGroup would cancel the "
                "tasks of another one in another order in each run"
            )
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """Return what makes the tasks."""
        return self._task_factory

    def is_running(self) -> bool:
        """Return whether the workflow's code may still run."""
        return not self._is_closed

    def is_closed(self) -> bool:
        """Return whether it may not."""
        return self._is_closed

    def get_debug(self) -> bool:
        """Return whether asyncio's debugging is on: never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what went wrong where nobody waits for it."""
        if self._is_closed or self._host.journal.is_replaying:
            return
        error = context.get("exception")
        _logger.error(
            "workflow %r (%s): %s",
            self._host.journal.record.name,
            self._host.journal.record.id,
            context["message"],
            exc_info=None if error is None else (type(error), error, error.__traceback__),
        )

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: there are none that would have to be ended from outside."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Do nothing: there is none."""


def _is_called_by_as_completed() -> bool:
    """Return whether the caller's caller is ``asyncio.as_completed``, which puts what it is given into a set first."""
    caller = sys._getframe(2)  # noqa: SLF001 - nothing else tells who asks for the task
    if caller.f_code is not asyncio.ensure_future.__code__ or caller.f_back is None:
        return False
    code = caller.f_back.f_code
    return code.co_filename == caller.f_code.co_filename and code.co_qualname.startswith(
        ("as_completed", "_AsCompletedIterator")
    )


def _is_cancellation(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancellation, error.exceptions))
    return isinstance(error, WorkflowCancelled | asyncio.CancelledError)


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: Any, **_options: Any) -> NoReturn:
        raise DurableCallError(
            f"an async workflow cannot use the event loop's {name}(): what it brings could not be recorded. Await an "
            "activity that does it; an activity may be async, and runs on an ordinary event loop"
        )

    return refuse


for _name in sorted(set(dir(asyncio.AbstractEventLoop)) - set(vars(WorkflowLoop))):
    if not _name.startswith("_"):
        setattr(WorkflowLoop, _name, _refusal(_name))
