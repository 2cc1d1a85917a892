"""Orchestrators that fall silent: processes that are stopped with SIGSTOP, and go on when others have their runs."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ..children import Child, child
from ..effects import Effects
from ..waiting import wait_until

pytestmark = pytest.mark.crash

LEASE_SECONDS = 3.0

SCRIPT = """
import logging, os, sys, time
from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.db_manager import _owner_locks
from tests.effects import Effects
from tests.waiting import wait_until

folder, lease, sees_locks = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "True"
effects = Effects(folder + "/effects")
logging.basicConfig(filename=f"{folder}/log-{os.getpid()}", level=logging.WARNING)
if not sees_locks:  # as on another machine
    _owner_locks.OwnerLocks.is_alive = lambda *_: True

@activity
def act(name):
    effects.note(durable.info().workflow_id, name, os.getpid())
    if name == "held":
        wait_until(lambda: os.path.exists(folder + "/open"), 60)
    return name

@workflow
def job(held):
    seen = [act("first"), act("held" if held else "quick"), act("last")]
    durable.sleep(0.01)
    return [*seen, act("after")]

orchestrator = Orchestrator(folder + "/runs.db", max_workers=4, poll_interval_seconds=0.05, lease_seconds=lease)
orchestrator.start()
print("started", flush=True)
for line in sys.stdin:
    command, _, run = line.strip().partition(" ")
    if command == "start":
        orchestrator.start_workflow(job, run.startswith("held"), workflow_id=run)
    elif command == "wait":
        orchestrator.wait_for_workflow(run, 30)
    print("ok", flush=True)
