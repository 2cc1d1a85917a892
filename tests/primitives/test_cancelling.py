"""Cancelling: where it is noticed, what may still be done, and what it ends with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    SQLiteDatabaseManager,
    WorkflowHandle,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import ActivityCancelledError, WorkflowFailedError, WorkflowStateError
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]

ran: list[Any] = []


@pytest.fixture(autouse=True)
def effects() -> None:
    ran.clear()


@pytest.fixture
def act() -> Any:
    @activity
    def act(value: Any) -> Any:
        ran.append(value)
        return value

    return act


def waits(runner: Orchestrator, workflow_id: str) -> None:
    wait_until(lambda: (found := runner.db.read_workflow(workflow_id)) and found.wake_at is not None)


WAITS: dict[str, Callable[[Any], Any]] = {
    "timer": lambda _: durable.sleep(3600),
    "event": lambda _: durable.wait_for_event("never"),
    "event with timeout": lambda _: durable.wait_for_event("never", timeout=3600),
    "back-off": lambda fails: fails(),
    "submitted back-off": lambda fails: fails.submit().result(),
}


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
@pytest.mark.parametrize("what", WAITS)
def test_a_run_that_waits(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any, what: str) -> None:
    @activity(retry=RetryPolicy(initial_interval=3600, max_interval=3600))
    def fails() -> None:
        raise ConnectionError("not now")

    @workflow
    def w() -> None:
        try:
            WAITS[what](fails)
        except Exception:
            act("taken for a failure")
        finally:
            try:
                act("not shielded")
            finally:
                with durable.shield():
                    act("shielded")
                    durable.sleep(0.001)
                    act("still shielded")

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    waits(runner, handle.id)
    handle.cancel()
    status = handle.wait(10)
    assert (status["status"], status["output"]) == ("cancelled", None)
    assert status["error_message"] == "WorkflowCancelled: the workflow is cancelled"
    assert ran == ["shielded", "still shielded"]
    steps = runner.get_history(handle.id)
    assert [step["status"] for step in steps] == ["cancelled", "completed", "completed", "completed"]
    with pytest.raises(WorkflowFailedError, match="ended as cancelled") as caught:
        handle.result()
    assert caught.value.status == "cancelled"
    assert isinstance(caught.value.__cause__, durable.WorkflowCancelled)
    with pytest.raises(WorkflowStateError):
        handle.cancel()


def test_a_run_that_has_not_begun(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    def w() -> None:
        ran.append("begun")
        act(1)

    runner = orchestrator(memory, start=False)
    handle = runner.start_workflow(w)
    handle.cancel()
    handle.cancel()
    runner.start()
    assert handle.wait(10)["status"] == "cancelled"
    assert ran == []


def test_an_activity_that_runs_goes_on_to_its_end(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    running, go_on = threading.Event(), threading.Event()
    seen: list[bool] = []

    @activity
    def lasting() -> str:
        seen.append(durable.info().cancel_requested)
        running.set()
        go_on.wait(10)
        seen.append(durable.info().cancel_requested)
        return "result"

    @workflow
    def w() -> None:
        lasting()
        lasting()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert running.wait(10)
    handle.cancel()
    go_on.set()
    assert handle.wait(10)["status"] == "cancelled"
    assert seen == [False, True]
    assert [(step["status"], step["output"]) for step in runner.get_history(handle.id)] == [
        ("completed", "result"), ("cancelled", None)
    ]  # fmt: skip


@pytest.mark.parametrize("submitted", [False, True])
def test_an_activity_may_end_early(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, submitted: bool
) -> None:
    running = threading.Event()

    @activity(retry=RetryPolicy(max_attempts=5, initial_interval=0.01))
    def lasting() -> None:
        running.set()
        while True:
            durable.heartbeat()

    @workflow
    def w() -> str:
        try:
            lasting.submit().result() if submitted else lasting()
        except ActivityCancelledError:
            return "taken for a failure"
        return "went on"

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert running.wait(10)
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    (step,) = runner.get_history(handle.id)
    assert (step["status"], step["attempt"]) == ("cancelled", 1)


@pytest.mark.parametrize("ending", ["returns", "raises", "catches in a loop"])
def test_what_a_cancelled_run_ends_with(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, ending: str
) -> None:
    @workflow
    def w() -> str:
        for _ in range(3):
            try:
                durable.sleep(3600)
            except durable.WorkflowCancelled as signal:
                ran.append(signal.reason)
                if ending == "raises":
                    raise ValueError("cleaning up failed") from None
        return "a result"

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    waits(runner, handle.id)
    handle.cancel()
    status = handle.wait(10)
    expected = ("failed", "cleaning up failed") if ending == "raises" else ("cancelled", None)
    assert status["status"] == expected[0]
    assert expected[1] is None or status["error_message"] == expected[1]
    assert status["output"] is None
    assert ran == ["request"] * (1 if ending == "raises" else 3)


def test_a_run_that_ends_before_it_notices_is_done(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    running, go_on = threading.Event(), threading.Event()

    @activity
    def last() -> str:
        running.set()
        go_on.wait(10)
        return "result"

    @workflow
    def w() -> str:
        return last()

    handle = orchestrator(memory).start_workflow(w)
    assert running.wait(10)
    handle.cancel()
    go_on.set()
    assert handle.result(10) == "result"


def family(act: Any) -> Any:
    @workflow
    def grandchild() -> None:
        try:
            durable.wait_for_event("never")
        finally:
            with durable.shield():
                act("grandchild")

    @workflow
    def child() -> None:
        try:
            grandchild()
        finally:
            with durable.shield():
                act("child")

    @workflow
    def parent() -> None:
        try:
            child()
        finally:
            with durable.shield():
                act("parent")

    return parent


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
def test_children_are_cancelled_first(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    runner = orchestrator(database, max_workers=1)
    handle = runner.start_workflow(family(act), workflow_id="p")
    waits(runner, "p-0-0") if wait_until(lambda: database.read_workflow("p-0-0")) else None
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    assert ran == ["grandchild", "child", "parent"]
    assert {status["status"] for status in runner.list_workflows()} == {"cancelled"}


def test_children_that_are_not_waited_for_and_shielded_ones(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def sleeper(name: str) -> str:
        durable.wait_for_event("go")
        return act(name)

    @workflow
    def parent() -> None:
        sleeper.submit("submitted")
        with durable.shield():
            shielded = sleeper.submit("shielded")
        try:
            durable.sleep(3600)
        finally:
            with durable.shield():
                act(f"{shielded.result()} has ended")

    runner = orchestrator(memory)
    handle = runner.start_workflow(parent, workflow_id="p")
    waits(runner, "p")
    wait_until(lambda: memory.read_workflow("p-1"))
    waits(runner, "p-1")
    handle.cancel()
    assert runner.get_handle("p-0").wait(10)["status"] == "cancelled"
    assert runner.get_handle("p-1").status()["status"] == "processing"
    runner.raise_event("p-1", "go")
    assert handle.wait(10)["status"] == "cancelled"
    assert ran == ["shielded", "shielded has ended"]


def test_another_process_is_told(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    running = threading.Event()

    @activity
    def lasting() -> None:
        running.set()
        wait_until(lambda: durable.info().cancel_requested)

    @workflow
    def w() -> None:
        lasting()
        lasting()

    path = tmp_path / "test.db"
    runner = orchestrator(SQLiteDatabaseManager(path), poll_interval_seconds=0.05)
    other = Orchestrator(db_manager=SQLiteDatabaseManager(path))
    handle = runner.start_workflow(w)
    assert running.wait(10)
    other.cancel_workflow(handle.id)
    assert handle.wait(10)["status"] == "cancelled"


def test_a_cancellation_is_no_error_in_the_log(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    def w() -> None:
        durable.sleep(3600)

    caplog.set_level(logging.INFO, logger="py_orchestrate")
    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    waits(runner, handle.id)
    handle.cancel()
    handle.wait(10)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "was cancelled" in caplog.text


def test_a_cancellation_that_races_with_the_end(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act() -> None:
        pass

    @workflow
    def w() -> str:
        act()
        act()
        return "done"

    runner = orchestrator(memory, max_workers=4)
    outcomes: list[tuple[str, bool]] = []

    def cancel(handle: WorkflowHandle) -> None:
        try:
            handle.cancel()
            accepted = True
        except WorkflowStateError:
            accepted = False
        outcomes.append((handle.wait(20)["status"], accepted))

    threads = [threading.Thread(target=cancel, args=[runner.start_workflow(w)]) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 200
    assert {status for status, _ in outcomes} <= {"done", "cancelled"}
    assert ("cancelled", False) not in outcomes


def test_no_attempt_begins_in_a_run_that_is_cancelled(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    """What waits for its next attempt is not going on while its effects are undone; what belongs to that is."""
    clock = FakeClock()
    later = RetryPolicy(max_attempts=3, initial_interval=100, max_interval=100, backoff=1, jitter=0)

    @activity(retry=later)
    def fails_at_first(name: str) -> str:
        ran.append(name)
        if ran.count(name) < 2:
            raise ConnectionError(name)
        return name

    @activity
    def let_time_pass() -> None:
        # Both wait for their next attempt.
        wait_until(lambda: [step["attempt"] for step in runner.get_history("run")][:3:2] == [2, 2])
        clock.advance(100)

    @workflow
    def w() -> str:
        fails_at_first.submit("work")
        try:
            durable.wait_for_event("never")
        except durable.WorkflowCancelled:
            with durable.shield():
                undone = fails_at_first.submit("undo")
                let_time_pass()
                return undone.result()
        raise AssertionError

    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    runner.start_workflow(w, workflow_id="run")
    waits(runner, "run")
    wait_until(lambda: ran == ["work"])
    runner.cancel_workflow("run")
    assert runner.wait_for_workflow("run", 20)["status"] == "cancelled"
    assert ran == ["work", "undo", "undo"]


def test_a_run_that_only_waits_for_another_attempt_is_cancelled(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    """Its code has ended; no attempt begins for a run that is not wanted any more."""

    @activity(retry=RetryPolicy(max_attempts=3, initial_interval=3600, jitter=0))
    def fails() -> None:
        ran.append("fails")
        raise ConnectionError

    @workflow
    def w() -> str:
        fails.submit()
        return "done"

    runner = orchestrator(store)
    runner.start_workflow(w, workflow_id="run")
    waits(runner, "run")
    runner.cancel_workflow("run")
    assert runner.wait_for_workflow("run", 20)["status"] == "cancelled"
    assert ran == ["fails"]
