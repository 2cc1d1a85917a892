"""The contract, on a run's history: its steps, their payloads, and its end."""

# ruff: noqa: S101 - this is a test suite

from __future__ import annotations

import contextlib
import threading

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..models import StepOutcome, WorkflowStatus
from ._contract_base import Contract, assert_utc, claim_new, claim_run, has_leases, read
from ._samples import (
    FAILURE_DOCUMENT,
    FALSY,
    PAYLOADS,
    at,
    execution,
    failed_step,
    race,
    run_end,
    run_record,
    step_record,
)


class Recording(Contract):
    """``record_steps``, ``load_outcomes``, ``get_steps`` and ``finish_workflow``."""

    def test_steps_come_back_whole_and_by_sequence(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        steps = [step_record(n, minutes=n, input=f"[{n}]") for n in range(11)]
        steps[3], steps[4] = failed_step(3, minutes=3), step_record(4, None, minutes=4)
        database.record_steps("run", epoch, [steps[10], steps[2], *steps[3:10]])
        database.record_steps("run", epoch, [steps[1], steps[0]])
        database.record_steps("run", epoch, [])
        with self.another(database) as other:
            assert other.get_steps("run") == steps
            assert other.load_outcomes("run") == [
                StepOutcome(step.sequence, "activity", step.name, step.status, step.output, step.error, None)
                for step in steps
            ]

    def test_histories_do_not_mix(self, database: BaseDatabaseManager) -> None:
        for workflow_id in ("a", "a:1", "A"):
            epoch = claim_run(database, workflow_id, f"owner of {workflow_id}")
            database.record_steps(workflow_id, epoch, [step_record(n, f'"{workflow_id}"') for n in (0, 1)])
        for workflow_id in ("a", "a:1", "A"):
            outcomes = database.load_outcomes(workflow_id)
            assert [(step.sequence, step.output) for step in outcomes] == [(n, f'"{workflow_id}"') for n in (0, 1)]

    def test_a_completed_step_is_final(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.record_steps("run", epoch, [step_record(0, '"first"')])
        database.record_steps("run", epoch, [step_record(0, '"second"'), step_record(1, '"new"')])
        database.record_steps("run", epoch, [failed_step(0), step_record(1, None)])
        database.release_workflow("run", epoch)
        (again,) = database.claim_workflows("owner-a", ["greet"], 1)
        database.record_steps("run", again.epoch, [failed_step(0)])
        database.finish_workflow("run", again.epoch, run_end(steps=(step_record(0, '"third"'), failed_step(1))))
        assert database.get_steps("run") == [step_record(0, '"first"'), step_record(1, '"new"')]

    def test_a_step_that_did_not_complete_may_run_again(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        for step in (step_record(0, None), failed_step(0), step_record(0, None, minutes=5), step_record(0, minutes=5)):
            database.record_steps("run", epoch, [step])
            assert database.get_steps("run") == [step]

    @pytest.mark.parametrize("bad_field", ["started_at", "input"])
    def test_a_batch_that_cannot_be_stored_stores_nothing(self, database: BaseDatabaseManager, bad_field: str) -> None:
        epoch = claim_run(database)
        broken = step_record(1)._replace(**{bad_field: object()})  # type: ignore[arg-type]
        with contextlib.suppress(Exception):
            database.record_steps("run", epoch, [step_record(0), broken, step_record(2)])
        stored = {step.sequence for step in database.load_outcomes("run")} if has_leases(database) else set()
        assert stored in (set(), {0, 1, 2})

    def test_a_reader_sees_all_of_a_batch_or_nothing(self, database: BaseDatabaseManager) -> None:
        if not has_leases(database):
            return
        epoch = claim_run(database)
        written = threading.Event()
        partial = []

        def read() -> None:
            while not written.is_set():
                partial.extend([n for n in [len(database.load_outcomes("run"))] if n % 20])

        def write() -> None:
            try:
                for batch in range(10):
                    database.record_steps("run", epoch, [step_record(batch * 20 + n) for n in range(20)])
            finally:
                written.set()

        race([read, write])
        assert partial == []

    def test_the_current_activity_is_kept(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.record_steps("run", epoch, [step_record(0, None)], current_activity="shout")
        first = read(database)
        assert first.current_activity == "shout"
        assert first.updated_at != at(0)
        assert_utc(first)
        database.record_steps("run", epoch, [step_record(0)])
        assert read(database).current_activity == "shout"
        database.record_steps("run", epoch, [], current_activity="whisper")
        assert read(database).current_activity == "whisper"

    def test_calls_that_1_0_2_recorded_come_first(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.record_steps("run", epoch, [step_record(0, '"new"', minutes=9)])
        for n in (0, 2, 1):
            saved = execution(f"own-{n}", "run", minutes=n, activity_name=f"old{n}", output_data=n)
            database.save_activity_execution(saved)
        outcomes = database.load_outcomes("run")
        assert [(step.name, step.output) for step in outcomes] == [
            ("old0", "0"), ("old1", "1"), ("old2", "2"), ("act0", '"new"')
        ]  # fmt: skip
        sequences = [step.sequence for step in outcomes]
        assert sequences == sorted(sequences)
        assert [sequence < 0 for sequence in sequences] == [True, True, True, False]

    @pytest.mark.parametrize("output", FALSY)
    def test_a_falsy_output_is_an_output(self, database: BaseDatabaseManager, output: str) -> None:
        epoch = claim_run(database)
        steps = (step_record(0, output), step_record(1, None))
        database.record_steps("run", epoch, steps)
        assert [step.output for step in database.load_outcomes("run")] == [output, None]
        assert [step.output for step in database.get_steps("run")] == [output, None]
        assert read(database).output is None
        database.finish_workflow("run", epoch, run_end(output))
        assert read(database).output == output

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
    def test_a_payload_comes_back_unchanged(self, database: BaseDatabaseManager, payload: str) -> None:
        arguments, document = f'{{"value":{payload}}}', f'{{"message":{payload}}}'
        epoch = claim_new(database, run_record("run", input=arguments))
        steps = (step_record(0, payload, input=arguments), failed_step(1)._replace(error=document))
        database.record_steps("run", epoch, steps)
        database.finish_workflow("run", epoch, run_end(payload))
        with self.another(database) as other:
            assert other.get_steps("run") == list(steps)
            assert [(step.output, step.error) for step in other.load_outcomes("run")] == [
                (payload, None), (None, document)
            ]  # fmt: skip
            assert (read(other).input, read(other).output) == (arguments, payload)

    def test_a_finished_run_is_free_and_done(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.record_steps("run", epoch, [step_record(0, None)], current_activity="shout")
        database.finish_workflow("run", epoch, run_end(steps=(step_record(1), step_record(0))))
        with self.another(database) as other:
            done = run_record("run")._replace(status=WorkflowStatus.DONE, output='"bye"', updated_at=at(9))
            assert read(other)._replace(epoch=0) == done
            assert other.get_steps("run") == [step_record(0), step_record(1)]
        assert database.claim_workflows("owner-a", ["greet"], 1) == []
        assert database.look().ready == set()

    @pytest.mark.parametrize("status", [WorkflowStatus.FAILED, WorkflowStatus.CANCELLED])
    def test_a_failed_run_keeps_its_failure(self, database: BaseDatabaseManager, status: WorkflowStatus) -> None:
        epoch = claim_run(database)
        end = run_end(
            None,
            status=status,
            error=FAILURE_DOCUMENT,
            error_message="it's 漢字\n😀",
            current_activity="shout",
            steps=(failed_step(0),),
        )
        database.finish_workflow("run", epoch, end)
        record = read(database)
        assert (record.status, record.output, record.error_message) == (status, None, "it's 漢字\n😀")
        assert (record.current_activity, record.owner, record.updated_at) == ("shout", None, at(9))
        assert database.get_steps("run") == [failed_step(0)]
        assert record.error == FAILURE_DOCUMENT

    def test_the_kind_of_a_step_is_kept(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        kinds = ["value", "choice", "activity", "patch"]
        database.record_steps("run", epoch, [step_record(n, kind=kind) for n, kind in enumerate(kinds)])
        with self.another(database) as other:
            assert [step.kind for step in other.load_outcomes("run")] == kinds
            assert [step.kind for step in other.get_steps("run")] == kinds

    def test_the_state_of_a_step_is_kept(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        retrying = failed_step(1)._replace(status="retrying", state='{"attempt":1,"due":"2030-01-01T00:05:00+00:00"}')
        steps = [failed_step(0)._replace(state='{"attempt":3}'), retrying]
        if has_leases(database):
            steps += [
                step_record(2, state='{"attempt":2}'),
                step_record(3, None, kind="timer", name="sleep", status="waiting", state='{"due":"漢字"}'),
                step_record(4, kind="event", name="o'hare 漢字", state='{"position":7,"due":null}'),
                step_record(5, None, kind="workflow", status="waiting", state='{"workflow_id":"run-5"}'),
                step_record(6, None, status="cancelled", completed_at=at(3)),
            ]
        database.record_steps("run", epoch, steps)
        with self.another(database) as other:
            assert other.get_steps("run") == steps
            assert [step.state for step in other.load_outcomes("run")] == [step.state for step in steps]
        running = step_record(1, None, minutes=5)  # its next attempt, of which nothing is known yet
        database.record_steps("run", epoch, [running])
        assert database.get_steps("run")[1] == running
