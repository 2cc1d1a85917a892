"""Deletes runs that have ended long ago, a few at a time, so that nobody waits for it and the store does not grow."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from .._clock import Clock
from ..db_manager.base import BaseDatabaseManager

PURGED_AT_ONCE = 100
_LONGEST_INTERVAL_SECONDS = 60.0
_BETWEEN_BATCHES_SECONDS = 0.05


class RetentionHost(Protocol):
    """What is needed of the engine around."""

    database: BaseDatabaseManager
    clock: Clock


class Retention:
    """The rule of one orchestrator; where several have one, each of them deletes, and the shortest counts."""

    def __init__(self, host: RetentionHost, kept_for: timedelta | None) -> None:
        self._host = host
        self._kept_for = kept_for
        self._due = host.clock.monotonic()

    def seconds_to_turn(self, now: float) -> float:
        """Return in how many seconds the next turn is due."""
        return float("inf") if self._kept_for is None else self._due - now

    def turn(self, now: float) -> None:
        """Delete a batch, if the time has come."""
        if self._kept_for is None or now < self._due:
            return
        interval = min(_LONGEST_INTERVAL_SECONDS, max(1.0, self._kept_for.total_seconds() / 10))
        self._due = now + interval  # first, so that a store that fails is not asked again at once
        ended_before = self._host.clock.now() - self._kept_for
        if self._host.database.purge_workflows(ended_before, limit=PURGED_AT_ONCE) == PURGED_AT_ONCE:
            self._due = now + _BETWEEN_BATCHES_SECONDS
