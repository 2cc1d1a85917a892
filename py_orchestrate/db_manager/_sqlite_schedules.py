"""Schedules in SQLite; each function is one intent-level step on an open connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from ..models import ScheduleRecord, WorkflowRecord
from ._sqlite_operations import INSERT_IF_FREE
from ._sqlite_rows import optional_time, optional_time_text, row_from_record, time_text

_COLUMNS = (
    "id, name, input_data, cron, timezone, catch_up, overlap, queue, priority, version, is_paused, next_at, waiting, "
    "last_at, last_run_id, revision, created_at, updated_at"
)
_MARKS = ", ".join("?" * (_COLUMNS.count(",") + 2))
_INSERT = f"INSERT INTO schedules ({_COLUMNS}, due_at) VALUES ({_MARKS}) ON CONFLICT (id) DO NOTHING"
_REPLACE = f"UPDATE schedules SET ({_COLUMNS}, due_at) = ({_MARKS}) WHERE id = ? AND revision = ?"


def store(connection: sqlite3.Connection, record: ScheduleRecord, runs: Iterable[WorkflowRecord]) -> bool:
    """Store the schedule if the one before it is stored, with the runs whose ids are free; return whether it was."""
    row = _row(record)
    if record.revision == 1:
        stored = connection.execute(_INSERT, row)
    else:
        stored = connection.execute(_REPLACE, (*row, record.id, record.revision - 1))
    if stored.rowcount != 1:
        return False
    for run in runs:
        connection.execute(INSERT_IF_FREE, row_from_record(run))
    return True


def select(connection: sqlite3.Connection, schedule_id: str) -> ScheduleRecord | None:
    """Return the schedule, or ``None``."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM schedules WHERE id = ?", (schedule_id,)).fetchone()
    return None if row is None else _record(row)


def select_all(connection: sqlite3.Connection, due_at: datetime | None) -> list[ScheduleRecord]:
    """Return the schedules, by id, or those that are due."""
    if due_at is None:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM schedules ORDER BY id")
    else:
        query = f"SELECT {_COLUMNS} FROM schedules WHERE due_at <= ? ORDER BY due_at"
        rows = connection.execute(query, (time_text(due_at),))
    return [_record(row) for row in rows]


def delete(connection: sqlite3.Connection, schedule_id: str) -> bool:
    """Delete the schedule; return whether there was one."""
    return connection.execute("DELETE FROM schedules WHERE id = ?", (schedule_id,)).rowcount == 1


def _row(record: ScheduleRecord) -> tuple[object, ...]:
    return (
        record.id,
        record.name,
        record.input,
        record.cron,
        record.timezone,
        record.catch_up,
        record.overlap,
        record.queue,
        record.priority,
        record.version,
        record.is_paused,
        optional_time_text(record.next_at),
        json.dumps([time_text(moment) for moment in record.waiting]),
        optional_time_text(record.last_at),
        record.last_run_id,
        record.revision,
        time_text(record.created_at),
        time_text(record.updated_at),
        optional_time_text(record.due_at),
    )


def _record(row: Sequence[object]) -> ScheduleRecord:
    return ScheduleRecord(
        id=row[0],  # type: ignore[arg-type]
        name=row[1],  # type: ignore[arg-type]
        input=row[2],  # type: ignore[arg-type]
        cron=row[3],  # type: ignore[arg-type]
        timezone=row[4],  # type: ignore[arg-type]
        catch_up=row[5],  # type: ignore[arg-type]
        overlap=row[6],  # type: ignore[arg-type]
        queue=row[7],  # type: ignore[arg-type]
        priority=row[8],  # type: ignore[arg-type]
        version=row[9],  # type: ignore[arg-type]
        is_paused=bool(row[10]),
        next_at=optional_time(row[11]),
        waiting=tuple(map(datetime.fromisoformat, json.loads(row[12]))),  # type: ignore[arg-type]
        last_at=optional_time(row[13]),
        last_run_id=row[14],  # type: ignore[arg-type]
        revision=row[15],  # type: ignore[arg-type]
        created_at=datetime.fromisoformat(row[16]),  # type: ignore[arg-type]
        updated_at=datetime.fromisoformat(row[17]),  # type: ignore[arg-type]
    )
