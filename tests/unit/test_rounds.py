"""The event and the future of a workflow's thread."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from py_orchestrate._engine.rounds import Bell, Round
from py_orchestrate.testing._samples import in_background, race

from ..waiting import wait_until


def test_a_bell_that_was_rung_lets_the_next_wait_pass_once() -> None:
    bell = Bell()
    assert not bell.wait(0)
    for _ in range(3):
        bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)


def test_a_bell_can_be_cleared() -> None:
    bell = Bell()
    bell.ring()
    bell.clear()
    assert not bell.wait(0)
    bell.ring()
    assert bell.wait(0)


def test_a_bell_wakes_who_waits() -> None:
    bell = Bell()
    waits = in_background(lambda: bell.wait(10))
    bell.ring()
    assert waits.result(10)


def test_no_ring_is_lost() -> None:
    """Whatever was done before a ring is seen after a wait: else this would take the length of a wait."""
    bell, threads, each = Bell(), 4, 2000
    done = [0] * threads
    late = []

    def work(n: int) -> None:
        for _ in range(each):
            done[n] += 1
            bell.ring()

    def look() -> None:
        while sum(done) < threads * each:
            if not bell.wait(10) and sum(done) < threads * each:
                late.append(list(done))
                return

    race([look, *(partial(work, n) for n in range(threads))])
    assert late == []


def test_a_round_hands_its_outcome_to_all_who_wait() -> None:
    round_ = Round[int]()
    waits = [in_background(round_.result) for _ in range(4)]
    assert not round_.is_over
    round_.end(7)
    assert [each.result(10) for each in waits] == [7] * 4
    assert (round_.is_over, round_.result(), round_.error()) == (True, 7, None)
    assert Round.ended(8).result() == 8


def test_a_round_that_has_failed_raises_for_all() -> None:
    round_ = Round[int]()
    error = ValueError("no")
    started = threading.Event()

    def wait() -> BaseException | None:
        started.set()
        return round_.error()

    waits = in_background(wait)
    wait_until(started.is_set)
    round_.fail(error)
    assert waits.result(10) is error
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            round_.result()
