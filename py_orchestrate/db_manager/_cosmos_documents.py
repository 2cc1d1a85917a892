"""Between Cosmos DB's documents and the engine's records.

Everything of a run is in one logical partition, that of its id: its own document ``run``, one for each step, one for
each event, and one for each message that has to reach another partition. Payloads are JSON text, never Cosmos DB's own
numbers, which are doubles. A schedule is a partition of its own kind, so that one query finds whatever is due.

``due`` is what that query goes by: ``""`` for what is ready, a time for what waits for one, null for the rest. ``lane``
and ``rank`` say in which order what is ready goes. ``ends_by`` is the time limit of a run that nobody holds and nothing
wakes then, because it is ready or paused; that query finds it once it has passed.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..models import (
    NEVER,
    ControlRequest,
    EventRecord,
    ScheduleRecord,
    StepOutcome,
    StepRecord,
    WorkflowRecord,
    WorkflowStatus,
)
from . import _documents as documents

if TYPE_CHECKING:
    from .._instances import ActivityExecution

Document = dict[str, Any]

RUN = "run"
STEP = "step"
EVENT = "event"
MESSAGE = "message"
SCHEDULE = "schedule"
OWNER = "orchestrator"
QUEUE = "queue"
KEY = "key"
EXECUTION = "execution"

READY = ""
_TIMES = ("wake_at", "deadline", "scheduled_at", "created_at", "updated_at")
_SCHEDULE_TIMES = ("next_at", "last_at", "created_at", "updated_at")
_RUN_FIELDS = (
    "name",
    "input",
    "output",
    "error",
    "error_message",
    "current_activity",
    "owner",
    "epoch",
    "parent_id",
    "waiting_for",
    "signals",
    "custom_status",
    "generation",
    "version",
    "crashes",
    "queue",
    "priority",
    "deduplication_key",
)
_PRIORITY_OFFSET = 2**31

OUTCOME_FIELDS = (
    *("id", "type", "generation", *StepOutcome._fields),
    # of 1.0.2's documents, and of those that their caller named
    *("workflow_id", "execution_id", "activity_name", "input_data", "input_text", "output_data", "output_text"),
    *("error_message", "created_at", "completed_at"),
)
"""What a replay needs of the documents of a run."""


def time_text(moment: datetime) -> str:
    """Return UTC time in a fixed width, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def optional_time_text(moment: datetime | None) -> str | None:
    """Return the same; ``None`` for none."""
    return None if moment is None else time_text(moment)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


# --- runs -------------------------------------------------------------------------------------------------------------


def run_document(record: WorkflowRecord, position: str) -> Document:
    """Return the document of a run."""
    document: Document = {
        "id": RUN,
        "type": RUN,
        "workflow_id": record.id,
        "status": record.status.value,
        "request": None if record.request is None else record.request.value,
        "position": position,
        "last_event": 0,
        "forgotten": {},
        "tells": None,
    }
    document |= {field: getattr(record, field) for field in _RUN_FIELDS}
    document |= {field: optional_time_text(getattr(record, field)) for field in _TIMES}
    document["lane"] = record.queue or ""
    document |= placed(document)
    return document


def record_of(document: Document) -> WorkflowRecord:
    """Return the run that a document is.

    Raises:
        KeyError, TypeError, ValueError: Somebody damaged it.
    """
    fields = {field: document[field] for field in _RUN_FIELDS}
    fields |= {field: _time(document[field]) for field in _TIMES}
    request = document["request"]
    return WorkflowRecord(
        id=document["workflow_id"],
        status=WorkflowStatus(document["status"]),
        request=None if request is None else ControlRequest(request),
        **fields,
    )


def placed(run: Document) -> Document:
    """Return the fields that say when a run is due, and in which order."""
    is_free = run["status"] == WorkflowStatus.PROCESSING.value and run["owner"] is None
    wake_at = run["wake_at"]
    is_due_once = is_free and wake_at != time_text(NEVER)
    ends_by = run["deadline"]
    is_unwatched = is_free and (wake_at is None or (ends_by is not None and wake_at <= ends_by))
    is_unwatched = is_unwatched or run["status"] == WorkflowStatus.PAUSED.value
    return {
        "ends_by": ends_by if is_unwatched and run["request"] != ControlRequest.CANCEL.value else None,
        "due": (wake_at or READY) if is_due_once else None,
        "rank": rank_of(is_new=run["epoch"] == 0, priority=run["priority"], position=run["position"]),
    }


def rank_of(*, is_new: bool, priority: int, position: str) -> str:
    """Return what sorts runs that are ready: those that have begun first, then by priority, then by arrival."""
    return f"{int(is_new)}{priority + _PRIORITY_OFFSET:010d}{position}"


def changed(run: Document, **fields: Any) -> Document:
    """Return the fields to set, with those that follow from them."""
    return {**fields, **placed({**run, **fields})}


# --- steps ------------------------------------------------------------------------------------------------------------


