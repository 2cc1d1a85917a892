"""Files that are not new: 1.0.2's, newer ones, other programs', and ones with tables of their user."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from py_orchestrate import SQLiteDatabaseManager, WorkflowStatus
from py_orchestrate.db_manager import _migrations
from py_orchestrate.errors import DatabaseVersionError, StorageError
from py_orchestrate.testing._samples import run_record, step_record

from ..children import child
from ..sqlite_files import query

LEGACY = Path(__file__).parent.parent / "data" / "legacy-1.0.2.db"

DONE = "3b249f67-b335-45c1-a201-1bb3bd167a65"
FAILED = "f1394766-58bb-4b1a-8cba-416ef0da373e"
PROCESSING = "7f6127a5-ab64-4d73-9431-501f3c01d0be"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a copy of a file that 1.0.2 wrote."""
    return Path(shutil.copyfile(LEGACY, tmp_path / "legacy.db"))


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let local time be another one than UTC, as it was where 1.0.2 wrote."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def fingerprint(path: Path) -> tuple[str, list[str]]:
    """Return what must not change when a file is refused: its bytes, and the files beside it."""
    return hashlib.sha256(path.read_bytes()).hexdigest(), sorted(item.name for item in path.parent.iterdir())


def opened(path: Path) -> closing[SQLiteDatabaseManager]:
    return closing(SQLiteDatabaseManager(path))


def migrate(path: Path) -> None:
    SQLiteDatabaseManager(path).close()


# --- 1.0.2's file -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("new_york")
def test_workflows_are_kept(path: Path) -> None:
    before = query(path, "SELECT * FROM workflows ORDER BY created_at DESC")
    with opened(path) as manager:
        runs = manager.list_workflows()
        assert [run.id for run in runs] == [PROCESSING, FAILED, DONE]
        for run, row in zip(runs, before, strict=True):
            assert (run.id, run.name, run.status.value) == row[:3]
            assert (run.input_data, run.output_data) == (json.loads(str(row[3])), row[4] and json.loads(str(row[4])))
            assert (run.current_activity, run.error_message) == row[5:7]
            times = [datetime.fromisoformat(str(text)).astimezone(UTC) for text in row[7:]]
            assert [run.created_at, run.updated_at] == times
            assert run.created_at.isoformat().endswith("+00:00")
        done = manager.read_workflow(DONE)
        assert done is not None
        assert json.loads(done.output or "")["total_processed"] == 200
        assert done.created_at.isoformat() == "2026-11-25T08:55:40.547122+00:00"
        assert [run.id for run in manager.get_processing_workflows()] == [PROCESSING]


@pytest.mark.usefixtures("new_york")
def test_executions_are_kept(path: Path) -> None:
    before = query(path, "SELECT * FROM activity_executions ORDER BY created_at")
    with opened(path) as manager:
        made = [made for run in (DONE, FAILED, PROCESSING) for made in manager.get_activity_executions(run)]
        for execution, row in zip(made, before, strict=True):
            assert (execution.id, execution.workflow_id, execution.activity_name) == row[:3]
            assert execution.input_data == json.loads(str(row[3]))
            assert execution.output_data == (row[4] and json.loads(str(row[4])))
            assert execution.status == ("interrupted" if row[5] == "running" else row[5])
            assert execution.error_message == row[6]
            assert execution.created_at == datetime.fromisoformat(str(row[7])).astimezone(UTC)
            assert (execution.completed_at is None) == (row[8] is None)


def test_the_history_of_a_run_has_negative_ordinals(path: Path) -> None:
    with opened(path) as manager:
        assert [(step.sequence, step.kind, step.name, step.status) for step in manager.load_outcomes(PROCESSING)] == [
            (-3, "activity", "fetch_data", "completed"),
            (-2, "activity", "process_data", "completed"),
            (-1, "activity", "save_results", "interrupted"),
        ]
        first, _, last = manager.load_outcomes(PROCESSING)
        assert (json.loads(first.output or ""), last.output) == ({"data": "data_from_database", "count": 100}, None)
        assert [step.error for step in manager.load_outcomes(FAILED)] == [None] * 3
        assert manager.get_steps(FAILED)[2].error_message == "disk on fire"


