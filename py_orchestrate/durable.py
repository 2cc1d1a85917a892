"""What a workflow calls: ``from py_orchestrate import durable``.

Everything here works inside a workflow, on the workflow's own thread, and says so where it is called elsewhere.
"""

from __future__ import annotations

import json
import logging
import random as _random
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from ._context import ActivityScope, Scope, WorkflowScope, calling_scope, current_scope, workflow_scope
from ._futures import DurableFuture, awaited, in_async_workflow, is_outcome_of_call
from ._identifiers import check_name
from ._options import NO_RUN_OPTIONS
from ._sagas import Saga
from ._times import later, seconds_of, utc_of
from .errors import DurableCallError, WorkflowCancelled

if TYPE_CHECKING:
    import uuid

__all__ = [
    "ActivityInfo",
    "DurableFuture",
    "Saga",
    "WorkflowCancelled",
    "WorkflowInfo",
    "as_completed",
    "call_activity",
    "call_workflow",
    "continue_as_new",
    "create_timer",
    "expect_event",
    "gather",
    "heartbeat",
    "info",
    "logger",
    "now",
    "patched",
    "random",
    "set_custom_status",
    "shield",
    "sleep",
    "sleep_until",
    "uuid4",
    "wait_any",
    "wait_for_event",
]


class WorkflowInfo(NamedTuple):
    """Where the calling workflow stands.

    Attributes:
        workflow_id: The run's id.
        name: The workflow's registered name.
        version: The version of the code that the run began with, as ``@workflow(version=...)`` names it; ``None`` for
            none.
        attempt: How often a worker has taken the run up, this time included: after a crash, and after each wait.
        sequence: The ordinal that the next durable call will have, from 0.
        is_replaying: Whether the code is going over recorded steps; false from the first step that is not recorded.
        scheduled_at: The time of its schedule that it was started for, aware, UTC; ``None`` where no schedule started
            it.
    """

    workflow_id: str
    name: str
    version: str | None
    attempt: int
    sequence: int
    is_replaying: bool
    scheduled_at: datetime | None = None


class ActivityInfo(NamedTuple):
    """Which call the running activity is.

    Attributes:
        workflow_id: The run that called it.
        workflow_name: That workflow's registered name.
        name: The activity's registered name.
        sequence: The call's ordinal in the workflow, from 0.
        idempotency_key: ``<workflow_id>:<sequence>``: the same each time this call runs, also after a crash; hand it to
            services that can recognise a repeated request.
        attempt: Which attempt this is, from 1. One that a crash interrupted runs again under its number.
        cancel_requested: Whether the activity had better end: it was timed out, or its workflow is to be cancelled.
            Each call of ``info()`` looks again.
    """

    workflow_id: str
    workflow_name: str
    name: str
    sequence: int
    idempotency_key: str
    attempt: int
    cancel_requested: bool


def now() -> datetime:
    """Return the time, aware, in UTC: the same in every replay.

    Raises:
        DurableCallError: Not called in a workflow's own code.
    """
    return workflow_scope("durable.now()").now()


def uuid4() -> uuid.UUID:
    """Return a random UUID, the same in every replay.

    Raises:
        DurableCallError: Not called in a workflow's own code.
    """
    import uuid  # takes long to import, and is seldom needed

    found: uuid.UUID = workflow_scope("durable.uuid4()").record_value("uuid4", uuid.uuid4)
    return found


def random() -> float:
    """Return a random number from 0 up to, but not including, 1: the same in every replay. Not for secrets.

    Raises:
        DurableCallError: Not called in a workflow's own code.
    """
    found: float = workflow_scope("durable.random()").record_value("random", _random.random)
    return found


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """Let the workflow begin anew, with other arguments and without its history: for workflows that never end.

    The run keeps its id, its parent, its time limit, its custom status, and the events that it has not taken. What it
    submitted is waited for; child workflows that it does not wait for go on. Nothing after this call is run: code in
    ``finally`` and ``with`` blocks may run, but durable calls in it do nothing.

    Args:
        args: The workflow's new positional arguments.
        kwargs: Its new keyword arguments.

    Raises:
        TypeError: They do not fit; the run goes on.
        SerializationError: They cannot be stored; the run goes on.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot do it.
    """
    workflow_scope("durable.continue_as_new()").continue_as_new(args, kwargs)


