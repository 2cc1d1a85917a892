"""Room for small writes beside large ones.

One transaction at a time is written to a file, and megabytes take as long as fifty small steps; to make text of them
takes the interpreter for as long again. A workflow that stores such results one after another would let each step of
all others wait for one of its own. So a large write is followed by eight times its length in which no other large one
begins, if others have had small ones to make: large results then come at a ninth of their speed, and the others hardly
notice. Where there are no others, nothing waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from .._clock import Clock

LARGE = 250_000
"""Characters from which on a write is large."""

_ROOM = 8.0
_LONGEST_SECONDS = 1.0
_RECENT_SECONDS = 0.1
_THREADS_REMEMBERED = 64


class Pacing:
    """When large writes may begin; on any thread, and as exact as it has to be."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._room_until = -1.0
        self._small_at: dict[int, float] = {}

    def note_small(self, threads: Iterable[int]) -> None:
        """Take note of small writes of some threads, which have just ended."""
        if len(self._small_at) > _THREADS_REMEMBERED:
            self._small_at = {}
        now = self._clock.monotonic()
        for thread in threads:
            self._small_at[thread] = now

    def note_large(self, thread: int, seconds: float) -> None:
        """Take note of a thread's large write, which has just ended."""
        now = self._clock.monotonic()
        since = now - seconds - _RECENT_SECONDS
        if any(at > since and other != thread for other, at in list(self._small_at.items())):
            self._room_until = now + min(seconds * _ROOM, _LONGEST_SECONDS)

    def pause(self) -> float:
        """Return for how many seconds a large write is to wait; 0 when it may begin."""
        return max(0.0, self._room_until - self._clock.monotonic())

    def wait(self) -> None:
        """Return when a large write may begin."""
        while (pause := self.pause()) > 0:  # another one may have ended meanwhile
            time.sleep(pause)
