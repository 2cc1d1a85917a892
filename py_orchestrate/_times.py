"""Durations and points in time as users write them: checked, in seconds and in UTC. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta


def seconds_of(value: object, what: str) -> float:
    """Return a duration in seconds.

    Args:
        value: A number of seconds, or a ``timedelta``; not negative.
        what: What it is, for messages.

    Raises:
        TypeError: It is neither.
        ValueError: It is negative or not finite.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = number_of(value, what)
    else:
        raise TypeError(f"{what} is a number of seconds or a timedelta, not {type(value).__name__}")
    if seconds < 0:
        raise ValueError(f"{what} must not be negative, not {value}")
    return seconds


def utc_of(moment: object, what: str) -> datetime:
    """Return a time in UTC.

    Args:
        moment: A ``datetime`` with a time zone.
        what: What needs it, for messages.

    Raises:
        TypeError: It is no ``datetime``.
        ValueError: It has no time zone.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} takes a datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(
            f"{what} needs a time zone to know when {moment} is; give it one, as in datetime(2030, 1, 1, tzinfo=UTC)"
        )
    return moment.astimezone(UTC)


def later(now: datetime, seconds: float) -> datetime:
    """Return the time so many seconds after ``now``.

    Raises:
        ValueError: There is no such time.
    """
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{seconds} seconds from now are after the year 9999") from None


def number_of(value: object, what: str) -> float:
    """Return a number, as a float.

    Args:
        value: A finite number.
        what: What it is, for messages.

    Raises:
        TypeError: It is none.
        ValueError: It is not finite.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} is a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, not {value if isinstance(value, float) else 'as large as that'}")
    return number