def patched(change_id: str) -> bool:
    """Return whether the code after a change is to run: ``if durable.patched("tax"): ... else: ...``.

    True in runs that get here for the first time, which is recorded; false in runs whose history went on from here
    before the change, so that they replay the code that they began with. Once no such run is left, the old branch can
    go. All calls of a run with one id, in a loop for example, have the same answer.

    Args:
        change_id: A name for the change, that no other place of the workflow has.

    Raises:
        DurableCallError: Not called in a workflow's own code, or another place has the id.
        ValueError: The id is blank.
        TypeError: The id is no string.
    """
    scope = workflow_scope("durable.patched()")
    check_name("change", change_id)
    caller = sys._getframe(1)  # noqa: SLF001 - cheaper than inspect, and all that tells a loop from a second place
    return scope.patched(change_id, f"{caller.f_code.co_filename}:{caller.f_lineno}")


def set_custom_status(value: Any) -> None:
    """Publish how the workflow stands, in its own words, for ``Orchestrator.get_custom_status`` in any process.

    It is stored with the workflow's next step, or within a moment where that takes long, and kept when the run ends.

    Args:
        value: Anything that can be stored.

    Raises:
        SerializationError: The value cannot be stored.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot keep it.
    """
    workflow_scope("durable.set_custom_status()").publish(value)


def sleep(duration: float | timedelta) -> None:
    """Wait, without a thread: the workflow leaves its worker and goes on when the time has come, wherever that is.

    The time is fixed when the call is made for the first time; a crash or a restart does not move it.

    Args:
        duration: Seconds, or a ``timedelta``; to the microsecond.

    Raises:
        ValueError: It is negative, not finite, or ends after the year 9999.
        TypeError: It is neither a number nor a ``timedelta``.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot keep runs that wait.
    """
    scope = workflow_scope("durable.sleep()")
    seconds = seconds_of(duration, "the duration of durable.sleep()")
    text = json.dumps({"seconds": seconds})
    found: None = _waited(scope, lambda: scope.timer(lambda now: later(now, seconds), text, begin=False))
    return found


def sleep_until(moment: datetime) -> None:
    """Wait for a time, as ``sleep`` does; one that has passed is not waited for.

    Args:
        moment: The time, with a time zone.

    Raises:
        ValueError: It has no time zone.
        TypeError: It is no ``datetime``.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot keep runs that wait.
    """
    scope = workflow_scope("durable.sleep_until()")
    utc = utc_of(moment, "durable.sleep_until()")
    text = json.dumps({"until": utc.isoformat()})
    found: None = _waited(scope, lambda: scope.timer(lambda _: utc, text, begin=False))
    return found


def create_timer(due: float | timedelta | datetime) -> DurableFuture[None]:
    """Start a timer and return its future: to wait for a time or for something else, whichever comes first.

    ``durable.wait_any(work, durable.create_timer(60))``; a timer that is not waited for in the end costs nothing.

    Args:
        due: Seconds or a ``timedelta`` from now, counted from the first time that the call is made; or a time, with a
            time zone.

    Raises:
        ValueError: It is negative, not finite, ends after the year 9999, or has no time zone.
        TypeError: It is neither a number nor a ``timedelta`` nor a ``datetime``.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot keep runs that wait.
    """
    scope = workflow_scope("durable.create_timer()")
    if isinstance(due, datetime):
        utc = utc_of(due, "durable.create_timer()")
        found = scope.timer(lambda _: utc, json.dumps({"until": utc.isoformat()}), begin=True)
    else:
        seconds = seconds_of(due, "the duration of durable.create_timer()")
        found = scope.timer(lambda now: later(now, seconds), json.dumps({"seconds": seconds}), begin=True)
    return cast("DurableFuture[None]", found)


