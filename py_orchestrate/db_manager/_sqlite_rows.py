"""Between the rows of SQLite's tables and the engine's records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from ..errors import StorageError
from ..models import StepRecord, WorkflowEnd, WorkflowRecord, WorkflowStatus
from . import _documents as documents

_logger = logging.getLogger(__name__)

WORKFLOW_COLUMNS = (
    "id, name, status, input_data, output_data, error_data, error_message, current_activity, owner, epoch, "
    "created_at, updated_at"
)
STEP_COLUMNS = (
    "sequence, kind, activity_name, status, input_data, output_data, error_data, error_message, "
    "created_at, completed_at"
)


def time_text(moment: datetime) -> str:
    """Return UTC time in a fixed width, so that the order of texts is the order of times."""
    return moment.isoformat(timespec="microseconds")


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
        time_text(record.created_at),
        time_text(record.updated_at),
    )


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
        created_at=datetime.fromisoformat(row[10]),  # type: ignore[arg-type]
        updated_at=datetime.fromisoformat(row[11]),  # type: ignore[arg-type]
    )


def row_from_step(workflow_id: str, step: StepRecord) -> tuple[object, ...]:
    """Return the step as its workflow's id, its own, and the values of ``STEP_COLUMNS``."""
    return (
        workflow_id,
        documents.step_id(workflow_id, step.sequence),
        *step[:8],
        time_text(step.started_at),
        None if step.completed_at is None else time_text(step.completed_at),
    )


def rows_from_end(
    workflow_id: str, epoch: int, end: WorkflowEnd
) -> tuple[tuple[object, ...], list[tuple[object, ...]]]:
    """Return what the end stores: the values of its statement, and the rows of its steps."""
    row = (
        end.status.value,
        end.output,
        end.error,
        end.error_message,
        end.current_activity,
        time_text(end.finished_at),
        workflow_id,
        epoch,
    )
    return row, [row_from_step(workflow_id, step) for step in end.steps]


def step_from_row(row: Sequence[object]) -> StepRecord:
    """Return the step that the values of ``STEP_COLUMNS`` are."""
    *fields, started_at, completed_at = row
    completed = None if completed_at is None else datetime.fromisoformat(completed_at)  # type: ignore[arg-type]
    return StepRecord._make((*fields, datetime.fromisoformat(started_at), completed))  # type: ignore[arg-type]
