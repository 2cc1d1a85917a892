"""When a failed activity is tried again, and after how long. Pure: no clock, no randomness, no threads.

The waits grow by a factor from one attempt to the next and are spread at random, so that many workflows that failed
together do not come back together: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. The terms are those
of Durable Functions and Temporal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ._times import limited_seconds_of, number_of

__all__ = ["RetryPolicy"]

_Classes = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and how, a failed activity is tried again.

    Durations are seconds as numbers, or ``timedelta``; they are kept as seconds.

    Attributes:
        max_attempts: How often the activity may run in all, the first time included; ``None`` for no limit.
        initial_interval: The wait before the second attempt.
        backoff: By how much each wait is longer than the one before it; 1 for waits of equal length.
        max_interval: The longest wait, before ``jitter``.
        jitter: How far a wait may be shorter or longer at random, as a share of it, from 0 to 1.
        retry_on: The class, or a tuple of classes, of the exceptions after which there is another attempt.
        give_up_on: The same for those after which there is none, although they are in ``retry_on``.
        max_elapsed: How long after the first attempt began another one may begin; ``None`` for no limit.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is out of its range, or a time longer than a hundred years.
    """

    max_attempts: int | None = 3
    initial_interval: float | timedelta = 1.0
    backoff: float = 2.0
    max_interval: float | timedelta = 60.0
    jitter: float = 0.1
    retry_on: _Classes = Exception
    give_up_on: _Classes = ()
    max_elapsed: float | timedelta | None = None

    def __post_init__(self) -> None:
        """Check every value, and turn durations into seconds."""
        if self.max_attempts is not None:
            if not isinstance(self.max_attempts, int) or isinstance(self.max_attempts, bool):
                raise TypeError(f"RetryPolicy: max_attempts is an int or None, not {type(self.max_attempts).__name__}")
            if self.max_attempts < 1:
                raise ValueError(f"RetryPolicy: max_attempts must be at least 1, not {self.max_attempts}")
        for name in ("initial_interval", "max_interval", "max_elapsed"):
            value = getattr(self, name)
            if not (name == "max_elapsed" and value is None):
                object.__setattr__(self, name, limited_seconds_of(value, f"RetryPolicy: {name}"))
        object.__setattr__(self, "backoff", number_of(self.backoff, "RetryPolicy: backoff"))
        object.__setattr__(self, "jitter", number_of(self.jitter, "RetryPolicy: jitter"))
        if self.backoff < 1:
            raise ValueError(f"RetryPolicy: backoff must be at least 1, not {self.backoff}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"RetryPolicy: jitter must be from 0 to 1, not {self.jitter}")
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _classes(getattr(self, name), f"RetryPolicy: {name}"))

    def next_delay(self, attempt: int, error: BaseException, elapsed: float, chance: float) -> float | None:
        """Return how many seconds to wait before the next attempt, or ``None`` to give up.

        Args:
            attempt: The number of the attempt that failed, from 1.
            error: What it raised.
            elapsed: Seconds since the first attempt began.
            chance: A random number from 0 to 1, which chooses within the jitter.
        """
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        if not isinstance(error, self.retry_on) or isinstance(error, self.give_up_on):
            return None
        delay = self._interval(attempt) * (1 + self.jitter * (2 * chance - 1))
        if self.max_elapsed is not None and elapsed + delay > _seconds(self.max_elapsed):
            return None
        return delay

    def _interval(self, attempt: int) -> float:
        initial, longest = _seconds(self.initial_interval), _seconds(self.max_interval)
        try:
            return min(initial * self.backoff ** (attempt - 1), longest)
        except OverflowError:
            return longest


def _classes(value: object, what: str) -> tuple[type[BaseException], ...]:
    classes = value if isinstance(value, tuple) else (value,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"{what} is an exception class or a tuple of them, not {each!r}")
    return classes


def _seconds(value: float | timedelta) -> float:
    """Return what ``__post_init__`` has made a number of."""
    assert not isinstance(value, timedelta)  # noqa: S101 - for the type checker
    return value
