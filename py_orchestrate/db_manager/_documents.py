"""Between the engine's records and 1.0.2's instances.

1.0.2's records hold payloads as JSON data and have no room for a step's ordinal or its failure document. An execution's
id carries the ordinal (``<workflow id>:<ordinal>``), and for what is no activity its kind
(``<workflow id>:<ordinal>:<kind>``); the ``output_data`` of what failed carries the document, with the step's state
(which attempt failed) as one more key.
Executions whose id has another form are 1.0.2's own; they get negative ordinals, oldest lowest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..models import (
    ActivityStatus,
    StepRecord,
    WorkflowRecord,
    WorkflowStatus,
)

if TYPE_CHECKING:
    from .._instances import ActivityExecution, WorkflowInstance

_COMPLETED = ActivityStatus.COMPLETED.value
NEVER_REPLACED = (_COMPLETED, ActivityStatus.CANCELLED.value)
"""The status of a step that is the last word; any other may go on, or run again."""
_UNSUCCESSFUL_STEPS = (ActivityStatus.FAILED.value, ActivityStatus.RETRYING.value)
_STATE = "step_state"
_UNSUCCESSFUL = (WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)
_DOCUMENT_KEYS = {"type", "message", "args"}
_ACTIVITY = "activity"
_PLACE = re.compile(r"(0|[1-9][0-9]{0,17})(?::([a-z]+))?")


def aware(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; a naive one, as 1.0.2 wrote them, is the machine's local time."""
    return moment.astimezone(UTC)


def to_text(data: Any) -> str:
    """Return JSON data as the text that the serializer would have written, but for NaN, which 1.0.2 stored bare."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() or _encodes(text) else json.dumps(data, separators=(",", ":"))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def step_id(workflow_id: str, sequence: int, kind: str = _ACTIVITY) -> str:
    """Return the id of a step's execution."""
    return f"{workflow_id}:{sequence}" + ("" if kind == _ACTIVITY else f":{kind}")


def changed(instance: WorkflowInstance, **fields: Any) -> WorkflowInstance:
    """Return a changed copy of 1.0.2's instance; the one at hand may be what its manager keeps."""
    from dataclasses import replace

    return replace(instance, **fields)