def wait_for_event(name: str, timeout: float | timedelta | None = None) -> Any:
    """Wait for an event that ``raise_event`` sends, without a thread, and return its payload.

    Events that are sent before the workflow waits for them are kept. Of several with one name each is taken once, in
    the order in which they were sent.

    Args:
        name: The event's name.
        timeout: Seconds or a ``timedelta`` to wait at most, counted from the first time that the call is made; ``None``
            waits for ever.

    Raises:
        EventTimeoutError: None was sent in that time.
        ValueError: The name is blank, or the timeout negative or not finite.
        TypeError: The name is no string, or the timeout neither a number nor a ``timedelta``.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot keep runs that wait.
    """
    scope = workflow_scope("durable.wait_for_event()")
    check_name("event", name)
    seconds = None if timeout is None else seconds_of(timeout, "the timeout of durable.wait_for_event()")
    deadline_of = partial(later, seconds=seconds or 0.0)
    return _waited(scope, lambda: scope.expect_event(name, seconds, deadline_of, begin=False))


def expect_event(name: str, timeout: float | timedelta | None = None) -> DurableFuture[Any]:
    """Return the future of an event: to wait for it or for something else, whichever comes first.

    Its ``result()`` is what ``wait_for_event`` returns. The event is taken when the future comes to an end, by
    ``result()``, ``wait_any``, ``as_completed`` or ``await``: of several futures of one name the first that does takes
    the oldest event.

    Args:
        name: The event's name.
        timeout: As ``wait_for_event`` takes it; the future's result is an ``EventTimeoutError`` then.

    Raises:
        ValueError: The name is blank, or the timeout negative or not finite.
        TypeError: The name is no string, or the timeout neither a number nor a ``timedelta``.
        DurableCallError: Not called in a workflow's own code.
        UnsupportedOperationError: The database cannot keep runs that wait.
    """
    scope = workflow_scope("durable.expect_event()")
    check_name("event", name)
    seconds = None if timeout is None else seconds_of(timeout, "the timeout of durable.expect_event()")
    found = scope.expect_event(name, seconds, partial(later, seconds=seconds or 0.0), begin=True)
    return cast("DurableFuture[Any]", found)


def shield() -> AbstractContextManager[None]:
    """Keep the workflow's cancellation out of a block: ``with durable.shield(): refund(order)``.

    In the block, durable calls work although the workflow is cancelled, so that it can undo what it did; a
    cancellation that comes meanwhile is raised by the first call after it.

    Raises:
        DurableCallError: Not called in a workflow's own code.
    """
    return workflow_scope("durable.shield()").shield()


def heartbeat() -> None:
    """Give a sign of life from a long activity, for its ``heartbeat_timeout``.

    Raises:
        ActivityCancelledError: The activity is to end: it was timed out, or its workflow is to be cancelled.
        DurableCallError: Not called in an activity that a workflow called.
    """
    scope = current_scope()
    if scope is None or scope.is_workflow:
        raise DurableCallError("durable.heartbeat() works inside an activity only, when a workflow has called it")
    cast("ActivityScope", scope).heartbeat()


def gather(*futures: DurableFuture[Any], return_exceptions: bool = False) -> list[Any]:
    """Wait for submitted activities and child workflows.

    Args:
        futures: What ``submit`` returned; their order is the order of the results.
        return_exceptions: Put failures among the results instead of raising the first.

    Returns:
        The results, in order.

    Raises:
        Exception: The failure of the first activity, by order, that failed; every one has ended by then.
        TypeError: Something else than a future was given.
    """
    _check_futures("gather", futures)
    if in_async_workflow():
        return cast("list[Any]", DurableFuture.results_async(futures, return_exceptions=return_exceptions))
    return DurableFuture.results(futures, return_exceptions=return_exceptions)


