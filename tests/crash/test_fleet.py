"""Queues and schedules over several processes, some of which are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager

from ..children import Child, child
from ..effects import Effects
from ..waiting import wait_until

pytestmark = pytest.mark.crash

PRELUDE = """
import os, sys, time
from datetime import timedelta
from py_orchestrate import Orchestrator, Queue, activity, durable, workflow
from tests.effects import Effects

folder = sys.argv[1]
effects = Effects(folder + "/effects")

@activity
def work():
    effects.note("begin", durable.info().workflow_id, os.getpid())
    time.sleep(0.03)
    effects.note("end", durable.info().workflow_id, os.getpid())

@workflow
def job():
    work()
    durable.sleep(0.01)
    work()
"""

CONSUMER = PRELUDE + """
queues = [Queue("narrow", concurrency=3, per_process=2), Queue("slow", rate=(5, 0.5))]
with Orchestrator(folder + "/runs.db", max_workers=4, poll_interval_seconds=0.02, queues=queues):
    print("started", flush=True)
    sys.stdin.read()
"""

SCHEDULER = PRELUDE + """
with Orchestrator(folder + "/runs.db", max_workers=4, poll_interval_seconds=0.1) as orchestrator:
    orchestrator.schedule_workflow(job, "* * * * * *", schedule_id="second", catch_up="all", overlap="allow")
    print("started", flush=True)
    sys.stdin.read()
"""


def statuses(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "runs.db", timeout=60)) as connection:
        return connection.execute("SELECT id, status FROM workflows ORDER BY id").fetchall()


def begin(stack: ExitStack, script: str, folder: Path) -> Child:
    started = stack.enter_context(child(script, folder))
    started.hear()
    return started


def kill(victim: Child, effects: Effects) -> None:
    """Kill a process, and note it between its last effect and the first that its death makes possible."""
    os.kill(victim.pid, signal.SIGSTOP)
    os.waitpid(victim.pid, os.WUNTRACED)
    effects.note("killed", "-", victim.pid)
    os.kill(victim.pid, signal.SIGKILL)
    victim.process.wait(timeout=30)


def most_at_once(lines: list[list[str]]) -> tuple[int, int]:
    """Return how many were at work at the same time, in all and in one process."""
    inside: dict[str, str] = {}
    most = most_in_one = 0
    for what, run, pid in lines:
        if what == "begin":
            inside[run] = pid
            most = max(most, len(inside))
            most_in_one = max(most_in_one, *Counter(inside.values()).values())
        elif what == "end":
            del inside[run]
        else:
            inside = {run: place for run, place in inside.items() if place != pid}
    return most, most_in_one


def test_a_limit_holds_over_processes_that_are_killed(tmp_path: Path) -> None:
    effects = Effects(tmp_path / "effects")
    producer = Orchestrator(db_manager=SQLiteDatabaseManager(tmp_path / "runs.db"))
    with ExitStack() as stack:
        consumers = [begin(stack, CONSUMER, tmp_path) for _ in range(3)]
        _register_job()
        for n in range(60):
            producer.start_workflow("job", workflow_id=f"run-{n}", queue="narrow")
        for turn in range(3):
            wait_until(lambda: effects.count("end") >= 20 * (turn + 1), timeout=30)  # noqa: B023 - called at once
            kill(consumers.pop(0), effects)
            consumers.append(begin(stack, CONSUMER, tmp_path))
        wait_until(lambda: {status for _, status in statuses(tmp_path)} == {"done"}, timeout=30)
        counts = producer.list_queues()
    assert {queue["name"]: (queue["ready"], queue["running"]) for queue in counts}["narrow"] == (0, 0)
    lines = effects.lines()
    most, most_in_one = most_at_once(lines)
    assert most == 3
    assert most_in_one <= 2
    ends = Counter(run for what, run, _ in lines if what == "end")
    assert ends.keys() == {f"run-{n}" for n in range(60)}
    assert all(2 <= count <= 5 for count in ends.values())
    assert sum(ends.values()) <= 120 + 3 * 2  # repeated is what was under way at a kill


def test_a_rate_holds_over_processes(tmp_path: Path) -> None:
    effects = Effects(tmp_path / "effects")
    producer = Orchestrator(db_manager=SQLiteDatabaseManager(tmp_path / "runs.db"))
    with ExitStack() as stack:
        consumers = [begin(stack, CONSUMER, tmp_path) for _ in range(2)]
        _register_job()
        first = time.monotonic()
        for n in range(22):
            producer.start_workflow("job", workflow_id=f"run-{n}", queue="slow")
        wait_until(lambda: len({run for what, run, _ in effects.lines()}) >= 11, timeout=30)
        kill(consumers.pop(), effects)
        wait_until(lambda: {status for _, status in statuses(tmp_path)} == {"done"}, timeout=30)
        passed = time.monotonic() - first
    assert passed >= 4 * 0.5  # 5 at the start, and 5 more in each half second


def test_every_second_has_one_run_whoever_is_killed(tmp_path: Path) -> None:
    effects = Effects(tmp_path / "effects")
    with ExitStack() as stack:
        processes = [begin(stack, SCHEDULER, tmp_path) for _ in range(3)]
        for turn in range(3):
            wait_until(lambda: len(statuses(tmp_path)) >= 2 * (turn + 1), timeout=30)  # noqa: B023 - called at once
            kill(processes.pop(0), effects)
            processes.append(begin(stack, SCHEDULER, tmp_path))
        remover = Orchestrator(db_manager=SQLiteDatabaseManager(tmp_path / "runs.db"))
        remover.remove_schedule("second")
        wait_until(lambda: {status for _, status in statuses(tmp_path)} == {"done"}, timeout=30)
        ids = [found for found, _ in statuses(tmp_path)]
    times = [datetime.strptime(found, "second-%Y%m%dT%H%M%S%z") for found in ids]
    assert len(times) >= 6
    assert all(late - early == timedelta(seconds=1) for early, late in pairwise(times)), "one is missing"
    ends = Counter(run for what, run, _ in effects.lines() if what == "end")
    assert ends.keys() == set(ids)
    assert sum(ends.values()) <= 2 * len(ids) + 3 * 4  # repeated is what was under way at a kill


def _register_job() -> None:
    from py_orchestrate import workflow

    @workflow
    def job() -> None: ...
