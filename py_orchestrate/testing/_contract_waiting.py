"""The contract, on runs that wait: suspending, waking by time, child workflows, and what a manager says that cannot."""

# ruff: noqa: PLR2004, S101 - this is a test suite

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import ClaimLostError, UnsupportedOperationError
from ..models import NEVER, ControlRequest, WorkflowContinuation, WorkflowRecord, WorkflowStatus
from ._contract_base import (
    Contract,
    WaitingContract,
    assert_utc,
    begin,
    begin_and_wait,
    can_wait,
    claim_run,
    ids_of,
    read,
    take,
)
from ._contract_schedules import schedule_record
from ._samples import (
    at,
    event_record,
    failed_step,
    instance,
    race,
    run_end,
    run_record,
    step_record,
    suspension,
)

_INSTANT = timedelta(microseconds=1)


def _child(workflow_id: str, parent_id: str = "run", **fields: object) -> WorkflowRecord:
    return run_record(workflow_id, minutes=1, parent_id=parent_id, **fields)


def _assert_fenced(waits: BaseDatabaseManager, epoch: int, workflow_id: str = "run") -> None:
    before = (waits.page_workflows(), waits.get_steps(workflow_id))
    steps, children = (step_record(7, '"zombie"'),), (_child("zombie", workflow_id),)
    wait = suspension(wake_at=at(9), waiting_for="event:zombie", steps=steps, children=children)
    end = run_end('"zombie"', steps=steps, children=children)
    writes: list[Callable[[], object]] = [
        lambda: waits.suspend_workflow(workflow_id, epoch, wait),
        lambda: waits.suspend_and_claim(workflow_id, epoch, wait, owner="owner-a", names=["greet"]),
        lambda: waits.record_steps(workflow_id, epoch, steps, children=children),
        lambda: waits.finish_workflow(workflow_id, epoch, end),
        lambda: waits.finish_and_claim(workflow_id, epoch, end, owner="owner-a", names=["greet"]),
    ]
    for write in writes:
        with pytest.raises(ClaimLostError) as caught:
            write()
        assert (caught.value.workflow_id, caught.value.epoch) == (workflow_id, epoch)
        assert (waits.page_workflows(), waits.get_steps(workflow_id)) == before


