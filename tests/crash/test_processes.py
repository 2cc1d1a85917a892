"""Several processes on one file: each run is done once, and nobody sees "database is locked"."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow

from ..children import child
from ..effects import Effects
from ..waiting import wait_until

pytestmark = pytest.mark.crash

PRELUDE = """
import os, subprocess, sys, threading, time
from py_orchestrate import Orchestrator, activity, durable, workflow
from tests.effects import Effects

folder = sys.argv[1]
effects = Effects(folder + "/effects")
"""


@pytest.fixture
def effects(tmp_path: Path) -> Iterator[Effects]:
    effects = Effects(tmp_path / "effects")
    yield effects
    effects.close()


def rows(folder: Path, sql: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "runs.db", timeout=60)) as connection:
        return connection.execute(sql, values).fetchall()


def all_done(folder: Path) -> bool:
    return rows(folder, "SELECT DISTINCT status FROM workflows") == [("done",)]


# --- each run once ----------------------------------------------------------------------------------------------------

SHARING = PRELUDE + """
@activity
def work(n):
    effects.note("work", n, os.getpid())
    time.sleep(0.01)
    while n >= 20 and not os.path.exists(folder + "/both"):
        time.sleep(0.01)

@workflow
def job(n):
    work(n)
    work(n)

orchestrator = Orchestrator(folder + "/runs.db", max_workers=4, poll_interval_seconds=0.05)
orchestrator.start()
print("started", flush=True)
for line in sys.stdin:
    for n in range(int(line)):
        orchestrator.invoke_workflow("job", n=n)
    print("invoked", flush=True)
orchestrator.stop()
"""


def test_two_processes_do_each_run_once(tmp_path: Path, effects: Effects) -> None:
    with child(SHARING, tmp_path) as first:
        first.hear()
        first.tell("50")
        wait_until(lambda: effects.count("work") >= 8)
        with child(SHARING, tmp_path) as second:  # starts, and recovers, while the first is at work
            second.hear()
            (tmp_path / "both").touch()
            wait_until(lambda: all_done(tmp_path), timeout=30)
            for each in (first, second):
                each.process.stdin.close()
                assert each.process.wait(timeout=30) == 0
        lines = effects.lines()
        assert Counter(n for _, n, _ in lines) == {str(n): 2 for n in range(50)}
        assert {int(pid) for *_, pid in lines} == {first.pid, second.pid}, "one of them had nothing to do"


def test_two_orchestrators_in_one_process_do_each_run_once(tmp_path: Path) -> None:
    ran: list[int] = []

    @activity
    def work(n: int) -> None:
        ran.append(n)
        time.sleep(0.005)

    @workflow
    def job(n: int) -> None:
        work(n)

    path = tmp_path / "runs.db"
    with (
        Orchestrator(path, poll_interval_seconds=0.02) as first,
        Orchestrator(path, poll_interval_seconds=0.02) as second,
    ):
        handles = [(first, second)[n % 2].start_workflow(job, n) for n in range(50)]
        for handle in handles:
            handle.result(timeout=20)
    assert sorted(ran) == list(range(50))


def test_recovery_leaves_active_runs_alone(tmp_path: Path) -> None:
    ran: list[int] = []
    ticks: list[int] = []

    @activity
    def work(n: int) -> None:
        ran.append(n)
        goal = len(ticks) + 3
        wait_until(lambda: len(ticks) >= goal)

    @workflow
    def job(n: int) -> None:
        work(n)

    path = tmp_path / "runs.db"
    database = SQLiteDatabaseManager(path)
    database.register_owner("other")
    with Orchestrator(path, max_workers=4) as orchestrator:
        handles = [orchestrator.start_workflow(job, n) for n in range(20)]
        while not all(handle.status()["status"] == "done" for handle in handles):
            orchestrator._engine._recovery._claim(["job"])
            # With a name that no run has, for a claim by hand must not take the runs that wait for a worker.
            assert database.claim_workflows("other", ["no such job"], 10) == []
            ticks.append(1)
        assert sorted(ran) == list(range(20))
    database.release_owner("other")
    database.close()


RELOADER = PRELUDE + """
@activity
def work():
    effects.note("work", os.getpid())

@workflow
def job():
    work()

orchestrator = Orchestrator(folder + "/runs.db", poll_interval_seconds=0.05)
orchestrator.start()
if len(sys.argv) == 2:  # the reloader, which imports the application too, and then runs it in a process of its own
    code = open(f"/proc/{os.getpid()}/cmdline").read().split("\\0")[2]
    print(subprocess.call([sys.executable, "-c", code, folder, "the application"]), flush=True)
    sys.stdin.readline()
else:
    for n in range(20):
        orchestrator.get_handle(orchestrator.invoke_workflow("job")).result(timeout=20)
