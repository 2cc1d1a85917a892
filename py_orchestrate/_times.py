"""Durations and points in time as users write them: checked, in seconds and in UTC. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

LONGEST_SECONDS = 36_500 * 86_400
"""A hundred years, which can be taken from any time that a program runs at."""


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


def limited_seconds_of(value: object, what: str, instead: str = "") -> float:
    """Return a duration in seconds that can be reckoned with: taken from any time, and waited for.

    Args:
        value: See ``seconds_of``.
        what: What it is, for messages.
        instead: What to do for more, for messages.

    Raises:
        TypeError: See ``seconds_of``.
        ValueError: As above; or it is longer than a hundred years.
    """
    seconds = seconds_of(value, what)
    if seconds > LONGEST_SECONDS:
        raise ValueError(
            f"{what} must be at most {LONGEST_SECONDS} seconds, which is a hundred years, not {value}{instead}"
        )
    return seconds


def interval_of(value: object, what: str, *, may_be_endless: bool = False) -> float:
    """Return the seconds between two turns of a thread.

    Args:
        value: A positive number.
        what: What it is, for messages.
        may_be_endless: Whether any number that is too large stands for the largest.

    Raises:
        TypeError: It is no number.
        ValueError: It is not positive, or longer than a hundred years.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} is a number of seconds, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{what} must be positive, not {value}")
    return float(min(value, LONGEST_SECONDS)) if may_be_endless else limited_seconds_of(value, what)


def timeout_of(value: object, what: str) -> float | None:
    """Return how many seconds a program waits at most; ``None`` for ever.

    As for Python's own waits, a time that is over by now is no mistake, and an endless one stands for the largest.

    Args:
        value: A number of seconds, a ``timedelta`` or ``None``.
        what: What it is, for messages.

    Raises:
        TypeError: It is none of them.
        ValueError: It is not a number.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} is a number of seconds, a timedelta or None, not {type(value).__name__}")
    if math.isnan(min(value, LONGEST_SECONDS)):
        raise ValueError(f"{what} must be a number, not nan; None waits for ever")
    return float(max(0, min(value, LONGEST_SECONDS)))


def utc_of(moment: object, what: str) -> datetime:
    """Return a time in UTC.

    Args:
        moment: A ``datetime`` with a time zone.
        what: What needs it, for messages.

    Raises:
        TypeError: It is no ``datetime``.
        ValueError: It has no time zone, or is before the year 1 or after the year 9999 in UTC.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} takes a datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(
            f"{what} needs a time zone to know when {moment} is; give it one, as in datetime(2030, 1, 1, tzinfo=UTC)"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{what} cannot reckon with {moment}, which is no time in UTC") from None


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
