"""A SQLite file in a process that forks: the parent and the child go on, and nothing is lost or damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from py_orchestrate import SQLiteDatabaseManager
from py_orchestrate.db_manager import _group_commit
from py_orchestrate.testing._samples import race, run_record

from ..children import forked, in_fork
from ..sqlite_files import descriptors_of, needs_proc, query
from ..waiting import wait_until

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orchestrate.db"


@pytest.fixture
def manager(path: Path) -> Iterator[SQLiteDatabaseManager]:
    manager = SQLiteDatabaseManager(path)
    yield manager
    manager.close()


@needs_fork
def test_a_forked_child_and_its_parent_both_write(manager: SQLiteDatabaseManager, path: Path) -> None:
    manager.create_workflow(run_record("before"))
    manager.read_workflow("before")

    def use() -> None:
        if os.path.isdir("/proc/self/fd"):
            assert descriptors_of(path) == []
        assert manager.read_workflow("before") is not None
        for n in range(50):
            assert manager.create_workflow(run_record(f"child-{n}")) is None
        assert len(manager.get_processing_workflows()) >= 51
        assert query(path, "PRAGMA integrity_check") == [("ok",)]

    with forked(use):
        for n in range(50):
            assert manager.create_workflow(run_record(f"parent-{n}")) is None
    assert len(manager.list_workflows()) == 101
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


@needs_fork
def test_a_fork_may_come_while_threads_write(manager: SQLiteDatabaseManager, path: Path) -> None:
    stopped = threading.Event()

    def write_and_read(name: str) -> int:
        count = 0
        while not stopped.is_set():
            manager.create_workflow(run_record(f"{name}-{count}"))
            assert manager.read_workflow(f"{name}-{count}") is not None
            count += 1
        return count

    def use(n: int) -> None:
        for each in range(5):
            manager.create_workflow(run_record(f"child-{n}-{each}"))
        assert len(manager.page_workflows(limit=5)) == 5

    def fork() -> int:
        try:
            for n in range(8):
                in_fork(partial(use, n))
        finally:
            stopped.set()
        return 8 * 5

    counts = race([fork, *[partial(write_and_read, f"thread{n}") for n in range(3)]])
    assert query(path, "SELECT count(*) FROM workflows") == [(sum(counts),)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


@needs_fork
def test_a_parent_may_close_while_its_child_writes(manager: SQLiteDatabaseManager, path: Path) -> None:
    # SQLite's inherited table of locks would let the child trust the parent's, and the parent remove the child's log.
    manager.create_workflow(run_record("before"))
    to_child, to_parent = os.pipe(), os.pipe()

    def use() -> None:
        manager.create_workflow(run_record("child-1"))
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        manager.create_workflow(run_record("child-2"))
        assert [run.id for run in manager.page_workflows()] == ["child-2", "child-1", "before"]

    with forked(use):
        os.read(to_parent[0], 1)
        assert manager.read_workflow("child-1") is not None
        manager.close()
        os.write(to_child[1], b"x")
    for descriptor in (*to_child, *to_parent):
        os.close(descriptor)
    assert [run.id for run in manager.page_workflows()] == ["child-2", "child-1", "before"]


@needs_fork
def test_a_fork_inside_a_transaction_does_not_break_it(
    manager: SQLiteDatabaseManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_group_commit, "_FORK_WAIT_SECONDS", 0.01)

    def operation(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO orchestrators (id, registered_at) VALUES ('first', 'now')")
        in_fork(lambda: None)
        connection.execute("INSERT INTO orchestrators (id, registered_at) VALUES ('second', 'now')")

    manager._write(operation)
    assert query(path, "SELECT count(*) FROM orchestrators") == [(2,)]
    in_fork(lambda: manager.create_workflow(run_record("child")))
    assert manager.read_workflow("child") is not None


@needs_fork
def test_a_fork_waits_for_a_reader(manager: SQLiteDatabaseManager, path: Path) -> None:
    reading, forking = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> int:
        reading.set()
        wait_until(forking.is_set)
        return len(connection.execute("SELECT * FROM workflows").fetchall())

    def use() -> None:
        if os.path.isdir("/proc/self/fd"):
            assert descriptors_of(path) == []
        manager.create_workflow(run_record("child"))

    def fork() -> None:
        reading.wait(10)
        forking.set()
        in_fork(use)

    race([lambda: manager._read(slow), fork])
    assert [run.id for run in manager.page_workflows()] == ["child"]


@needs_proc
def test_a_program_that_is_started_inherits_nothing(manager: SQLiteDatabaseManager, path: Path) -> None:
    manager.register_owner("me")
    manager.create_workflow(run_record("run"))
    script = (
        "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) < 50][:-1])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert str(path) not in result.stdout
