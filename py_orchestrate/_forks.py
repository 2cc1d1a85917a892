"""What must happen in a child process after ``os.fork``.

Threads do not exist in the child, and its locks may be held by threads that are gone. Objects that hold either register
here and are told, in the child, before any other code runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object that has to be told of a fork."""

    def after_fork_in_child(self) -> None:
        """Replace locks, and let go of threads and connections, without closing what the parent still uses."""
        ...


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def watch_forks(item: ForkAware) -> None:
    """Tell ``item`` of every fork, in the child, for as long as it lives."""
    _aware.add(item)


def _after_fork_in_child() -> None:
    for item in list(_aware):
        item.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
