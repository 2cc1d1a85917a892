"""The tables, and how an older file becomes a current one, in one transaction with the record of its version.

Version 1 is 1.0.2's file, which has no record of its version and is known by its tables. The record is a table of this
library's own, not ``PRAGMA user_version``, because a program may keep its own tables in the same file and use that
number for them.

Why the tables look as they do: ``workflows.position`` is the order of arrival, so "newest first" needs no index and no
trust in a clock. ``activity_executions`` is one b-tree in the order of a replay, so a step's write touches one page and
a replay reads them in a row. Three partial indexes serve the claims, and stay small however many runs are finished or
waiting: one of the runs that are ready, one of those that a time wakes, one of those that somebody holds. A run is in
one of them at most, and one that only a signal wakes is at the end of the second. The first has the runs of each queue
and name beside each other, those that have begun apart from those that have not, by priority and arrival. A fourth has
those with a time limit that nobody may notice to pass: they are ready or paused, and perhaps nobody takes them up.
``queue_starts`` has as many rows as a queue's rate allows starts: the last ones, numbered, so that the one that has to
be a period ago is found by its number.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from ..errors import DatabaseVersionError

SCHEMA_VERSION = 2

_LEGACY_WORKFLOWS = [
    "id",
    "name",
    "status",
    "input_data",
    "output_data",
    "current_activity",
    "error_message",
    "created_at",
    "updated_at",
]

_OWN_TABLES = ("orchestrators", "workflow_events", "queue_starts", "schedules")
_NEW_TABLES = {
    0: ("workflows", "activity_executions", *_OWN_TABLES),
    1: _OWN_TABLES,
    SCHEMA_VERSION: (),
}
"""The tables that a file of each version must not have yet."""

LANE = "CASE WHEN request = 'cancel' THEN '' ELSE queue END"
"""The queue that a run waits in; as the index has it, or it would not be used."""

UNWATCHED = (
    "deadline IS NOT NULL AND owner IS NULL AND request IS NOT 'cancel' "
    "AND (status = 'paused' OR status = 'processing' AND wake_at IS NULL)"
)
"""Of which runs the time limit has to be watched: nobody holds them, and nothing wakes them; as the index has it."""

# No table with payloads is WITHOUT ROWID: SQLite would compare a new key with its neighbours' whole rows, and read the
# megabytes of one run's result for each small step of the run whose id is next to it.
_TABLES = f"""
CREATE TABLE workflows (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    input_data TEXT NOT NULL,
    output_data TEXT,
    current_activity TEXT,
    error_message TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    error_data TEXT,
    owner TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    parent_id TEXT,
    wake_at TEXT,
    waiting_for TEXT,
    signals INTEGER NOT NULL DEFAULT 0,
    request TEXT,
    deadline TEXT,
    custom_status TEXT,
    generation INTEGER NOT NULL DEFAULT 0,
    version TEXT,
    crashes INTEGER NOT NULL DEFAULT 0,
    queue TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 0,
    deduplication_key TEXT,
    scheduled_at TEXT
);
CREATE INDEX workflows_by_name ON workflows (name);
CREATE INDEX workflows_not_done ON workflows (status) WHERE status <> 'done';
CREATE INDEX workflows_ready ON workflows ({LANE}, name, epoch > 0, priority)
    WHERE status = 'processing' AND owner IS NULL AND wake_at IS NULL;
CREATE INDEX workflows_waiting ON workflows (wake_at)
    WHERE status = 'processing' AND wake_at IS NOT NULL;
CREATE INDEX workflows_unwatched ON workflows (deadline) WHERE {UNWATCHED};
CREATE INDEX workflows_ended ON workflows (updated_at)
    WHERE status IN ('done', 'failed', 'cancelled');
CREATE INDEX workflows_held ON workflows (owner) WHERE owner IS NOT NULL;
CREATE INDEX workflows_held_in_queue ON workflows (queue, owner) WHERE owner IS NOT NULL AND queue <> '';
CREATE UNIQUE INDEX workflows_deduplicated ON workflows (queue, deduplication_key)
    WHERE deduplication_key IS NOT NULL AND status IN ('processing', 'paused');
