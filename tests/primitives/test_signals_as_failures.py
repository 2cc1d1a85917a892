"""Activities that fail with what is otherwise a signal: of the interpreter, of asyncio, or of generators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, durable, workflow

from ..breakdown import Breakdown

MakeOrchestrator = Callable[..., Orchestrator]
SIGNALS: dict[str, type[BaseException]] = {
    each.__name__: each
    for each in (
        GeneratorExit,
        asyncio.CancelledError,
        SystemExit,
        KeyboardInterrupt,
        StopIteration,
        StopAsyncIteration,
    )
}


class Activities:
    """The activities; ``undone`` has what was undone."""

    def __init__(self, breakdown: Breakdown) -> None:
        self.undone: list[str] = []

        @activity
        def fails(name: str) -> None:
            raise SIGNALS[name]("mine")

        @activity
        def act(value: Any) -> Any:
            return value

        @activity
        def undo(name: str) -> None:
            self.undone.append(name)

        @activity
        def hangs() -> None:
            breakdown.here()

        self.fails, self.act, self.undo, self.hangs = fails, act, undo, hangs


@pytest.fixture
def acts(breakdown: Breakdown) -> Activities:
    return Activities(breakdown)


def in_coroutine(name: str) -> str:
    return "RuntimeError" if name == "StopIteration" else name  # as Python has it, for coroutines and generators


@pytest.mark.parametrize("name", SIGNALS)
def test_a_workflow_handles_them(
    memory: MemoryDatabaseManager, breakdown: Breakdown, acts: Activities, name: str
) -> None:
    @workflow
    def w() -> list[Any]:
        seen: list[Any] = []
        try:
            with durable.Saga() as saga:
                saga.add(acts.undo, "saga")
                acts.fails(name)
        except BaseException as error:
            seen.append([type(error).__name__, str(error)])
        found = durable.gather(acts.fails.submit(name), acts.act.submit(1), return_exceptions=True)
        seen.append([type(each).__name__ for each in found])
        first = durable.wait_any(acts.fails.submit(name))
        try:
            first.result()
        except BaseException as error:
            seen.append(type(error).__name__)
        acts.act(2)
        acts.hangs()
        return seen

    recovered, undisturbed = breakdown.both(memory, w)
    assert undisturbed["output"] == [[name, "mine"], [name, "int"], name], undisturbed
    assert recovered["output"] == undisturbed["output"]
    assert acts.undone == ["saga"] * 2


@pytest.mark.parametrize("name", SIGNALS)
def test_an_async_workflow_handles_them(
    memory: MemoryDatabaseManager, breakdown: Breakdown, acts: Activities, name: str
) -> None:
    @workflow
    async def w() -> list[Any]:
        seen: list[Any] = []

        async def deeper() -> None:
            try:
                async with durable.Saga() as saga:
                    saga.add(acts.undo, "saga")
                    await acts.fails(name)
            except BaseException as error:
                await acts.act(0)
                seen.append([type(error).__name__, str(error)])

        await deeper()
        found = await durable.gather(acts.fails.submit(name), acts.act.submit(1), return_exceptions=True)
        seen.append([type(each).__name__ for each in found])
        first = await durable.wait_any(acts.fails.submit(name))
        try:
            await first
        except BaseException as error:
            seen.append(type(error).__name__)
        found = await asyncio.gather(acts.fails(name), acts.act(1), return_exceptions=True)
        seen.append([type(each).__name__ for each in found])
        await acts.act(2)
        await acts.hangs()
        return seen

    recovered, undisturbed = breakdown.both(memory, w)
    caught = in_coroutine(name)
    message = "generator raised StopIteration" if name == "StopIteration" else "mine"
    assert undisturbed["output"] == [[caught, message], [caught, "int"], caught, [caught, "int"]], undisturbed
    assert recovered["output"] == undisturbed["output"]
    assert acts.undone == ["saga"] * 2


@pytest.mark.parametrize("name", SIGNALS)
def test_one_that_nobody_handles_fails_the_run_and_undoes_it(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, acts: Activities, name: str
) -> None:
    @workflow
    async def w() -> None:
        async def other() -> None:
            async with durable.Saga() as saga:
                saga.add(acts.undo, "other")
                await durable.wait_for_event("never")

        other_task = asyncio.create_task(other())
        async with durable.Saga() as saga:
            saga.add(acts.undo, "main")
            await durable.sleep(0.01)
            await acts.fails(name)
        await other_task

    status = orchestrator(memory).start_workflow(w).wait(10)
    assert status["status"] == "failed"
    assert status["error_message"].endswith(
        "mine" if name != "StopIteration" else "generator raised StopIteration"
    ), status
    assert acts.undone == ["main", "other"]


def test_leaving_a_worker_undoes_nothing(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, acts: Activities
) -> None:
    """The coroutines are closed then, with a ``GeneratorExit`` that is a signal."""

    @workflow
    async def w() -> Any:
        try:
            await acts.fails("GeneratorExit")
        except GeneratorExit:
            async with durable.Saga() as saga:
                saga.add(acts.undo, "saga")
                return await asyncio.gather(durable.wait_for_event("go"), durable.wait_for_event("go"))

    handle = orchestrator(memory, max_workers=1).start_workflow(w)
    handle.raise_event("go", 1)
    handle.raise_event("go", 2)
    assert handle.result(10) == [1, 2]
    assert acts.undone == []