def step_document_id(generation: int, sequence: int) -> str:
    """Return the id of a step's document; each generation has steps of its own."""
    return f"{STEP}-{generation}-{sequence}"


def step_document(workflow_id: str, generation: int, step: StepRecord) -> Document:
    """Return the document of a step."""
    return {
        "id": step_document_id(generation, step.sequence),
        "type": STEP,
        "workflow_id": workflow_id,
        "generation": generation,
        **step._asdict(),
        "started_at": time_text(step.started_at),
        "completed_at": optional_time_text(step.completed_at),
    }


def step_of(document: Document) -> StepRecord:
    """Return the step that a document is."""
    fields = {field: document[field] for field in StepRecord._fields}
    fields |= {"started_at": _time(document["started_at"]), "completed_at": _time(document["completed_at"])}
    return StepRecord(**fields)


def outcome_of(document: Document) -> StepOutcome:
    """Return what a replay needs of a step's document."""
    return StepOutcome(**{field: document[field] for field in StepOutcome._fields})


def execution_document(execution: ActivityExecution) -> Document:
    """Return the document of an execution that its caller named; its values are JSON text."""
    return {
        "id": f"{EXECUTION}-{hashlib.sha256(execution.id.encode()).hexdigest()}",
        "type": EXECUTION,
        "workflow_id": execution.workflow_id,
        "execution_id": execution.id,
        "activity_name": execution.activity_name,
        "input_text": documents.to_text(execution.input_data),
        "output_text": documents.to_text(execution.output_data),
        "status": execution.status,
        "error_message": execution.error_message,
        "created_at": time_text(execution.created_at),
        "completed_at": optional_time_text(execution.completed_at),
    }


def execution_of(document: Document) -> ActivityExecution:
    """Return the execution that a document is, of 1.0.2 or of ``execution_document``."""
    from .._instances import ActivityExecution

    is_own = document.get("type") == EXECUTION
    completed_at = document.get("completed_at")
    return ActivityExecution(
        id=document["execution_id"] if is_own else document["id"],
        workflow_id=document["workflow_id"],
        activity_name=document["activity_name"],
        input_data=json.loads(document["input_text"]) if is_own else document.get("input_data") or {},
        output_data=json.loads(document["output_text"]) if is_own else document.get("output_data"),
        status=document["status"],
        error_message=document.get("error_message"),
        created_at=datetime.fromisoformat(document["created_at"]),
        completed_at=None if completed_at is None else datetime.fromisoformat(completed_at),
    )


# --- events -----------------------------------------------------------------------------------------------------------


def event_document_id(event_id: str) -> str:
    """Return the id of an event's document."""
    return f"{EVENT}-{event_id}"


def event_document(workflow_id: str, event: EventRecord) -> Document:
    """Return the document of an event."""
    return {
        "id": event_document_id(event.id),
        "type": EVENT,
        "workflow_id": workflow_id,
        "event_id": event.id,
        "sequence": event.position,
        "name": event.name,
        "payload": event.payload,
        "sent_at": time_text(event.sent_at),
    }


def event_of(document: Document) -> EventRecord:
    """Return the event that a document is."""
    return EventRecord(
        position=document["sequence"],
        id=document["event_id"],
        name=document["name"],
        payload=document["payload"],
        sent_at=datetime.fromisoformat(document["sent_at"]),
    )


# --- messages ---------------------------------------------------------------------------------------------------------


def message_document(partition: str, run: Document, due: str) -> Document:
    """Return the document of a run that is to be created in another partition."""
    return {
        "id": f"{MESSAGE}-{run['workflow_id']}",
        "type": MESSAGE,
        "workflow_id": partition,
        "name": "",
        "lane": "",
        "due": due,
        "run": run,
    }


# --- schedules --------------------------------------------------------------------------------------------------------


def schedule_partition(schedule_id: str) -> str:
    """Return the partition of a schedule."""
    return f"{SCHEDULE}:{schedule_id}"


def schedule_document(record: ScheduleRecord) -> Document:
    """Return the document of a schedule."""
    fields: dict[str, Any] = record._asdict()
    fields |= {field: optional_time_text(getattr(record, field)) for field in _SCHEDULE_TIMES}
    fields["waiting"] = [time_text(moment) for moment in record.waiting]
    return {
        **fields,
        "id": SCHEDULE,
        "type": SCHEDULE,
        "workflow_id": schedule_partition(record.id),
        "schedule_id": record.id,
        "lane": "",
        "due": optional_time_text(record.due_at),
    }


def schedule_of(document: Document) -> ScheduleRecord:
    """Return the schedule that a document is."""
    fields = {field: document[field] for field in ScheduleRecord._fields}
    fields |= {field: _time(document[field]) for field in _SCHEDULE_TIMES}
    fields["id"] = document["schedule_id"]
    fields["waiting"] = tuple(datetime.fromisoformat(text) for text in document["waiting"])
    return ScheduleRecord(**fields)
