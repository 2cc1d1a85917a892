"""What a look at a schedule decides: which times start a run, and how the schedule stands then."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from py_orchestrate._engine.scheduler import MOST_WAITING, Scheduler, decide, mended, run_id
from py_orchestrate.db_manager import MemoryDatabaseManager
from py_orchestrate.models import ScheduleRecord, WorkflowStatus
from py_orchestrate.testing._samples import run_end

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)


def minutes(*numbers: float) -> list[datetime]:
    return [NOON + timedelta(minutes=number) for number in numbers]


def at(number: float) -> datetime:
    return minutes(number)[0]


def schedule(**fields: Any) -> ScheduleRecord:
    plain = ScheduleRecord(
        id="tick",
        name="flow",
        input="{}",
        cron="* * * * *",
        timezone="UTC",
        catch_up="last",
        overlap="allow",
        next_at=at(1),
        created_at=NOON,
        updated_at=NOON,
    )
    return plain._replace(**fields)


def look(record: ScheduleRecord, number: float, *, is_running: bool = False) -> tuple[ScheduleRecord, list[datetime]]:
    return decide(record, at(number), is_running=is_running)


def test_before_its_time_nothing_happens() -> None:
    record = schedule()
    assert look(record, 0.9) == (record, [])
    assert look(schedule(next_at=None), 9) == (schedule(next_at=None), [])


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
def test_a_time_that_has_come_starts_a_run(catch_up: str, overlap: str) -> None:
    changed, ticks = look(schedule(catch_up=catch_up, overlap=overlap), 1.2)
    assert ticks == minutes(1)
    assert (changed.next_at, changed.last_at, changed.last_run_id) == (at(2), at(1), "tick-20300601T120100Z")
    assert changed.due_at == at(2)


@pytest.mark.parametrize(("catch_up", "expected"), [("none", [11]), ("last", [11]), ("all", range(1, 12))])
def test_times_that_passed_while_nobody_looked(catch_up: str, expected: Any) -> None:
    changed, ticks = look(schedule(catch_up=catch_up), 11)
    assert ticks == minutes(*expected)
    assert (changed.next_at, changed.last_at) == (at(12), at(11))


def test_a_time_that_is_missed_and_passed_over() -> None:
    changed, ticks = look(schedule(catch_up="none", cron="0 * * * *", next_at=at(60)), 61.5)
    assert (ticks, changed.next_at, changed.last_at) == ([], at(120), None)
    changed, ticks = look(schedule(catch_up="none", cron="0 * * * *", next_at=at(60)), 60.9)
    assert ticks == minutes(60)


def test_very_many_missed_times_come_in_parts() -> None:
    changed, ticks = look(schedule(catch_up="all"), 1000)
    assert ticks == minutes(*range(1, 101))
    assert changed.next_at == at(101)
    changed, ticks = look(changed, 1000)
    assert ticks == minutes(*range(101, 201))


def test_while_the_run_before_goes_on_a_time_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    changed, ticks = look(schedule(overlap="skip", last_run_id="before", last_at=NOON), 1, is_running=True)
    assert (ticks, changed.next_at, changed.last_run_id) == ([], at(2), "before")
    assert "schedule 'tick' passes over 2030-06-01 12:01:00+00:00: the run before has not ended" in caplog.text
    assert look(changed, 2)[1] == minutes(2)


def test_of_several_missed_times_that_may_not_overlap_the_last_starts_a_run() -> None:
    changed, ticks = look(schedule(overlap="skip", catch_up="all"), 5)
    assert (ticks, changed.next_at) == (minutes(5), at(6))


def test_while_the_run_before_goes_on_a_time_waits() -> None:
    record = schedule(overlap="queue")
    record, ticks = look(record, 1)
    assert ticks == minutes(1)
    for number in (2, 3):
        record, ticks = look(record, number, is_running=True)
        assert ticks == []
    assert (record.waiting, record.next_at, record.due_at) == (tuple(minutes(2, 3)), at(4), at(2))
    assert look(record, 3.1, is_running=True) == (record, [])
    record, ticks = look(record, 3.2)
    assert (ticks, record.waiting, record.last_run_id) == (minutes(2), (at(3),), "tick-20300601T120200Z")
    record, ticks = look(record, 4)
    assert (ticks, record.waiting) == (minutes(3), (at(4),))


def test_no_more_than_so_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    waiting = tuple(minutes(*range(-MOST_WAITING, 0)))
    record, ticks = look(schedule(overlap="queue", waiting=waiting), 1, is_running=True)
    assert (record.waiting, ticks, record.next_at) == (waiting, [], at(2))
    assert "1000 others wait already" in caplog.text


def test_a_rule_that_moved_since_it_was_reckoned() -> None:
    """Governments change time zones: a stored time need not be one of the expression any longer."""
    changed, ticks = look(schedule(cron="0 * * * *", next_at=at(30), catch_up="all"), 31)
    assert (ticks, changed.next_at) == ([], at(60))


def test_the_id_of_a_run_is_in_utc() -> None:
    assert run_id("tick", NOON.astimezone()) == "tick-20300601T120000Z"


# --- a clock that was ahead -------------------------------------------------------------------------------------------


def test_a_time_that_lies_too_far_ahead_is_reckoned_anew() -> None:
    ahead = schedule(next_at=at(60 * 24 * 365), waiting=(at(-2), at(60 * 24)), overlap="queue")
    assert mended(ahead, at(0.5)) == ahead._replace(next_at=at(1), waiting=(at(-2),))


@pytest.mark.parametrize("number", [0, 0.5, 1, 2])
def test_a_time_as_it_should_be_stays(number: float) -> None:
    record = schedule(next_at=at(3))
    assert mended(record, at(number + 1)) == record
    assert mended(schedule(cron="0 * * * *", next_at=at(60)), at(number)).next_at == at(60)


def test_clocks_that_differ_a_little_mend_nothing() -> None:
    """Else two machines would take turns to set the schedule forward and back."""
    record = schedule(cron="0 * * * *", next_at=at(120))
    assert mended(record, at(59.5)) == record
    assert mended(record, at(58.5)).next_at == at(60)


def test_what_is_paused_is_not_reckoned() -> None:
    for record in (schedule(is_paused=True, next_at=at(9999)), schedule(next_at=None)):
        assert mended(record, at(0)) == record


def test_where_an_hour_comes_twice_its_times_do_not() -> None:
    record = schedule(cron="30 2 * * *", timezone="Europe/Berlin", next_at=datetime(2030, 10, 28, 1, 30, tzinfo=UTC))
    for minute in range(31, 120, 7):
        assert mended(record, datetime(2030, 10, 27, tzinfo=UTC) + timedelta(minutes=minute)) == record


def test_schedules_are_mended_at_first_and_now_and_then_and_after_a_clock_was_set() -> None:
    host = Host()
    scheduler = Scheduler(host)
    far = at(9999)

    def next_at(now: datetime) -> Any:
        stored = host.database.read_schedule("tick")
        revision = 1 if stored is None else stored.revision + 1
        host.database.store_schedule(schedule(next_at=far, revision=revision))
        scheduler.mend(now)
        found = host.database.read_schedule("tick")
        return None if found is None else found.next_at

    assert next_at(at(0)) == at(1)
    assert next_at(at(0.5)) == far
    assert next_at(at(1)) == at(2)
    assert next_at(at(-10)) == at(-9)


class Host:
    def __init__(self) -> None:
        self.database = MemoryDatabaseManager()
        self.wakes = 0

    def version_of(self, name: str) -> str | None:
        return {"flow": "v7"}.get(name)

    def wake(self) -> None:
        self.wakes += 1


def test_a_turn_stores_what_is_decided_and_the_runs() -> None:
    host = Host()
    host.database.store_schedule(schedule(queue="mail", priority=3, overlap="skip"))
    host.database.store_schedule(schedule(id="other", name="other", version="v1", next_at=at(2)))
    Scheduler(host).turn(at(1))
    (run,) = host.database.page_workflows()
    assert (run.id, run.name, run.queue, run.priority) == ("tick-20300601T120100Z", "flow", "mail", 3)
    assert (run.version, run.scheduled_at, run.created_at) == ("v7", at(1), at(1))
    assert host.wakes == 1
    Scheduler(host).turn(at(2.5))
    assert [run.id for run in host.database.page_workflows()] == ["other-20300601T120200Z", run.id]


def test_a_schedule_that_cannot_be_reckoned_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    scheduler = Scheduler(host)
    host.database.store_schedule(schedule(id="bad zone", timezone="Mars/Olympus"))
    host.database.store_schedule(schedule(id="bad cron", cron="whenever"))
    host.database.store_schedule(schedule(id="good"))
    for _ in range(3):
        scheduler.turn(at(1))
    assert [run.id for run in host.database.page_workflows()] == ["good-20300601T120100Z"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert any("'bad zone' cannot be served here: there is no time zone 'Mars/Olympus'" in text for text in warnings)


def test_two_that_look_at_once_start_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    host.database.store_schedule(schedule(overlap="skip"))
    slow = host.database.list_schedules(due_at=at(1))
    Scheduler(host).turn(at(1))
    (run,) = host.database.page_workflows()
    host.database.register_owner("me")
    (claimed,) = host.database.claim_workflows("me", ["flow"], 1)
    host.database.finish_workflow(run.id, claimed.epoch, run_end())
    monkeypatch.setattr(host.database, "list_schedules", lambda **_: slow)  # one that was asleep since it looked
    Scheduler(host).turn(at(1.5))
    assert [found.status for found in host.database.page_workflows()] == [WorkflowStatus.DONE]
