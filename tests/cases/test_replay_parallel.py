"""Steps that run side by side, and the signals that take a run away from its thread."""

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


# --- in parallel ------------------------------------------------------------------------------------------------------


FAN_OUTS: dict[str, Callable[[Any], list[int]]] = {
    "gather": lambda act: durable.gather(*[act.submit(n) for n in (2, 1, 0)]),
    "map": lambda act: act.map([2, 1, 0]),
    "results in another order": lambda act: [
        future.result() for future in reversed([act.submit(n) for n in (0, 1, 2)])
    ],
}


@pytest.mark.parametrize("fan_out", FAN_OUTS)
def test_parallel_steps_have_their_place_in_program_order(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, fan_out: str
) -> None:
    ended = [threading.Event() for _ in range(4)]

    @activity
    def act(n: int) -> int:
        if n < 2:
            assert ended[n + 1].wait(10)  # the third ends first
        ended[n].set()
        return n * 10

    @workflow
    def w() -> list[int]:
        return FAN_OUTS[fan_out](act)

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert handle.result(10) == [20, 10, 0]
    inputs = [step["input"]["n"] for step in runner.get_history(handle.id)]
    assert inputs == ([2, 1, 0] if fan_out != "results in another order" else [0, 1, 2])


@pytest.mark.parametrize("fan_out", FAN_OUTS)
def test_parallel_steps_that_have_ended_do_not_run_again(
    database: BaseDatabaseManager, breakdown: Breakdown, hits: Counter[str], fan_out: str
) -> None:
    @activity
    def act(n: int) -> int:
        if n == 1:
            breakdown.here()
        hits[str(n)] += 1
        return n * 10

    @workflow
    def w() -> list[int]:
        return FAN_OUTS[fan_out](act)

    def wait_for_the_others() -> None:
        (run,) = database.list_workflows()
        wait_until(lambda: sum(step.status == "completed" for step in database.get_steps(run.id)) == 2)

    assert breakdown.recover(database, w, change=wait_for_the_others).result(10) == [20, 10, 0]
    assert hits == {"0": 1, "1": 1, "2": 1}


def test_parallel_failures_are_replayed(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], hits: Counter[str]
) -> None:
    @activity
    def act(n: int) -> int:
        hits[str(n)] += 1
        if n % 2:
            raise ValueError(f"odd {n}")
        return n

    @workflow
    def w() -> list[Any]:
        seen = durable.gather(*[act.submit(n) for n in range(4)], return_exceptions=True)
        try:
            act.map(range(3, -1, -1))
        except ValueError as error:
            seen.append(str(error))
        stop()
        return [repr(outcome) for outcome in seen]

    expected = ["0", "ValueError('odd 1')", "2", "ValueError('odd 3')", "'odd 3'"]
    assert breakdown.recover(database, w).result(10) == expected
    assert hits == {"0": 2, "1": 2, "2": 2, "3": 2}


