"""Queues and schedules over several processes, some of which are killed; on every store that processes can share."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from py_orchestrate import Orchestrator

from ..children import Child, child
from ..effects import Effects
from ..stores import open_store
from ..waiting import wait_until

pytestmark = pytest.mark.crash

PRELUDE = """
import os, sys, time
from datetime import timedelta
from py_orchestrate import Orchestrator, Queue, activity, durable, workflow
from tests.effects import Effects
from tests.stores import open_store

folder, lease, poll = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
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
with Orchestrator(
    db_manager=open_store(folder), max_workers=4, poll_interval_seconds=poll, queues=queues, lease_seconds=lease
):
    print("started", flush=True)
    sys.stdin.read()
"""

SCHEDULER = PRELUDE + """
with Orchestrator(
    db_manager=open_store(folder), max_workers=4, poll_interval_seconds=0.1, lease_seconds=lease
) as orchestrator:
    orchestrator.schedule_workflow(job, "* * * * * *", schedule_id="second", catch_up="all", overlap="allow")
    print("started", flush=True)
    sys.stdin.read()
"""


class Fleet:
    """The store of a test's processes, and how long their leases are.

    Attributes:
        folder: Their folder.
        lease_seconds: The lease; short where only its end tells that a process is gone.
        poll_seconds: How often a process looks at its queues.
        kills: How many of them are killed.
        store: A manager on their store.
    """

    def __init__(self, folder: Path, lease_seconds: float, poll_seconds: float, *, kills: int = 3) -> None:
        self.folder = folder
        self.lease_seconds = lease_seconds
        self.poll_seconds = poll_seconds
        self.kills = kills
        self.store = open_store(folder)

    def statuses(self) -> list[tuple[str, str]]:
        return sorted((record.id, record.status.value) for record in self.store.page_workflows())

    def all_done(self) -> bool:
        return {status for _, status in self.statuses()} == {"done"}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, 30.0, 0.02)


def begin(stack: ExitStack, script: str, fleet: Fleet) -> Child:
    started = stack.enter_context(child(script, fleet.folder, fleet.lease_seconds, fleet.poll_seconds))
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


def test_a_limit_holds_over_processes_that_are_killed(fleet: Fleet) -> None:
    effects = Effects(fleet.folder / "effects")
    producer = Orchestrator(db_manager=fleet.store)
    with ExitStack() as stack:
        consumers = [begin(stack, CONSUMER, fleet) for _ in range(3)]
        _register_job()
        for n in range(60):
            producer.start_workflow("job", workflow_id=f"run-{n}", queue="narrow")
        for turn in range(fleet.kills):
            wait_until(lambda: effects.count("end") >= 20 * (turn + 1), timeout=30)  # noqa: B023 - called at once
            kill(consumers.pop(0), effects)
            consumers.append(begin(stack, CONSUMER, fleet))
        wait_until(fleet.all_done, timeout=60)
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


def test_a_rate_holds_over_processes(fleet: Fleet) -> None:
    effects = Effects(fleet.folder / "effects")
    producer = Orchestrator(db_manager=fleet.store)
    with ExitStack() as stack:
        consumers = [begin(stack, CONSUMER, fleet) for _ in range(2)]
        _register_job()
        first = time.monotonic()
        for n in range(22):
            producer.start_workflow("job", workflow_id=f"run-{n}", queue="slow")
        wait_until(lambda: len({run for what, run, _ in effects.lines()}) >= 11, timeout=30)
        kill(consumers.pop(), effects)
        wait_until(fleet.all_done, timeout=60)
        passed = time.monotonic() - first
    assert passed >= 4 * 0.5  # 5 at the start, and 5 more in each half second


def test_every_second_has_one_run_whoever_is_killed(fleet: Fleet) -> None:
    effects = Effects(fleet.folder / "effects")
    with ExitStack() as stack:
        processes = [begin(stack, SCHEDULER, fleet) for _ in range(3)]
        for turn in range(fleet.kills):
            wait_until(lambda: len(fleet.statuses()) >= 2 * (turn + 1), timeout=30)  # noqa: B023 - called at once
            kill(processes.pop(0), effects)
            processes.append(begin(stack, SCHEDULER, fleet))
        remover = Orchestrator(db_manager=fleet.store)
        remover.remove_schedule("second")
        wait_until(fleet.all_done, timeout=60)
        ids = [found for found, _ in fleet.statuses()]
    times = [datetime.strptime(found, "second-%Y%m%dT%H%M%S%z") for found in ids]
    assert len(times) >= 2 * fleet.kills
    assert all(late - early == timedelta(seconds=1) for early, late in pairwise(times)), "one is missing"
    ends = Counter(run for what, run, _ in effects.lines() if what == "end")
    assert ends.keys() == set(ids)
    assert sum(ends.values()) <= 2 * len(ids) + 3 * 4  # repeated is what was under way at a kill


def _register_job() -> None:
    from py_orchestrate import workflow

    @workflow
    def job() -> None: ...
