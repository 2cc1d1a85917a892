"""The future of an activity that was submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Self

from ._context import Unwind, current_scope


class DurableFuture[T]:
    """What ``activity.submit`` returns: a result that is or will be recorded.

    It deliberately has no ``done()``: whether a call has ended yet differs between a first run and a replay, and a
    workflow that looked would not replay.
    """

    def __init__(self, future: Future[T], settle: Callable[[Future[T]], T]) -> None:
        """Wrap a future of the engine's; ``settle`` waits for it and is told of the interest in it."""
        self._future = future
        self._settle = settle

    @classmethod
    def of_call(cls, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Self:
        """Return the future of a call that is made here and now."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised by result()
            future.set_exception(error)
        return cls(future, Future.result)

    def result(self) -> T:
        """Wait for the activity and return its result.

        Raises:
            Exception: What the activity raised.
            DurableCallError: The calling thread was started by the workflow itself.
        """
        current_scope()  # refuses a thread that the workflow started
        return self._settle(self._future)

    @staticmethod
    def results(futures: Iterable[DurableFuture[Any]], *, return_exceptions: bool = False) -> list[Any]:
        """Wait for all and return the results in order; see ``durable.gather``."""
        outcomes: list[Any] = []
        first_error: BaseException | None = None
        for future in list(futures):
            try:
                outcomes.append(future.result())
            except Unwind:
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, or handed to the caller who asked for it
                first_error = first_error or error
                outcomes.append(error)
        if first_error is not None and not return_exceptions:
            raise first_error
        return outcomes
