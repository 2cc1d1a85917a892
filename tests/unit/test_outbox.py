"""Outcomes that share their writes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial

import pytest

from py_orchestrate._context import Unwind
from py_orchestrate._engine.outbox import LARGEST, Outbox
from py_orchestrate.models import StepRecord
from py_orchestrate.testing._samples import in_background, race

from ..waiting import wait_until

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


def step(sequence: int, output: str = "1") -> StepRecord:
    return StepRecord(sequence, "activity", "act", "completed", "{}", output, None, None, MOMENT, MOMENT)


class Store:
    """A store that remembers each write; while it is ``held``, small writes last."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.begun = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.check: Callable[[Sequence[StepRecord]], object] = lambda _: None

    def hold(self) -> None:
        self.may_end.clear()

    def __call__(self, steps: Sequence[StepRecord]) -> None:
        self.begun += 1
        if len(steps[0].output or "") <= LARGEST:
            assert self.may_end.wait(10)
        self.check(steps)
        self.writes.append([each.sequence for each in steps])


@pytest.fixture
def store() -> Store:
    return Store()


class Sender:
    """Puts outcomes into an outbox, and keeps what comes of each."""

    def __init__(self, store: Store, limit: int = 8) -> None:
        self.outbox = Outbox(store, limit)
        self.concluded: dict[int, BaseException | None] = {}

    def put(self, sequence: int, output: str = "1") -> None:
        self.outbox.put(step(sequence, output), partial(self._conclude, sequence))

    def _conclude(self, sequence: int, error: BaseException | None) -> None:
        assert sequence not in self.concluded
        self.concluded[sequence] = error

    def put_while_storing(self, store: Store, sequences: Sequence[int]) -> Future[None]:
        """Put the first, whose write lasts until the store is let go, and, meanwhile, the others, which wait for it."""
        store.hold()
        first = in_background(partial(self.put, sequences[0]))
        wait_until(lambda: store.begun)
        for sequence in sequences[1:]:
            self.put(sequence)
        return first


def test_a_lone_outcome_is_stored_at_once(store: Store) -> None:
    sender = Sender(store)
    sender.put(0)
    assert (store.writes, sender.concluded) == ([[0]], {0: None})


def test_outcomes_that_come_during_a_write_share_the_next_one(store: Store) -> None:
    sender = Sender(store)
    first = sender.put_while_storing(store, range(6))
    assert sender.concluded == {}, "concluded before it was durable"
    store.may_end.set()
    first.result(10)
    assert store.writes == [[0], [1, 2, 3, 4, 5]]
    assert sender.concluded == dict.fromkeys(range(6))


def test_an_outcome_is_stored_before_it_is_concluded(store: Store) -> None:
    seen: list[bool] = []
    outbox = Outbox(store, 8)

    def put(sequence: int) -> None:
        outbox.put(step(sequence), lambda _: seen.append(any(sequence in write for write in store.writes)))

    race([lambda n=n: [put(n * 100 + each) for each in range(100)] for n in range(8)])  # type: ignore[misc]
    assert seen == [True] * 800
    assert Counter(sequence for write in store.writes for sequence in write) == Counter(
        n * 100 + each for n in range(8) for each in range(100)
    )


def test_whoever_finds_no_room_waits_for_it(store: Store) -> None:
    sender = Sender(store, limit=2)
    first = sender.put_while_storing(store, range(3))
    late = [in_background(partial(sender.put, sequence)) for sequence in (3, 4, 5)]
    wait_until(lambda: len(sender.outbox._blocked) == 3)
    assert not any(each.done() for each in late)
    store.may_end.set()
    for each in (first, *late):
        each.result(10)
    assert sender.concluded == dict.fromkeys(range(6))
    assert max(map(len, store.writes)) == 2


def test_a_record_that_cannot_be_stored_harms_no_other(store: Store) -> None:
    error = ValueError("not this one")

    def refuse(steps: Sequence[StepRecord]) -> None:
        if 2 in [each.sequence for each in steps]:
            raise error

    sender = Sender(store)
    first = sender.put_while_storing(store, range(5))
    store.check = refuse
    store.may_end.set()
    first.result(10)
    assert sender.concluded == {0: None, 1: None, 2: error, 3: None, 4: None}
    sender.put(5)
    assert store.writes == [[0], [1], [3], [4], [5]]


def test_whoever_is_to_leave_is_told_once_for_all(store: Store) -> None:
    def leave(_: Sequence[StepRecord]) -> None:
        raise Unwind

    sender = Sender(store)
    first = sender.put_while_storing(store, range(5))
    begun, store.check = store.begun, leave
    store.may_end.set()
    first.result(10)
    assert [type(error) for error in sender.concluded.values()] == [Unwind] * 5
    assert store.begun == begun + 1


def test_nobody_waits_for_a_large_outcome(store: Store) -> None:
    sender = Sender(store)
    first = sender.put_while_storing(store, [0, 1])
    sender.put(2, "x" * (LARGEST + 1))
    assert sender.concluded == {2: None}
    store.may_end.set()
    first.result(10)
    assert store.writes == [[2], [0], [1]]
