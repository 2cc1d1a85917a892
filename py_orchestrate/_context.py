"""Which workflow or activity the running code belongs to.

A decorated function asks ``calling_scope()`` whether it is called inside a workflow, and if so hands the call to the
object that the engine put there. Nothing is patched. A context variable does not reach threads that a workflow starts
by itself; a call there would run unrecorded, so such threads are noticed when they start (Python's audit event for it)
and refused when they call, as are forked children. Nobody can notice threads that were there before (a pool that
another part of the program has warmed up), threads that are no ``threading.Thread``, and fresh processes: a call that a
workflow passes to those is a plain call.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn, Protocol, cast

from .errors import DurableCallError


class Unwind(BaseException):
    """Carries a workflow's thread out of the user's code when the run ends here without ending.

    Derives from ``BaseException`` so that ``except Exception`` does not catch it. Code that catches even this one
    gains nothing: the run's context is sealed, and every further durable call raises it again.
    """


class Scope(Protocol):
    """What stands around the code that runs: a workflow, or an activity's body."""

    def call_activity(
        self, name: str, function: Callable[..., Any] | None, /, args: Any, kwargs: Any, options: Any = None
    ) -> Any:
        """Make a call of an activity and return its result."""
        ...

    def submit_activity(
        self, name: str, function: Callable[..., Any] | None, /, args: Any, kwargs: Any, options: Any = None
    ) -> Any:
        """Begin a call of an activity and return its future."""
        ...

    def unwind(self) -> NoReturn:
        """Let the run leave its thread here, to be taken up again later.

        Raises:
            Unwind: Always.
        """
        ...

    def make_effect(
        self, kind: str, name: str, /, arguments: str, make: Callable[[Iterator[str]], Any], content: str | None = None
    ) -> Any:
        """Have an effect on another run, unless a replay finds it recorded, and return what it came to.

        ``make`` is given the ids that it may have: in a workflow's code, the same in every replay.
        """
        ...

    def info(self) -> Any:
        """Return what ``durable.info()`` tells."""
        ...

    @property
    def is_active(self) -> bool:
        """Whether the workflow's code is still running."""
        ...

    @property
    def is_workflow(self) -> bool:
        """Whether this is a workflow's own code, whose calls are recorded."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether this is the code of an async workflow, whose calls are awaited."""
        ...


class WorkflowScope(Scope, Protocol):
    """What stands around a workflow's own code."""

    def submit_workflow(
        self, name: str, function: Callable[..., Any] | None, /, args: Any, kwargs: Any, options: Any
    ) -> Any:
        """Start a child workflow and return its future."""
        ...

    def timer(self, moment: Callable[[datetime], datetime], /, arguments: str, *, begin: bool) -> Any:
        """Return the future of a time, which is worked out from now when the call is made for the first time.

        Unless it is to ``begin`` now, it does when it is waited for.
        """
        ...

    def expect_event(
        self, name: str, /, timeout: float | None, deadline_of: Callable[[datetime], datetime], *, begin: bool
    ) -> Any:
        """Return the future of an event; as above."""
        ...

    def wait_any(self, pendings: Sequence[Any], /) -> int:
        """Return the index of the first that has come to an end."""
        ...

    def wait_async(self, pending: Any, /) -> Generator[Any, None, Any]:
        """Wait for the end of a call, in an async workflow."""
        ...

    def is_outcome(self, error: BaseException, /) -> bool:
        """Return whether this is what a call failed with, and not a signal of the interpreter's or the library's."""
        ...

    def record_value(self, name: str, make: Callable[[], Any], /) -> Any:
        """Return the recorded value, or make one and record it."""
        ...

    def continue_as_new(self, args: Any, kwargs: Any) -> NoReturn:
        """Let the run begin anew with other arguments."""
        ...

    def patched(self, change_id: str, /, place: str) -> bool:
        """Return whether the code after a change is to run."""
        ...

    def publish(self, value: Any, /) -> None:
        """Publish the run's custom status."""
        ...

    def now(self) -> datetime:
        """Return the time, the same in every replay."""
        ...

    def shield(self) -> AbstractContextManager[None]:
        """Keep the workflow's cancellation out, as long as the context lasts."""
        ...


class ActivityScope(Scope, Protocol):
    """What stands around an activity's body."""

    def heartbeat(self) -> None:
        """Give a sign of life; raise if the activity is to end."""
        ...


