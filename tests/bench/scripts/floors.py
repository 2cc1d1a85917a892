"""The floors: what raw SQLite does with the durability of the library (WAL, ``synchronous=FULL``), with bare SQL.

``python floors.py {one-row|group-commit} FOLDER [--count N]`` prints one line of JSON.

======================  ==============================================================================================
``one-row``             one thread, one row to a commit: one ``INSERT``, which is a transaction of its own
``group-commit``        eight threads that each store one row at a time and go on when it is on the disk; whoever finds
                        nobody committing commits all that wait, as the library's threads do
======================  ==============================================================================================
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import threading
import time
from collections import deque
from pathlib import Path

THREADS = 8
ROW = "x" * 60
_INSERT = "INSERT INTO outcome (value) VALUES (?)"


def _connect(folder: Path, name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / name, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE outcome (id INTEGER PRIMARY KEY, value TEXT)")
    return connection


def one_row(folder: Path, count: int) -> float:
    """Return how many rows a second one thread stores, one to a commit."""
    connection = _connect(folder, "one-row.db")
    started = time.perf_counter()
    for _ in range(count):
        connection.execute(_INSERT, (ROW,))
    return count / (time.perf_counter() - started)


class _Caller:
    """A thread that stores a row; ``turn`` is released when the row is stored, or when the thread is to lead."""

    def __init__(self, row: str) -> None:
        self.row = row
        self.stored = False
        self.turn = threading.Lock()
        self.turn.acquire()


class _Group:
    """A group commit in its simplest form: who finds nobody leading commits all that wait, and hands on the lead."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._mutex = threading.Lock()
        self._waiting: deque[_Caller] = deque()
        self._is_led = False

    def store(self, row: str) -> None:
        """Store a row; return when it is on the disk."""
        caller = _Caller(row)
        with self._mutex:
            leads, self._is_led = not self._is_led, True
            if not leads:
                self._waiting.append(caller)
        if not leads:
            caller.turn.acquire()
        if not caller.stored:
            self._lead(caller)

    def _lead(self, caller: _Caller) -> None:
        with self._mutex:
            batch = [caller, *self._waiting]
            self._waiting.clear()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, [(each.row,) for each in batch])
        self._connection.execute("COMMIT")
        for each in batch[1:]:
            each.stored = True
            each.turn.release()
        with self._mutex:
            following = self._waiting.popleft() if self._waiting else None
            self._is_led = following is not None
        if following is not None:
            following.turn.release()


def group_commit(folder: Path, count: int) -> float:
    """Return how many rows a second eight threads store, one at a time each."""
    group = _Group(_connect(folder, "group-commit.db"))

    def store() -> None:
        for _ in range(count // THREADS):
            group.store(ROW)

    threads = [threading.Thread(target=store) for _ in range(THREADS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count // THREADS * THREADS / (time.perf_counter() - started)


FLOORS = {"one-row": one_row, "group-commit": group_commit}


def main() -> int:
    """Measure the floor that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("floor", choices=FLOORS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    print(json.dumps({"rows_per_second": FLOORS[options.floor](options.folder, options.count)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
