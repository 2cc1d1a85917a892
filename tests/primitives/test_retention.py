"""Deleting runs that have ended, once or by rule, and the limit for what one value may take."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
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
from py_orchestrate.errors import (
    DurableCallError,
    SerializationError,
    UnsupportedOperationError,
    WorkflowFailedError,
    WorkflowNotFoundError,
)
from py_orchestrate.testing.clock import FakeClock

from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def flow() -> Any:
    @activity
    def act(n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return n

    @workflow
    def flow(n: int) -> int:
        return act(n)

    return flow


# --- once -------------------------------------------------------------------------------------------------------------


def test_old_runs_are_purged(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, flow: Any) -> None:
    clock = FakeClock()
    runner = orchestrator(store, clock=clock)
    runs = []
    for n in range(4):
        runs.append(runner.start_workflow(flow, n - 1))
        runs[-1].wait(10)
        clock.advance(60)
    assert runner.purge_workflows(600) == 0
    assert runner.purge_workflows(timedelta(seconds=150)) == 2
    assert [run["id"] for run in runner.list_workflows()] == [runs[3].id, runs[2].id]
    with pytest.raises(WorkflowNotFoundError):
        runner.get_history(runs[0].id)
    assert runner.purge_workflows(clock.now() - timedelta(seconds=90), status="failed") == 0
    assert runner.purge_workflows(clock.now(), name="flow", limit=1) == 1
    assert runner.purge_workflows(0) == 1
    assert runner.list_workflows() == []


def test_many_are_purged_in_short_transactions(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, flow: Any
) -> None:
    runner = orchestrator(store)
    for run in [runner.start_workflow(flow, n) for n in range(250)]:
        run.wait(20)
    assert runner.purge_workflows(datetime.now(UTC) + timedelta(hours=1), limit=120) == 120
    assert runner.purge_workflows(datetime.now(UTC) + timedelta(hours=1)) == 130
    assert runner.list_workflows() == []


def test_a_purged_id_is_free(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, flow: Any) -> None:
    runner = orchestrator(store)
    assert runner.start_workflow(flow, 1, workflow_id="one").result(10) == 1
    assert runner.purge_workflows(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert runner.start_workflow(flow, 2, workflow_id="one").result(10) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"older_than": -1}, ValueError, "age"),
        ({"older_than": "1"}, TypeError, "age"),
        ({"older_than": timedelta.max}, ValueError, "the age for .* must be at most 3153600000 seconds"),
        ({"older_than": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))}, ValueError, "no time in UTC"),
        ({"older_than": datetime(2030, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001 - that is the point
        ({"older_than": 1, "status": "processing"}, ValueError, "none that is 'processing' has"),
        ({"older_than": 1, "status": "gone"}, ValueError, "there is no status 'gone'"),
        ({"older_than": 1, "name": 5}, TypeError, r"the name of purge_workflows\(\) is a str, not int"),
        ({"older_than": 1, "limit": -1}, ValueError, "limit must not be negative"),
    ],
)
def test_mistakes_delete_nothing(
    orchestrator: MakeOrchestrator, flow: Any, arguments: Any, error: Any, text: str
) -> None:
    runner = orchestrator(MemoryDatabaseManager())
    runner.start_workflow(flow, 1).wait(10)
    with pytest.raises(error, match=text):
        runner.purge_workflows(**arguments)
    assert len(runner.list_workflows()) == 1


def test_not_in_a_workflow_and_not_on_every_store(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, tmp_path: Path
) -> None:
    runner = orchestrator(memory)

    @workflow
    def purges() -> None:
        runner.purge_workflows(0)

    with pytest.raises(WorkflowFailedError, match="must not be called in a workflow's own code") as caught:
        runner.start_workflow(purges).result(10)
    assert isinstance(caught.value.__cause__, DurableCallError)
    with pytest.raises(UnsupportedOperationError, match="cannot delete workflows"):
        orchestrator(SevenMethodsManager(tmp_path / "store")).purge_workflows(0)


# --- by rule ----------------------------------------------------------------------------------------------------------


def test_a_rule_deletes_what_has_ended_long_ago(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, flow: Any
) -> None:
    clock = FakeClock()
    runner = orchestrator(store, clock=clock, retention=timedelta(days=1), poll_interval_seconds=0.01)

    @workflow
    def waits() -> None:
        durable.wait_for_event("never")

    waiting = runner.start_workflow(waits)
    for run in [runner.start_workflow(flow, n) for n in range(250)]:
        run.wait(20)
    clock.advance(3600)
    young = runner.start_workflow(flow, 1)
    young.wait(10)
    clock.advance(23 * 3600 + 1)

    def left() -> set[str]:
        clock.advance(0.1)
        return {run["id"] for run in runner.list_workflows()}

    wait_until(lambda: left() == {waiting.id, young.id})
    clock.advance(3600)
    wait_until(lambda: left() == {waiting.id})


def test_a_rule_may_keep_some_longer(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, flow: Any) -> None:
    clock = FakeClock()
    kept = {"done": timedelta(hours=1), "failed": 24 * 3600}
    runner = orchestrator(memory, clock=clock, retention=kept, poll_interval_seconds=0.01)

    @workflow
    def fails() -> None:
        raise ValueError("as it should")

    @workflow
    def waits() -> None:
        durable.wait_for_event("never")

    done, failed, cancelled = runner.start_workflow(flow, 1), runner.start_workflow(fails), runner.start_workflow(waits)
    cancelled.cancel()
    for run in (done, failed, cancelled):
        run.wait(10)

    def left() -> set[str]:
        clock.advance(0.1)
        return {run["id"] for run in runner.list_workflows()}

    assert left() == {done.id, failed.id, cancelled.id}
    clock.advance(3600)
    wait_until(lambda: left() == {failed.id, cancelled.id})
    clock.advance(24 * 3600)
    wait_until(lambda: left() == {cancelled.id})
    clock.advance(365 * 24 * 3600)
    assert left() == {cancelled.id}


@pytest.mark.parametrize(
    ("retention", "error"),
    [
        (-1, ValueError),
        ("1", TypeError),
        (float("nan"), ValueError),
        ({"done": -1}, ValueError),
        ({"done": "1"}, TypeError),
        ({"processing": 1}, ValueError),
        ({"gone": 1}, ValueError),
        ({5: 1}, ValueError),
    ],
)
def test_what_is_no_rule_is_refused(retention: Any, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="the retention"):
        Orchestrator(tmp_path / "runs.db", retention=retention)


def test_under_a_steady_load_the_file_stops_growing(tmp_path: Path, orchestrator: MakeOrchestrator, flow: Any) -> None:
    path = tmp_path / "runs.db"
    runner = orchestrator(SQLiteDatabaseManager(path))
    pages: list[int] = []
    for _ in range(6):
        for run in [runner.start_workflow(flow, n) for n in range(150)]:
            run.wait(20)
        assert runner.purge_workflows(datetime.now(UTC) + timedelta(hours=1)) == 150
        with closing(sqlite3.connect(path)) as connection:
            pages.append(connection.execute("PRAGMA page_count").fetchone()[0])
    assert pages[-1] <= pages[0] * 1.1


def test_the_purge_uses_its_index(tmp_path: Path) -> None:
    from py_orchestrate.db_manager._sqlite_operations import _PURGE

    SQLiteDatabaseManager(tmp_path / "runs.db").close()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        values = {"before": "2030", "name": None, "status": None, "limit": 1}
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {_PURGE}", values))
    assert "workflows_ended" in plan
    assert "SCAN run" not in plan


# --- the limit for one value ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["argument", "result", "payload", "status", "child"])
def test_what_takes_too_much_is_refused(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, what: str
) -> None:
    runner = orchestrator(memory, max_payload_bytes=1000)
    large = "é" * 600  # 1,202 bytes as text

    @activity
    def act(value: str) -> str:
        return large if value == "result" else "small"

    @workflow
    def child(value: str) -> None: ...

    @workflow
    def w(what: str) -> None:
        if what == "status":
            durable.set_custom_status(large)
        elif what == "child":
            child(large)
        else:
            act(large if what == "argument" else what)

    if what == "payload":
        handle = runner.start_workflow(workflow("waits")(lambda: durable.wait_for_event("go")))
        with pytest.raises(SerializationError, match="the payload of event 'go' takes 1,202 bytes"):
            handle.raise_event("go", large)
        handle.raise_event("go", "small")
        assert handle.result(10) == "small"
        return
    with pytest.raises(WorkflowFailedError) as caught:
        runner.start_workflow(w, what).result(10)
    assert isinstance(caught.value.__cause__, SerializationError)
    assert "bytes, and max_payload_bytes is 1,000: store it elsewhere" in str(caught.value)
    assert "é" not in str(caught.value)


def test_a_start_that_takes_too_much_stores_nothing(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, flow: Any
) -> None:
    runner = orchestrator(memory, max_payload_bytes=50)
    with pytest.raises(SerializationError, match="the argument of workflow 'flow' takes"):
        runner.start_workflow(flow, "x" * 50)
    assert runner.list_workflows() == []
    assert runner.start_workflow(flow, 5).result(10) == 5


def test_what_is_stored_can_be_read_whatever_the_limit_is(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def w() -> str:
        return "x" * 1000

    handle = orchestrator(memory).start_workflow(w)
    assert handle.result(10) == "x" * 1000
    assert orchestrator(memory, max_payload_bytes=10).get_handle(handle.id).result(10) == "x" * 1000


def test_a_failure_that_takes_too_much_keeps_its_class(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, flow: Any
) -> None:
    @activity
    def fails() -> None:
        raise ValueError("x" * 5000)

    @workflow
    def w() -> Any:
        try:
            fails()
        except ValueError as error:
            durable.wait_for_event("go")  # the run leaves, and is replayed
            return [type(error).__name__, len(str(error)), flow(1)]

    runner = orchestrator(memory, max_payload_bytes=1000)
    handle = runner.start_workflow(w)
    handle.raise_event("go")
    assert handle.result(10) == ["ValueError", 5000, 1]


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-5, ValueError), (1.5, TypeError), (True, TypeError)])
def test_what_is_no_limit_is_refused(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_payload_bytes"):
        Orchestrator(db_manager=MemoryDatabaseManager(), max_payload_bytes=limit)
