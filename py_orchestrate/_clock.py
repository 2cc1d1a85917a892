"""The clock that the engine reads, so that a test can turn it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the engine needs to know about time."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC; stored with rows, never used to measure."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back; used for waits and back-off."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds on the monotonic clock."""
        return time.monotonic()