CREATE TABLE activity_executions (
    workflow_id TEXT NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    activity_name TEXT NOT NULL,
    input_data TEXT NOT NULL,
    output_data TEXT,
    status TEXT NOT NULL,
    error_message TEXT,
    created_at TEXT NOT NULL,
    completed_at TEXT,
    error_data TEXT,
    state_data TEXT,
    version TEXT,
    PRIMARY KEY (workflow_id, sequence)
);
CREATE TABLE orchestrators (
    id TEXT PRIMARY KEY,
    registered_at TEXT NOT NULL,
    beats INTEGER NOT NULL DEFAULT 0,
    queues TEXT NOT NULL DEFAULT '[]'
) WITHOUT ROWID;
CREATE TABLE queue_starts (
    queue TEXT NOT NULL,
    number INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    PRIMARY KEY (queue, number)
) WITHOUT ROWID;
CREATE TABLE schedules (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    input_data TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    catch_up TEXT NOT NULL,
    overlap TEXT NOT NULL,
    queue TEXT,
    priority INTEGER NOT NULL,
    version TEXT,
    is_paused INTEGER NOT NULL,
    next_at TEXT,
    waiting TEXT NOT NULL,
    last_at TEXT,
    last_run_id TEXT,
    revision INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    due_at TEXT
);
CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE workflow_events (
    workflow_id TEXT NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    PRIMARY KEY (workflow_id, position),
    UNIQUE (workflow_id, id)
);
CREATE TABLE py_orchestrate_versions (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL);
"""

_FROM_LEGACY = """
INSERT INTO workflows
        (id, name, status, input_data, output_data, current_activity, error_message, created_at, updated_at)
    SELECT id, name, status, input_data,
           CASE WHEN status = 'done' THEN coalesce(output_data, 'null') ELSE output_data END,
           current_activity, error_message, to_utc(created_at), to_utc(updated_at)
    FROM legacy_workflows ORDER BY created_at, rowid;
INSERT INTO activity_executions
        (workflow_id, sequence, id, kind, activity_name, input_data, output_data, status, error_message, created_at,
         completed_at)
    SELECT workflow_id,
           -row_number() OVER (PARTITION BY workflow_id ORDER BY created_at DESC, rowid DESC),
           id, 'activity', activity_name, input_data,
           CASE WHEN status = 'completed' THEN coalesce(output_data, 'null') ELSE output_data END,
           CASE WHEN status = 'running' THEN 'interrupted' ELSE status END,
           error_message, to_utc(created_at), to_utc(completed_at)
    FROM legacy_activity_executions WHERE workflow_id IN (SELECT id FROM workflows);
DROP TABLE legacy_activity_executions;
DROP TABLE legacy_workflows;
"""


def refuse_unknown(connection: sqlite3.Connection, path: str) -> None:
    """Raise unless the file is new, 1.0.2's, or of a version known here; reads only.

    Raises:
        DatabaseVersionError: It is another program's file, or a newer version's.
    """
    if connection.in_transaction:
        _refuse_unknown(connection, path)
        return
    connection.execute("BEGIN")  # one look at the whole, while another process may be making the tables
    try:
        _refuse_unknown(connection, path)
    finally:
        connection.rollback()


def _refuse_unknown(connection: sqlite3.Connection, path: str) -> None:
    version = _version(connection)
    if version > SCHEMA_VERSION:
        raise DatabaseVersionError(
            f"the database {path!r} has version {version} of the tables, this py_orchestrate knows up to "
            f"{SCHEMA_VERSION}: install a newer py_orchestrate; the file was left as it is"
        )
    for table in _NEW_TABLES[version]:
        if _columns(connection, table):
            raise DatabaseVersionError(
                f"the database {path!r} has a table {table!r} that is not py_orchestrate's: choose another file; this "
                "one was left as it is"
            )


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the tables up to date, in one transaction; several processes may do so at once."""
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.create_function("to_utc", 1, _to_utc, deterministic=True)
    connection.execute("PRAGMA foreign_keys=OFF")  # cannot be changed inside the transaction
    connection.execute("PRAGMA legacy_alter_table=ON")  # a user's own views and foreign keys go on to mean "workflows"
    connection.execute("BEGIN IMMEDIATE")
    try:
        refuse_unknown(connection, path)  # again: another process may have been here in between
        version = _version(connection)
        if version == 1:
            connection.execute("ALTER TABLE workflows RENAME TO legacy_workflows")
            connection.execute("ALTER TABLE activity_executions RENAME TO legacy_activity_executions")
        if version < SCHEMA_VERSION:
            _execute_all(connection, _TABLES)
            if version == 1:
                _execute_all(connection, _FROM_LEGACY)
            connection.execute(
                "INSERT INTO py_orchestrate_versions VALUES (?, ?)", (SCHEMA_VERSION, datetime.now(UTC).isoformat())
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.execute("PRAGMA legacy_alter_table=OFF")
        connection.execute("PRAGMA foreign_keys=ON")


def _version(connection: sqlite3.Connection) -> int:
    """Return the file's version: 0 for none of ours, 1 for 1.0.2's."""
    if _columns(connection, "py_orchestrate_versions"):
        return int(connection.execute("SELECT coalesce(max(version), 0) FROM py_orchestrate_versions").fetchone()[0])
    is_legacy = _columns(connection, "workflows") == _LEGACY_WORKFLOWS
    return 1 if is_legacy and _columns(connection, "activity_executions") else 0


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _execute_all(connection: sqlite3.Connection, script: str) -> None:
    # Not executescript(), which commits first.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


def _to_utc(text: str | None) -> str | None:
    """Return 1.0.2's naive local time as UTC, in the fixed width in which text order is time order."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
