"""Queues: how many of the runs in them may run at the same time, and how many may begin in a time.

A limit counts runs that a worker holds. One that waits, for a time, an event or a child workflow, holds none: it gives
its place back and takes one again when it goes on. So a parent can wait for children of its own queue, be its
concurrency 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ._identifiers import check_name
from ._times import seconds_of

__all__ = ["Queue"]

_LONGEST_PERIOD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that an orchestrator consumes, with its limits; ``None`` for no limit.

    The orchestrator that takes up a run goes by its own limits, so give all that consume a queue the same ones.

    Attributes:
        name: What ``start_workflow(…, queue=name)`` says.
        concurrency: How many of its runs may run at the same time, in all processes together.
        per_process: How many may run at the same time in one orchestrator.
        rate: How many may begin in which time, in all processes together: ``(100, timedelta(minutes=1))``, or with
            seconds. It is held to in every span of that length. A run that goes on after a wait or a crash does not
            begin.

    Raises:
        TypeError: The name is no string, a limit no int, or the rate no pair.
        ValueError: The name is blank, a limit is less than 1, or the time of the rate is not positive or longer than a
            year.
    """

    name: str
    concurrency: int | None = None
    per_process: int | None = None
    rate: tuple[int, float | timedelta] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.name, str):
            raise TypeError(f"a queue's name is a str, not {type(self.name).__name__}")
        check_name("queue", self.name)
        _check_limit(f"the concurrency of queue {self.name!r}", self.concurrency)
        _check_limit(f"per_process of queue {self.name!r}", self.per_process)
        if self.rate is None:
            return
        what = f"the rate of queue {self.name!r}"
        if not isinstance(self.rate, tuple | list) or len(self.rate) != 2:  # noqa: PLR2004 - a count and a time
            raise TypeError(f"{what} is a pair such as (100, timedelta(minutes=1)), not {self.rate!r}")
        _check_limit(what, self.rate[0])
        seconds = seconds_of(self.rate[1], f"the time of {what}")
        if not 0 < seconds <= _LONGEST_PERIOD.total_seconds():
            problem = "must be positive, not 0" if not seconds else f"is too long; at most {_LONGEST_PERIOD.days} days"
            raise ValueError(f"the time of {what} {problem}")

    @property
    def is_limited(self) -> bool:
        """Whether it has a limit."""
        return self.concurrency is not None or self.per_process is not None or self.rate is not None

    @property
    def starts_per_period(self) -> int | None:
        """How many runs may begin in a period; ``None`` for no limit."""
        return None if self.rate is None else self.rate[0]

    @property
    def period(self) -> timedelta:
        """The time of the rate; zero where there is none."""
        return timedelta() if self.rate is None else timedelta(seconds=seconds_of(self.rate[1], "the rate"))


def _check_limit(what: str, limit: object) -> None:
    if limit is None:
        return
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"{what} is an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"{what} must be at least 1, not {limit}; leave it out for no limit")
