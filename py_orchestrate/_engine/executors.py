"""Running a body on an executor of the user's: a process pool, a cluster, a thread pool.

What is sent is a reference to the activity's function, by module and name, with the arguments and what
``durable.info()`` tells there: so a function is found under the decorated object that has taken its name. A function
that cannot be found like that (a closure, a lambda) is handed over as it is, which only an executor in this process, or
one that can send functions, bears.

An exception comes back with the traceback of its process as a note; one that cannot be sent comes back as
``ActivityError``, instead of breaking the pool.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol, cast

from .._context import reset_scope, set_scope
from .._failures import user_traceback
from .._forks import call_containing_forks
from .._futures import DurableFuture
from .._ids import fresh_ids
from .._registry import Definition
from ..durable import ActivityInfo
from ..errors import ActivityError, SerializationError


class Leaver(Protocol):
    """The engine, as seen from here."""

    @property
    def is_leaving(self) -> bool:
        """Whether runs are to end at their next durable call, to be taken up again later."""
        ...

    def begin_leaving(self) -> None:
        """Let no new activity start."""
        ...


class _Failed(NamedTuple):
    """An exception on its way back: pickled, or, where that cannot be, as text."""

    pickled: bytes | None
    type_name: str
    message: str
    traceback_text: str


class RemoteScope:
    """What stands around a body elsewhere: calls in here are plain calls."""

    is_workflow = False
    is_async = False
    is_active = True

    def __init__(self, info: ActivityInfo) -> None:
        self._info = info

    def call_activity(
        self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any, _options: Any = None
    ) -> Any:
        """See ``Scope``: a plain call."""
        if function is None:
            raise ActivityError(f"activity {name!r} cannot be called by its name on an executor", "")
        return function(*args, **kwargs)

    def submit_activity(
        self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any, _options: Any = None
    ) -> DurableFuture[Any]:
        """See ``Scope``: a plain call, made at once."""
        return DurableFuture.of_call(self.call_activity, name, function, args, kwargs)

    def unwind(self) -> NoReturn:
        """See ``Scope``: nothing asks for that here."""
        raise NotImplementedError

    def make_effect(
        self, _kind: str, _name: str, _arguments: str, make: Callable[[Iterator[str]], Any], _content: str | None = None
    ) -> Any:
        """See ``Scope``."""
        return make(fresh_ids())

    def heartbeat(self) -> None:
        """Give a sign of life, which nobody sees."""

    def info(self) -> ActivityInfo:
        """See ``Scope``: as it was when the body was sent."""
        return self._info


def run_on_executor(
    executor: Executor | Callable[[], Executor],
    definition: Definition,
    arguments: dict[str, Any],
    info: ActivityInfo,
    *,
    on_start: Callable[[Callable[[], object]], object],
    leaver: Leaver,
    unwind: Callable[[], NoReturn],
) -> Any:
    """Run an activity's body on an executor and wait for what it comes to.

    Args:
        executor: The executor, or a function that returns it.
        definition: The activity.
        arguments: Its arguments.
        info: What ``durable.info()`` tells there.
        on_start: Is handed what cancels it, as long as it has not begun.
        leaver: The engine.
        unwind: Lets the run leave: the program ends, and with it the executor; the body runs at the next start.

    Raises:
        SerializationError: The call, or its result, cannot be sent.
        TypeError: The function returns no executor.
        BaseException: What the body raised, or the executor.
    """
    pool = _pool(executor, definition.name)
    work = _work(pool, definition, arguments, info)
    try:
        future: Future[Any] = pool.submit(work)
        on_start(future.cancel)
        found = future.result()
    except (RuntimeError, BrokenExecutor, CancelledError) as error:
        if "interpreter shutdown" in str(error):
            leaver.begin_leaving()  # concurrent.futures has noticed the program's end before the engine
        if leaver.is_leaving:
            unwind()
        raise
    if isinstance(found, _Failed):
        raise _received(found)
    return found if work.func is _run_here else pickle.loads(found)  # noqa: S301 - from the user's own executor


def _pool(executor: Executor | Callable[[], Executor], name: str) -> Executor:
    if hasattr(executor, "submit"):
        return cast("Executor", executor)
    found = executor()
    if not hasattr(found, "submit"):
        raise TypeError(
            f"the executor of activity {name!r} is a function that returned {type(found).__name__}; it must return a "
            "concurrent.futures.Executor"
        )
    return found


def _work(executor: Executor, definition: Definition, arguments: dict[str, Any], info: ActivityInfo) -> partial[Any]:
    name = definition.name
    try:
        payload = pickle.dumps((_reference(definition.function), arguments, info))
    except Exception as error:
        if type(executor).__name__ == "ProcessPoolExecutor":
            raise SerializationError(
                f"activity {name!r} cannot be sent to its process pool: {error}. Define it, and the classes of its "
                "arguments, at the top level of a module"
            ) from error
        return partial(_run_here, definition.function, arguments, info)
    return partial(_run_there, name, payload)


def _reference(function: Callable[..., Any]) -> tuple[str, str]:
    """Return where the function is found.

    Raises:
        LookupError: It is not found there.
    """
    module, name = function.__module__, function.__qualname__
    if _find(sys.modules.get(module), name) is not function:
        raise LookupError(f"{module} has no {name!r} at its top level that is the activity or its function")
    return module, name


def _find(module: Any, name: str) -> Any:
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return getattr(found, "fn", found)  # the decorated object stands for its function


def _run_here(function: Callable[..., Any], arguments: dict[str, Any], info: ActivityInfo) -> Any:
    token = set_scope(RemoteScope(info))
    try:
        return call_containing_forks(Definition(info.name, function).call, arguments)
    finally:
        reset_scope(token)


def _run_there(name: str, payload: bytes) -> bytes | _Failed:
    """Run a body in the executor's process; return its result, pickled, or its failure."""
    try:
        (module, function), arguments, info = pickle.loads(payload)  # noqa: S301 - from the process that made the pool
        __import__(module)
        result = _run_here(_find(sys.modules[module], function), arguments, info)
        try:
            return pickle.dumps(result)
        except Exception as error:
            raise SerializationError(f"the result of activity {name!r} cannot be sent back: {error}") from error
    except BaseException as error:  # noqa: BLE001 - it fails the activity, not the process
        return _failed(error)


def _failed(error: BaseException) -> _Failed:
    pickled = None
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301 - some can be sent, but not received, which would break the pool
    except Exception:  # noqa: BLE001 - whatever the class does
        pickled = None
    text = "".join(traceback.format_exception(type(error), error, user_traceback(error)))
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - as above
        message = f"<unprintable {type(error).__name__}>"
    return _Failed(pickled, f"{type(error).__module__}:{type(error).__qualname__}", message, text)


def _received(failed: _Failed) -> BaseException:
    error: BaseException | None = None
    if failed.pickled is not None:
        try:
            error = pickle.loads(failed.pickled)  # noqa: S301 - as above
        except Exception:  # noqa: BLE001 - its module need not be importable here
            error = None
    if error is None:
        error = ActivityError(failed.message, failed.type_name, failed.traceback_text)
    error.add_note(f"Traceback on the executor:\n{failed.traceback_text.rstrip()}")
    return error
