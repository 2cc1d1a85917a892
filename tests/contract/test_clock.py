"""The clock that tests turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from py_orchestrate._clock import Clock
from py_orchestrate.testing._samples import race
from py_orchestrate.testing.clock import FakeClock


def test_it_stands_still_until_it_is_turned() -> None:
    clock: Clock = FakeClock()
    assert clock.now() == clock.now() == datetime(2030, 1, 1, tzinfo=UTC)
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() == clock.monotonic() == 0


def test_both_times_advance_together() -> None:
    clock = FakeClock()
    clock.advance(90)
    clock.advance(0.25)
    assert clock.now() == datetime(2030, 1, 1, 0, 1, 30, 250_000, tzinfo=UTC)
    assert clock.monotonic() == 90.25


def test_it_does_not_go_back() -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)
    assert clock.monotonic() == 0


def test_threads_may_turn_it_at_once() -> None:
    clock = FakeClock()

    def turn() -> None:
        for _ in range(1000):
            clock.advance(1)

    race([turn] * 8)
    assert clock.monotonic() == 8000


def test_the_wall_clock_can_be_set() -> None:
    clock = FakeClock()
    clock.advance(10)
    clock.step(3600)
    assert (clock.now(), clock.monotonic()) == (datetime(2030, 1, 1, 1, 0, 10, tzinfo=UTC), 10)
    clock.step(-7200.5)
    assert (clock.now(), clock.monotonic()) == (datetime(2029, 12, 31, 23, 0, 9, 500_000, tzinfo=UTC), 10)
    clock.advance(1)
    assert (clock.now(), clock.monotonic()) == (datetime(2029, 12, 31, 23, 0, 10, 500_000, tzinfo=UTC), 11)
