"""What a workflow costs the database: commits and queries, counted where they happen."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from py_orchestrate._engine import recovery
from py_orchestrate.db_manager import _connections, _sqlite_claims
from py_orchestrate.decorators import get_registry
from tests.waiting import wait_until


@pytest.fixture
def statements(monkeypatch):
    """Return the statements that SQLite runs on behalf of the library, as they come."""
    seen: list[str] = []
    noting = threading.RLock()
    monkeypatch.setattr(recovery, "LINGER_SECONDS", 60)  # on a slow machine the background loop would add commits

    def note(statement):
        if not statement.startswith(
            "INSERT INTO py_orchestrate_merged"
        ):  # which is told of again for each that a trigger runs
            with noting:
                seen.append(" ".join(statement.split()))

    def commit_merged(writer, statement):
        # Noted before it is done, as all others are: once it is done, whoever waits for it may count at once.
        told = ["INSERT INTO activity_executions" for value in statement[1] if value == "step"] + ["COMMIT"]
        with noting:
            seen.extend(told)
            try:
                writer.execute(*statement)
            except sqlite3.Error:
                del seen[-len(told) :]
                raise

    monkeypatch.setattr(_connections.Connections, "commit_merged", staticmethod(commit_merged))

    connect = sqlite3.connect

    def traced_connect(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(_connections.sqlite3, "connect", traced_connect)
    return seen


def commits(statements):
    return sum(statement == "COMMIT" for statement in statements)


@activity
def double(number):
    return number * 2


def register():
    """Register what the other fixture has cleared away."""
    get_registry().activities["double"] = double.fn


@pytest.mark.parametrize("activities", [0, 1, 2, 5, 50])
def test_one_durable_write_for_each_activity(statements, tmp_path, orchestrator, activities):
    register()

    @workflow
    def count():
        return [double(number) for number in range(activities)][-1:]

    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), poll_interval_seconds=60)
    runner.start_workflow(count, workflow_id="first").result(10)
    statements.clear()

    runner.start_workflow(count).result(10)

    # One to store the run; one before each activity but the first, with the outcome of the one before; one for the end,
    # with the outcome of the last.
    assert commits(statements) == 1 + max(activities, 1)
    assert sum(statement.startswith("INSERT INTO activity_executions") for statement in statements) == activities


@pytest.mark.parametrize("failures", [1, 5])
def test_a_failure_that_is_caught_costs_no_commit_of_its_own(statements, tmp_path, orchestrator, failures):
    register()

    @activity
    def fail():
        raise ValueError

    @workflow
    def count():
        for number in range(failures):
            with contextlib.suppress(ValueError):
                fail()
            double(number)

    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), poll_interval_seconds=60)
    runner.start_workflow(count, workflow_id="first").result(10)
    statements.clear()

    runner.start_workflow(count).result(10)

    assert commits(statements) == 1 + 2 * failures


def test_a_start_in_a_workflow_is_recorded_with_the_next_commit(statements, tmp_path, orchestrator):
    register()

    @workflow
    def later():
        return None

    @workflow
    def count():
        double(1)
        runner.start_workflow(later, delay=3600)
        return double(2)

    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), poll_interval_seconds=60)
    runner.start_workflow(count, workflow_id="first").result(10)
    statements.clear()

    runner.start_workflow(count).result(10)

    # The run; the first outcome; the other run; the start, before the second activity; the end.
    assert commits(statements) == 5


def test_a_workflow_that_waits_in_line_costs_no_commit_to_claim(statements, tmp_path, orchestrator):
    register()
    gate = threading.Event()

    @workflow
    def held():
        assert gate.wait(10)

    @workflow
    def waiting():
        return double(2)

    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), max_workers=1, poll_interval_seconds=60)
    first = runner.start_workflow(held)
    wait_until(runner._engine.active_runs)
    handles = [runner.start_workflow(waiting) for _ in range(20)]
    statements.clear()
    gate.set()
    assert [handle.result(10) for handle in (first, *handles)] == [None] + [4] * 20

    assert commits(statements) == 21  # each end, which claims the next


def test_a_replay_of_5000_steps_reads_its_history_with_one_query(statements, tmp_path, orchestrator):
    register()
    ended = threading.Event()

    @workflow
    def long_one():
        total = sum(double(number) for number in range(5000))
        ended.wait(10)
        return total

    path = tmp_path / "test.db"
    first = Orchestrator(db_manager=SQLiteDatabaseManager(path, synchronous="NORMAL"))
    first.start()
    handle = first.start_workflow(long_one)
    wait_until(lambda: first._engine.active_runs() and first._engine.active_runs()[0].info().sequence == 5000, 60)

    def is_stored():
        for run in first._engine.active_runs():
            run.tend()  # which does nothing while the background loop does it
        return len(first.get_history(handle.id)) == 5000

    wait_until(is_stored)
    first._engine.database.release_owner(first._engine.owner)  # as if the process had ended here
    ended.set()
    assert first.stop(10)
    statements.clear()

    second = orchestrator(SQLiteDatabaseManager(path))
    assert second.get_handle(handle.id).result(30) == sum(range(5000)) * 2

    reads = [s for s in statements if s.startswith("SELECT") and "FROM activity_executions" in s]
    assert len(reads) == 1
    assert sum(statement.startswith("INSERT INTO activity_executions") for statement in statements) == 0
    assert commits(statements) <= 4  # sign on, claim, end, and perhaps the background loop


def test_an_idle_turn_of_the_background_loop_only_reads(statements, tmp_path, orchestrator):
    register()
    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), poll_interval_seconds=3600)
    wait_until(lambda: any(statement.startswith("WITH RECURSIVE") for statement in statements))
    loop = runner._engine._recovery
    wait_until(lambda: loop._dozes)
    statements.clear()

    loop._poll_due = 0
    loop.tick(runner._engine.clock.monotonic())

    assert len(statements) == 1
    assert statements[0].startswith("WITH RECURSIVE lane")


def test_what_an_idle_turn_reads_comes_from_small_indexes(tmp_path):
    SQLiteDatabaseManager(tmp_path / "test.db").close()
    connection = sqlite3.connect(tmp_path / "test.db")
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {_sqlite_claims._LOOK}")]
    connection.close()
    looks = [step for step in plan if "workflows" in step or "schedules" in step]
    assert len(looks) == 8
    expected = ("USING INDEX workflows_", "USING COVERING INDEX schedules_due", "USING INTEGER PRIMARY KEY (rowid=?)")
    assert all(any(text in step for text in expected) for step in looks)
