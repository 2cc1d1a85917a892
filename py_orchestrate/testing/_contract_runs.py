"""The contract, on who holds a run: creating, claiming, letting go, and the fence around lost claims."""

# ruff: noqa: PLR2004, S101 - this is a test suite

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import ClaimLostError
from ..models import WorkflowContinuation, WorkflowRecord, WorkflowStatus
from ._contract_base import Contract, WaitingContract, assert_utc, begin, claim_new, claim_run, ids_of, read, register
from ._samples import (
    at,
    instance,
    race,
    run_end,
    run_record,
    step_record,
    suspension,
)


class Creating(Contract):
    """``create_workflow`` and ``read_workflow``."""

    def test_a_created_run_is_stored_as_it_is(self, database: BaseDatabaseManager) -> None:
        record = run_record("run", name="o'hare 100%_漢字 😀", input='{"who":"漢字"}')
        assert database.create_workflow(record) is None
        assert read(database) == record

    def test_an_unknown_run_is_none(self, database: BaseDatabaseManager) -> None:
        assert database.read_workflow("nobody") is None
        assert database.get_steps("nobody") == []
        assert database.load_outcomes("nobody") == []

    def test_a_created_run_is_durable(self, database: BaseDatabaseManager) -> None:
        database.create_workflow(run_record("run"))
        with self.another(database) as other:
            assert read(other) == run_record("run")

    def test_a_taken_id_returns_the_run_that_has_it(self, database: BaseDatabaseManager) -> None:
        first = run_record("run", input='{"n":1}')
        database.create_workflow(first)
        assert database.create_workflow(run_record("run", name="other", input='{"n":2}')) == first
        assert read(database) == first

    def test_ids_that_look_alike_are_different(self, database: BaseDatabaseManager) -> None:
        ids = ["run", "Run", "run:0", "run%", "run_", "ŕun", "r\u0301un"]
        assert [database.create_workflow(run_record(workflow_id, minutes=n)) for n, workflow_id in enumerate(ids)] == (
            [None] * len(ids)
        )
        assert [read(database, workflow_id).id for workflow_id in ids] == ids

    def test_of_eight_racing_creators_one_wins(self, database: BaseDatabaseManager) -> None:
        with self.another_with_claims(database) as other:
            records = [run_record("run", input=f'{{"n":{n}}}') for n in range(8)]
            managers = [database, other] * 4

            def creator(n: int) -> WorkflowRecord | None:
                return managers[n].create_workflow(records[n])

            results = race([partial(creator, n) for n in range(8)])
            winners = [n for n, result in enumerate(results) if result is None]
            assert len(winners) == 1
            assert all(result == records[winners[0]] for result in results if result is not None)
            assert read(database) == records[winners[0]]

    def test_a_run_can_be_born_claimed(self, database: BaseDatabaseManager) -> None:
        mine, other = register(database), register(database, "owner-b")
        record = run_record("run", owner=mine, epoch=1)
        assert database.create_workflow(record) is None
        assert read(database) == record
        assert database.look().ready == set()
        assert database.claim_workflows(other, ["greet"], 9) == []
        database.record_steps("run", 1, [step_record(0)])
        database.release_owner(mine)
        (claimed,) = database.claim_workflows(other, ["greet"], 9)
        assert claimed.epoch > 1

    def test_a_run_that_is_born_claimed_by_nobody_known_is_not_stuck(self, database: BaseDatabaseManager) -> None:
        database.create_workflow(run_record("run", owner=register(database), epoch=1))
        database.release_owner("owner-a")
        database.create_workflow(run_record("late", owner="owner-a", epoch=1, minutes=1))
        assert ids_of(database.claim_workflows(register(database, "owner-b"), ["greet"], 9)) == ["run", "late"]

    @pytest.mark.parametrize("microsecond", [0, 1, 999_999])
    @pytest.mark.parametrize("fold", [0, 1])
    def test_times_come_back_exactly(self, database: BaseDatabaseManager, microsecond: int, fold: int) -> None:
        moment = at(0).replace(microsecond=microsecond, fold=fold)
        epoch = claim_new(database, run_record("run", created_at=moment, updated_at=moment))
        assert (read(database).created_at, read(database).updated_at) == (moment, moment)
        step = step_record(0, started_at=moment, completed_at=moment)
        database.finish_workflow("run", epoch, run_end(finished_at=moment, steps=(step,)))
        assert database.get_steps("run") == [step]
        assert read(database).updated_at == moment
        assert_utc(read(database), *database.get_steps("run"), *database.page_workflows())