_scope: ContextVar[Scope | None] = ContextVar("py_orchestrate_scope", default=None)
_started_in: weakref.WeakKeyDictionary[threading.Thread, weakref.ref[Scope]] = weakref.WeakKeyDictionary()
_watching = False
_watch_lock = threading.Lock()

set_scope = _scope.set
reset_scope = _scope.reset


def current_scope() -> Scope | None:
    """Return what stands around the calling code, or ``None`` outside of workflows and activities.

    Raises:
        DurableCallError: The calling thread was started by a workflow that is still running.
    """
    scope = _scope.get()
    if scope is None and _started_in:
        starter = _starter()
        if starter is not None and starter.is_active:
            raise foreign_thread_error()
    return scope


def calling_scope() -> Scope | None:
    """Return what ``current_scope`` does, for a call of an activity.

    Raises:
        DurableCallError: The calling thread was started by a workflow, be it that that has ended since: the thread may
            outlive it, or belong to a pool that serves another workflow by now.
    """
    scope = _scope.get()
    if scope is None and _started_in and threading.current_thread() in _started_in:
        raise foreign_thread_error()
    return scope


def workflow_scope(what: str) -> WorkflowScope:
    """Return the workflow's scope that the calling code stands in.

    Args:
        what: What is being called, for the error.

    Raises:
        DurableCallError: It stands in none.
    """
    scope = calling_scope()
    if scope is None:
        raise DurableCallError(f"{what} works inside a workflow only")
    if not scope.is_workflow:
        raise DurableCallError(f"{what} works in a workflow's own code, not in an activity, which is not replayed")
    return cast("WorkflowScope", scope)


def refuse_in_workflow(method: str) -> None:
    """Raise if this is a workflow's own code.

    Raises:
        DurableCallError: It is.
    """
    scope = current_scope()
    if scope is not None and scope.is_workflow:
        raise DurableCallError(
            f"{method}() must not be called in a workflow's own code, where each replay would do it again; call it in "
            "an activity"
        )


def is_workflow_code() -> bool:
    """Return whether this is a workflow's own code."""
    scope = _scope.get()
    return scope is not None and scope.is_workflow


def recorded(name: str, look: Callable[[], Any]) -> Any:
    """Return what ``look`` finds; in a workflow's own code a step, for it would find something else in a replay.

    Raises:
        DurableCallError: It is a workflow's own code, and cannot be recorded here.
    """
    return cast("WorkflowScope", _scope.get()).record_value(name, look) if is_workflow_code() else look()


def _starter() -> Scope | None:
    """Return the scope of the workflow that started the calling thread."""
    reference = _started_in.get(threading.current_thread())
    return None if reference is None else reference()


def foreign_thread_error() -> DurableCallError:
    """Return the error for a durable call in a thread that the library did not start."""
    return DurableCallError(
        f"a durable call was made in the thread {threading.current_thread().name!r}, which the workflow started by "
        "itself: it could not be recorded. Run activities in parallel with activity.submit(...), activity.map(...) and "
        "durable.gather(...)"
    )


def ended_run_error() -> DurableCallError:
    """Return the error for a durable call in what is left of a run."""
    return DurableCallError(
        "a durable call was made in the context of a run that is over, or in a child process of its workflow: it could "
        "not be recorded"
    )


def watch_threads() -> None:
    """From now on, notice the threads that workflows start. Costs nothing for threads that others start."""
    global _watching  # noqa: PLW0603 - once for the interpreter, as an audit hook cannot be taken back
    with _watch_lock:
        if not _watching:
            _watching = True
            sys.addaudithook(_on_audit_event)


def _on_audit_event(event: str, args: tuple[Any, ...]) -> None:
    if event not in ("_thread.start_new_thread", "_thread.start_joinable_thread"):
        return
    reference: weakref.ref[Scope] | None = None
    scope = _scope.get()
    if scope is None:
        reference = _started_in.get(threading.current_thread()) if _started_in else None
    elif scope.is_workflow:
        reference = weakref.ref(scope)  # the thread must not keep the run alive, which may be long over
    thread = getattr(args[0], "__self__", None)
    if reference is not None and isinstance(thread, threading.Thread):
        _started_in[thread] = reference
