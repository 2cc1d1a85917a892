"""A batch of operations as one statement: what it does, what it leaves to the operations, and that nobody notices."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Queue, SQLiteDatabaseManager
from py_orchestrate.db_manager import _claims, _connections, _group_commit
from py_orchestrate.db_manager._group_commit import GroupCommit
from py_orchestrate.errors import ClaimLostError, StorageError
from py_orchestrate.models import NEVER, ControlRequest, WorkflowRecord, WorkflowStatus
from py_orchestrate.testing._samples import at, in_background, race, run_end, run_record, step_record, suspension

from ..interrupting import interrupted_at
from ..waiting import wait_until


class Watched:
    """A database manager, and what its writes were: merged, refused, or by themselves."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: Callable[[], object] = lambda: None
        self.seen = self._watch(monkeypatch)
        self.manager = SQLiteDatabaseManager(path)
        self.manager.register_owner("me")
        self.seen.clear()

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        seen: list[str] = []
        commit, merged = _connections.Connections.commit, _connections.Connections.commit_merged

        def commit_merged(writer: Any, statement: Any) -> None:
            try:
                merged(writer, statement)
            except sqlite3.IntegrityError:
                seen.append("refused")
                raise
            seen.append("merged")
            self.after()

        def commit_alone(connections: Any) -> None:
            commit(connections)
            seen.append("alone")

        monkeypatch.setattr(_connections.Connections, "commit_merged", staticmethod(commit_merged))
        monkeypatch.setattr(_connections.Connections, "commit", commit_alone)
        return seen

    def claim(self, workflow_id: str = "run") -> int:
        self.manager.create_workflow(run_record(workflow_id))
        (record,) = self.manager.claim_workflows("me", ["greet"], 1)
        assert record.id == workflow_id
        self.seen.clear()
        return record.epoch

    def end(self, workflow_id: str, epoch: int, **fields: Any) -> list[WorkflowRecord]:
        return self.manager.finish_and_claim(workflow_id, epoch, run_end(**fields), owner="me", names=["greet"])


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    watched = Watched(tmp_path / "runs.db", monkeypatch)
    with closing(watched.manager):
        yield watched


def test_the_life_of_a_run_is_merged(watched: Watched) -> None:
    assert watched.manager.create_workflow(run_record("run")) is None
    assert watched.seen == ["merged"]
    epoch = watched.manager.claim_workflows("me", ["greet"], 1)[0].epoch
    watched.seen.clear()
    assert watched.manager.record_steps("run", epoch, [step_record(0), step_record(1)]) is None
    assert watched.end("run", epoch, steps=(step_record(2),)) == []
    assert watched.seen == ["merged"] * 2
    assert [step.sequence for step in watched.manager.get_steps("run")] == [0, 1, 2]
    assert watched.manager.read_workflow("run").status is WorkflowStatus.DONE  # type: ignore[union-attr]