def test_its_processing_run_can_be_claimed(path: Path) -> None:
    with opened(path) as manager:
        manager.register_owner("me")
        assert manager.look().ready == {"data_processing_workflow"}
        (claimed,) = manager.claim_workflows("me", ["data_processing_workflow"], 9)
        assert (claimed.id, claimed.status, claimed.owner) == (PROCESSING, WorkflowStatus.PROCESSING, "me")
        manager.record_steps(PROCESSING, claimed.epoch, [step_record(0)])
        assert [step.sequence for step in manager.get_steps(PROCESSING)] == [-3, -2, -1, 0]


def test_a_result_that_1_0_2_could_not_tell_from_none_is_none(path: Path) -> None:
    execute(
        path,
        """
        UPDATE workflows SET output_data = NULL WHERE status = 'done';
        UPDATE activity_executions SET output_data = NULL WHERE activity_name = 'process_data';
        """,
    )
    with opened(path) as manager:
        run = manager.read_workflow(DONE)
        assert run is not None
        assert run.output == "null"
        assert manager.load_outcomes(DONE)[1].output == "null"
        assert manager.get_activity_executions(DONE)[1].output_data is None


def test_executions_of_one_moment_keep_their_order(path: Path) -> None:
    names = [f"act{n}" for n in range(20)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO activity_executions VALUES (?, ?, ?, '{}', NULL, 'completed', NULL, ?, ?)",
            [(f"id-{99 - n}", DONE, name, "2027-01-01T00:00:00", None) for n, name in enumerate(names)],
        )
    with opened(path) as manager:
        steps = manager.load_outcomes(DONE)
        assert [step.name for step in steps[3:]] == names
        assert [step.sequence for step in steps] == list(range(-23, 0))


def test_executions_of_no_workflow_do_not_stop_it(path: Path) -> None:
    execute(path, "UPDATE activity_executions SET workflow_id = 'gone' WHERE activity_name = 'save_results'")
    with opened(path) as manager:
        assert [step.name for step in manager.get_steps(DONE)] == ["fetch_data", "process_data"]


def test_the_tables_can_be_read_as_before(path: Path) -> None:
    columns = [
        "id, name, status, input_data, output_data, current_activity, error_message",
        "id, activity_name, status",
    ]
    before = [query(path, f"SELECT {columns[0]} FROM workflows ORDER BY id")]
    before.append(query(path, f"SELECT {columns[1]} FROM activity_executions WHERE status <> 'running' ORDER BY id"))
    migrate(path)
    assert before == [
        query(path, f"SELECT {columns[0]} FROM workflows ORDER BY id"),
        query(path, f"SELECT {columns[1]} FROM activity_executions WHERE status <> 'interrupted' ORDER BY id"),
    ]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []


def test_opening_again_changes_nothing(path: Path) -> None:
    migrate(path)
    after = content(path)
    for _ in range(2):
        migrate(path)
        assert content(path) == after
    assert [row[0] for row in query(path, "SELECT version FROM py_orchestrate_versions")] == [
        _migrations.SCHEMA_VERSION
    ]


def test_a_failure_in_the_middle_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(path)
    with monkeypatch.context() as patch:
        patch.setattr(_migrations, "_FROM_LEGACY", f"{_migrations._FROM_LEGACY}; INSERT INTO nowhere VALUES (1)")
        with pytest.raises(StorageError, match="nowhere"):
            SQLiteDatabaseManager(path)
    assert content(path) == before
    with opened(path) as manager:
        assert len(manager.list_workflows()) == 3


def test_a_process_that_is_killed_in_the_middle_changes_nothing(path: Path) -> None:
    before = content(path)
    script = """
    import os, signal, sys
    from py_orchestrate.db_manager import SQLiteDatabaseManager, _migrations
    _migrations._to_utc = lambda text: os.kill(os.getpid(), signal.SIGKILL)
    SQLiteDatabaseManager(sys.argv[1])
    """
    with child(script, path) as killed:
        assert killed.process.wait(timeout=30) == -9
    assert content(path) == before
    with opened(path) as manager:
        assert len(manager.list_workflows()) == 3


def test_processes_may_migrate_at_once(path: Path, tmp_path: Path) -> None:
    script = """
    import sys
    from py_orchestrate.db_manager import SQLiteDatabaseManager
    print("ready", flush=True)
    for line in sys.stdin:
        manager = SQLiteDatabaseManager(line.strip())
        runs = manager.list_workflows()
        print([len(runs), *[len(manager.get_steps(run.id)) for run in runs]], flush=True)
        manager.close()
    """
    with ExitStack() as stack:
        children = [stack.enter_context(child(script)) for _ in range(3)]
        assert [each.hear() for each in children] == ["ready"] * 3
        for n in range(5):
            copy = shutil.copyfile(path, tmp_path / f"{n}.db")
            for each in children:
                each.tell(str(copy))
            assert [each.hear() for each in children] == ["[3, 3, 3, 3]"] * 3
            assert query(copy, "SELECT count(*) FROM py_orchestrate_versions") == [(1,)]


