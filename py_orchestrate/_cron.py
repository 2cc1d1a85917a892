"""When a cron expression comes due: what the package ``cronsim`` finds, in a time zone, from one time to the next.

The rules for the two days of the year on which clocks change are Debian cron's (``man 8 cron``), which ``cronsim``
follows: what is due at an hour that is left out is due when it has been left out, once; what is due at an hour that
comes twice is due the first time; what recurs with ``*`` in the minute or the hour goes by the time that passes.
Python's ``zoneinfo`` has the time zones; where the system has no data for it, the package ``tzdata`` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_STEPS_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366))


def check_cron(cron: object, timezone: object) -> None:
    """Raise unless this is a cron expression that comes due, and a time zone.

    Raises:
        TypeError: One of them is no string.
        ValueError: One of them is not what it should be; the message says which field.
        ImportError: ``cronsim`` is not installed.
    """
    if not isinstance(timezone, str):
        raise TypeError(f"the time zone of a schedule is the name of one, not {type(timezone).__name__}")
    if not isinstance(cron, str):
        raise TypeError(f"the times of a schedule are a cron expression, not {type(cron).__name__}")
    if next_tick(cron, timezone, datetime.now(UTC)) is None:
        raise ValueError(f"the cron expression {cron!r} never comes due")


def next_tick(cron: str, timezone: str, after: datetime) -> datetime | None:
    """Return the first time after another one when the expression is due, in UTC; ``None`` if there is none."""
    return next(_ticks(cron, timezone, after), None)


def ticks_until(cron: str, timezone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the times after one and up to another one when the expression is due, in UTC."""
    for tick in _ticks(cron, timezone, after):
        if tick > until:
            break
        yield tick


def last_tick(cron: str, timezone: str, after: datetime, until: datetime) -> datetime | None:
    """Return the last of ``ticks_until``, without going through all of them; ``None`` for none."""
    for back in _STEPS_BACK:
        begin = max(after, until - back)
        last = max(ticks_until(cron, timezone, begin, until), default=None)
        if last is not None or begin == after:
            return last
    return None if (first := next_tick(cron, timezone, after)) is None or first > until else first


def _ticks(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    times = _cronsim()
    zone = _zone(timezone)
    try:
        # A named zone also for UTC, which the package takes as it is.
        found = times.CronSim(cron, after.astimezone(zone))
    except times.CronSimError as error:
        raise ValueError(
            f"{cron!r} is no cron expression ({error}); it has five fields, minute hour day month weekday, as in "
            "'30 2 * * *', or six with the second in front"
        ) from error
    last = after
    for tick in found:
        moment = tick.astimezone(UTC)
        if moment > last:  # in an hour that comes twice it may go back by one
            yield moment
            last = moment


def _zone(timezone: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # no program needs them that has no schedules

    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no time zone {timezone!r}; give an IANA name such as 'Europe/Berlin' or 'UTC', and where the "
            "system has no data for them: pip install tzdata"
        ) from error


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError as error:
        raise ImportError(
            "schedules need the package cronsim; install it with: pip install 'py-orchestrate[schedules]'"
        ) from error
    return cronsim
