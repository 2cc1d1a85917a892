"""The contract: schedules."""

# ruff: noqa: S101 - this is a test suite

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..models import ScheduleRecord
from ._contract_base import Contract, read
from ._samples import at, race, run_record


def schedule_record(schedule_id: str = "nightly", **fields: Any) -> ScheduleRecord:
    plain = ScheduleRecord(
        id=schedule_id,
        name="greet",
        input='{"who":"漢字"}',
        cron="30 2 * * *",
        timezone="Europe/Berlin",
        catch_up="last",
        overlap="queue",
        next_at=at(5),
        created_at=at(0),
        updated_at=at(0),
    )
    return plain._replace(**fields)


class Scheduling(Contract):
    """``store_schedule``, ``read_schedule``, ``list_schedules``, ``delete_schedule``."""

    @pytest.fixture
    def scheduled(self, database: BaseDatabaseManager) -> BaseDatabaseManager:
        """Return the manager."""
        assert "schedules" in database.capabilities, 'the contract asks for the capability "schedules"'
        return database

    def test_a_schedule_is_stored_whole(self, scheduled: BaseDatabaseManager) -> None:
        plain = schedule_record("plain", next_at=None)
        whole = schedule_record(
            "whole",
            queue="mail",
            priority=-3,
            version="v2",
            is_paused=True,
            waiting=(at(1), at(2)),
            last_at=at(1),
            last_run_id="whole-1",
            updated_at=at(4),
        )
        assert scheduled.store_schedule(whole)
        assert scheduled.store_schedule(plain)
        with self.another(scheduled) as other:
            assert other.list_schedules() == [plain, whole]
            assert (other.read_schedule("plain"), other.read_schedule("whole")) == (plain, whole)
            assert other.read_schedule("none") is None

    def test_only_the_revision_after_the_stored_one_is_stored(self, scheduled: BaseDatabaseManager) -> None:
        first = schedule_record()
        second = schedule_record(cron="0 0 * * *", revision=2)
        assert not scheduled.store_schedule(second)
        assert scheduled.store_schedule(first)
        assert not scheduled.store_schedule(schedule_record(cron="other"))
        assert scheduled.read_schedule("nightly") == first
        assert scheduled.store_schedule(second)
        assert not scheduled.store_schedule(schedule_record(cron="other", revision=2))
        assert not scheduled.store_schedule(schedule_record(cron="other", revision=4))
        assert scheduled.read_schedule("nightly") == second

    def test_the_runs_come_with_the_revision_or_not_at_all(self, scheduled: BaseDatabaseManager) -> None:
        taken = run_record("taken", name="other")
        scheduled.create_workflow(taken)
        runs = [run_record("taken"), run_record("new", scheduled_at=at(5), queue="mail")]
        assert not scheduled.store_schedule(schedule_record(revision=2), runs=runs)
        assert scheduled.read_workflow("new") is None
        assert scheduled.store_schedule(schedule_record(), runs=runs)
        assert (read(scheduled, "taken"), read(scheduled, "new")) == (taken, runs[1])

    def test_of_several_at_once_one_succeeds(self, scheduled: BaseDatabaseManager) -> None:
        assert scheduled.store_schedule(schedule_record())
        with self.another(scheduled) as other:
            for revision in range(2, 12):
                stores = race([
                    partial(
                        (scheduled, other)[n % 2].store_schedule,
                        schedule_record(revision=revision, last_run_id=f"run-{n}"),
                        runs=[run_record(f"run-{revision}-{n}")],
                    )
                    for n in range(4)
                ])  # fmt: skip
                assert sorted(stores) == [False, False, False, True]
                made = [n for n in range(4) if scheduled.read_workflow(f"run-{revision}-{n}") is not None]
                assert made == [stores.index(True)]

    def test_what_is_due_is_found(self, scheduled: BaseDatabaseManager) -> None:
        for record in (
            schedule_record("a", next_at=at(5)),
            schedule_record("b", next_at=at(4)),
            schedule_record("paused", next_at=at(1), is_paused=True),
            schedule_record("never", next_at=None),
            schedule_record("waits", next_at=at(9), waiting=(at(3),)),
        ):
            assert scheduled.store_schedule(record)
        assert scheduled.look().tick_at == at(3)
        assert [record.id for record in scheduled.list_schedules(due_at=at(4))] in (["b", "waits"], ["waits", "b"])
        assert scheduled.list_schedules(due_at=at(2)) == []
        for schedule_id in ("waits", "b", "a"):
            assert scheduled.delete_schedule(schedule_id)
        assert scheduled.look().tick_at is None

    def test_a_schedule_that_is_deleted_leaves_its_runs(self, scheduled: BaseDatabaseManager) -> None:
        scheduled.store_schedule(schedule_record(), runs=[run_record("run")])
        assert scheduled.delete_schedule("nightly")
        assert not scheduled.delete_schedule("nightly")
        assert (scheduled.read_schedule("nightly"), scheduled.list_schedules()) == (None, [])
        assert read(scheduled).name == "greet"
        assert not scheduled.store_schedule(schedule_record(revision=2))
        assert scheduled.store_schedule(schedule_record())