class Waiting(WaitingContract):
    """``suspend_workflow``, ``suspend_and_claim``, ``look``, and claims of runs that waited."""

    def test_a_run_that_waits_is_stored_as_it_is(self, waits: BaseDatabaseManager) -> None:
        record = run_record(
            "run",
            parent_id="o'hare 漢字",
            wake_at=at(7.77),
            waiting_for="event:o'hare 100%_漢字 😀",
            signals=3,
            request=ControlRequest.CANCEL,
            deadline=at(8) + _INSTANT,
        )
        assert waits.create_workflow(record) is None
        with self.another(waits) as other:
            assert read(other) == record
            assert other.page_workflows() == [record]
        assert take(waits) == []

    def test_a_suspended_run_is_free_and_waits(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.record_steps("run", epoch, [step_record(0, None)], current_activity="shout")
        steps = (step_record(1, None, kind="timer", status="waiting", state='{"due":1}'), step_record(0))
        wait = suspension(wake_at=at(5), waiting_for="event:go", steps=steps)
        before = read(waits)
        waits.suspend_workflow("run", epoch, wait)
        with self.another(waits) as other:
            waiting = before._replace(owner=None, wake_at=at(5), waiting_for="event:go", updated_at=at(2))
            assert read(other) == waiting
            assert other.get_steps("run") == [steps[1], steps[0]]
        assert_utc(read(waits))
        assert take(waits) == []
        assert waits.look().ready == set()
        assert waits.page_workflows(status=WorkflowStatus.PROCESSING) == [waiting]

    def test_it_is_claimed_at_exactly_its_time(self, waits: BaseDatabaseManager) -> None:
        epoch = begin_and_wait(waits, wake_at=at(5), waiting_for="event:go")
        assert take(waits, now=at(5) - _INSTANT) == []
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(5))
        assert (claimed.wake_at, claimed.waiting_for, claimed.owner) == (None, None, "owner-a")
        assert claimed.epoch > epoch
        assert read(waits) == claimed
        assert take(waits, now=at(99)) == []

    def test_a_claim_goes_by_the_clock_of_the_machine_otherwise(self, waits: BaseDatabaseManager) -> None:
        now = datetime.now(UTC)
        waits.create_workflow(run_record("future", wake_at=now + timedelta(hours=1)))
        waits.create_workflow(run_record("past", wake_at=now - timedelta(hours=1)))
        assert ids_of(waits.claim_workflows("owner-a", ["greet"], 9)) == ["past"]

    def test_only_what_is_due_is_claimed_and_the_oldest_come_first(self, waits: BaseDatabaseManager) -> None:
        for n, minutes in enumerate([5, 3, 9, 4, 5]):
            begin_and_wait(waits, f"waits-{n}", wake_at=at(minutes))
        waits.create_workflow(run_record("new", minutes=5))
        assert take(waits, now=at(4), limit=2) == ["waits-1", "waits-3"]
        assert take(waits, now=at(5), limit=2) == ["waits-0", "waits-4"]
        assert take(waits, now=at(5)) == ["new"]
        assert take(waits, now=at(8)) == []
        assert take(waits, now=at(9)) == ["waits-2"]

    def test_due_runs_of_other_names_are_left(self, waits: BaseDatabaseManager) -> None:
        for name in ("a", "b"):
            waits.create_workflow(run_record(name, name=name, wake_at=at(5)))
        assert waits.look().ready == set()
        assert ids_of(waits.claim_workflows("owner-a", ["b"], 9, now=at(6))) == ["b"]
        assert waits.claim_workflows("owner-a", ["b"], 9, now=at(7)) == []
        assert ids_of(waits.claim_workflows("owner-a", ["a", "b"], 9, now=at(7))) == ["a"]

    def test_it_may_go_on_at_once(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=None)
        assert waits.look().ready == {"greet"}
        assert waits.look().wake_at is None
        assert take(waits) == ["run"]

    def test_no_time_wakes_what_waits_for_a_signal(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=NEVER, waiting_for="event:go")
        assert read(waits).wake_at == NEVER
        assert waits.look().wake_at is None
        assert take(waits, now=NEVER - timedelta(days=1)) == []

    def test_the_next_time_is_the_earliest(self, waits: BaseDatabaseManager) -> None:
        assert waits.look().wake_at is None
        waits.create_workflow(run_record("ready"))
        assert waits.look().wake_at is None
        take(waits)
        begin_and_wait(waits, "never", wake_at=NEVER)
        for name, minutes in (("c", 7), ("a", 5), ("b", 6)):
            begin_and_wait(waits, name, wake_at=at(minutes) + _INSTANT)
        with self.another(waits) as other:
            assert other.look().wake_at == at(5) + _INSTANT
        assert_utc(read(waits, "a"))
        assert take(waits, now=at(6)) == ["a"]
        assert waits.look().wake_at == at(6) + _INSTANT
        waits.pause_workflow("b")
        assert waits.look().wake_at == at(7) + _INSTANT
        waits.resume_workflow("b")
        assert waits.look().wake_at == at(6) + _INSTANT
        assert take(waits, now=at(99)) == ["c", "b"]
        assert waits.look().wake_at is None

    def test_a_run_may_wait_many_times(self, waits: BaseDatabaseManager) -> None:
        epochs = [begin_and_wait(waits, wake_at=at(5))]
        for n in range(1, 6):
            (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(5 * n))
            epochs.append(claimed.epoch)
            waits.suspend_workflow("run", claimed.epoch, suspension(wake_at=at(5 * n + 5), minutes=n))
        assert epochs == sorted(set(epochs))
        assert take(waits, now=at(29)) == []
        assert take(waits, now=at(30)) == ["run"]

    def test_a_run_that_was_woken_and_let_go_is_ready(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=at(5), waiting_for="event:go")
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(5))
        waits.release_workflow("run", claimed.epoch)
        assert (read(waits).wake_at, read(waits).waiting_for) == (None, None)
        assert take(waits) == ["run"]
        waits.release_owner("owner-a")
        waits.register_owner("owner-b")
        assert ids_of(waits.claim_workflows("owner-b", ["greet"], 9, now=at(0))) == ["run"]

    def test_of_racing_claimers_one_gets_each_run_that_wakes(self, waits: BaseDatabaseManager) -> None:
        for n in range(40):
            waits.create_workflow(run_record(str(n), minutes=n, wake_at=at(100 - n % 7), waiting_for="event:go"))
        with self.another_with_claims(waits) as other:

            def claimer(n: int) -> list[str]:
                manager, owner, mine = (waits, other)[n % 2], f"claimer-{n}", list[str]()
                manager.register_owner(owner)
                while found := manager.claim_workflows(owner, ["greet"], 1 + n % 3, now=at(100)):
                    mine.extend(ids_of(found))
                return mine

            claims = race([partial(claimer, n) for n in range(8)])
            rest = claimer(8)  # a claimer may have left while another's claim was under way
            assert Counter([*chain.from_iterable(claims), *rest]) == Counter(map(str, range(40)))

    def test_suspending_can_claim_the_next_run(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        for name in ("greet", "other", "greet"):
            waits.create_workflow(run_record(f"{name}-{len(waits.page_workflows())}", name=name))
        wait = suspension(wake_at=at(5), steps=(step_record(0),))
        (second,) = waits.suspend_and_claim("run", epoch, wait, owner="owner-a", names=["greet"])
        assert (second.id, second.owner, read(waits, "greet-1")) == ("greet-1", "owner-a", second)
        assert (read(waits).wake_at, read(waits).owner, waits.get_steps("run")) == (at(5), None, [step_record(0)])
        (third,) = waits.suspend_and_claim("greet-1", second.epoch, wait, owner="owner-a", names=["greet"])
        assert third.id == "greet-3"
        assert waits.suspend_and_claim("greet-3", third.epoch, wait, owner="owner-a", names=["greet"]) == []
        assert read(waits, "greet-3").wake_at == at(5)

    def test_leaving_claims_what_is_due_by_then(self, waits: BaseDatabaseManager) -> None:
        for minutes in (5, 6):
            begin_and_wait(waits, f"due-{minutes}", wake_at=at(minutes))
        epoch = begin(waits)
        wait = suspension(wake_at=at(5) + _INSTANT, minutes=5)
        (due,) = waits.suspend_and_claim("run", epoch, wait, owner="owner-a", names=["greet"])
        assert due.id == "due-5"
        (due,) = waits.finish_and_claim(due.id, due.epoch, run_end(minutes=5.5), owner="owner-a", names=["greet"])
        assert due.id == "run"
        end = run_end(finished_at=at(6) - _INSTANT)
        assert waits.finish_and_claim("run", due.epoch, end, owner="owner-a", names=["greet"]) == []

    def test_leaving_may_claim_the_run_itself(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.create_workflow(run_record("next", minutes=1))
        (again,) = waits.suspend_and_claim("run", epoch, suspension(wake_at=at(2)), owner="owner-a", names=["greet"])
        assert (again.id, again.wake_at) == ("run", None)
        assert again.epoch > epoch

    def test_a_lost_claim_suspends_nothing(self, waits: BaseDatabaseManager) -> None:
        stale = begin(waits)
        _assert_fenced(waits, stale + 1)
        _assert_fenced(waits, stale, "never stored")
        waits.release_workflow("run", stale)
        _assert_fenced(waits, stale)
        (current,) = waits.claim_workflows("owner-a", ["greet"], 9)
        _assert_fenced(waits, stale)
        with self.another_with_claims(waits) as other:
            _assert_fenced(other, stale)
        waits.suspend_workflow("run", current.epoch, suspension(wake_at=at(5)))
        _assert_fenced(waits, current.epoch)
        (current,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(5))
        waits.save_workflow(instance("run", status=WorkflowStatus.PAUSED))
        _assert_fenced(waits, current.epoch)
        waits.save_workflow(instance("run", status=WorkflowStatus.DONE))
        _assert_fenced(waits, current.epoch)

    def test_a_cancelled_step_is_final_and_one_that_waits_is_not(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        cancelled = step_record(0, None, status="cancelled", completed_at=at(2))
        waits.record_steps("run", epoch, [cancelled])
        waits.record_steps("run", epoch, [step_record(0, None), step_record(1, None, status="waiting")])
        waits.record_steps("run", epoch, [step_record(0, "1"), step_record(1, None, status="retrying", state="{}")])
        waits.record_steps("run", epoch, [step_record(1, None, status="interrupted")])
        wait = suspension(steps=(failed_step(0), step_record(1, None, kind="timer", status="waiting", state="{}")))
        waits.suspend_workflow("run", epoch, wait)
        assert waits.get_steps("run") == [cancelled, wait.steps[1]]
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9)
        waits.finish_workflow("run", claimed.epoch, run_end(steps=(step_record(0, "2"), step_record(1, "3"))))
        assert waits.get_steps("run") == [cancelled, step_record(1, "3")]

    def test_1_0_2_sees_activities_only(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        kinds = ("timer", "activity", "event", "workflow", "activity")
        waits.record_steps("run", epoch, [step_record(n, kind=kind) for n, kind in enumerate(kinds)])
        assert [made.activity_name for made in waits.get_activity_executions("run")] == ["act1", "act4"]
        assert [step.kind for step in waits.get_steps("run")] == list(kinds)

    def test_1_0_2_keeps_what_it_does_not_know(self, waits: BaseDatabaseManager) -> None:
        record = run_record("run", parent_id="p", wake_at=at(5), waiting_for="event:go", signals=3, deadline=at(9))
        waits.create_workflow(record)
        saved = waits.get_workflow("run")
        assert saved is not None
        waits.save_workflow(saved)
        assert read(waits) == record


class Publishing(WaitingContract):
    """What a run publishes of itself."""

    def test_a_custom_status_is_kept_with_every_kind_of_write(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        assert read(waits).custom_status is None
        waits.record_steps("run", epoch, [], custom_status='"first"')
        with self.another(waits) as other:
            assert read(other).custom_status == '"first"'
        waits.record_steps("run", epoch, [step_record(0)], current_activity="shout")
        assert (read(waits).custom_status, read(waits).current_activity) == ('"first"', "shout")
        waits.suspend_workflow("run", epoch, suspension(custom_status='"second"'))
        assert read(waits).custom_status == '"second"'
        (again,) = waits.claim_workflows("owner-a", ["greet"], 1)
        assert again.custom_status == '"second"'
        waits.suspend_workflow("run", again.epoch, suspension())
        (again,) = waits.claim_workflows("owner-a", ["greet"], 1)
        assert again.custom_status == '"second"'
        waits.finish_workflow("run", again.epoch, run_end(custom_status='"last"'))
        assert read(waits).custom_status == '"last"'

    def test_an_end_without_a_custom_status_leaves_it(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.record_steps("run", epoch, [], custom_status="5")
        waits.finish_workflow("run", epoch, run_end())
        assert read(waits).custom_status == "5"

    def test_a_zombie_publishes_nothing(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.release_workflow("run", epoch)
        with pytest.raises(ClaimLostError):
            waits.record_steps("run", epoch, [], custom_status="5")
        assert read(waits).custom_status is None


class BeginningAnew(WaitingContract):
    """``continue_workflow``."""

    def test_a_run_begins_anew(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.record_steps("run", epoch, [step_record(0), step_record(1)], custom_status="5")
        for n in range(4):
            waits.add_event("run", event_record(f"e{n}", name="go" if n < 3 else "other"))
        anew = WorkflowContinuation(input='{"n":2}', taken={"go": 2}, children=(_child("child"),), continued_at=at(7))
        waits.continue_workflow("run", epoch, anew)
        with self.another(waits) as other:
            record = read(other)
            assert (record.input, record.generation, record.owner, record.updated_at) == ('{"n":2}', 1, None, at(7))
            assert (record.status, record.custom_status) == (WorkflowStatus.PROCESSING, "5")
            assert other.get_steps("run") == []
            assert other.load_outcomes("run") == []
            assert [event.id for event in other.load_events("run")] == ["e2", "e3"]
            assert read(other, "child").status is WorkflowStatus.PROCESSING
        claimed = {record.id: record for record in waits.claim_workflows("owner-a", ["greet"], 9)}
        assert claimed["run"].epoch == epoch + 1
        with pytest.raises(ClaimLostError):
            waits.continue_workflow("run", epoch, anew)

    def test_a_taken_event_is_known_for_one_more_generation(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.add_event("run", event_record("same"))
        waits.continue_workflow("run", epoch, WorkflowContinuation(input="{}", taken={"go": 1}, continued_at=at(7)))
        waits.add_event("run", event_record("same"))
        assert waits.load_events("run") == []
        (record,) = waits.claim_workflows("owner-a", ["greet"], 1)
        waits.continue_workflow("run", record.epoch, WorkflowContinuation(input="{}", taken={}, continued_at=at(8)))
        waits.add_event("run", event_record("same"))
        assert [event.id for event in waits.load_events("run")] == ["same"]

    def test_a_pause_takes_effect(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.pause_workflow("run")
        waits.continue_workflow("run", epoch, WorkflowContinuation(input="{}", taken={}, continued_at=at(7)))
        assert (read(waits).status, read(waits).request) == (WorkflowStatus.PAUSED, None)


class Children(WaitingContract):
    """Child workflows, and runs that begin with a history."""

    def test_children_are_created_with_the_steps(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        children = [_child(f"run-{n}", input=f"[{n}]", deadline=at(99)) for n in range(4)]
        waits.record_steps("run", epoch, [step_record(0)], children=children[:1])
        waits.suspend_workflow("run", epoch, suspension(steps=(step_record(1),), children=tuple(children[1:3])))
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 1)
        waits.finish_workflow("run", claimed.epoch, run_end(steps=(step_record(2),), children=(children[3],)))
        with self.another(waits) as other:
            assert [read(other, child.id) for child in children] == children
            assert len(other.get_steps("run")) == 3
        assert take(waits) == ids_of(children)

    def test_a_child_whose_id_is_taken_is_passed_over(self, waits: BaseDatabaseManager) -> None:
        taken = run_record("taken", name="other", input="[1]")
        waits.create_workflow(taken)
        for n, leave in enumerate((waits.record_steps, waits.suspend_workflow, waits.finish_workflow)):
            name, new = f"parent-{n}", (_child("taken"), _child(f"child-{n}", name="child"))
            epoch = begin(waits, name)
            if leave == waits.record_steps:
                waits.record_steps(name, epoch, [], children=new)
            elif leave == waits.suspend_workflow:
                waits.suspend_workflow(name, epoch, suspension(wake_at=NEVER, children=new))
            else:
                waits.finish_workflow(name, epoch, run_end(children=new))
            assert read(waits, "taken") == taken
            assert read(waits, f"child-{n}") == new[1]

    def test_suspending_can_claim_a_child(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        wait = suspension(wake_at=NEVER, waiting_for="workflow:run-0", children=(_child("run-0"), _child("run-1")))
        (child,) = waits.suspend_and_claim("run", epoch, wait, owner="owner-a", names=["greet"])
        assert (child.id, child.parent_id, child.owner) == ("run-0", "run", "owner-a")
        assert take(waits) == ["run-1"]

    def test_a_run_can_begin_with_a_history(self, waits: BaseDatabaseManager) -> None:
        steps = [step_record(0, state='{"attempt":2}'), step_record(1, kind="timer"), failed_step(2)]
        events = [event_record("e-3", position=3, payload="3"), event_record("e-5", position=5, name="stop")]
        record = run_record("run", owner="owner-a", epoch=1)
        assert waits.create_workflow(record, steps=steps, events=events) is None
        with self.another(waits) as other:
            assert (read(other), other.get_steps("run"), other.load_events("run")) == (record, steps, events)
        for event_id in ("e-6", "e-3", "e-5"):
            waits.add_event("run", event_record(event_id))
        assert [(event.position, event.id) for event in waits.load_events("run")] == [
            (3, "e-3"), (5, "e-5"), (6, "e-6")
        ]  # fmt: skip
        waits.record_steps("run", 1, [step_record(0, "1"), step_record(2)])
        assert waits.get_steps("run") == [*steps[:2], step_record(2)]

    def test_a_taken_id_takes_no_history(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        existing = waits.create_workflow(run_record("run"), steps=[step_record(0)], events=[event_record("e")])
        assert existing == run_record("run")
        assert (waits.get_steps("run"), waits.load_events("run")) == ([], [])


class WithoutWaiting(Contract):
    """What a manager says that lacks the capability."""

    def test_a_manager_that_cannot_wait_says_so_and_stores_nothing(self, database: BaseDatabaseManager) -> None:
        assert not can_wait(database), 'a manager with the capability "waiting" has DatabaseManagerContract to pass'
        epoch = claim_run(database)
        steps, children = (step_record(0),), (_child("child"),)
        wait = suspension(steps=steps)
        attempts: dict[str, Callable[[], object]] = {
            "steps": lambda: database.create_workflow(run_record("new"), steps=steps),
            "events": lambda: database.create_workflow(run_record("new"), events=[event_record("e")]),
            "record": lambda: database.record_steps("run", epoch, steps, children=children),
            "publish": lambda: database.record_steps("run", epoch, [], custom_status="5"),
            "publish at the end": lambda: database.finish_workflow("run", epoch, run_end(custom_status="5")),
            "finish": lambda: database.finish_workflow("run", epoch, run_end(steps=steps, children=children)),
            "suspend": lambda: database.suspend_workflow("run", epoch, wait),
            "next": lambda: database.suspend_and_claim("run", epoch, wait, owner="owner-a", names=["greet"]),
            "anew": lambda: database.continue_workflow(
                "run", epoch, WorkflowContinuation(input="{}", taken={}, continued_at=at(7))
            ),
            "event": lambda: database.add_event("run", event_record("e")),
            "load": lambda: database.load_events("run"),
            "cancel": lambda: database.cancel_workflow("run"),
            "pause": lambda: database.pause_workflow("run"),
            "resume": lambda: database.resume_workflow("run"),
            "reopen": lambda: database.reopen_workflow("run", epoch, []),
            "queues": database.list_queues,
            "schedule": lambda: database.store_schedule(schedule_record()),
            "read": lambda: database.read_schedule("nightly"),
            "schedules": database.list_schedules,
            "delete": lambda: database.delete_schedule("nightly"),
        }
        before = database.page_workflows()
        for name, attempt in attempts.items():
            with pytest.raises(UnsupportedOperationError, match=type(database).__name__):
                attempt()
            assert (name, database.page_workflows(), database.get_steps("run")) == (name, before, [])
        assert database.look().wake_at is None
        assert database.pending_requests("owner-a") == {}
