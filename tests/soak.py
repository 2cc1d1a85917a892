"""The endurance test: ``python -m tests.soak [--workflows N] [--processes N] [--interval SECONDS] [--seed S]``.

Several processes run thousands of workflows from one SQLite file, or from the Cosmos DB database that ``--cosmos
ENDPOINT KEY DATABASE`` names, with activities one after the other and in parallel, retries, timers, events and child
workflows, while every interval a random one of them is killed, paused for a while or for longer than its lease, or
asked to stop, and replaced. Side effects are counted in a file outside of the database. In the end every workflow is
done, no side effect is missing, and one is repeated only if a process died, or lost its lease, within it or just after
it. Prints its seed and its counts; exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from py_orchestrate import Orchestrator, RetryPolicy, activity, durable, workflow
from tests.effects import Effects
from tests.stores import open_store, use_cosmos

WORKERS = 4
STEPS = 4
FAN_OUT = 3
DEADLINE_SECONDS = 120
LEASE_SECONDS = 4.0

effects: Effects
orchestrator: Orchestrator


@activity
def step(value):
    found = durable.info()
    effects.note("start", found.idempotency_key, os.getpid())
    time.sleep(random.random() * 0.01)
    effects.note("end", found.idempotency_key, os.getpid())
    return value + 1


@activity
def refuse():
    raise ValueError("as it should")


@activity(retry=RetryPolicy(max_attempts=3, initial_interval=0.01))
def stumble(value):
    if durable.info().attempt < 3:
        raise ConnectionError("as it should, twice")
    return value + 1


@activity
def tell(workflow_id, value):
    orchestrator.raise_event(workflow_id, "part", value, event_id=durable.info().idempotency_key)


@workflow
def part(parent_id, value):
    durable.sleep(0.05)
    tell(parent_id, step(value))
    return 1


@workflow
def job(number):
    value = number
    for _ in range(STEPS):
        value = step(value)
    try:
        refuse()
    except ValueError:
        value = stumble(value)
    child = part.submit(durable.info().workflow_id, value)
    value = durable.wait_for_event("part") + child.result()
    return value + sum(step.map([0] * FAN_OUT))


def expected(number: int) -> int:
    return number + STEPS + 1 + 2 + FAN_OUT


def work(folder: Path) -> None:
    """Be one of the processes: run workflows until a line, or the end, comes from standard input."""
    global effects, orchestrator
    effects = Effects(folder / "effects")
    orchestrator = Orchestrator(
        db_manager=open_store(folder), max_workers=WORKERS, poll_interval_seconds=0.1, lease_seconds=LEASE_SECONDS
    )
    with orchestrator:
        sys.stdin.readline()


def begin(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.soak", "--work", str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=(folder / "errors").open("ab"))


def disturb(process: subprocess.Popen[bytes], how: str, chance: random.Random) -> None:
    if how == "kill":
        process.kill()
        process.wait()
    elif how == "stop":
        process.communicate(b"\n", timeout=60)
    else:
        process.send_signal(signal.SIGSTOP)
        time.sleep(chance.random() if how == "pause" else LEASE_SECONDS + chance.random())
        process.send_signal(signal.SIGCONT)


def unfinished(client: Orchestrator) -> bool:
    return bool(client.list_workflows(status="processing", limit=1))


def endure(folder: Path, workflows: int, processes: int, interval: float, chance: random.Random) -> list[str]:
    """Run it all; return what is wrong."""
    client = Orchestrator(db_manager=open_store(folder))  # never started: it only stores
    ids = {client.invoke_workflow("job", number=number): number for number in range(workflows)}
    running = [begin(folder) for _ in range(processes)]
    done: collections.Counter[str] = collections.Counter()
    deadline = time.monotonic() + DEADLINE_SECONDS + workflows / 50
    while unfinished(client) and time.monotonic() < deadline:
        time.sleep(interval)
        place = chance.randrange(processes)
        how = chance.choice(["kill", "kill", "stop", "pause", "outlast"])
        done[how] += 1
        disturb(running[place], how, chance)
        if how not in ("pause", "outlast"):
            running[place] = begin(folder)
    for process in running:
        process.communicate(b"\n", timeout=60)
    return judge(folder, client, ids, done)


def judge(folder: Path, client: Orchestrator, ids: dict[str, int], disturbances: collections.Counter[str]) -> list[str]:
    statuses = {status["id"]: status for status in client.list_workflows()}
    wrong = [
        f"{workflow_id} is {statuses[workflow_id]['status']} with {statuses[workflow_id]['output']}"
        for workflow_id, number in ids.items()
        if (statuses[workflow_id]["status"], statuses[workflow_id]["output"]) != ("done", expected(number))
    ]
    lines = Effects(folder / "effects").lines()
    ended = collections.Counter(key for word, key, _ in lines if word == "end")
    begun = collections.Counter(key for word, key, _ in lines if word == "start")
    stored = {
        f"{workflow_id}:{step.sequence}"
        for workflow_id in statuses
        for step in client.db.get_steps(workflow_id)
        if step.name == "step"
    }
    counts = collections.Counter((status["name"], status["status"]) for status in statuses.values())
    if counts != {("job", "done"): len(ids), ("part", "done"): len(ids)}:
        wrong.append(f"the workflows stand so: {counts}")
    if len(stored) != len(ids) * (STEPS + 1 + FAN_OUT):
        wrong.append(f"{len(stored)} steps are stored")
    wrong += [f"{key} never ended" for key in stored if not ended[key]]
    repeats = sum(begun.values()) - len(begun)
    # Then each worker, and each thread for submitted activities, can be within one activity or just after it.
    lost = disturbances["kill"] + disturbances["outlast"]
    allowed = lost * 2 * WORKERS
    if repeats > allowed:
        wrong.append(f"{repeats} repeats, but {lost} lost processes explain at most {allowed}")
    errors = (folder / "errors").read_text(encoding="utf-8", errors="replace")
    if "Traceback" in errors or "locked" in errors:
        wrong.append(f"the processes said:\n{errors}")
    if (folder / "runs.db").exists():
        with closing(sqlite3.connect(folder / "runs.db")) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                wrong.append("the database file is damaged")
    print(
        f"{len(ids)} workflows, {sum(ended.values())} activities ended, {repeats} repeated "
        f"(at most {allowed} explained), {dict(disturbances)}, {len(wrong)} wrong"
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workflows", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two disturbances (1)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--cosmos", nargs=3, metavar=("ENDPOINT", "KEY", "DATABASE"))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return 0
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        chance = random.Random(options.seed)
        if options.cosmos:
            use_cosmos(Path(folder), *options.cosmos)
        wrong = endure(Path(folder), options.workflows, options.processes, options.interval, chance)
    print("\n".join(wrong[:20]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
