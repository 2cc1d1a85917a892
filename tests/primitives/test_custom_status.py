"""What a workflow publishes of itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import (
    DurableCallError,
    InvalidWorkflowIdError,
    SerializationError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
)

from ..managers import SevenMethodsManager
from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
def test_a_status_is_seen_while_the_run_goes_on(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    go_on = threading.Event()

    @activity
    def work(part: int) -> None:
        if part == 1:
            go_on.wait(10)

    @workflow
    def w() -> None:
        durable.set_custom_status({"part": (0, 3)})
        work(0)
        durable.set_custom_status({"part": (1, 3)})
        work(1)
        durable.set_custom_status({"part": (2, 3)})
        durable.wait_for_event("go")
        durable.set_custom_status("almost")
        durable.set_custom_status("done")

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    wait_until(lambda: handle.custom_status() == {"part": (1, 3)})
    go_on.set()
    wait_until(lambda: handle.custom_status() == {"part": (2, 3)})
    handle.raise_event("go")
    handle.wait(10)
    assert handle.custom_status() == runner.get_custom_status(handle.id) == "done"
    assert [step["kind"] for step in runner.get_history(handle.id)] == ["activity", "activity", "event"]


def test_a_status_lasts(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def fails() -> None:
        durable.set_custom_status("before the end")
        raise ValueError("the end")

    @workflow
    def silent() -> None:
        durable.sleep(0.001)

    runner = orchestrator(memory)
    for code, status in ((fails, "before the end"), (silent, None)):
        handle = runner.start_workflow(code)
        handle.wait(10)
        assert handle.custom_status() == status


def test_a_status_comes_without_a_step_too(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    go_on = threading.Event()

    @workflow
    def w() -> None:
        durable.set_custom_status("thinking")
        go_on.wait(10)

    handle = orchestrator(memory).start_workflow(w)
    wait_until(lambda: handle.custom_status() == "thinking")
    go_on.set()
    handle.result(10)


def test_a_status_survives_a_crash(program: Callable[..., Program]) -> None:
    script = program("""
        @activity
        def act():
            pass

        @workflow
        def w():
            durable.set_custom_status("first")
            act()
            durable.set_custom_status("second")
            act()
            crash()
            act()

        with Orchestrator(os.path.join(os.environ["FOLDER"], "runs.db")) as orchestrator:
            if os.environ.get("CRASH") is None:
                print(orchestrator.get_custom_status("run"))
            handle = orchestrator.start_workflow(w, workflow_id="run")
            handle.wait(20)
            print(handle.custom_status())
        """)
    script.crash(kill=True)
    assert script.recover().out.split() == ["second", "second"]


def test_mistakes(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, tmp_path: Path) -> None:
    @activity
    def act() -> str:
        with pytest.raises(DurableCallError, match="not in an activity"):
            durable.set_custom_status(1)
        return "refused"

    @workflow
    def w(value: Any = 5) -> str:
        if value is None:
            with pytest.raises(SerializationError, match="custom status"):
                durable.set_custom_status(object())
        else:
            durable.set_custom_status(value)
        return act()

    with pytest.raises(DurableCallError, match="works inside a workflow only"):
        durable.set_custom_status(1)
    runner = orchestrator(memory)
    handle = runner.start_workflow(w, None)
    assert handle.result(10) == "refused"
    assert handle.custom_status() is None
    with pytest.raises(WorkflowNotFoundError):
        runner.get_custom_status("nobody")
    with pytest.raises(InvalidWorkflowIdError):
        runner.get_custom_status("")
    seven = orchestrator(SevenMethodsManager(tmp_path / "store")).start_workflow(w)
    assert "SevenMethodsManager cannot publish a custom status" in seven.wait(10)["error_message"]
    assert UnsupportedOperationError.__name__ in seven._orchestrator.db.get_workflow(seven.id).output_data["type"]