def wait_any[T](*futures: DurableFuture[T]) -> DurableFuture[T]:
    """Wait for the first of several futures to come to an end, by a result or a failure, and return it.

    Which one it was is recorded, so a replay goes the same way. The others go on: wait for them later, or leave them.

    Args:
        futures: What ``submit``, ``create_timer`` and ``expect_event`` returned.

    Returns:
        One of the futures; of several that have ended the first, by order.

    Raises:
        ValueError: There is no future.
        TypeError: Something else than a future was given.
        DurableCallError: A future belongs to another run.
    """
    _check_futures("wait_any", futures)
    if not futures:
        raise ValueError("wait_any() needs at least one future: without any it would wait for ever")
    scope = calling_scope()
    if scope is None or not scope.is_workflow:
        return futures[0]  # all were made here and now
    if scope.is_async:
        return cast("DurableFuture[T]", _wait_any_async(futures))
    return futures[cast("WorkflowScope", scope).wait_any([future.pending for future in futures])]


async def _wait_any_async[T](futures: Sequence[DurableFuture[T]]) -> DurableFuture[T]:
    """Do what ``wait_any`` does; the event loop records what has ended."""
    import asyncio  # it is imported where an async workflow runs

    async def end(future: DurableFuture[T]) -> None:
        try:
            await future
        except WorkflowCancelled:
            raise
        except BaseException as error:  # raised by the future itself, where that is asked
            if isinstance(error, asyncio.CancelledError) and not is_outcome_of_call(error):
                raise

    waits = [asyncio.ensure_future(end(future)) for future in futures]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        position = next(position for position, wait in enumerate(waits) if wait.done())
        waits[position].result()
        return futures[position]
    finally:
        for wait in waits:
            wait.cancel()


class _AsCompleted[T]:
    """What ``as_completed`` returns."""

    def __init__(self, futures: list[DurableFuture[T]]) -> None:
        self._futures = futures

    def __iter__(self) -> Iterator[DurableFuture[T]]:
        if in_async_workflow():
            raise DurableCallError("an async workflow writes 'async for future in durable.as_completed(...)'")
        left = list(self._futures)
        while left:
            left.remove(winner := wait_any(*left))
            yield winner

    async def __aiter__(self) -> AsyncIterator[DurableFuture[T]]:
        left = list(self._futures)
        while left:
            left.remove(winner := await _wait_any_async(left))
            yield winner


def as_completed[T](futures: Iterable[DurableFuture[T]]) -> _AsCompleted[T]:
    """Go through futures in the order in which they come to an end, which is recorded, so a replay goes the same way.

    ``for future in durable.as_completed(futures): print(future.result())``; in an async workflow ``async for``.

    Args:
        futures: What ``submit``, ``create_timer`` and ``expect_event`` returned.

    Raises:
        TypeError: Something else than a future was given.
    """
    found = list(futures)
    _check_futures("as_completed", found)
    return _AsCompleted(found)


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
    if scope.is_async:
        return awaited(scope.submit_activity, name, None, args, kwargs)
    return scope.call_activity(name, None, args, kwargs)


def call_workflow(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a child workflow by its registered name.

    Raises:
        WorkflowNotFoundError: The name is not registered and no result is stored.
        DurableCallError: Not called in a workflow's own code.
        ValueError: No workflow can have the name.
    """
    scope = workflow_scope(f"durable.call_workflow({name!r})")
    check_name("workflow", name)
    return _waited(scope, lambda: scope.submit_workflow(name, None, args, kwargs, NO_RUN_OPTIONS))


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


def _waited(scope: WorkflowScope, begin: Callable[[], DurableFuture[Any]]) -> Any:
    """Begin a call and return what it comes to; in an async workflow, a coroutine that does."""
    return awaited(begin) if scope.is_async else begin().result()


def _check_futures(what: str, futures: Iterable[object]) -> None:
    for position, future in enumerate(futures):
        if not isinstance(future, DurableFuture):
            is_several = isinstance(future, list | tuple | set) and what != "as_completed"
            advice = (
                f"a list with a star, {what}(*futures)" if is_several else "activity.submit(...), not activity(...)"
            )
            raise TypeError(f"{what} takes futures; argument {position} is {type(future).__name__}. Pass {advice}")


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
