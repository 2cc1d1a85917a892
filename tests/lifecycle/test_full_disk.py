"""A disk that fills up while workflows run, for real: SQLite itself says that it is full."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from py_orchestrate._engine import engine as engine_module
from py_orchestrate.db_manager import _connections
from py_orchestrate.errors import StorageError

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
ROOM_PAGES = 40


class Disk:
    """The writers of the library, and how large their files may get."""

    def __init__(self) -> None:
        self.writers: list[sqlite3.Connection] = []

    def limit(self, pages: int) -> None:
        """Let the file have so many pages at most."""
        for writer in self.writers:
            (used,) = writer.execute("PRAGMA page_count").fetchone()
            writer.execute(f"PRAGMA max_page_count = {used + pages}")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    open_writer = _connections.Connections._open_writer

    def opened(self: Any) -> sqlite3.Connection:
        disk.writers.append(open_writer(self))
        return disk.writers[-1]

    monkeypatch.setattr(_connections.Connections, "_open_writer", opened)
    monkeypatch.setattr(engine_module, "_LONGEST_RETRY_SECONDS", 0.05)
    return disk


def test_nothing_is_lost_and_it_goes_on_when_there_is_room(
    tmp_path: Path, orchestrator: MakeOrchestrator, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    gate = threading.Event()

    @activity
    def fill(n: int) -> str:
        ran.append(n)
        if n == 0:
            assert gate.wait(20)
        return "x" * 40_000

    @workflow
    def w() -> int:
        return sum(len(fill(n)) for n in range(20))

    @workflow
    def other(text: str) -> int:
        return len(text)

    runner = orchestrator(SQLiteDatabaseManager(tmp_path / "runs.db"))
    handle = runner.start_workflow(w)
    wait_until(lambda: ran)
    disk.limit(ROOM_PAGES)
    gate.set()
    wait_until(lambda: "a write is tried again" in caplog.text)
    assert "database or disk is full" in caplog.text
    stuck = len(ran)
    assert 1 < stuck < 20
    assert handle.status()["status"] == "processing"
    with pytest.raises(StorageError, match="database or disk is full"):  # who starts another one is told
        runner.start_workflow(other, "x" * 400_000, workflow_id="other")
    assert runner.get_workflow_status("other") is None
    disk.limit(100_000)
    assert handle.result(20) == 20 * 40_000
    assert ran == list(range(20))  # each once: what could not be stored was kept
    assert runner.start_workflow(other, "x" * 400_000).result(10) == 400_000
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
