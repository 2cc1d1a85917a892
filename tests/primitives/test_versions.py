"""Versions of code, and saved histories that are checked against the code of today."""

from __future__ import annotations

import asyncio
import json
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
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import (
    DurableCallError,
    NonDeterminismError,
    SerializationError,
    WorkflowFailedError,
    WorkflowNotFoundError,
)
from py_orchestrate.testing import check_replay
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_run_keeps_the_version_that_it_began_with(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    def code() -> list[Any]:
        before = durable.info().version
        return [before, durable.wait_for_event("go"), durable.info().version]

    flow = workflow("w", version="1")(code)
    runner = orchestrator(store)
    old = runner.start_workflow(flow)
    wait_until(lambda: runner.get_history(old.id))
    get_registry().workflows.clear()
    new = runner.start_workflow(workflow("w", version="2")(code))
    none = runner.start_workflow(workflow("other")(code))
    for handle in (old, new, none):
        handle.raise_event("go", 1)
    assert [handle.result(10) for handle in (old, new, none)] == [["1", 1, "1"], ["2", 1, "2"], [None, 1, None]]
    listed = {version: [run["id"] for run in runner.list_workflows(version=version)] for version in ("1", "2", "3")}
    assert listed == {"1": [old.id], "2": [new.id], "3": []}
    assert len(runner.list_workflows()) == 3
    assert [run["id"] for run in runner.list_workflows(version="2", name="w", status="done", limit=1)] == [new.id]


def test_a_child_has_its_own_version_and_a_new_beginning_the_newest(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow(version="child 7")
    def child() -> str | None:
        return durable.info().version

    def code(n: int) -> list[Any]:
        seen = [child(), durable.info().version]
        if n == 0:
            get_registry().workflows.pop("w")
            workflow("w", version="b")(code)
            durable.continue_as_new(1)
        return seen

    runner = orchestrator(memory)
    handle = runner.start_workflow(workflow("w", version="a")(code), 0)
    assert handle.result(10) == ["child 7", "b"]
    assert [run["id"] for run in runner.list_workflows(version="b")] == [handle.id]


def test_the_version_of_an_activity_is_in_the_history(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity(version="2026-11")
    def new(n: int) -> int:
        return n

    @activity
    def plain(n: int) -> int:
        return n

    @activity(version="retried", retry=RetryPolicy(max_attempts=1))
    def fails() -> None:
        raise ValueError("no")

    @workflow
    def w() -> None:
        new(1)
        plain.submit(2).result()
        new.submit(3).result()
        with pytest.raises(ValueError, match="no"):
            fails()

    runner = orchestrator(store)
    handle = runner.start_workflow(w)
    handle.result(10)
    assert [step["version"] for step in runner.get_history(handle.id)] == ["2026-11", None, "2026-11", "retried"]


@pytest.mark.parametrize("decorate", [activity, workflow])
@pytest.mark.parametrize(
    ("version", "error"), [(1, TypeError), (1.5, TypeError), ("", ValueError), (" ", ValueError)], ids=repr
)
def test_what_is_no_version_is_refused(decorate: Any, version: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="version"):
        decorate("name", version=version)(lambda: None)
    assert (get_registry().activities, get_registry().workflows) == ({}, {})


# --- checking a saved history -----------------------------------------------------------------------------------------


@pytest.fixture
def order(act: Any) -> Any:
    @workflow
    def child(n: int) -> int:
        found: int = act(n)
        return found

    @activity
    def fails() -> None:
        raise ValueError("mine")

    @workflow
    def order(n: int) -> Any:
        began = durable.now()
        seen = [act(i) for i in range(n)]
        seen += act.map([10, 11])
        durable.sleep(0.001)
        seen.append(durable.wait_for_event("go"))
        seen.append(child(5))
        try:
            fails()
        except ValueError as error:
            seen.append(str(error))
        seen.append(durable.wait_any(act.submit("a"), durable.create_timer(3600)).result())
        if durable.patched("a change"):
            seen.append(durable.now() >= began)
        with durable.Saga() as saga:
            saga.add(act, "undo")
        return seen

    return order


@pytest.fixture
def saved(order: Any, store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> str:
    runner = orchestrator(store)
    handle = runner.start_workflow(order, 2)
    handle.raise_event("go", "heard")
    handle.result(10)
    return json.dumps(runner.export_history(handle.id))


def test_the_code_that_ran_fits_its_history(order: Any, saved: str, act: Any) -> None:
    ran: list[Any] = []
    get_registry().activities["act"] = ran.append
    check_replay(order, saved)
    check_replay(order.fn, json.loads(saved))
    assert ran == []


def test_a_history_of_a_run_under_way_fits(
    order: Any, memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    runner = orchestrator(memory)
    handle = runner.start_workflow(order, 2)
    wait_until(lambda: any(step["status"] == "waiting" for step in runner.get_history(handle.id)))
    history = runner.export_history(handle.id)
    check_replay(order, history)
    empty = {**history, "steps": []}
    check_replay(order, empty)
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    check_replay(order, runner.export_history(handle.id))


def test_code_that_goes_on_fits(saved: str, order: Any, act: Any) -> None:
    def longer(n: int) -> None:
        order.fn(n)
        durable.sleep(3600)
        act("more")
        raise AssertionError("it must not come here")

    check_replay(longer, saved)


def changed(order: Any) -> dict[str, Callable[[int], Any]]:
    def one_call_less(n: int) -> Any:
        return order.fn(n - 1)

    def another_activity(n: int) -> None:
        durable.now()
        durable.call_activity("other", n)

    def another_kind(n: int) -> None:
        durable.now()
        durable.sleep(n)

    def nothing(n: int) -> int:
        return n

    def fails_early(n: int) -> None:
        durable.now()
        raise KeyError(n)

    return {each.__name__: each for each in (one_call_less, another_activity, another_kind, nothing, fails_early)}


@pytest.mark.parametrize(
    ("change", "step"),
    [("one_call_less", 4), ("another_activity", 1), ("another_kind", 1), ("nothing", 0), ("fails_early", 1)],
)
def test_changed_code_does_not_fit(
    saved: str, order: Any, change: str, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with pytest.raises(NonDeterminismError, match=f"step {step}") as caught:
        check_replay(changed(order)[change], saved)
    assert caught.value.sequence == step
    assert caplog.records == []


def test_code_that_fails_where_the_run_did_not_is_told(saved: str, order: Any) -> None:
    def fails_late(n: int) -> None:
        order.fn(n)
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"):
        check_replay(fails_late, saved)


def test_a_failed_run_fits_code_that_fails(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def w() -> None:
        act(1)
        raise ValueError("as ever")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.wait(10)["status"] == "failed"
    check_replay(w, runner.export_history(handle.id))
    check_replay(lambda: act(1), runner.export_history(handle.id))  # a mended one


def test_async_code_is_checked_too(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    async def w() -> list[int]:
        found = await asyncio.gather(*(act(n) for n in range(3)))
        await asyncio.sleep(0.001)
        return [*found, await act(3)]

    async def other() -> None:
        await act(0)
        await durable.sleep(1)

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == [0, 1, 2, 3]
    history = runner.export_history(handle.id)
    check_replay(w, history)
    with pytest.raises(NonDeterminismError):
        check_replay(other, history)


def test_a_value_that_cannot_be_read_any_more_is_told(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def w() -> None:
        act({1, 2})

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    handle.result(10)
    history = runner.export_history(handle.id)
    history["steps"][0]["output"] = '{"$py":"gone"}'
    with pytest.raises(SerializationError):
        check_replay(w, history)


def test_nothing_is_changed_or_waited_for(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    clock = FakeClock()

    @workflow
    def w() -> None:
        durable.sleep(3600)
        act(1)

    runner = orchestrator(memory, clock=clock)
    handle = runner.start_workflow(w)
    wait_until(lambda: runner.get_history(handle.id))
    before = runner.export_history(handle.id)
    registered = dict(get_registry().workflows)
    check_replay(lambda: durable.sleep(1), before)
    assert runner.export_history(handle.id) == before
    assert get_registry().workflows == registered


@pytest.mark.parametrize("history", [{}, {"format": "other"}, "[]", '"text"', "5", {"format": None}], ids=repr)
def test_what_is_no_history_is_refused(order: Any, history: Any) -> None:
    with pytest.raises(ValueError, match="the history is none that this version reads"):
        check_replay(order, history)


def test_what_is_no_workflow_is_refused(saved: str) -> None:
    with pytest.raises(TypeError, match="check_replay takes a workflow or its function, not str"):
        check_replay("order", saved)  # type: ignore[arg-type]


def test_exporting_a_run_that_is_not_there(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    with pytest.raises(WorkflowNotFoundError, match="nobody"):
        orchestrator(memory).export_history("nobody")


# --- what else changes ------------------------------------------------------------------------------------------------


def test_a_used_change_id_is_refused(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> None:
        durable.patched("tax")
        durable.patched("tax")

    with pytest.raises(WorkflowFailedError) as caught:
        orchestrator(memory).start_workflow(w).result(10)
    assert isinstance(caught.value.__cause__, DurableCallError)
    assert "the change id 'tax' is used at" in str(caught.value)


def test_a_second_new_beginning_is_none(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    """The first one counts; code that catches what it is left with does nothing any more."""

    @workflow
    def w(n: int) -> int:
        try:
            if n == 0:
                durable.continue_as_new(1)
        finally:
            if n == 0:
                durable.continue_as_new(2)
        return n

    assert orchestrator(memory).start_workflow(w, 0).result(10) == 1