def test_map_takes_several_iterables_and_stops_with_the_shortest(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def add(a: int, b: int) -> int:
        return a + b

    @workflow
    def w() -> list[Any]:
        return [add.map([1, 2, 3], iter([10, 20])), add.map([], [])]

    assert orchestrator(memory).start_workflow(w).result(10) == [[11, 22], []]
    assert add.map([1, 2], [3, 4]) == [4, 6]


def test_parallel_steps_run_at_the_same_time(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    meeting = threading.Barrier(3, timeout=10)

    @activity
    def meet(n: int) -> int:
        meeting.wait()
        return n

    @workflow
    def w() -> list[int]:
        return meet.map(range(3))

    assert orchestrator(memory, max_workers=3).start_workflow(w).result(10) == [0, 1, 2]


def test_more_parallel_steps_than_threads(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def double(n: int) -> int:
        return 2 * n

    @workflow
    def w() -> list[int]:
        return double.map(range(30))

    assert orchestrator(database, max_workers=1).start_workflow(w).result(20) == [2 * n for n in range(30)]


def test_what_nobody_waits_for_is_recorded_before_the_run_ends(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    may_end = threading.Event()

    @activity
    def slow() -> str:
        assert may_end.wait(10)
        return "recorded"

    @workflow
    def w() -> str:
        slow.submit()
        return "returned"

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    may_end.set()
    assert handle.result(10) == "returned"
    assert [step["output"] for step in runner.get_history(handle.id)] == ["recorded"]


@pytest.mark.parametrize("loses", ["leaving", "claim lost"])
def test_a_run_does_not_end_without_what_it_submitted(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, hits: Counter[str], loses: str
) -> None:
    began, may_end = threading.Event(), threading.Event()

    @activity
    def act(n: int) -> int:
        if n == 0:
            began.set()
            assert may_end.wait(10)
        hits[str(n)] += 1
        return n

    @workflow
    def w() -> str:
        act.submit(0)
        act.submit(1)
        return "returned"

    first = orchestrator(memory, max_workers=1)  # so the second one waits for the first one's thread
    handle = first.start_workflow(w)
    assert began.wait(10)
    if loses == "leaving":
        assert first.stop(timeout=0) is False
    else:
        memory.release_owner(first._engine.owner)
    may_end.set()
    assert first.stop(timeout=10)
    assert memory.read_workflow(handle.id).status.value == "processing"  # type: ignore[union-attr]
    second = orchestrator(memory)
    assert second.get_handle(handle.id).result(10) == "returned"
    assert outline(second, handle.id) == [(0, "act", "completed"), (1, "act", "completed")]
    assert hits["1"] >= 1


# --- signals cannot be swallowed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["except", "finally", "suppressed twice"])
def test_a_swallowed_signal_does_not_let_the_run_end(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, hits: Counter[str], shape: str
) -> None:
    began, may_end = threading.Event(), threading.Event()

    @activity
    def first_step() -> str:
        began.set()
        assert may_end.wait(10)
        return "first"

    @activity
    def second_step() -> str:
        hits["second"] += 1
        return "second"

    @activity
    def cleanup() -> str:
        hits["cleanup"] += 1
        return "clean"

    def attempt() -> str | None:
        try:
            return second_step()
        except BaseException:
            return None

    @workflow
    def w() -> list[Any]:
        seen: list[Any] = [first_step()]
        if shape == "except":
            seen.append(attempt())
        elif shape == "finally":
            try:
                seen.append(second_step())
            finally:
                seen.append(cleanup())
        else:
            seen += [attempt(), attempt()]
        return seen

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert began.wait(10)
    assert runner.stop(timeout=0) is False
    may_end.set()
    assert runner.stop(timeout=10)
    assert hits == {}
    record = database.read_workflow(handle.id)
    assert record is not None
    assert (record.status.value, record.output, record.owner) == ("processing", None, None)
    expected = {
        "except": ["first", "second"],
        "finally": ["first", "second", "clean"],
        "suppressed twice": ["first", "second", "second"],
    }
    assert orchestrator(database).get_handle(handle.id).result(10) == expected[shape]


def test_a_zombie_writes_nothing(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    began, may_end = threading.Event(), threading.Event()
    runs: list[str] = []

    @activity
    def act() -> str:
        runs.append(threading.current_thread().name)
        if len(runs) == 1:
            began.set()
            assert may_end.wait(10)
            return "the zombie's"
        return "the successor's"

    @workflow
    def w() -> list[str]:
        return [act(), act()]

    zombie = orchestrator(database)
    handle = zombie.start_workflow(w)
    assert began.wait(10)
    database.release_owner(zombie._engine.owner)
    successor = orchestrator(database)
    assert successor.get_handle(handle.id).result(10) == ["the successor's"] * 2
    before = (successor.get_workflow_status(handle.id), successor.get_history(handle.id))
    may_end.set()
    assert zombie.stop(timeout=10)
    assert (successor.get_workflow_status(handle.id), successor.get_history(handle.id)) == before
    assert len(runs) == 3
