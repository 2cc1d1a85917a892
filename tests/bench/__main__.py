"""Benchmarks: ``python -m tests.bench [--runs N] [--json FILE]``.

Every figure is a ratio to raw SQLite of the same durability (WAL, ``synchronous=FULL``, one row to a commit), measured
in the same run and in turn with it, because the speed of a disk and of a shared machine drifts. The medians over the
runs are what counts. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow
from py_orchestrate.models import ActivityStatus, StepRecord

_ROWS = 1000


@activity
def add(total, number):
    return total + number


@workflow
def sequence(count):
    total = 0
    for number in range(count):
        total = add(total, number)
    return total


@workflow
def fan_out(count):
    return sum(add.map(range(count), range(count)))


def raw_commits_per_second(folder: Path) -> float:
    """Return how many rows a second raw SQLite stores, one to a commit, each on the disk before the next."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE outcome (id INTEGER PRIMARY KEY, value TEXT)")
    started = time.perf_counter()
    for _ in range(_ROWS):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO outcome (value) VALUES (?)", ("x" * 60,))
        connection.execute("COMMIT")
    elapsed = time.perf_counter() - started
    connection.close()
    return _ROWS / elapsed


def sequential(folder: Path) -> float:
    """Return activities a second: one workflow, one after the other."""
    with Orchestrator(folder / "sequential.db", max_workers=8) as orchestrator:
        orchestrator.start_workflow(sequence, 3).result(60)
        started = time.perf_counter()
        orchestrator.start_workflow(sequence, _ROWS).result(120)
        return _ROWS / (time.perf_counter() - started)


def many_workflows(folder: Path) -> float:
    """Return workflows a second: 500 of five activities on eight workers, from the first start to the last end."""
    with Orchestrator(folder / "many.db", max_workers=8) as orchestrator:
        started = time.perf_counter()
        handles = [orchestrator.start_workflow(sequence, 5) for _ in range(500)]
        for handle in handles:
            handle.wait(120)
        return 500 / (time.perf_counter() - started)


def latency(folder: Path) -> float:
    """Return the median seconds from starting a workflow of one activity to having its result."""
    times = []
    with Orchestrator(folder / "latency.db", max_workers=8) as orchestrator:
        for _ in range(200):
            started = time.perf_counter()
            orchestrator.start_workflow(sequence, 1).result(60)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def parallel(folder: Path) -> float:
    """Return activities a second: 1,000 submitted by one workflow, on eight threads."""
    with Orchestrator(folder / "parallel.db", max_workers=8) as orchestrator:
        started = time.perf_counter()
        orchestrator.start_workflow(fan_out, _ROWS).result(120)
        return _ROWS / (time.perf_counter() - started)


def replay(folder: Path, steps: int) -> float:
    """Return microseconds a step: a workflow that was interrupted before its last step is taken up again."""
    orchestrator = Orchestrator(folder / f"replay{steps}.db")
    workflow_id = orchestrator.invoke_workflow("sequence", count=steps)
    database = orchestrator.db
    database.register_owner("writer")
    (record,) = database.claim_workflows("writer", ["sequence"], 1)
    now = record.created_at
    total, history = 0, []
    for number in range(steps - 1):
        total += number
        arguments = f'{{"total":{total - number},"number":{number}}}'
        completed = ActivityStatus.COMPLETED.value
        history.append(StepRecord(number, "activity", "add", completed, arguments, str(total), None, None, now, now))
    database.record_steps(workflow_id, record.epoch, history)
    database.release_owner("writer")
    started = time.perf_counter()
    with orchestrator:
        result = orchestrator.get_handle(workflow_id).result(120)
        elapsed = time.perf_counter() - started
    assert result == total + steps - 1
    return elapsed / steps * 1e6


def import_milliseconds() -> float:
    """Return what importing the package adds to a bare interpreter."""

    def run(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    run("import py_orchestrate")
    pairs = [run("import py_orchestrate") - run("pass") for _ in range(5)]
    return statistics.median(pairs) * 1e3


def measure(folder: Path) -> dict[str, float]:
    """Return one run's figures."""
    raw = raw_commits_per_second(folder)
    return {
        "raw commits/s": raw,
        "sequential activities per raw commit": sequential(folder) / raw,
        "500 workflows x 5 activities, workflows per raw commit": many_workflows(folder) / raw,
        "start to result, one activity, in raw commits": latency(folder) * raw,
        "fan-out of 1,000, activities per raw commit": parallel(folder) / raw,
        "replay of 5,000 steps, us a step": replay(folder, 5_000),
        "replay of 50,000 steps, us a step": replay(folder, 50_000),
        "import over bare Python, ms": import_milliseconds(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="how often to measure (5)")
    parser.add_argument("--json", type=Path, help="also write every run's figures to this file")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}")
    figures: list[dict[str, float]] = []
    for run in range(options.runs):
        print(f"run {run + 1} of {options.runs} …", flush=True)
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on the project's disk: /tmp may be memory
            figures.append(measure(Path(folder)))
    print(f"\n{'figure':<58}{'median':>10}{'lowest':>10}{'highest':>10}")
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        print(f"{name:<58}{statistics.median(values):>10.2f}{min(values):>10.2f}{max(values):>10.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
