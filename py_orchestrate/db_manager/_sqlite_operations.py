"""What the SQLite backend does inside a transaction: each function is one intent-level step on an open connection.

None of them raises for what it finds (a lost claim, a run that has ended): that would cost the neighbours in the same
group commit a transaction. They return it, and their callers raise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..models import (
    ControlRequest,
    EventRecord,
    StepRecord,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)
from ._crashes import recovery_time
from ._sqlite_claims import TO_BE_CANCELLED
from ._sqlite_rows import (
    EVENT_COLUMNS,
    STEP_COLUMNS,
    WORKFLOW_COLUMNS,
    record_from_row,
    row_from_event,
    row_from_record,
    row_from_step,
    time_text,
    values_from_end,
    values_from_suspension,
)

if TYPE_CHECKING:
    from .._instances import ActivityExecution

Row = tuple[object, ...]

# An owner that is not registered holds nothing: nobody would notice its death.
INSERT_WORKFLOW = f"""
INSERT INTO workflows ({WORKFLOW_COLUMNS})
VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT id FROM orchestrators WHERE id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?)
"""
INSERT_IF_FREE = f"{INSERT_WORKFLOW} ON CONFLICT (id) DO NOTHING"

HELD = "id = ? AND epoch = ? AND status = 'processing' AND owner IS NOT NULL"

REPLACE_STEP = f"""
INSERT INTO activity_executions (workflow_id, id, {STEP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (workflow_id, sequence) DO UPDATE SET
    id = excluded.id, kind = excluded.kind, activity_name = excluded.activity_name, status = excluded.status,
    input_data = excluded.input_data, output_data = excluded.output_data, error_data = excluded.error_data,
    error_message = excluded.error_message, created_at = excluded.created_at, completed_at = excluded.completed_at,
    state_data = excluded.state_data, version = excluded.version
"""

# A step that is completed or cancelled is final; any other may go on or run again.
UPSERT_STEP = f"{REPLACE_STEP} WHERE activity_executions.status NOT IN ('completed', 'cancelled')"

_INSERT_EVENT = f"INSERT INTO workflow_events (workflow_id, {EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"

FINISH = f"""
UPDATE workflows SET status = ?, output_data = ?, error_data = ?, error_message = ?, current_activity = ?,
    custom_status = coalesce(?, custom_status), updated_at = ?, owner = NULL, request = NULL
WHERE {HELD} RETURNING parent_id
"""

_SUSPEND = """
UPDATE workflows SET
    owner = NULL,
    updated_at = :now,
    status = CASE WHEN request = 'pause' THEN 'paused' ELSE status END,
    request = CASE WHEN request = 'pause' THEN NULL ELSE request END,
    custom_status = coalesce(:custom_status, custom_status),
    crashes = 0,
    wake_at = CASE WHEN signals = :signals THEN :wake_at END,
    waiting_for = CASE WHEN signals = :signals THEN :waiting_for END
WHERE id = :id AND epoch = :epoch AND status = 'processing' AND owner IS NOT NULL
"""

_CONTINUE = """
UPDATE workflows SET
    owner = NULL,
    input_data = ?,
    generation = generation + 1,
    version = ?,
    updated_at = ?,
    custom_status = coalesce(?, custom_status),
    crashes = 0,
    status = CASE WHEN request = 'pause' THEN 'paused' ELSE status END,
    request = CASE WHEN request = 'pause' THEN NULL ELSE request END
WHERE id = ? AND epoch = ? AND status = 'processing' AND owner IS NOT NULL
"""

SIGNAL = """
UPDATE workflows SET
    signals = signals + 1,
    wake_at = CASE WHEN waiting_for IN (:signal, 'any') THEN NULL ELSE wake_at END,
    waiting_for = CASE WHEN waiting_for IN (:signal, 'any') THEN NULL ELSE waiting_for END
WHERE id = :id AND status IN ('processing', 'paused')
"""

_CANCEL = f"UPDATE workflows SET {TO_BE_CANCELLED}, deadline = NULL WHERE id = ?"

_PAUSE = """
UPDATE workflows SET
    status = CASE WHEN owner IS NULL THEN 'paused' ELSE status END,
    request = CASE WHEN owner IS NULL THEN NULL ELSE 'pause' END
WHERE id = ?
"""

_RESUME = """
UPDATE workflows SET status = 'processing', request = CASE WHEN request = 'pause' THEN NULL ELSE request END
WHERE id = ?
"""

_REOPEN = """
UPDATE workflows SET status = 'processing', output_data = NULL, error_data = NULL, error_message = NULL,
    current_activity = NULL, deadline = NULL, request = NULL, wake_at = NULL, waiting_for = NULL, crashes = 0,
    deduplication_key = NULL
WHERE id = ?
"""

_COUNT_QUEUES = """
SELECT queue, 0, count(*) FROM workflows
WHERE status = 'processing' AND owner IS NULL AND wake_at IS NULL AND queue > '' GROUP BY queue
UNION ALL
SELECT queue, 1, count(*) FROM workflows WHERE owner IS NOT NULL AND queue <> '' GROUP BY queue
"""

ENDED = "status IN ('done', 'failed', 'cancelled')"  # as the index of those has it, or it would not be used
_PURGE = f"""
DELETE FROM workflows WHERE position IN (
    SELECT position FROM workflows AS run
    WHERE {ENDED} AND updated_at < :before
        AND (:name IS NULL OR name = :name) AND (:status IS NULL OR status = :status)
        AND NOT EXISTS (SELECT 1 FROM workflows AS parent WHERE parent.id = run.parent_id AND NOT parent.{ENDED})
    ORDER BY updated_at LIMIT :limit)
"""


# --- reading ----------------------------------------------------------------------------------------------------------


def select_workflow(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord | None:
    """Return the run, or ``None``."""
    query = f"SELECT {WORKFLOW_COLUMNS} FROM workflows WHERE id = ?"
    row = connection.execute(query, (workflow_id,)).fetchone()
    return None if row is None else record_from_row(row)


def queue_counts(connection: sqlite3.Connection) -> tuple[dict[str, list[int]], list[str]]:
    """Return how many runs of each queue are ready and are held, and what each orchestrator consumes."""
    counts: dict[str, list[int]] = {}
    for queue, is_held, count in connection.execute(_COUNT_QUEUES):
        counts.setdefault(queue, [0, 0])[is_held] += count
    return counts, [queues for (queues,) in connection.execute("SELECT queues FROM orchestrators")]


# --- a run's life -----------------------------------------------------------------------------------------------------


def create(
    connection: sqlite3.Connection, record: WorkflowRecord, steps: Iterable[StepRecord], events: Iterable[EventRecord]
) -> WorkflowRecord | None:
    """Insert the run with its history, unless its id or its deduplication key is taken; return the run that has it."""
    if record.deduplication_key is not None:
        existing = select_workflow(connection, record.id) or _select_deduplicated(
            connection, record.queue, record.deduplication_key
        )
        if existing is not None:
            return existing
    if connection.execute(INSERT_IF_FREE, row_from_record(record)).rowcount != 1:
        return select_workflow(connection, record.id)
    _store_steps(connection, record.id, steps)
    for event in events:
        connection.execute(_INSERT_EVENT, row_from_event(record.id, event))
    return None


def _select_deduplicated(connection: sqlite3.Connection, queue: str | None, key: str) -> WorkflowRecord | None:
    query = (
        f"SELECT {WORKFLOW_COLUMNS} FROM workflows WHERE queue = ? AND deduplication_key = ? "
        "AND status IN ('processing', 'paused')"
    )
    row = connection.execute(query, (queue or "", key)).fetchone()
    return None if row is None else record_from_row(row)


def is_held(connection: sqlite3.Connection, run: tuple[str, int]) -> bool:
    """Return whether the claim on a run (id, epoch) is held."""
    return connection.execute(f"SELECT 1 FROM workflows WHERE {HELD}", run).fetchone() is not None


def record_steps(
    connection: sqlite3.Connection,
    run: tuple[str, int],
    rows: Sequence[Row],
    children: Sequence[Row],
    marks: Mapping[str, str],
    *,
    is_progress: bool,
) -> tuple[ControlRequest | None] | None:
    """Store steps of a run (id, epoch), create children, and set columns of the run.

    Returns:
        What is requested of the run, in a tuple; ``None`` if the claim is lost.
    """
    found = connection.execute(f"SELECT request, crashes FROM workflows WHERE {HELD}", run).fetchone()
    if found is None:
        return None
    for row in rows:
        connection.execute(UPSERT_STEP, row)
    for row in children:
        connection.execute(INSERT_IF_FREE, row)
    if marks:
        columns = ", ".join(f"{column} = ?" for column in marks)
        connection.execute(f"UPDATE workflows SET {columns} WHERE id = ?", (*marks.values(), run[0]))
    if is_progress and found[1]:
        connection.execute("UPDATE workflows SET crashes = 0 WHERE id = ?", (run[0],))
    return (None if found[0] is None else ControlRequest(found[0]),)


def finish(connection: sqlite3.Connection, workflow_id: str, epoch: int, end: WorkflowEnd) -> bool:
    """Store a run's end, and tell its parent; return whether the claim was held."""
    ended = connection.execute(FINISH, values_from_end(workflow_id, epoch, end)).fetchall()
    if not ended:
        return False
    _store_steps(connection, workflow_id, end.steps)
    _insert_children(connection, end.children)
    if ended[0][0] is not None:
        connection.execute(SIGNAL, {"id": ended[0][0], "signal": f"workflow:{workflow_id}"})
    return True


def suspend(connection: sqlite3.Connection, workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> bool:
    """Store what a run waits for; return whether the claim was held."""
    if connection.execute(_SUSPEND, values_from_suspension(workflow_id, epoch, suspension)).rowcount != 1:
        return False
    _store_steps(connection, workflow_id, suspension.steps)
    _insert_children(connection, suspension.children)
    return True


def begin_anew(
    connection: sqlite3.Connection, workflow_id: str, epoch: int, continuation: WorkflowContinuation
) -> bool:
    """Let a run begin anew; return whether the claim was held."""
    values = (
        continuation.input,
        continuation.version,
        time_text(continuation.continued_at),
        continuation.custom_status,
        workflow_id,
        epoch,
    )
    if connection.execute(_CONTINUE, values).rowcount != 1:
        return False
    connection.execute("DELETE FROM activity_executions WHERE workflow_id = ?", (workflow_id,))
    # Taken events stay as empty rows for one more generation, so that one that is sent again is known.
    connection.execute("DELETE FROM workflow_events WHERE workflow_id = ? AND name = ''", (workflow_id,))
    connection.executemany(
        "UPDATE workflow_events SET payload = 'null', name = '' WHERE workflow_id = ? AND name = ? AND position <= ?",
        [(workflow_id, name, position) for name, position in continuation.taken.items()],
    )
    _insert_children(connection, continuation.children)
    return True


def _store_steps(connection: sqlite3.Connection, workflow_id: str, steps: Iterable[StepRecord]) -> None:
    for step in steps:
        connection.execute(UPSERT_STEP, row_from_step(workflow_id, step))


def _insert_children(connection: sqlite3.Connection, children: Iterable[WorkflowRecord]) -> None:
    for child in children:
        connection.execute(INSERT_IF_FREE, row_from_record(child))


# --- events and requests ----------------------------------------------------------------------------------------------


def add_event(connection: sqlite3.Connection, workflow_id: str, event: EventRecord) -> WorkflowRecord | None:
    """Store the event, unless the run has it or has ended; return the run, as it was."""
    record = select_workflow(connection, workflow_id)
    if record is None or record.status.is_final:
        return record
    last: int = connection.execute(
        "SELECT coalesce(max(position), 0) FROM workflow_events WHERE workflow_id = ?", (workflow_id,)
    ).fetchone()[0]
    row = list(row_from_event(workflow_id, event))
    row[1] = last + 1
    stored = connection.execute(f"{_INSERT_EVENT} ON CONFLICT (workflow_id, id) DO NOTHING", row)
    if stored.rowcount:
        connection.execute(SIGNAL, {"id": workflow_id, "signal": f"event:{event.name}"})
    return record


def has_event(connection: sqlite3.Connection, workflow_id: str, event_id: str) -> bool:
    """Return whether the run has an event of that id."""
    query = "SELECT 1 FROM workflow_events WHERE workflow_id = ? AND id = ?"
    return connection.execute(query, (workflow_id, event_id)).fetchone() is not None


def cancel(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord | None:
    """Request the cancellation of a run that has not ended; return the run, as it was."""
    record = select_workflow(connection, workflow_id)
    if record is not None and not record.status.is_final:
        connection.execute(_CANCEL, (workflow_id,))
    return record


def pause(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord | None:
    """Pause a run, or request it of one that is held; return the run, as it was."""
    record = select_workflow(connection, workflow_id)
    if (
        record is not None
        and record.status is WorkflowStatus.PROCESSING
        and record.request is not ControlRequest.CANCEL
    ):
        connection.execute(_PAUSE, (workflow_id,))
    return record


def resume(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord | None:
    """Let a paused run go on; return the run, as it was."""
    record = select_workflow(connection, workflow_id)
    if record is not None and not record.status.is_final:
        connection.execute(_RESUME, (workflow_id,))
    return record


def reopen(
    connection: sqlite3.Connection, workflow_id: str, epoch: int, drop: Iterable[int], replace: Iterable[StepRecord]
) -> WorkflowRecord | None:
    """Let a failed run go on, without some of its steps; return the run, as it was."""
    record = select_workflow(connection, workflow_id)
    if record is not None and record.status is WorkflowStatus.FAILED and record.epoch == epoch:
        connection.execute(_REOPEN, (workflow_id,))
        connection.executemany(
            "DELETE FROM activity_executions WHERE workflow_id = ? AND sequence = ?",
            [(workflow_id, sequence) for sequence in drop],
        )
        _store_steps(connection, workflow_id, replace)
    return record


def beat(connection: sqlite3.Connection, owner: str) -> dict[str, int]:
    """Count an owner's sign of life; return the counts of all."""
    connection.execute("UPDATE orchestrators SET beats = beats + 1 WHERE id = ?", (owner,))
    return dict(connection.execute("SELECT id, beats FROM orchestrators").fetchall())


def forget_owner(connection: sqlite3.Connection, owner: str) -> None:
    """Free an owner's runs and forget it."""
    connection.execute("DELETE FROM orchestrators WHERE id = ?", (owner,))
    connection.execute("UPDATE workflows SET owner = NULL WHERE owner = ?", (owner,))


def purge(connection: sqlite3.Connection, filters: Mapping[str, object]) -> int:
    """Delete runs that have ended; return how many."""
    return connection.execute(_PURGE, filters).rowcount


def bury_owner(connection: sqlite3.Connection, owner: str, now: datetime, beats: int | None = None) -> bool:
    """Free the runs of an owner that has died, if it has given so many signs of life; return whether it was there."""
    query = "DELETE FROM orchestrators WHERE id = ? AND beats = coalesce(?, beats)"
    if connection.execute(query, (owner, beats)).rowcount != 1:
        return False
    held = connection.execute("SELECT id, crashes + 1 FROM workflows WHERE owner = ?", (owner,)).fetchall()
    for workflow_id, crashes in held:
        due = recovery_time(crashes, now)
        connection.execute(
            "UPDATE workflows SET owner = NULL, crashes = ?, wake_at = ? WHERE id = ?",
            (crashes, None if due is None else time_text(due), workflow_id),
        )
    return True


# --- 1.0.2's executions -----------------------------------------------------------------------------------------------


def place_of_own_id(connection: sqlite3.Connection, execution: ActivityExecution, step: StepRecord) -> int:
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
