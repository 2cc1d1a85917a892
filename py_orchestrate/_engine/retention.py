"""Deletes runs that have ended long ago, a few at a time, so that nobody waits for it and the store does not grow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from .._clock import Clock
from .._times import limited_seconds_of
from ..db_manager.base import BaseDatabaseManager
from ..models import WorkflowStatus

PURGED_AT_ONCE = 100
_LONGEST_INTERVAL_SECONDS = 60.0
_BETWEEN_BATCHES_SECONDS = 0.05
_FOR_EVER = "; leave it out to keep them for ever"

Rules = Mapping[WorkflowStatus | None, timedelta]


class RetentionHost(Protocol):
    """What is needed of the engine around."""

    database: BaseDatabaseManager
    clock: Clock


class Retention:
    """The rules of one orchestrator; where several have one, each of them deletes, and the shortest counts.

    Args:
        host: The engine around.
        kept_for: For how long runs are kept that have ended, by the status that they have ended with; ``None`` is
            every one.
    """

    def __init__(self, host: RetentionHost, kept_for: Rules) -> None:
        self._host = host
        self._kept_for = kept_for
        shortest = min((kept.total_seconds() for kept in kept_for.values()), default=0.0)
        self._interval = min(_LONGEST_INTERVAL_SECONDS, max(1.0, shortest / 10))
        self._due = host.clock.monotonic()

    def seconds_to_turn(self, now: float) -> float:
        """Return in how many seconds the next turn is due."""
        return self._due - now if self._kept_for else float("inf")

    def turn(self, now: float) -> None:
        """Delete a batch by each rule, if the time has come."""
        if not self._kept_for or now < self._due:
            return
        self._due = now + self._interval  # first, so that a store that fails is not asked again at once
        moment = self._host.clock.now()
        for status, kept in self._kept_for.items():
            purged = self._host.database.purge_workflows(moment - kept, status=status, limit=PURGED_AT_ONCE)
            if purged == PURGED_AT_ONCE:
                self._due = now + _BETWEEN_BATCHES_SECONDS


def checked_retention(retention: object) -> Rules:
    """Return the rules; none for ever.

    Raises:
        TypeError: It is neither a time nor a mapping from statuses to times.
        ValueError: A time is negative or longer than a hundred years, or no run ends with a status.
    """
    if retention is None:
        return {}
    if not isinstance(retention, Mapping):
        return {None: timedelta(seconds=limited_seconds_of(retention, "the retention", _FOR_EVER))}
    kept_for: dict[WorkflowStatus | None, timedelta] = {}
    final = [status.value for status in WorkflowStatus if status.is_final]
    for key, value in retention.items():
        if key not in final:
            known = ", ".join(map(repr, final))
            raise ValueError(f"the retention is given for {known}, not for {key!r}")
        seconds = limited_seconds_of(value, f"the retention of {key!r}", _FOR_EVER)
        kept_for[WorkflowStatus(key)] = timedelta(seconds=seconds)
    return kept_for
