"""Starting runs and sending events in a workflow's own code: steps, which no replay takes again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
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
from py_orchestrate.errors import WorkflowConflictError, WorkflowNotFoundError, WorkflowStateError

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
Code = Callable[[], Any]


@pytest.fixture
def runner(orchestrator: MakeOrchestrator, memory: MemoryDatabaseManager) -> Orchestrator:
    return orchestrator(memory)


@pytest.fixture
def other() -> Any:
    """Return a workflow that takes one event."""

    @workflow
    def other(what: str = "") -> list[Any]:
        return [what, durable.wait_for_event("news")]

    return other


def steps(runner: Orchestrator, workflow_id: str) -> list[tuple[Any, ...]]:
    return [(step["kind"], step["name"], step["status"]) for step in runner.get_history(workflow_id)]


def test_they_are_steps(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, other: Any) -> None:
    runner = orchestrator(store)

    @workflow
    def w() -> Any:
        started = runner.start_workflow(other, "a")
        runner.raise_event(started.id, "news", {"of": "today"})
        durable.sleep(0.001)
        return started.result()

    handle = runner.start_workflow(w, workflow_id="w")
    assert handle.result(10) == ["a", {"of": "today"}]
    start, send, _ = runner.get_history("w")
    assert (start["kind"], start["name"], start["input"], start["output"]) == ("start", "other", {"what": "a"}, "w-0")
    assert (send["kind"], send["name"], send["input"], send["output"]) == ("send", "news", {"of": "today"}, None)
    assert (start["status"], send["status"]) == ("completed", "completed")
    assert len(runner.list_workflows("other")) == 1


def test_a_replay_starts_nothing_whatever_has_become_of_the_run(runner: Orchestrator) -> None:
    @workflow
    def short() -> int:
        return 1

    @workflow
    def w() -> Any:
        started = runner.start_workflow(short)
        return [durable.wait_for_event("go"), started.id]

    handle = runner.start_workflow(w, workflow_id="w")
    wait_until(lambda: len(runner.get_history("w")) == 2)
    assert runner.wait_for_workflow("w-0", 10)["output"] == 1
    assert runner.purge_workflows(0, name="short") == 1
    handle.raise_event("go")
    assert handle.result(10) == [None, "w-0"]
    assert runner.list_workflows("short") == []


def test_what_they_fail_with_is_a_replay_s_too(runner: Orchestrator, other: Any) -> None:
    seen: list[list[str]] = []

    def tried(call: Callable[..., Any], *args: Any, **options: Any) -> str:
        try:
            call(*args, **options)
        except (WorkflowNotFoundError, WorkflowStateError, WorkflowConflictError) as error:
            return repr(error)
        return "done"

    @workflow
    def w() -> None:
        seen.append(
            [
                tried(runner.raise_event, "not there yet", "news"),
                tried(runner.raise_event, "has ended", "news"),
                tried(runner.start_workflow, other, "b", workflow_id="mine"),
            ]
        )
        durable.wait_for_event("go")

    @workflow
    def short() -> None: ...

    runner.start_workflow(short, workflow_id="has ended").result(10)
    runner.start_workflow(other, "a", workflow_id="mine")
    handle = runner.start_workflow(w)
    wait_until(lambda: len(runner.get_history(handle.id)) == 4)
    runner.start_workflow(other, workflow_id="not there yet")
    handle.raise_event("go")
    handle.result(10)
    for each in ("mine", "not there yet"):
        runner.cancel_workflow(each)
    assert seen[0] == seen[1]
    assert [text.split("(")[0] for text in seen[0]] == [
        "WorkflowNotFoundError", "WorkflowStateError", "WorkflowConflictError",
    ]  # fmt: skip


# --- code that was changed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((["send", "b", "c"], ["b", "c", "d"]), "step 0: history has 'send news', code called 'act'"),
        ((["send", "b", "c"], ["a", "b", "c"]), "step 0: history has 'send news', code called 'act'"),
        ((["a", "start"], ["a", "b"]), "step 1: history has 'start other', code called 'act'"),
        ((["a", "start"], ["a", "send"]), "step 1: history has 'start other', code called 'send news'"),
        ((["a", "b"], ["a", "start"]), "step 1: history has 'act', code called 'start other'"),
        ((["a", "start"], ["a"]), "step 1: history has 'start other', code called 'event go'"),
    ],
)
def test_another_call_in_its_place(
    runner: Orchestrator, act: Any, other: Any, change: tuple[list[str], list[str]], message: str
) -> None:
    def code(calls: list[str]) -> Code:
        def w() -> Any:
            for call in calls:
                if call == "send":
                    runner.raise_event("listener", "news")
                elif call == "start":
                    runner.start_workflow(other, workflow_id="started")
                else:
                    act(call)
            return durable.wait_for_event("go")

        return w

    before, after = change
    runner.start_workflow(other, workflow_id="listener")
    workflow("w")(code(before))
    handle = runner.start_workflow("w")
    wait_until(lambda: len(runner.get_history(handle.id)) == len(before) + 1)
    workflow("w")(code(after))
    handle.raise_event("go")
    assert handle.wait(10)["status"] == "failed"
    assert handle.status()["error_message"].startswith(message)


def test_a_change_behind_one_is_not_before_it(runner: Orchestrator, act: Any, other: Any) -> None:
    def before() -> Any:
        runner.start_workflow(other, workflow_id="started")
        return durable.wait_for_event("go")

    def after() -> Any:
        if durable.patched("change"):
            act("new")
        runner.start_workflow(other, workflow_id="started")
        return durable.wait_for_event("go")

    workflow("w")(before)
    handle = runner.start_workflow("w")
    wait_until(lambda: len(runner.get_history(handle.id)) == 2)
    workflow("w")(after)
    handle.raise_event("go", "went")
    assert handle.result(10) == "went"
    assert steps(runner, handle.id) == [("start", "other", "completed"), ("event", "go", "completed")]


def test_a_history_from_before_they_were_steps(tmp_path: Path, orchestrator: MakeOrchestrator, other: Any) -> None:
    path = tmp_path / "test.db"

    @workflow
    def w() -> Any:
        started = current[-1].start_workflow(other, "a")
        current[-1].raise_event("listener", "news", "once")
        return [durable.wait_for_event("go"), started.id]

    current = [orchestrator(SQLiteDatabaseManager(path))]
    current[0].start_workflow(other, workflow_id="listener")
    current[0].start_workflow(w, workflow_id="w")
    wait_until(lambda: len(current[0].get_history("w")) == 3)
    current[0].stop()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM activity_executions WHERE kind IN ('start', 'send')")
        connection.execute("UPDATE workflow_events SET id = 'w-1'")

    database = SQLiteDatabaseManager(path)
    current.append(orchestrator(database))
    current[1].raise_event("w", "go")
    assert current[1].wait_for_workflow("w", 10)["output"] == [None, "w-0"]
    assert {each["id"] for each in current[1].list_workflows("other")} == {"listener", "w-0"}
    assert len(database.load_events("listener")) == 1


# --- after a rewind ---------------------------------------------------------------------------------------------------


def rewound(runner: Orchestrator, failed: Code, mended: Code) -> str:
    """Run code that goes one way when a step has failed, and another one when it succeeds in a rewind."""
    broken = [True]

    @activity
    def pay() -> None:
        if broken:
            raise ValueError("declined")

    @workflow
    def w() -> Any:
        try:
            pay()
        except ValueError:
            failed()
            raise
        return mended()

    handle = runner.start_workflow(w, workflow_id="w")
    assert handle.wait(10)["status"] == "failed"
    broken.clear()
    runner.rewind_workflow("w")
    assert handle.wait(10)["status"] == "done", handle.status()["error_message"]
    return str(handle.result())


def test_another_event_is_sent_at_the_same_place(runner: Orchestrator) -> None:
    @workflow
    def listener() -> list[Any]:
        return [durable.wait_for_event("news"), durable.wait_for_event("news")]

    target = runner.start_workflow(listener)
    rewound(
        runner,
        lambda: runner.raise_event(target.id, "news", "declined"),
        lambda: runner.raise_event(target.id, "news", "paid"),
    )
    assert target.result(10) == ["declined", "paid"]


def test_another_run_is_started_at_the_same_place(runner: Orchestrator, act: Any) -> None:
    @workflow
    def alert(text: str) -> Any:
        return act(text)

    @workflow
    def shipping() -> Any:
        return act("shipped")

    started = rewound(
        runner, lambda: runner.start_workflow(alert, "declined"), lambda: runner.start_workflow(shipping).id
    )
    assert runner.wait_for_workflow("w-1", 10)["output"] == "declined"
    assert runner.wait_for_workflow(started, 10)["output"] == "shipped"


@pytest.mark.parametrize("child_first", [True, False])
def test_a_child_and_a_started_run_at_the_same_place(runner: Orchestrator, act: Any, *, child_first: bool) -> None:
    @workflow
    def same() -> Any:
        return act("same")

    def start() -> Any:
        return runner.start_workflow(same).id

    ways = (same, start) if child_first else (start, same)
    rewound(runner, *ways)
    wait_until(lambda: {each["output"] for each in runner.list_workflows("same")} == {"same"})
    assert len(runner.list_workflows("same")) == 2


def test_the_same_start_is_not_made_twice(runner: Orchestrator, act: Any) -> None:
    @workflow
    def same() -> Any:
        return act("same")

    def start() -> Any:
        return runner.start_workflow(same).id

    assert rewound(runner, start, start) == "w-1"
    assert len(runner.list_workflows("same")) == 1
