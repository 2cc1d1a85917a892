"""Retry policies: what they accept, and what they decide."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from py_orchestrate import RetryPolicy
from py_orchestrate._options import NO_OPTIONS, ActivityOptions
from py_orchestrate._times import later, seconds_of

ERROR = ValueError("x")


def delays(policy: RetryPolicy, attempts: int, chance: float = 0.5) -> list[float | None]:
    return [policy.next_delay(attempt, ERROR, 0, chance) for attempt in range(1, attempts + 1)]


def test_waits_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(max_attempts=None, initial_interval=1, backoff=3, max_interval=20, jitter=0)
    assert delays(policy, 6) == [1, 3, 9, 20, 20, 20]


def test_attempts_come_to_an_end() -> None:
    assert delays(RetryPolicy(max_attempts=3, jitter=0), 4) == [1, 2, None, None]
    assert delays(RetryPolicy(max_attempts=1), 1) == [None]
    assert delays(RetryPolicy(max_attempts=None, jitter=0), 1000)[-1] == 60


@pytest.mark.parametrize("attempt", [1_000, 10**6, 10**12])
def test_no_attempt_is_too_many(attempt: int) -> None:
    assert RetryPolicy(max_attempts=None, jitter=0).next_delay(attempt, ERROR, 0, 0.5) == 60
    assert RetryPolicy(max_attempts=None, backoff=1, jitter=0).next_delay(attempt, ERROR, 0, 0.5) == 1


def test_jitter_spreads_around_the_wait() -> None:
    policy = RetryPolicy(max_attempts=None, initial_interval=10, jitter=0.2)
    assert [policy.next_delay(1, ERROR, 0, chance) for chance in (0.0, 0.5, 1.0)] == pytest.approx([8, 10, 12])
    assert RetryPolicy(jitter=1).next_delay(1, ERROR, 0, 0.0) == 0


def test_which_errors_are_tried_again() -> None:
    policy = RetryPolicy(retry_on=(OSError, KeyError), give_up_on=FileNotFoundError)
    tried = [OSError(), ConnectionError(), KeyError(), FileNotFoundError(), ValueError(), SystemExit()]
    assert [policy.next_delay(1, error, 0, 0.5) is not None for error in tried] == [True, True, True, *[False] * 3]
    assert RetryPolicy().next_delay(1, SystemExit(), 0, 0.5) is None, "no Exception"
    assert RetryPolicy(retry_on=BaseException).next_delay(1, SystemExit(), 0, 0.5) is not None
    assert RetryPolicy(retry_on=OSError, give_up_on=OSError).next_delay(1, OSError(), 0, 0.5) is None


def test_no_attempt_begins_after_the_time_is_over() -> None:
    policy = RetryPolicy(max_attempts=None, initial_interval=10, jitter=0, max_elapsed=timedelta(minutes=1))
    assert policy.next_delay(1, ERROR, 50, 0.5) == 10
    assert policy.next_delay(1, ERROR, 50.1, 0.5) is None


def test_durations_are_seconds() -> None:
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=1500), max_interval=timedelta(hours=1), max_elapsed=5)
    assert (policy.initial_interval, policy.max_interval, policy.max_elapsed) == (1.5, 3600.0, 5.0)
    assert policy == RetryPolicy(initial_interval=1.5, max_interval=3600, max_elapsed=5.0)
    assert (policy.retry_on, policy.give_up_on) == ((Exception,), ())


def test_policies_are_constant() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RetryPolicy().max_attempts = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        RetryPolicy(5)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value", "error", "text"),
    [
        ("max_attempts", 0, ValueError, "must be at least 1, not 0"),
        ("max_attempts", 2.0, TypeError, "an int or None, not float"),
        ("max_attempts", True, TypeError, "an int or None, not bool"),
        ("initial_interval", -1, ValueError, "must not be negative, not -1"),
        ("initial_interval", timedelta(-1), ValueError, "must not be negative"),
        ("initial_interval", "1", TypeError, "a number of seconds or a timedelta, not str"),
        ("initial_interval", None, TypeError, "a number of seconds or a timedelta, not NoneType"),
        ("max_interval", math.nan, ValueError, "must be finite, not nan"),
        ("max_interval", True, TypeError, "a number of seconds or a timedelta, not bool"),
        ("max_elapsed", math.inf, ValueError, "must be finite, not inf"),
        (
            "initial_interval",
            1e300,
            ValueError,
            "must be at most 3153600000 seconds, which is a hundred years, not 1e+30",
        ),
        ("max_interval", timedelta.max, ValueError, "must be at most 3153600000 seconds"),
        ("max_elapsed", 10**12, ValueError, "must be at most 3153600000 seconds"),
        ("backoff", 0.5, ValueError, "must be at least 1, not 0.5"),
        ("backoff", 10**400, ValueError, "must be finite"),
        ("backoff", timedelta(1), TypeError, "is a number, not timedelta"),
        ("jitter", -0.1, ValueError, "must be from 0 to 1, not -0.1"),
        ("jitter", 1.1, ValueError, "must be from 0 to 1, not 1.1"),
        ("jitter", False, TypeError, "is a number, not bool"),
        ("retry_on", ValueError("x"), TypeError, "an exception class or a tuple of them"),
        ("retry_on", [ValueError], TypeError, "an exception class or a tuple of them"),
        ("give_up_on", (ValueError, int), TypeError, "an exception class or a tuple of them, not <class 'int'>"),
        ("give_up_on", None, TypeError, "an exception class or a tuple of them, not None"),
    ],
)
def test_a_value_that_makes_no_sense(field: str, value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        RetryPolicy(**{field: value})
    assert str(caught.value).startswith(f"RetryPolicy: {field}")
    assert text in str(caught.value)


def test_seconds() -> None:
    assert [seconds_of(value, "it") for value in (0, 5, 0.5, timedelta(minutes=1))] == [0, 5, 0.5, 60]
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert later(now, 1.5) == now + timedelta(seconds=1.5)
    with pytest.raises(ValueError, match="after the year 9999"):
        later(now, 1e12)


def test_options_change_by_name() -> None:
    retry = RetryPolicy(max_attempts=2)
    options = NO_OPTIONS.replaced(retry=retry, timeout=timedelta(seconds=2))
    assert options == ActivityOptions(retry=retry, timeout=2.0)
    assert options.replaced(timeout=None, total_timeout=9) == ActivityOptions(retry=retry, total_timeout=9.0)
    assert options.replaced() is options
    assert [each.limits_time for each in (NO_OPTIONS, options, options.replaced(timeout=None))] == [False, True, False]
    assert NO_OPTIONS.replaced(heartbeat_timeout=1).limits_time
