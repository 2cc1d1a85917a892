"""Transactional activities, with a kill before every statement of the database: exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
import sqlite3
from contextlib import closing

with closing(sqlite3.connect(folder + "/runs.db", timeout=60)) as mine:
    mine.execute("CREATE TABLE IF NOT EXISTS ledger (account TEXT, amount INTEGER)")
    mine.commit()

@activity(transactional=True)
def book(connection, account, amount):
    connection.execute("INSERT INTO ledger VALUES (?, ?)", (account, amount))
    connection.execute("INSERT INTO ledger VALUES ('bank', ?)", (-amount,))
    return connection.execute("SELECT sum(amount) FROM ledger").fetchone()[0]

@activity(transactional=True, retry=RetryPolicy(max_attempts=3, initial_interval=0.01))
def flaky(connection, account, amount):
    connection.execute("INSERT INTO ledger VALUES (?, ?)", (account, amount))
    if durable.info().attempt < 2:
        raise ConnectionError("rolled back")
    return amount

@activity
def ledger():
    with closing(sqlite3.connect(folder + "/runs.db", timeout=60)) as mine:
        return mine.execute("SELECT account, count(*), sum(amount) FROM ledger GROUP BY 1 ORDER BY 1").fetchall()

@workflow
def main():
    seen = [book("Ada", 5), book("Alan", 7)]
    seen += [future.result() for future in (book.submit("Ada", 1), book.submit("Alan", 2))]
    seen.append(flaky("Grace", 3))
    durable.sleep(0.01)
    return [seen, ledger()]
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    status, (sums, ledger), _ = found.result
    assert (status, sums) == ("done", [0, 0, 0, 0, 3])
    assert [tuple(row) for row in ledger] == [("Ada", 2, 6), ("Alan", 2, 9), ("Grace", 1, 3), ("bank", 4, -15)]
    return found


@pytest.mark.parametrize("boundary", [*BOUNDARIES[:2], "before a statement"])
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    kills = survives_every_kill(tmp_path, SCRIPT, boundary, expected)
    assert kills >= (60 if boundary == "before a statement" else 8)
