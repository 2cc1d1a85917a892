"""The SQLite backend: one file, any number of threads and processes on one machine.

Every write goes through one group commit (``_group_commit.py``) in a transaction that is exclusive from its first
statement, so that "database is locked" cannot strike half-way. Each intent-level method is one such operation; what it
decides, it decides inside the transaction. Reads borrow a connection of their own and never wait for writers.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from ..errors import ClaimLostError, StorageError
from ..models import (
    ActivityExecution,
    StepOutcome,
    StepRecord,
    WorkflowEnd,
    WorkflowInstance,
    WorkflowRecord,
    WorkflowStatus,
)
from . import _documents as documents
from ._connections import JOURNAL_MODES, SYNCHRONOUS_LEVELS, Connections
from ._group_commit import GroupCommit
from ._owner_locks import OwnerLocks
from ._records import RecordDatabaseManager, refuse_unfinished
from ._sqlite_rows import (
    STEP_COLUMNS,
    WORKFLOW_COLUMNS,
    readable_records,
    record_from_row,
    row_from_record,
    row_from_step,
    rows_from_end,
    step_from_row,
    time_text,
)

__all__ = ["DatabaseManager", "SQLiteDatabaseManager"]

T = TypeVar("T")

# An owner that is not registered holds nothing: nobody would notice its death.
_INSERT_WORKFLOW = f"""
INSERT INTO workflows ({WORKFLOW_COLUMNS})
VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT id FROM orchestrators WHERE id = ?), ?, ?, ?)
"""

_REPLACE_STEP = f"""
INSERT INTO activity_executions (workflow_id, id, {STEP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (workflow_id, sequence) DO UPDATE SET
    id = excluded.id, kind = excluded.kind, activity_name = excluded.activity_name, status = excluded.status,
    input_data = excluded.input_data, output_data = excluded.output_data, error_data = excluded.error_data,
    error_message = excluded.error_message, created_at = excluded.created_at, completed_at = excluded.completed_at
"""

# A completed step is final; one that is running or failed may run again.
_UPSERT_STEP = f"{_REPLACE_STEP} WHERE activity_executions.status <> 'completed'"

_IS_CLAIMED = "SELECT 1 FROM workflows WHERE id = ? AND epoch = ? AND status = 'processing' AND owner IS NOT NULL"

_FINISH = """
UPDATE workflows SET status = ?, output_data = ?, error_data = ?, error_message = ?, current_activity = ?,
    updated_at = ?, owner = NULL
WHERE id = ? AND epoch = ? AND status = 'processing' AND owner IS NOT NULL
"""

# Steps from one name to the next through the index, so its cost grows with the names that wait, not with the runs.
_PENDING_NAMES = """
WITH RECURSIVE waiting (name) AS (
    SELECT min(name) FROM workflows WHERE status = 'processing' AND owner IS NULL
    UNION ALL
    SELECT (SELECT min(name) FROM workflows WHERE status = 'processing' AND owner IS NULL AND name > waiting.name)
    FROM waiting WHERE waiting.name IS NOT NULL
)
SELECT name FROM waiting WHERE name IS NOT NULL
"""

_OLDEST_OF_NAME = """
SELECT position FROM workflows WHERE status = 'processing' AND owner IS NULL AND name = ? ORDER BY position LIMIT ?
"""

_CLAIM = f"""
UPDATE workflows SET owner = ?, epoch = epoch + 1 WHERE position = ? RETURNING {WORKFLOW_COLUMNS}
"""


class SQLiteDatabaseManager(RecordDatabaseManager):
    """Workflow persistence in one SQLite file.

    Args:
        db_path: The file; made if it is not there. ``":memory:"`` keeps everything in this process's memory, for tests.
        journal_mode: ``"WAL"`` (default): needs a local disk. ``"DELETE"``, ``"TRUNCATE"`` or ``"PERSIST"`` where the
            file lies on a network file system.
        synchronous: ``"FULL"`` (default): a commit is on the disk before it is acknowledged. ``"EXTRA"`` also for
            directory entries. ``"NORMAL"``: faster; a power failure, but not a crash of the process, can undo the last
            commits.
        busy_timeout_seconds: How long a write waits for another process's, before it raises ``StorageError``.

    Raises:
        StorageError: The file cannot be opened; the message says why.
        DatabaseVersionError: The file was written by a newer version, or is another program's.
        ValueError: An option has a value that is not listed above.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"leases"})

    def __init__(
        self,
        db_path: str | os.PathLike[str] = "py_orchestrate.db",
        *,
        journal_mode: str = "WAL",
        synchronous: str = "FULL",
        busy_timeout_seconds: float = 60.0,
    ) -> None:
        self.db_path = os.fspath(db_path)
        _check_option("journal_mode", journal_mode, JOURNAL_MODES)
        _check_option("synchronous", synchronous, SYNCHRONOUS_LEVELS)
        if not isinstance(self.db_path, str) or not self.db_path or "\0" in self.db_path:
            raise ValueError(f"db_path is the path of a file or ':memory:', not {self.db_path!r}")
        self._connections = Connections(
            self.db_path, journal_mode=journal_mode, synchronous=synchronous, busy_timeout=busy_timeout_seconds
        )
        self._commits = GroupCommit(self._connections)
        self._locks = None if self._connections.in_memory else OwnerLocks(self.db_path)
        self._connections.prepare()

    # --- the two ways to the database -------------------------------------------------------------------------------

    def _write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run the operation in a write transaction and return its result once that is durable."""
        try:
            result: T = self._commits.submit(operation)
        except sqlite3.Error as error:
            raise self._storage_error("write", error) from error
        return result

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._connections.in_memory:
            return self._write(query)
        try:
            with self._connections.reading() as connection:
                return query(connection)
        except sqlite3.Error as error:
            raise self._storage_error("read", error) from error

    def _storage_error(self, verb: str, error: sqlite3.Error) -> StorageError:
        return StorageError(f"cannot {verb} the database {self.db_path!r}: {error}")

    # --- ownership --------------------------------------------------------------------------------------------------

    def register_owner(self, owner: str) -> None:
        """See the base class. The owner's lock file is locked before its row can be seen."""
        if self._locks is not None:
            try:
                self._locks.hold(owner)
            except OSError as error:
                raise StorageError(
                    f"cannot make the lock file of this orchestrator beside the database {self.db_path!r}: {error}; "
                    "the folder must be writable"
                ) from error
        now = time_text(datetime.now(UTC))
        self._write(lambda connection: connection.execute("INSERT INTO orchestrators VALUES (?, ?)", (owner, now)))

    def release_owner(self, owner: str) -> None:
        """See the base class."""
        self._write(lambda connection: _forget_owner(connection, owner))
        if self._locks is not None:
            self._locks.release(owner)

    def _reap_dead_owners(self) -> None:
        """Free the runs of orchestrators whose process is gone; on this file's machine the kernel knows."""
        if self._locks is None:
            return
        for (owner,) in self._read(lambda connection: connection.execute("SELECT id FROM orchestrators").fetchall()):
            if not self._locks.is_alive(owner):
                self._write(lambda connection, owner=owner: _forget_owner(connection, owner))  # type: ignore[misc]
                self._locks.forget(owner)

    # --- one run ----------------------------------------------------------------------------------------------------

    def create_workflow(self, record: WorkflowRecord) -> WorkflowRecord | None:
        """See the base class."""
        row = row_from_record(record)

        def create(connection: sqlite3.Connection) -> WorkflowRecord | None:
            existing = _select_workflow(connection, record.id)
            if existing is None:
                connection.execute(_INSERT_WORKFLOW, row)
            return existing

        return self._write(create)

    def claim_workflows(self, owner: str, names: Iterable[str], limit: int) -> list[WorkflowRecord]:
        """See the base class. An idle turn is two small reads and no write."""
        self._reap_dead_owners()
        wanted = frozenset(names)
        if limit <= 0 or wanted.isdisjoint(self.pending_names()):
            return []
        return self._write(lambda connection: _claim(connection, owner, wanted, limit))

    def pending_names(self) -> set[str]:
        """See the base class."""
        return self._read(_pending_names)

    def release_workflow(self, workflow_id: str, epoch: int) -> None:
        """See the base class."""
        self._write(
            lambda connection: connection.execute(
                "UPDATE workflows SET owner = NULL WHERE id = ? AND epoch = ? AND status = 'processing'",
                (workflow_id, epoch),
            )
        )

    def load_outcomes(self, workflow_id: str) -> list[StepOutcome]:
        """See the base class."""
        query = (
            "SELECT sequence, kind, activity_name, status, output_data, error_data FROM activity_executions "
            "WHERE workflow_id = ? ORDER BY sequence"
        )
        return self._read(lambda connection: list(map(StepOutcome._make, connection.execute(query, (workflow_id,)))))

    def record_steps(
        self, workflow_id: str, epoch: int, steps: Sequence[StepRecord], *, current_activity: str | None = None
    ) -> None:
        """See the base class."""
        rows = [row_from_step(workflow_id, step) for step in steps]
        now = None if current_activity is None else time_text(datetime.now(UTC))

        def record(connection: sqlite3.Connection) -> bool:
            if connection.execute(_IS_CLAIMED, (workflow_id, epoch)).fetchone() is None:
                return False
            for row in rows:
                connection.execute(_UPSERT_STEP, row)
            if current_activity is not None:
                connection.execute(
                    "UPDATE workflows SET current_activity = ?, updated_at = ? WHERE id = ?",
                    (current_activity, now, workflow_id),
                )
            return True

        if not self._write(record):
            raise ClaimLostError(workflow_id, epoch)

    def finish_workflow(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        """See the base class."""
        row, step_rows = rows_from_end(workflow_id, epoch, end)
        if not self._write(lambda connection: _finish(connection, row, step_rows)):
            raise ClaimLostError(workflow_id, epoch)

    def finish_and_claim(
        self, workflow_id: str, epoch: int, end: WorkflowEnd, *, owner: str, names: Iterable[str]
    ) -> list[WorkflowRecord]:
        """See the base class. One commit."""
        row, step_rows = rows_from_end(workflow_id, epoch, end)
        wanted = frozenset(names)

        def finish(connection: sqlite3.Connection) -> list[WorkflowRecord] | None:
            return _claim(connection, owner, wanted, 1) if _finish(connection, row, step_rows) else None

        claimed = self._write(finish)
        if claimed is None:
            raise ClaimLostError(workflow_id, epoch)
        return claimed

    # --- reading ----------------------------------------------------------------------------------------------------

    def read_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """See the base class."""
        return self._read(lambda connection: _select_workflow(connection, workflow_id))

    def get_steps(self, workflow_id: str) -> list[StepRecord]:
        """See the base class."""
        query = f"SELECT {STEP_COLUMNS} FROM activity_executions WHERE workflow_id = ? ORDER BY sequence"
        rows = self._read(lambda connection: connection.execute(query, (workflow_id,)).fetchall())
        return [step_from_row(row) for row in rows]

    def page_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> list[WorkflowRecord]:
        """See the base class."""
        conditions, values = [], []
        if name is not None:
            conditions.append("name = ?")
            values.append(name)
        if status is not None:
            conditions.append("status = ?")
            values.append(status.value)
            if status is not WorkflowStatus.DONE:
                conditions.append("status <> 'done'")  # lets SQLite use the partial index

        def page(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
            where, bound = list(conditions), list[object](values)
            if cursor is not None:
                found = connection.execute("SELECT position FROM workflows WHERE id = ?", (cursor,)).fetchone()
                if found is None:
                    raise LookupError(f"no workflow has the cursor's id {cursor!r}")
                where.append("position < ?")
                bound.append(found[0])
            clause = f"WHERE {' AND '.join(where)}" if where else ""
            query = f"SELECT {WORKFLOW_COLUMNS} FROM workflows {clause} ORDER BY position DESC LIMIT ?"
            return connection.execute(query, (*bound, -1 if limit is None else limit)).fetchall()

        return list(readable_records(self._read(page)))

    def delete_workflow(self, workflow_id: str) -> bool:
        """See the base class."""

        def delete(connection: sqlite3.Connection) -> bool:
            record = _select_workflow(connection, workflow_id)
            if record is not None:
                refuse_unfinished(record)
            return connection.execute("DELETE FROM workflows WHERE id = ?", (workflow_id,)).rowcount > 0

        return self._write(delete)

    def close(self) -> None:
        """See the base class."""
        with self._commits.alone():
            self._connections.close()

    # --- 1.0.2's seven methods --------------------------------------------------------------------------------------

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        """See the base class."""
        record = documents.record_from_instance(workflow)
        row = {
            "name": record.name,
            "status": record.status.value,
            "input_data": record.input,
            "output_data": record.output,
            "error_message": record.error_message,
            "current_activity": record.current_activity,
            "created_at": time_text(record.created_at),
            "updated_at": time_text(record.updated_at),
        }
        sql = (
            f"INSERT INTO workflows (id, {', '.join(row)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in row)}"
        )
        self._write(lambda connection: connection.execute(sql, (record.id, *row.values())))

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """See the base class."""

        def save(connection: sqlite3.Connection) -> None:
            (step,) = documents.steps_from_executions(execution.workflow_id, [execution])
            if step.sequence < 0:  # an id of the caller's own
                step = step._replace(sequence=_place_of_own_id(connection, execution, step))
            row = list(row_from_step(execution.workflow_id, step))
            row[1] = execution.id
            connection.execute(_REPLACE_STEP, row)

        self._write(save)

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """See the base class."""
        query = (
            f"SELECT id, {STEP_COLUMNS} FROM activity_executions WHERE workflow_id = ? ORDER BY created_at, sequence"
        )
        rows = self._read(lambda connection: connection.execute(query, (workflow_id,)).fetchall())
        executions = []
        for execution_id, *row in rows:
            execution = documents.execution_from_step(workflow_id, step_from_row(row))
            execution.id = execution_id
            executions.append(execution)
        return executions


DatabaseManager = SQLiteDatabaseManager
"""1.0.2's other name for it."""


# --- operations inside a transaction ----------------------------------------------------------------------------------


def _select_workflow(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord | None:
    query = f"SELECT {WORKFLOW_COLUMNS} FROM workflows WHERE id = ?"
    row = connection.execute(query, (workflow_id,)).fetchone()
    return None if row is None else record_from_row(row)


def _pending_names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute(_PENDING_NAMES)}


def _claim(connection: sqlite3.Connection, owner: str, names: frozenset[str], limit: int) -> list[WorkflowRecord]:
    if connection.execute("SELECT 1 FROM orchestrators WHERE id = ?", (owner,)).fetchone() is None:
        return []
    positions: list[int] = []
    for name in names & _pending_names(connection):
        positions.extend(position for (position,) in connection.execute(_OLDEST_OF_NAME, (name, limit)))
    oldest = sorted(positions)[:limit]
    return list(readable_records([connection.execute(_CLAIM, (owner, position)).fetchone() for position in oldest]))


def _finish(connection: sqlite3.Connection, row: tuple[object, ...], step_rows: list[tuple[object, ...]]) -> bool:
    if connection.execute(_FINISH, row).rowcount != 1:
        return False
    for step_row in step_rows:
        connection.execute(_UPSERT_STEP, step_row)
    return True


def _place_of_own_id(connection: sqlite3.Connection, execution: ActivityExecution, step: StepRecord) -> int:
    """Return the negative ordinal for an execution that has its caller's own id: where it was, else by its time."""
    others = connection.execute(
        "SELECT sequence, id, created_at FROM activity_executions WHERE workflow_id = ? AND sequence < 0 "
        "ORDER BY sequence",
        (execution.workflow_id,),
    ).fetchall()
    for sequence, execution_id, _ in others:
        if execution_id == execution.id:
            return int(sequence)
    started_at = time_text(step.started_at)
    newer = [sequence for sequence, _, created_at in others if created_at > started_at]
    place = min(newer, default=0) - 1
    connection.executemany(  # from the lowest up, so that no two have one ordinal at any time
        "UPDATE activity_executions SET sequence = sequence - 1 WHERE workflow_id = ? AND sequence = ?",
        [(execution.workflow_id, sequence) for sequence, _, _ in others if sequence <= place],
    )
    return place


def _forget_owner(connection: sqlite3.Connection, owner: str) -> None:
    connection.execute("UPDATE workflows SET owner = NULL WHERE status = 'processing' AND owner = ?", (owner,))
    connection.execute("DELETE FROM orchestrators WHERE id = ?", (owner,))


def _check_option(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} is one of {', '.join(allowed)}, not {value!r}")
