"""What a type checker must see of decorated functions. Checked by mypy, never run; an unused ignore is an error too."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from py_orchestrate import Orchestrator, Queue, RetryPolicy, WorkflowHandle, activity, durable, workflow
from py_orchestrate.decorators import Activity, Workflow
from py_orchestrate.durable import DurableFuture


@activity
def bare(n: int, *, text: str = "") -> list[int]:
    return [n] * len(text)


@activity()
def empty(n: int) -> str:
    return str(n)


@activity("named")
def named(first: str, /, *rest: int, **options: bool) -> dict[str, int]:
    return {first: len(rest) + len(options)}


@activity
def nothing() -> None: ...


@activity
def generic[T](value: T) -> T:
    return value


@activity
async def later(n: int) -> str:
    return str(n)


@activity("named async")
async def named_async(n: int) -> bytes:
    return bytes(n)


@workflow
def bare_flow(n: int) -> str:
    return str(n)


@workflow()
def empty_flow(n: int, *, text: str) -> None: ...


@workflow("named flow")
def named_flow() -> list[str]:
    return []


class Steps:
    @staticmethod
    @activity
    def static(n: int) -> float:
        return n / 2


def calls() -> None:
    assert_type(bare(1), list[int])
    assert_type(bare(n=1, text="a"), list[int])
    assert_type(empty(1), str)
    assert_type(named("a", 1, 2, x=True), dict[str, int])
    assert_type(nothing(), None)
    assert_type(later(1), str)  # what a workflow gets
    assert_type(Steps.static(1), float)
    assert_type(bare_flow(1), str)
    assert_type(named_flow(), list[str])


def attributes() -> None:
    assert_type(bare.name, str)
    empty.fn("1")  # type: ignore[arg-type]
    coroutine: Coroutine[Any, Any, str] = later.fn(1)
    coroutine.close()
    text: str = bare_flow.fn(1)
    one: Activity[[int], str] = empty
    other: Workflow[[], list[str]] = named_flow
    function: Callable[[int], str] = empty
    assert_type((one.name, other.name, function(1), text), tuple[str, str, str, str])


def in_parallel() -> None:
    assert_type(bare.submit(1, text="a"), DurableFuture[list[int]])
    assert_type(bare.submit(1).result(), list[int])
    assert_type(empty.submit(n=1), DurableFuture[str])
    assert_type(empty.map([1, 2]), list[str])
    assert_type(later.submit(1), DurableFuture[str])
    assert_type(later.map([1]), list[str])
    assert_type(named_async.submit(n=1).result(), bytes)
    assert_type(named.map(["a"], [1]), list[dict[str, int]])
    assert_type(durable.gather(bare.submit(1), empty.submit(1)), list[Any])
    assert_type(durable.gather(return_exceptions=True), list[Any])


@activity(retry=RetryPolicy(max_attempts=2), timeout=timedelta(seconds=1))
def patient(n: int) -> str:
    return str(n)


@activity("hurried", total_timeout=1.5, heartbeat_timeout=1)
async def hurried(n: int) -> bytes:
    return bytes(n)


@activity(transactional=True, retry=RetryPolicy())
def booked(connection: sqlite3.Connection, n: int) -> str:
    return str(n)


def with_options() -> None:
    assert_type(booked(1), str)  # the connection is not the caller's to give
    assert_type(booked.submit(n=1), DurableFuture[str])
    assert_type(patient(1), str)
    assert_type(hurried(1), bytes)
    assert_type(patient.options(timeout=2, retry=None)(1), str)
    assert_type(hurried.options(heartbeat_timeout=None).submit(1), DurableFuture[bytes])
    assert_type(patient.options().map([1]), list[str])
    assert_type(bare_flow.options(timeout=1)(1), str)
    assert_type(bare_flow.options(workflow_id="id").submit(n=1), DurableFuture[str])
    assert_type(bare_flow.map([1]), list[str])


def waits() -> None:
    durable.sleep(1)
    durable.sleep(timedelta(seconds=1))
    durable.sleep_until(datetime.now(UTC))
    assert_type(durable.wait_for_event("go", timeout=1), Any)
    assert_type(durable.call_workflow("bare_flow", 1), Any)
    with durable.shield(), durable.Saga() as saga:
        assert_type(saga, durable.Saga)
        saga.add(patient, 1)
        saga.add(bare_flow.options(timeout=1), n=1)


def orchestrators(orchestrator: Orchestrator) -> None:
    assert_type(orchestrator.start_workflow(bare_flow, 1), WorkflowHandle)
    assert_type(orchestrator.start_workflow("bare_flow", 1, workflow_id="id"), WorkflowHandle)
    assert_type(orchestrator.invoke_workflow("bare_flow", n=1, name="x"), str)
    assert_type(orchestrator.get_workflow_status("id"), dict[str, Any] | None)
    assert_type(orchestrator.list_workflows(status="done", limit=3), list[dict[str, Any]])
    assert_type(orchestrator.stop(timeout=1), bool)
    handle = orchestrator.start_workflow(bare_flow, 1, timeout=timedelta(days=1))
    assert_type(handle.wait(timedelta(seconds=1)), dict[str, Any])
    assert_type(orchestrator.stop(timedelta(seconds=1)), bool)
    orchestrator.start_workflow(bare_flow, 1, workflow_id=None, timeout=None, queue=None, priority=None, delay=None)
    mail = Queue("mail", concurrency=2, per_process=1, rate=(100, timedelta(minutes=1)))
    Orchestrator("a.db", queues=[mail, Queue("other", rate=(1, 0.5))])
    orchestrator.start_workflow(bare_flow, 1, queue="mail", priority=-1, delay=5, deduplication_key="key")
    assert_type(bare_flow.options(queue="mail", priority=1, delay=timedelta(hours=1))(1), str)
    assert_type(orchestrator.list_queues(), list[dict[str, Any]])
    assert_type(orchestrator.schedule_workflow(bare_flow, "* * * * *", "UTC", arguments={"n": 1}), dict[str, Any])
    assert_type(orchestrator.list_schedules(), list[dict[str, Any]])
    handle.raise_event("go", {"any": 1}, event_id="id")
    orchestrator.raise_event("id", "go")
    orchestrator.cancel_workflow("id")
    assert_type(orchestrator.restart_workflow("id", from_step=1, new_workflow_id="new"), WorkflowHandle)
    with orchestrator as entered:
        assert_type(entered, Orchestrator)


def mistakes(orchestrator: Orchestrator) -> None:
    bare()  # type: ignore[call-arg]
    bare("1")  # type: ignore[arg-type]
    bare(1, "a")  # type: ignore[call-arg]
    bare(1, txt="a")  # type: ignore[call-arg]
    empty(None)  # type: ignore[arg-type]
    named(first="a")  # type: ignore[call-arg, arg-type]
    bare.submit("1")  # type: ignore[arg-type]
    empty.submit()  # type: ignore[call-arg]
    empty.map(1)  # type: ignore[arg-type]
    bare_flow("1")  # type: ignore[arg-type]
    empty_flow(1)  # type: ignore[call-arg]
    activity(5)  # type: ignore[call-overload]
    booked("1")  # type: ignore[arg-type]
    activity(transactional=True, timeout=1)  # type: ignore[call-overload]
    activity(retries=3)  # type: ignore[call-overload]
    activity(timeout="5")  # type: ignore[call-overload]
    patient.options(retries=3)  # type: ignore[call-arg]
    patient.options(timeout="5")("1")  # type: ignore[arg-type]
    bare_flow.options(retry=None)  # type: ignore[call-arg]
    durable.sleep("1")  # type: ignore[arg-type]
    durable.sleep_until(5)  # type: ignore[arg-type]
    workflow(name="x")  # type: ignore[call-overload]
    Queue("mail", concurrency="2")  # type: ignore[arg-type]
    orchestrator.start_workflow(bare_flow, 1, queue=Queue("mail"))  # type: ignore[arg-type]
    orchestrator.start_workflow(bare_flow, 1, timeout="5")  # type: ignore[arg-type]
    orchestrator.stop("5")  # type: ignore[arg-type]
    orchestrator.invoke_workflow(bare_flow)  # type: ignore[arg-type]
    orchestrator.get_workflow_status(5)  # type: ignore[arg-type]
