"""Waiting costs no thread: one worker is enough for any number of runs that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from py_orchestrate import (
    BaseDatabaseManager,
    Orchestrator,
    RetryPolicy,
    activity,
    durable,
    workflow,
)
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until
from .conftest import STORES

MakeOrchestrator = Callable[..., Orchestrator]
MANY = 60 if "cosmos" in STORES else 2000  # the test server bears fewer requests


def library_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("py_orchestrate-")]


def test_ten_generations_need_one_worker(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def leaf() -> str:
        return "leaf"

    @workflow
    def generation(n: int) -> list[Any]:
        return [n, leaf() if n == 0 else generation(n - 1)]

    runner = orchestrator(store, max_workers=1)
    expected: Any = "leaf"
    for n in range(11):
        expected = [n, expected]
    handle = runner.start_workflow(generation, 10)
    assert handle.result(20) == expected
    runs = runner.list_workflows(status="done")
    assert [run["id"] for run in reversed(runs)] == [handle.id + "-0" * n for n in range(11)]


def test_forty_waiting_parents_need_one_worker(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def step(n: int) -> int:
        return n

    @workflow
    def child(n: int) -> int:
        return step(n)

    @workflow
    def parent(n: int) -> int:
        return child(n) + child(n + 1)

    runner = orchestrator(store, max_workers=1, start=False)
    handles = [runner.start_workflow(parent, n) for n in range(40)]
    runner.start()
    assert [handle.result(30) for handle in handles] == [2 * n + 1 for n in range(40)]
    assert len(runner.list_workflows(name="child", status="done")) == 80


def test_what_waits_leaves_the_worker_to_others(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity(retry=RetryPolicy(initial_interval=3600, max_interval=3600))
    def fails() -> None:
        raise ConnectionError("not now")

    @workflow
    def nobody() -> None:
        durable.wait_for_event("never")

    waits: dict[str, Callable[[], Any]] = {
        "timer": lambda: durable.sleep(3600),
        "event": lambda: durable.wait_for_event("never"),
        "event with timeout": lambda: durable.wait_for_event("never", timeout=3600),
        "child": nobody,
        "retry": fails,
        "submitted retry": lambda: fails.submit().result(),
        "in a finally block": lambda: durable.gather(nobody.submit(), fails.submit()),
    }

    @workflow
    def w(what: str) -> None:
        try:
            waits[what]()
        finally:
            durable.sleep(3600)

    @workflow
    def quick() -> str:
        return "done"

    runner = orchestrator(store, max_workers=1)
    handles = {what: runner.start_workflow(w, what) for what in waits}
    for handle in handles.values():
        wait_until(lambda handle=handle: (found := runner.db.read_workflow(handle.id)) and found.wake_at is not None)
    assert runner.start_workflow(quick).result(10) == "done"
    assert {handle.status()["status"] for handle in handles.values()} == {"processing"}
    wait_until(lambda: runner._engine._busy == 0)


def test_thousands_of_sleepers_are_rows(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    woken: list[int] = []

    @workflow
    def sleeper(n: int) -> None:
        durable.sleep(100 + n)
        woken.append(n)

    clock = FakeClock()
    runner = orchestrator(store, max_workers=2, clock=clock, poll_interval_seconds=0.01)
    for n in range(MANY):
        runner.invoke_workflow("sleeper", n=n)
    wait_until(lambda: (wake_at := store.look().wake_at) is not None and not runner.db.look().ready and wake_at, 60)
    wait_until(lambda: runner._engine._busy == 0, 60)
    assert len(library_threads()) <= 2 + 2 + 2, library_threads()  # workers, the loop, the guard of the exit
    assert woken == []
    clock.advance(100 + MANY / 2)
    wait_until(lambda: len(woken) > MANY / 2, 60)
    wait_until(lambda: runner._engine._busy == 0, 60)
    assert sorted(woken) == list(range(MANY // 2 + 1)), "those whose time has come, to the second, and no others"
    assert len(library_threads()) <= 2 + 2 + 2
    clock.advance(MANY)
    wait_until(lambda: len(woken) == MANY, 60)
    assert sorted(woken) == list(range(MANY))


def test_a_stop_does_not_wait_for_what_waits(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> str:
        return durable.wait_for_event("go")

    runner = orchestrator(store)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := runner.db.read_workflow(handle.id)) and found.waiting_for == "event:go")
    assert runner.stop(timeout=5)
    handle.raise_event("go", "sent while nobody runs")
    assert handle.status()["status"] == "processing"
    runner.start()
    assert handle.result(10) == "sent while nobody runs"
