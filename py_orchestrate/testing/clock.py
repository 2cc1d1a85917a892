"""A clock that stands still until a test turns it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """Stands in for ``SystemClock``; safe to read and turn from several threads.

    It starts at 2030-01-01 00:00 UTC, with a monotonic time of 0 seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = datetime(2030, 1, 1, tzinfo=UTC)
        self._passed = timedelta()

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""
        with self._lock:
            return self._start + self._passed

    def monotonic(self) -> float:
        """Return the seconds that were advanced so far."""
        with self._lock:
            return self._passed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks at once.

        Args:
            seconds: How much; to the microsecond.

        Raises:
            ValueError: ``seconds`` is negative; a monotonic clock does not go back.
        """
        if seconds < 0:
            raise ValueError(f"a clock cannot advance by {seconds} seconds")
        with self._lock:
            self._passed += timedelta(seconds=seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or a time server does; no time passes.

        Args:
            seconds: How much, to the microsecond; negative to set it back.
        """
        with self._lock:
            self._start += timedelta(seconds=seconds)