def _fill(database: BaseDatabaseManager, *names: str) -> None:
    for n, name in enumerate(names):
        database.create_workflow(run_record(f"{name}-{n}", name=name, minutes=n))


class Claiming(Contract):
    """``claim_workflows``, ``look``, the ways to let go, and ``finish_and_claim``."""

    def test_the_oldest_come_first(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "b", "a", "b", "a")
        mine = register(database)
        assert ids_of(database.claim_workflows(mine, ["b", "a"], 3)) == ["a-0", "b-1", "a-2"]
        assert ids_of(database.claim_workflows(mine, {"a", "b"}, 3)) == ["b-3", "a-4"]
        assert database.claim_workflows(mine, ("a", "b"), 3) == []

    def test_a_freed_run_returns_to_its_place(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "a", "a")
        mine = register(database)
        first, _ = database.claim_workflows(mine, ["a"], 2)
        database.release_workflow(first.id, first.epoch)
        assert ids_of(database.claim_workflows(mine, ["a"], 9)) == ["a-0", "a-2"]

    def test_only_known_names_are_claimed(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "b", "c", "b")
        mine = register(database)
        assert database.look().ready == {"a", "b", "c"}
        assert ids_of(database.claim_workflows(mine, ["c", "a", "never stored"], 9)) == ["a-0", "c-2"]
        assert database.look().ready == {"b"}
        assert database.claim_workflows(mine, [], 9) == []
        assert ids_of(database.claim_workflows(mine, ["b"], 9)) == ["b-1", "b-3"]
        assert database.look().ready == set()

    def test_no_more_than_the_limit_is_claimed(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "a")
        assert database.claim_workflows(register(database), ["a"], 0) == []
        assert len(database.claim_workflows("owner-a", ["a"], 1)) == 1
        assert len(database.claim_workflows("owner-a", ["a"], 1)) == 1
        assert database.claim_workflows("owner-a", ["a"], 1) == []

    def test_a_claim_may_say_what_time_it_is(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "a")
        mine = register(database)
        assert ids_of(database.claim_workflows(mine, ["a"], 1, now=at(-99))) == ["a-0"]
        assert ids_of(database.claim_workflows(mine, ["a"], 1, now=at(99))) == ["a-1"]

    def test_a_claim_is_stored_with_a_new_epoch(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a")
        mine, epochs = register(database), [read(database, "a-0").epoch]
        for _ in range(3):
            (claimed,) = database.claim_workflows(mine, ["a"], 1)
            assert claimed.owner == mine
            with self.another_with_claims(database) as other:
                assert read(other, "a-0") == claimed
                assert other.claim_workflows(mine, ["a"], 1) == []
            epochs.append(claimed.epoch)
            database.release_workflow("a-0", claimed.epoch)
            assert read(database, "a-0").owner is None
        assert epochs == sorted(set(epochs))

    @pytest.mark.parametrize("status", [status for status in WorkflowStatus if status != "processing"])
    def test_only_runs_that_are_processing_are_claimed(
        self, database: BaseDatabaseManager, status: WorkflowStatus
    ) -> None:
        database.create_workflow(run_record("run", status=status, output="1" if status == "done" else None))
        assert database.claim_workflows(register(database), ["greet"], 1) == []
        assert database.look().ready == set()

    def test_of_racing_claimers_one_gets_each_run(self, database: BaseDatabaseManager) -> None:
        _fill(database, *["a"] * 50)
        with self.another_with_claims(database) as other:

            def claimer(n: int) -> list[str]:
                manager, owner, mine = (database, other)[n % 2], f"owner-{n}", list[str]()
                manager.register_owner(owner)
                while found := manager.claim_workflows(owner, ["a"], 1 + n % 3):
                    mine.extend(ids_of(found))
                return mine

            claims = race([partial(claimer, n) for n in range(8)])
            rest = claimer(8)  # a claimer may have left while another's claim was under way
            assert Counter([*chain.from_iterable(claims), *rest]) == Counter(f"a-{n}" for n in range(50))
            for n, mine in enumerate(claims):
                assert {read(database, workflow_id).owner for workflow_id in mine} <= {f"owner-{n}"}

    def test_releasing_an_owner_frees_its_runs(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "a", "a")
        mine, other = register(database), register(database, "owner-b")
        claimed = database.claim_workflows(mine, ["a"], 2)
        database.claim_workflows(other, ["a"], 1)
        database.release_owner(mine)
        assert [read(database, record.id).owner for record in claimed] == [None, None]
        again = database.claim_workflows(other, ["a"], 9)
        assert ids_of(again) == ["a-0", "a-1"]
        assert all(new.epoch > old.epoch for new, old in zip(again, claimed, strict=True))

    def test_releasing_an_unknown_owner_is_fine(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.release_owner("never registered")
        database.record_steps("run", epoch, [step_record(0)])

    def test_a_claim_after_release_is_not_stuck(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a")
        mine, other = register(database), register(database, "owner-b")
        database.release_owner(mine)
        database.claim_workflows(mine, ["a"], 1)
        assert ids_of(database.claim_workflows(other, ["a"], 1)) == ["a-0"]

    def test_a_stale_release_does_nothing(self, database: BaseDatabaseManager) -> None:
        stale = claim_run(database)
        database.release_workflow("run", stale)
        (current,) = database.claim_workflows(register(database, "owner-b"), ["greet"], 1)
        database.release_workflow("run", stale)
        database.release_workflow("run", current.epoch + 1)
        database.release_workflow("never stored", stale)
        assert read(database) == current
        database.record_steps("run", current.epoch, [step_record(0)])

    def test_finishing_can_claim_the_next_run(self, database: BaseDatabaseManager) -> None:
        _fill(database, "a", "b", "a", "a")
        mine = register(database)
        (first,) = database.claim_workflows(mine, ["a"], 1)
        end = run_end(steps=(step_record(0),))
        (second,) = database.finish_and_claim("a-0", first.epoch, end, owner=mine, names=["a"])
        assert (second.id, second.owner, read(database, "a-2")) == ("a-2", mine, second)
        assert (read(database, "a-0").status, read(database, "a-0").owner) == (WorkflowStatus.DONE, None)
        assert database.get_steps("a-0") == [step_record(0)]
        assert ids_of(database.claim_workflows(mine, ["a"], 9)) == ["a-3"]
        assert database.finish_and_claim("a-2", second.epoch, run_end(), owner=mine, names=["a"]) == []
        assert read(database, "a-2").status is WorkflowStatus.DONE

    def test_runs_that_live_in_threads_of_their_own_do_not_mix(self, database: BaseDatabaseManager) -> None:
        _fill(database, *["a"] * 24)

        def worker(n: int) -> None:
            owner = f"owner-{n}"
            database.register_owner(owner)
            claimed = database.claim_workflows(owner, ["a"], 1)
            while claimed:
                (run,) = claimed
                for sequence in range(3):
                    database.record_steps(run.id, run.epoch, [step_record(sequence, f'"{run.id}"')])
                end = run_end(f'"{run.id}"')
                claimed = database.finish_and_claim(run.id, run.epoch, end, owner=owner, names=["a"])

        race([partial(worker, n) for n in range(4)])
        records = database.page_workflows(status=WorkflowStatus.DONE)
        assert len(records) == 24
        for record in records:
            steps = database.load_outcomes(record.id)
            assert [step.sequence for step in steps] == [0, 1, 2]
            assert {record.output, *(step.output for step in steps)} == {f'"{record.id}"'}


class Fencing(Contract):
    """No write under a claim that is lost."""

    def _assert_fenced(self, database: BaseDatabaseManager, epoch: int, workflow_id: str = "run") -> None:
        """Assert that every write of history is refused and changes nothing."""
        database.create_workflow(run_record("bait", minutes=5))
        before = (database.page_workflows(), database.get_steps(workflow_id))
        end = run_end('"zombie"', steps=(step_record(7, '"zombie"'),))
        steps = [step_record(0, '"zombie"'), step_record(8, '"zombie"')]
        writes: dict[str, Callable[[], object]] = {
            "record": lambda: database.record_steps(workflow_id, epoch, steps, current_activity="zombie"),
            "finish": lambda: database.finish_workflow(workflow_id, epoch, end),
            "claim": lambda: database.finish_and_claim(workflow_id, epoch, end, owner="owner-a", names=["greet"]),
        }
        for name, write in writes.items():
            with pytest.raises(ClaimLostError) as caught:
                write()
            assert (name, caught.value.workflow_id, caught.value.epoch) == (name, workflow_id, epoch)
            assert (database.page_workflows(), database.get_steps(workflow_id)) == before

    def test_a_released_run_takes_no_writes(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.release_workflow("run", epoch)
        self._assert_fenced(database, epoch)

    def test_a_released_owner_writes_nothing(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.record_steps("run", epoch, [step_record(0, None)])
        database.release_owner("owner-a")
        self._assert_fenced(database, epoch)

    def test_a_zombie_writes_nothing_after_another_claim(self, database: BaseDatabaseManager) -> None:
        stale = claim_run(database)
        database.release_owner("owner-a")
        (current,) = database.claim_workflows(register(database, "owner-b"), ["greet"], 1)
        database.record_steps("run", current.epoch, [step_record(0, None), step_record(1)])
        self._assert_fenced(database, stale)
        database.record_steps("run", current.epoch, [step_record(0)])
        assert [step.sequence for step in database.get_steps("run")] == [0, 1]

    def test_a_finished_run_takes_no_writes(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.finish_workflow("run", epoch, run_end(steps=(step_record(0),)))
        self._assert_fenced(database, epoch)

    def test_a_run_that_nobody_claimed_takes_no_writes(self, database: BaseDatabaseManager) -> None:
        register(database)
        database.create_workflow(run_record("run"))
        self._assert_fenced(database, 0)
        self._assert_fenced(database, 1)

    def test_an_unknown_run_takes_no_writes(self, database: BaseDatabaseManager) -> None:
        register(database)
        self._assert_fenced(database, 1, "never stored")

    def test_a_future_epoch_takes_no_writes(self, database: BaseDatabaseManager) -> None:
        self._assert_fenced(database, claim_run(database) + 1)

    def test_a_run_that_was_taken_from_its_owner_takes_no_writes(self, database: BaseDatabaseManager) -> None:
        epoch = claim_run(database)
        database.save_workflow(instance("run", status=WorkflowStatus.PAUSED))
        self._assert_fenced(database, epoch)

    def test_another_manager_is_fenced_too(self, database: BaseDatabaseManager) -> None:
        stale = claim_run(database)
        with self.another_with_claims(database) as other:
            other.release_workflow("run", stale)
            (current,) = other.claim_workflows(register(other, "owner-b"), ["greet"], 1)
            self._assert_fenced(database, stale)
            other.finish_workflow("run", current.epoch, run_end())
            self._assert_fenced(other, stale)

    def test_of_racing_writers_only_the_holder_writes(self, database: BaseDatabaseManager) -> None:
        stale = claim_run(database)
        database.release_workflow("run", stale)
        (current,) = database.claim_workflows(register(database, "owner-b"), ["greet"], 1)

        def writer(epoch: int) -> int:
            lost = 0
            for sequence in range(10):
                try:
                    database.record_steps("run", epoch, [step_record(sequence, str(epoch))])
                except ClaimLostError:
                    lost += 1
            return lost

        assert race([lambda: writer(stale), lambda: writer(current.epoch), lambda: writer(stale)]) == [10, 0, 10]
        assert {step.output for step in database.get_steps("run")} == {str(current.epoch)}


class Leasing(WaitingContract):
    """``beat_owner`` and ``expire_owner``."""

    def test_every_manager_sees_the_signs_of_life(self, waits: BaseDatabaseManager) -> None:
        first = waits.beat_owner("owner-a")["owner-a"]
        with self.another_with_claims(waits) as other:
            register(other, "owner-b")
            assert other.beat_owner("owner-b")["owner-a"] == first
            found = waits.beat_owner("owner-a")
        assert found["owner-a"] == first + 1
        assert found.keys() == {"owner-a", "owner-b"}

    def test_one_that_is_not_registered_is_told(self, waits: BaseDatabaseManager) -> None:
        assert "nobody" not in waits.beat_owner("nobody")
        waits.release_owner("owner-a")
        assert waits.beat_owner("owner-a") == {}

    def test_a_silent_owner_loses_its_runs(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        beats = waits.beat_owner("owner-a")["owner-a"]
        with self.another_with_claims(waits) as other:
            register(other, "owner-b")
            assert other.expire_owner("owner-a", beats)
            assert not other.expire_owner("owner-a", beats)
            (claimed,) = other.claim_workflows("owner-b", ["greet"], 9, now=at(0))
            assert (claimed.id, claimed.epoch) == ("run", epoch + 1)
            with pytest.raises(ClaimLostError):
                waits.record_steps("run", epoch, [step_record(0)])
            assert "owner-a" not in waits.beat_owner("owner-a")

    def test_one_that_has_given_a_sign_keeps_them(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        beats = waits.beat_owner("owner-a")["owner-a"]
        waits.beat_owner("owner-a")
        assert not waits.expire_owner("owner-a", beats)
        assert not waits.expire_owner("nobody", 0)
        waits.record_steps("run", epoch, [step_record(0)])
        assert read(waits).owner == "owner-a"

    def test_of_racing_observers_one_lets_go(self, waits: BaseDatabaseManager) -> None:
        for n in range(5):
            register(waits, f"silent-{n}")
            beats = waits.beat_owner(f"silent-{n}")[f"silent-{n}"]
            won = race([partial(waits.expire_owner, f"silent-{n}", beats)] * 4)
            assert Counter(won) == {True: 1, False: 3}

    def test_crashes_in_a_row_are_counted_and_delay_the_run(self, waits: BaseDatabaseManager) -> None:
        epoch = begin(waits)
        for n in range(1, 6):
            beats = waits.beat_owner("owner-a")["owner-a"]
            assert waits.expire_owner("owner-a", beats, now=at(0))
            record = read(waits)
            assert (record.crashes, record.owner) == (n, None)
            assert (record.wake_at is None) == (n <= 2)
            register(waits)
            (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(10))
            assert (claimed.crashes, claimed.wake_at) == (n, None)
            epoch = claimed.epoch
            waits.record_steps("run", epoch, [step_record(0, None)])  # it runs, which is no progress
            assert read(waits).crashes == n
        waits.record_steps("run", epoch, [step_record(0)])
        assert read(waits).crashes == 0

    def test_whatever_a_run_gets_done_ends_the_row(self, waits: BaseDatabaseManager) -> None:
        leaves: tuple[Callable[[str, int], None], ...] = (
            lambda run, epoch: waits.suspend_workflow(run, epoch, suspension()),
            lambda run, epoch: waits.continue_workflow(
                run, epoch, WorkflowContinuation(input="{}", taken={}, continued_at=at(7))
            ),
        )
        for n, leave in enumerate(leaves):
            begin(waits, f"run-{n}")
            waits.expire_owner("owner-a", waits.beat_owner("owner-a")["owner-a"], now=at(0))
            register(waits)
            (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(0))
            assert claimed.crashes == 1
            leave(claimed.id, claimed.epoch)
            assert read(waits, claimed.id).crashes == 0
            (claimed,) = waits.claim_workflows("owner-a", ["greet"], 9, now=at(9))
            waits.finish_workflow(claimed.id, claimed.epoch, run_end())

    def test_a_release_is_no_crash(self, waits: BaseDatabaseManager) -> None:
        begin(waits)
        waits.release_owner("owner-a")
        assert (read(waits).crashes, read(waits).wake_at) == (0, None)
