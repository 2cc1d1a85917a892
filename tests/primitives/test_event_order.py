"""Events: none is lost, none is taken twice, and those of one name come in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import EventTimeoutError, WorkflowStateError
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


def is_waiting(runner: Orchestrator, workflow_id: str) -> bool:
    found = runner.db.read_workflow(workflow_id)
    return found is not None and found.waiting_for is not None


@pytest.mark.parametrize("database", ["memory", "sqlite", "sqlite-memory"], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
def test_events_before_and_after_the_wait(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, when: str
) -> None:
    @workflow
    def w() -> list[Any]:
        return [durable.wait_for_event(name) for name in ("a", "b", "a", "a")]

    runner = orchestrator(database, start=when == "after")
    handle = runner.start_workflow(w)
    if when == "after":
        wait_until(lambda: is_waiting(runner, handle.id))
    for name, payload in [("a", None), ("a", (1, 2)), ("unrelated", 0), ("b", False), ("a", {"n": 1})]:
        handle.raise_event(name, payload)
    if when == "before":
        runner.start()
    assert handle.result(10) == [None, False, (1, 2), {"n": 1}]


def test_many_senders(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    senders, each = 8, 25

    @workflow
    def w() -> list[tuple[int, int]]:
        return [durable.wait_for_event("n") for _ in range(senders * each)]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    barrier = threading.Barrier(senders)

    def send(sender: int) -> None:
        barrier.wait()
        for n in range(each):
            handle.raise_event("n", (sender, n))

    threads = [threading.Thread(target=send, args=[sender]) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    taken = handle.result(30)
    assert sorted(taken) == [(sender, n) for sender in range(senders) for n in range(each)]
    for sender in range(senders):
        assert [n for who, n in taken if who == sender] == list(range(each))


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
def test_an_event_at_the_moment_of_the_wait(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> Any:
        return durable.wait_for_event("go")

    runner = orchestrator(database, max_workers=4)
    handles = []
    for n in range(200):
        handle = runner.start_workflow(w)
        handle.raise_event("go", n)  # the run is just beginning, looking, or leaving its worker
        handles.append(handle)
    assert [handle.result(20) for handle in handles] == list(range(200))


def test_a_timeout_goes_by_when_an_event_was_sent(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def w() -> list[Any]:
        seen: list[Any] = []
        for _ in range(3):
            try:
                seen.append(durable.wait_for_event("go", timeout=60))
            except EventTimeoutError as error:
                seen.append(str(error))
        return seen

    clock = FakeClock()
    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    wait_until(lambda: is_waiting(runner, handle.id))
    runner.stop()
    clock.advance(60)
    handle.raise_event("go", "sent in time, looked at late")
    clock.advance(3600)
    runner.start()
    wait_until(lambda: is_waiting(runner, handle.id))
    runner.stop()
    clock.advance(60.000001)
    handle.raise_event("go", "too late for the second")
    runner.start()
    assert handle.result(10) == [
        "sent in time, looked at late", "no event 'go' was sent within 60.0 s", "too late for the second"
    ]  # fmt: skip


@pytest.mark.parametrize("timeout", [0, 0.0])
def test_a_timeout_of_nothing_only_looks(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, timeout: float
) -> None:
    @workflow
    def w() -> list[Any]:
        first = durable.wait_for_event("there", timeout=timeout)
        with pytest.raises(TimeoutError):
            durable.wait_for_event("not there", timeout=timeout)
        return [first]

    runner = orchestrator(memory, start=False)
    handle = runner.start_workflow(w)
    handle.raise_event("there", 5)
    runner.start()
    assert handle.result(10) == [5]


def test_an_event_with_an_id_is_sent_once(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> list[Any]:
        return [durable.wait_for_event("go"), durable.wait_for_event("go")]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    for n in range(3):
        handle.raise_event("go", n, event_id="same")
    handle.raise_event("go", "second", event_id="other")
    assert handle.result(10) == [0, "second"]
    handle.raise_event("go", "again", event_id="same")
    with pytest.raises(WorkflowStateError, match="is done: an event 'go' cannot reach it"):
        handle.raise_event("go", "new", event_id="new")
    assert [event.payload for event in memory.load_events(handle.id)] == ["0", '"second"']


def test_a_workflow_sends_once_however_often_it_is_replayed(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def receiver() -> list[Any]:
        return [durable.wait_for_event("from a workflow"), durable.wait_for_event("end")]

    @workflow
    def sender(target: str) -> None:
        runner.raise_event(target, "from a workflow", "hello")
        for _ in range(3):
            durable.sleep(0.001)

    @workflow
    def by_activity(target: str) -> None:
        tell(target)

    @activity
    def tell(target: str) -> None:
        runner.raise_event(target, "end", "bye", event_id=durable.info().idempotency_key.replace(":", "-"))

    runner = orchestrator(memory)
    target = runner.start_workflow(receiver)
    runner.start_workflow(sender, target.id).result(10)
    assert len(memory.load_events(target.id)) == 1
    runner.start_workflow(by_activity, target.id).result(10)
    assert target.result(10) == ["hello", "bye"]
