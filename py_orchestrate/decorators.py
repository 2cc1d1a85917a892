"""``@workflow`` and ``@activity``.

A decorated function stays callable as it was. Called inside a running workflow, an activity is a step of that workflow,
and a workflow a child of it; anywhere else it is a plain call. The decorated object is not a function but a small
callable with the wrapped function's name, documentation and signature, so that it can carry ``submit``, ``map``,
``options`` and ``fn``; as it does not bind, it works unchanged as a static method.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, Protocol, Unpack, cast, overload

from ._context import Scope, calling_scope, workflow_scope
from ._futures import DurableFuture, awaited, in_async_workflow, results_of
from ._identifiers import check_name
from ._options import NO_OPTIONS, NO_RUN_OPTIONS, ActivityOptions, RunOptions, checked_version
from ._registry import WorkflowRegistry
from ._signatures import Parameters, is_coroutine_function, is_generator_function
from .errors import DurableCallError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._options import ActivityChanges
    from .retry import RetryPolicy

__all__ = ["Activity", "Workflow", "activity", "get_registry", "workflow"]

_registry = WorkflowRegistry()


class Activity[**P, R]:
    """A function whose calls inside a workflow are recorded; made by ``@activity``.

    ``R`` is what a workflow gets; for a function that is ``async``, what awaiting it gives.

    Attributes:
        fn: The wrapped function; calling it is never recorded, and where it is ``async`` gives its coroutine.
        name: The registered name.
    """

    def __init__(
        self,
        fn: Callable[P, Any],
        name: str,
        declared: ActivityOptions = NO_OPTIONS,
        override: ActivityOptions | None = None,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self._is_activity = True
        self._activity_name = name
        self._declared = declared
        self._override = override

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the activity: a recorded step inside a workflow, a plain call anywhere else.

        Inside a workflow the result is the stored one, the same in the first run as in every replay, and an activity
        declared ``async def`` gives its result, not a coroutine.

        Raises:
            ActivityNotFoundError: The name is no longer registered and no result is stored.
            ActivityTimeoutError: It took too long, in all its attempts.
            SerializationError: The arguments or the result cannot be stored.
            TypeError: The arguments do not fit.
            DurableCallError: The call is made in a thread that the workflow started by itself.
        """
        scope = calling_scope()
        if scope is None or self._declared.transactional:
            self._refuse_plain_call(scope)
        if scope is None:
            return cast("R", self.fn(*args, **kwargs))
        if scope.is_async:
            return cast("R", awaited(self.submit, *args, **kwargs))
        return cast("R", scope.call_activity(self.name, self.fn, args, kwargs, self._override))

    def _refuse_plain_call(self, scope: Scope | None) -> None:
        if self._declared.transactional and (scope is None or not scope.is_workflow):
            raise DurableCallError(
                f"the transactional activity {self.name!r} works in a workflow's own code only, which lends it the "
                f"transaction; elsewhere call {self.name}.fn with a connection of your own"
            )

    def options(self, **changes: Unpack[ActivityChanges]) -> Activity[P, R]:
        """Return this activity for calls with other options: ``charge.options(timeout=5)(order)``.

        Args:
            changes: As ``@activity`` takes them: ``retry``, ``timeout``, ``total_timeout``, ``heartbeat_timeout``,
                ``executor``. What is not named stays as it was declared; ``None`` takes it away.

        Raises:
            TypeError: There is no such option, or it has a value of another type, or the function is async and cannot
                run on an executor.
            ValueError: A time is not positive, or options do not go together.
        """
        base = self._declared if self._override is None else self._override
        changed = base.replaced(**changes)
        _check_executor(self.name, self.fn, changed)
        return Activity(self.fn, self.name, self._declared, changed)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> DurableFuture[R]:
        """Start the activity in another thread and return its future; its place in the history is fixed now.

        Outside of a workflow the function is called at once, and the future is ready.

        Raises:
            DurableCallError: The call is made in a thread that the workflow started by itself.
        """
        scope = calling_scope()
        if scope is None or self._declared.transactional:
            self._refuse_plain_call(scope)
        if scope is None:
            return DurableFuture.of_call(self.fn, *args, **kwargs)
        future = scope.submit_activity(self.name, self.fn, args, kwargs, self._override)
        return cast("DurableFuture[R]", future)

    def map(self, *iterables: Iterable[Any]) -> list[R]:
        """Run the activity for each item (or each tuple of items, as ``map`` does), in parallel inside a workflow.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: The failure of the first item, by order, that failed; every item has ended by then.
        """
        return results_of(self.submit, iterables)

    def __reduce__(self) -> str:
        """Return where it is found again: as a function, it is pickled and copied by its name."""
        return str(getattr(self.fn, "__qualname__", self.name))

    def __repr__(self) -> str:
        """Return the name and the function."""
        return f"<activity {self.name!r}: {self.fn!r}>"


