"""What must happen around ``os.fork``.

Threads do not exist in the child, and its locks may be held by threads that are gone. Objects that hold either
register here and are told, in the child, before any other code runs there. Objects that must be at rest when the
process is copied are told before, too, and in the parent after.

A child that is forked in a user's code on one of this library's threads has a copy of that thread only, and with it of
all that waits for the code to end: it would go on as a second worker, or wait for work for ever. So it ends there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol


class ForkAware(Protocol):
    """An object that has to be told of a fork."""

    def after_fork_in_child(self) -> None:
        """Replace locks, and let go of threads and connections, without closing what the parent still uses."""
        ...


class ForkHolder(ForkAware, Protocol):
    """An object that must be at rest while the process is copied."""

    def before_fork(self) -> None:
        """Come to rest, within some seconds, and stay so."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on; also when ``before_fork`` could not bring the object to rest."""
        ...


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_holders: weakref.WeakSet[ForkHolder] = weakref.WeakSet()
_resting: list[ForkHolder] = []
_forking = [threading.Lock()]


def watch_forks(item: ForkAware) -> None:
    """Tell ``item`` of every fork, in the child, for as long as it lives."""
    _aware.add(item)


def hold_for_forks(item: ForkHolder) -> None:
    """Tell ``item`` of every fork, before and after, for as long as it lives."""
    _aware.add(item)
    _holders.add(item)


def call_containing_forks(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's code and return what it returns; a child process that is forked in it ends where the call ends."""
    process = os.getpid()
    try:
        result = function(*arguments)
    except BaseException as error:
        end_forked_child(process, error)
        raise
    end_forked_child(process)
    return result


def end_forked_child(process: int, error: BaseException | None = None) -> None:
    """End this process, unless it is the one that is given: it is a child whose code has ended, maybe with an error.

    What a script in its place would end with is its exit status: 0, that of ``sys.exit``, or 1 and a traceback. Nothing
    else is run: handlers of ``atexit`` and code around the call belong to the parent.
    """
    if os.getpid() == process:
        return
    status = 1
    try:
        status = _exit_status(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # it may be closed, or None
                stream.flush()
    finally:
        os._exit(status)


def _exit_status(error: BaseException | None) -> int:
    """Return what a script ends with that ends with the error, having told of it as that would."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _before_fork() -> None:
    _forking[0].acquire()  # two threads that fork at once would each wait for what the other one holds
    _resting.extend(_holders)
    for item in _resting:
        item.before_fork()


def _after_fork_in_parent() -> None:
    for item in _resting:
        item.after_fork_in_parent()
    _resting.clear()
    _forking[0].release()


def _after_fork_in_child() -> None:
    _forking[0] = threading.Lock()
    _resting.clear()
    for item in list(_aware):
        item.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
