"""Many sleeping workflows: ``python -m tests.sleepers [--workflows N] [--seconds S]``.

Puts the workflows into a SQLite file as they stand when they sleep, due one after another over some seconds, and lets
one orchestrator wake them. Prints how late they were, and what that cost in threads, memory and processor time; exit
code 1 if one was late by over a second, or if they took more threads or memory than a few would.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, durable, workflow

WORKERS = 8
LATEST_SECONDS = 1.0
MOST_MEGABYTES = 60.0

late: list[float] = []


@workflow
def sleeper(due):
    durable.sleep_until(datetime.fromtimestamp(due, UTC))
    late.append(time.time() - due)


def put_to_sleep(path: Path, dues: list[float]) -> None:
    SQLiteDatabaseManager(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, due in enumerate(dues):
            moment = datetime.fromtimestamp(due, UTC).isoformat(timespec="microseconds")
            connection.execute(
                "INSERT INTO workflows (id, name, status, input_data, created_at, updated_at, epoch, wake_at) "
                "VALUES (?, 'sleeper', 'processing', ?, ?, ?, 1, ?)",
                (f"run-{number}", json.dumps({"due": due}), moment, moment, moment),
            )
            connection.execute(
                "INSERT INTO activity_executions "
                "(workflow_id, sequence, id, kind, activity_name, input_data, status, created_at, state_data) "
                "VALUES (?, 0, ?, 'timer', 'sleep', '{}', 'waiting', ?, ?)",
                (f"run-{number}", f"run-{number}:0", moment, json.dumps({"wake_at": moment, "since": moment})),
            )


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def watch(path: Path, workflows: int, seconds: float) -> list[str]:
    """Run it; return what is wrong."""
    first = time.time() + 2 + workflows / 25_000
    put_to_sleep(path, [first + seconds * number / workflows for number in range(workflows)])
    before, threads = megabytes(), 0
    with Orchestrator(path, max_workers=WORKERS):
        began = time.process_time()
        while len(late) < workflows and time.time() < first + seconds + 60:
            threads = max(threads, threading.active_count())
            time.sleep(0.1)
        used = time.process_time() - began
    late.sort()
    print(
        f"{len(late)} of {workflows} woken in {seconds:.0f} s, late by {late[len(late) // 2] * 1000:.0f} ms (median), "
        f"{late[-1] * 1000:.0f} ms (latest); {threads} threads, {megabytes():.0f} MB ({before:.0f} before), "
        f"{used:.1f} s of processor time"
    )
    wrong = []
    if len(late) < workflows:
        wrong.append(f"{workflows - len(late)} were not woken")
    if late[-1] > LATEST_SECONDS:
        wrong.append(f"the latest was later than {LATEST_SECONDS} s")
    if threads > WORKERS + 5:
        wrong.append(f"{threads} threads")
    if megabytes() > MOST_MEGABYTES:
        wrong.append(f"{megabytes():.0f} MB")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sleepers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        wrong = watch(Path(folder) / "runs.db", options.workflows, options.seconds)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
