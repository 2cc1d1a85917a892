"""A run leaves its worker in the middle of its code: whatever the code does with the signal, nothing comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, durable, workflow

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]

ran: list[Any] = []
passed: list[str] = []


@pytest.fixture(autouse=True)
def effects() -> None:
    ran.clear()
    passed.clear()


@activity("sealed_act")
def act(value: Any) -> Any:
    ran.append(value)
    return value


@contextlib.contextmanager
def resource() -> Iterator[None]:
    passed.append("opened")
    try:
        yield
    finally:
        passed.append("closed")


@contextlib.contextmanager
def durable_resource() -> Iterator[None]:
    act("opened")
    try:
        yield
    finally:
        durable.sleep(0.01)
        act("closed")


def in_finally() -> Any:
    try:
        return act("a")
    finally:
        durable.sleep(0.01)
        act("b")


def in_finally_after_a_failure() -> Any:
    try:
        try:
            raise ValueError("x")
        finally:
            durable.sleep(0.01)
            act("b")
    except ValueError as error:
        return f"{error} {act('c')}"


def in_with() -> Any:
    with resource(), durable_resource():
        durable.sleep(0.01)
        return act("a")


def in_bare_except() -> Any:
    try:
        durable.sleep(0.01)
        act("a")
    except:  # noqa: E722 - what is tested
        act("never, for it was no failure")
        return "wrong"
    return "right"


def swallowed() -> Any:
    for n in range(3):
        with contextlib.suppress(BaseException):
            durable.sleep(0.01)
            act(n)
    return "right"


def swallowed_and_answered() -> Any:
    try:
        return durable.wait_for_event("go")
    except BaseException:
        return "wrong"


def raises_another() -> Any:
    try:
        durable.sleep(0.01)
    except BaseException as signal:
        raise RuntimeError("wrong") from signal
    return act("a")


def returns_from_finally() -> Any:
    found = "wrong"
    try:
        durable.sleep(0.01)
        found = act("right")
    finally:
        return found  # noqa: B012 - what is tested


def in_a_generator() -> Any:
    def numbers() -> Iterator[int]:
        for n in range(3):
            try:
                durable.sleep(0.01)
                yield act(n)
            finally:
                passed.append(f"left {n}")

    return list(numbers())


def on_an_exit_stack() -> Any:
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: act("last"))
        stack.callback(lambda: durable.sleep(0.01))
        stack.enter_context(resource())
        return act("first")


CODES: dict[str, tuple[Callable[[], Any], Any, list[Any]]] = {
    "finally": (in_finally, "a", ["a", "b"]),
    "finally after a failure": (in_finally_after_a_failure, "x c", ["b", "c"]),
    "with": (in_with, "a", ["opened", "a", "closed"]),
    "bare except": (in_bare_except, "right", ["a"]),
    "swallowed": (swallowed, "right", [0, 1, 2]),
    "swallowed and answered": (swallowed_and_answered, "sent", []),
    "another exception": (raises_another, "a", ["a"]),
    "return in finally": (returns_from_finally, "right", ["right"]),
    "generator": (in_a_generator, [0, 1, 2], [0, 1, 2]),
    "exit stack": (on_an_exit_stack, "first", ["first", "last"]),
}


@pytest.mark.parametrize("what", CODES)
def test_leaving_a_worker_leaves_no_trace(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, what: str
) -> None:
    code, expected, effects = CODES[what]
    activity(act.name)(act.fn)

    @workflow
    def w() -> Any:
        return code()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    if what == "swallowed and answered":
        wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.waiting_for)
        handle.raise_event("go", "sent")
    assert handle.result(10) == expected
    assert ran == effects
    assert {step["status"] for step in runner.get_history(handle.id)} == {"completed"}
    assert passed.count("opened") == passed.count("closed"), "plain code in a with block runs each time"


def test_a_loop_without_end_that_swallows_the_signal_is_told(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    stop: list[bool] = []

    @workflow
    def w() -> None:
        while not stop:
            with contextlib.suppress(BaseException):
                durable.sleep(3600)

    orchestrator(memory).start_workflow(w)
    wait_until(lambda: "let 'except Exception' be the widest clause" in caplog.text)
    stop.append(True)
