"""A database file that is moved away, removed or replaced while workflows run on it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from py_orchestrate._engine import engine as engine_module
from py_orchestrate.db_manager import _connections
from py_orchestrate.errors import StorageError

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_written_until_it_is_back(
    tmp_path: Path,
    orchestrator: MakeOrchestrator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_replaced: bool,
) -> None:
    monkeypatch.setattr(engine_module, "_LONGEST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(_connections, "_SAME_FILE_SECONDS", 0)
    path, away = tmp_path / "runs.db", tmp_path / "away.db"
    ran: list[int] = []
    gate = threading.Event()

    @activity
    def act(n: int) -> int:
        ran.append(n)
        assert gate.wait(20)
        return n

    @workflow
    def w() -> int:
        return act(1) + act(2)

    runner = orchestrator(SQLiteDatabaseManager(path))
    handle = runner.start_workflow(w)
    wait_until(lambda: ran == [1])
    if is_replaced:
        shutil.copyfile(path, tmp_path / "copy.db")
    path.rename(away)
    if is_replaced:
        (tmp_path / "copy.db").rename(path)
    gate.set()
    wait_until(lambda: "a write is tried again" in caplog.text)
    assert "was replaced or removed while it was open, so nothing is written: put it back" in caplog.text
    with pytest.raises(StorageError, match="was replaced or removed"):
        runner.start_workflow(w)
    assert ran == [1]
    away.replace(path)
    assert handle.result(20) == 3
    assert ran == [1, 2]
