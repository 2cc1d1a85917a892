"""The time limit of a run, where nobody is there to notice that it passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, Orchestrator, Queue, durable, workflow
from py_orchestrate.errors import WorkflowFailedError, WorkflowTimeoutError
from py_orchestrate.models import ControlRequest
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runner(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, clock: FakeClock) -> Orchestrator:
    return orchestrator(
        store, clock=clock, poll_interval_seconds=0.01, max_workers=2, queues=[Queue("one", concurrency=1)]
    )


@pytest.fixture
def listen() -> Any:
    @workflow
    def listen() -> Any:
        return durable.wait_for_event("noise")

    return listen


def await_status(runner: Orchestrator, clock: FakeClock, workflow_id: str, status: str) -> None:
    """Wait for a status; the clock goes on by what the loop needs to look."""

    def is_there() -> bool:
        clock.advance(0.01)
        found = runner.get_workflow_status(workflow_id)
        return found is not None and found["status"] == status

    wait_until(is_there)


def assert_timed_out(runner: Orchestrator, clock: FakeClock, workflow_id: str) -> None:
    await_status(runner, clock, workflow_id, "failed")
    with pytest.raises(WorkflowFailedError) as caught:
        runner.get_handle(workflow_id).result(10)
    assert isinstance(caught.value.__cause__, WorkflowTimeoutError)
    assert f"{workflow_id} took longer than its timeout of 60.0 s" in str(caught.value)


@pytest.mark.parametrize("queue", ["one", "nobody's"])
def test_a_run_that_its_queue_does_not_let_in(runner: Orchestrator, clock: FakeClock, listen: Any, queue: str) -> None:
    is_running, may_end = threading.Event(), threading.Event()

    @workflow
    def hold_the_place() -> None:
        is_running.set()
        assert may_end.wait(30)

    holder = runner.start_workflow(hold_the_place, queue="one")
    assert is_running.wait(10)
    run = runner.start_workflow(listen, workflow_id="run", queue=queue, timeout=60)
    clock.advance(59)
    assert run.status()["status"] == "processing"
    clock.advance(1)
    assert_timed_out(runner, clock, "run")
    may_end.set()
    holder.result(10)


def test_a_run_that_no_worker_is_free_for_ends_as_soon_as_one_is(
    runner: Orchestrator, clock: FakeClock, listen: Any
) -> None:
    may_end = threading.Event()
    begun: list[int] = []

    @workflow
    def keep_busy(n: int) -> None:
        begun.append(n)
        assert may_end.wait(30)

    busy = [runner.start_workflow(keep_busy, n) for n in range(2)]
    wait_until(lambda: len(begun) == 2)
    runner.start_workflow(listen, workflow_id="run", queue="nobody's", timeout=60)
    clock.advance(60)

    def is_noticed() -> bool:
        clock.advance(0.01)
        found = runner.db.read_workflow("run")
        return found is not None and found.request is ControlRequest.CANCEL

    wait_until(is_noticed)
    may_end.set()
    assert_timed_out(runner, clock, "run")
    for each in busy:
        each.result(10)


def test_a_paused_run_cleans_up_and_ends(runner: Orchestrator, clock: FakeClock) -> None:
    cleaned: list[str] = []

    @workflow
    def w() -> Any:
        try:
            return durable.wait_for_event("noise")
        except durable.WorkflowCancelled as signal:
            cleaned.append(str(signal.reason))
            raise

    run = runner.start_workflow(w, workflow_id="run", timeout=60)
    wait_until(lambda: (found := runner.db.read_workflow("run")) and found.waiting_for)
    run.pause()
    assert run.status()["status"] == "paused"
    clock.advance(60)
    assert_timed_out(runner, clock, "run")
    assert cleaned == ["timeout"]


def test_a_run_that_was_cancelled_in_time_is_cancelled(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, clock: FakeClock, listen: Any
) -> None:
    """Whenever somebody takes it up for that."""
    first = orchestrator(store, clock=clock)
    run = first.start_workflow(listen, workflow_id="run", queue="nobody's", timeout=60)
    first.stop()
    run.cancel()
    clock.advance(120)
    runner = orchestrator(store, clock=clock, poll_interval_seconds=0.01)
    await_status(runner, clock, "run", "cancelled")


def test_a_run_whose_time_passed_while_nobody_looked(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, clock: FakeClock, listen: Any
) -> None:
    first = orchestrator(store, clock=clock)
    first.start_workflow(listen, workflow_id="run", queue="nobody's", timeout=60)
    first.stop()
    clock.advance(60)
    runner = orchestrator(store, clock=clock, poll_interval_seconds=0.01)
    assert_timed_out(runner, clock, "run")
