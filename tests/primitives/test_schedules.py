"""Schedules, as programs use them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    Queue,
    SQLiteDatabaseManager,
    durable,
    workflow,
)
from py_orchestrate.errors import (
    DurableCallError,
    InvalidWorkflowIdError,
    OrchestrateError,
    ScheduleNotFoundError,
    SerializationError,
    UnsupportedOperationError,
    WorkflowFailedError,
    WorkflowNotFoundError,
)
from py_orchestrate.testing.clock import FakeClock

from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
HOUR = 3600


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def report() -> Any:
    @workflow
    def report(folder: str = "here") -> list[Any]:
        return [folder, durable.info().scheduled_at]

    return report


@pytest.fixture
def runner(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, clock: FakeClock) -> Orchestrator:
    return orchestrator(store, clock=clock, poll_interval_seconds=0.01)


def ids(runner: Orchestrator) -> list[str]:
    return sorted(run["id"] for run in runner.list_workflows())


def await_runs(runner: Orchestrator, clock: FakeClock, expected: list[str]) -> None:
    """Wait for runs, by the times that their ids end with; the clock goes on by what the loop needs to look."""

    def are_there() -> bool:
        clock.advance(0.01)
        return [found.rpartition("-")[2] for found in ids(runner)] == expected

    wait_until(are_there)


def settle(runner: Orchestrator, clock: FakeClock) -> None:
    """Let the background loop look at least once more."""
    seen: list[bool] = []
    look = runner.db.look

    def counted(*args: Any, **options: Any) -> Any:
        found = look(*args, **options)
        seen.append(True)
        return found

    runner.db.look = counted  # type: ignore[method-assign]
    try:
        wait_until(lambda: (clock.advance(0.01), len(seen) > 2)[1])
    finally:
        runner.db.look = look  # type: ignore[method-assign]


def test_every_time_starts_one_run(runner: Orchestrator, clock: FakeClock, report: Any) -> None:
    made = runner.schedule_workflow(report, "0 * * * *", arguments={"folder": "/x"})
    assert (made["id"], made["status"], made["next_at"]) == ("report", "active", "2030-01-01T01:00:00.000000+00:00")
    assert (made["arguments"], made["catch_up"], made["overlap"]) == ({"folder": "/x"}, "last", "skip")
    for hour in (1, 2, 3):
        clock.advance(HOUR)
        await_runs(runner, clock, [f"20300101T0{n}0000Z" for n in range(1, hour + 1)])
        runner.wait_for_workflow(ids(runner)[-1], 20)  # else the next time would be passed over
    run = runner.get_handle("report-20300101T020000Z")
    assert run.result(20) == ["/x", datetime(2030, 1, 1, 2, tzinfo=UTC)]
    (listed,) = runner.list_schedules()
    assert listed["next_at"] == "2030-01-01T04:00:00.000000+00:00"
    assert (listed["last_workflow_id"], listed["waiting"]) == ("report-20300101T030000Z", 0)
    assert listed["last_at"] == "2030-01-01T03:00:00.000000+00:00"


def test_a_run_that_no_schedule_started_was_scheduled_for_no_time(runner: Orchestrator, report: Any) -> None:
    assert runner.start_workflow(report).result(20) == ["here", None]


def test_making_it_again_changes_nothing_and_another_definition_changes_it(
    runner: Orchestrator, clock: FakeClock, report: Any
) -> None:
    made = runner.schedule_workflow(report, "0 * * * *", schedule_id="hourly")
    clock.advance(60)
    assert runner.schedule_workflow("report", "0 * * * *", schedule_id="hourly") == made
    clock.advance(HOUR)
    await_runs(runner, clock, ["20300101T010000Z"])
    changed = runner.schedule_workflow(report, "0 * * * *", schedule_id="hourly", overlap="allow")
    assert changed["next_at"] == "2030-01-01T02:00:00.000000+00:00"
    assert (changed["created_at"], changed["last_workflow_id"]) == (made["created_at"], "hourly-20300101T010000Z")
    moved = runner.schedule_workflow(report, "30 2 * * *", "Europe/Berlin", schedule_id="hourly")
    assert moved["next_at"] == "2030-01-01T01:30:00.000000+00:00"
    assert len(runner.list_schedules()) == 1


def test_what_is_paused_starts_nothing_and_makes_up_for_nothing(
    runner: Orchestrator, clock: FakeClock, report: Any
) -> None:
    runner.schedule_workflow(report, "0 * * * *", catch_up="all")
    runner.pause_schedule("report")
    runner.pause_schedule("report")
    assert [(found["status"], found["next_at"]) for found in runner.list_schedules()] == [("paused", None)]
    clock.advance(3 * HOUR)
    settle(runner, clock)
    assert ids(runner) == []
    assert runner.schedule_workflow(report, "0 * * * *", catch_up="last")["status"] == "paused"
    runner.resume_schedule("report")
    runner.resume_schedule("report")
    assert runner.list_schedules()[0]["next_at"] == "2030-01-01T04:00:00.000000+00:00"
    clock.advance(HOUR)
    await_runs(runner, clock, ["20300101T040000Z"])


def test_what_is_removed_starts_nothing_and_its_runs_go_on(runner: Orchestrator, clock: FakeClock) -> None:
    @workflow
    def waits() -> Any:
        return durable.wait_for_event("go")

    runner.schedule_workflow(waits, "0 * * * *")
    clock.advance(HOUR)
    await_runs(runner, clock, ["20300101T010000Z"])
    runner.remove_schedule("waits")
    assert runner.list_schedules() == []
    clock.advance(5 * HOUR)
    settle(runner, clock)
    run = runner.get_handle(ids(runner)[0])
    run.raise_event("go", 5)
    assert run.result(20) == 5


@pytest.mark.parametrize(("catch_up", "first_hour"), [("none", 14), ("last", 13), ("all", 1)])
def test_what_passed_while_no_program_ran(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, report: Any, catch_up: str, first_hour: int
) -> None:
    clock = FakeClock()
    first = orchestrator(store, clock=clock)
    first.schedule_workflow(report, "0 * * * *", catch_up=catch_up, overlap="queue")
    assert first.stop(20)
    clock.advance(13 * HOUR + 120)
    second = orchestrator(store, clock=clock, poll_interval_seconds=0.01)
    settle(second, clock)
    clock.advance(58 * 60)
    await_runs(second, clock, [f"20300101T{hour:02}0000Z" for hour in range(first_hour, 15)])


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
def test_what_happens_while_the_run_before_goes_on(runner: Orchestrator, clock: FakeClock, overlap: str) -> None:
    @workflow
    def slow() -> Any:
        return durable.wait_for_event("go")

    runner.schedule_workflow(slow, "0 * * * *", overlap=overlap)
    clock.advance(HOUR)
    await_runs(runner, clock, ["20300101T010000Z"])
    for _ in range(2):
        clock.advance(HOUR)
        settle(runner, clock)
    everything = ["20300101T010000Z", "20300101T020000Z", "20300101T030000Z"]
    if overlap == "allow":
        await_runs(runner, clock, everything)
        return
    assert ids(runner) == ["slow-20300101T010000Z"]
    assert runner.list_schedules()[0]["waiting"] == (2 if overlap == "queue" else 0)
    if overlap == "queue":
        for count, tick in enumerate(everything):
            await_runs(runner, clock, everything[: count + 1])
            runner.raise_event(f"slow-{tick}", "go")
        assert runner.get_handle(f"slow-{everything[2]}").wait(20)["status"] == "done"
        wait_until(lambda: runner.list_schedules()[0]["waiting"] == 0)
    else:
        runner.raise_event("slow-20300101T010000Z", "go")
        runner.get_handle("slow-20300101T010000Z").wait(20)
        clock.advance(HOUR)
        await_runs(runner, clock, ["20300101T010000Z", "20300101T040000Z"])


def test_a_clock_that_was_ahead_does_not_stop_a_schedule(runner: Orchestrator, clock: FakeClock, report: Any) -> None:
    """What was started while it was ahead is not started again when its time comes."""
    runner.schedule_workflow(report, "0 * * * *", schedule_id="hourly", overlap="allow")
    clock.advance(HOUR)
    await_runs(runner, clock, ["20300101T010000Z"])
    clock.step(3 * HOUR)
    ahead = ["20300101T010000Z", "20300101T040000Z"]
    await_runs(runner, clock, ahead)
    clock.step(-3 * HOUR)
    settle(runner, clock)
    clock.advance(HOUR)
    await_runs(runner, clock, [ahead[0], "20300101T020000Z", ahead[1]])
    for _ in range(3):
        clock.advance(HOUR)
        settle(runner, clock)
    expected = [f"20300101T0{hour}0000Z" for hour in range(1, 6)]
    await_runs(runner, clock, expected)


def test_a_clock_that_was_ahead_when_the_program_ran_before(
    tmp_path: Path, orchestrator: MakeOrchestrator, report: Any
) -> None:
    clock = FakeClock()
    clock.step(365 * 24 * HOUR)
    first = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), clock=clock)
    first.schedule_workflow(report, "0 * * * *", schedule_id="hourly")
    first.stop()
    clock = FakeClock()
    second = orchestrator(SQLiteDatabaseManager(tmp_path / "test.db"), clock=clock, poll_interval_seconds=0.01)
    wait_until(lambda: second.list_schedules()[0]["next_at"] == "2030-01-01T01:00:00.000000+00:00")
    clock.advance(HOUR)
    await_runs(second, clock, ["20300101T010000Z"])


def test_several_orchestrators_start_each_time_once(
    tmp_path: Path, orchestrator: MakeOrchestrator, clock: FakeClock, report: Any
) -> None:
    runners = [
        orchestrator(SQLiteDatabaseManager(tmp_path / "one.db"), clock=clock, poll_interval_seconds=0.001)
        for _ in range(4)
    ]
    for runner in runners:  # as every process of a program does
        runner.schedule_workflow(report, "* * * * *", overlap="allow", catch_up="all")
    expected = []
    for minute in range(1, 30):
        clock.advance(60)
        expected.append(f"20300101T00{minute:02}00Z")
        await_runs(runners[minute % 4], clock, expected)
    for found in ids(runners[0]):
        assert runners[0].wait_for_workflow(found, 20)["status"] == "done"


def test_its_runs_may_be_in_a_queue(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, clock: FakeClock, report: Any
) -> None:
    runner = orchestrator(store, clock=clock, poll_interval_seconds=0.01, queues=[Queue("nightly", concurrency=1)])
    made = runner.schedule_workflow(report, "0 * * * *", queue="nightly", priority=4)
    assert (made["queue"], made["priority"]) == ("nightly", 4)
    clock.advance(HOUR)
    await_runs(runner, clock, ["20300101T010000Z"])
    (run,) = runner.list_workflows(queue="nightly")
    assert runner.wait_for_workflow(run["id"], 20)["status"] == "done"


def test_where_clocks_change_a_day_has_one_run(runner: Orchestrator, clock: FakeClock, report: Any) -> None:
    clock.advance(89 * 24 * HOUR - HOUR)  # 2030-03-30 23:00 UTC, midnight in Berlin; at 02:00 clocks go forward
    runner.schedule_workflow(report, "30 2 * * *", "Europe/Berlin")
    clock.advance(2 * HOUR + 60)
    await_runs(runner, clock, ["20300331T010000Z"])  # 03:00 there
    runner.wait_for_workflow(ids(runner)[0], 20)
    clock.advance(24 * HOUR)
    await_runs(runner, clock, ["20300331T010000Z", "20300401T003000Z"])


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (("nothing", "* * * * *"), {}, WorkflowNotFoundError, "Workflow 'nothing' not found"),
        ((print, "* * * * *"), {}, TypeError, "'print' is not a workflow"),
        (("report", "whenever"), {}, ValueError, "'whenever' is no cron expression"),
        (("report", 5), {}, TypeError, "a cron expression, not int"),
        (("report", "* * * * *", "Mars/Olympus"), {}, ValueError, "there is no time zone 'Mars/Olympus'"),
        (("report", "* * * * *"), {"catch_up": True}, ValueError, "catch_up of a schedule is one of 'none', 'last'"),
        (("report", "* * * * *"), {"overlap": "no"}, ValueError, "overlap of a schedule is one of 'skip', 'queue'"),
        (("report", "* * * * *"), {"schedule_id": "a/b"}, InvalidWorkflowIdError, "the id of a schedule .* has the"),
        (("report", "* * * * *"), {"schedule_id": "x" * 190}, InvalidWorkflowIdError, "at most 200 characters"),
        (("report", "* * * * *"), {"schedule_id": 5}, TypeError, "a schedule id is a str, not int"),
        (("report", "* * * * *"), {"arguments": ["x"]}, TypeError, "a dict by name, not list"),
        (("report", "* * * * *"), {"arguments": {"file": 1}}, TypeError, "file"),
        (("report", "* * * * *"), {"arguments": {"folder": object()}}, SerializationError, "folder"),
        (("report", "* * * * *"), {"queue": ""}, ValueError, "name of a queue must not be empty"),
        (("report", "* * * * *"), {"priority": "low"}, TypeError, "priority is an int"),
    ],
)
def test_what_is_no_schedule_is_refused(report: Any, arguments: Any, options: Any, error: Any, text: str) -> None:
    runner = Orchestrator(db_manager=MemoryDatabaseManager())
    with pytest.raises(error, match=text):
        runner.schedule_workflow(*arguments, **options)
    assert runner.list_schedules() == []


def test_what_is_not_there_is_named(runner: Orchestrator) -> None:
    for call in (runner.pause_schedule, runner.resume_schedule, runner.remove_schedule):
        with pytest.raises(ScheduleNotFoundError, match="Schedule 'none' not found") as caught:
            call("none")
        assert caught.value.schedule_id == "none"
        assert isinstance(caught.value, (OrchestrateError, LookupError))
        with pytest.raises(InvalidWorkflowIdError, match="schedule id 'a/b' has the character '/'"):
            call("a/b")
        with pytest.raises(TypeError, match="a schedule id is a str, not NoneType"):
            call(None)  # type: ignore[arg-type]


def test_not_in_a_workflow(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, report: Any) -> None:
    runner = orchestrator(memory)
    calls = {
        "schedule_workflow": lambda: runner.schedule_workflow(report, "* * * * *"),
        "pause_schedule": lambda: runner.pause_schedule("report"),
        "resume_schedule": lambda: runner.resume_schedule("report"),
        "remove_schedule": lambda: runner.remove_schedule("report"),
    }

    @workflow
    def w(name: str) -> None:
        calls[name]()

    for name in calls:
        with pytest.raises(WorkflowFailedError, match=rf"{name}\(\) must not be called in a workflow") as caught:
            runner.start_workflow(w, name).result(20)
        assert isinstance(caught.value.__cause__, DurableCallError)


def test_a_store_without_schedules_says_so(tmp_path: Path, orchestrator: MakeOrchestrator, report: Any) -> None:
    runner = orchestrator(SevenMethodsManager(tmp_path / "store"))
    for call in (
        lambda: runner.schedule_workflow(report, "* * * * *"),
        runner.list_schedules,
        lambda: runner.pause_schedule("report"),
        lambda: runner.resume_schedule("report"),
        lambda: runner.remove_schedule("report"),
    ):
        with pytest.raises(
            UnsupportedOperationError, match='cannot keep schedules: it lacks the capability "schedules"'
        ):
            call()


def test_a_schedule_is_kept_when_the_program_ends(tmp_path: Path, orchestrator: MakeOrchestrator, report: Any) -> None:
    path = tmp_path / "one.db"
    first = orchestrator(SQLiteDatabaseManager(path), start=False)
    made = first.schedule_workflow(report, "0 0 1 1 *", "Asia/Tokyo")
    first.db.close()
    second = orchestrator(SQLiteDatabaseManager(path))
    assert second.list_schedules() == [made]
    assert datetime.fromisoformat(made["next_at"]) - datetime.now(UTC) < timedelta(days=367)
