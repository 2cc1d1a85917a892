"""What the memory backend does beyond the contract."""

from __future__ import annotations

import os
import threading
from functools import partial

import pytest

from py_orchestrate import MemoryDatabaseManager, WorkflowStatus
from py_orchestrate.testing._samples import instance, race, run_end, run_record, step_record

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
