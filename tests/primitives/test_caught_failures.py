"""A failure that the workflow has caught and gone on from: it stays a failure, however often the run comes back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    WorkflowHandle,
    activity,
    durable,
    workflow,
)
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def effects() -> Iterator[None]:
    yield
    ran.clear()


@pytest.fixture
def once() -> Any:
    """Return an activity that fails the first time and would succeed from then on."""

    @activity
    def once(name: str) -> str:
        ran[name] += 1
        if ran[name] == 1:
            raise ValueError(name)
        return f"{name} after all"

    return once


def said(call: Callable[..., Any], *args: Any) -> str:
    """Return what a call came to, as a workflow does that goes on from a failure."""
    try:
        return str(call(*args))
    except ValueError as error:
        return f"no {error}"


def waits(database: BaseDatabaseManager, handle: WorkflowHandle, name: str = "event:go") -> None:
    """Wait until the run has left its worker for a signal."""
    wait_until(lambda: (record := database.read_workflow(handle.id)) and record.waiting_for == name)


def test_over_a_wait_for_something_that_began_before_it(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, once: Any
) -> None:
    @workflow
    def child(name: str) -> Any:
        return durable.wait_for_event(name)

    @workflow
    def w() -> list[Any]:
        event, kid, timer = durable.expect_event("go"), child.submit("go"), durable.create_timer(0.01)
        seen = [said(once, "called"), said(once.submit("submitted").result)]
        return [*seen, event.result(), kid.result(), timer.result()]

    handle = orchestrator(store).start_workflow(w)
    waits(store, handle)
    handle.raise_event("go", 1)
    handle._orchestrator.raise_event(f"{handle.id}-1", "go", 2)
    assert handle.result(10) == ["no called", "no submitted", 1, 2, None]
    assert ran == {"called": 1, "submitted": 1}


def test_one_that_is_not_looked_at_before_the_wait(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, once: Any
) -> None:
    @workflow
    def w() -> list[Any]:
        events = [durable.expect_event(name) for name in ("first", "second")]
        return [str(each) for each in durable.gather(*events, once.submit("bad"), return_exceptions=True)]

    handle = orchestrator(store).start_workflow(w)
    for name in ("first", "second"):
        waits(store, handle, f"event:{name}")
        handle.raise_event(name, name)
    assert handle.result(10) == ["first", "second", "bad"]
    assert ran == {"bad": 1}


def test_over_another_attempt_of_what_was_submitted_before_it(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, once: Any
) -> None:
    clock = FakeClock()

    @activity(retry=RetryPolicy(max_attempts=2, initial_interval=60, jitter=0))
    def flaky() -> int:
        if durable.info().attempt < 2:
            raise OSError
        return 2

    @workflow
    def w() -> list[Any]:
        later = flaky.submit()
        return [said(once, "called"), later.result()]

    handle = orchestrator(store, clock=clock, poll_interval_seconds=0.01).start_workflow(w)
    wait_until(lambda: (record := store.read_workflow(handle.id)) and record.wake_at)
    clock.advance(60)
    assert handle.result(10) == ["no called", 2]
    assert ran == {"called": 1}


class Held(NamedTuple):
    """A workflow whose activity has begun, and fails when it may go on."""

    workflow: Any
    began: threading.Event
    go_on: threading.Event


@pytest.fixture
def held(act: Any) -> Held:
    began, go_on = threading.Event(), threading.Event()

    @activity
    def slow() -> None:
        ran["slow"] += 1
        began.set()
        assert go_on.wait(10)
        if ran["slow"] == 1:
            raise ValueError("slow")

    @workflow
    def w() -> list[Any]:
        return [said(slow), act(1)]

    return Held(w, began, go_on)


def test_over_a_pause(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, held: Held) -> None:
    handle = orchestrator(store).start_workflow(held.workflow)
    assert held.began.wait(10)
    handle.pause()
    held.go_on.set()
    wait_until(lambda: (record := store.read_workflow(handle.id)) and record.owner is None)
    handle.resume()
    assert handle.result(10) == ["no slow", 1]
    assert ran == {"slow": 1}


def test_over_a_stop(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, held: Held) -> None:
    first = orchestrator(store)
    handle = first.start_workflow(held.workflow)
    assert held.began.wait(10)
    assert not first.stop(timeout=0)
    held.go_on.set()
    wait_until(lambda: (record := store.read_workflow(handle.id)) and record.owner is None)
    assert orchestrator(store).wait_for_workflow(handle.id, 10)["output"] == ["no slow", 1]
    assert ran == {"slow": 1}


def test_in_an_async_workflow(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, once: Any) -> None:
    @workflow
    async def w() -> list[Any]:
        event = durable.expect_event("go")
        try:
            found = await once("awaited")
        except ValueError as error:
            found = f"no {error}"
        return [found, await event]

    handle = orchestrator(store).start_workflow(w)
    waits(store, handle)
    handle.raise_event("go", 1)
    assert handle.result(10) == ["no awaited", 1]
    assert ran == {"awaited": 1}


def test_the_history_says_what_it_said(
    orchestrator: MakeOrchestrator, memory: MemoryDatabaseManager, once: Any
) -> None:
    @workflow
    def w() -> Any:
        event = durable.expect_event("go")
        said(once, "called")
        return event.result()

    handle = orchestrator(memory).start_workflow(w)
    waits(memory, handle)
    step = handle._orchestrator.get_history(handle.id)[1]
    assert (step["status"], step["attempt"], step["error_message"]) == ("failed", 1, "called")
    handle.raise_event("go")
    handle.result(10)
    assert handle._orchestrator.get_history(handle.id)[1] == step