class Workflow[**P, R]:
    """A function that an orchestrator can run durably; made by ``@workflow``.

    ``R`` is what the run comes to; for a function that is ``async``, what awaiting it gives.

    Attributes:
        fn: The wrapped function.
        name: The registered name.
        run_options: What ``options`` has set.
    """

    def __init__(self, fn: Callable[P, Any], name: str, run_options: RunOptions = NO_RUN_OPTIONS) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.run_options = run_options
        self._is_workflow = True
        self._workflow_name = name

    def options(
        self,
        *,
        workflow_id: str | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: float | timedelta | None = None,
        deduplication_key: str | None = None,
    ) -> Workflow[P, R]:
        """Return this workflow for one run with options: ``export.options(timeout=60)(table)``, in a workflow.

        ``Orchestrator.start_workflow`` takes it too, which helps where the workflow has a parameter of an option's
        name.

        Args:
            workflow_id: An id of your own for the run.
            timeout: Seconds or a ``timedelta`` that the run may take.
            queue: The queue that it goes into; see ``Orchestrator.start_workflow``, as for the others.
            priority: The lowest goes first.
            delay: Seconds or a ``timedelta`` after which it may begin.
            deduplication_key: Not for a child workflow; give that a ``workflow_id``.

        Raises:
            InvalidWorkflowIdError: No run can have the id.
            ValueError: The timeout is not positive, the delay negative, or a name or a key blank.
            TypeError: A value has another type.
        """
        changed = self.run_options.replaced(
            workflow_id=workflow_id,
            timeout=timeout,
            queue=queue,
            priority=priority,
            delay=delay,
            deduplication_key=deduplication_key,
        )
        return Workflow(self.fn, self.name, changed)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the workflow: a child workflow inside another one, a plain call anywhere else.

        A child has an id and a history of its own. Its caller waits for it without a thread, and gets its result or
        its failure; if the caller is cancelled, so is the child.

        Raises:
            Exception: What the child failed with.
            WorkflowFailedError: The child was cancelled by itself.
            SerializationError: The arguments cannot be stored.
            TypeError: The arguments do not fit.
            DurableCallError: The call is made in a thread that the workflow started by itself.
        """
        if not self._is_child_call():
            return cast("R", self.fn(*args, **kwargs))
        if in_async_workflow():
            return cast("R", awaited(self.submit, *args, **kwargs))
        return self.submit(*args, **kwargs).result()

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> DurableFuture[R]:
        """Start a child workflow and return its future; its place in the history is fixed now.

        A child that nobody waits for goes on by itself when its parent ends. Outside of a workflow the function is
        called at once, and the future is ready.

        Raises:
            DurableCallError: The call is made in a thread that the workflow started by itself.
        """
        if not self._is_child_call():
            return DurableFuture.of_call(self.fn, *args, **kwargs)
        scope = workflow_scope(f"workflow {self.name!r}")
        return cast("DurableFuture[R]", scope.submit_workflow(self.name, self.fn, args, kwargs, self.run_options))

    def map(self, *iterables: Iterable[Any]) -> list[R]:
        """Run a child workflow for each item (or each tuple of items, as ``map`` does), in parallel.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: The failure of the first item, by order, that failed; every item has ended by then.
        """
        return results_of(self.submit, iterables)

    @staticmethod
    def _is_child_call() -> bool:
        scope = calling_scope()
        return scope is not None and scope.is_workflow

    def __reduce__(self) -> str:
        """Return where it is found again: as a function, it is pickled and copied by its name."""
        return str(getattr(self.fn, "__qualname__", self.name))

    def __repr__(self) -> str:
        """Return the name and the function."""
        return f"<workflow {self.name!r}: {self.fn!r}>"


class _WorkflowDecorator(Protocol):
    """What ``@workflow()`` and ``@workflow("name")`` are."""

    @overload
    def __call__[**P, R](self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
    @overload
    def __call__[**P, R](self, function: Callable[P, R], /) -> Workflow[P, R]: ...


@overload
def workflow[**P, R](name_or_func: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow[**P, R](name_or_func: Callable[P, R], /) -> Workflow[P, R]: ...
@overload
def workflow(name_or_func: str | None = None, *, version: str | None = None) -> _WorkflowDecorator: ...
def workflow(name_or_func: Any = None, *, version: str | None = None) -> Any:
    """Register a function as a workflow: ``@workflow``, ``@workflow()`` or ``@workflow("name", version="2")``.

    The function may be ``async def``; what it calls is awaited then, on a deterministic event loop of its own.

    Args:
        name_or_func: The name, by default the function's; or, without parentheses, the function.
        version: A name for the version of the code, recorded with each run that begins with it; see
            ``durable.info().version`` and ``Orchestrator.list_workflows``.

    Raises:
        TypeError: It is no plain function: a class, a bound method, a generator, a lambda without a name; or the
            version is no string.
        ValueError: The name or the version is empty or blank, or has a character that cannot be shown.
        DuplicateNameError: Another file has registered the name.
    """
    found = checked_version("workflow", version)

    def register(name: str, function: Callable[..., Any]) -> None:
        _registry.register_workflow(name, function, found)

    return _decorate("workflow", Workflow, register, name_or_func)


class _TransactionalDecorator(Protocol):
    """What ``@activity(transactional=True)`` is: the connection is not the caller's to give."""

    def __call__[**P, R](self, function: Callable[Concatenate[Any, P], R], /) -> Activity[P, R]: ...


