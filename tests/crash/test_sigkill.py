"""Processes that are killed with SIGKILL: what was stored stays, what was not is done again, nothing else."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import SQLiteDatabaseManager

from ..children import Child, child
from ..effects import Effects
from ..waiting import wait_until

pytestmark = pytest.mark.crash

PRELUDE = """
import os, sys, threading, time
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


@pytest.fixture
def seed() -> int:
    """Return a fresh seed; pytest shows it when the test fails."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    return seed


def rows(folder: Path, sql: str, *values: object) -> list[Any]:
    """Return what another program sees in the file, once it has found the file sound."""
    with closing(sqlite3.connect(folder / "runs.db", timeout=60)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return connection.execute(sql, values).fetchall()


def kill(process: Child, effects: Effects) -> None:
    """Kill the process and note it, after the last line that it can have written."""
    process.kill()
    effects.note("kill")


# --- many workflows, killed at random ---------------------------------------------------------------------------------

MANY_KILLS, MANY_RUNS, MANY_STEPS, MANY_WORKERS = 25, 200, 20, 8
MANY = PRELUDE + f"""
@activity
def step(n):
    key = durable.info().idempotency_key
    effects.note("start", key)
    effects.note("end", key)
    return n

@workflow
def chain():
    return sum([step(n) for n in range({MANY_STEPS})])

with Orchestrator(folder + "/runs.db", max_workers={MANY_WORKERS}) as orchestrator:
    handles = [orchestrator.start_workflow(chain, workflow_id=f"run-{{n}}") for n in range({MANY_RUNS})]
    print({{handle.result() for handle in handles}}, flush=True)
"""


def test_many_workflows_survive_many_kills(tmp_path: Path, effects: Effects, seed: int) -> None:
    chance = random.Random(seed)
    whole = MANY_RUNS * MANY_STEPS * len("start run-100:10\nend run-100:10\n")
    for left in range(MANY_KILLS, 0, -1):
        with child(MANY, tmp_path) as process:
            # After so much work, or, every fifth time, somewhere in the start.
            goal = effects.size + chance.uniform(0.1, 1.1) * (whole - effects.size) / (left + 1)
            moment = time.monotonic() + (20 if left % 5 else chance.uniform(0, 0.4))
            wait_until(lambda goal=goal, moment=moment: effects.size >= goal or time.monotonic() >= moment, timeout=30)
            time.sleep(chance.uniform(0, 0.005))  # not to wait for something, but to strike at any moment
            assert process.process.poll() is None, "the process ended by itself"
            kill(process, effects)
        if (tmp_path / "runs.db").exists():
            rows(tmp_path, "SELECT 1")
    with child(MANY, tmp_path) as process:
        assert process.hear() == str({sum(range(MANY_STEPS))})

    assert rows(tmp_path, "SELECT status, count(*) FROM workflows GROUP BY status") == [("done", MANY_RUNS)]
    assert rows(tmp_path, "SELECT count(*) FROM activity_executions") == [(MANY_RUNS * MANY_STEPS,)]
    repeats = explained_repeats(effects.lines(), MANY_RUNS * MANY_STEPS)
    assert max(repeats.values(), default=0) <= MANY_WORKERS, repeats
    print(f"repeats at each kill: {dict(repeats)}")


def explained_repeats(lines: list[list[str]], keys: int) -> Counter[int]:
    """Return how many steps ran again because of each kill.

    A step may run again only if its outcome was not stored when the process was killed. It was stored if that process
    began the run's next step.
    """
    kills = 0
    last_started: dict[str, tuple[int, int]] = {}  # by run: the process and the step
    ran_in: dict[tuple[str, int], int] = {}
    ended: set[tuple[str, int]] = set()
    repeats: Counter[int] = Counter()
    for word, *key in lines:
        if word == "kill":
            kills += 1
            continue
        run, _, number = key[0].rpartition(":")
        step = int(number)
        if word == "end":
            assert ran_in[run, step] == kills, f"{key} ended without having begun"
            ended.add((run, step))
            continue
        if (run, step) in ran_in:
            before = ran_in[run, step]
            assert before < kills, f"{key} ran twice in one process"
            assert last_started[run] == (before, step), f"{key} ran again though a later step had begun"
            repeats[before] += 1
        else:
            assert step == 0 or (run, step - 1) in ended, f"{key} began before the step in front of it had ended"
        ran_in[run, step] = kills
        last_started[run] = (kills, step)
    assert len(ended) == keys, f"{keys - len(ended)} steps never ran to their end"
    return repeats


# --- one workflow with many activities at once, killed at random ------------------------------------------------------

FAN_KILLS, FAN_STEPS, FAN_WORKERS = 12, 3000, 4
FAN = PRELUDE + f"""
@activity
def step(n):
    key = durable.info().sequence
    effects.note("start", key)
    effects.note("end", key)
    return n

@workflow
def spread():
    return sum(step.map(range({FAN_STEPS})))

with Orchestrator(folder + "/runs.db", max_workers={FAN_WORKERS}) as orchestrator:
    print(orchestrator.start_workflow(spread, workflow_id="run").result(), flush=True)
