"""Times: aware, in UTC, in a fixed width, whatever the machine's zone; and clocks that do not go as they should."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, RetryPolicy, SQLiteDatabaseManager, activity, durable, workflow
from py_orchestrate.models import Outlook, WorkflowStatus

from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
FIXED_WIDTH = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")
ROUND_SECOND = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
BEFORE_AND_AFTER_THE_CHANGE = (1730611800, 1730615400)  # 01:30 in New York, twice on 2024-11-03


class SetClock:
    """A wall clock that is set, beside the machine's monotonic one."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return time.monotonic()


def stored_times(path: Path) -> list[str]:
    """Return every time in the file, from each column that holds one."""
    columns = {
        "workflows": ["created_at", "updated_at", "wake_at", "deadline"],
        "activity_executions": ["created_at", "completed_at"],
        "workflow_events": ["sent_at"],
        "orchestrators": ["registered_at"],
    }
    with closing(sqlite3.connect(path)) as connection:
        return [
            text
            for table, names in columns.items()
            for row in connection.execute(f"SELECT {', '.join(names)} FROM {table}")
            for text in row
            if text is not None
        ]


@activity("time_note")
def note(text: str) -> str:
    return text


def test_a_round_second_is_stored_and_read_like_any_other(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> Any:
        return [note("a"), durable.wait_for_event("go", timeout=3600)]

    @workflow
    def sleeper() -> None:
        durable.sleep(3600)

    activity(note.name)(note.fn)
    clock = SetClock(ROUND_SECOND)
    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    sleeping = runner.start_workflow(sleeper, timeout=timedelta(days=1))
    wait_until(lambda: [step["status"] for step in runner.get_history(sleeping.id)] == ["waiting"])
    handle.raise_event("go", 1)
    assert handle.result(10) == ["a", 1]
    shown = handle.status()
    assert shown["created_at"] == shown["updated_at"] == "2024-01-02T03:04:05.000000+00:00"
    assert {step["started_at"] for step in runner.get_history(handle.id)} == {"2024-01-02T03:04:05.000000+00:00"}
    assert [status["id"] for status in runner.list_workflows()] == [sleeping.id, handle.id]
    times = stored_times(tmp_path / "test.db")
    assert len(times) > 10
    assert [text for text in times if not FIXED_WIDTH.fullmatch(text)] == []


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Asia/Kolkata"])
def test_the_hour_that_comes_twice_is_two_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orchestrator: MakeOrchestrator, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        first, second = (datetime.fromtimestamp(stamp, UTC) for stamp in BEFORE_AND_AFTER_THE_CHANGE)

        @workflow
        def w(local: datetime) -> str:
            durable.sleep_until(local)
            return "woken"

        clock = SetClock(first)
        runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), clock=clock, poll_interval_seconds=0.01)
        handle = runner.start_workflow(w, second.astimezone())
        wait_until(lambda: [step["status"] for step in runner.get_history(handle.id)] == ["waiting"])
        other = runner.start_workflow(w, first.astimezone())
        assert other.result(10) == "woken", "the first 01:30 is now"
        clock.moment = second - timedelta(microseconds=1)
        runner._engine.wake()
        probe = runner.start_workflow(w, first.astimezone())
        assert probe.result(10) == "woken"
        assert handle.status()["status"] == "processing", "the second 01:30 is an hour later"
        clock.moment = second
        assert handle.result(10) == "woken"
        record = runner.db.read_workflow(handle.id)
        assert record is not None
        assert (record.created_at, record.updated_at) == (first, second)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_another_zone_at_recovery_moves_nothing(program: Callable[..., Program]) -> None:
    script = program("""
        from datetime import UTC, datetime, timedelta

        os.environ["TZ"] = os.environ.get("ZONE", "America/New_York")
        time.tzset()

        @activity
        def now():
            return datetime.now(UTC)

        @workflow
        def w():
            began = now()
            durable.sleep(1.5)
            crash()
            return (now() - began).total_seconds()
        """)
    script.crash()
    os.environ["ZONE"] = "Asia/Tokyo"
    try:
        slept = script.recover().output
    finally:
        del os.environ["ZONE"]
    assert 1.5 <= slept < 60, "a zone would be hours"


def test_a_clock_that_is_put_back_breaks_nothing(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    clock = SetClock(ROUND_SECOND)
    attempts: list[int] = []

    @activity(timeout=30, heartbeat_timeout=30, retry=RetryPolicy(initial_interval=0.01, max_elapsed=60))
    def flaky() -> int:
        clock.moment -= timedelta(hours=1)
        durable.heartbeat()
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return len(attempts)

    @workflow
    def w() -> list[Any]:
        clock.moment -= timedelta(hours=1)
        found = flaky()
        durable.sleep_until(ROUND_SECOND - timedelta(days=1))
        clock.moment -= timedelta(hours=1)
        return [found, durable.wait_for_event("go", timeout=7200)]

    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w, timeout=timedelta(days=30))
    handle.raise_event("go", "sent")
    assert handle.result(10) == [3, "sent"]
    shown = handle.status()
    assert shown["updated_at"] < shown["created_at"], "the clock went back, and both are what it said"
    for step in runner.get_history(handle.id):
        assert FIXED_WIDTH.fullmatch(step["started_at"])
        assert FIXED_WIDTH.fullmatch(step["completed_at"])
    assert [status["status"] for status in runner.list_workflows()] == ["done"]


def test_a_clock_that_is_put_back_takes_no_claim_away(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    clock = SetClock(ROUND_SECOND)
    database = SQLiteDatabaseManager(tmp_path / "test.db")
    runs: list[str] = []

    @workflow
    def w() -> str:
        runs.append("begun")
        clock.moment -= timedelta(hours=1)
        wait_until(lambda: polls[0] > 5)
        return "done"

    polls = [0]
    other_database = SQLiteDatabaseManager(tmp_path / "test.db")
    look = other_database.look

    def counted(owner: str, **options: Any) -> Outlook:
        polls[0] += 1
        return look(owner, **options)

    runner = orchestrator(database, clock=clock, poll_interval_seconds=0.01)
    other_database.look = counted  # type: ignore[method-assign]
    handle = runner.start_workflow(w)
    wait_until(lambda: runs)
    orchestrator(other_database, clock=SetClock(ROUND_SECOND + timedelta(days=1)), poll_interval_seconds=0.01)
    assert handle.result(10) == "done"
    assert runs == ["begun"]
    record = database.read_workflow(handle.id)
    assert record is not None
    assert (record.status, record.epoch) == (WorkflowStatus.DONE, 1)
