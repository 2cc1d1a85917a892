"""Undoing what a workflow did, when it cannot be finished."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ._context import Unwind, calling_scope, workflow_scope
from ._futures import in_async_workflow, is_outcome_of_call
from .decorators import Activity, Workflow
from .errors import CompensationError, DurableCallError


class Saga:
    """A block of steps that are undone if one of them fails: ``with durable.Saga() as saga: ...``.

    Register how a step is undone with ``add``, before the step where it may have an effect although it fails (a request
    that times out), after it where undoing it needs its result. If the block raises, or the workflow is cancelled in
    it, the compensations run in reverse order, each as a durable step, under a shield; then the exception goes on. A
    crash in the middle of that does not matter: what was undone is not undone twice, and the rest follows.

    The pattern: Garcia-Molina and Salem, "Sagas", SIGMOD 1987.
    """

    def __init__(self) -> None:
        self._compensations: list[tuple[Activity[..., Any] | Workflow[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._is_open = False

    def __enter__(self) -> Self:
        """Begin the block.

        Raises:
            DurableCallError: The workflow is async.
        """
        if in_async_workflow():
            raise DurableCallError("an async workflow writes 'async with durable.Saga() as saga'")
        return self._open()

    async def __aenter__(self) -> Self:
        """Begin the block, in an async workflow."""
        return self._open()

    def _open(self) -> Self:
        self._is_open = True
        return self

    def add(self, compensation: Callable[..., Any] | None = None, /, *args: Any, **kwargs: Any) -> None:
        """Register what undoes a step.

        Args:
            compensation: An activity or a workflow, perhaps with ``options``.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            TypeError: It is something else, which could not be recorded.
            DurableCallError: The saga's block has not begun, or has ended.
        """
        if not self._is_open:
            raise DurableCallError("saga.add() works inside its block only: with durable.Saga() as saga: ...")
        if compensation is None:
            raise TypeError("saga.add() needs a compensation: the activity that undoes the step, and its arguments")
        if not isinstance(compensation, Activity | Workflow):
            shown = getattr(compensation, "__name__", type(compensation).__name__)
            hint = " and pass it without calling it" if not callable(compensation) else ""
            raise TypeError(
                f"a compensation is an activity or a workflow, not {shown!r}, which could not be recorded: decorate it "
                f"with @activity{hint}"
            )
        self._compensations.append((compensation, args, kwargs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the block, and undo it if it failed.

        Raises:
            CompensationError: Some of the compensations failed; the others have run.
        """
        if not self._close(error):
            return
        failures = []
        with _shield():
            while self._compensations:
                compensation, args, kwargs = self._compensations.pop()
                try:
                    compensation(*args, **kwargs)
                except Exception as failure:  # noqa: BLE001 - recorded, and told at the end; the others must run
                    failures.append(_told(compensation, failure))
        _raise(failures, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the block, and undo it if it failed, in an async workflow.

        Raises:
            CompensationError: Some of the compensations failed; the others have run.
        """
        if not self._close(error):
            return
        import inspect  # takes long to import; an async workflow has it anyway

        failures = []
        with _shield():
            while self._compensations:
                compensation, args, kwargs = self._compensations.pop()
                try:
                    undone = compensation(*args, **kwargs)
                    if inspect.isawaitable(undone):
                        await undone
                except Exception as failure:  # noqa: BLE001 - as above
                    failures.append(_told(compensation, failure))
        _raise(failures, error)

    def _close(self, error: BaseException | None) -> bool:
        """End the block; return whether it is to be undone."""
        self._is_open = False
        # A run that only leaves its worker comes back.
        if isinstance(error, GeneratorExit):
            return is_outcome_of_call(error)
        return error is not None and not isinstance(error, Unwind)


def _shield() -> contextlib.AbstractContextManager[None]:
    scope = calling_scope()
    in_workflow = scope is not None and scope.is_workflow
    return workflow_scope("a saga").shield() if in_workflow else contextlib.nullcontext()


def _told(compensation: Activity[..., Any] | Workflow[..., Any], failure: Exception) -> str:
    return f"{compensation.name}: {type(failure).__name__}: {failure}"


def _raise(failures: list[str], error: BaseException | None) -> None:
    if failures:
        raise CompensationError(
            f"{len(failures)} of the saga's compensations failed: {'; '.join(failures)}", failures
        ) from error
