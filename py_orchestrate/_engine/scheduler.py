"""Starts the runs of schedules when their time has come, once in the whole fleet.

Every orchestrator looks. Which runs a look starts is decided here, from the schedule as it is stored; that decision and
the runs are stored in one atomic step, on the condition that nobody else has stored one meanwhile. A run's id is made
of the schedule's and the time, so that even a store whose step is not atomic starts each time once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from .. import _cron as cron
from ..db_manager.base import BaseDatabaseManager
from ..models import ScheduleRecord, WorkflowRecord, WorkflowStatus

_logger = logging.getLogger(__name__)

LATE_AFTER = timedelta(minutes=1)
"""A time that is over for longer has been missed; until then it is only late."""
MOST_WAITING = 1000
_STARTED_AT_ONCE = 100
_BETWEEN_MENDS = timedelta(minutes=1)


class SchedulerHost(Protocol):
    """What is needed of the engine around."""

    database: BaseDatabaseManager

    def version_of(self, name: str) -> str | None:
        """Return the version of a workflow's code; ``None`` where it has none, or is not registered here."""
        ...

    def wake(self) -> None:
        """Look for runs to take up, because one has just become ready."""
        ...


class Scheduler:
    """The schedules, as one orchestrator sees them."""

    def __init__(self, host: SchedulerHost) -> None:
        self._host = host
        self._told: set[tuple[str, str]] = set()
        self._mended_at: datetime | None = None

    def turn(self, now: datetime) -> None:
        """Start what is due at a time. A schedule that cannot be read or reckoned holds up no other."""
        self._each(self._host.database.list_schedules(due_at=now), lambda schedule: self._serve(schedule, now))

    def mend(self, now: datetime) -> bool:
        """Bring schedules back whose next time lies too far ahead; return whether there were any.

        What is due tells nothing of those, so all are read: at the start, after a clock was set, and now and then, for
        it may be another machine's clock that was ahead.
        """
        if self._mended_at is not None and abs(now - self._mended_at) < _BETWEEN_MENDS:
            return False
        self._mended_at = now
        changes: list[ScheduleRecord] = []

        def look(schedule: ScheduleRecord) -> None:
            changed = mended(schedule, now)
            if changed != schedule:
                changes.append(changed)
                self._host.database.store_schedule(changed._replace(revision=schedule.revision + 1))
                _logger.info("schedule %r goes on at %s: the clock was ahead", schedule.id, changed.next_at)

        self._each(self._host.database.list_schedules(), look)
        return bool(changes)

    def _each(self, schedules: Iterable[ScheduleRecord], serve: Callable[[ScheduleRecord], None]) -> None:
        for schedule in schedules:
            try:
                serve(schedule)
            except (ImportError, ValueError) as error:
                if (schedule.id, str(error)) not in self._told:
                    self._told.add((schedule.id, str(error)))
                    _logger.warning("schedule %r cannot be served here: %s", schedule.id, error)

    def _serve(self, schedule: ScheduleRecord, now: datetime) -> None:
        changed, ticks = decide(schedule, now, is_running=self._is_running(schedule.last_run_id))
        if changed == schedule:
            return
        runs = [self._run(schedule, tick, now) for tick in ticks]
        if self._host.database.store_schedule(changed._replace(revision=schedule.revision + 1), runs=runs) and runs:
            self._host.wake()

    def _is_running(self, workflow_id: str | None) -> bool:
        record = None if workflow_id is None else self._host.database.read_workflow(workflow_id)
        return record is not None and not record.status.is_final

    def _run(self, schedule: ScheduleRecord, tick: datetime, now: datetime) -> WorkflowRecord:
        return WorkflowRecord(
            id=run_id(schedule.id, tick),
            name=schedule.name,
            status=WorkflowStatus.PROCESSING,
            input=schedule.input,
            queue=schedule.queue,
            priority=schedule.priority,
            version=self._host.version_of(schedule.name) or schedule.version,
            scheduled_at=tick,
            created_at=now,
            updated_at=now,
        )


def run_id(schedule_id: str, tick: datetime) -> str:
    """Return the id of the run that a schedule starts for a time."""
    return f"{schedule_id}-{tick.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def decide(schedule: ScheduleRecord, now: datetime, *, is_running: bool) -> tuple[ScheduleRecord, list[datetime]]:
    """Return how a schedule stands after a look, and the times that a run is started for.

    Args:
        schedule: The schedule, as it was.
        now: The time.
        is_running: Whether the last run that it started has not ended.

    Raises:
        ValueError: Its expression or its time zone is not known here.
        ImportError: What reckons with them is not installed.
    """
    due, next_at = _due(schedule, now)
    waiting: list[datetime] = []
    if schedule.overlap == "allow":
        ticks = due
    elif schedule.overlap == "queue":
        waiting = [*schedule.waiting, *due]
        ticks = [] if is_running else waiting[:1]
        waiting = waiting[len(ticks) :]
        if len(waiting) > MOST_WAITING:
            _tell(schedule, waiting[MOST_WAITING:], f"{MOST_WAITING} others wait already")
            waiting = waiting[:MOST_WAITING]
    else:
        ticks = [] if is_running else due[-1:]
        _tell(schedule, [tick for tick in due if tick not in ticks], "the run before has not ended")
    changed = schedule._replace(next_at=next_at, waiting=tuple(waiting))
    if ticks:
        changed = changed._replace(last_at=ticks[-1], last_run_id=run_id(schedule.id, ticks[-1]))
    return changed, ticks


def mended(schedule: ScheduleRecord, now: datetime) -> ScheduleRecord:
    """Return the schedule with the next time from now on, where it has a later one: the clock was ahead, and set back.

    Times that came while it was ahead come again; those whose runs were started then have them already. Clocks that
    differ by as much as those of machines do are no reason.

    Raises:
        ValueError, ImportError: See ``decide``.
    """
    if schedule.is_paused or schedule.next_at is None:
        return schedule
    rule = schedule.cron, schedule.timezone
    latest = cron.next_tick(*rule, now + LATE_AFTER)
    if latest is None or schedule.next_at <= latest:
        return schedule
    waiting = tuple(tick for tick in schedule.waiting if tick <= now)
    return schedule._replace(next_at=cron.next_tick(*rule, now), waiting=waiting)


def _due(schedule: ScheduleRecord, now: datetime) -> tuple[list[datetime], datetime | None]:
    """Return the times that have come and are not to be passed over, and the next one that has not been dealt with."""
    first = schedule.next_at
    if first is None or first > now:
        return [], first
    rule = schedule.cron, schedule.timezone
    before_first = first - timedelta(seconds=1)
    if schedule.catch_up == "all":
        due = list(islice(cron.ticks_until(*rule, before_first, now), _STARTED_AT_ONCE))
        return due, cron.next_tick(*rule, due[-1] if due else now)
    if schedule.catch_up == "last":
        last = cron.last_tick(*rule, before_first, now)
        due = [] if last is None else [last]
    else:
        due = list(cron.ticks_until(*rule, max(before_first, now - LATE_AFTER), now))
        if first < now - LATE_AFTER:
            _logger.info("schedule %r passes over the times from %s on that were missed", schedule.id, first)
    return due, cron.next_tick(*rule, now)


def _tell(schedule: ScheduleRecord, passed_over: list[datetime], why: str) -> None:
    for tick in passed_over:
        _logger.info("schedule %r passes over %s: %s", schedule.id, tick, why)
