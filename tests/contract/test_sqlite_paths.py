"""The ways to name a database file: relative, through links, from a folder that is left; and what names none."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, durable, workflow
from py_orchestrate.db_manager import _connections
from py_orchestrate.errors import StorageError
from py_orchestrate.testing._samples import run_record

needs_links = pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights here")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder; beside it are ``elsewhere``, and ``linked``, which leads here."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    if not needs_links.args[0]:
        (tmp_path / "linked").symlink_to(folder, target_is_directory=True)
        (folder / "link.db").symlink_to("x.db")  # which is not there yet
    monkeypatch.chdir(folder)
    return folder


@needs_links
@pytest.mark.parametrize("names", [("x.db", "link.db"), ("link.db", "x.db"), ("x.db", "../linked/link.db")])
def test_who_lives_is_seen_through_every_name(folder: Path, names: tuple[str, str]) -> None:
    first, second = map(SQLiteDatabaseManager, names)
    with closing(first), closing(second):
        assert (first.db_path, second.db_path) == names
        first.register_owner("me")
        first.create_workflow(run_record("a"))
        (run,) = first.claim_workflows("me", ["greet"], 1)
        second.register_owner("other")
        assert second.claim_workflows("other", ["greet"], 1) == []
        found = first.read_workflow("a")
        assert found is not None
        assert found.epoch == run.epoch
        assert sorted(os.listdir(folder / "x.db-owners")) == ["me.lock", "other.lock"]
        assert not os.path.exists("link.db-owners")
        first.release_owner("me")
        second.release_owner("other")


@needs_links
def test_a_link_that_leads_to_another_file_later_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "_SAME_FILE_SECONDS", 0)
    with closing(SQLiteDatabaseManager("link.db")) as manager:
        manager.create_workflow(run_record("a"))
        with closing(SQLiteDatabaseManager("y.db")):
            (folder / "link.db").unlink()
            (folder / "link.db").symlink_to("y.db")
        with pytest.raises(StorageError, match="was replaced or removed"):
            manager.create_workflow(run_record("b"))
        (folder / "link.db").unlink()
        (folder / "link.db").symlink_to("x.db")
        manager.create_workflow(run_record("b"))


def test_the_program_may_change_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, orchestrator: Callable[..., Orchestrator]
) -> None:
    @activity
    def move() -> str:
        monkeypatch.chdir("../elsewhere")
        return "moved"

    @workflow
    def flow() -> list[str]:
        found = [move()]
        durable.sleep(0)
        return [*found, move()]

    manager = SQLiteDatabaseManager("x.db")
    runner = orchestrator(manager)
    assert runner.start_workflow(flow).result(20) == ["moved", "moved"]
    manager.close()  # which opens it anew
    assert len(runner.list_workflows()) == 1
    assert manager.db_path == "x.db"
    assert os.listdir(folder.parent / "elsewhere") == []


def test_a_folder_that_is_gone_is_explained(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    try:
        gone.rmdir()
    except OSError:
        pytest.skip("this system keeps the folder of a program")
    with pytest.raises(StorageError, match=r"'x\.db': the program's working folder is not there .* absolute path"):
        SQLiteDatabaseManager("x.db")
    with closing(SQLiteDatabaseManager(folder / "x.db")) as manager:
        assert manager.list_workflows() == []
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("path", ["file:x.db", "file::memory:?cache=shared", "file:x.db?mode=ro"])
def test_a_uri_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(ValueError, match="plain path of a file or ':memory:', not an SQLite URI") as caught:
        SQLiteDatabaseManager(path)
    assert repr(path) in str(caught.value)
    assert "x.db" not in os.listdir(folder)


def test_a_file_whose_name_begins_as_a_uri_can_be_had(folder: Path) -> None:
    with closing(SQLiteDatabaseManager(os.path.join(".", "file:x.db?mode=memory"))) as manager:
        manager.create_workflow(run_record("a"))
    assert "file:x.db?mode=memory" in os.listdir(folder)


@pytest.mark.parametrize("path", [None, 5, object()])
def test_what_is_no_path_is_named(folder: Path, path: Any) -> None:
    with pytest.raises(TypeError, match=f"db_path is the path .* not {type(path).__name__}"):
        Orchestrator(path)


def test_a_path_that_no_file_can_have_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"db_path is the path .* not '\\ud800\.db'"):
        SQLiteDatabaseManager("\ud800.db")


@pytest.mark.parametrize(
    ("seconds", "error", "text"),
    [
        ("5", TypeError, "a number of seconds, not str"),
        (True, TypeError, "a number of seconds, not bool"),
        (-1, ValueError, "must not be negative or nan, not -1"),
        (math.nan, ValueError, "must not be negative or nan, not nan"),
    ],
)
def test_what_is_no_busy_timeout_is_named(folder: Path, seconds: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"busy_timeout_seconds .*{text}"):
        SQLiteDatabaseManager("x.db", busy_timeout_seconds=seconds)
    assert not os.path.exists("x.db")


@pytest.mark.parametrize("seconds", [0, math.inf, 10**400])
def test_a_busy_timeout_may_be_nothing_or_endless(folder: Path, seconds: float) -> None:
    with closing(SQLiteDatabaseManager("x.db", busy_timeout_seconds=seconds)) as manager:
        manager.create_workflow(run_record("a"))
