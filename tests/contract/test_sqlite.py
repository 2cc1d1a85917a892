"""What SQLite promises beyond the contract: how it opens, and how threads and processes share a file."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import SQLiteDatabaseManager, WorkflowStatus
from py_orchestrate.db_manager import _connections
from py_orchestrate.errors import StorageError
from py_orchestrate.testing._samples import (
    at,
    event_record,
    execution,
    in_thread,
    instance,
    race,
    run_end,
    run_record,
    step_record,
)

from ..children import child
from ..sqlite_files import CONNECT, descriptors_of, needs_proc, query

# A process that writes as told: "<path> <first> <count>" on a line, "done" or the error as the answer.
WRITER = """
import sys
from py_orchestrate.db_manager import SQLiteDatabaseManager
from py_orchestrate.testing._samples import run_record
print("ready", flush=True)
for line in sys.stdin:
    path, first, count = line.split()
    try:
        manager = SQLiteDatabaseManager(path)
        for n in range(int(count)):
            manager.create_workflow(run_record(f"{first}-{n}"))
        manager.close()
        print("done", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orchestrate.db"


@pytest.fixture
def manager(path: Path) -> Iterator[SQLiteDatabaseManager]:
    manager = SQLiteDatabaseManager(path)
    yield manager
    manager.close()


def stub_connections(monkeypatch: pytest.MonkeyPatch, execute: Callable[..., Any]) -> None:
    """Let every connection opened from now on run ``execute(connection's own execute, sql, ...)``."""

    class Stub(sqlite3.Connection):
        def execute(self, *arguments: Any) -> Any:
            return execute(super().execute, *arguments)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return CONNECT(*arguments, **{**options, "factory": Stub})

    monkeypatch.setattr(_connections.sqlite3, "connect", connect)


def is_commit(sql: str) -> bool:
    """Return whether a statement makes something durable: a commit, or one that is a transaction of its own."""
    return sql == "COMMIT" or sql.startswith("INSERT INTO py_orchestrate_merged ")


def sqlite_error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_path_object_and_a_text_are_the_same(path: Path) -> None:
    for given in (path, str(path)):
        manager = SQLiteDatabaseManager(given)
        assert manager.db_path == str(path)
        manager.close()


@pytest.mark.parametrize("name", ["a b.db", "100%20?mode=ro#x.db", "漢字 ü.db", "it's;--.db", "no-suffix", "-.db"])
def test_any_file_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (name, os.path.join(tmp_path, name)):
        manager = SQLiteDatabaseManager(given)
        manager.register_owner("me")
        manager.create_workflow(run_record(given))
        manager.release_owner("me")
        manager.close()
    assert query(tmp_path / name, "SELECT count(*) FROM workflows") == [(2,)]
    assert os.listdir(tmp_path) == [name]


def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    with closing(SQLiteDatabaseManager(path)) as manager:
        assert manager.list_workflows() == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "orchestrate.db"
    with pytest.raises(StorageError) as caught:
        SQLiteDatabaseManager(path)
    expected = f"cannot open the database {str(path)!r}: the folder {str(path.parent)!r} does not exist; create it"
    assert str(caught.value) == expected
    assert not path.parent.exists()


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unable to open database file") as caught:
        SQLiteDatabaseManager(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_a_text_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes.\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="file is not a database") as caught:
        SQLiteDatabaseManager(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"journal_mode": "OFF"},
        {"journal_mode": "wal; DROP TABLE workflows"},
        {"synchronous": "OFF"},
        {"db_path": ""},
        {"db_path": b"bytes.db"},
        {"db_path": "nul\0.db"},
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    monkeypatch.chdir(tmp_path)
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=name) as caught:
        SQLiteDatabaseManager(**arguments)
    assert repr(value) in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_local_time_is_told_apart_when_clocks_go_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        with closing(SQLiteDatabaseManager(path)) as manager:
            for fold in (0, 1):
                moment = datetime(2026, 10, 25, 2, 30, fold=fold)  # noqa: DTZ001 - as 1.0.2 made them
                manager.save_workflow(instance(str(fold), created_at=moment, updated_at=moment))
            times = [run.created_at for run in reversed(manager.list_workflows())]
            assert times == [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_own_ids_keep_their_places(manager: SQLiteDatabaseManager) -> None:
    manager.save_workflow(instance("run"))
    for n in (5, 1, 3, 0, 4, 2):
        manager.save_activity_execution(execution(f"own {n}", "run", minutes=n, activity_name=f"act{n}"))
    manager.save_activity_execution(execution("own 2", "run", minutes=9, activity_name="changed"))
    expected = [(n - 6, "changed" if n == 2 else f"act{n}") for n in range(6)]
    assert [(step.sequence, step.name) for step in manager.get_steps("run")] == expected


def test_a_damaged_run_does_not_hold_up_the_others(
    manager: SQLiteDatabaseManager, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        manager.create_workflow(run_record(str(n)))
    with closing(CONNECT(path)) as connection, connection:
        connection.execute("UPDATE workflows SET created_at = 'yesterday' WHERE id = '0'")
    manager.register_owner("me")
    found = [run.id for _ in range(3) for run in manager.claim_workflows("me", ["greet"], 1)]
    assert found == ["1", "2"]
    assert "workflow 0 cannot be read" in caplog.text


def test_a_manager_that_nobody_closes_is_closed(path: Path) -> None:
    for given in (path, ":memory:"):
        manager = SQLiteDatabaseManager(given)
        manager.create_workflow(run_record("run"))
        assert manager.read_workflow("run") is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del manager
            gc.collect()  # a warning would fail the test, as one that cannot be raised
    assert os.listdir(path.parent) == [path.name]


def test_what_is_collected_with_a_manager_is_closed_by_it(path: Path) -> None:
    """Where it is part of a circle, its connections must not be found first: Python 3.13 warns of such a one."""
    manager = SQLiteDatabaseManager(path)
    assert manager.read_workflow("none") is None
    connections = list(manager._connections._open)
    circle: list[object] = [manager]
    circle.append(circle)
    del manager, circle
    gc.collect()
    assert len(connections) == 2
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="this system does not count what is read")
def test_a_small_step_does_not_read_its_neighbours_large_ones(manager: SQLiteDatabaseManager) -> None:
    """In a table WITHOUT ROWID a new key is compared with whole rows: each small step would read megabytes."""
    large = f'"{"x" * 5_000_000}"'
    manager.register_owner("me")
    for run in "ab":
        manager.create_workflow(run_record(run, owner="me", epoch=1))
    manager.record_steps("b", 1, [step_record(0, large)])
    manager.add_event("b", event_record("large", payload=large))
    before = bytes_read()
    for n in range(20):
        manager.record_steps("a", 1, [step_record(n)])
        manager.add_event("a", event_record(str(n)))
    assert bytes_read() - before < len(large)


def bytes_read() -> int:
    """Return how many bytes this process has read from files so far."""
    with open("/proc/self/io", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


# --- journal modes ----------------------------------------------------------------------------------------------------


def test_write_ahead_logging_is_the_default(path: Path) -> None:
    with closing(SQLiteDatabaseManager(path)) as manager:
        manager.create_workflow(run_record("run"))
        assert path.with_name(path.name + "-wal").exists()
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST"])
def test_a_file_can_change_its_mode(path: Path, mode: str) -> None:
    for each in ("WAL", mode, "WAL"):
        with closing(SQLiteDatabaseManager(path, journal_mode=each)) as manager:
            manager.create_workflow(run_record(f"run {each}"))
            assert path.with_name(path.name + "-wal").exists() == (each == "WAL")
            assert manager.read_workflow("run WAL") is not None
    assert query(path, "SELECT count(*) FROM workflows") == [(2,)]


def test_a_file_that_takes_no_write_ahead_log_works_with_one_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def execute(real: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        return real("SELECT 'delete'") if sql.startswith("PRAGMA journal_mode=") else real(sql, *arguments)

    stub_connections(monkeypatch, execute)
    manager = SQLiteDatabaseManager(path)
    for n in range(3):
        manager.create_workflow(run_record(str(n)))
        manager.close()
    assert len(manager.list_workflows()) == 3
    manager.close()
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert f"the database {str(path)!r} does not take journal_mode=WAL and stays with delete" in warning.getMessage()


def test_a_file_system_that_cannot_lock_is_explained(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(real: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if sql.startswith("PRAGMA journal_mode=wal"):
            raise sqlite_error("locking protocol", sqlite3.SQLITE_PROTOCOL)
        return real(sql, *arguments)

    stub_connections(monkeypatch, execute)
    with pytest.raises(StorageError) as caught:
        SQLiteDatabaseManager(path)
    assert f"cannot set journal_mode=WAL on the database {str(path)!r}: locking protocol" in str(caught.value)
    assert "SQLiteDatabaseManager(path, journal_mode='DELETE')" in str(caught.value)
    SQLiteDatabaseManager(path, journal_mode="DELETE").close()


@pytest.mark.parametrize("busy", [3, 10**9])
def test_changing_the_mode_waits_for_others(path: Path, monkeypatch: pytest.MonkeyPatch, busy: int) -> None:
    answers = iter(range(busy))

    def execute(real: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if sql.startswith("PRAGMA journal_mode=") and next(answers, None) is not None:
            raise sqlite_error("database is locked", sqlite3.SQLITE_BUSY)
        return real(sql, *arguments)

    stub_connections(monkeypatch, execute)
    if busy == 3:
        SQLiteDatabaseManager(path).close()
        assert query(path, "PRAGMA journal_mode") == [("wal",)]
    else:
        with pytest.raises(StorageError, match="database is locked"):
            SQLiteDatabaseManager(path, busy_timeout_seconds=0.05)


# --- threads ----------------------------------------------------------------------------------------------------------


@needs_proc
def test_threads_that_come_and_go_leave_nothing_open(manager: SQLiteDatabaseManager, path: Path) -> None:
    manager.create_workflow(run_record("run"))
    most = 0
    for _ in range(50):
        assert None not in race([partial(manager.read_workflow, "run")] * 10)
        most = max(most, len(descriptors_of(path)))
    assert most <= 2 * (10 + 1) + 2  # a file and its log for each thread and for the writer
    for _ in range(20):
        with pytest.raises(LookupError):
            manager.page_workflows(cursor="nobody")
    assert len(descriptors_of(path)) <= most
    manager.close()
    assert descriptors_of(path) == []


def test_the_thread_that_made_a_manager_may_end(path: Path) -> None:
    manager = in_thread(lambda: SQLiteDatabaseManager(path))
    in_thread(lambda: manager.create_workflow(run_record("run")))
    assert in_thread(lambda: manager.read_workflow("run")) == run_record("run")
    assert manager.read_workflow("run") == run_record("run")
    in_thread(manager.close)


def test_threads_may_open_and_close_at_once(path: Path) -> None:
    shared = SQLiteDatabaseManager(path)

    def own(n: int) -> None:
        with closing(SQLiteDatabaseManager(path)) as manager:
            manager.create_workflow(run_record(f"own {n}"))

    def common(n: int) -> None:
        for each in range(10):
            shared.create_workflow(run_record(f"shared {n} {each}"))
            assert shared.read_workflow(f"shared {n} {each}") is not None
            shared.close()

    race([partial(own, n) for n in range(4)] + [partial(common, n) for n in range(4)])
    shared.close()
    assert query(path, "SELECT count(*) FROM workflows") == [(44,)]


def test_threads_that_write_together_share_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = []

    def execute(real: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if is_commit(sql):
            commits.append(sql)
        return real(sql, *arguments)

    stub_connections(monkeypatch, execute)
    with closing(SQLiteDatabaseManager(path)) as manager:
        commits.clear()

        def writer(n: int) -> None:
            for each in range(50):
                assert manager.create_workflow(run_record(f"{n}-{each}")) is None

        race([partial(writer, n) for n in range(8)])
        assert len(manager.list_workflows()) == 400
    assert 0 < len(commits) < 400


def test_an_error_in_the_commit_reaches_every_caller(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_broken = False

    def execute(real: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if is_commit(sql) and is_broken:
            raise sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR)
        return real(sql, *arguments)

    stub_connections(monkeypatch, execute)
    with closing(SQLiteDatabaseManager(path)) as manager:
        is_broken = True

        def writer(n: int) -> str:
            with pytest.raises(StorageError) as caught:
                manager.create_workflow(run_record(str(n)))
            return str(caught.value)

        errors = race([partial(writer, n) for n in range(8)])
        assert set(errors) == {f"cannot write the database {str(path)!r}: disk I/O error"}
        assert manager.list_workflows() == []
        is_broken = False
        assert manager.create_workflow(run_record("0")) is None
        assert len(manager.list_workflows()) == 1


# --- processes --------------------------------------------------------------------------------------------------------


def test_processes_may_create_a_file_at_the_same_instant(tmp_path: Path) -> None:
    with child(WRITER) as first, child(WRITER) as second:
        assert (first.hear(), second.hear()) == ("ready", "ready")
        for n in range(10):
            path = tmp_path / f"{n}.db"
            first.tell(f"{path} a 1")
            second.tell(f"{path} b 1")
            assert (first.hear(), second.hear()) == ("done", "done")
            assert query(path, "SELECT id FROM workflows ORDER BY id") == [("a-0",), ("b-0",)]
            assert query(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_look_at_a_file_that_is_being_created_is_consistent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    creator = threading.Thread(target=lambda: SQLiteDatabaseManager(path).close())
    looks: list[str] = []

    def execute(real: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "table_info" in sql:
            looks.append(sql)
        if len(looks) == 2 and creator.ident is None:  # after the first look at its version
            creator.start()
            creator.join(0.3)  # it need not come to its end: it waits where the look holds it off
        return real(sql, *arguments)

    stub_connections(monkeypatch, execute)
    with closing(SQLiteDatabaseManager(path)) as manager:
        creator.join(10)
        assert manager.create_workflow(run_record("run")) is None


def test_processes_may_write_at_once(manager: SQLiteDatabaseManager, path: Path) -> None:
    with ExitStack() as stack:
        children = [stack.enter_context(child(WRITER)) for _ in range(2)]
        assert [each.hear() for each in children] == ["ready"] * 2
        for n, each in enumerate(children):
            each.tell(f"{path} child{n} 200")
        for n in range(100):
            manager.create_workflow(run_record(f"parent-{n}"))
        assert [each.hear() for each in children] == ["done"] * 2
    assert len(manager.list_workflows()) == 500


def test_a_long_writer_elsewhere_is_waited_for(manager: SQLiteDatabaseManager, path: Path) -> None:
    script = """
    import sqlite3, sys, time
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(2)
    connection.execute("COMMIT")
    """
    with child(script, path) as holder:
        assert holder.hear() == "locked"
        started = time.monotonic()
        assert manager.read_workflow("run") is None
        assert time.monotonic() - started < 1, "a reader waited for a writer"
        results = race([partial(manager.create_workflow, run_record(str(n))) for n in range(4)])
        assert results == [None] * 4
        assert time.monotonic() - started > 1
        assert holder.process.wait(timeout=30) == 0


def test_waiting_for_a_writer_ends(path: Path) -> None:
    manager = SQLiteDatabaseManager(path, busy_timeout_seconds=0.05)
    with closing(CONNECT(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")

        def writer(n: int) -> None:
            with pytest.raises(StorageError, match="database is locked"):
                manager.create_workflow(run_record(str(n)))

        race([partial(writer, n) for n in range(4)])
        holder.execute("COMMIT")
    assert manager.create_workflow(run_record("run")) is None
    manager.close()


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_a_kill(manager: SQLiteDatabaseManager, path: Path) -> None:
    script = """
    import itertools, sys
    from py_orchestrate.db_manager import SQLiteDatabaseManager
    from py_orchestrate.testing._samples import run_record, step_record
    manager = SQLiteDatabaseManager(sys.argv[1])
    manager.register_owner("child")
    manager.create_workflow(run_record("run", owner="child", epoch=1))
    for n in itertools.count():
        manager.record_steps("run", 1, [step_record(n * 3 + k) for k in range(3)])
        print(n, flush=True)
    """
    with child(script, path) as victim:
        for n in range(50):
            assert victim.hear() == str(n)
        victim.kill()
        acknowledged = n
        while line := victim.hear():
            acknowledged = int(line)
    manager.register_owner("me")
    (claimed,) = manager.claim_workflows("me", ["greet"], 1)
    assert claimed.epoch == 2
    steps = manager.get_steps("run")
    assert len(steps) % 3 == 0
    assert len(steps) >= 3 * (acknowledged + 1)
    assert [step.sequence for step in steps] == list(range(len(steps)))
    manager.finish_workflow("run", 2, run_end(steps=(step_record(len(steps)),)))
    finished = manager.read_workflow("run")
    assert finished is not None
    assert (finished.status, finished.updated_at) == (WorkflowStatus.DONE, at(9))


def test_a_lock_file_that_cannot_be_made_is_a_clear_error(path: Path) -> None:
    manager = SQLiteDatabaseManager(path)
    Path(f"{path}-owners").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match=r"lock file .* beside the database .*must be writable"):
        manager.register_owner("owner")
    manager.close()


def test_a_large_write_asks_for_room(manager: SQLiteDatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(manager._commits._pacing, "wait", lambda: asked.append("wait"))
    monkeypatch.setattr(manager._commits._pacing, "note_large", lambda *_: asked.append("written"))
    manager.register_owner("me")
    manager.create_workflow(run_record("run"))
    (record,) = manager.claim_workflows("me", ["greet"], 1)
    manager.record_steps("run", record.epoch, [step_record(0)])
    assert asked == []
    text = '"' + "x" * 1_000_000 + '"'
    manager.record_steps("run", record.epoch, [step_record(1, text)])
    assert asked == ["wait", "written"]
    manager.finish_and_claim("run", record.epoch, run_end(text), owner="me", names=["greet"])
    assert asked == ["wait", "written"] * 2
    assert [step.output for step in manager.get_steps("run")] == ['"hello"', text]
