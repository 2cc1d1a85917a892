"""A program ends while its workflows wait: at once, without noise, and the next start goes on from there."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..effects import Effects
from .scripts import run, script

WAITS = {
    "timer": "durable.sleep(600)",
    "event": 'durable.wait_for_event("go")',
    "child": "waits()",
    "back-off": "fails()",
    "held back-off": "fails_soon()",
    "timed-out activity": "hangs()",
}

SOURCE = """
import contextlib
from py_orchestrate import RetryPolicy
from py_orchestrate._engine import activities
from py_orchestrate.errors import ActivityTimeoutError, WorkflowStateError

END, recovers = options[0], options[0] == "recovery"
if not recovers:
    activities.HELD_SECONDS = 0.5

@activity
def first():
    effects.note("first")

@activity
def last():
    effects.note("last")

def attempt():
    effects.note("attempt", durable.info().attempt)
    if not recovers:
        raise ConnectionError("not now")

@activity(retry=RetryPolicy(initial_interval=600 if not recovers else 0.01, max_interval=600))
def fails():
    attempt()

@activity(retry=RetryPolicy(max_attempts=None, initial_interval=0.3, backoff=1, jitter=0))
def fails_soon():
    attempt()

@activity(timeout=0.05)
def hangs_on():
    while True:
        time.sleep(1)

def hangs():
    try:
        hangs_on()
    except ActivityTimeoutError:
        durable.sleep(600)

@workflow
def waits():
    durable.sleep(600)

@workflow
def job():
    first()
    WAIT
    last()

orchestrator = Orchestrator(path, max_workers=1, poll_interval_seconds=0.05)
orchestrator.start()
orchestrator.start_workflow(job, workflow_id="run")

def is_waiting():
    runs = orchestrator.db.page_workflows()  # with the child, where there is one
    return all(run.wake_at is not None for run in runs) or effects.count("attempt")

while not recovers and not is_waiting():
    time.sleep(0.005)
say("waiting")
if END == "exit":
    sys.exit(3)
elif END == "interrupt":
    time.sleep(60)
elif END == "stop":
    orchestrator.stop()
elif recovers:
    with contextlib.suppress(WorkflowStateError):  # it may have ended by now, where it does not wait for this
        orchestrator.raise_event("run", "go")
    print(orchestrator.wait_for_workflow("run", 20)["status"])
    orchestrator.stop()
"""

WAKE = "UPDATE workflows SET wake_at = '2020-01-01T00:00:00.000000+00:00' WHERE wake_at IS NOT NULL"
BE_DUE = (
    "UPDATE activity_executions SET state_data = "
    'replace(replace(state_data, \'"wake_at": "2\', \'"wake_at": "1\'), \'"due": "2\', \'"due": "1\') '
    "WHERE status IN ('waiting', 'retrying')"
)


@pytest.fixture
def effects(tmp_path: Path) -> Iterator[Effects]:
    effects = Effects(tmp_path / "effects")
    yield effects
    effects.close()


def change(folder: Path, *statements: str) -> None:
    """Let the times that are waited for have passed."""
    with closing(sqlite3.connect(folder / "runs.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("end", ["end", "exit", "interrupt", "stop"])
@pytest.mark.parametrize("what", WAITS)
def test_the_end_does_not_wait(tmp_path: Path, effects: Effects, what: str, end: str) -> None:
    source = SOURCE.replace("WAIT\n", WAITS[what] + "\n")
    with script(source, tmp_path, end) as running:
        running.hear("waiting")
        if end == "interrupt":
            running.signal(signal.SIGINT)
        ended = running.end()
    assert ended.code == {"end": 0, "exit": 3, "interrupt": -signal.SIGINT, "stop": 0}[end], ended
    assert ended.seconds < 8, "it waited for something"
    errors = [line for line in ended.err.splitlines() if "KeyboardInterrupt" not in line]
    if end != "interrupt":
        assert errors == []
    assert effects.count("first") == 1
    assert effects.count("last") == 0

    change(tmp_path, WAKE, BE_DUE)
    recovered = run(source, tmp_path, "recovery")
    assert (recovered.code, recovered.err) == (0, ""), recovered
    said: list[Any] = recovered.out.split()
    assert said[-1] == "done"
    assert effects.count("first") == 1
    assert effects.count("last") == 1