class _ActivityDecorator(Protocol):
    """What ``@activity()`` and ``@activity("name")`` are."""

    @overload
    def __call__[**P, R](self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__[**P, R](self, function: Callable[P, R], /) -> Activity[P, R]: ...


@overload
def activity[**P, R](name_or_func: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
@overload
def activity[**P, R](name_or_func: Callable[P, R], /) -> Activity[P, R]: ...
@overload
def activity(
    name_or_func: str | None = None,
    *,
    transactional: Literal[True],
    retry: RetryPolicy | None = None,
    version: str | None = None,
) -> _TransactionalDecorator: ...
@overload
def activity(
    name_or_func: str | None = None,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
    heartbeat_timeout: float | timedelta | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    version: str | None = None,
) -> _ActivityDecorator: ...
def activity(name_or_func: Any = None, **options: Any) -> Any:
    """Register a function as an activity: ``@activity``, ``@activity()`` or ``@activity("name", timeout=5)``.

    The function may be ``async def``; inside a workflow it then runs on the orchestrator's event loop.

    The options hold for calls in workflows; a plain call is a plain call.

    Args:
        name_or_func: The name, by default the function's; or, without parentheses, the function.
        options: ``retry``, a ``RetryPolicy``: none by default, then a failure is the activity's outcome at once.
            ``timeout``: seconds or a ``timedelta`` that one attempt may take. ``total_timeout``: the same for all
            attempts and the waits between them. ``heartbeat_timeout``: the same between two calls of
            ``durable.heartbeat()``, and to the first. No limit by default. ``transactional``: the function gets a
            connection of the workflows' own database as its first argument, and what it writes there is committed
            together with its result, or not at all: exactly once. Callers leave that argument out. The function must
            not commit, and should be quick, for nothing else is written to the database meanwhile. The connection is
            its own until it returns, and its cursors are closed then. Needs a database manager with ``"transactions"``
            in its ``capabilities``. ``executor``: a ``concurrent.futures.Executor`` that runs the function (a process
            pool, a cluster), or a function that returns one, which is called for each attempt. ``version``: a name for
            the version of the code, recorded with each call and shown by ``Orchestrator.get_history``; what is recorded
            counts, whatever its version.

    Raises:
        TypeError: It is no plain function: a class, a bound method, a generator, a lambda without a name; or an option
            is unknown, or has a value of another type; or a transactional function is async, or takes no argument; or
            an async function is to run on an executor.
        ValueError: The name or the version is empty or blank, or has a character that cannot be shown; or a time is not
            positive; or options do not go together.
        DuplicateNameError: Another file has registered the name.
    """
    declared = ActivityOptions.declared(**options)

    def register(name: str, function: Callable[..., Any]) -> None:
        if declared.transactional:
            _check_transactional(name, function)
        _check_executor(name, function, declared)
        _registry.register_activity(name, function, declared)

    return _decorate("activity", lambda function, name: Activity(function, name, declared), register, name_or_func)


def get_registry() -> WorkflowRegistry:
    """Return the registry that the decorators fill and orchestrators read."""
    return _registry


def _decorate(
    kind: str,
    wrapper: Callable[[Callable[..., Any], str], Any],
    register: Callable[[str, Callable[..., Any]], None],
    name_or_func: Any,
) -> Any:
    if not (name_or_func is None or isinstance(name_or_func, str) or callable(name_or_func)):
        raise TypeError(f"@{kind} takes a name or a function, not {type(name_or_func).__name__}")
    name = check_name(kind, name_or_func) if isinstance(name_or_func, str) else None

    def decorate(function: Any) -> Any:
        is_static = isinstance(function, staticmethod)
        plain = function.__func__ if is_static else function
        registered = _check(kind, plain, name)
        register(registered, plain)
        wrapped = wrapper(plain, registered)
        return staticmethod(wrapped) if is_static else wrapped

    return decorate(name_or_func) if callable(name_or_func) and name is None else decorate


def _check(kind: str, function: Any, name: str | None) -> str:
    """Return the name to register under, or say why the function cannot be registered."""
    shown = name or getattr(function, "__name__", None) or repr(function)
    if not callable(function) or isinstance(function, classmethod):
        raise TypeError(f"@{kind} decorates a function, not {type(function).__name__}")
    if isinstance(function, Activity | Workflow):
        raise TypeError(f"{shown!r} is decorated twice; keep one of the decorators")
    if isinstance(function, type):
        raise TypeError(f"{kind} {shown!r} is a class; decorate a function that makes the object")
    inner = _without_partials(function)
    if isinstance(function, MethodType) or _is_method(inner):
        raise TypeError(
            f"{kind} {shown!r} is a method, whose object could not be stored; make it a function or a @staticmethod, "
            "and pass what it needs as arguments"
        )
    if is_generator_function(inner):
        raise TypeError(f"{kind} {shown!r} is a generator, which cannot be stored; return a list instead")
    found = name or getattr(function, "__name__", None)
    if not found or found == "<lambda>":
        raise TypeError(f"{kind} {shown!r} has no name of its own; give it one, as in {kind}('name')(function)")
    try:
        Parameters(function)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{kind} {shown!r} has no signature that can be read; wrap it in a def") from error
    return str(found)


def _check_executor(name: str, function: Callable[..., Any], options: ActivityOptions) -> None:
    if options.executor is not None and is_coroutine_function(function):
        raise TypeError(f"activity {name!r} is async and runs on the event loop: it cannot have an executor")


def _check_transactional(name: str, function: Callable[..., Any]) -> None:
    if is_coroutine_function(function):
        raise TypeError(f"transactional activity {name!r} is async; make it a plain def")
    first = next(iter(Parameters(function).signature.parameters.values()), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise TypeError(f"transactional activity {name!r} takes no connection: make that its first parameter")


def _without_partials(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _is_method(function: Any) -> bool:
    """Return whether this is a function in a class body whose first parameter waits for the object."""
    qualname = getattr(function, "__qualname__", "")
    owner = qualname.rpartition(".")[0].rpartition(".")[2]
    if not owner or owner == "<locals>":
        return False
    try:
        parameters = Parameters(function).names
    except (TypeError, ValueError):
        return False
    return bool(parameters) and parameters[0] in ("self", "cls")
