"""Sagas: what was done is undone in reverse order, when a later step fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, RetryPolicy, activity, durable, workflow
from py_orchestrate.errors import CompensationError

from ..breakdown import Breakdown
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]

ran: list[Any] = []


@pytest.fixture(autouse=True)
def effects() -> None:
    ran.clear()


@pytest.fixture
def act() -> Any:
    @activity
    def act(value: Any, *, fails: bool = False) -> Any:
        ran.append(value)
        if fails:
            raise ValueError(f"{value} fails")
        return value

    return act


def test_only_what_was_registered_is_undone_in_reverse(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def undo(value: str) -> None:
        durable.sleep(0.001)
        act(value)

    @workflow
    def w(fails: bool) -> str:
        with durable.Saga() as saga:
            saga.add(act, "undo 1")
            act("do 1")
            saga.add(undo, value="undo 2")
            durable.sleep(0.001)
            act("do 2", fails=fails)
            saga.add(act, "never registered")
        return "done"

    runner = orchestrator(memory)
    assert runner.start_workflow(w, fails=False).result(10) == "done"
    assert ran == ["do 1", "do 2"]
    ran.clear()
    handle = runner.start_workflow(w, fails=True)
    assert handle.wait(10)["error_message"] == "do 2 fails"
    assert ran == ["do 1", "do 2", "undo 2", "undo 1"]
    assert [step["kind"] for step in runner.get_history(handle.id)] == [
        "activity", "timer", "activity", "workflow", "activity"
    ]  # fmt: skip


def test_a_compensation_that_fails_does_not_stop_the_others(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def w() -> Any:
        try:
            with durable.Saga() as saga:
                for n in range(4):
                    saga.add(act.options(retry=RetryPolicy(max_attempts=2, initial_interval=0.01)), n, fails=n % 2 == 1)
                act("do", fails=True)
        except CompensationError as error:
            return [error.failures, str(error.__cause__)]

    assert orchestrator(memory).start_workflow(w).result(10) == [
        ["act: ValueError: 3 fails", "act: ValueError: 1 fails"], "do fails"
    ]  # fmt: skip
    assert ran == ["do", 3, 3, 2, 1, 1, 0]


def test_a_cancelled_saga_is_undone(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    def w() -> None:
        with durable.Saga() as outer:
            outer.add(act, "outer")
            with durable.Saga() as inner:
                inner.add(act, "inner")
                durable.wait_for_event("never")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.waiting_for)
    assert ran == [], "a run that leaves its worker undoes nothing"
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    assert ran == ["inner", "outer"]


def test_a_saga_inside_another_that_goes_on(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def w() -> str:
        with durable.Saga() as outer:
            outer.add(act, "not undone")
            try:
                with durable.Saga() as inner:
                    inner.add(act, "undone")
                    act("do", fails=True)
            except ValueError:
                act("instead")
        return "done"

    assert orchestrator(memory).start_workflow(w).result(10) == "done"
    assert ran == ["do", "undone", "instead"]


def test_an_exit_in_an_activity_undoes_too(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @activity
    def leaves() -> None:
        raise SystemExit(3)

    @workflow
    def w() -> None:
        with durable.Saga() as saga:
            saga.add(act, "undone")
            leaves()

    assert orchestrator(memory).start_workflow(w).wait(10)["error_message"] == "SystemExit: 3"
    assert ran == ["undone"]


def test_changed_code_undoes_nothing(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    changed: list[bool] = []

    @workflow
    def w() -> None:
        with durable.Saga() as saga:
            saga.add(act, "undone")
            if changed:
                durable.sleep(1)
            act("do")
            durable.wait_for_event("go")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.waiting_for)
    changed.append(True)
    handle.raise_event("go")
    assert "step 0: history has 'act', code called 'timer sleep'" in handle.wait(10)["error_message"]
    assert ran == ["do"]


def test_a_breakdown_in_the_middle_of_undoing(memory: MemoryDatabaseManager, breakdown: Breakdown, act: Any) -> None:
    @activity
    def stop() -> None:
        breakdown.here()

    @workflow
    def w() -> None:
        with durable.Saga() as saga:
            for n in range(4):
                saga.add(act if n != 2 else breaks, n)
            act("do", fails=True)

    @workflow
    def breaks(n: int) -> None:
        act(n)
        stop()

    @workflow
    def whole() -> str:
        try:
            w()
        except ValueError as error:
            return str(error)
        return "no failure"

    assert breakdown.recover(memory, whole).result(10) == "do fails"
    assert ran == ["do", 3, 2, 1, 0]


def test_outside_of_a_workflow_compensations_are_plain_calls(act: Any) -> None:
    def plain() -> None:
        with durable.Saga() as saga:
            saga.add(act, "undone")
            act("do", fails=True)

    with pytest.raises(ValueError, match="do fails"):
        plain()
    assert ran == ["do", "undone"]