# --- tables of the user's own -----------------------------------------------------------------------------------------

OWN_TABLES = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, workflow_id TEXT REFERENCES workflows (id), text TEXT);
CREATE VIEW finished AS SELECT id FROM workflows WHERE status = 'done';
CREATE TRIGGER no_deletes BEFORE DELETE ON notes BEGIN SELECT RAISE(ABORT, 'no'); END;
PRAGMA user_version = 7;
"""


def test_own_tables_survive_the_migration(path: Path) -> None:
    execute(path, OWN_TABLES + f"INSERT INTO notes VALUES (1, '{DONE}', 'mine')")
    own_before = query(
        path, "SELECT sql FROM sqlite_master WHERE name IN ('notes', 'finished', 'no_deletes') ORDER BY 1"
    )
    migrate(path)
    assert query(path, "SELECT * FROM notes") == [(1, DONE, "mine")]
    assert query(path, "SELECT * FROM finished") == [(DONE,)]
    assert query(path, "PRAGMA user_version") == [(7,)]
    assert query(
        path, "SELECT sql FROM sqlite_master WHERE name IN ('notes', 'finished', 'no_deletes') ORDER BY 1"
    ) == (own_before)
    execute(path, f"PRAGMA foreign_keys=ON; INSERT INTO notes VALUES (2, '{FAILED}', 'still checked')")
    assert query(path, "PRAGMA foreign_key_check") == []


def test_own_tables_in_a_new_file_survive(tmp_path: Path) -> None:
    path = tmp_path / "mixed.db"
    execute(path, OWN_TABLES.replace("REFERENCES workflows (id)", "") + "INSERT INTO notes VALUES (1, 'run', 'mine')")
    with opened(path) as manager:
        manager.create_workflow(run_record("run", status=WorkflowStatus.DONE, output="1"))
        assert manager.delete_workflow("run")
    assert query(path, "SELECT * FROM notes") == [(1, "run", "mine")]
    assert query(path, "SELECT * FROM finished") == []


# --- files that are refused -------------------------------------------------------------------------------------------


def _newer(path: Path) -> None:
    migrate(path)
    execute(path, "INSERT INTO py_orchestrate_versions VALUES (99, '2035-01-01')")


def _newer_with_rollback_journal(path: Path) -> None:
    _newer(path)
    execute(path, "PRAGMA journal_mode=DELETE")


def _newer_with_other_tables(path: Path) -> None:
    execute(path, "CREATE TABLE py_orchestrate_versions (version INTEGER, x); CREATE TABLE workflows (y)")
    execute(path, "INSERT INTO py_orchestrate_versions VALUES (99, 1)")


def _foreign(table: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        execute(
            path, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, shift TEXT); INSERT INTO {table} VALUES (1, 'night')"
        )

    return write


def _legacy_with_foreign_table(path: Path) -> None:
    shutil.copyfile(LEGACY, path)
    _foreign("orchestrators")(path)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (_newer, "has version 99 of the tables, this py_orchestrate knows up to"),
        (_newer_with_rollback_journal, "install a newer py_orchestrate"),
        (_newer_with_other_tables, "has version 99"),
        (_foreign("workflows"), "has a table 'workflows' that is not py_orchestrate's"),
        (_foreign("activity_executions"), "has a table 'activity_executions' that is not py_orchestrate's"),
        (_foreign("orchestrators"), "has a table 'orchestrators' that is not py_orchestrate's"),
        (_legacy_with_foreign_table, "has a table 'orchestrators' that is not py_orchestrate's"),
    ],
)
def test_a_file_is_refused_untouched(tmp_path: Path, write: Callable[[Path], None], text: str) -> None:
    path = tmp_path / "refused.db"
    write(path)
    before = fingerprint(path)
    for _ in range(2):
        with pytest.raises(DatabaseVersionError, match=text) as caught:
            SQLiteDatabaseManager(path)
        assert str(path) in str(caught.value)
        assert fingerprint(path) == before
