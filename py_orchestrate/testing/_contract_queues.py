"""The contract: queues with their limits, priorities, delays and deduplication keys."""

# ruff: noqa: PLR2004, S101 - this is a test suite

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..models import NEVER, WorkflowRecord, WorkflowStatus
from ..queues import Queue
from ._contract_base import Contract, ids_of, read, register
from ._samples import at, instance, race, run_end, run_record, suspension

_MAIL = Queue("mail")
_SECOND = timedelta(seconds=1)


class QueueContract(Contract):
    """For the parts that only managers with ``"queues"`` must pass."""

    @pytest.fixture
    def queued(self, database: BaseDatabaseManager) -> BaseDatabaseManager:
        """Return the manager, with ``owner-a`` registered, who consumes the queue ``mail``."""
        assert "queues" in database.capabilities, 'the contract asks for the capability "queues"'
        database.register_owner("owner-a", queues=["mail"])
        return database


def add(database: BaseDatabaseManager, *ids: str, queue: str | None = "mail", **fields: Any) -> None:
    for workflow_id in ids:
        assert database.create_workflow(run_record(workflow_id, queue=queue, **fields)) is None


def claim(
    database: BaseDatabaseManager,
    limit: int = 9,
    *queues: Queue,
    owner: str = "owner-a",
    now: datetime | None = None,
    names: tuple[str, ...] = ("greet",),
) -> list[WorkflowRecord]:
    moment = at(0) if now is None else now
    return database.claim_workflows(owner, names, limit, now=moment, queues=queues or (_MAIL,))


def finish(database: BaseDatabaseManager, *records: WorkflowRecord) -> None:
    for record in records:
        database.finish_workflow(record.id, record.epoch, run_end())


