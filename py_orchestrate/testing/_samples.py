"""Records to store in the contract's tests, and threads that start at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ..models import (
    ActivityExecution,
    ActivityStatus,
    EventRecord,
    StepRecord,
    WorkflowEnd,
    WorkflowInstance,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)

START = datetime(2030, 1, 1, tzinfo=UTC)

# Texts as the serializer writes them, which every backend must return unchanged.
PAYLOADS = {
    "plain": '{"b":1,"a":[true,null,"x"]}',
    "numbers": "[0,-1,0.5,9007199254740991]",
    "large integer": '{"$int":"' + hex(10**5000 - 1) + '"}',
    "lone surrogate": '"\\ud83d"',
    "nul": '"a\\u0000b"',
    "control characters": '"\\t\\u001f\x7f\\"\\\\"',
    "cjk": '"漢字かな交じり文・한국어"',
    "beyond the basic plane": '{"😀":"𝄞"}',
    "markup": '"\'; DROP TABLE workflows; --%_<b>"',
    "one megabyte": '"' + "x" * 2**20 + '"',
}

FALSY = ["null", "false", "0", '""', "[]", "{}"]

FAILURE_DOCUMENT = '{"type":"builtins:ValueError","message":"漢字","args":"[\\"漢字\\"]"}'


def at(minutes: float) -> datetime:
    """Return a time, in minutes after the first."""
    return START + timedelta(minutes=minutes)


def run_record(workflow_id: str, *, minutes: float = 0, **fields: Any) -> WorkflowRecord:
    """Return a run that is ``processing``."""
    plain = WorkflowRecord(
        id=workflow_id,
        name="greet",
        status=WorkflowStatus.PROCESSING,
        input="{}",
        created_at=at(minutes),
        updated_at=at(minutes),
    )
    return plain._replace(**fields)


def step_record(sequence: int, output: str | None = '"hello"', *, minutes: float = 1, **fields: Any) -> StepRecord:
    """Return a step: completed with ``output``, or running where that is ``None``."""
    running = output is None
    status = ActivityStatus.RUNNING if running else ActivityStatus.COMPLETED
    completed_at = None if running else at(minutes + 1)
    plain = StepRecord(
        sequence, "activity", f"act{sequence}", status.value, "[]", output, None, None, at(minutes), completed_at
    )
    return plain._replace(**fields)


def failed_step(sequence: int, *, minutes: float = 1) -> StepRecord:
    """Return a step that failed."""
    return step_record(
        sequence,
        None,
        minutes=minutes,
        status=ActivityStatus.FAILED.value,
        error=FAILURE_DOCUMENT,
        error_message="漢字",
        completed_at=at(minutes + 1),
    )


def run_end(output: str | None = '"bye"', *, minutes: float = 9, **fields: Any) -> WorkflowEnd:
    """Return an end: ``done``, unless the fields say otherwise."""
    return WorkflowEnd(status=WorkflowStatus.DONE, output=output, finished_at=at(minutes))._replace(**fields)


def suspension(*, minutes: float = 2, **fields: Any) -> WorkflowSuspension:
    """Return how a run leaves its worker: knowing of no signal, and ready at once, unless the fields say otherwise."""
    return WorkflowSuspension(signals=0, suspended_at=at(minutes))._replace(**fields)


def event_record(event_id: str, *, minutes: float = 3, **fields: Any) -> EventRecord:
    """Return an event of the name ``go``, as it is sent."""
    return EventRecord(id=event_id, name="go", payload="null", sent_at=at(minutes))._replace(**fields)


def instance(workflow_id: str, *, minutes: float = 0, **fields: Any) -> WorkflowInstance:
    """Return one of 1.0.2's workflows."""
    moment = at(minutes)
    plain = WorkflowInstance(
        workflow_id, "greet", WorkflowStatus.DONE, {"who": "漢字"}, None, None, None, moment, moment
    )
    return replace(plain, **fields)


def execution(execution_id: str, workflow_id: str, *, minutes: float = 1, **fields: Any) -> ActivityExecution:
    """Return one of 1.0.2's executions."""
    plain = ActivityExecution(
        execution_id, workflow_id, "act", {"x": 1}, None, "completed", None, at(minutes), at(minutes + 1)
    )
    return replace(plain, **fields)


def in_background[T](action: Callable[[], T]) -> Future[T]:
    """Run the action in a thread that does not keep the process alive; return what will be its result."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def race[T](actions: Sequence[Callable[[], T]]) -> list[T]:
    """Run the actions at the same moment, each in a thread of its own; return their results.

    Raises:
        TimeoutError: One has no result after a minute.
    """
    barrier = threading.Barrier(len(actions))

    def start(action: Callable[[], T]) -> T:
        barrier.wait(timeout=30)
        return action()

    return [future.result(timeout=60) for future in [in_background(partial(start, action)) for action in actions]]


def race_again[T](actions: Sequence[Callable[[], T]], turn: int) -> None:
    """Race the actions once more, at each turn in another order: who comes last to the start often is off first."""
    first = turn % len(actions)
    race([*actions[first:], *actions[:first]])


def in_thread[T](action: Callable[[], T]) -> T:
    """Run the action in a thread that ends with it; return its result."""
    return race([action])[0]