def together(watched: Watched, actions: list[Callable[[], Any]]) -> list[Any]:
    """Let threads do their writes in one batch; return what each got, or raised."""

    def outcome(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except BaseException as error:
            return error

    with watched.manager._commits.alone():
        futures = [in_background(partial(outcome, action)) for action in actions]
        wait_until(lambda: len(watched.manager._commits._waiting) == len(actions))
    return [future.result(timeout=10) for future in futures]


def test_threads_share_a_statement(watched: Watched) -> None:
    creates = [partial(watched.manager.create_workflow, run_record(str(n))) for n in range(8)]
    assert together(watched, creates) == [None] * 8
    assert watched.seen == ["merged"]
    assert len(watched.manager.list_workflows()) == 8


def test_what_cannot_be_merged_spoils_nothing(watched: Watched) -> None:
    manager, epoch = watched.manager, watched.claim()
    results = together(
        watched,
        [
            partial(manager.create_workflow, run_record("run", minutes=5)),
            partial(manager.create_workflow, run_record("other")),
            partial(manager.record_steps, "run", epoch, [step_record(0)]),
            partial(manager.record_steps, "run", epoch + 1, [step_record(1)]),
            partial(manager.record_steps, "nobody", 1, [step_record(0)]),
        ],
    )
    assert results[:3] == [manager.read_workflow("run"), None, None]
    assert [type(result) for result in results[3:]] == [ClaimLostError] * 2
    assert watched.seen == ["refused", "alone"]
    assert [step.sequence for step in manager.get_steps("run")] == [0]


def test_a_value_that_the_store_refuses_spoils_nothing(watched: Watched) -> None:
    bad = run_record("bad", name=object())
    create = watched.manager.create_workflow
    error, result = together(watched, [partial(create, bad), partial(create, run_record("good"))])
    assert isinstance(error, StorageError)
    assert result is None
    assert [record.id for record in watched.manager.page_workflows()] == ["good"]


def test_a_request_is_told_to_who_stores_a_step(watched: Watched) -> None:
    epoch = watched.claim()
    watched.manager.cancel_workflow("run")
    watched.seen.clear()
    assert watched.manager.record_steps("run", epoch, [step_record(0)]) is ControlRequest.CANCEL
    assert watched.seen == ["refused", "alone"]


def test_a_step_that_is_stored_stays_as_it_is(watched: Watched) -> None:
    epoch = watched.claim()
    watched.manager.record_steps("run", epoch, [step_record(0, None)])
    watched.manager.record_steps("run", epoch, [step_record(0, '"first"')])
    watched.manager.record_steps("run", epoch, [step_record(0, '"second"')])
    assert watched.seen == ["merged", "merged", "refused", "alone"]
    assert [step.output for step in watched.manager.get_steps("run")] == ['"first"']


def test_a_run_that_crashed_counts_its_crashes_from_anew_with_a_step(watched: Watched) -> None:
    watched.manager.register_owner("dies")
    watched.manager.create_workflow(run_record("run"))
    assert watched.manager.claim_workflows("dies", ["greet"], 1)
    assert watched.manager.expire_owner("dies", 0)
    (record,) = watched.manager.claim_workflows("me", ["greet"], 1)
    assert record.crashes == 1
    watched.manager.record_steps("run", record.epoch, [step_record(0)])
    assert watched.manager.read_workflow("run").crashes == 0  # type: ignore[union-attr]


@pytest.fixture
def never_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_claims, "is_turn_of_overtaken", lambda: False)


def test_an_end_claims_what_waits(watched: Watched, never_overtaken: None) -> None:
    epoch = watched.claim()
    for workflow_id in ("next", "last"):
        watched.manager.create_workflow(run_record(workflow_id))
    watched.seen.clear()
    (following,) = watched.end("run", epoch)
    assert following == watched.manager.read_workflow("next")
    assert (following.owner, following.epoch) == ("me", 1)
    assert [each.id for each in watched.end("next", following.epoch)] == ["last"]
    assert watched.end("last", 1) == []
    assert watched.seen == ["merged"] * 3


def test_ends_of_many_threads_claim_what_waits(watched: Watched, never_overtaken: None) -> None:
    epochs = [watched.claim(f"run-{n}") for n in range(4)]
    for n in range(3):
        watched.manager.create_workflow(run_record(f"next-{n}"))
    watched.seen.clear()
    claimed = together(watched, [partial(watched.end, f"run-{n}", epoch) for n, epoch in enumerate(epochs)])
    assert [[record.id for record in records] for records in claimed] == [["next-0"], ["next-1"], ["next-2"], []]
    assert watched.seen == ["merged"]


def test_an_end_claims_who_came_first_whatever_its_name(watched: Watched, never_overtaken: None) -> None:
    epoch = watched.claim()
    watched.manager.create_workflow(run_record("first", name="zebra"))
    watched.manager.create_workflow(run_record("second", name="ant"))
    end = watched.manager.finish_and_claim("run", epoch, run_end(), owner="me", names=["ant", "greet", "zebra"])
    assert [record.id for record in end] == ["first"]


