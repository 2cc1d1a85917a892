"""Between the rows of SQLite's tables and the engine's records."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from ..errors import StorageError
from ..models import (
    ControlRequest,
    EventRecord,
    StepRecord,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)
from . import _documents as documents

_logger = logging.getLogger(__name__)

Row = tuple[object, ...]

WORKFLOW_COLUMNS = (
    "id, name, status, input_data, output_data, error_data, error_message, current_activity, owner, epoch, "
    "parent_id, wake_at, waiting_for, signals, request, deadline, custom_status, generation, version, "
    "crashes, queue, priority, deduplication_key, scheduled_at, created_at, updated_at"
)
STEP_COLUMNS = (
    "sequence, kind, activity_name, status, input_data, output_data, error_data, error_message, "
    "created_at, completed_at, state_data, version"
)
_WIDTH = len("2030-01-01T00:00:00.000000+00:00")
EVENT_COLUMNS = "position, id, name, payload, sent_at"


def time_text(moment: datetime) -> str:
    """Return UTC time in a fixed width, so that the order of texts is the order of times."""
    text = moment.isoformat()  # naming the precision takes half as long again, and is needed once in a million times
    return text if len(text) == _WIDTH else moment.isoformat(timespec="microseconds")


def row_from_record(record: WorkflowRecord) -> tuple[object, ...]:
    """Return the record as the values of ``WORKFLOW_COLUMNS``."""
    return (
        record.id,
        record.name,
        record.status.value,
        record.input,
        record.output,
        record.error,
        record.error_message,
        record.current_activity,
        record.owner,
        record.epoch,
        record.parent_id,
        optional_time_text(record.wake_at),
        record.waiting_for,
        record.signals,
        None if record.request is None else record.request.value,
        optional_time_text(record.deadline),
        record.custom_status,
        record.generation,
        record.version,
        record.crashes,
        record.queue or "",
        record.priority,
        record.deduplication_key,
        optional_time_text(record.scheduled_at),
        time_text(record.created_at),
        time_text(record.updated_at),
    )


def fetch_readable(cursor: sqlite3.Cursor) -> list[Row]:
    """Return the one row of a cursor, if it has one, unless somebody damaged its texts so that they are none."""
    try:
        row = cursor.fetchone()
    except sqlite3.OperationalError as error:
        if hasattr(error, "sqlite_errorcode"):  # SQLite's own; Python's, where it cannot decode a text, has none
            raise
        _logger.warning("a workflow cannot be read: %s; it is passed over", error)
        cursor.close()
        return []
    return [] if row is None else [row]


def readable_records(rows: Iterable[Sequence[object]]) -> Iterator[WorkflowRecord]:
    """Yield the records of rows, except of those that somebody damaged, which must not hold up the others."""
    for row in rows:
        try:
            yield record_from_row(row)
        except StorageError as error:
            _logger.warning("%s; it is passed over", error)


def record_from_row(row: Sequence[object]) -> WorkflowRecord:
    """Return the record that the values of ``WORKFLOW_COLUMNS`` are.

    Raises:
        StorageError: Somebody damaged them.
    """
    try:
        return _record(row)
    except (TypeError, ValueError) as error:
        raise StorageError(f"workflow {row[0]} cannot be read: {error}") from error


def _record(row: Sequence[object]) -> WorkflowRecord:
    return WorkflowRecord(
        id=row[0],  # type: ignore[arg-type]
        name=row[1],  # type: ignore[arg-type]
        status=WorkflowStatus(row[2]),
        input=row[3],  # type: ignore[arg-type]
        output=row[4],  # type: ignore[arg-type]
        error=row[5],  # type: ignore[arg-type]
        error_message=row[6],  # type: ignore[arg-type]
        current_activity=row[7],  # type: ignore[arg-type]
        owner=row[8],  # type: ignore[arg-type]
        epoch=row[9],  # type: ignore[arg-type]
        parent_id=row[10],  # type: ignore[arg-type]
        wake_at=optional_time(row[11]),
        waiting_for=row[12],  # type: ignore[arg-type]
        signals=row[13],  # type: ignore[arg-type]
        request=None if row[14] is None else ControlRequest(row[14]),
        deadline=optional_time(row[15]),
        custom_status=row[16],  # type: ignore[arg-type]
        generation=row[17],  # type: ignore[arg-type]
        version=row[18],  # type: ignore[arg-type]
        crashes=row[19],  # type: ignore[arg-type]
        queue=row[20] or None,  # type: ignore[arg-type]
        priority=row[21],  # type: ignore[arg-type]
        deduplication_key=row[22],  # type: ignore[arg-type]
        scheduled_at=optional_time(row[23]),
        created_at=datetime.fromisoformat(row[24]),  # type: ignore[arg-type]
        updated_at=datetime.fromisoformat(row[25]),  # type: ignore[arg-type]
    )


def row_from_step(workflow_id: str, step: StepRecord) -> tuple[object, ...]:
    """Return the step as its workflow's id, its own, and the values of ``STEP_COLUMNS``."""
    return (
        workflow_id,
        documents.step_id(workflow_id, step.sequence),
        *step[:8],
        time_text(step.started_at),
        optional_time_text(step.completed_at),
        step.state,
        step.version,
    )


def values_from_end(workflow_id: str, epoch: int, end: WorkflowEnd) -> tuple[object, ...]:
    """Return the values of the statement that stores how a run ended."""
    return (
        end.status.value,
        end.output,
        end.error,
        end.error_message,
        end.current_activity,
        end.custom_status,
        time_text(end.finished_at),
        workflow_id,
        epoch,
    )


def values_from_suspension(workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> dict[str, object]:
    """Return the values of the statement that stores what a run waits for."""
    return {
        "id": workflow_id,
        "epoch": epoch,
        "signals": suspension.signals,
        "wake_at": optional_time_text(suspension.wake_at),
        "waiting_for": suspension.waiting_for,
        "custom_status": suspension.custom_status,
        "now": time_text(suspension.suspended_at),
    }


def step_from_row(row: Sequence[object]) -> StepRecord:
    """Return the step that the values of ``STEP_COLUMNS`` are."""
    *fields, started_at, completed_at, state, version = row
    started = datetime.fromisoformat(started_at)  # type: ignore[arg-type]
    return StepRecord._make((*fields, started, optional_time(completed_at), state, version))


def row_from_event(workflow_id: str, event: EventRecord) -> tuple[object, ...]:
    """Return the event as its workflow's id and the values of ``EVENT_COLUMNS``."""
    return workflow_id, event.position, event.id, event.name, event.payload, time_text(event.sent_at)


def event_from_row(row: Sequence[object]) -> EventRecord:
    """Return the event that the values of ``EVENT_COLUMNS`` are."""
    return EventRecord(
        position=row[0],  # type: ignore[arg-type]
        id=row[1],  # type: ignore[arg-type]
        name=row[2],  # type: ignore[arg-type]
        payload=row[3],  # type: ignore[arg-type]
        sent_at=datetime.fromisoformat(row[4]),  # type: ignore[arg-type]
    )


def optional_time_text(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def optional_time(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)  # type: ignore[arg-type]
