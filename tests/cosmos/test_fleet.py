"""Several processes on one Cosmos DB database, killed, stopped and paused: the fleet's tests, and what is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..children import ROOT, child
from ..crash.test_fleet import (
    Fleet,
    test_a_limit_holds_over_processes_that_are_killed,
    test_a_rate_holds_over_processes,
    test_every_second_has_one_run_whoever_is_killed,
)
from ..effects import Effects
from ..stores import use_cosmos
from ..waiting import wait_until
from .accounts import Account

__all__ = [
    "test_a_limit_holds_over_processes_that_are_killed",
    "test_a_rate_holds_over_processes",
    "test_every_second_has_one_run_whoever_is_killed",
]

pytestmark = pytest.mark.crash

LEASE_SECONDS = 3.0

SCRIPT = """
import logging, os, sys
from py_orchestrate import Orchestrator, activity, durable, workflow
from tests.effects import Effects
from tests.stores import open_store
from tests.waiting import wait_until

folder = sys.argv[1]
effects = Effects(folder + "/effects")
logging.basicConfig(filename=f"{folder}/log-{os.getpid()}", level=logging.WARNING)

@activity
def act(name):
    effects.note(name, os.getpid())
    if name == "held":
        wait_until(lambda: os.path.exists(folder + "/open"), 60)
    return name

@workflow
def job():
    seen = [act("first"), act("held"), act("last")]
    durable.sleep(0.01)
    return [*seen, act("after")]

with Orchestrator(
    db_manager=open_store(folder), poll_interval_seconds=0.05, lease_seconds=float(sys.argv[2])
) as orchestrator:
    print("started", flush=True)
    for line in sys.stdin:
        orchestrator.start_workflow(job, workflow_id=line.strip())
        print("ok", flush=True)
"""


@pytest.fixture
def fleet(account: Account, tmp_path: Path) -> Fleet:
    """Return the fleet of this store, whose only sign of a death is the end of a lease."""
    use_cosmos(tmp_path, account.endpoint, account.key, account.database_id)
    return Fleet(tmp_path, LEASE_SECONDS, 0.2, kills=1)


def test_a_process_that_was_stopped_records_nothing_and_says_so(fleet: Fleet) -> None:
    effects = Effects(fleet.folder / "effects")
    with ExitStack() as stack:
        zombie = stack.enter_context(child(SCRIPT, fleet.folder, fleet.lease_seconds))
        assert zombie.hear() == "started"
        zombie.tell("run")
        wait_until(lambda: ["held", str(zombie.pid)] in effects.lines(), timeout=30)
        other = stack.enter_context(child(SCRIPT, fleet.folder, fleet.lease_seconds))
        assert other.hear() == "started"
        os.kill(zombie.pid, signal.SIGSTOP)
        wait_until(lambda: ["held", str(other.pid)] in effects.lines(), timeout=30)
        (fleet.folder / "open").touch()
        wait_until(fleet.all_done, timeout=30)
        before = fleet.store.read_workflow("run"), fleet.store.get_steps("run")
        os.kill(zombie.pid, signal.SIGCONT)
        log = fleet.folder / f"log-{zombie.pid}"
        wait_until(lambda: "no sign of life for longer than its lease" in log.read_text(encoding="utf-8"), timeout=30)
        for each in (zombie, other):
            each.process.stdin.close()
            assert each.process.wait(timeout=30) == 0
        assert (fleet.store.read_workflow("run"), fleet.store.get_steps("run")) == before
    happened = Counter(name for name, _ in effects.lines())
    assert happened == {"first": 1, "held": 2, "last": 1, "after": 1}  # what was in flight, and nothing else, twice


def test_it_endures(account: Account, tmp_path: Path) -> None:
    store = ["--cosmos", account.endpoint, account.key, account.database_id]
    process = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--workflows", "40", "--processes", "3", "--interval", "0.4", *store],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
