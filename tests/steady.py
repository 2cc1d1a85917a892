"""A steady load for long: ``python -m tests.steady [--workflows N]``.

Runs many workflows from one SQLite file, and deletes them again by rule a second after their end, as a program with a
``retention`` does. Prints how large the file is on the way; exit code 1 if it still grows after the first part, or if
workflows are left at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from tests.waiting import wait_until

PARTS = 10
UNDER_WAY = 200
WORKERS = 4
KEPT_SECONDS = 1.0
MOST_GROWTH = 1.5
"""What is under way and what is not deleted yet differ from moment to moment; without end is ten times the first."""


@activity
def add(total, number):
    return total + number


@workflow
def job(number):
    return add(add(0, number), 1)


def run_part(orchestrator: Orchestrator, numbers: range) -> None:
    """Run some workflows, with a limited number of them under way."""
    started = []
    for number in numbers:
        started.append((number, orchestrator.start_workflow(job, number)))
        if len(started) == UNDER_WAY:
            wait_for(started)
    wait_for(started)


def wait_for(started: list) -> None:
    for number, run in started:
        assert run.result(60) == number + 1
    started.clear()


def watch(path: Path, workflows: int) -> list[str]:
    """Run it; return what is wrong."""
    sizes = []
    manager = SQLiteDatabaseManager(path)
    with Orchestrator(db_manager=manager, max_workers=WORKERS, retention=KEPT_SECONDS) as orchestrator:
        began = time.monotonic()
        for part in range(PARTS):
            count = workflows // PARTS
            run_part(orchestrator, range(part * count, (part + 1) * count))
            sizes.append(sum(each.stat().st_size for each in path.parent.iterdir() if each.is_file()))
            passed = time.monotonic() - began
            print(f"{(part + 1) * count} workflows in {passed:.0f} s: {sizes[-1] / 2**20:.1f} MB", flush=True)
        wait_until(lambda: not orchestrator.list_workflows(limit=1), timeout=120)
    manager.close()
    return [f"the file still grows: {sizes}"] if sizes[-1] > MOST_GROWTH * sizes[0] else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.steady", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workflows", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        wrong = watch(Path(folder) / "runs.db", options.workflows)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
