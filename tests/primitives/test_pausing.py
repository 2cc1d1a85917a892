"""Pausing and resuming."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import WorkflowStateError
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
BOTH = pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)


@BOTH
def test_a_run_that_waits_is_paused_at_once(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> list[Any]:
        return [durable.wait_for_event("go"), durable.wait_for_event("go")]

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := database.read_workflow(handle.id)) and found.waiting_for)
    handle.pause()
    handle.pause()
    assert handle.status()["status"] == "paused"
    handle.raise_event("go", 1)
    handle.raise_event("go", 2)
    other = runner.start_workflow(w)
    other.raise_event("go")
    other.raise_event("go")
    other.result(10)
    assert handle.status()["status"] == "paused", "whatever else is taken up"
    handle.resume()
    handle.resume()
    assert handle.result(10) == [1, 2]
    for request in (handle.pause, handle.resume):
        with pytest.raises(WorkflowStateError, match="is done"):
            request()


@BOTH
def test_a_run_that_runs_is_paused_at_its_next_call(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    running, go_on = threading.Event(), threading.Event()
    ran: list[int] = []

    @activity
    def act(n: int) -> int:
        ran.append(n)
        running.set()
        go_on.wait(10)
        return n

    @workflow
    def w() -> list[int]:
        return [act(1), act(2), act(3)]

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert running.wait(10)
    handle.pause()
    assert handle.status()["status"] == "processing"
    go_on.set()
    wait_until(lambda: handle.status()["status"] == "paused")
    assert ran == [1]
    assert [step["status"] for step in runner.get_history(handle.id)] == ["completed"], "what ran is recorded"
    runner.stop()
    runner.start()
    assert handle.status()["status"] == "paused"
    handle.resume()
    assert handle.result(10) == [1, 2, 3]
    assert ran == [1, 2, 3]


def test_a_pause_that_is_withdrawn_in_time(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    running, go_on = threading.Event(), threading.Event()

    @activity
    def act() -> None:
        running.set()
        go_on.wait(10)

    @workflow
    def w() -> str:
        act()
        act()
        return "done"

    handle = orchestrator(memory).start_workflow(w)
    assert running.wait(10)
    handle.pause()
    handle.resume()
    go_on.set()
    assert handle.result(10) == "done"


def test_timers_go_on_while_a_run_is_paused(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> str:
        durable.sleep(100)
        return "woken"

    clock = FakeClock()
    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    early, late = runner.start_workflow(w), runner.start_workflow(w)
    for handle in (early, late):
        wait_until(lambda handle=handle: (found := memory.read_workflow(handle.id)) and found.wake_at)
        handle.pause()
    clock.advance(50)
    early.resume()
    clock.advance(50)
    assert early.result(10) == "woken"
    assert late.status()["status"] == "paused"
    late.resume()
    assert late.result(10) == "woken"


def test_a_paused_run_can_be_cancelled(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    cleaned: list[str] = []

    @workflow
    def w() -> None:
        try:
            durable.sleep(3600)
        finally:
            with durable.shield():
                durable.sleep(0.01)
                cleaned.append("up")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.wake_at)
    handle.pause()
    handle.cancel()
    with pytest.raises(WorkflowStateError, match="is being cancelled: it cannot be paused"):
        handle.pause()
    assert handle.wait(10)["status"] == "cancelled"
    assert cleaned == ["up"]


def test_the_children_of_a_paused_run_go_on(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child() -> Any:
        return durable.wait_for_event("go")

    @workflow
    def parent() -> Any:
        return child()

    runner = orchestrator(memory)
    handle = runner.start_workflow(parent, workflow_id="p")
    wait_until(lambda: (found := memory.read_workflow("p-0")) and found.waiting_for)
    handle.pause()
    runner.raise_event("p-0", "go", 5)
    assert runner.get_handle("p-0").result(10) == 5
    assert handle.status()["status"] == "paused"
    handle.resume()
    assert handle.result(10) == 5


@BOTH
def test_no_race_leaves_a_run_stuck(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act() -> None:
        pass

    @workflow
    def w() -> str:
        for _ in range(5):
            act()
            durable.sleep(0.001)
        return "done"

    runner = orchestrator(database, max_workers=4, poll_interval_seconds=0.05)
    handles = [runner.start_workflow(w) for _ in range(20)]

    def disturb() -> None:
        for handle in handles * 10:
            with contextlib.suppress(WorkflowStateError):
                handle.pause()
            with contextlib.suppress(WorkflowStateError):
                handle.resume()

    threads = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "cancelled" not in {handle.status()["status"] for handle in handles}
    for handle in handles:
        with contextlib.suppress(WorkflowStateError):
            handle.resume()
    assert [handle.result(30) for handle in handles] == ["done"] * 20
