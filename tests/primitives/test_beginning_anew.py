"""Workflows that never end: they begin anew, without their history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import DurableCallError, SerializationError

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
BOTH = pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)


@BOTH
def test_a_run_begins_anew(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    keys: list[str] = []

    @activity
    def act(n: int) -> int:
        keys.append(durable.info().idempotency_key)
        return n

    @workflow
    def child(n: int) -> int:
        return n

    @workflow
    def other(n: int) -> None:
        pass

    @workflow
    def w(n: int, total: int = 0) -> int:
        total += act(n) + child(n)
        runner.start_workflow(other, n)
        durable.set_custom_status(n)
        if n < 3:
            durable.continue_as_new(n + 1, total=total)
        return total

    runner = orchestrator(database)
    handle = runner.start_workflow(w, 0, workflow_id="w")
    assert handle.result(10) == 2 * (0 + 1 + 2 + 3)
    assert keys == ["w:0", "w-g1:0", "w-g2:0", "w-g3:0"]
    assert [step["name"] for step in runner.get_history("w")] == ["act", "child", "other"], "of the last generation"
    assert {status["id"] for status in runner.list_workflows("child")} == {"w-1", "w-g1-1", "w-g2-1", "w-g3-1"}
    assert len(runner.list_workflows("other")) == 4
    assert handle.custom_status() == 3


@BOTH
def test_events_go_over(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def entity(seen: list[Any]) -> list[Any]:
        seen.append(durable.wait_for_event("add"))
        if seen[-1] == "end":
            return [*seen, durable.wait_for_event("other")]
        return durable.continue_as_new(seen)

    runner = orchestrator(database)
    handle = runner.start_workflow(entity, [])
    handle.raise_event("other", "kept")
    for n in range(20):
        handle.raise_event("add", n, event_id=f"n{n}")
        handle.raise_event("add", n, event_id=f"n{n}")
    handle.raise_event("add", "end")
    assert handle.result(20) == [*range(20), "end", "kept"]


def test_nothing_after_it_is_run(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    ran: list[Any] = []

    @activity
    def act(value: Any) -> Any:
        ran.append(value)
        return value

    @workflow
    def w(again: bool = True) -> str:
        if not again:
            return act("second")
        pending = act.submit("submitted")
        try:
            durable.continue_as_new(again=False)
        except BaseException:
            act("never")
            durable.continue_as_new(again=True)
        finally:
            pending.result()
        return "wrong"

    assert orchestrator(memory).start_workflow(w).result(10) == "second"
    assert ran == ["submitted", "second"]


def test_a_cancelled_run_does_not_begin_anew(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> None:
        try:
            durable.sleep(3600)
        except durable.WorkflowCancelled:
            durable.continue_as_new()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.wake_at)
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"


def test_a_cancellation_between_two_generations_can_be_cleaned_up_after(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    ran: list[Any] = []

    @activity
    def act(value: Any) -> Any:
        ran.append(value)
        if value == "cancel":
            runner.cancel_workflow("w")
        return value

    @workflow
    def w(n: int) -> None:
        try:
            if n == 1:
                act("cancel")
            durable.continue_as_new(n + 1)
        finally:
            with durable.shield():
                if n == 1:
                    act("clean up")

    runner = orchestrator(memory)
    assert runner.start_workflow(w, 0, workflow_id="w").wait(10)["status"] == "cancelled"
    assert ran == ["cancel", "clean up"]
    assert [(step["kind"], step["status"]) for step in runner.get_history("w")] == [
        ("activity", "completed"), ("anew", "cancelled"), ("activity", "completed")
    ]  # fmt: skip


def test_a_child_keeps_its_parent(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child(n: int) -> int:
        if n < 5:
            durable.continue_as_new(n + 1)
        return n

    @workflow
    def parent() -> int:
        return child(0)

    assert orchestrator(memory, max_workers=1).start_workflow(parent).result(10) == 5


def test_a_second_start_finds_a_run_that_has_begun_anew(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def w(n: int) -> int:
        if n < 3:
            durable.continue_as_new(n + 1)
        return n

    runner = orchestrator(memory)
    for _ in range(2):
        assert runner.start_workflow(w, 0, workflow_id="own").result(10) == 3
    assert len(runner.list_workflows()) == 1


def test_mistakes(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act() -> str:
        with pytest.raises(DurableCallError, match="not in an activity"):
            durable.continue_as_new()
        return "refused"

    @workflow
    def w(value: Any = None) -> str:
        with pytest.raises(TypeError, match="unexpected keyword argument 'valu'"):
            durable.continue_as_new(valu=1)
        with pytest.raises(SerializationError, match="argument of workflow 'w'"):
            durable.continue_as_new(object())
        return act()

    with pytest.raises(DurableCallError, match="works inside a workflow only"):
        durable.continue_as_new()
    assert orchestrator(memory).start_workflow(w).result(10) == "refused"
