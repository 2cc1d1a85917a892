"""The contract, on opening a failed run again."""

# ruff: noqa: S101 - this is a test suite

from __future__ import annotations

from functools import partial

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import WorkflowNotFoundError, WorkflowStateError
from ..models import WorkflowStatus
from ._contract_base import WaitingContract, assert_refused, begin, read
from ._samples import FAILURE_DOCUMENT, at, failed_step, race, run_end, run_record, step_record

FAILED = WorkflowStatus.FAILED


class Reopening(WaitingContract):
    """``reopen_workflow``."""

    def _fail(self, waits: BaseDatabaseManager) -> int:
        waits.create_workflow(run_record("run", parent_id="p", signals=2, deadline=at(50)))
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        waits.cancel_workflow("run")
        steps = (step_record(0), failed_step(1), step_record(2), step_record(3, None, status="cancelled"))
        end = run_end(
            None, status=FAILED, error=FAILURE_DOCUMENT, error_message="漢字", current_activity="act1", steps=steps
        )
        waits.finish_workflow("run", claimed.epoch, end)
        return claimed.epoch

    def test_a_failed_run_is_opened_again_without_its_failure(self, waits: BaseDatabaseManager) -> None:
        epoch = self._fail(waits)
        waits.create_workflow(run_record("newer", minutes=1))
        waiting = step_record(1, None, status="waiting", kind="workflow", state='{"workflow_id":"c"}')
        with self.another_with_claims(waits) as other:
            other.reopen_workflow("run", epoch, iter([2, 3, 9]), [waiting])
        opened = run_record("run")._replace(parent_id="p", signals=3, epoch=epoch)
        assert read(waits) == opened._replace(updated_at=read(waits).updated_at)
        assert waits.get_steps("run") == [step_record(0), waiting]
        assert waits.look().ready == {"greet"}
        claimed, newer = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        assert (claimed.id, newer.id) == ("run", "newer")
        assert claimed.epoch > epoch
        waits.record_steps("run", claimed.epoch, [step_record(2, "2")])
        waits.finish_workflow("run", claimed.epoch, run_end(steps=(step_record(1), step_record(3, "3"))))
        assert waits.get_steps("run") == [step_record(0), step_record(1), step_record(2, "2"), step_record(3, "3")]
        assert (read(waits).status, read(waits).output) == (WorkflowStatus.DONE, '"bye"')

    def test_what_is_final_is_not_replaced(self, waits: BaseDatabaseManager) -> None:
        epoch = self._fail(waits)
        new = [step_record(n, None, status="waiting") for n in range(4)]
        waits.reopen_workflow("run", epoch, [2], new)
        statuses = [step.status for step in waits.get_steps("run")]
        assert statuses == ["completed", "waiting", "waiting", "cancelled"]

    def test_a_run_fails_and_opens_again_and_again(self, waits: BaseDatabaseManager) -> None:
        epoch = self._fail(waits)
        for n in range(3):
            waits.reopen_workflow("run", epoch, [1])
            with pytest.raises(WorkflowStateError):
                waits.reopen_workflow("run", epoch, [0])
            (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
            end = run_end(None, status=FAILED, error_message=str(n), steps=(failed_step(1),))
            waits.finish_workflow("run", claimed.epoch, end)
            with pytest.raises(WorkflowStateError):
                waits.reopen_workflow("run", epoch, [0])
            epoch = claimed.epoch
        assert [step.status for step in waits.get_steps("run")] == ["completed", "failed", "completed", "cancelled"]

    def test_of_racing_openers_one_wins(self, waits: BaseDatabaseManager) -> None:
        epoch = self._fail(waits)
        with self.another_with_claims(waits) as other:

            def opener(n: int) -> bool:
                try:
                    (waits, other)[n % 2].reopen_workflow("run", epoch, [0, 1, 2, 3], [step_record(10 + n)])
                except WorkflowStateError:
                    return False
                return True

            won = race([partial(opener, n) for n in range(8)])
            assert won.count(True) == 1
            assert [step.sequence for step in waits.get_steps("run")] == [10 + won.index(True)]

    def test_an_unknown_run_is_not_opened_again(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("Run", status=FAILED))
        assert_refused(waits, WorkflowNotFoundError, partial(waits.reopen_workflow, "run", 0, []))

    @pytest.mark.parametrize("status", [status for status in WorkflowStatus if status != "failed"])
    def test_only_a_failed_run_is_opened_again(self, waits: BaseDatabaseManager, status: WorkflowStatus) -> None:
        steps = [step_record(0), failed_step(1)]
        waits.create_workflow(run_record("run", status=status), steps=steps)
        reopen = partial(waits.reopen_workflow, "run", 0, [0, 1], [step_record(2)])
        assert_refused(waits, WorkflowStateError, reopen, status.value)
        assert waits.get_steps("run") == steps

    def test_a_run_that_has_gone_on_since_is_not_opened_again(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.finish_workflow("run", epoch, run_end(None, status=FAILED, steps=(step_record(0), failed_step(1))))
        for other in (epoch - 1, epoch + 1):
            reopen = partial(waits.reopen_workflow, "run", other, [0, 1], [step_record(2)])
            assert_refused(waits, WorkflowStateError, reopen, "failed")
        assert waits.get_steps("run") == [step_record(0), failed_step(1)]