class Queueing(QueueContract):
    """Which runs are claimed, in which order."""

    def test_what_a_run_is_given_is_stored(self, queued: BaseDatabaseManager) -> None:
        record = run_record("run", queue="mail", priority=-7, deduplication_key="漢字", scheduled_at=at(3))
        assert queued.create_workflow(record) is None
        with self.another(queued) as other:
            assert read(other) == record
            assert other.page_workflows(queue="mail") == [record]
            assert other.page_workflows(queue="print") == []

    def test_only_who_consumes_a_queue_gets_its_runs(self, queued: BaseDatabaseManager) -> None:
        add(queued, "mail")
        add(queued, "print", queue="print")
        add(queued, "none", queue=None)
        assert queued.look("owner-a", now=at(0)).ready == {"greet"}
        assert ids_of(queued.claim_workflows("owner-a", ["greet"], 9, now=at(0))) == ["none"]
        assert queued.look("owner-a", now=at(0)).ready == set()
        assert queued.look("owner-a", now=at(0), queues=[_MAIL]).ready == {"greet"}
        assert ids_of(claim(queued)) == ["mail"]
        assert claim(queued) == []
        assert ids_of(claim(queued, 9, Queue("print"))) == ["print"]

    def test_the_lowest_priority_goes_first_and_then_who_came_first(self, queued: BaseDatabaseManager) -> None:
        for n, priority in enumerate([5, 0, -1, 0, 5, -1]):
            add(queued, f"run-{n}", priority=priority, name="ab"[n % 2])
        expected = ["run-2", "run-5", "run-1", "run-3", "run-0", "run-4"]
        assert ids_of(claim(queued, 2, names=("a", "b"))) == expected[:2]
        assert [claim(queued, 1, names=("a", "b"))[0].id for _ in range(4)] == expected[2:]

    def test_priorities_count_without_a_queue_too(self, queued: BaseDatabaseManager) -> None:
        for n, priority in enumerate([1, 0, 2]):
            add(queued, f"run-{n}", queue=None, priority=priority)
        assert ids_of(claim(queued)) == ["run-1", "run-0", "run-2"]

    def test_what_has_begun_goes_before_what_has_not(self, queued: BaseDatabaseManager) -> None:
        add(queued, "begun", priority=5)
        (record,) = claim(queued)
        add(queued, "new", priority=0)
        queued.suspend_workflow(record.id, record.epoch, suspension(minutes=0))
        assert ids_of(claim(queued)) == ["begun", "new"]

    def test_a_delay_is_waited_for(self, queued: BaseDatabaseManager) -> None:
        add(queued, "late", wake_at=at(5))
        assert claim(queued, now=at(4)) == []
        assert queued.look("owner-a", now=at(4), queues=[_MAIL]).wake_at == at(5)
        assert ids_of(claim(queued, now=at(5))) == ["late"]

    def test_no_priority_is_overtaken_for_ever(self, queued: BaseDatabaseManager) -> None:
        add(queued, "low", priority=9)
        moment = at(10)
        for n in range(1000):  # that it is never its turn has a probability of (7/8)**1000
            add(queued, f"high-{n}", minutes=10)
            (record,) = claim(queued, 1, now=moment)
            finish(queued, record)
            if record.id == "low":
                return
        raise AssertionError("the run with the low priority never had its turn")

    def test_who_has_just_come_overtakes_nobody(self, queued: BaseDatabaseManager) -> None:
        add(queued, "low", priority=9, minutes=10)
        for n in range(100):
            add(queued, f"high-{n}", minutes=10)
            (record,) = claim(queued, 1, now=at(10.5))
            assert record.id == f"high-{n}"
            finish(queued, record)

    def test_a_long_queue_holds_up_no_other(self, queued: BaseDatabaseManager) -> None:
        add(queued, *[f"bulk-{n}" for n in range(300)], queue="print")
        add(queued, "mail-0")
        add(queued, "none-0", queue=None)
        waiting = {"mail-0", "none-0"}
        for _ in range(300):  # that one of them is not drawn has a probability below 2 * (2/3)**299
            (record,) = claim(queued, 1, _MAIL, Queue("print"))
            waiting.discard(record.id)
            if not waiting:
                return
        raise AssertionError(f"{waiting} waited for the whole of another queue")

    def test_two_at_once_get_every_run_once(self, queued: BaseDatabaseManager) -> None:
        register(queued, "owner-b")
        add(queued, *[f"run-{n}" for n in range(60)])
        with self.another(queued) as other:

            def all_of(database: BaseDatabaseManager, owner: str) -> list[str]:
                found: list[str] = []
                while claimed := claim(database, 2, owner=owner):
                    found += ids_of(claimed)
                return found

            claims = race([lambda: all_of(queued, "owner-a"), lambda: all_of(other, "owner-b")])
        assert sorted(claims[0] + claims[1]) == sorted(f"run-{n}" for n in range(60))

    def test_one_that_is_to_be_cancelled_waits_for_no_place(self, queued: BaseDatabaseManager) -> None:
        one = Queue("mail", concurrency=1, rate=(1, 60))
        add(queued, "a", "b", "c")
        add(queued, "d", queue="nobody's")
        assert ids_of(claim(queued, 9, one)) == ["a"]
        for workflow_id in ("c", "d"):
            queued.cancel_workflow(workflow_id)
        assert queued.look("owner-a", now=at(0), queues=[one]).ready == {"greet"}
        assert sorted(ids_of(claim(queued, 9, one))) == ["c", "d"]
        assert read(queued, "c").queue == "mail"
        assert queued.look("owner-a", now=at(0), queues=[one]).ready == set()

    def test_a_run_that_is_out_of_its_time_waits_for_no_place_in_its_queue(self, queued: BaseDatabaseManager) -> None:
        one = Queue("mail", concurrency=1, rate=(1, 60))
        add(queued, "a")
        add(queued, "b", "c", deadline=at(5))
        add(queued, "d", queue="nobody's", deadline=at(5))
        assert ids_of(claim(queued, 9, one)) == ["a"]
        assert queued.look("owner-a", now=at(5), queues=[one]).ready == {"greet"}
        assert sorted(ids_of(claim(queued, 9, one))) == ["b", "c", "d"]
        assert read(queued, "c").queue == "mail"

    def test_how_the_queues_stand(self, queued: BaseDatabaseManager) -> None:
        queued.register_owner("owner-b", queues=["mail", "print"])
        add(queued, "m-0", "m-1", "m-2")
        add(queued, "o-0", queue="other")
        add(queued, "none", queue=None)
        add(queued, "waits", queue="asleep", wake_at=NEVER)
        (record,) = claim(queued, 1, _MAIL, names=("greet",))
        while record.queue is None:
            (record,) = claim(queued, 1, _MAIL)
        with self.another(queued) as other:
            assert other.list_queues() == [("mail", 2, 1, 2), ("other", 1, 0, 0), ("print", 0, 0, 1)]
            assert other.look().unconsumed == {"other"}
        queued.release_owner("owner-b")
        queued.release_owner("owner-a")
        assert queued.list_queues() == [("mail", 3, 0, 0), ("other", 1, 0, 0)]
        assert queued.look().unconsumed == {"mail", "other"}