def instance_from_record(record: WorkflowRecord) -> WorkflowInstance:
    """Return the record as 1.0.2's instance."""
    from .._instances import WorkflowInstance

    return WorkflowInstance(
        id=record.id,
        name=record.name,
        status=record.status,
        input_data=json.loads(record.input),
        output_data=json.loads(record.output) if record.output is not None else None,
        current_activity=record.current_activity,
        error_message=record.error_message,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def record_from_instance(instance: WorkflowInstance) -> WorkflowRecord:
    """Return 1.0.2's instance as a record; a ``done`` one without output returned ``None``."""
    status = WorkflowStatus(instance.status)
    text = to_text(instance.output_data)
    is_document = status in _UNSUCCESSFUL and _is_document(instance.output_data)
    has_output = status is WorkflowStatus.DONE or instance.output_data is not None
    return WorkflowRecord(
        id=instance.id,
        name=instance.name,
        status=status,
        input=to_text(instance.input_data),
        output=text if has_output and not is_document else None,
        error=text if is_document else None,
        error_message=instance.error_message,
        current_activity=instance.current_activity,
        created_at=aware(instance.created_at),
        updated_at=aware(instance.updated_at),
    )


def _is_document(data: Any) -> bool:
    """Return whether this is a failure document, and not what a user's own manager keeps of a run that failed."""
    return isinstance(data, dict) and data.keys() >= _DOCUMENT_KEYS


def with_claim(record: WorkflowRecord, owner: str | None, epoch: int) -> WorkflowRecord:
    """Return the record with who holds it."""
    return record._replace(owner=owner, epoch=epoch)


def execution_from_step(workflow_id: str, step: StepRecord) -> ActivityExecution:
    """Return the step as 1.0.2's execution."""
    from .._instances import ActivityExecution

    payload = step.error if step.status in _UNSUCCESSFUL_STEPS and step.error is not None else step.output
    data = json.loads(payload) if payload is not None else None
    if step.state is not None and isinstance(data, dict) and step.status in _UNSUCCESSFUL_STEPS:
        data = {**data, _STATE: json.loads(step.state)}
    return ActivityExecution(
        id=step_id(workflow_id, step.sequence, step.kind),
        workflow_id=workflow_id,
        activity_name=step.name,
        input_data=json.loads(step.input),
        output_data=data,
        status=step.status,
        error_message=step.error_message,
        created_at=step.started_at,
        completed_at=step.completed_at,
    )


def steps_from_executions(workflow_id: str, executions: Sequence[ActivityExecution]) -> list[StepRecord]:
    """Return 1.0.2's executions as steps, by sequence; they come oldest first."""
    prefix = f"{workflow_id}:"
    places = [_place(prefix, execution.id) for execution in executions]
    foreign = places.count(None)
    steps = []
    for execution, place in zip(executions, places, strict=True):
        if place is not None:
            sequence, kind = place
        else:
            sequence, kind, foreign = -foreign, _ACTIVITY, foreign - 1
        data, state = execution.output_data, None
        is_document = execution.status in _UNSUCCESSFUL_STEPS and isinstance(data, dict)
        if is_document and _STATE in data:
            state = to_text(data[_STATE])
            data = {key: value for key, value in data.items() if key != _STATE}
        text = to_text(data)
        has_output = execution.status == _COMPLETED or data is not None
        steps.append(
            StepRecord(
                sequence=sequence,
                kind=kind,
                name=execution.activity_name,
                status=execution.status,
                input=to_text(execution.input_data),
                output=text if has_output and not is_document else None,
                error=text if is_document else None,
                error_message=execution.error_message,
                started_at=aware(execution.created_at),
                completed_at=aware(execution.completed_at) if execution.completed_at is not None else None,
                state=state,
            )
        )
    return sorted(steps)


def _place(prefix: str, execution_id: str) -> tuple[int, str] | None:
    """Return the ordinal and the kind that follow the prefix; ``None`` where the id has another form."""
    rest = execution_id[len(prefix) :] if execution_id.startswith(prefix) else ""
    found = _PLACE.fullmatch(rest)
    return None if found is None else (int(found[1]), found[2] or _ACTIVITY)


# --- 1.0.2's own documents, which managers that were written against it store -----------------------------------------


def workflow_to_document(workflow: WorkflowInstance) -> dict[str, Any]:
    """Return a workflow as a document of plain JSON data."""
    return {
        "id": workflow.id,
        "name": workflow.name,
        "status": WorkflowStatus(workflow.status).value,
        "input_data": workflow.input_data,
        "output_data": workflow.output_data,
        "current_activity": workflow.current_activity,
        "error_message": workflow.error_message,
        "created_at": workflow.created_at.isoformat(),
        "updated_at": workflow.updated_at.isoformat(),
    }


def workflow_from_document(document: Mapping[str, Any]) -> WorkflowInstance:
    """Return the workflow of a document."""
    from .._instances import WorkflowInstance

    return WorkflowInstance(
        id=document["id"],
        name=document["name"],
        status=WorkflowStatus(document["status"]),
        input_data=document["input_data"],
        output_data=document.get("output_data"),
        current_activity=document.get("current_activity"),
        error_message=document.get("error_message"),
        created_at=datetime.fromisoformat(document["created_at"]),
        updated_at=datetime.fromisoformat(document["updated_at"]),
    )


def activity_to_document(execution: ActivityExecution) -> dict[str, Any]:
    """Return an activity's run as a document of plain JSON data."""
    return {
        "id": execution.id,
        "workflow_id": execution.workflow_id,
        "activity_name": execution.activity_name,
        "input_data": execution.input_data,
        "output_data": execution.output_data,
        "status": execution.status,
        "error_message": execution.error_message,
        "created_at": execution.created_at.isoformat(),
        "completed_at": execution.completed_at.isoformat() if execution.completed_at else None,
    }


def activity_from_document(document: Mapping[str, Any]) -> ActivityExecution:
    """Return the activity's run of a document."""
    from .._instances import ActivityExecution

    completed_at = document.get("completed_at")
    return ActivityExecution(
        id=document["id"],
        workflow_id=document["workflow_id"],
        activity_name=document["activity_name"],
        input_data=document["input_data"],
        output_data=document.get("output_data"),
        status=document["status"],
        error_message=document.get("error_message"),
        created_at=datetime.fromisoformat(document["created_at"]),
        completed_at=datetime.fromisoformat(completed_at) if completed_at else None,
    )


def workflows_from_documents(found: Iterable[Mapping[str, Any]]) -> list[WorkflowInstance]:
    """Return the workflows of documents."""
    return [workflow_from_document(document) for document in found]


def activities_from_documents(found: Iterable[Mapping[str, Any]]) -> list[ActivityExecution]:
    """Return the activities' runs of documents."""
    return [activity_from_document(document) for document in found]
