"""The future of an activity or a child workflow that was submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Self

from ._context import Unwind, current_scope
from .errors import WorkflowCancelled


class DurableFuture[T]:
    """What ``submit`` returns: a result that is or will be recorded.

    It deliberately has no ``done()``: whether a call has ended yet differs between a first run and a replay, and a
    workflow that looked would not replay.
    """

    def __init__(self, settle: Callable[[], T]) -> None:
        """Make a future of what waits for its result and returns it, as often as it is asked."""
        self._settle = settle

    @classmethod
    def of_call(cls, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Self:
        """Return the future of a call that is made here and now."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised by result()
            future.set_exception(error)
        return cls(future.result)

    def result(self) -> T:
        """Wait for the call to end and return its result.

        Raises:
            Exception: What the activity or the child workflow raised.
            DurableCallError: The calling thread was started by the workflow itself.
        """
        current_scope()  # refuses a thread that the workflow started
        return self._settle()

    @staticmethod
    def results(futures: Iterable[DurableFuture[Any]], *, return_exceptions: bool = False) -> list[Any]:
        """Wait for all and return the results in order; see ``durable.gather``."""
        outcomes: list[Any] = []
        first_error: BaseException | None = None
        for future in list(futures):
            try:
                outcomes.append(future.result())
            except (Unwind, WorkflowCancelled):
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, or handed to the caller who asked for it
                first_error = first_error or error
                outcomes.append(error)
        if first_error is not None and not return_exceptions:
            raise first_error
        return outcomes
