"""Replay: a run that was interrupted goes on as if it had not been.

"Interrupted" is played on every store by an orchestrator that is taken for dead; ``test_replay_crashes.py`` does it
with real processes that die.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow

from ..breakdown import Breakdown
from ..histories import outline
from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
MakeProgram = Callable[[str], Program]


# --- one value, always ------------------------------------------------------------------------------------------------


def test_a_result_is_the_same_before_and_after(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    @activity
    def probe() -> dict[str, Any]:
        return {"pair": (1, 2), "n": 1, "deep": [{"keys": {1: "one"}, "seen": {3}}]}

    @activity
    def touch(value: dict[str, Any]) -> None:
        value["n"] += 100
        value["deep"][0]["seen"].add(4)
        value["deep"].append("more")

    @workflow
    def w() -> list[Any]:
        value = probe()
        touch(value)
        stop()
        return [type(value["pair"]).__name__, value]

    recovered, undisturbed = breakdown.both(database, w)
    expected = ["tuple", {"pair": (1, 2), "n": 1, "deep": [{"keys": {1: "one"}, "seen": {3}}]}]
    assert recovered["output"] == undisturbed["output"] == expected


def test_what_an_activity_changes_later_stays_out(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    kept: list[int] = []

    @activity
    def give() -> list[int]:
        kept.append(len(kept))
        return kept

    @activity
    def spoil() -> None:
        kept.append(-1)

    @workflow
    def w() -> list[list[int]]:
        first = give()
        spoil()
        stop()
        return [first, give()]

    assert breakdown.recover(database, w).result(10) == [[0], [0, -1, 2]]


def test_what_the_workflow_changes_stays_out_of_the_history(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], orchestrator: MakeOrchestrator
) -> None:
    seen = []

    @activity
    def give() -> dict[str, list[int]]:
        return {"n": [1]}

    @activity
    def look(value: Any) -> None:
        seen.append(value)

    @workflow
    def w(given: list[int]) -> list[Any]:
        value = give()
        value["n"].append(2)
        given.append(2)
        look(value)
        stop()
        return [value, given]

    handle = breakdown.recover(database, w, [1])
    assert handle.result(10) == [{"n": [1, 2]}, [1, 2]]
    assert seen == [{"n": [1, 2]}]
    history = orchestrator(database, start=False).get_history(handle.id)
    assert history[0]["output"] == {"n": [1]}
    assert history[1]["input"] == {"value": {"n": [1, 2]}}


def test_an_activity_gets_its_argument_as_it_was_at_the_call(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    changed = threading.Event()

    @activity
    def echo(value: list[int]) -> list[int]:
        assert changed.wait(10)
        return value

    @workflow
    def w(value: list[int]) -> list[int]:
        future = echo.submit(value)
        value.append(2)
        changed.set()
        return future.result()

    given = [1]
    handle = orchestrator(database).start_workflow(w, given)
    given.append(3)
    assert handle.result(10) == [1]


def test_two_readers_of_one_future_get_one_value(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def give() -> list[int]:
        return [1]

    @workflow
    def w() -> bool:
        future = give.submit()
        return future.result() == future.result() == durable.gather(future)[0] == [1]

    assert orchestrator(memory).start_workflow(w).result(10) is True


# --- falsy results ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, 0.0, ()], ids=repr)
def test_an_empty_result_is_a_result(
    database: BaseDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    orchestrator: MakeOrchestrator,
    value: object,
) -> None:
    runs: list[object] = []

    @activity
    def give() -> object:
        runs.append(value)
        return value

    @workflow
    def w() -> object:
        before = [give(), give()]
        stop()
        return value if before == [value, value] and type(before[1]) is type(value) else "changed"

    handle = breakdown.recover(database, w)
    status = handle.wait(10)
    assert (status["status"], status["output"], status["error_message"]) == ("done", value, None)
    assert handle.result() == value
    assert len(runs) == 2
    history = orchestrator(database, start=False).get_history(handle.id)
    assert [step["output"] for step in history] == [value, value, None]


# --- handled failures -------------------------------------------------------------------------------------------------


def test_a_handled_failure_is_replayed(
    database: BaseDatabaseManager, breakdown: Breakdown, orchestrator: MakeOrchestrator, hits: Counter[str]
) -> None:
    @activity
    def ship(order: str) -> None:
        hits["ship"] += 1
        raise ValueError(f"no stock for {order} (try {hits['ship']})")

    @activity
    def notify(order: str, text: str) -> None:
        hits["notify"] += 1

    @activity
    def refund(order: str) -> None:
        breakdown.here()
        hits["refund"] += 1

    @workflow
    def order(order: str) -> list[str]:
        try:
            ship(order)
        except ValueError as error:
            notify(order, str(error))
            refund(order)
            return [type(error).__name__, str(error)]
        return []

    handle = breakdown.recover(database, order, "7")
    assert handle.result(10) == ["ValueError", "no stock for 7 (try 1)"]
    assert hits == {"ship": 1, "notify": 1, "refund": 1}
    assert outline(orchestrator(database, start=False), handle.id) == [
        (0, "ship", "failed"),
        (1, "notify", "completed"),
        (2, "refund", "completed"),
    ]


def test_a_failure_at_the_very_end_runs_again(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, hits: Counter[str]
) -> None:
    stored, released = threading.Event(), threading.Event()

    @activity
    def call() -> str:
        hits["call"] += 1
        if hits["call"] == 1:
            raise ValueError("not yet")
        return "there"

    @workflow
    def w() -> str:
        try:
            return call()
        except ValueError:
            stored.set()
            assert released.wait(10)
            return "gave up"

    first = orchestrator(memory)
    handle = first.start_workflow(w)
    assert stored.wait(10)
    wait_until(lambda: outline(first, handle.id) == [(0, "call", "failed")])
    memory.release_owner(first._engine.owner)
    second = orchestrator(memory)
    assert second.get_handle(handle.id).result(10) == "there"
    released.set()
    assert first.stop(timeout=10)
    assert outline(second, handle.id) == [(0, "call", "completed")]
    assert handle.status()["output"] == "there"


def test_retries_in_a_loop_are_replayed_one_by_one(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], hits: Counter[str]
) -> None:
    @activity
    def flaky() -> int:
        hits["flaky"] += 1
        if hits["flaky"] < 3:
            raise ConnectionError(f"try {hits['flaky']}")
        return hits["flaky"]

    @workflow
    def w() -> list[Any]:
        seen: list[Any] = []
        while True:
            try:
                seen.append(flaky())
                break
            except ConnectionError as error:
                seen.append(str(error))
        stop()
        return [*seen, flaky()]

    assert breakdown.recover(database, w).result(10) == ["try 1", "try 2", 3, 4]


# --- kinds of loops ---------------------------------------------------------------------------------------------------


def loop_comprehension(poll: Callable[[], int]) -> list[int]:
    return [poll() for _ in range(5)]


def loop_while(poll: Callable[[], int]) -> list[int]:
    seen = [poll()]
    while seen[-1] < 5:
        seen.append(poll())
    return seen


def loop_recursion(poll: Callable[[], int], left: int = 5) -> list[int]:
    return [poll(), *loop_recursion(poll, left - 1)] if left else []


def loop_generator(poll: Callable[[], int]) -> list[int]:
    def polls() -> Any:
        while (value := poll()) < 5:
            yield value
        yield value

    return list(polls())


def loop_nested(poll: Callable[[], int]) -> list[int]:
    seen = []
    for outer in range(9):
        if outer == 1:
            continue
        while True:
            seen.append(poll())
            if seen[-1] in (3, 5):
                break
        if seen[-1] == 5:
            break
    return seen


def loop_map(poll: Callable[[], int]) -> list[int]:
    return list(map(lambda _: poll(), range(5)))  # noqa: C417 - a loop that runs in C


def loop_sorted(poll: Callable[[], int]) -> list[int]:
    return sorted(range(1, 6), key=lambda _: -poll(), reverse=True)


@pytest.mark.parametrize(
    "loop",
    [loop_comprehension, loop_while, loop_recursion, loop_generator, loop_nested, loop_map, loop_sorted],
    ids=lambda loop: loop.__name__[5:],
)
@pytest.mark.parametrize("place", [1, 2, 5])
def test_each_call_of_a_loop_is_a_step_of_its_own(
    memory: MemoryDatabaseManager, breakdown: Breakdown, loop: Callable[..., list[int]], place: int
) -> None:
    runs: list[int] = []

    @activity
    def poll() -> int:
        if len(runs) == place - 1:
            breakdown.here()
        runs.append(len(runs) + 1)
        return len(runs)

    @workflow
    def w() -> list[int]:
        return loop(poll)

    assert breakdown.recover(memory, w).result(10) == [1, 2, 3, 4, 5] == runs


def test_a_thousand_calls_of_one_name_and_argument(database: BaseDatabaseManager, breakdown: Breakdown) -> None:
    size = 1000 if "leases" in database.capabilities else 40  # JSON files are rewritten for each step
    runs: list[int] = []

    @activity
    def poll(same: str) -> int:
        if len(runs) == size * 3 // 4:
            breakdown.here()
        runs.append(len(runs))
        return runs[-1]

    @workflow
    def w() -> list[int]:
        return [poll("same") for _ in range(size)]

    assert breakdown.recover(database, w).result(30) == list(range(size)) == runs