class Limits(QueueContract):
    """How many runs of a queue may run, and how many may begin."""

    def test_so_many_run_at_the_same_time_in_all(self, queued: BaseDatabaseManager) -> None:
        register(queued, "owner-b")
        add(queued, *"abcde")
        three = Queue("mail", concurrency=3)
        first = claim(queued, 2, three)
        with self.another(queued) as other:
            second = claim(other, 9, three, owner="owner-b")
            assert (len(first), len(second)) == (2, 1)
            assert other.look("owner-b", now=at(0), queues=[three]).ready == set()
            assert claim(queued, 9, three) == []
        finish(queued, first[0])
        assert queued.look("owner-a", now=at(0), queues=[three]).ready == {"greet"}
        assert len(claim(queued, 9, three)) == 1
        queued.suspend_workflow(first[1].id, first[1].epoch, suspension(wake_at=NEVER))  # who waits takes no place
        assert len(claim(queued, 9, three)) == 1

    def test_so_many_run_at_the_same_time_in_each(self, queued: BaseDatabaseManager) -> None:
        register(queued, "owner-b")
        add(queued, *"abcdef")
        two = Queue("mail", per_process=2)
        assert len(claim(queued, 9, two)) == 2
        assert queued.look("owner-a", now=at(0), queues=[two]).ready == set()
        assert queued.look("owner-b", now=at(0), queues=[two]).ready == {"greet"}
        assert len(claim(queued, 9, two, owner="owner-b")) == 2
        assert claim(queued, 9, two) == []

    def test_of_many_that_claim_at_once_no_more_than_that_get_one(self, queued: BaseDatabaseManager) -> None:
        add(queued, *[f"run-{n}" for n in range(20)])
        owners = [register(queued, f"racer-{n}") for n in range(4)]
        three = Queue("mail", concurrency=3)
        with self.another(queued) as other:
            claims = race([
                lambda owner=owner, n=n: claim((queued, other)[n % 2], 2, three, owner=owner)  # type: ignore[misc]
                for n, owner in enumerate(owners)
            ])  # fmt: skip
        assert sum(map(len, claims)) == 3

    def test_who_ends_a_run_may_take_its_place(self, queued: BaseDatabaseManager) -> None:
        one = Queue("mail", concurrency=1)
        add(queued, "a", "b", "c")
        (record,) = claim(queued, 9, one)
        (record,) = queued.finish_and_claim(
            "a", record.epoch, run_end(minutes=0), owner="owner-a", names=["greet"], queues=[one]
        )
        assert record.id == "b"
        (record,) = queued.suspend_and_claim(
            "b", record.epoch, suspension(minutes=0, wake_at=NEVER), owner="owner-a", names=["greet"], queues=[one]
        )
        assert record.id == "c"

    def test_the_places_of_who_has_died_are_free_again(self, queued: BaseDatabaseManager) -> None:
        two = Queue("mail", concurrency=2)
        add(queued, *"abc")
        assert len(claim(queued, 9, two)) == 2
        register(queued, "owner-b")
        queued.release_owner("owner-a")
        assert ids_of(claim(queued, 9, two, owner="owner-b")) == ["a", "b"]

    def test_so_many_begin_in_a_time(self, queued: BaseDatabaseManager) -> None:
        rated = Queue("mail", rate=(3, timedelta(minutes=1)))
        register(queued, "owner-b")
        add(queued, *"abcdefgh")
        finish(queued, *claim(queued, 2, rated, now=at(0)))
        with self.another(queued) as other:
            finish(queued, *claim(other, 9, rated, owner="owner-b", now=at(0.5)))
            outlook = other.look("owner-b", now=at(0.5), queues=[rated])
        assert outlook.ready == set()
        assert outlook.wake_at == at(1)
        assert claim(queued, 9, rated, now=at(1) - _SECOND) == []
        assert queued.look("owner-a", now=at(1), queues=[rated]).ready == {"greet"}
        begun = claim(queued, 9, rated, now=at(1))
        assert ids_of(begun) == ["d", "e"]
        assert claim(queued, 9, rated, now=at(1.4)) == []
        assert ids_of(claim(queued, 9, rated, now=at(1.5))) == ["f"]
        assert queued.look("owner-a", now=at(1.5), queues=[rated]).wake_at == at(2)

    def test_a_large_limit_begins_no_more_than_the_rate(self, queued: BaseDatabaseManager) -> None:
        rated = Queue("mail", rate=(2, 60))
        add(queued, *"abcdef")
        found = [len(claim(queued, 50, rated, now=at(minutes))) for minutes in (0, 0, 1, 1.5, 2.5)]
        assert found == [2, 0, 2, 0, 2]

    def test_what_goes_on_does_not_begin(self, queued: BaseDatabaseManager) -> None:
        rated = Queue("mail", rate=(1, timedelta(hours=1)))
        add(queued, "a", "b")
        (record,) = claim(queued, 9, rated)
        for _ in range(3):
            queued.suspend_workflow("a", record.epoch, suspension(minutes=0))
            assert queued.look("owner-a", now=at(0), queues=[rated]).ready == {"greet"}
            (record,) = claim(queued, 9, rated)
            assert record.id == "a"
        queued.release_owner("owner-a")
        register(queued, "owner-b")
        assert ids_of(claim(queued, 9, rated, owner="owner-b", now=at(59))) == ["a"]

    def test_a_clock_that_is_set_back_closes_a_queue_for_no_longer_than_its_period(
        self, queued: BaseDatabaseManager
    ) -> None:
        rated = Queue("mail", rate=(1, timedelta(minutes=1)))
        add(queued, "a", "b", "c")
        claim(queued, 9, rated, now=at(60 * 24 * 365))
        assert claim(queued, 9, rated, now=at(0)) == []
        assert ids_of(claim(queued, 9, rated, now=at(1))) == ["b"]
        assert claim(queued, 9, rated, now=at(1.5)) == []

    def test_another_rate_counts_from_now_on(self, queued: BaseDatabaseManager) -> None:
        add(queued, *"abcdefgh")
        assert len(claim(queued, 9, Queue("mail", rate=(4, 60)))) == 4
        assert claim(queued, 9, Queue("mail", rate=(2, 60)), now=at(0.5)) == []
        assert len(claim(queued, 9, Queue("mail", rate=(2, 60)), now=at(1))) == 2
        # What a lower rate has let begin is all that is known by then.
        assert len(claim(queued, 9, Queue("mail", rate=(3, 60)), now=at(1.5))) == 1


