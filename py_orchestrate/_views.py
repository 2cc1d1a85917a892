"""Runs and their steps as the plain dictionaries that programs get to see."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ._failures import summarize_failure
from .models import HISTORY_FORMAT, ScheduleRecord, StepRecord, WorkflowRecord
from .serialization import Serializer


def status_of(record: WorkflowRecord, serializer: Serializer, current_activity: str | None) -> dict[str, Any]:
    """Return how a run stands; see ``Orchestrator.get_workflow_status``."""
    return {
        "id": record.id,
        "name": record.name,
        "status": record.status.value,
        "current_activity": current_activity,
        "error_message": record.error_message,
        "output": _shown(record.output, serializer),
        "created_at": _iso(record.created_at),
        "updated_at": _iso(record.updated_at),
    }


def step_of(step: StepRecord, serializer: Serializer) -> dict[str, Any]:
    """Return a recorded step; see ``Orchestrator.get_history``."""
    summary = summarize_failure(step.error, step.error_message)
    failed = step.error is not None
    state = {} if step.state is None else json.loads(step.state)
    due_at = next((state[key] for key in ("wake_at", "deadline", "due") if state.get(key) is not None), None)
    return {
        "sequence": step.sequence,
        "kind": step.kind,
        "name": step.name,
        "status": step.status,
        "attempt": state.get("attempt", 1),
        "version": step.version,
        "due_at": None if due_at is None else _iso(datetime.fromisoformat(due_at)),
        "child_id": state.get("workflow_id"),
        "input": _shown(step.input, serializer),
        "output": _shown(step.output, serializer),
        "error_message": step.error_message,
        "error_type": summary.type_name if failed else None,
        "traceback": summary.traceback_text if failed else None,
        "started_at": _iso(step.started_at),
        "completed_at": _optional_iso(step.completed_at),
    }


def exported(record: WorkflowRecord, steps: Iterable[StepRecord]) -> dict[str, Any]:
    """Return a run and its steps, whole; see ``Orchestrator.export_history``."""
    return {
        "format": HISTORY_FORMAT,
        "id": record.id,
        "name": record.name,
        "version": record.version,
        "generation": record.generation,
        "status": record.status.value,
        "input": record.input,
        "output": record.output,
        "error": record.error,
        "created_at": _iso(record.created_at),
        "updated_at": _iso(record.updated_at),
        "steps": [
            {
                **step._asdict(),
                "started_at": _iso(step.started_at),
                "completed_at": _optional_iso(step.completed_at),
            }
            for step in steps
        ],
    }


def schedule_of(record: ScheduleRecord, serializer: Serializer) -> dict[str, Any]:
    """Return a schedule; see ``Orchestrator.list_schedules``."""
    return {
        "id": record.id,
        "name": record.name,
        "arguments": _shown(record.input, serializer),
        "cron": record.cron,
        "timezone": record.timezone,
        "catch_up": record.catch_up,
        "overlap": record.overlap,
        "queue": record.queue,
        "priority": record.priority,
        "status": "paused" if record.is_paused else "active",
        "next_at": None if record.is_paused else _optional_iso(record.next_at),
        "waiting": len(record.waiting),
        "last_at": _optional_iso(record.last_at),
        "last_workflow_id": record.last_run_id,
        "created_at": _iso(record.created_at),
        "updated_at": _iso(record.updated_at),
    }


def _shown(text: str | None, serializer: Serializer) -> Any:
    # Looking must never fail: where a class is not imported here, its plain parts are shown.
    return None if text is None else serializer.decode(text, lenient=True)


def _optional_iso(moment: datetime | None) -> str | None:
    return None if moment is None else _iso(moment)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
