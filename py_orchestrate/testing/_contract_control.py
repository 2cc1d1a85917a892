"""The contract, on what a user asks of a run: cancelling, pausing and resuming."""

# ruff: noqa: PLR2004, S101 - this is a test suite

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import WorkflowNotFoundError, WorkflowStateError
from ..models import NEVER, ControlRequest, WorkflowRecord, WorkflowStatus, WorkflowSuspension
from ._contract_base import (
    WaitingContract,
    assert_refused,
    begin,
    begin_and_wait,
    ids_of,
    read,
    register,
    take,
)
from ._samples import (
    at,
    event_record,
    instance,
    race_again,
    run_end,
    run_record,
    step_record,
    suspension,
)

PROCESSING, PAUSED = WorkflowStatus.PROCESSING, WorkflowStatus.PAUSED
CANCEL, PAUSE = ControlRequest.CANCEL, ControlRequest.PAUSE

_ROUNDS = 30
_WAIT = suspension(wake_at=at(99), waiting_for="event:go")


def _wait_of(record: WorkflowRecord) -> tuple[object, ...]:
    return record.status, record.wake_at, record.waiting_for


class Refusals(WaitingContract):
    """What cannot be asked of a run."""

    def test_nothing_can_be_asked_of_an_unknown_run(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("Run"))
        for ask in (waits.cancel_workflow, waits.pause_workflow, waits.resume_workflow):
            assert_refused(waits, WorkflowNotFoundError, partial(ask, "run"))

    @pytest.mark.parametrize("status", [status for status in WorkflowStatus if status.is_final])
    def test_nothing_can_be_asked_of_a_run_that_has_ended(
        self, waits: BaseDatabaseManager, status: WorkflowStatus
    ) -> None:
        epoch = begin(waits)
        waits.finish_workflow("run", epoch, run_end(None, status=status))
        for ask in (waits.cancel_workflow, waits.pause_workflow, waits.resume_workflow):
            assert_refused(waits, WorkflowStateError, partial(ask, "run"), status.value)

    def test_a_run_that_is_being_cancelled_is_not_paused(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        waits.cancel_workflow("run")
        assert_refused(waits, WorkflowStateError, partial(waits.pause_workflow, "run"), "processing")
        assert take(waits) == ["run"]
        assert_refused(waits, WorkflowStateError, partial(waits.pause_workflow, "run"), "processing")


class Cancelling(WaitingContract):
    """``cancel_workflow`` and ``pending_requests``."""

    def test_a_run_that_waits_is_ready_to_be_cancelled(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=NEVER, waiting_for="workflow:child")
        with self.another_with_claims(waits) as other:
            other.cancel_workflow("run")
        record = read(waits)
        assert (record.request, record.signals, _wait_of(record)) == (CANCEL, 1, (PROCESSING, None, None))
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        assert claimed.request is CANCEL
        assert waits.record_steps("run", claimed.epoch, [step_record(0)]) is CANCEL
        waits.finish_workflow("run", claimed.epoch, run_end(None, status=WorkflowStatus.CANCELLED))
        assert read(waits).request is None

    def test_a_run_that_is_held_is_told(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        assert waits.record_steps("run", epoch, []) is None
        assert waits.pending_requests("owner-a") == {}
        waits.cancel_workflow("run")
        assert (read(waits).owner, read(waits).epoch, read(waits).status) == ("owner-a", epoch, PROCESSING)
        assert waits.pending_requests("owner-a") == {"run": CANCEL}
        assert waits.record_steps("run", epoch, [step_record(0)]) is CANCEL
        waits.suspend_workflow("run", epoch, _WAIT)
        assert _wait_of(read(waits)) == (PROCESSING, None, None)
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        assert (claimed.request, claimed.signals) == (CANCEL, 1)

    def test_a_run_that_has_noticed_may_wait_again(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.cancel_workflow("run")
        waits.suspend_workflow("run", epoch, _WAIT._replace(signals=1))
        assert _wait_of(read(waits)) == (PROCESSING, at(99), "event:go")
        assert read(waits).request is CANCEL
        assert take(waits) == []
        waits.add_event("run", event_record("e"))
        assert take(waits) == ["run"]

    def test_a_paused_run_is_ready_to_be_cancelled(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=at(99), waiting_for="event:go")
        waits.pause_workflow("run")
        waits.cancel_workflow("run")
        assert (read(waits).request, _wait_of(read(waits))) == (CANCEL, (PROCESSING, None, None))
        assert take(waits) == ["run"]

    def test_a_run_that_has_not_begun_is_claimed_to_be_cancelled(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run", wake_at=at(99)))
        waits.cancel_workflow("run")
        waits.cancel_workflow("run")
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        assert claimed.request is CANCEL

    def test_cancelling_replaces_a_request_to_pause(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.pause_workflow("run")
        waits.cancel_workflow("run")
        assert waits.pending_requests("owner-a") == {"run": CANCEL}
        waits.suspend_workflow("run", epoch, _WAIT)
        assert (read(waits).request, _wait_of(read(waits))) == (CANCEL, (PROCESSING, None, None))

    def test_requests_are_those_of_an_owner(self, waits: BaseDatabaseManager) -> None:
        register(waits, "owner-b")
        for n in range(5):
            waits.create_workflow(run_record(str(n), minutes=n))
        assert ids_of(waits.claim_workflows("owner-a", ["greet"], 3)) == ["0", "1", "2"]
        assert ids_of(waits.claim_workflows("owner-b", ["greet"], 1)) == ["3"]
        waits.cancel_workflow("0")
        for workflow_id in ("2", "3", "4"):
            waits.pause_workflow(workflow_id)
        with self.another_with_claims(waits) as other:
            assert other.pending_requests("owner-a") == {"0": CANCEL, "2": PAUSE}
            assert other.pending_requests("owner-b") == {"3": PAUSE}
            assert other.pending_requests("owner-c") == {}
        waits.release_owner("owner-a")
        assert waits.pending_requests("owner-a") == {}

    def test_a_request_outlives_the_claim(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.cancel_workflow("run")
        waits.release_workflow("run", epoch)
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9)
        assert claimed.request is CANCEL
        assert waits.pending_requests("owner-a") == {"run": CANCEL}

    def test_no_request_to_cancel_falls_between_looking_and_waiting(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS):
                name = f"run-{n}"
                epoch = begin(waits, name)
                race_again(
                    [partial(waits.suspend_workflow, name, epoch, _WAIT), partial(other.cancel_workflow, name)], n
                )
                assert take(waits) == [name]
                assert waits.pending_requests("owner-a")[name] is CANCEL


class TimeLimits(WaitingContract):
    """The ``deadline`` of a run that nobody holds: a look lets it be cancelled, for perhaps nobody else can notice."""

    def test_a_run_that_is_ready_is_out_of_its_time(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run", deadline=at(5)))
        waits.look(now=at(4.9))
        assert (read(waits).request, read(waits).signals) == (None, 0)
        with self.another_with_claims(waits) as other:
            assert other.look(now=at(5)).ready == {"greet"}
        record = read(waits)
        assert (record.request, record.deadline, record.signals) == (CANCEL, at(5), 1)
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(5))
        assert (claimed.request, claimed.deadline) == (CANCEL, at(5))
        waits.finish_workflow("run", claimed.epoch, run_end(None, status=WorkflowStatus.FAILED))
        waits.look(now=at(6))
        assert (read(waits).status, read(waits).request) == (WorkflowStatus.FAILED, None)

    @pytest.mark.parametrize("wait", [suspension(wake_at=NEVER, waiting_for="event:go"), suspension()])
    def test_a_run_that_is_paused_is_out_of_its_time(
        self, waits: BaseDatabaseManager, wait: WorkflowSuspension
    ) -> None:
        waits.suspend_workflow("run", begin(waits, deadline=at(5)), wait)
        waits.pause_workflow("run")
        waits.look(now=at(4))
        assert read(waits).status is PAUSED
        assert waits.look(now=at(5)).ready == {"greet"}
        assert (read(waits).request, _wait_of(read(waits))) == (CANCEL, (PROCESSING, None, None))
        assert_refused(waits, WorkflowStateError, partial(waits.pause_workflow, "run"), "processing")
        assert take(waits, now=at(5)) == ["run"]

    def test_a_run_that_waits_or_is_held_is_left_alone(self, waits: BaseDatabaseManager) -> None:
        """Who holds it notices by itself, and what waits for longer does so for a reason: it may be cleaning up."""
        begin(waits, deadline=at(5))
        waits.suspend_workflow("asleep", begin(waits, "asleep", deadline=at(5)), _WAIT)
        waits.look(now=at(6))
        assert [read(waits, each).request for each in ("run", "asleep")] == [None, None]
        assert _wait_of(read(waits, "asleep")) == (PROCESSING, at(99), "event:go")

    def test_all_that_are_out_of_their_time_are_found(self, waits: BaseDatabaseManager) -> None:
        for n in range(120):
            waits.create_workflow(run_record(f"run-{n}", deadline=at(n)))
        for _ in range(3):  # a look may find a part of them
            waits.look(now=at(99))
        requests = [read(waits, f"run-{n}").request for n in range(120)]
        assert requests == [CANCEL] * 100 + [None] * 20

    def test_who_cancels_a_run_takes_its_time_limit_away(self, waits: BaseDatabaseManager) -> None:
        """So that its code can tell the one from the other."""
        waits.create_workflow(run_record("run", deadline=at(5)))
        waits.cancel_workflow("run")
        assert (read(waits).request, read(waits).deadline, read(waits).signals) == (CANCEL, None, 1)
        waits.look(now=at(6))
        assert read(waits).signals == 1


class Pausing(WaitingContract):
    """``pause_workflow`` and ``resume_workflow``."""

    def test_a_run_that_nobody_holds_is_paused_at_once(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=at(5), waiting_for="event:go")
        waiting = read(waits)
        with self.another_with_claims(waits) as other:
            other.pause_workflow("run")
            waits.pause_workflow("run")
            assert read(waits) == waiting._replace(status=PAUSED, updated_at=read(waits).updated_at)
            assert take(waits, now=at(99)) == []
            assert waits.look().wake_at is None
            other.resume_workflow("run")
        waits.resume_workflow("run")
        assert read(waits) == waiting._replace(updated_at=read(waits).updated_at)
        assert waits.look().wake_at == at(5)
        assert take(waits, now=at(4)) == []
        assert take(waits, now=at(5)) == ["run"]  # its timers go on meanwhile

    def test_a_paused_run_returns_to_its_place(self, waits: BaseDatabaseManager) -> None:
        for n in range(3):
            waits.create_workflow(run_record(str(n), minutes=n))
        waits.pause_workflow("0")
        assert waits.look().ready == {"greet"}
        assert take(waits, limit=1) == ["1"]
        waits.resume_workflow("0")
        assert take(waits) == ["0", "2"]

    def test_no_name_is_pending_of_a_paused_run(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        waits.pause_workflow("run")
        assert waits.look().ready == set()
        waits.resume_workflow("run")
        assert waits.look().ready == {"greet"}

    def test_a_run_that_is_held_is_asked(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.pause_workflow("run")
        waits.pause_workflow("run")
        record = read(waits)
        assert (record.status, record.request, record.owner) == (PROCESSING, PAUSE, "owner-a")
        assert waits.pending_requests("owner-a") == {"run": PAUSE}
        assert waits.record_steps("run", epoch, [step_record(0)]) is PAUSE
        waits.suspend_workflow("run", epoch, _WAIT._replace(steps=(step_record(1),)))
        record = read(waits)
        assert (record.request, record.owner, _wait_of(record)) == (None, None, (PAUSED, at(99), "event:go"))
        assert len(waits.get_steps("run")) == 2
        assert take(waits, now=at(100)) == []
        waits.resume_workflow("run")
        assert _wait_of(read(waits)) == (PROCESSING, at(99), "event:go")
        assert take(waits, now=at(99)) == ["run"]

    def test_a_run_that_pauses_makes_room(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.create_workflow(run_record("next", minutes=1))
        waits.pause_workflow("run")
        (claimed,) = waits.suspend_and_claim("run", epoch, suspension(), owner="owner-a", names=["greet"])
        assert claimed.id == "next"
        assert _wait_of(read(waits)) == (PAUSED, None, None)

    def test_a_paused_run_keeps_its_signals(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=at(99), waiting_for="event:go")
        waits.pause_workflow("run")
        waits.add_event("run", event_record("e-1", name="other"))
        assert (read(waits).signals, _wait_of(read(waits))) == (1, (PAUSED, at(99), "event:go"))
        waits.add_event("run", event_record("e-2"))
        assert (read(waits).signals, _wait_of(read(waits))) == (2, (PAUSED, None, None))
        assert take(waits) == []
        waits.resume_workflow("run")
        assert take(waits) == ["run"]

    def test_a_signal_before_the_pause_is_kept_too(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.add_event("run", event_record("e"))
        waits.pause_workflow("run")
        waits.suspend_workflow("run", epoch, _WAIT)
        assert _wait_of(read(waits)) == (PAUSED, None, None)
        waits.resume_workflow("run")
        assert take(waits) == ["run"]

    def test_the_end_of_a_child_reaches_a_paused_parent(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=NEVER, waiting_for="workflow:child")
        waits.pause_workflow("run")
        waits.finish_workflow("child", begin(waits, "child", parent_id="run"), run_end())
        assert _wait_of(read(waits)) == (PAUSED, None, None)

    def test_a_request_to_pause_is_withdrawn(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.pause_workflow("run")
        waits.resume_workflow("run")
        assert waits.pending_requests("owner-a") == {}
        assert (read(waits).status, read(waits).owner) == (PROCESSING, "owner-a")
        waits.suspend_workflow("run", epoch, _WAIT)
        assert _wait_of(read(waits)) == (PROCESSING, at(99), "event:go")

    def test_resuming_does_nothing_to_other_runs(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, "asleep", wake_at=at(5), waiting_for="event:go")
        begin(waits, "held")
        begin(waits, "cancelled")
        waits.cancel_workflow("cancelled")
        waits.create_workflow(run_record("ready"))
        before = waits.page_workflows()
        for record in before:
            waits.resume_workflow(record.id)
        assert waits.page_workflows() == before
        assert take(waits) == ["ready"]

    def test_a_run_may_end_before_it_pauses(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.pause_workflow("run")
        waits.finish_workflow("run", epoch, run_end())
        assert (read(waits).status, read(waits).request) == (WorkflowStatus.DONE, None)
        assert waits.pending_requests("owner-a") == {}

    def test_a_run_that_1_0_2_pauses_can_be_resumed(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.save_workflow(instance("run", status=PAUSED))
        waits.release_owner("owner-a")
        waits.resume_workflow("run")
        register(waits, "owner-b")
        (claimed,) = waits.claim_workflows("owner-b", ["greet"], 9)
        assert claimed.epoch > epoch

    def test_resuming_a_run_that_is_about_to_pause_leaves_it_running(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS):
                name = f"run-{n}"
                epoch = begin(waits, name)
                waits.pause_workflow(name)
                suspend = partial(waits.suspend_workflow, name, epoch, suspension())
                race_again([suspend, partial(other.resume_workflow, name)], n)
                record = read(waits, name)
                assert (record.status, record.request, take(waits)) == (PROCESSING, None, [name])

    def test_pausing_a_run_that_is_about_to_be_claimed_reaches_it(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS):
                name = f"run-{n}"
                waits.create_workflow(run_record(name))
                both: list[Callable[[], object]] = [partial(take, waits), partial(other.pause_workflow, name)]
                race_again(both, n)
                record = read(waits, name)
                stands = (record.status, record.request, record.owner)
                assert stands in ((PAUSED, None, None), (PROCESSING, PAUSE, "owner-a"))

    def test_cancelling_wins_over_pausing(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS):
                name = f"run-{n}"
                waits.create_workflow(run_record(name))

                def pause(name: str = name) -> None:
                    with contextlib.suppress(WorkflowStateError):
                        other.pause_workflow(name)

                both: list[Callable[[], None]] = [partial(waits.cancel_workflow, name), pause]
                race_again(both, n)
                assert (read(waits, name).request, take(waits)) == (CANCEL, [name])