class Deduplicating(QueueContract):
    """``deduplication_key``."""

    def test_while_one_has_not_ended_there_is_no_other(self, queued: BaseDatabaseManager) -> None:
        first = run_record("first", queue="mail", deduplication_key="key")
        second = run_record("second", queue="mail", deduplication_key="key")
        assert queued.create_workflow(first) is None
        with self.another(queued) as other:
            assert other.create_workflow(second) == first
            assert other.read_workflow("second") is None
        queued.pause_workflow("first")
        assert queued.create_workflow(second) is not None
        queued.resume_workflow("first")
        add(queued, "elsewhere", queue="print", deduplication_key="key")
        add(queued, "nowhere", queue=None, deduplication_key="key")
        add(queued, "other", deduplication_key="other key")
        finish(queued, *[record for record in claim(queued) if record.id == "first"])
        assert queued.create_workflow(second) is None
        assert read(queued, "first").deduplication_key == "key"

    def test_of_several_at_once_one_is_stored(self, queued: BaseDatabaseManager) -> None:
        with self.another(queued) as other:
            for turn in range(5):
                records = [
                    run_record(f"run-{turn}-{n}", queue="mail", deduplication_key=f"key-{turn}") for n in range(4)
                ]
                found = race([
                    lambda record=record, n=n: (queued, other)[n % 2].create_workflow(record)  # type: ignore[misc]
                    for n, record in enumerate(records)
                ])  # fmt: skip
                stored = [record for record, existing in zip(records, found, strict=True) if existing is None]
                assert len(stored) == 1
                assert all(existing in (None, stored[0]) for existing in found)

    def test_a_run_that_is_saved_as_unended_again_has_its_key_no_longer(self, queued: BaseDatabaseManager) -> None:
        add(queued, "first", deduplication_key="key")
        finish(queued, *claim(queued))
        add(queued, "second", deduplication_key="key")
        queued.save_workflow(instance("first", status=WorkflowStatus.PROCESSING))
        assert (read(queued, "first").deduplication_key, read(queued, "second").deduplication_key) == (None, "key")

    def test_a_failed_run_that_is_rewound_has_its_key_no_longer(self, queued: BaseDatabaseManager) -> None:
        add(queued, "first", deduplication_key="key")
        (record,) = claim(queued)
        queued.finish_workflow("first", record.epoch, run_end(None, status=WorkflowStatus.FAILED))
        add(queued, "second", deduplication_key="key")
        queued.reopen_workflow("first", record.epoch, [])
        assert (read(queued, "first").deduplication_key, read(queued, "second").deduplication_key) == (None, "key")
