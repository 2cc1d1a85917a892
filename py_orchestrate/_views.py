"""What programs get to see of the store: runs, steps, queues and schedules, as plain dictionaries.

In a workflow's own code each look is a step, whose result is recorded: in a replay the store would have changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ._context import recorded
from ._engine.engine import Engine
from ._failures import summarize_failure
from ._identifiers import check_text, check_workflow_id
from ._options import check_count
from .db_manager.base import BaseDatabaseManager
from .errors import WorkflowNotFoundError
from .models import HISTORY_FORMAT, ScheduleRecord, StepRecord, WorkflowRecord, WorkflowStatus
from .serialization import Serializer


class Views:
    """Looks at the store of one orchestrator."""

    def __init__(self, database: BaseDatabaseManager, engine: Engine, serializer: Serializer) -> None:
        self._database = database
        self._engine = engine
        self._serializer = serializer

    def existing(self, workflow_id: str) -> WorkflowRecord:
        """Return a run.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
        """
        record = self._database.read_workflow(check_workflow_id(workflow_id))
        if record is None:
            raise WorkflowNotFoundError(workflow_id)
        return record

    def status(self, workflow_id: str) -> dict[str, Any] | None:
        """See ``Orchestrator.get_workflow_status``."""
        check_workflow_id(workflow_id)

        def look() -> dict[str, Any] | None:
            record = self._database.read_workflow(workflow_id)
            return None if record is None else self.status_of(record)

        found: dict[str, Any] | None = recorded("get_workflow_status", look)
        return found

    def status_of(self, record: WorkflowRecord) -> dict[str, Any]:
        """Return how a run stands that was read; see ``Orchestrator.get_workflow_status``."""
        return {
            "id": record.id,
            "name": record.name,
            "status": record.status.value,
            "current_activity": self._engine.current_activity(record),
            "error_message": record.error_message,
            "output": _shown(record.output, self._serializer),
            "created_at": _iso(record.created_at),
            "updated_at": _iso(record.updated_at),
        }

    def custom_status(self, workflow_id: str) -> Any:
        """See ``Orchestrator.get_custom_status``."""
        return recorded("get_custom_status", lambda: _shown(self.existing(workflow_id).custom_status, self._serializer))

    def page(
        self,
        name: str | None,
        status: WorkflowStatus | str | None,
        limit: int | None,
        cursor: str | None,
        **filters: str | None,
    ) -> list[dict[str, Any]]:
        """See ``Orchestrator.list_workflows``."""
        check_count("limit", limit, 0, or_none=True)
        for option, value in {"name": name, "cursor": cursor, **filters}.items():
            check_text(f"the {option} of list_workflows()", value)
        most = None if limit is None else min(limit, sys.maxsize)
        wanted = None if status is None else WorkflowStatus(status)
        # A manager of a user's own need not know the other filters.
        more: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}

        def look() -> list[dict[str, Any]]:
            page = self._database.page_workflows(name=name or None, status=wanted, limit=most, cursor=cursor, **more)
            return [self.status_of(record) for record in page]

        found: list[dict[str, Any]] = recorded("list_workflows", look)
        return found

    def history(self, workflow_id: str) -> list[dict[str, Any]]:
        """See ``Orchestrator.get_history``."""
        check_workflow_id(workflow_id)

        def look() -> list[dict[str, Any]]:
            steps = self._database.get_steps(workflow_id)
            if not steps:
                self.existing(workflow_id)
            return [_step(step, self._serializer) for step in steps]

        found: list[dict[str, Any]] = recorded("get_history", look)
        return found

    def export(self, workflow_id: str) -> dict[str, Any]:
        """See ``Orchestrator.export_history``."""

        def look() -> dict[str, Any]:
            return _exported(self.existing(workflow_id), self._database.get_steps(workflow_id))

        found: dict[str, Any] = recorded("export_history", look)
        return found

    def queues(self) -> list[dict[str, Any]]:
        """See ``Orchestrator.list_queues``."""
        found: list[dict[str, Any]] = recorded(
            "list_queues", lambda: [record._asdict() for record in self._database.list_queues()]
        )
        return found


def _step(step: StepRecord, serializer: Serializer) -> dict[str, Any]:
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


def _exported(record: WorkflowRecord, steps: Iterable[StepRecord]) -> dict[str, Any]:
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
