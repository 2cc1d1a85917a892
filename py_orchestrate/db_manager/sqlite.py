"""The SQLite backend: one file, any number of threads and processes on one machine.

Every write goes through one group commit (``_group_commit.py``) in a transaction that is exclusive from its first
statement, so that "database is locked" cannot strike half-way. Each intent-level method is one such operation; what it
decides, it decides inside the transaction. Reads borrow a connection of their own and never wait for writers.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .._times import LONGEST_SECONDS
from ..errors import ClaimLostError, StorageError, TransactionError
from ..models import (
    NEVER,
    ActivityStatus,
    ControlRequest,
    EventRecord,
    Outlook,
    QueueRecord,
    ScheduleRecord,
    StepOutcome,
    StepRecord,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)
from . import _documents as documents
from . import _sqlite_claims as claims
from . import _sqlite_merging as merging
from . import _sqlite_operations as operations
from . import _sqlite_schedules as schedules
from ._claims import Claimer
from ._connections import JOURNAL_MODES, SYNCHRONOUS_LEVELS, Connections
from ._group_commit import GroupCommit
from ._owner_locks import OwnerLocks
from ._pacing import LARGE
from ._records import RecordDatabaseManager, queue_records, refusal, refuse_unfinished
from ._sqlite_loans import LentConnection
from ._sqlite_rows import (
    EVENT_COLUMNS,
    STEP_COLUMNS,
    WORKFLOW_COLUMNS,
    event_from_row,
    readable_records,
    row_from_record,
    row_from_step,
    step_from_row,
    time_text,
    values_from_end,
)

if TYPE_CHECKING:
    from .._instances import ActivityExecution, WorkflowInstance
    from ..queues import Queue

__all__ = ["DatabaseManager", "SQLiteDatabaseManager"]

T = TypeVar("T")

_OUTCOME_OF = partial(tuple.__new__, StepOutcome)  # what _make() does, of which a replay needs as many as it has steps


class SQLiteDatabaseManager(RecordDatabaseManager):
    """Workflow persistence in one SQLite file.

    Args:
        db_path: The file; made if it is not there. ``":memory:"`` keeps everything in this process's memory, for tests.
            It is looked up once, so that a relative path stays what it is when the program changes its folder, and
            processes that name one file in different ways, through symbolic links too, share it.
        journal_mode: ``"WAL"`` (default): needs a local disk. ``"DELETE"``, ``"TRUNCATE"`` or ``"PERSIST"`` where the
            file lies on a network file system.
        synchronous: ``"FULL"`` (default): a commit is on the disk before it is acknowledged, in every journal mode:
            with ``"DELETE"`` SQLite's level EXTRA is set for it. ``"EXTRA"``: that level in every mode. ``"NORMAL"``:
            faster; a power failure, but not a crash of the process, can undo the last commits.
        busy_timeout_seconds: How long a write waits for another process's, before it raises ``StorageError``;
            ``math.inf`` for ever.

    Raises:
        StorageError: The file cannot be opened; the message says why.
        DatabaseVersionError: The file was written by a newer version, or is another program's.
        ValueError: An option has a value that is not listed above, or is negative, or the path is one of SQLite's URIs.
        TypeError: The path is none, or ``busy_timeout_seconds`` no number.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"leases", "waiting", "transactions", "queues", "schedules"})

    def __init__(
        self,
        db_path: str | os.PathLike[str] = "py_orchestrate.db",
        *,
        journal_mode: str = "WAL",
        synchronous: str = "FULL",
        busy_timeout_seconds: float = 60.0,
    ) -> None:
        self.db_path = _checked_path(db_path)
        _check_option("journal_mode", journal_mode, JOURNAL_MODES)
        _check_option("synchronous", synchronous, SYNCHRONOUS_LEVELS)
        self._connections = Connections(
            self.db_path,
            journal_mode=journal_mode,
            synchronous=synchronous,
            busy_timeout=_checked_timeout(busy_timeout_seconds),
        )
        self._commits = GroupCommit(self._connections)
        self._locks = None if self._connections.in_memory else OwnerLocks(self._connections.path)
        self._claims_in_person = False  # a hint: what is to be claimed is not to be had in a merged write
        self._connections.prepare()

    # --- the two ways to the database -------------------------------------------------------------------------------

    def _write(
        self,
        operation: Callable[[sqlite3.Connection], T],
        rows: Sequence[tuple[object, ...]] = (),
        result: object = None,
        *,
        size: int = 0,
    ) -> T:
        """Run the operation in a write transaction and return its result once that is durable.

        Args:
            operation: What to do.
            rows: The same as rows to merge with others', for the case that it comes to ``result``.
            result: See ``rows``.
            size: How many characters it writes, where they may be many.
        """
        work = merging.Mergeable(operation, rows, result) if rows else operation
        try:
            done: T = self._commits.submit(work, is_large=size >= LARGE)
        except sqlite3.Error as error:
            raise self._storage_error("write", error) from error
        return done

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

    def register_owner(self, owner: str, *, queues: Sequence[str] = ()) -> None:
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
        self._write(
            lambda connection: connection.execute(
                "INSERT INTO orchestrators (id, registered_at, queues) VALUES (?, ?, ?)",
                (owner, now, json.dumps(queues)),
            )
        )

    def release_owner(self, owner: str) -> None:
        """See the base class."""
        self._write(lambda connection: operations.forget_owner(connection, owner))
        if self._locks is not None:
            self._locks.release(owner)

    def beat_owner(self, owner: str) -> dict[str, int]:
        """See the base class. One commit."""
        return self._write(lambda connection: operations.beat(connection, owner))

    def expire_owner(self, owner: str, beats: int, *, now: datetime | None = None) -> bool:
        """See the base class."""
        moment = datetime.now(UTC) if now is None else now
        is_gone = self._write(lambda connection: operations.bury_owner(connection, owner, moment, beats))
        if is_gone and self._locks is not None:
            self._locks.forget(owner)
        return is_gone

    def look(self, owner: str = "", *, now: datetime | None = None, queues: Sequence[Queue] = ()) -> Outlook:
        """See the base class. One read, and one more for each limited queue that is busy.

        There is a write where somebody has died, or runs are out of their time that nobody holds.
        """
        return self._look(Claimer.of(owner, (), queues), datetime.now(UTC) if now is None else now)

    def _look(self, claimer: Claimer, now: datetime) -> Outlook:
        found = self._read(lambda connection: claims.look(connection, claimer, now))
        if self._bury(found.owners, now) or min(found.limit_at, default=NEVER) <= now:
            self._write(lambda connection: claims.expire(connection, now))
            found = self._read(lambda connection: claims.look(connection, claimer, now))
        wake_at = min([*found.wake_at, *found.limit_at], default=NEVER)
        tick_at = min(found.tick_at, default=None)
        return Outlook(found.names, None if wake_at == NEVER else wake_at, found.unconsumed, tick_at)

    def _bury(self, owners: Iterable[str], now: datetime) -> int:
        """Free the runs of those whose process is gone; on this file's machine the kernel knows. Return how many."""
        locks = self._locks
        dead = [] if locks is None else [owner for owner in owners if not locks.is_alive(owner)]
        for owner in dead:
            self._write(lambda connection, owner=owner: operations.bury_owner(connection, owner, now))  # type: ignore[misc]
            if locks is not None:
                locks.forget(owner)
        return len(dead)

    def list_queues(self) -> list[QueueRecord]:
        """See the base class."""
        counts, consumed = self._read(operations.queue_counts)
        return queue_records(counts, map(json.loads, consumed))

    # --- schedules --------------------------------------------------------------------------------------------------

    def store_schedule(self, record: ScheduleRecord, *, runs: Sequence[WorkflowRecord] = ()) -> bool:
        """See the base class. One commit."""
        return self._write(lambda connection: schedules.store(connection, record, runs))

    def read_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """See the base class."""
        return self._read(lambda connection: schedules.select(connection, schedule_id))

    def list_schedules(self, *, due_at: datetime | None = None) -> list[ScheduleRecord]:
        """See the base class."""
        return self._read(lambda connection: schedules.select_all(connection, due_at))

    def delete_schedule(self, schedule_id: str) -> bool:
        """See the base class."""
        return self._write(lambda connection: schedules.delete(connection, schedule_id))

    # --- one run ----------------------------------------------------------------------------------------------------

    def create_workflow(
        self, record: WorkflowRecord, *, steps: Sequence[StepRecord] = (), events: Sequence[EventRecord] = ()
    ) -> WorkflowRecord | None:
        """See the base class."""
        rows: list[tuple[object, ...]] = []
        if not (steps or events or record.deduplication_key) and len(record.input) <= merging.LARGEST:
            rows = [merging.run_row(row_from_record(record))]
        return self._write(lambda connection: operations.create(connection, record, steps, events), rows)

    def claim_workflows(
        self,
        owner: str,
        names: Iterable[str],
        limit: int,
        *,
        now: datetime | None = None,
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class. One read, and no write, where there is nothing to claim."""
        claimer = Claimer.of(owner, names, queues)
        moment = datetime.now(UTC) if now is None else now
        outlook = self._look(claimer, moment)
        is_due = outlook.wake_at is not None and outlook.wake_at <= moment
        if limit <= 0 or not (is_due or outlook.ready & claimer.names):
            return []
        return self._write(
            lambda connection: claims.claim(
                connection, claimer, limit, moment, claims.state_of(connection, claimer.owner, moment)
            )
        )

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
            "SELECT sequence, kind, activity_name, status, output_data, error_data, state_data "
            "FROM activity_executions WHERE workflow_id = ? ORDER BY sequence"
        )
        return self._read(lambda connection: list(map(_OUTCOME_OF, connection.execute(query, (workflow_id,)))))

    def record_steps(
        self,
        workflow_id: str,
        epoch: int,
        steps: Sequence[StepRecord],
        *,
        current_activity: str | None = None,
        children: Sequence[WorkflowRecord] = (),
        custom_status: str | None = None,
    ) -> ControlRequest | None:
        """See the base class."""
        rows = [row_from_step(workflow_id, step) for step in steps]
        new = [row_from_record(child) for child in children]
        marks = {}
        if current_activity is not None:
            marks = {"current_activity": current_activity, "updated_at": time_text(datetime.now(UTC))}
        if custom_status is not None:
            marks["custom_status"] = custom_status
        size = _size_of(steps)
        merges = not (new or marks) and size <= merging.LARGEST

        def record(connection: sqlite3.Connection) -> tuple[ControlRequest | None] | None:
            is_progress = any(step.status != ActivityStatus.RUNNING for step in steps)
            return operations.record_steps(connection, (workflow_id, epoch), rows, new, marks, is_progress=is_progress)

        done = self._write(
            record,
            [merging.step_row(epoch, row) for row in rows] if merges else [],
            (None,),
            size=size,
        )
        if done is None:
            raise ClaimLostError(workflow_id, epoch)
        return done[0]

    def record_transaction(self, workflow_id: str, epoch: int, body: Callable[[Any], StepRecord | None]) -> None:
        """See the base class. No other write of this process, or of another one, happens meanwhile."""
        with self._commits.alone():
            try:
                with self._connections.lending() as connection:
                    self._record_transaction(connection, (workflow_id, epoch), body)
            except sqlite3.Error as error:
                raise self._storage_error("write", error) from error

    def _record_transaction(
        self, connection: LentConnection, run: tuple[str, int], body: Callable[[Any], StepRecord | None]
    ) -> None:
        if not operations.is_held(connection, run):
            raise ClaimLostError(*run)
        with connection.lent():
            step = body(connection)
        if step is None:
            return
        if not connection.in_transaction:
            raise TransactionError(
                "the activity went on after SQLite had rolled back its transaction (OR ROLLBACK, ON CONFLICT ROLLBACK, "
                "RAISE(ROLLBACK), an interrupt, a full disk), so nothing of it is stored: let that error end the "
                "activity, or use ABORT instead of ROLLBACK, which undoes the one statement only"
            )
        operations.record_steps(connection, run, [row_from_step(run[0], step)], (), {}, is_progress=True)
        try:
            self._connections.commit_lent(connection)
        except sqlite3.IntegrityError as error:  # a foreign key that is checked at the end
            raise TransactionError(f"what the activity has written cannot be committed: {error}") from error

    def finish_workflow(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        """See the base class."""
        if not self._write(lambda connection: operations.finish(connection, workflow_id, epoch, end)):
            raise ClaimLostError(workflow_id, epoch)

    def finish_and_claim(
        self,
        workflow_id: str,
        epoch: int,
        end: WorkflowEnd,
        *,
        owner: str,
        names: Iterable[str],
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class. One commit."""
        claimer = Claimer.of(owner, names, queues)
        rows: list[tuple[object, ...]] = []
        size = _size_of(end.steps, end.output, end.error, end.custom_status)
        if not (self._claims_in_person or end.children) and size <= merging.LARGEST:
            rows = [merging.step_row(epoch, row_from_step(workflow_id, step)) for step in end.steps]
            rows.append(
                merging.end_row(
                    values_from_end(workflow_id, epoch, end),
                    owner,
                    None if queues else _json_of(claimer.names),
                    serves_overtaken=claimer.serves_overtaken,
                )
            )
        return self._leave_and_claim(
            lambda connection: operations.finish(connection, workflow_id, epoch, end),
            (workflow_id, epoch),
            claimer,
            end.finished_at,
            rows,
            size=size,
        )

    def _leave_and_claim(
        self,
        leave: Callable[[sqlite3.Connection], bool],
        run: tuple[str, int],
        claimer: Claimer,
        now: datetime,
        rows: Sequence[tuple[object, ...]] = (),
        *,
        size: int = 0,
    ) -> list[WorkflowRecord]:
        def leave_and_claim(connection: sqlite3.Connection) -> list[WorkflowRecord] | None:
            if not leave(connection):
                return None
            state = claims.state_of(connection, claimer.owner, now)
            self._claims_in_person = state.is_due or (state.is_ready and bool(claimer.queues))
            return claims.claim(connection, claimer, 1, now, state)

        claimed = self._write(leave_and_claim, rows, [], size=size)
        if claimed is None:
            raise ClaimLostError(*run)
        return claimed

    # --- waiting ----------------------------------------------------------------------------------------------------

    def suspend_workflow(self, workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> None:
        """See the base class."""
        if not self._write(lambda connection: operations.suspend(connection, workflow_id, epoch, suspension)):
            raise ClaimLostError(workflow_id, epoch)

    def suspend_and_claim(
        self,
        workflow_id: str,
        epoch: int,
        suspension: WorkflowSuspension,
        *,
        owner: str,
        names: Iterable[str],
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class. One commit."""
        return self._leave_and_claim(
            lambda connection: operations.suspend(connection, workflow_id, epoch, suspension),
            (workflow_id, epoch),
            Claimer.of(owner, names, queues),
            suspension.suspended_at,
        )

    def continue_workflow(self, workflow_id: str, epoch: int, continuation: WorkflowContinuation) -> None:
        """See the base class."""
        if not self._write(lambda connection: operations.begin_anew(connection, workflow_id, epoch, continuation)):
            raise ClaimLostError(workflow_id, epoch)

    def add_event(self, workflow_id: str, event: EventRecord) -> None:
        """See the base class."""
        record = self._write(lambda connection: operations.add_event(connection, workflow_id, event))
        if record is not None and not record.status.is_final:
            return
        if not self._read(lambda connection: operations.has_event(connection, workflow_id, event.id)):
            raise refusal(workflow_id, record, f"an event {event.name!r} cannot reach it")

    def load_events(
        self, workflow_id: str, *, name: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventRecord]:
        """See the base class."""
        query = (
            f"SELECT {EVENT_COLUMNS} FROM workflow_events WHERE workflow_id = ? AND position > ? "
            "AND name <> '' AND name = coalesce(?, name) ORDER BY position LIMIT ?"
        )
        values = (workflow_id, after, name, -1 if limit is None else limit)
        rows = self._read(lambda connection: connection.execute(query, values).fetchall())
        return [event_from_row(row) for row in rows]

    # --- control ----------------------------------------------------------------------------------------------------

    def cancel_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        record = self._write(lambda connection: operations.cancel(connection, workflow_id))
        if record is None or record.status.is_final:
            raise refusal(workflow_id, record, "it cannot be cancelled")

    def pause_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        record = self._write(lambda connection: operations.pause(connection, workflow_id))
        if record is None or record.status.is_final or record.request is ControlRequest.CANCEL:
            raise refusal(workflow_id, record, "it cannot be paused")

    def resume_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        record = self._write(lambda connection: operations.resume(connection, workflow_id))
        if record is None or record.status.is_final:
            raise refusal(workflow_id, record, "it cannot be resumed")

    def reopen_workflow(
        self, workflow_id: str, epoch: int, drop: Iterable[int], replace: Sequence[StepRecord] = ()
    ) -> None:
        """See the base class."""
        dropped = list(drop)
        record = self._write(lambda connection: operations.reopen(connection, workflow_id, epoch, dropped, replace))
        if record is None or record.status is not WorkflowStatus.FAILED or record.epoch != epoch:
            raise refusal(workflow_id, record, "only one that stands as failed can be rewound")

    def pending_requests(self, owner: str) -> dict[str, ControlRequest]:
        """See the base class."""
        query = "SELECT id, request FROM workflows WHERE owner = ? AND request IS NOT NULL"
        rows = self._read(lambda connection: connection.execute(query, (owner,)).fetchall())
        return {workflow_id: ControlRequest(request) for workflow_id, request in rows}

    # --- reading ----------------------------------------------------------------------------------------------------

    def read_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """See the base class."""
        return self._read(lambda connection: operations.select_workflow(connection, workflow_id))

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
        version: str | None = None,
        queue: str | None = None,
    ) -> list[WorkflowRecord]:
        """See the base class."""
        conditions, values = [], []
        if name is not None:
            conditions.append("name = ?")
            values.append(name)
        if version is not None:
            conditions.append("version = ?")
            values.append(version)
        if queue is not None:
            conditions.append("queue = ?")
            values.append(queue)
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
            record = operations.select_workflow(connection, workflow_id)
            if record is not None:
                refuse_unfinished(record)
            return connection.execute("DELETE FROM workflows WHERE id = ?", (workflow_id,)).rowcount > 0

        return self._write(delete)

    def purge_workflows(
        self,
        ended_before: datetime,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int = 100,
    ) -> int:
        """See the base class. One commit; what is freed in the file is used again."""
        filters = {
            "before": time_text(ended_before.astimezone(UTC)),
            "name": name,
            "status": None if status is None else status.value,
            "limit": max(0, limit),
        }
        return self._write(lambda connection: operations.purge(connection, filters))

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
            f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in row)}, "
            f"deduplication_key = CASE WHEN workflows.{operations.ENDED} AND NOT excluded.{operations.ENDED} "
            "THEN NULL ELSE deduplication_key END"
        )
        self._write(lambda connection: connection.execute(sql, (record.id, *row.values())))

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """See the base class."""

        def save(connection: sqlite3.Connection) -> None:
            (step,) = documents.steps_from_executions(execution.workflow_id, [execution])
            if step.sequence < 0:  # an id of the caller's own
                step = step._replace(sequence=operations.place_of_own_id(connection, execution, step))
            row = list(row_from_step(execution.workflow_id, step))
            row[1] = execution.id
            connection.execute(operations.REPLACE_STEP, row)

        self._write(save)

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """See the base class."""
        query = (
            f"SELECT id, {STEP_COLUMNS} FROM activity_executions WHERE workflow_id = ? AND kind = 'activity' "
            "ORDER BY created_at, sequence"
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


@lru_cache(maxsize=16)
def _json_of(names: frozenset[str]) -> str:
    return json.dumps(list(names))


def _size_of(steps: Iterable[StepRecord], *others: str | None) -> int:
    """Return how many characters payloads have: those of steps, and others."""
    size = 0
    for step in steps:
        size += len(step.input) + len(step.output or "") + len(step.error or "")
    for payload in others:
        size += len(payload or "")
    return size


def _checked_path(db_path: object) -> str:
    """Return the path as a text.

    Raises:
        TypeError: It is no path.
        ValueError: It is a path that no file can have, or one of SQLite's URIs.
    """
    if not isinstance(db_path, str | bytes | os.PathLike):
        raise TypeError(f"db_path is the path of a file or ':memory:', not {type(db_path).__name__}")
    path = os.fspath(db_path)
    if not isinstance(path, str) or not path or "\0" in path or not _is_encodable(path):
        raise ValueError(f"db_path is the path of a file or ':memory:', not {path!a}")
    # Only some builds of SQLite take them, and what they name may be a memory that no second connection sees.
    if path.startswith("file:"):
        raise ValueError(
            f"db_path is the plain path of a file or ':memory:', not an SQLite URI as {path!r}; a file whose name "
            f"begins so is {os.path.join('.', path)!r}"
        )
    return path


def _checked_timeout(seconds: object) -> float:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"busy_timeout_seconds is a number of seconds, not {type(seconds).__name__}")
    if not seconds >= 0:
        raise ValueError(f"busy_timeout_seconds must not be negative or nan, not {seconds}")
    return float(min(seconds, LONGEST_SECONDS))


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _check_option(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} is one of {', '.join(allowed)}, not {value!r}")
