"""A run whose activity waits for another attempt is paused, cancelled and timed out, however short the wait is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import WorkflowFailedError, WorkflowTimeoutError
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
HOW = pytest.mark.parametrize("how", ["call", "submit", "wait_any", "async activity", "async workflow"])
WAIT = pytest.mark.parametrize("seconds", [0.05, 3600])


class Flaky:
    """An activity that fails until it may succeed, in a workflow that calls it in one of several ways."""

    def __init__(self, seconds: float) -> None:
        self.attempts = 0
        self.may_succeed = False
        self.at_first: Callable[[], object] = lambda: None
        self.retry = RetryPolicy(max_attempts=None, initial_interval=seconds, max_interval=3600, backoff=1, jitter=0)

    def attempt(self) -> str:
        self.attempts += 1
        if self.attempts == 1:
            self.at_first()
        if not self.may_succeed:
            raise ConnectionError("flaky")
        return "done"

    def workflow(self, how: str) -> Any:
        @activity(retry=self.retry)
        def flaky() -> str:
            return self.attempt()

        @activity(retry=self.retry)
        async def flaky_async() -> str:
            return self.attempt()

        @workflow
        def plain() -> str:
            calls: dict[str, Callable[[], Any]] = {
                "call": flaky,
                "submit": lambda: flaky.submit().result(),
                "wait_any": lambda: durable.wait_any(flaky.submit()).result(),
                "async activity": flaky_async,
            }
            return str(calls[how]())

        @workflow
        async def waits_async() -> Any:
            future: Any = flaky_async()
            return await future

        return waits_async if how == "async workflow" else plain


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runner(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, clock: FakeClock) -> Orchestrator:
    return orchestrator(memory, clock=clock, poll_interval_seconds=0.01)


@HOW
@WAIT
def test_it_is_paused(runner: Orchestrator, clock: FakeClock, how: str, seconds: float) -> None:
    flaky = Flaky(seconds)
    flaky.at_first = lambda: runner.pause_workflow("run")
    run = runner.start_workflow(flaky.workflow(how), workflow_id="run")
    wait_until(lambda: run.status()["status"] == "paused")
    assert flaky.attempts == 1
    flaky.may_succeed = True
    run.resume()
    clock.advance(seconds)

    def is_done() -> bool:
        clock.advance(0.01)  # by what the loop needs to look
        return bool(run.status()["status"] == "done")

    wait_until(is_done)
    assert run.result(10) == "done"
    assert flaky.attempts == 2


@HOW
@WAIT
def test_it_is_cancelled(runner: Orchestrator, how: str, seconds: float) -> None:
    flaky = Flaky(seconds)
    flaky.at_first = lambda: runner.cancel_workflow("run")
    run = runner.start_workflow(flaky.workflow(how), workflow_id="run")
    assert run.wait(10)["status"] == "cancelled"
    assert flaky.attempts == 1


@HOW
@WAIT
def test_it_runs_out_of_its_time(runner: Orchestrator, clock: FakeClock, how: str, seconds: float) -> None:
    flaky = Flaky(seconds)
    flaky.at_first = lambda: clock.advance(60)
    run = runner.start_workflow(flaky.workflow(how).options(timeout=30), workflow_id="run")
    with pytest.raises(WorkflowFailedError) as caught:
        run.result(10)
    assert isinstance(caught.value.__cause__, WorkflowTimeoutError)
    assert flaky.attempts == 1


@HOW
@pytest.mark.parametrize("request_", ["pause", "cancel"])
def test_a_request_that_comes_during_a_short_wait(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, how: str, request_: str
) -> None:
    flaky, has_failed = Flaky(0.2), threading.Event()
    flaky.at_first = has_failed.set
    runner = orchestrator(store, poll_interval_seconds=0.01)
    run = runner.start_workflow(flaky.workflow(how), workflow_id="run")
    assert has_failed.wait(10)
    wait_until(lambda: any((step["attempt"] or 1) > 1 for step in runner.get_history("run")))
    if request_ == "cancel":
        run.cancel()
        assert run.wait(10)["status"] == "cancelled"
        return
    run.pause()
    wait_until(lambda: run.status()["status"] == "paused")
    flaky.may_succeed = True
    run.resume()
    assert run.result(10) == "done"


@WAIT
def test_what_is_waited_for_under_a_shield_is_given_up(runner: Orchestrator, seconds: float) -> None:
    """What was begun outside of the shield is not tried again, and its end is not waited for in vain."""
    flaky = Flaky(seconds)
    flaky.at_first = lambda: runner.cancel_workflow("run")

    @activity(retry=flaky.retry)
    def fails() -> str:
        return flaky.attempt()

    @workflow
    def w() -> str:
        future = fails.submit()
        with durable.shield():
            return future.result()

    run = runner.start_workflow(w, workflow_id="run")
    assert run.wait(10)["status"] == "cancelled"
    assert flaky.attempts == 1
