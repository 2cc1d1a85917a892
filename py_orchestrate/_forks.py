"""What must happen around ``os.fork``.

Threads do not exist in the child, and its locks may be held by threads that are gone. Objects that hold either
register here and are told, in the child, before any other code runs there. Objects that must be at rest when the
process is copied are told before, too, and in the parent after.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


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