def test_an_end_leaves_alone_what_is_not_its_to_claim(watched: Watched, never_overtaken: None) -> None:
    epoch = watched.claim()
    watched.manager.create_workflow(run_record("unknown", name="unknown"))
    watched.manager.create_workflow(run_record("queued", queue="mail"))
    watched.manager.create_workflow(run_record("sleeping", wake_at=at(60)))
    watched.seen.clear()
    assert watched.end("run", epoch) == []
    assert watched.seen == ["merged"]


@pytest.mark.parametrize("reason", ["due", "queued", "signed-off"])
def test_what_an_end_cannot_claim_so_is_left_to_the_operation(
    watched: Watched, never_overtaken: None, reason: str
) -> None:
    epoch = watched.claim()
    watched.manager.create_workflow(run_record("next", wake_at=at(1) if reason == "due" else None))
    queues = [Queue("mail")] if reason == "queued" else []
    watched.seen.clear()
    if reason == "signed-off":
        with closing(sqlite3.connect(watched.manager.db_path)) as connection, connection:
            connection.execute("DELETE FROM orchestrators")
    end = partial(watched.manager.finish_and_claim, owner="me", names=["greet"], queues=queues)
    claimed = end("run", epoch, run_end())
    assert [record.id for record in claimed] == ([] if reason == "signed-off" else ["next"])
    assert watched.seen == ["refused", "alone"]
    if claimed:
        assert end("next", claimed[0].epoch, run_end()) == []
        assert watched.seen == ["refused", "alone", "alone"]  # for it has learnt that it is of no use


@pytest.mark.parametrize(
    ("others", "overtaken"), [({"priority": 1}, "other"), ({"name": "other"}, "next-1"), ({"epoch": 1}, "next-1")]
)
def test_who_is_overtaken_has_its_turn(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any], overtaken: str
) -> None:
    monkeypatch.setattr(_claims, "is_turn_of_overtaken", lambda: True)
    epoch = watched.claim()
    for n in range(2):
        watched.manager.create_workflow(run_record(f"next-{n}"))
    watched.seen.clear()
    assert [record.id for record in watched.end("run", epoch)] == ["next-0"]
    assert watched.seen == ["merged"]  # as they are all alike
    watched.manager.create_workflow(run_record("other", **others))
    watched.seen.clear()
    assert [record.id for record in watched.end("next-0", 1)] == [overtaken]
    assert watched.seen == ["refused", "alone"]


def test_large_inputs_are_left_to_the_operation(watched: Watched, never_overtaken: None) -> None:
    epoch = watched.claim()
    watched.manager.create_workflow(run_record("next", input='"' + "x" * 5000 + '"'))
    watched.seen.clear()
    assert [len(record.input) for record in watched.end("run", epoch)] == [5002]
    assert watched.seen == ["refused", "alone"]


@pytest.mark.parametrize("in_person", [False, True], ids=["merged", "alone"])
def test_a_damaged_run_holds_up_no_other(
    watched: Watched, never_overtaken: None, caplog: pytest.LogCaptureFixture, in_person: bool
) -> None:
    epochs = [watched.claim(f"run-{n}") for n in range(3)]
    for n in range(3):
        watched.manager.create_workflow(run_record(f"next-{n}"))
    with closing(sqlite3.connect(watched.manager.db_path)) as connection, connection:
        connection.execute("UPDATE workflows SET input_data = CAST(x'ff' AS TEXT) WHERE id = 'next-1'")
    watched.manager._claims_in_person = in_person
    claimed = together(watched, [partial(watched.end, f"run-{n}", epoch) for n, epoch in enumerate(epochs)])
    assert [[record.id for record in records] for records in claimed] == [["next-0"], [], ["next-2"]]
    assert "cannot be read" in caplog.text
    assert all(watched.manager.read_workflow(f"run-{n}").status is WorkflowStatus.DONE for n in range(3))  # type: ignore[union-attr]