orchestrator.stop()
"""


@pytest.fixture
def effects(tmp_path: Path) -> Iterator[Effects]:
    effects = Effects(tmp_path / "effects")
    yield effects
    effects.close()


def ask(process: Child, line: str) -> None:
    process.tell(line)
    assert process.hear() == "ok"


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "runs.db", timeout=60)) as connection:
        return connection.execute(sql).fetchall()


def status(folder: Path, run: str) -> object:
    ((found,),) = rows(folder, f"SELECT status FROM workflows WHERE id = '{run}'")
    return found


def fleet(stack: ExitStack, folder: Path, count: int, *, sees_locks: bool = True) -> list[Child]:
    found = [stack.enter_context(child(SCRIPT, folder, LEASE_SECONDS, sees_locks)) for _ in range(count)]
    for each in found:
        assert each.hear() == "started"
    return found


def log(folder: Path, process: Child) -> str:
    return (folder / f"log-{process.pid}").read_text(encoding="utf-8")


def test_a_process_that_was_stopped_records_nothing_and_says_so(tmp_path: Path, effects: Effects) -> None:
    with ExitStack() as stack:
        (zombie,) = fleet(stack, tmp_path, 1)
        ask(zombie, "start held")
        wait_until(lambda: ["held", "held", str(zombie.pid)] in effects.lines())
        (other,) = fleet(stack, tmp_path, 1)
        os.kill(zombie.pid, signal.SIGSTOP)
        wait_until(lambda: ["held", "held", str(other.pid)] in effects.lines(), timeout=30)
        (tmp_path / "open").touch()
        wait_until(lambda: status(tmp_path, "held") == "done", timeout=30)
        before = rows(tmp_path, "SELECT * FROM workflows, activity_executions")

        os.kill(zombie.pid, signal.SIGCONT)
        wait_until(lambda: "no sign of life for longer than its lease" in log(tmp_path, zombie), timeout=30)
        ask(zombie, "start quick")  # it is of use again, as another owner
        ask(zombie, "wait quick")
        assert [str(zombie.pid)] == [pid for run, name, pid in effects.lines() if (run, name) == ("quick", "last")]
        for each in (zombie, other):
            each.process.stdin.close()
            assert each.process.wait(timeout=30) == 0
        after = rows(tmp_path, "SELECT * FROM workflows, activity_executions WHERE workflows.id = 'held' "
                     "AND workflow_id = 'held'")  # fmt: skip
        assert after == before
        assert "given no sign of life for" in log(tmp_path, other)

    happened = Counter(name for run, name, _ in effects.lines() if run == "held")
    assert happened == {"first": 1, "held": 2, "last": 1, "after": 1}  # what was in flight, and nothing else, twice
    assert rows(tmp_path, "SELECT count(*) FROM orchestrators") == [(0,)]
    assert not (tmp_path / "runs.db-owners").exists()


def test_a_machine_that_is_gone_is_noticed_within_its_lease(tmp_path: Path, effects: Effects) -> None:
    """The observer cannot see the lock of the dead process, as on another machine."""
    with ExitStack() as stack:
        dead, other = fleet(stack, tmp_path, 2, sees_locks=False)
        ask(dead, "start held")
        wait_until(lambda: any(name == "held" for _, name, _ in effects.lines()))
        worked_at = next(int(pid) for _, name, pid in effects.lines() if name == "held")
        if worked_at == other.pid:
            dead, other = other, dead
        dead.kill()
        wait_until(lambda: ["held", "held", str(other.pid)] in effects.lines(), timeout=30)
        (tmp_path / "open").touch()
        wait_until(lambda: status(tmp_path, "held") == "done", timeout=30)
        other.process.stdin.close()
        assert other.process.wait(timeout=30) == 0
    happened = Counter(name for _, name, _ in effects.lines())
    assert happened == {"first": 1, "held": 2, "last": 1, "after": 1}


def test_a_stop_that_waits_keeps_its_runs(tmp_path: Path, effects: Effects) -> None:
    """It goes on giving signs of life, for more than a lease, until what runs has ended, however long that takes."""
    with ExitStack() as stack:
        stopping, other = fleet(stack, tmp_path, 2, sees_locks=False)
        ask(stopping, "start held")
        wait_until(lambda: any(name == "held" for _, name, _ in effects.lines()))
        if ["held", "held", str(other.pid)] in effects.lines():
            stopping, other = other, stopping
        stopping.process.stdin.close()  # it stops, and waits
        ((beats,),) = rows(tmp_path, "SELECT min(beats) FROM orchestrators")
        assert isinstance(beats, int)
        wait_until(lambda: rows(tmp_path, "SELECT min(beats) FROM orchestrators") >= [(beats + 7,)], timeout=30)
        (tmp_path / "open").touch()
        assert stopping.process.wait(timeout=30) == 0
        ask(other, "wait held")
    assert Counter(name for _, name, _ in effects.lines()) == {"first": 1, "held": 1, "last": 1, "after": 1}


def test_of_many_observers_one_takes_each_run(tmp_path: Path, effects: Effects) -> None:
    with ExitStack() as stack:
        (zombie,) = fleet(stack, tmp_path, 1)
        for n in range(4):
            ask(zombie, f"start held-{n}")
        wait_until(lambda: sum(name == "held" for _, name, _ in effects.lines()) == 4)
        others = fleet(stack, tmp_path, 3)
        os.kill(zombie.pid, signal.SIGSTOP)
        wait_until(lambda: sum(name == "held" for _, name, _ in effects.lines()) == 8, timeout=30)
        os.kill(zombie.pid, signal.SIGCONT)
        (tmp_path / "open").touch()
        for n in range(4):
            wait_until(lambda n=n: status(tmp_path, f"held-{n}") == "done", timeout=30)
        for each in (zombie, *others):
            each.process.stdin.close()
            assert each.process.wait(timeout=30) == 0
    happened = Counter((run, name) for run, name, _ in effects.lines())
    for n in range(4):
        assert {name: happened[f"held-{n}", name] for name in ("first", "held", "last", "after")} == {
            "first": 1, "held": 2, "last": 1, "after": 1
        }  # fmt: skip
