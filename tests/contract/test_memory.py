"""What the memory backend does beyond the contract."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Queue, WorkflowStatus
from py_orchestrate.errors import ClaimLostError, UnsupportedOperationError, WorkflowNotFoundError, WorkflowStateError
from py_orchestrate.models import NEVER
from py_orchestrate.testing._samples import (
    at,
    event_record,
    instance,
    race,
    run_end,
    run_record,
    step_record,
    suspension,
)

from ..children import in_fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_may_come_while_threads_write() -> None:
    manager = MemoryDatabaseManager()
    stopped = threading.Event()

    def write(name: str) -> None:
        count = 0
        while not stopped.is_set():
            manager.create_workflow(run_record(f"{name}-{count}"))
            count += 1

    def use() -> None:
        known = len(manager.page_workflows())
        assert manager.create_workflow(run_record("child")) is None
        assert len(manager.page_workflows()) == known + 1
        assert len(manager._runs._ready["", "greet"]) == known + 1

    def fork() -> None:
        try:
            for _ in range(20):
                in_fork(use)
        finally:
            stopped.set()

    race([fork, *[partial(write, f"thread{n}") for n in range(3)]])
    assert manager.read_workflow("child") is None


def test_a_run_that_is_opened_again_returns_to_its_place() -> None:
    manager = MemoryDatabaseManager()
    for n in range(3):
        manager.create_workflow(run_record(str(n)))
    manager.register_owner("me")
    (first,) = manager.claim_workflows("me", ["greet"], 1)
    manager.finish_workflow("0", first.epoch, run_end(steps=(step_record(0),)))
    manager.save_workflow(instance("0", status=WorkflowStatus.PROCESSING))
    claimed = manager.claim_workflows("me", ["greet"], 9)
    assert [run.id for run in claimed] == ["0", "1", "2"]
    assert claimed[0].epoch > first.epoch
    assert manager.get_steps("0") == [step_record(0)]


def test_nobody_looks_at_runs_that_sleep() -> None:
    manager = MemoryDatabaseManager()
    for n in range(1000):
        manager.create_workflow(run_record(f"sleeps-{n}", wake_at=NEVER if n % 2 else at(99 + n)))
        del manager._runs.find(f"sleeps-{n}").record  # so that a look at it is an error
    for owner in ("me", "you"):
        manager.register_owner(owner)
        manager.create_workflow(run_record(f"of-{owner}"))
        assert len(manager.claim_workflows(owner, ["greet"], 9, now=at(98))) == 1
    manager.create_workflow(run_record("ready"))
    assert manager.look().ready == {"greet"}
    assert manager.look().wake_at == at(99)
    manager.cancel_workflow("of-me")
    assert list(manager.pending_requests("me")) == ["of-me"]
    manager.release_owner("me")
    assert [run.id for run in manager.claim_workflows("you", ["greet"], 9, now=at(98))] == ["of-me", "ready"]


def test_what_a_run_waited_for_leaves_nothing_behind() -> None:
    manager = MemoryDatabaseManager()
    manager.create_workflow(run_record("run"))
    manager.register_owner("me")
    for n in range(100):
        (claimed,) = manager.claim_workflows("me", ["greet"], 1, now=at(0))
        wait = suspension(signals=n, wake_at=at(99 + n), waiting_for="event:go")
        manager.suspend_workflow("run", claimed.epoch, wait)
        manager.add_event("run", event_record(f"e-{n}"))
    assert manager._runs._asleep == []
    assert len(manager._runs._ready["", "greet"]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_every_run_stands_in_its_place_whatever_happens(seed: int) -> None:
    choose = random.Random(seed)
    manager = MemoryDatabaseManager()
    owners = ["me", "you"]
    for owner in owners:
        manager.register_owner(owner)
    held: dict[str, int] = {}

    def some() -> str:
        return f"run-{choose.randrange(30)}"

    def wait() -> Any:
        signal = choose.choice([None, "event:go", "event:other", f"workflow:{some()}"])
        wake_at = choose.choice([None, NEVER, at(choose.randrange(60))])
        return suspension(signals=choose.randrange(3), wake_at=wake_at, waiting_for=signal)

    def claim() -> None:
        claimed = manager.claim_workflows(
            choose.choice(owners),
            ["a", "b"],
            2,
            now=at(choose.randrange(20)),
            queues=choose.choice([(), [Queue("mail"), Queue("print", 2, 1, (3, 60))]]),
        )
        held.update((run.id, run.epoch) for run in claimed)

    def release(owner: str) -> None:
        manager.release_owner(owner)
        manager.register_owner(owner)

    def fail(name: str) -> None:
        manager.finish_workflow(name, held.get(name, 0), run_end(status=WorkflowStatus.FAILED))

    actions: list[Callable[[], object]] = [
        lambda: manager.create_workflow(
            run_record(
                some(),
                name=choose.choice("ab"),
                parent_id=some(),
                wake_at=wait().wake_at,
                queue=choose.choice([None, "mail", "print"]),
                priority=choose.randrange(3),
                deduplication_key=choose.choice([None, "one", "two"]),
            )
        ),
        claim,
        *[lambda: manager.suspend_workflow(name := some(), held.get(name, 0), wait())] * 5,
        lambda: fail(some()),
        lambda: manager.delete_workflow(some()),
        lambda: manager.reopen_workflow(name := some(), held.get(name, 0), [0]),
        lambda: manager.add_event(some(), event_record(str(choose.random()), name=choose.choice(["go", "other"]))),
        lambda: manager.pause_workflow(some()),
        lambda: manager.resume_workflow(some()),
        lambda: manager.cancel_workflow(some()) if choose.random() < 0.2 else None,
        lambda: manager.release_workflow(name := some(), held.get(name, 0)),
        lambda: release(choose.choice(owners)) if choose.random() < 0.2 else None,
        lambda: manager.save_workflow(
            instance(some(), name=choose.choice("ab"), status=choose.choice(list(WorkflowStatus)))
        ),
    ]
    for _ in range(3000):
        with contextlib.suppress(WorkflowNotFoundError, ClaimLostError, WorkflowStateError, UnsupportedOperationError):
            choose.choice(actions)()
        _assert_places(manager)


def _assert_places(manager: MemoryDatabaseManager) -> None:
    runs = manager._runs
    processing = [run for run in runs._by_id.values() if run.record.status is WorkflowStatus.PROCESSING]
    held = {run.record.id for run in processing if run.record.owner is not None}
    assert {run.record.id for owner in runs._held for run in runs.held_by(owner)} == held
    free = [run for run in processing if run.record.owner is None]
    ready = [(run.lane, run.candidate) for run in free if run.record.wake_at is None or run.is_due]
    assert [(lane, place) for lane in sorted(runs._ready) for place, _ in runs._ready[lane]] == sorted(ready)
    keyed = [run for run in runs._by_id.values() if run.record.deduplication_key and not run.record.status.is_final]
    assert runs._deduplicated == {(run.record.queue, run.record.deduplication_key): run for run in keyed}
    assert runs._by_position == {run.position: run for run in runs._by_id.values()}
    asleep = [run for run in free if run.record.wake_at not in (None, NEVER) and not run.is_due]
    assert [entry[:2] for entry in runs._asleep] == sorted((run.record.wake_at, run.position) for run in asleep)
    assert all(runs._ready.values())
