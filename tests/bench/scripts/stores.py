"""Large stores, written by SQL in one transaction: what the benchmarks of memory, listing and replay begin with.

``python stores.py {pending|ended|history} FOLDER --count N`` makes ``FOLDER/py_orchestrate.db``.

======================  ==============================================================================================
``pending``             N workflows ``add_up`` of five activities that are ready and have not begun
``ended``               N workflows ``add_up`` that are done
``history``             one workflow ``replayed``, as the driver's ``replay`` takes it up, with N - 1 recorded steps
======================  ==============================================================================================
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from py_orchestrate.models import ActivityStatus, StepRecord

FILE = "py_orchestrate.db"
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
_INSERT = (
    "INSERT INTO workflows (id, name, status, input_data, output_data, created_at, updated_at, epoch) "
    "VALUES (?, 'add_up', ?, '{\"count\":5}', ?, ?, ?, ?)"
)


def _moment(number: int) -> str:
    return (FIRST + timedelta(milliseconds=number)).isoformat(timespec="microseconds")


def _insert(path: Path, count: int, status: str, output: str | None, epoch: int) -> None:
    SQLiteDatabaseManager(path).close()
    rows = ((f"run-{n}", status, output, moment, moment, epoch) for n in range(count) if (moment := _moment(n)))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(_INSERT, rows)


def pending(path: Path, count: int) -> None:
    """Store workflows that are ready."""
    _insert(path, count, "processing", None, 0)


def ended(path: Path, count: int) -> None:
    """Store workflows that are done."""
    _insert(path, count, "done", "10", 1)


@activity
def add(total, number):
    """Stand for the driver's activity of this name."""


@workflow
def replayed(count):
    """Stand for the driver's workflow of this name."""


def history(path: Path, count: int) -> None:
    """Store a workflow whose last step is missing, through the library's own storage interface."""
    orchestrator = Orchestrator(path)
    orchestrator.start_workflow(replayed, count, workflow_id="replay")
    database = orchestrator.db
    database.register_owner("writer")
    (record,) = database.claim_workflows("writer", ["replayed"], 1)
    now = record.created_at
    total, steps = 0, []
    for number in range(count - 1):
        arguments = f'{{"total":{total},"number":{number}}}'
        total += number
        done = ActivityStatus.COMPLETED.value
        steps.append(StepRecord(number, "activity", "add", done, arguments, str(total), None, None, now, now))
    if steps:
        database.record_steps("replay", record.epoch, steps)
    database.release_owner("writer")
    database.close()


KINDS = {"pending": pending, "ended": ended, "history": history}


def main() -> int:
    """Make the store that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    KINDS[options.kind](options.folder / FILE, options.count)
    print("{}")
    sys.stdout.flush()
    os._exit(0)  # the warning that nothing runs what was stored is of no interest here


if __name__ == "__main__":
    main()
