"""Changing code while runs are under way: old runs replay what they began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, SQLiteDatabaseManager, activity, durable, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import DurableCallError

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def act() -> Any:
    @activity
    def act(value: str) -> str:
        return value

    return act


def waits(runner: Orchestrator, workflow_id: str) -> None:
    wait_until(lambda: (found := runner.db.read_workflow(workflow_id)) and found.waiting_for is not None)


def test_old_runs_go_the_old_way_and_new_ones_the_new(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    def before() -> list[str]:
        return [act("a"), act("b"), durable.wait_for_event("go"), act("c")]

    def after() -> list[str]:
        seen = [act("a")]
        if durable.patched("audit"):
            seen.append(act("audited"))
        seen += [act("b"), durable.wait_for_event("go")]
        if durable.patched("last step"):
            seen.append(act("new c"))
        else:
            seen.append(act("c"))
        return seen

    runner = orchestrator(memory)
    workflow("w")(before)
    old = runner.start_workflow("w")
    waits(runner, old.id)
    get_registry().workflows["w"] = after
    new = runner.start_workflow("w")
    waits(runner, new.id)
    for handle in (old, new):
        handle.raise_event("go", "went")
    assert new.result(10) == ["a", "audited", "b", "went", "new c"]
    # It stood at the event when the code was changed: behind that everything is new to it.
    assert old.result(10) == ["a", "b", "went", "new c"]
    assert [(step["kind"], step["name"]) for step in runner.get_history(new.id)] == [
        ("activity", "act"), ("patch", "audit"), ("activity", "act"), ("activity", "act"), ("event", "go"),
        ("patch", "last step"), ("activity", "act"),
    ]  # fmt: skip


def test_a_loop_has_one_answer(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    answers: list[bool] = []

    def before() -> list[Any]:
        return [durable.wait_for_event("go") for _ in range(3)]

    def after() -> list[Any]:
        seen = []
        for _ in range(3):
            answers.append(durable.patched("loop"))
            seen.append(durable.wait_for_event("go"))
        return seen

    runner = orchestrator(memory)
    workflow("w")(before)
    old = runner.start_workflow("w")
    waits(runner, old.id)
    get_registry().workflows["w"] = after
    new = runner.start_workflow("w")
    waits(runner, new.id)
    for handle, expected in ((old, False), (new, True)):
        answers.clear()
        for n in range(3):
            handle.raise_event("go", n)
        assert handle.result(10) == [0, 1, 2]
        assert set(answers) == {expected}


def test_an_id_belongs_to_one_place(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> str:
        durable.patched("same")
        try:
            durable.patched("same")
        except DurableCallError as error:
            return str(error)
        return "accepted"

    said = orchestrator(memory).start_workflow(w).result(10)
    assert "the change id 'same' is used at" in said
    assert "another one" in said


@pytest.mark.parametrize(("change_id", "error"), [("", ValueError), (" ", ValueError), (5, TypeError)])
def test_ids_that_are_none(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, change_id: Any, error: type[Exception]
) -> None:
    @workflow
    def w() -> str:
        with pytest.raises(error, match="name of a change"):
            durable.patched(change_id)
        return "refused"

    with pytest.raises(DurableCallError, match="works inside a workflow only"):
        durable.patched("x")
    assert orchestrator(memory).start_workflow(w).result(10) == "refused"


def test_a_patch_on_sqlite_survives_a_restart(tmp_path: Path, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    def w() -> list[Any]:
        return [durable.patched("x"), durable.wait_for_event("go"), durable.patched("y")]

    first = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"))
    handle = first.start_workflow(w)
    waits(first, handle.id)
    first.stop()
    again = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"))
    again.raise_event(handle.id, "go", 1)
    assert again.get_handle(handle.id).result(10) == [True, 1, True]