orchestrator.stop()
"""


def test_a_reloader_does_not_double_runs(tmp_path: Path, effects: Effects) -> None:
    with child(RELOADER, tmp_path) as process:
        assert process.hear() == "0"
        process.tell()
        assert process.process.wait(timeout=30) == 0
    assert effects.count("work") == 20
    assert rows(tmp_path, "SELECT count(*) FROM workflows") == [(20,)]


# --- never "database is locked" ---------------------------------------------------------------------------------------

RUNS_EACH = 40
BUSY = PRELUDE + f"""
@activity
def work(n):
    return n + 1

@workflow
def job(n):
    return work(work(n))

errors = []

def invoke(thread):
    try:
        for n in range({RUNS_EACH}):
            handle = orchestrator.start_workflow(job, n, workflow_id=f"{{sys.argv[2]}}-{{thread}}-{{n}}")
            if handle.result(timeout=60) != n + 2:
                errors.append("wrong result")
    except Exception as error:
        errors.append(repr(error))

orchestrator = Orchestrator(folder + "/runs.db", max_workers=8)
orchestrator.start()
threads = [threading.Thread(target=invoke, args=[number]) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
orchestrator.stop()
print(errors, flush=True)
"""

HOLDING = """
import sqlite3, sys, threading, time
from py_orchestrate import Orchestrator

path = sys.argv[1] + "/runs.db"
ended = threading.Event()

def list_all():
    with Orchestrator(path) as orchestrator:
        while not ended.is_set():
            orchestrator.list_workflows(limit=100)
            listed.append(1)

listed = []
lister = threading.Thread(target=list_all)
lister.start()
connection = sqlite3.connect(path, timeout=60, isolation_level=None)
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
times = 0
while not ended.is_set():
    connection.execute("BEGIN IMMEDIATE")
    times += 1
    ended.wait(1)
    connection.execute("COMMIT")
    ended.wait(0.3)
lister.join()
print(times, len(listed), flush=True)
"""


@pytest.mark.slow
def test_many_writers_and_a_long_one_see_no_error(tmp_path: Path) -> None:
    SQLiteDatabaseManager(tmp_path / "runs.db").close()
    with ExitStack() as stack:
        holder = stack.enter_context(child(HOLDING, tmp_path))
        writers = [stack.enter_context(child(BUSY, tmp_path, number)) for number in range(4)]
        assert [writer.hear() for writer in writers] == ["[]"] * 4
        assert [writer.process.wait(timeout=30) for writer in writers] == [0] * 4
        holder.tell()
        times, listed = map(int, holder.hear().split())
        assert holder.process.wait(timeout=30) == 0
    assert times >= 3, "nobody held the database, so nothing was tested"
    assert listed > 10
    assert rows(tmp_path, "SELECT status, count(*) FROM workflows GROUP BY status") == [("done", 4 * 8 * RUNS_EACH)]
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(tmp_path, "SELECT count(*) FROM orchestrators") == [(0,)]


CREATING = PRELUDE + """
@workflow
def job():
    return "done"

print("ready", flush=True)
for line in sys.stdin:
    path, moment = line.split()
    while time.monotonic() < float(moment):
        pass
    try:
        with Orchestrator(path) as orchestrator:
            print(orchestrator.get_handle(orchestrator.invoke_workflow("job")).result(timeout=20), flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_two_processes_may_create_the_file_at_the_same_instant(tmp_path: Path) -> None:
    with child(CREATING, tmp_path) as first, child(CREATING, tmp_path) as second:
        assert (first.hear(), second.hear()) == ("ready", "ready")
        for n in range(30):
            moment = time.monotonic() + 0.01
            for each in (first, second):
                each.tell(f"{tmp_path}/{n}.db {moment}")
            assert (first.hear(), second.hear()) == ("done", "done")
        for each in (first, second):
            each.process.stdin.close()
            assert each.process.wait(timeout=30) == 0


# --- a killed process -------------------------------------------------------------------------------------------------

STEPPING = PRELUDE + """
@activity
def first():
    effects.note("first")
    return "one"

@activity
def second(text):
    effects.note("second", sys.argv[2])
    if sys.argv[2] == "killed":
        threading.Event().wait()
    return text + " two"

@workflow
def job():
    return second(first())

with Orchestrator(folder + "/runs.db") as orchestrator:
    print(orchestrator.start_workflow(job, workflow_id="run").result(timeout=30), flush=True)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, effects: Effects) -> None:
    with child(STEPPING, tmp_path, "killed") as process:
        wait_until(lambda: effects.count("second", "killed"), timeout=30)
        process.kill()
    assert rows(tmp_path, "SELECT status FROM workflows") == [("processing",)]
    with child(STEPPING, tmp_path, "later") as process:
        assert process.hear() == "one two"
        assert process.process.wait(timeout=30) == 0
    assert [" ".join(line) for line in effects.lines()] == ["first", "second killed", "second later"]
