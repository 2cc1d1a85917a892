"""Database managers as users write them."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from py_orchestrate import BaseDatabaseManager, WorkflowStatus
from py_orchestrate.models import ActivityExecution, WorkflowInstance


class SevenMethodsManager(BaseDatabaseManager):
    """What a user of 1.0.2 has: the seven methods over JSON files, and an ``__init__`` that knows no other."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        self._save("workflows", workflow.id, workflow)

    def get_workflow(self, workflow_id: str) -> WorkflowInstance | None:
        return next((workflow for workflow in self.list_workflows() if workflow.id == workflow_id), None)

    def get_workflows_by_name(self, name: str) -> list[WorkflowInstance]:
        return [workflow for workflow in self.list_workflows() if workflow.name == name]

    def list_workflows(self) -> list[WorkflowInstance]:
        return sorted(map(_workflow, self._load("workflows")), key=lambda workflow: workflow.created_at, reverse=True)

    def get_processing_workflows(self) -> list[WorkflowInstance]:
        return [workflow for workflow in reversed(self.list_workflows()) if workflow.status == "processing"]

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        self._save("activities", execution.id, execution)

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        found = [made for made in map(_execution, self._load("activities")) if made.workflow_id == workflow_id]
        return sorted(found, key=lambda made: made.created_at)

    def _save(self, table: str, key: str, item: WorkflowInstance | ActivityExecution) -> None:
        text = json.dumps(asdict(item), default=lambda moment: moment.isoformat())
        with self.lock:
            rows = self._rows(table)
            rows[key] = text
            draft = self.folder / f"{table}.draft"
            draft.write_text(json.dumps(rows))
            draft.replace(self.folder / f"{table}.json")

    def _load(self, table: str) -> list[dict[str, Any]]:
        with self.lock:
            return [json.loads(text) for text in self._rows(table).values()]

    def _rows(self, table: str) -> dict[str, str]:
        path = self.folder / f"{table}.json"
        rows: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return rows


def _workflow(row: dict[str, Any]) -> WorkflowInstance:
    times = {key: datetime.fromisoformat(row[key]) for key in ("created_at", "updated_at")}
    return WorkflowInstance(**{**row, **times, "status": WorkflowStatus(row["status"])})


def _execution(row: dict[str, Any]) -> ActivityExecution:
    times = {key: datetime.fromisoformat(row[key]) if row[key] else None for key in ("created_at", "completed_at")}
    return ActivityExecution(**{**row, **times})
