"""The database file that 1.0.2 wrote (tests/data/legacy-1.0.2.db) opens, and what it left unfinished is finished.

It holds three runs of one workflow: one done, one failed, and one that was killed in its third activity.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import WorkflowFailedError
from tests.waiting import wait_until

LEGACY = Path(__file__).parent.parent / "data" / "legacy-1.0.2.db"
DONE = "3b249f67-b335-45c1-a201-1bb3bd167a65"
FAILED = "f1394766-58bb-4b1a-8cba-416ef0da373e"
PROCESSING = "7f6127a5-ab64-4d73-9431-501f3c01d0be"
PROCESSED = {"processed_data": "data_from_database_processed", "processed_count": 200}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a copy of the file."""
    return Path(shutil.copy(LEGACY, tmp_path / "copy.db"))


@pytest.fixture
def engine(path: Path) -> Iterator[Orchestrator]:
    """Return an orchestrator on the copy, not started."""
    made = Orchestrator(path)
    yield made
    assert made.stop(timeout=10)
    made.db.close()


@pytest.fixture
def runs() -> list[tuple[Any, ...]]:
    """Register the workflow that wrote the file; return the calls of its activities, as they are made."""
    made: list[tuple[Any, ...]] = []

    @activity("fetch_data")
    def fetch_data(source: str) -> dict[str, Any]:
        made.append(("fetch_data", source))
        return {}

    @activity("process_data")
    def process_data(data: dict[str, Any]) -> dict[str, Any]:
        made.append(("process_data", data))
        return {}

    @activity("save_results")
    def save_results(processed: dict[str, Any], destination: str) -> dict[str, Any]:
        made.append(("save_results", processed, destination))
        return {"saved": True, "to": destination}

    @workflow("data_processing_workflow")
    def data_processing_workflow(source: str, destination: str) -> dict[str, Any]:
        processed = process_data(fetch_data(source))
        saved = save_results(processed, destination)
        return {"workflow_completed": True, "total_processed": processed["processed_count"], **saved}

    return made


def test_every_run_is_there_newest_first(engine: Orchestrator):
    assert [(run["id"], run["status"]) for run in engine.list_workflows()] == [
        (PROCESSING, "processing"),
        (FAILED, "failed"),
        (DONE, "done"),
    ]
    assert {run["name"] for run in engine.list_workflows()} == {"data_processing_workflow"}


def test_the_done_run_keeps_its_output(engine: Orchestrator):
    output = {"workflow_completed": True, "total_processed": 200, "saved": True, "to": "warehouse"}
    status = engine.get_workflow_status(DONE)
    assert status is not None
    assert status["output"] == output
    assert (status["error_message"], status["current_activity"]) == (None, None)
    assert engine.get_handle(DONE).result() == output


def test_the_failed_run_keeps_its_error(engine: Orchestrator):
    status = engine.get_workflow_status(FAILED)
    assert status is not None
    assert (status["status"], status["error_message"], status["output"]) == ("failed", "disk on fire", None)
    assert status["current_activity"] == "save_results"
    with pytest.raises(WorkflowFailedError, match="disk on fire"):
        engine.get_handle(FAILED).result()
    last = engine.get_history(FAILED)[-1]
    assert (last["name"], last["status"], last["error_message"]) == ("save_results", "failed", "disk on fire")


def test_the_history_keeps_its_order_and_values(engine: Orchestrator):
    steps = engine.get_history(PROCESSING)
    assert [(step["name"], step["status"]) for step in steps] == [
        ("fetch_data", "completed"),
        ("process_data", "completed"),
        ("save_results", "interrupted"),
    ]
    assert [step["sequence"] for step in steps] == [-3, -2, -1]
    assert steps[0]["input"] == {"source": "database"}
    assert steps[1]["output"] == PROCESSED


def test_times_are_the_same_moments_now_in_utc(engine: Orchestrator):
    old = sqlite3.connect(f"file:{LEGACY}?mode=ro&immutable=1", uri=True)
    (text,) = old.execute("SELECT created_at FROM workflows WHERE id = ?", (DONE,)).fetchone()
    old.close()
    status = engine.get_workflow_status(DONE)
    assert status is not None
    created = datetime.fromisoformat(status["created_at"])
    assert created.utcoffset() == timedelta(0)
    assert created == datetime.fromisoformat(text).astimezone()  # 1.0.2 wrote local time


def test_the_interrupted_run_goes_on_from_its_stored_results(engine: Orchestrator, runs: list[tuple[Any, ...]]):
    engine.start()
    status = engine.wait_for_workflow(PROCESSING, timeout=20)
    assert status["status"] == "done"
    assert status["output"] == {"workflow_completed": True, "total_processed": 200, "saved": True, "to": "crash"}
    assert runs == [("save_results", PROCESSED, "crash")]  # and nothing of the other two runs either


def test_stored_results_are_found_by_name(engine: Orchestrator, runs: list[tuple[Any, ...]]):
    # 1.0.2 stored no ordinals, so a call that came in between does not matter.
    @activity
    def extra() -> str:
        return "extra"

    def changed(source: str, destination: str) -> Any:
        first = durable.call_activity("fetch_data", source)
        return [first, extra(), durable.call_activity("process_data", first), destination]

    workflow("data_processing_workflow")(changed)
    engine.start()
    status = engine.wait_for_workflow(PROCESSING, timeout=20)
    assert status["output"] == [{"data": "data_from_database", "count": 100}, "extra", PROCESSED, "crash"]
    assert runs == []


def test_a_run_whose_workflow_is_not_registered_stays_as_it_is(engine: Orchestrator, caplog: pytest.LogCaptureFixture):
    engine.start()
    wait_until(lambda: "data_processing_workflow" in caplog.text)
    status = engine.get_workflow_status(PROCESSING)
    assert status is not None
    assert status["status"] == "processing"  # 1.0.2 marked it as failed


def test_the_file_is_migrated_once_and_opens_again(path: Path, runs: list[tuple[Any, ...]]):
    with Orchestrator(path) as engine:
        engine.wait_for_workflow(PROCESSING, timeout=20)
    with Orchestrator(path) as engine:
        assert [run["status"] for run in engine.list_workflows()] == ["done", "failed", "done"]
    assert len(runs) == 1


def test_the_sqlite_shell_still_reads_the_two_tables(path: Path):
    Orchestrator(path).db.close()
    shell = sqlite3.connect(path)
    assert dict(shell.execute("SELECT status, count(*) FROM workflows GROUP BY status")) == {
        "done": 1,
        "failed": 1,
        "processing": 1,
    }
    query = "SELECT activity_name, status FROM activity_executions WHERE workflow_id = ? ORDER BY created_at"
    assert shell.execute(query, (FAILED,)).fetchall() == [
        ("fetch_data", "completed"),
        ("process_data", "completed"),
        ("save_results", "failed"),
    ]
    shell.close()


def test_a_change_of_code_finds_the_run_in_the_middle(engine: Orchestrator, runs: list[tuple[Any, ...]]):
    answers: list[bool] = []

    def changed(source: str, destination: str) -> dict[str, Any]:
        answers.append(durable.patched("before what is recorded"))
        processed = durable.call_activity("process_data", durable.call_activity("fetch_data", source))
        answers.append(durable.patched("behind it"))
        saved: dict[str, Any] = durable.call_activity("save_results", processed, destination)
        return saved

    get_registry().workflows["data_processing_workflow"] = changed
    engine.start()
    assert engine.wait_for_workflow(PROCESSING, 10)["status"] == "done"
    assert answers == [False, True]
    assert [run[0] for run in runs] == ["save_results"]
