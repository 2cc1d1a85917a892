"""The contract, on what wakes a run that waits: events and the ends of children, of which none may be lost."""

# ruff: noqa: PLR2004, S101 - this is a test suite

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import ClaimLostError, WorkflowNotFoundError, WorkflowStateError
from ..models import NEVER, WorkflowStatus
from ._contract_base import WaitingContract, assert_utc, begin, begin_and_wait, read, register, take
from ._samples import PAYLOADS, at, event_record, race, run_end, run_record, suspension

ENDED = [WorkflowStatus.DONE, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED]

_ROUNDS = 40
"""How often a race is run: enough for each order of its writes to come."""


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
        assert waits.delete_workflow("run")
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


def _waiting(signals: int = 0, waiting_for: str = "event:go") -> object:
    return suspension(signals=signals, wake_at=at(99), waiting_for=waiting_for)
