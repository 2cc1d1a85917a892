"""A start on a store in which very much waits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from py_orchestrate import Orchestrator, Queue, SQLiteDatabaseManager, workflow

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
COUNT = 100_000


@pytest.mark.parametrize("queue", ["", "mail"])
def test_a_start_claims_what_it_can_run_and_reads_no_more(
    tmp_path: Path, orchestrator: MakeOrchestrator, queue: str
) -> None:
    path = tmp_path / "runs.db"
    SQLiteDatabaseManager(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO workflows (id, name, status, input_data, created_at, updated_at, queue, priority) "
            "VALUES (?, 'job', 'processing', ?, '2030-01-01T00:00:00+00:00', '2030-01-01T00:00:00+00:00', ?, ?)",
            # The first one cannot be decoded, and the second has a name that nobody knows.
            ((f"run-{n}", "not JSON" if n == 0 else '{"n":1}', queue, n % 3) for n in range(COUNT)),
        )
        connection.execute("UPDATE workflows SET name = 'unknown' WHERE id = 'run-1'")
    gate = threading.Event()
    begun: list[int] = []

    @workflow
    def job(n: int) -> None:
        begun.append(n)
        assert gate.wait(30)

    steps: list[int] = []
    manager = SQLiteDatabaseManager(path)
    manager.list_queues()
    for connection in (manager._connections._writer, *manager._connections._readers):
        # Called once in so many of SQLite's own instructions: a look at each of 100,000 rows takes many times as many.
        connection.set_progress_handler(lambda: steps.append(1), 100)
    runner = orchestrator(manager, max_workers=4, queues=[Queue("mail", concurrency=50)] if queue else ())
    try:
        wait_until(lambda: len(begun) == 4)
        with closing(sqlite3.connect(path)) as connection:
            (held,) = connection.execute("SELECT count(*) FROM workflows WHERE owner IS NOT NULL").fetchone()
            (failed,) = connection.execute("SELECT count(*) FROM workflows WHERE status = 'failed'").fetchone()
        assert (held, failed) == (4, 1)
        assert 0 < len(steps) <= COUNT / 100
        assert runner.start_workflow(job, 2).status()["status"] == "processing"
    finally:
        stopping = threading.Thread(target=runner.stop)  # else it would go on with the 100,000
        stopping.start()
        wait_until(lambda: runner._engine._state == "stopping")
        gate.set()
        stopping.join(30)