"""


def test_a_fan_out_survives_many_kills(tmp_path: Path, effects: Effects, seed: int) -> None:
    """What shares a write is durable when it counts, and no more is in flight than is said."""
    chance = random.Random(seed)
    whole = FAN_STEPS * len("\nstart 1000 ;\nend 1000 ;")
    for left in range(FAN_KILLS, 0, -1):
        with child(FAN, tmp_path) as process:
            goal = effects.size + chance.uniform(0.2, 1.0) * (whole - effects.size) / (left + 1)
            wait_until(lambda goal=goal: effects.size >= goal, timeout=30)
            time.sleep(chance.uniform(0, 0.005))  # not to wait for something, but to strike at any moment
            assert process.process.poll() is None, "the process ended by itself"
            kill(process, effects)
        rows(tmp_path, "SELECT 1")
    with child(FAN, tmp_path) as process:
        assert process.hear() == str(sum(range(FAN_STEPS)))

    assert rows(tmp_path, "SELECT status, count(*) FROM activity_executions GROUP BY 1") == [("completed", FAN_STEPS)]
    ran_in: dict[str, int] = {}
    kills = 0
    repeats: Counter[int] = Counter()
    for word, *key in effects.lines():
        kills += word == "kill"
        if word == "start":
            if key[0] in ran_in:
                assert ran_in[key[0]] < kills, f"{key} ran twice in one process"
                repeats[ran_in[key[0]]] += 1
            ran_in[key[0]] = kills
    assert len(ran_in) == FAN_STEPS
    assert max(repeats.values(), default=0) <= 3 * FAN_WORKERS, repeats
    print(f"repeats at each kill: {dict(repeats)}")


# --- acknowledged means durable ---------------------------------------------------------------------------------------

ACKNOWLEDGING = PRELUDE + """
@activity
def double(n):
    return 2 * n

@workflow
def quick(n):
    return double(n) + double(n)

def invoke(thread):
    n = 0
    while True:
        n += 1
        found = orchestrator.invoke_workflow("quick", n=n)
        effects.note("invoked", found)
        if n % 3 == 0:
            handle = orchestrator.get_handle(found)
            assert handle.result() == 4 * n
            effects.note("done", found)

orchestrator = Orchestrator(folder + "/runs.db", max_workers=3)
orchestrator.start()
for thread in range(4):
    threading.Thread(target=invoke, args=[thread], daemon=True).start()
threading.Event().wait()
"""


def test_what_was_acknowledged_is_stored(tmp_path: Path, effects: Effects, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(6):
        goal = effects.size + chance.randrange(1, 20_000)
        with child(ACKNOWLEDGING, tmp_path) as process:
            wait_until(lambda goal=goal: effects.size >= goal, timeout=30)
            process.kill()
        stored = dict(rows(tmp_path, "SELECT id, status FROM workflows"))
        acknowledged = effects.lines()
        assert all(found in stored for word, found in acknowledged)
        assert {stored[found] for word, found in acknowledged if word == "done"} <= {"done"}
    print(f"{effects.count('invoked')} invoked, {effects.count('done')} results seen")
    assert effects.count("done") > 10


# --- taking over ------------------------------------------------------------------------------------------------------

BLOCKING = PRELUDE + """
@activity
def first(n):
    effects.note("first", n)

@activity
def second(n):
    effects.note("second", n, sys.argv[2], time.monotonic())
    if sys.argv[2] == "dies":
        time.sleep(300)

@workflow
def two_steps(n):
    first(n)
    second(n)

orchestrator = Orchestrator(folder + "/runs.db", max_workers=4)
print(time.monotonic(), flush=True)
orchestrator.start()
if sys.argv[2] == "dies":
    for n in range(6):
        orchestrator.invoke_workflow("two_steps", n=n)
sys.stdin.readline()
orchestrator.stop()
"""


@pytest.mark.parametrize("when", ["started later", "running already"])
def test_runs_of_a_killed_process_are_taken_over_at_once(tmp_path: Path, effects: Effects, when: str) -> None:
    with ExitStack() as stack:
        victim = stack.enter_context(child(BLOCKING, tmp_path, "dies"))
        wait_until(lambda: effects.count("second") == 4, timeout=30)
        if when == "running already":
            heir = stack.enter_context(child(BLOCKING, tmp_path, "heir"))
            # The two that wait for a worker are its own to take; the four that run are not.
            wait_until(lambda: effects.count("second") == 6, timeout=30)
            assert {line[1] for line in effects.lines() if line[2:3] == ["heir"]} == {"4", "5"}
            heir.hear()
            began = time.monotonic()
            victim.kill()
            limit = 2.0
        else:
            victim.kill()
            heir = stack.enter_context(child(BLOCKING, tmp_path, "heir"))
            began = float(heir.hear())
            limit = 1.0
        wait_until(lambda: sum(line[2:3] == ["heir"] for line in effects.lines()) == 6, timeout=30)
        taken_over = max(float(line[3]) for line in effects.lines() if line[0] == "second")
        assert taken_over - began < limit
        heir.tell()
        assert heir.process.wait(timeout=30) == 0
    assert effects.count("first") == 6, "a step that was stored ran again"
    assert rows(tmp_path, "SELECT DISTINCT status, owner FROM workflows") == [("done", None)]
    with closing(SQLiteDatabaseManager(tmp_path / "runs.db")) as database:
        assert len(database.page_workflows()) == 6
    assert rows(tmp_path, "SELECT count(*) FROM orchestrators") == [(0,)]
    assert not (tmp_path / "runs.db-owners").exists()
