"""Exceptions: the workflow catches the same class with the same content, in the first run as in a replay."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import WorkflowFailedError

from ..breakdown import Breakdown
from .failures import ACTIVITY_ERROR, FAILURES, LESS, SAME, describe

MakeOrchestrator = Callable[..., Orchestrator]


def catching(stop: Callable[[], None], call: Callable[[Any, str], Any]) -> Any:
    """Return a workflow that describes what it catches, goes on, and breaks down."""

    @activity
    def go_on() -> None:
        pass  # with this recorded after it, a failure is replayed; one at the very end would be tried again

    @activity
    def fail(which: str) -> None:
        raise FAILURES[which]()  # noqa: RSE102 - it makes the exception

    @workflow
    def w(whiches: list[str]) -> list[Any]:
        seen: list[Any] = []
        for which in whiches:
            try:
                seen.append(call(fail, which))
            except BaseException as error:
                seen.append(describe(error))
        go_on()
        stop()
        return seen

    return w


CALLS: dict[str, Callable[[Any, str], Any]] = {
    "call": lambda fail, which: fail(which),
    "submit": lambda fail, which: fail.submit(which).result(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("which", SAME)
def test_what_is_caught_is_what_was_raised(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], which: str, call: str
) -> None:
    recovered, undisturbed = breakdown.both(memory, catching(stop, CALLS[call]), [which])
    expected = describe(SAME[which]())
    assert undisturbed["output"] == [expected]
    assert recovered["output"] == [expected]


@pytest.mark.parametrize("which", LESS)
def test_what_cannot_come_back_whole_comes_back_the_same_each_time(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], which: str
) -> None:
    recovered, undisturbed = breakdown.both(memory, catching(stop, CALLS["call"]), [which])
    assert recovered["output"] == undisturbed["output"]
    ((class_name, text, *_),) = recovered["output"]
    assert class_name == LESS[which][1]
    assert text or class_name != ACTIVITY_ERROR


def test_every_store_keeps_every_failure(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    recovered = breakdown.recover(database, catching(stop, CALLS["call"]), list(SAME)).result(30)
    assert dict(zip(SAME, recovered, strict=True)) == {which: describe(make()) for which, make in SAME.items()}


def test_a_run_that_fails_with_it_can_be_looked_at(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def fail(which: str) -> None:
        raise FAILURES[which]()  # noqa: RSE102 - it makes the exception

    @workflow
    def unhandled(which: str) -> None:
        fail(which)

    @workflow
    def raises(which: str) -> None:
        raise FAILURES[which]()  # noqa: RSE102 - it makes the exception

    @workflow
    def healthy() -> str:
        return "healthy"

    runner = orchestrator(database, max_workers=1)
    tried = list(FAILURES) if "leases" in database.capabilities else list(FAILURES)[::5]  # JSON files take long
    for which, code in itertools.product(tried, (unhandled, raises)):
        handle = runner.start_workflow(code, which)
        status = handle.wait(10)
        assert (status["status"], status["output"]) == ("failed", None)
        assert status["error_message"]
        assert runner.get_workflow_status(handle.id) == status
        with pytest.raises(WorkflowFailedError) as caught:
            handle.result()
        assert caught.value.message == status["error_message"]
        assert caught.value.__cause__ is not None
        assert str(caught.value)
        steps = runner.get_history(handle.id)
        assert [step["status"] for step in steps] == ["failed"] * (code is unhandled)
        cls = type(FAILURES[which]())
        for step in steps:
            assert (step["output"], step["error_type"]) == (None, f"{cls.__module__}:{cls.__qualname__}")
    assert runner.start_workflow(healthy).result(10) == "healthy"
    assert len(runner.list_workflows()) == 2 * len(tried) + 1


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("plain", "no stock"),
        ("no text", "ValueError"),
        ("KeyError", "'missing'"),
        ("SystemExit of a number", "SystemExit: 3"),
        ("SystemExit of nothing", "SystemExit"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("CancelledError", "CancelledError: gone"),
        ("GeneratorExit", "GeneratorExit"),
        ("NUL", "a\\x00b"),
        ("lone surrogate", "a\\ud83db"),
        ("own __init__", "503: busy"),
        ("unstrable", "<unprintable Unstrable>"),
        ("class of a function", "of a function"),
    ],
)
def test_the_message_of_a_failed_run(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, which: str, text: str
) -> None:
    @activity
    def fail() -> None:
        raise FAILURES[which]()  # noqa: RSE102 - it makes the exception

    @workflow
    def w() -> None:
        fail()

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert handle.wait(10)["error_message"] == text
    assert handle.status()["current_activity"] == "fail"
    (step,) = runner.get_history(handle.id)
    assert step["error_message"] == text
    assert "raise FAILURES[which]" in step["traceback"]


# --- not every exception is an Exception ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["SystemExit of a number", "KeyboardInterrupt", "CancelledError", "GeneratorExit"])
@pytest.mark.parametrize("call", CALLS)
def test_except_exception_does_not_catch_what_is_none(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], which: str, call: str
) -> None:
    @activity
    def fail(which: str) -> None:
        raise FAILURES[which]()  # noqa: RSE102 - it makes the exception

    @workflow
    def w() -> str:
        try:
            CALLS[call](fail, which)
        except Exception:
            return "swallowed"
        finally:
            stop()
        return "went on"

    recovered, undisturbed = breakdown.both(memory, w)
    assert recovered["status"] == undisturbed["status"] == "failed"
    assert recovered["error_message"] == undisturbed["error_message"]
    assert recovered["error_message"].startswith(which.split(maxsplit=1)[0])


def test_an_exit_in_a_fan_out_waits_for_the_others(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    ended: list[int] = []
    exited = threading.Event()

    @activity
    def act(n: int) -> int:
        if n == 0:
            exited.set()
            sys.exit(3)
        assert exited.wait(10)
        ended.append(n)
        return n

    @workflow
    def w() -> list[Any]:
        try:
            act.map(range(3))
        except SystemExit as error:
            return [error.code, sorted(ended)]
        return []

    assert orchestrator(memory).start_workflow(w).result(10) == [3, [1, 2]]


def test_gather_returns_exits_among_the_results_when_asked(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def act(n: int) -> int:
        return n or sys.exit(3)

    @workflow
    def w() -> list[str]:
        return [repr(each) for each in durable.gather(*map(act.submit, (1, 0, 2)), return_exceptions=True)]

    assert orchestrator(memory).start_workflow(w).result(10) == ["1", "SystemExit(3)", "2"]


# --- async activities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", SAME)
def test_an_async_activity_fails_like_any_other(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, which: str
) -> None:
    @activity
    async def fail() -> None:
        await asyncio.sleep(0)
        raise FAILURES[which]()  # noqa: RSE102 - it makes the exception

    @activity
    async def work() -> str:
        await asyncio.sleep(0)
        return "the loop still runs"

    @workflow
    def w() -> list[Any]:
        try:
            fail()
        except BaseException as error:
            return [describe(error), work()]
        return []

    raised, after = orchestrator(memory).start_workflow(w).result(10)
    assert after == "the loop still runs"
    if which == "StopIteration":  # Python's own: a coroutine cannot raise it
        assert raised[:2] == ["builtins:RuntimeError", "coroutine raised StopIteration"]
    elif which == "StopAsyncIteration":
        assert raised[0] in ("builtins:RuntimeError", "builtins:StopAsyncIteration")
    else:
        assert raised == describe(SAME[which]())


def test_a_task_group_is_caught_by_its_members(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    async def part(n: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(f"part {n}") if n else KeyError("zero")

    @activity
    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(part(n))

    @workflow
    def w() -> list[str]:
        seen = []
        try:
            fail()
        except* ValueError as group:
            seen += [str(error) for error in group.exceptions]
        except* KeyError as group:
            seen += [str(error) for error in group.exceptions]
        stop()
        return seen

    recovered, undisturbed = breakdown.both(memory, w)
    assert recovered["output"] == undisturbed["output"] == ["part 1", "part 2", "'zero'"]
