"""The contract, on what wakes a run that waits: events and the ends of children, of which none may be lost."""

# ruff: noqa: S101 - this is a test suite

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import ClaimLostError, UnsupportedOperationError, WorkflowNotFoundError, WorkflowStateError
from ..models import ANY_SIGNAL, NEVER, WorkflowStatus, WorkflowSuspension
from ._contract_base import WaitingContract, assert_utc, begin, begin_and_wait, read, take
from ._samples import PAYLOADS, at, event_record, race, race_again, run_end, run_record, suspension

ENDED = [WorkflowStatus.DONE, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED]

_ROUNDS = 40
"""How often a race is run: enough for each order of its writes to come."""


def _waiting(signals: int = 0, waiting_for: str = "event:go") -> WorkflowSuspension:
    return suspension(signals=signals, wake_at=at(99), waiting_for=waiting_for)


class Events(WaitingContract):
    """``add_event`` and ``load_events``."""

    def test_events_come_back_whole_and_in_order(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        sent = [
            event_record(f"e-{n}", name=f"o'hare 漢字 {n % 2}", minutes=9 - n / 7, payload=f"[{n}]") for n in range(5)
        ]
        for event in sent:
            waits.add_event("run", event)
        with self.another(waits) as other:
            events = other.load_events("run")
        assert [event.position for event in events] == [1, 2, 3, 4, 5]
        fields = [(event.id, event.name, event.payload, event.sent_at) for event in events]
        assert fields == [(event.id, event.name, event.payload, event.sent_at) for event in sent]
        assert_utc(read(waits))

    def test_events_are_filtered(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        for n in range(1, 8):
            waits.add_event("run", event_record(f"e-{n}", name="ab"[n % 2]))

        def positions(**filters: object) -> list[int]:
            return [event.position for event in waits.load_events("run", **filters)]  # type: ignore[arg-type]

        assert positions(name="a") == [2, 4, 6]
        assert positions(name="A") == positions(name="") == []
        assert positions(after=5) == [6, 7]
        assert positions(after=7) == []
        assert positions(limit=2) == [1, 2]
        assert positions(limit=0) == []
        assert positions(name="b", after=1, limit=2) == [3, 5]

    def test_events_of_runs_do_not_mix(self, waits: BaseDatabaseManager) -> None:
        for workflow_id in ("a", "A", "a:1"):
            waits.create_workflow(run_record(workflow_id))
            waits.add_event(workflow_id, event_record("e", payload=f'"{workflow_id}"'))
        for workflow_id in ("a", "A", "a:1"):
            (event,) = waits.load_events(workflow_id)
            assert (event.position, event.payload) == (1, f'"{workflow_id}"')
        assert waits.load_events("nobody") == []

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
    def test_the_payload_of_an_event_comes_back_unchanged(self, waits: BaseDatabaseManager, payload: str) -> None:
        waits.create_workflow(run_record("run"))
        waits.add_event("run", event_record("e", payload=payload))
        with self.another(waits) as other:
            assert [event.payload for event in other.load_events("run")] == [payload]

    def test_an_event_with_the_same_id_is_the_same(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        waits.add_event("run", event_record("e", payload="1"))
        for again in (event_record("e", payload="2"), event_record("e", name="other", minutes=4)):
            waits.add_event("run", again)
        assert [(event.name, event.payload) for event in waits.load_events("run")] == [("go", "1")]
        assert read(waits).signals == 1
        waits.add_event("run", event_record("E"))
        assert [event.position for event in waits.load_events("run")] == [1, 2]
        waits.suspend_workflow("run", waits.claim_workflows("owner-a", ["greet"], 1)[0].epoch, _waiting(2))
        waits.add_event("run", event_record("e"))  # which does not wake it either
        assert take(waits) == []

    @pytest.mark.parametrize("status", ENDED)
    def test_an_event_that_a_run_has_is_no_error_when_it_has_ended(
        self, waits: BaseDatabaseManager, status: WorkflowStatus
    ) -> None:
        epoch = begin(waits)
        waits.add_event("run", event_record("e", payload="1"))
        waits.finish_workflow("run", epoch, run_end(status=status))
        before = (read(waits), waits.load_events("run"))
        waits.add_event("run", event_record("e", payload="2"))
        with pytest.raises(WorkflowStateError) as caught:
            waits.add_event("run", event_record("new"))
        assert (caught.value.workflow_id, caught.value.status) == ("run", status)
        assert (read(waits), waits.load_events("run")) == before

    def test_an_unknown_run_takes_no_event(self, waits: BaseDatabaseManager) -> None:
        with pytest.raises(WorkflowNotFoundError):
            waits.add_event("run", event_record("e"))
        assert waits.load_events("run") == []
        waits.create_workflow(run_record("run"))
        assert waits.load_events("run") == []

    def test_events_go_with_their_run(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.add_event("run", event_record("e"))
        waits.finish_workflow("run", epoch, run_end())
        try:
            waits.delete_workflow("run")
        except UnsupportedOperationError:
            return
        assert waits.load_events("run") == []
        waits.create_workflow(run_record("run"))
        assert waits.load_events("run") == []
        waits.add_event("run", event_record("e"))
        assert [event.position for event in waits.load_events("run")] == [1]

    def test_racing_senders_get_places_one_after_another(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        with self.another_with_claims(waits) as other:

            def sender(n: int) -> None:
                for turn in range(6):
                    (waits, other)[n % 2].add_event("run", event_record(f"{n}-{turn}"))
                    (waits, other)[turn % 2].add_event("run", event_record(f"same-{turn}"))

            race([partial(sender, n) for n in range(8)])
            events = other.load_events("run")
        assert [event.position for event in events] == list(range(1, 8 * 6 + 6 + 1))
        for n in (*range(8), "same"):
            assert [event.id for event in events if event.id.startswith(f"{n}-")] == [
                f"{n}-{turn}" for turn in range(6)
            ]
        assert read(waits).signals == len(events)


class Signals(WaitingContract):
    """What a signal does to a run that waits for it, for another one, or not at all."""

    def test_the_event_that_a_run_waits_for_makes_it_ready(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=at(99), waiting_for="event:o'hare 漢字")
        with self.another_with_claims(waits) as other:
            other.add_event("run", event_record("e", name="o'hare 漢字"))
        record = read(waits)
        assert (record.status, record.wake_at, record.waiting_for) == (WorkflowStatus.PROCESSING, None, None)
        assert record.signals == 1
        assert waits.look().ready == {"greet"}
        assert waits.look().wake_at is None
        assert take(waits) == ["run"]

    @pytest.mark.parametrize("name", ["Go", "go ", "gö", "g%", "g_", "event:go", "workflow:go"])
    def test_another_event_does_not_wake_it(self, waits: BaseDatabaseManager, name: str) -> None:
        begin_and_wait(waits, wake_at=at(99), waiting_for="event:go")
        waits.add_event("run", event_record("e", name=name))
        record = read(waits)
        assert (record.signals, record.wake_at, record.waiting_for) == (1, at(99), "event:go")
        assert take(waits, now=at(98)) == []
        assert take(waits, now=at(99)) == ["run"]

    def test_any_signal_wakes_what_waits_for_several(self, waits: BaseDatabaseManager) -> None:
        epoch = begin_and_wait(waits, wake_at=at(99), waiting_for=ANY_SIGNAL)
        child = begin(waits, "child", parent_id="run")
        with self.another_with_claims(waits) as other:
            other.add_event("run", event_record("e", name="o'hare 漢字"))
            assert (read(waits).wake_at, read(waits).waiting_for, read(waits).signals) == (None, None, 1)
            assert take(waits) == ["run"]
            waits.suspend_workflow("run", epoch + 1, _waiting(1, ANY_SIGNAL))
            assert take(waits) == []
            other.finish_workflow("child", child, run_end())
        assert (read(waits).wake_at, read(waits).waiting_for, read(waits).signals) == (None, None, 2)
        assert take(waits) == ["run"]
        waits.suspend_workflow("run", epoch + 2, _waiting(1, ANY_SIGNAL))  # one came that it had not seen
        assert take(waits) == ["run"]

    def test_an_event_does_not_wake_what_waits_for_none(self, waits: BaseDatabaseManager) -> None:
        begin_and_wait(waits, wake_at=at(99))
        waits.add_event("run", event_record("e"))
        assert (read(waits).signals, take(waits, now=at(98))) == (1, [])

    @pytest.mark.parametrize("name", ["go", "other"])
    def test_a_signal_that_came_before_the_wait_makes_it_ready(self, waits: BaseDatabaseManager, name: str) -> None:
        epoch = begin(waits)
        waits.add_event("run", event_record("e", name=name))
        waits.suspend_workflow("run", epoch, _waiting(signals=0))
        record = read(waits)
        assert (record.signals, record.wake_at, record.waiting_for) == (1, None, None)
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        assert claimed.signals == 1
        waits.suspend_workflow("run", claimed.epoch, _waiting(signals=1))  # having seen that it is not for it
        assert (read(waits).wake_at, read(waits).waiting_for) == (at(99), "event:go")
        assert take(waits) == []

    def test_a_signal_for_a_run_that_is_claimed_in_one_go_is_seen(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        waits.add_event("run", event_record("e"))
        (again,) = waits.suspend_and_claim("run", epoch, _waiting(signals=0), owner="owner-a", names=["greet"])
        assert (again.id, again.signals) == ("run", 1)
        assert waits.suspend_and_claim("run", again.epoch, _waiting(1), owner="owner-a", names=["greet"]) == []

    def test_events_may_come_before_a_run_begins(self, waits: BaseDatabaseManager) -> None:
        waits.create_workflow(run_record("run"))
        waits.add_event("run", event_record("e"))
        (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
        assert claimed.signals == 1

    def test_no_event_falls_between_looking_and_waiting(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS):
                name = f"run-{n}"
                epoch = begin(waits, name)
                suspend = partial(waits.suspend_workflow, name, epoch, _waiting())
                race_again([suspend, partial(other.add_event, name, event_record("e"))], n)
                assert (read(waits, name).signals, take(waits)) == (1, [name])

    def test_of_racing_events_each_counts(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS // 2):
                name = f"run-{n}"
                epoch = begin(waits, name)
                every: list[Callable[[], None]] = [
                    partial((waits, other)[m % 2].add_event, name, event_record(f"{m // 2}", name="ab"[m // 2]))
                    for m in range(4)
                ]
                every.append(partial(waits.suspend_workflow, name, epoch, _waiting(waiting_for="event:a")))
                race_again(every, n)
                assert (read(waits, name).signals, take(waits)) == (2, [name])

    # --- the ends of children ---------------------------------------------------------------------------------------

    def _parent_and_child(self, waits: BaseDatabaseManager, n: int = 0) -> tuple[int, int]:
        """Let ``owner-a`` hold a parent and its child; return their epochs."""
        parent = begin(waits, f"run-{n}")
        return parent, begin(waits, f"child-{n}", parent_id=f"run-{n}")

    @pytest.mark.parametrize("status", ENDED)
    def test_the_end_of_a_child_wakes_its_parent(self, waits: BaseDatabaseManager, status: WorkflowStatus) -> None:
        parent, child = self._parent_and_child(waits)
        waits.suspend_workflow("run-0", parent, _waiting(waiting_for="workflow:child-0"))
        with self.another_with_claims(waits) as other:
            other.finish_workflow("child-0", child, run_end(None, status=status))
        record = read(waits, "run-0")
        assert (record.signals, record.wake_at, record.waiting_for) == (1, None, None)
        assert take(waits) == ["run-0"]

    def test_the_end_of_another_child_does_not(self, waits: BaseDatabaseManager) -> None:
        parent, child = self._parent_and_child(waits)
        waits.suspend_workflow("run-0", parent, _waiting(waiting_for="workflow:child-1"))
        waits.finish_workflow("child-0", child, run_end())
        assert (read(waits, "run-0").signals, read(waits, "run-0").wake_at) == (1, at(99))
        assert take(waits) == []

    def test_the_end_of_a_child_before_the_wait_is_seen(self, waits: BaseDatabaseManager) -> None:
        parent, child = self._parent_and_child(waits)
        waits.finish_workflow("child-0", child, run_end())
        assert read(waits, "run-0").signals == 1
        waits.suspend_workflow("run-0", parent, _waiting(waiting_for="workflow:child-0"))
        assert take(waits) == ["run-0"]

    def test_finishing_a_child_can_claim_its_parent(self, waits: BaseDatabaseManager) -> None:
        parent, child = self._parent_and_child(waits)
        waits.suspend_workflow("run-0", parent, suspension(wake_at=NEVER, waiting_for="workflow:child-0"))
        (claimed,) = waits.finish_and_claim("child-0", child, run_end(), owner="owner-a", names=["greet"])
        assert (claimed.id, claimed.signals) == ("run-0", 1)

    def test_a_child_may_outlive_its_parent(self, waits: BaseDatabaseManager) -> None:
        parent, child = self._parent_and_child(waits)
        waits.finish_workflow("run-0", parent, run_end())
        before = read(waits, "run-0")
        waits.finish_workflow("child-0", child, run_end())
        assert read(waits, "run-0") == before
        orphan = begin(waits, "orphan", parent_id="nobody")
        waits.finish_workflow("orphan", orphan, run_end())
        assert read(waits, "orphan").status is WorkflowStatus.DONE

    def test_a_child_that_is_lost_tells_nothing(self, waits: BaseDatabaseManager) -> None:
        parent, child = self._parent_and_child(waits)
        waits.suspend_workflow("run-0", parent, _waiting(waiting_for="workflow:child-0"))
        waits.release_workflow("child-0", child)
        with pytest.raises(ClaimLostError):
            waits.finish_workflow("child-0", child, run_end())
        assert (read(waits, "run-0").signals, take(waits)) == (0, ["child-0"])

    def test_no_end_of_a_child_falls_between_looking_and_waiting(self, waits: BaseDatabaseManager) -> None:
        with self.another_with_claims(waits) as other:
            for n in range(_ROUNDS):
                parent, child = self._parent_and_child(waits, n)
                wait = _waiting(waiting_for=f"workflow:child-{n}")
                suspend = partial(waits.suspend_workflow, f"run-{n}", parent, wait)
                race_again([suspend, partial(other.finish_workflow, f"child-{n}", child, run_end())], n)
                assert (read(waits, f"run-{n}").signals, take(waits)) == (1, [f"run-{n}"])