def dump(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def create_at_random(manager: SQLiteDatabaseManager, lots: random.Random) -> None:
    for n in range(lots.randrange(12)):
        record = run_record(
            f"other-{n}",
            name=lots.choice(["greet", "part", "unknown"]),
            priority=lots.randrange(3),
            epoch=lots.choice([0, 0, 1]),
            queue=lots.choice([None, None, "mail"]),
            wake_at=lots.choice([None, None, at(60)]),
            owner=lots.choice([None, None, "other"]),
            request=lots.choice([None, None, ControlRequest.CANCEL]),
            status=lots.choice([WorkflowStatus.PROCESSING, WorkflowStatus.PROCESSING, WorkflowStatus.PAUSED]),
        )
        manager.create_workflow(record)


@pytest.mark.parametrize("seed", range(30))
def test_a_merged_claim_is_the_claim_of_the_operation(
    watched: Watched, tmp_path: Path, never_overtaken: None, seed: int
) -> None:
    watched.claim()
    create_at_random(watched.manager, random.Random(seed))
    with closing(SQLiteDatabaseManager(tmp_path / "alone.db")) as alone:
        with closing(sqlite3.connect(watched.manager.db_path)) as source, closing(sqlite3.connect(alone.db_path)) as to:
            source.backup(to)
        alone._claims_in_person = True
        watched.seen.clear()
        claimed = [
            manager.finish_and_claim("run", 1, run_end(), owner="me", names=["greet", "part"])
            for manager in (watched.manager, alone)
        ]
        assert watched.seen == ["merged", "alone"]
        assert claimed[0] == claimed[1]
        assert dump(watched.manager.db_path) == dump(alone.db_path)


def test_an_end_tells_the_parent(watched: Watched) -> None:
    manager = watched.manager
    parent = watched.claim("parent")
    manager.suspend_workflow("parent", parent, suspension(wake_at=NEVER, waiting_for="workflow:child"))
    manager.create_workflow(run_record("child", parent_id="parent"))
    (child,) = manager.claim_workflows("me", ["greet"], 1)
    (following,) = watched.end("child", child.epoch)
    assert (following.id, following.signals) == ("parent", 1)


def test_large_values_are_stored_as_any(watched: Watched) -> None:
    epoch = watched.claim()
    watched.manager.record_steps("run", epoch, [step_record(0, '"' + "x" * 100_000 + '"')])
    assert watched.seen == ["alone"]
    assert len(watched.manager.get_steps("run")[0].output or "") == 100_002


def test_an_interrupt_after_the_commit_stores_nothing_twice(watched: Watched) -> None:
    interrupts = [KeyboardInterrupt()]

    def interrupt() -> None:
        if interrupts:
            raise interrupts.pop()

    watched.after = interrupt
    results = together(watched, [partial(watched.manager.create_workflow, run_record(str(n))) for n in range(3)])
    # The leader's caller is interrupted; that its run is stored is no news for the others.
    assert isinstance(results[0], KeyboardInterrupt)
    assert results[1:] == [None, None]
    assert watched.seen == ["merged"]


def test_an_interrupt_after_the_commit_loses_no_claim(watched: Watched, never_overtaken: None) -> None:
    epochs = [watched.claim(f"run-{n}") for n in range(2)]
    for n in range(2):
        watched.manager.create_workflow(run_record(f"next-{n}"))
    watched.seen.clear()
    interrupts = [KeyboardInterrupt()]

    def interrupt() -> None:
        if interrupts:
            raise interrupts.pop()

    watched.after = interrupt
    first, second = together(watched, [partial(watched.end, f"run-{n}", epoch) for n, epoch in enumerate(epochs)])
    assert isinstance(first, KeyboardInterrupt)
    assert [record.id for record in second] == ["next-1"]
    assert watched.seen == ["merged"]


@pytest.mark.parametrize("size", [10, 100_000], ids=["mergeable", "large"])
def test_what_arrives_while_another_process_writes_shares_a_commit(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    epoch = watched.claim()
    extend, sizes = GroupCommit._extend, [0]

    def noting_extend(group: GroupCommit, batch: list[Any]) -> None:
        extend(group, batch)
        sizes.append(len(batch))

    monkeypatch.setattr(GroupCommit, "_extend", noting_extend)
    with closing(sqlite3.connect(watched.manager.db_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = in_background(partial(watched.manager.record_steps, "run", epoch, [step_record(0)]))
        wait_until(lambda: sizes[-1] == 1)
        rest = [
            in_background(partial(watched.manager.record_steps, "run", epoch, [step_record(n, "x" * size)]))
            for n in range(1, 5)
        ]
        wait_until(lambda: sizes[-1] == 5)
        other.execute("COMMIT")
    assert [future.result(timeout=10) for future in (first, *rest)] == [None] * 5
    assert [step.sequence for step in watched.manager.get_steps("run")] == list(range(5))
    assert len(watched.seen) == 1


@pytest.mark.parametrize("is_refused", [False, True], ids=["merged", "refused"])
def test_an_interrupt_at_any_line_loses_nothing_that_was_told_of(watched: Watched, is_refused: bool) -> None:
    files = [_connections.__file__, _group_commit.__file__]
    manager = watched.manager
    taken = run_record("taken")
    manager.create_workflow(taken)

    def create(workflow_id: str) -> bool:
        return manager.create_workflow(run_record(workflow_id)) is None

    for line in count(1):
        ids = [f"{line}-{n}" for n in range(3)]
        name = f"{line}-interrupted"
        with manager._commits.alone():
            first = in_background(partial(interrupted_at, line, files, partial(create, name)))
            wait_until(lambda first=first: manager._commits._waiting or first.done())
            rest = [in_background(partial(create, each)) for each in [*ids, *["taken"] * is_refused]]
            expected = len(rest) + (not first.done())
            wait_until(lambda expected=expected: len(manager._commits._waiting) == expected)
        error = first.exception(timeout=10)
        assert [future.result(timeout=10) for future in rest] == [True] * 3 + [False] * is_refused
        stored = {record.id for record in manager.page_workflows(limit=10)}
        assert {*ids} <= stored
        if error is None:
            assert name in stored
            assert line > 50
            return
        assert isinstance(error, KeyboardInterrupt)


def test_merged_ends_beside_other_operations_claim_what_is_theirs(watched: Watched, never_overtaken: None) -> None:
    manager = watched.manager
    epochs = [watched.claim(f"run-{n}") for n in range(4)]
    for n in range(4):
        manager.create_workflow(run_record(f"next-{n}"))
    ends = [partial(watched.end, f"run-{n}", epoch) for n, epoch in enumerate(epochs)]
    steps = [partial(manager.record_steps, "run-3", epochs[3], [step_record(n)]) for n in range(2)]
    watched.seen.clear()
    first = together(watched, [steps[0], ends[0], ends[1], steps[1]])
    assert [[record.id for record in first[n]] for n in (1, 2)] == [["next-0"], ["next-1"]]
    second = together(watched, [ends[2], steps[0], partial(manager.create_workflow, run_record("new"))])
    assert [record.id for record in second[0]] == ["next-2"]
    assert watched.seen == ["merged", "refused", "alone"]  # for a step that is stored stays as it is
    assert [record.id for record in ends[3]()] == ["next-3"]
    with manager._commits.alone():
        copies = manager._connections.begin().execute("SELECT count(*) FROM py_orchestrate_claimed").fetchone()[0]
        manager._connections.rollback()
    assert copies == 1  # what was claimed before is forgotten


@pytest.mark.parametrize("number", [62, 63, 64, 65, 130])
def test_batches_of_any_size(watched: Watched, number: int) -> None:
    watched.claim()
    creates = [partial(watched.manager.create_workflow, run_record(f"new-{n}")) for n in range(number - 2)]
    results = together(watched, [*creates, partial(watched.end, "run", 1), creates[0]])
    assert results[:-2] == [None] * (number - 2)
    assert len(watched.manager.list_workflows()) == number - 1


def test_steps_of_many_threads(watched: Watched) -> None:
    epoch = watched.claim()

    def store(n: int) -> None:
        for each in range(20):
            assert watched.manager.record_steps("run", epoch, [step_record(n * 20 + each)]) is None

    race([partial(store, n) for n in range(8)])
    assert [step.sequence for step in watched.manager.get_steps("run")] == list(range(160))
    assert set(watched.seen) == {"merged"}
