"""Async programs that wait for runs: ``await handle``, ``handle.result_async`` and ``Orchestrator.wait_async``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    SQLiteDatabaseManager,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import InvalidWorkflowIdError, WorkflowFailedError, WorkflowNotFoundError

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def listen() -> Any:
    @workflow
    def listen(name: str = "go") -> Any:
        found = durable.wait_for_event(name)
        if found == "bad":
            raise ValueError(found)
        return found

    return listen


def test_a_handle_is_awaited_like_its_result(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act(n: int) -> int:
        return n

    @workflow
    def w(n: int) -> tuple[int, ...]:
        return (act(n),)

    runner = orchestrator(database)

    async def program() -> list[Any]:
        handles = [runner.start_workflow(w, n) for n in range(5)]
        seen = [await handles[0], await handles[1].result_async(timeout=10)]
        seen += await asyncio.gather(*handles[2:])
        status = await runner.wait_async(handles[0].id, timeout=10)
        return [*seen, status["status"], status["output"], await handles[0]]

    assert asyncio.run(program()) == [(0,), (1,), (2,), (3,), (4,), "done", (0,), (0,)]


def test_the_loop_goes_on_while_a_run_is_awaited(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listen: Any
) -> None:
    runner = orchestrator(memory)

    async def program() -> list[Any]:
        handles = [runner.start_workflow(listen) for _ in range(50)]
        waits = [asyncio.ensure_future(handle.result_async()) for handle in handles]
        for _ in range(100):
            await asyncio.sleep(0)  # they all wait, and so does nobody else
        assert not any(wait.done() for wait in waits)
        for n, handle in enumerate(handles):
            handle.raise_event("go", n)
        return list(await asyncio.gather(*waits))

    assert asyncio.run(program()) == list(range(50))
    assert runner._engine._waiters._waiters == {}


def test_what_a_run_failed_with_is_raised(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listen: Any
) -> None:
    runner = orchestrator(memory)

    async def program() -> dict[str, Any]:
        handle = runner.start_workflow(listen)
        handle.raise_event("go", "bad")
        with pytest.raises(WorkflowFailedError) as caught:
            await handle
        assert isinstance(caught.value.__cause__, ValueError)
        return await runner.wait_async(handle.id)

    assert asyncio.run(program())["error_message"] == "bad"


def test_a_wait_that_takes_too_long(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    may_end = threading.Event()

    def slow() -> str:
        assert may_end.wait(20)
        return "ended"

    runner = orchestrator(database)
    handle = runner.start_workflow(workflow("w")(slow))

    async def program() -> str:
        for wait in (handle.result_async, lambda timeout: runner.wait_async(handle.id, timeout)):
            for timeout in (0, 0.03):
                with pytest.raises(TimeoutError, match=rf"{handle.id} .w. has not ended within {timeout} s"):
                    await wait(timeout)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.result_async(), 0.03)
        may_end.set()
        found: str = await handle
        return found

    assert asyncio.run(program()) == "ended"
    assert runner._engine._waiters._waiters == {}


def test_a_run_of_another_orchestrator_is_awaited(tmp_path: Path, orchestrator: MakeOrchestrator, listen: Any) -> None:
    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "one.db"), poll_interval_seconds=0.01)
    watcher = orchestrator(SQLiteDatabaseManager(tmp_path / "one.db"), start=False)  # as in another process
    handle = runner.start_workflow(listen)

    async def program() -> Any:
        waits = asyncio.ensure_future(watcher.get_handle(handle.id).result_async(timeout=10))
        await asyncio.sleep(0)
        handle.raise_event("go", "heard")
        return await waits

    assert asyncio.run(program()) == "heard"


def test_a_run_may_end_on_any_loop(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listen: Any) -> None:
    """Two loops in two threads wait for one run; a third one was closed while it waited."""
    runner = orchestrator(memory)
    handle = runner.start_workflow(listen)
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(handle.result_async())
    loop.run_until_complete(asyncio.sleep(0))
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(abandoned)
    loop.close()
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(handle.result_async(timeout=10)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    handle.raise_event("go", "heard")
    for thread in threads:
        thread.join(10)
    assert results == ["heard", "heard"]


def test_mistakes(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(memory)
    with pytest.raises(WorkflowNotFoundError, match="nobody"):
        asyncio.run(runner.wait_async("nobody"))
    with pytest.raises(InvalidWorkflowIdError):
        asyncio.run(runner.wait_async(""))


def test_an_async_activity_waits_for_another_run(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listen: Any
) -> None:
    runner = orchestrator(memory)

    @activity
    async def ask() -> Any:
        handle = runner.start_workflow(listen, workflow_id="other")
        handle.raise_event("go", "an answer")
        return await handle

    @workflow
    def w() -> Any:
        return ask()

    assert runner.start_workflow(w).result(10) == "an answer"
