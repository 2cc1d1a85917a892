"""The contract, on reading, deleting and closing, and on the methods of 1.0.2."""

# ruff: noqa: PLR2004, S101 - this is a test suite

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import UnsupportedOperationError
from ..models import WorkflowContinuation, WorkflowStatus
from ._contract_base import (
    Contract,
    WaitingContract,
    assert_utc,
    begin,
    begin_and_wait,
    claim_run,
    has_leases,
    ids_of,
    read,
    register,
)
from ._samples import (
    at,
    execution,
    failed_step,
    in_thread,
    instance,
    race,
    run_end,
    run_record,
    step_record,
)


def _fill(database: BaseDatabaseManager) -> None:
    """Store runs 0 to 9: even ones are of name ``a``, odd ones of ``b``; every third is done."""
    for n in range(10):
        status = WorkflowStatus.DONE if n % 3 == 0 else WorkflowStatus.PROCESSING
        output = "1" if n % 3 == 0 else None
        record = run_record(str(n), name="ab"[n % 2], minutes=n, status=status, output=output)
        assert database.create_workflow(record) is None


class Reading(Contract):
    """``page_workflows``, ``delete_workflow`` and ``close``."""

    def test_an_empty_store_has_an_empty_page(self, database: BaseDatabaseManager) -> None:
        assert database.page_workflows() == []
        assert database.page_workflows(name="a", status=WorkflowStatus.DONE, limit=3) == []

    def test_the_newest_come_first(self, database: BaseDatabaseManager) -> None:
        _fill(database)
        page = database.page_workflows()
        assert ids_of(page) == [str(n) for n in reversed(range(10))]
        assert page == [read(database, record.id) for record in page]

    def test_pages_are_filtered(self, database: BaseDatabaseManager) -> None:
        _fill(database)
        done, failed = WorkflowStatus.DONE, WorkflowStatus.FAILED
        assert ids_of(database.page_workflows(name="a")) == ["8", "6", "4", "2", "0"]
        assert ids_of(database.page_workflows(status=done)) == ["9", "6", "3", "0"]
        assert ids_of(database.page_workflows(status=WorkflowStatus.PROCESSING)) == ["8", "7", "5", "4", "2", "1"]
        assert ids_of(database.page_workflows(name="b", status=done)) == ["9", "3"]
        assert database.page_workflows(status=failed) == database.page_workflows(name="A") == []

    def test_pages_follow_one_another(self, database: BaseDatabaseManager) -> None:
        _fill(database)
        for name, status in ((None, None), ("b", None), (None, WorkflowStatus.DONE)):
            seen: list[str] = []
            while page := database.page_workflows(name=name, status=status, limit=2, cursor=seen[-1] if seen else None):
                assert len(page) <= 2
                seen.extend(ids_of(page))
            assert seen == ids_of(database.page_workflows(name=name, status=status))
        assert database.page_workflows(limit=0) == []

    def test_a_cursor_need_not_fit_the_filter(self, database: BaseDatabaseManager) -> None:
        _fill(database)
        assert ids_of(database.page_workflows(name="b", cursor="6")) == ["5", "3", "1"]
        assert ids_of(database.page_workflows(status=WorkflowStatus.DONE, cursor="5", limit=1)) == ["3"]

    def test_an_unknown_cursor_is_an_error(self, database: BaseDatabaseManager) -> None:
        _fill(database)
        for name in (None, "a", "nobody"):
            with pytest.raises(LookupError, match="nowhere"):
                database.page_workflows(cursor="nowhere", name=name)

    def test_the_order_is_that_of_arrival(self, database: BaseDatabaseManager) -> None:
        if not has_leases(database):
            return
        for n, minutes in enumerate([5, 3, 3, 9, 0]):
            database.create_workflow(run_record(str(n), minutes=minutes))
        assert ids_of(database.page_workflows()) == ["4", "3", "2", "1", "0"]
        assert ids_of(database.page_workflows(limit=2, cursor="3")) == ["2", "1"]
        assert [run.id for run in database.list_workflows()] == ["4", "3", "2", "1", "0"]
        assert [run.id for run in database.get_processing_workflows()] == ["0", "1", "2", "3", "4"]
        assert ids_of(database.claim_workflows(register(database), ["greet"], 3)) == ["0", "1", "2"]

    def test_a_finished_run_can_be_deleted(self, database: BaseDatabaseManager) -> None:
        _fill(database)
        database.save_activity_execution(execution("3:0", "3"))
        try:
            deleted = database.delete_workflow("3")
        except UnsupportedOperationError:
            assert (read(database, "3").name, len(database.get_steps("3"))) == ("b", 1)
            return
        assert deleted
        assert (database.read_workflow("3"), database.get_steps("3"), len(database.page_workflows())) == (None, [], 9)
        assert not database.delete_workflow("3")
        with pytest.raises(LookupError):
            database.page_workflows(cursor="3")
        assert database.create_workflow(run_record("3", minutes=20)) is None
        assert database.load_outcomes("3") == []
        assert ids_of(database.page_workflows(limit=1)) == ["3"]

    @pytest.mark.parametrize("status", [WorkflowStatus.PROCESSING, WorkflowStatus.PAUSED])
    def test_a_run_that_is_not_finished_is_not_deleted(
        self, database: BaseDatabaseManager, status: WorkflowStatus
    ) -> None:
        database.create_workflow(run_record("run", status=status))
        with pytest.raises(UnsupportedOperationError):
            database.delete_workflow("run")
        assert read(database).status is status

    def test_a_closed_manager_opens_again(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        for sequence in range(3):
            database.close()
            database.close()
            database.record_steps("run", epoch, [step_record(sequence)])
            database.close()
            assert len(database.load_outcomes("run")) == sequence + 1

    def test_any_thread_may_use_a_manager(self, database: BaseDatabaseManager) -> None:
        epoch = in_thread(lambda: claim_run(database))
        for sequence in range(5):
            in_thread(lambda n=sequence: database.record_steps("run", epoch, [step_record(n)]))  # type: ignore[misc]
        in_thread(lambda: database.finish_workflow("run", epoch, run_end()))
        assert in_thread(lambda: read(database)).status is WorkflowStatus.DONE
        assert len(in_thread(lambda: database.load_outcomes("run"))) == 5


class SevenMethods(Contract):
    """The methods of 1.0.2."""

    def test_a_saved_workflow_comes_back(self, database: BaseDatabaseManager) -> None:
        saved = instance(
            "run",
            status=WorkflowStatus.FAILED,
            input_data={"b": [1, None, "漢字"], "a": {"x": 0.5}},
            current_activity="shout",
            error_message="it's 漢字",
            updated_at=at(3),
        )
        database.save_workflow(saved)
        with self.another(database) as other:
            assert other.get_workflow("run") == saved
        assert database.get_workflow("nobody") is None

    @pytest.mark.parametrize("output", [None, False, 0, "", [], {}, {"a": [1]}, "漢字\ud83d"])
    def test_an_output_comes_back(self, database: BaseDatabaseManager, output: object) -> None:
        saved = instance("run", output_data=output)
        database.save_workflow(saved)
        assert database.get_workflow("run") == saved
        assert read(database).output is not None
        made = execution("e-1", "run", output_data=output)
        database.save_activity_execution(made)
        assert database.get_activity_executions("run") == [made]
        assert [step.output is None for step in database.load_outcomes("run")] == [False]

    def test_saving_again_replaces(self, database: BaseDatabaseManager) -> None:
        database.save_workflow(instance("run", status=WorkflowStatus.PROCESSING))
        changed = instance("run", name="renamed", minutes=1, output_data=[1], current_activity="shout")
        database.save_workflow(changed)
        assert database.list_workflows() == [changed]
        running = execution("e-1", "run", status="running", completed_at=None)
        for saved in (running, execution("e-1", "run", output_data=1), execution("e-1", "run", output_data=2)):
            database.save_activity_execution(saved)
            assert database.get_activity_executions("run") == [saved]

    def test_lists_have_their_order(self, database: BaseDatabaseManager) -> None:
        for n in range(6):
            status = WorkflowStatus.DONE if n % 3 == 0 else WorkflowStatus.PROCESSING
            database.save_workflow(instance(str(n), name="ab"[n % 2], minutes=n, status=status))
        assert [run.id for run in database.list_workflows()] == ["5", "4", "3", "2", "1", "0"]
        assert [run.id for run in database.get_workflows_by_name("b")] == ["5", "3", "1"]
        assert database.get_workflows_by_name("B") == []
        processing = database.get_processing_workflows()
        assert [run.id for run in processing] == ["1", "2", "4", "5"]
        assert {run.status for run in processing} == {WorkflowStatus.PROCESSING}

    def test_executions_come_back_oldest_first(self, database: BaseDatabaseManager) -> None:
        database.save_workflow(instance("run"))
        database.save_workflow(instance("other"))
        database.save_activity_execution(execution("o-1", "other"))
        saved = [execution(f"e-{n}", "run", minutes=n, activity_name=f"act{n}", output_data=[n]) for n in range(5)]
        saved[3] = replace(saved[3], status="failed", output_data=None, error_message="it's 漢字")
        saved[4] = replace(saved[4], status="running", output_data=None, completed_at=None)
        for n in (2, 0, 4, 1, 3):
            database.save_activity_execution(saved[n])
        with self.another(database) as other:
            assert other.get_activity_executions("run") == saved
        assert [step.name for step in database.load_outcomes("run")] == [f"act{n}" for n in range(5)]
        assert database.get_activity_executions("nobody") == []

    def test_what_comes_back_can_be_saved_again(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.record_steps("run", epoch, [step_record(0), failed_step(1), step_record(2, None)])
        database.save_activity_execution(execution("own", "run", minutes=0))
        before = (database.get_activity_executions("run"), database.get_steps("run"), database.get_workflow("run"))
        for made in before[0]:
            database.save_activity_execution(made)
        database.save_workflow(before[2]) if before[2] is not None else None
        after = (database.get_activity_executions("run"), database.get_steps("run"), database.get_workflow("run"))
        assert after == before

    def test_a_time_without_zone_is_local(self, database: BaseDatabaseManager) -> None:
        naive, eastern = at(0).replace(tzinfo=None), at(1).astimezone(timezone(timedelta(hours=5, minutes=30)))
        database.save_workflow(instance("run", created_at=naive, updated_at=eastern))
        database.save_activity_execution(execution("e", "run", created_at=naive, completed_at=eastern))
        record, (step,) = read(database), database.get_steps("run")
        assert (record.created_at, record.updated_at) == (naive.astimezone(), at(1))
        assert (step.started_at, step.completed_at) == (naive.astimezone(), at(1))
        assert_utc(record)
        assert_utc(step)

    def test_both_levels_see_the_same_runs(self, database: BaseDatabaseManager) -> None:
        database.save_workflow(instance("old", status=WorkflowStatus.PROCESSING, input_data={"n": 1}))
        (claimed,) = database.claim_workflows(register(database), ["greet"], 1)
        assert (claimed.id, claimed.input, claimed.output) == ("old", '{"n":1}', None)
        database.record_steps("old", claimed.epoch, [step_record(0, "[1]"), failed_step(1)])
        first, second = database.get_activity_executions("old")
        assert (first.activity_name, first.status, first.output_data) == ("act0", "completed", [1])
        assert (second.activity_name, second.status, second.error_message) == ("act1", "failed", "漢字")
        database.finish_workflow("old", claimed.epoch, run_end('{"a":1}'))
        done = database.get_workflow("old")
        assert done is not None
        assert (done.status, done.output_data, done.updated_at) == (WorkflowStatus.DONE, {"a": 1}, at(9))


class Purging(WaitingContract):
    """``purge_workflows``."""

    def _end(self, waits: BaseDatabaseManager, workflow_id: str, minutes: float, **fields: Any) -> None:
        epoch = begin(waits, workflow_id, **fields)
        waits.finish_workflow(workflow_id, epoch, run_end(minutes=minutes, steps=(step_record(0),)))

    def test_runs_that_ended_before_a_time_go_with_all_that_is_theirs(self, waits: BaseDatabaseManager) -> None:
        for n in range(4):
            self._end(waits, f"run-{n}", 10 + n)
        waits.create_workflow(run_record("running"))
        assert waits.purge_workflows(at(12)) == 2
        assert ids_of(waits.page_workflows()) == ["running", "run-3", "run-2"]
        assert (waits.read_workflow("run-0"), waits.get_steps("run-0"), waits.load_events("run-0")) == (None, [], [])
        assert len(waits.get_steps("run-2")) == 1
        assert waits.purge_workflows(at(12)) == 0

    def test_it_is_filtered_and_bounded_and_the_oldest_go_first(self, waits: BaseDatabaseManager) -> None:
        for n, (name, status) in enumerate([("a", "done"), ("b", "failed"), ("a", "cancelled"), ("a", "done")]):
            waits.create_workflow(run_record(f"run-{n}", name=name))
            (claimed,) = waits.claim_workflows("owner-a", [name], 1)
            end = run_end(None, status=WorkflowStatus(status), minutes=20 - n)
            waits.finish_workflow(claimed.id, claimed.epoch, end)
        assert waits.purge_workflows(at(99), name="a", status=WorkflowStatus.FAILED) == 0
        assert waits.purge_workflows(at(99), limit=0) == 0
        assert waits.purge_workflows(at(99), limit=1) == 1
        assert ids_of(waits.page_workflows()) == ["run-2", "run-1", "run-0"]
        assert waits.purge_workflows(at(99), name="a", status=WorkflowStatus.DONE) == 1
        assert waits.purge_workflows(at(99), status=WorkflowStatus.FAILED) == 1
        assert ids_of(waits.page_workflows()) == ["run-2"]

    def test_a_child_stays_until_its_parent_has_ended(self, waits: BaseDatabaseManager) -> None:
        parent = begin(waits, "parent")
        self._end(waits, "child", 5, parent_id="parent")
        self._end(waits, "orphan", 5, parent_id="nobody")
        assert waits.purge_workflows(at(99)) == 1
        waits.finish_workflow("parent", parent, run_end(minutes=50))
        assert waits.purge_workflows(at(40)) == 1
        assert ids_of(waits.page_workflows()) == ["parent"]

    def test_whatever_has_not_ended_stays(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, "waits", wake_at=at(99))
        waits.create_workflow(run_record("paused"))
        waits.pause_workflow("paused")
        begin(waits, "runs")
        assert waits.purge_workflows(at(1000)) == 0

    def test_racing_purges_delete_each_once(self, waits: BaseDatabaseManager) -> None:
        for n in range(40):
            self._end(waits, f"run-{n}", 5)
        counts = race([lambda: waits.purge_workflows(at(9), limit=15)] * 4)
        assert sum(counts) == 40
        assert waits.page_workflows() == []


class Versions(WaitingContract):
    """Which version of the code a run began with, and which one an activity's step had."""

    def test_pages_are_filtered_by_version(self, waits: BaseDatabaseManager) -> None:
        for n, version in enumerate(["1", None, "1.0 漢字", "1", "O'Hare"]):
            record = run_record(f"run-{n}", minutes=n, version=version, name="ab"[n % 2])
            assert waits.create_workflow(record) is None
            assert read(waits, f"run-{n}").version == version
        assert ids_of(waits.page_workflows(version="1")) == ["run-3", "run-0"]
        assert ids_of(waits.page_workflows(version="1", limit=1, cursor="run-3")) == ["run-0"]
        assert ids_of(waits.page_workflows(version="1", name="b", status=WorkflowStatus.PROCESSING)) == ["run-3"]
        assert ids_of(waits.page_workflows(version="1.0 漢字")) == ["run-2"]
        assert waits.page_workflows(version="1.0") == waits.page_workflows(version="") == []
        assert len(waits.page_workflows()) == 5

    def test_the_version_of_a_step_is_kept(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        steps = [step_record(0, version="漢字 2"), step_record(1), step_record(2, None, version="1")]
        waits.record_steps("run", epoch, steps)
        assert waits.get_steps("run") == steps
        waits.record_steps("run", epoch, [step_record(2, version="2")])
        assert waits.get_steps("run")[2].version == "2"

    def test_a_run_that_begins_anew_has_the_version_of_that_day(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits, version="old")
        for version in ("new", None):
            anew = WorkflowContinuation(input="{}", taken={}, continued_at=at(7), version=version)
            waits.continue_workflow("run", epoch, anew)
            assert read(waits).version == version
            (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(8))
            epoch = claimed.epoch
