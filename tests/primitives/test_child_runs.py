"""Child workflows: runs of their own, whose result or failure comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    SQLiteDatabaseManager,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import WorkflowConflictError, WorkflowFailedError

from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


class RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code


@pytest.mark.parametrize("database", ["memory", "sqlite", "sqlite-memory"], indirect=True)
def test_a_child_is_a_run_of_its_own(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act(n: int) -> tuple[int, str]:
        return n, durable.info().workflow_id

    @workflow
    def child(n: int) -> Any:
        return act(n)

    @workflow
    def parent() -> list[Any]:
        return [act(0), child(1), durable.call_workflow("child", n=2), child.submit(3).result(), child.map([4, 5])]

    runner = orchestrator(database)
    handle = runner.start_workflow(parent, workflow_id="p")
    assert handle.result(10) == [
        (0, "p"), (1, "p-1"), (2, "p-2"), (3, "p-3"), [(4, "p-4"), (5, "p-5")]
    ]  # fmt: skip
    steps = runner.get_history("p")
    assert [(step["kind"], step["name"], step["child_id"]) for step in steps] == [
        ("activity", "act", None), *[("workflow", "child", f"p-{n}") for n in range(1, 6)]
    ]  # fmt: skip
    assert [step["input"] for step in steps] == [{"n": n} for n in range(6)]
    record = database.read_workflow("p-1")
    assert record is not None
    assert (record.parent_id, record.name) == ("p", "child")
    assert [step["name"] for step in runner.get_history("p-1")] == ["act"]
    assert runner.get_handle("p-1").result() == (1, "p-1")


def test_a_failure_comes_back_as_its_own_class(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child(code: int) -> None:
        raise RefusedError(code)

    @workflow
    def parent() -> list[Any]:
        seen: list[Any] = []
        for call in (lambda: child(1), lambda: child.submit(2).result(), lambda: child.map([3, 4])):
            try:
                call()
            except RefusedError as error:
                seen.append(error.code)
        seen.append([error.code for error in durable.gather(child.submit(5), child.submit(6), return_exceptions=True)])
        durable.sleep(0.001)
        return seen

    assert orchestrator(memory).start_workflow(parent).result(10) == [1, 2, 3, [5, 6]]


def test_a_child_that_nobody_waits_for_goes_on(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child() -> Any:
        return durable.wait_for_event("go")

    @workflow
    def parent() -> str:
        child.submit()
        return "over"

    @workflow
    def fails() -> str:
        child.submit()
        raise ValueError("over")

    runner = orchestrator(memory)
    for start in (parent, fails):
        handle = runner.start_workflow(start)
        handle.wait(10)
        orphan = runner.get_handle(f"{handle.id}-0")
        assert orphan.status()["status"] == "processing"
        orphan.raise_event("go", "still there")
        assert orphan.result(10) == "still there"


def test_a_child_that_is_cancelled_alone(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child() -> None:
        durable.sleep(3600)

    @workflow
    def parent() -> str:
        try:
            child()
        except WorkflowFailedError as error:
            return f"{error.workflow_id} {error.status}"
        return "not cancelled"

    runner = orchestrator(memory)
    handle = runner.start_workflow(parent, workflow_id="p")
    wait_until(lambda: (found := memory.read_workflow("p-0")) and found.wake_at)
    runner.cancel_workflow("p-0")
    assert handle.result(10) == "p-0 cancelled"


def test_ids_and_timeouts_of_children(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child(n: int) -> int:
        return n

    @workflow
    def slow() -> None:
        durable.sleep(3600)

    @workflow
    def parent() -> list[Any]:
        own = child.options(workflow_id="own")
        seen: list[Any] = [own(1), own(1)]
        for taken in (lambda: own(2), lambda: child.options(workflow_id="alien")(1)):
            try:
                taken()
            except WorkflowConflictError as error:
                seen.append(error.workflow_id)
        try:
            slow.options(timeout=0.05)()
        except TimeoutError as error:
            seen.append(str(error))
        return seen

    runner = orchestrator(memory)
    runner.start_workflow(child, 1, workflow_id="alien").result(10)
    assert runner.start_workflow(parent, workflow_id="p").result(10) == [
        1, 1, "own", "alien", "workflow p-4 took longer than its timeout of 0.05 s"
    ]  # fmt: skip
    assert len(runner.list_workflows(name="child")) == 2


def test_a_long_id_has_children_too(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def generation(n: int) -> int:
        return 1 + generation(n - 1) if n else 0

    runner = orchestrator(memory)
    assert runner.start_workflow(generation, 20, workflow_id="p" * 199).result(20) == 20
    assert len({status["id"] for status in runner.list_workflows(status="done")}) == 21


def test_elsewhere_a_workflow_is_a_plain_function(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def child(n: int) -> int:
        return n + 1

    @activity
    def act() -> list[Any]:
        return [child(1), child.submit(2).result(), child.map([3])]

    @workflow
    def parent() -> list[Any]:
        return act()

    assert [child(1), child.submit(2).result(), child.map([3])] == [2, 3, [4]]
    runner = orchestrator(memory)
    assert runner.start_workflow(parent).result(10) == [2, 3, [4]]
    assert len(runner.list_workflows()) == 1


def test_without_children_a_nested_call_is_part_of_its_caller(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act(n: int) -> int:
        return n

    @workflow
    def child(n: int) -> int:
        return act(n)

    @workflow
    def parent() -> list[Any]:
        return [child(1), child.map([2, 3]), durable.call_workflow("child", 4)]

    runner = orchestrator(SevenMethodsManager(tmp_path / "store"))
    handle = runner.start_workflow(parent)
    assert handle.result(10) == [1, [2, 3], 4]
    assert [step["name"] for step in runner.get_history(handle.id)] == ["act"] * 4
    assert len(runner.list_workflows()) == 1


def test_two_orchestrators_share_a_family(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act(n: int) -> int:
        return n

    @workflow
    def child(n: int) -> int:
        durable.sleep(0.01)
        return act(n)

    @workflow
    def parent(n: int) -> int:
        return sum(child.map(range(n)))

    path = tmp_path / "test.db"
    runners = [orchestrator(SQLiteDatabaseManager(path), max_workers=2, poll_interval_seconds=0.02) for _ in range(2)]
    handles = [runners[n % 2].start_workflow(parent, 5) for n in range(20)]
    assert [handle.result(60) for handle in handles] == [10] * 20
    assert len(runners[0].list_workflows(name="child", status="done")) == 100


@pytest.mark.parametrize(("own_id", "result"), [("p-0", "p-0 is taken"), (None, "child")])
def test_a_childs_id_that_somebody_has_taken(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, own_id: str | None, result: str
) -> None:
    @workflow
    def child() -> str:
        return "child"

    @workflow
    def parent() -> str:
        try:
            return child.options(workflow_id=own_id)() if own_id else child()
        except WorkflowConflictError as error:
            return f"{error.workflow_id} is taken"

    runner = orchestrator(memory)
    runner.start_workflow(child, workflow_id="p-0").result(10)
    assert runner.start_workflow(parent, workflow_id="p").result(10) == result
