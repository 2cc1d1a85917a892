"""When large writes leave room for small ones."""

from __future__ import annotations

import pytest

from py_orchestrate.db_manager._pacing import Pacing
from py_orchestrate.testing.clock import FakeClock

LARGE, SMALL = 1, 2


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pacing(clock: FakeClock) -> Pacing:
    return Pacing(clock)


def test_by_itself_nothing_waits(pacing: Pacing) -> None:
    assert pacing.pause() == 0
    pacing.note_large(LARGE, 0.02)
    assert pacing.pause() == 0


def test_a_large_write_leaves_room_for_small_ones_of_others(pacing: Pacing, clock: FakeClock) -> None:
    pacing.note_small([SMALL])
    clock.advance(0.02)
    pacing.note_large(LARGE, 0.02)
    assert pacing.pause() == pytest.approx(0.16)
    clock.advance(0.1)
    assert pacing.pause() == pytest.approx(0.06)
    clock.advance(0.1)
    assert pacing.pause() == 0


def test_small_writes_of_its_own_count_for_nothing(pacing: Pacing) -> None:
    pacing.note_small([LARGE])
    pacing.note_large(LARGE, 0.02)
    assert pacing.pause() == 0


def test_small_writes_of_long_ago_count_for_nothing(pacing: Pacing, clock: FakeClock) -> None:
    pacing.note_small([SMALL])
    clock.advance(0.2)
    pacing.note_large(LARGE, 0.02)
    assert pacing.pause() == 0


def test_the_room_has_an_end(pacing: Pacing) -> None:
    pacing.note_small([SMALL])
    pacing.note_large(LARGE, 60)
    assert pacing.pause() == 1


def test_threads_that_are_gone_are_forgotten(pacing: Pacing) -> None:
    for thread in range(1000):
        pacing.note_small([thread])
    assert len(pacing._small_at) < 100
    pacing.note_large(LARGE, 0.02)
    assert pacing.pause() > 0
