"""What a workflow calls: ``from py_orchestrate import durable``.

Everything here works inside a workflow, on the workflow's own thread, and says so where it is called elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from ._context import Scope, calling_scope, current_scope
from ._futures import DurableFuture
from ._identifiers import check_name
from .errors import DurableCallError

__all__ = ["ActivityInfo", "DurableFuture", "WorkflowInfo", "call_activity", "gather", "info", "logger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowInfo:
    """Where the calling workflow stands.

    Attributes:
        workflow_id: The run's id.
        name: The workflow's registered name.
        sequence: The ordinal that the next durable call will have, from 0.
        is_replaying: Whether the code is going over recorded steps; false from the first step that is not recorded.
    """

    workflow_id: str
    name: str
    sequence: int
    is_replaying: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityInfo:
    """Which call the running activity is.

    Attributes:
        workflow_id: The run that called it.
        workflow_name: That workflow's registered name.
        name: The activity's registered name.
        sequence: The call's ordinal in the workflow, from 0.
        idempotency_key: ``<workflow_id>:<sequence>``: the same each time this call runs, also after a crash; hand it to
            services that can recognise a repeated request.
    """

    workflow_id: str
    workflow_name: str
    name: str
    sequence: int
    idempotency_key: str


def gather(*futures: DurableFuture[Any], return_exceptions: bool = False) -> list[Any]:
    """Wait for submitted activities.

    Args:
        futures: What ``activity.submit`` returned; their order is the order of the results.
        return_exceptions: Put failures among the results instead of raising the first.

    Returns:
        The results, in order.

    Raises:
        Exception: The failure of the first activity, by order, that failed; every one has ended by then.
        TypeError: Something else than a future was given.
    """
    for position, future in enumerate(futures):
        if not isinstance(future, DurableFuture):
            raise TypeError(
                f"gather takes futures; argument {position} is {type(future).__name__}. Pass activity.submit(...), not "
                "activity(...)"
            )
    return DurableFuture.results(futures, return_exceptions=return_exceptions)


def call_activity(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call an activity by its registered name; a deleted one still serves its stored result.

    Raises:
        ActivityNotFoundError: The name is not registered and no result is stored.
        DurableCallError: Not called inside a workflow.
        ValueError: No activity can have the name.
    """
    scope = calling_scope()
    if scope is None:
        raise DurableCallError(f"durable.call_activity({name!r}) works inside a workflow only")
    check_name("activity", name)  # or the step could not be recorded
    return scope.call_activity(name, None, args, kwargs)


def info() -> WorkflowInfo | ActivityInfo:
    """Return where the calling code is: a ``WorkflowInfo`` in a workflow, an ``ActivityInfo`` in an activity.

    Raises:
        DurableCallError: Called in neither.
    """
    scope = current_scope()
    if scope is None:
        raise DurableCallError("durable.info() works inside a workflow or an activity only")
    found: WorkflowInfo | ActivityInfo = scope.info()
    return found


def _scope_to_log() -> Scope | None:
    """Return what stands around the calling code; nothing for a thread that a workflow started, which may log."""
    try:
        return current_scope()
    except DurableCallError:
        return None


class _DurableLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs each line of a workflow once, however often the workflow is replayed."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        scope = _scope_to_log()
        if scope is not None and scope.is_workflow and scope.info().is_replaying:
            return False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        scope = _scope_to_log()
        if scope is not None:
            found = scope.info()
            extra = {"workflow_id": found.workflow_id, "workflow_step": found.sequence}
            kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return msg, kwargs


logger = _DurableLogger(logging.getLogger("py_orchestrate.durable"))
"""A logger for workflows and activities: silent while a workflow is replaying, and its records carry ``workflow_id``
and ``workflow_step``. A line just before the point of a crash may be logged again, or, where the crash came right after
the step before it was stored, be missing."""
