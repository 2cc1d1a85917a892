"""The future of what a workflow has begun: an activity, a child workflow, a timer, an event that it expects."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, cast

from ._context import Unwind, WorkflowScope, calling_scope, current_scope
from .errors import DurableCallError, WorkflowCancelled

if TYPE_CHECKING:
    from datetime import datetime


def _raise(error: Exception) -> NoReturn:
    raise error


class Pending(Protocol):
    """What a future waits for, as the engine sees it."""

    @property
    def journal(self) -> object:
        """What tells the run that it belongs to from others."""
        ...

    @property
    def sequence(self) -> int:
        """The ordinal of the call that began it."""
        ...

    @property
    def delays_cancellation(self) -> bool:
        """Whether a workflow that waits for it and is cancelled waits for its end first."""
        ...

    @property
    def wake(self) -> tuple[datetime, str | None] | None:
        """What the run waits for in its place, without a thread: a time, and a signal; see ``WorkflowRecord``.

        ``None`` while it is an activity whose body runs in this process: it is waited for on the workflow's thread.
        """
        ...

    def look(self) -> bool:
        """Return whether it has come to an end, which is recorded then."""
        ...

    def settle(self) -> Any:
        """Wait for the end, and return or raise what it came to."""
        ...


class DurableFuture[T]:
    """What ``submit`` returns: a result that is or will be recorded. In an async workflow it can be awaited.

    It deliberately has no ``done()``: whether a call has ended yet differs between a first run and a replay, and a
    workflow that looked would not replay. ``durable.wait_any`` and ``durable.as_completed`` tell, and record it.
    """

    def __init__(self, settle: Callable[[], T], pending: Pending | None = None) -> None:
        """Make a future.

        Args:
            settle: Waits for the result and returns it, as often as it is asked.
            pending: What the engine knows of it; ``None`` where the call was made already.
        """
        self._settle = settle
        self.pending = pending

    @classmethod
    def of_call(cls, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Self:
        """Return the future of a call that is made here and now."""
        try:
            found = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised by result()
            return cls(partial(_raise, error))
        return cls(lambda: found)

    @classmethod
    def of_pending(cls, pending: Pending) -> Self:
        """Return the future of a call whose end the engine waits for."""
        return cls(pending.settle, pending)

    def result(self) -> T:
        """Wait for the call to end and return its result.

        Raises:
            Exception: What the activity or the child workflow raised.
            DurableCallError: The calling thread was started by the workflow itself, or the workflow is async, and has
                to await the future.
        """
        scope = current_scope()  # refuses a thread that the workflow started
        if self.pending is not None and scope is not None and scope.is_async:
            raise DurableCallError("an async workflow awaits a future: write 'await future', not future.result()")
        return self._settle()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the call to end, in an async workflow."""
        scope = calling_scope()
        if self.pending is None or scope is None or not scope.is_async:
            return self.result()
            yield  # makes this a generator, as __await__ has to return one
        found: T = yield from cast("WorkflowScope", scope).wait_async(self.pending)
        return found

    @staticmethod
    def results(futures: Iterable[DurableFuture[Any]], *, return_exceptions: bool = False) -> list[Any]:
        """Wait for all and return the results in order; see ``durable.gather``."""
        outcomes = _Outcomes()
        for future in list(futures):
            try:
                outcomes.values.append(future.result())
            except BaseException as error:  # noqa: BLE001 - decided there
                outcomes.add(error)
        return outcomes.results(return_exceptions=return_exceptions)

    @staticmethod
    async def results_async(futures: Iterable[DurableFuture[Any]], *, return_exceptions: bool = False) -> list[Any]:
        """Do what ``results`` does, in an async workflow."""
        outcomes = _Outcomes()
        for future in list(futures):
            try:
                outcomes.values.append(await future)
            except BaseException as error:  # noqa: BLE001 - decided there
                outcomes.add(error)
        return outcomes.results(return_exceptions=return_exceptions)


def in_async_workflow() -> bool:
    """Return whether the calling code is that of an async workflow, where calls are awaited."""
    scope = calling_scope()
    return scope is not None and scope.is_async


def is_outcome_of_call(error: BaseException) -> bool:
    """Return whether a call of the workflow failed with this; an activity may raise what is else a signal."""
    scope = calling_scope()
    return scope is not None and scope.is_workflow and cast("WorkflowScope", scope).is_outcome(error)


def results_of[R](submit: Callable[..., DurableFuture[R]], iterables: Iterable[Iterable[Any]]) -> list[R]:
    """Submit a call for each item and return the results in order; awaited, in an async workflow."""

    def futures() -> list[DurableFuture[R]]:
        return [submit(*items) for items in zip(*iterables, strict=False)]

    if in_async_workflow():
        return cast("list[R]", awaited_results(futures))
    return DurableFuture.results(futures())


async def awaited_results(futures: Callable[[], Iterable[DurableFuture[Any]]]) -> list[Any]:
    """Begin several calls and wait for their ends, in an async workflow."""
    return await DurableFuture.results_async(futures())


async def awaited(begin: Callable[..., DurableFuture[Any]], /, *args: Any, **kwargs: Any) -> Any:
    """Make a call and wait for its end, in an async workflow: what the call itself is there, a coroutine."""
    return await begin(*args, **kwargs)


class _Outcomes:
    """What several calls came to, in order."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._first_error: BaseException | None = None

    def add(self, error: BaseException) -> None:
        """Note a failure, or raise what is none.

        Raises:
            BaseException: The run is to leave or is cancelled, or the task that waits is.
        """
        # asyncio's CancelledError by its name: importing asyncio would double the time of the import.
        is_signal = isinstance(error, GeneratorExit) or type(error).__name__ == "CancelledError"
        if isinstance(error, Unwind | WorkflowCancelled) or (is_signal and not is_outcome_of_call(error)):
            raise error
        self._first_error = self._first_error or error
        self.values.append(error)

    def results(self, *, return_exceptions: bool) -> list[Any]:
        """Return them.

        Raises:
            BaseException: The first failure, by order.
        """
        if self._first_error is not None and not return_exceptions:
            raise self._first_error
        return self.values
