"""A database manager that was written against 1.0.2, with the helpers of its ``db_manager.base``, works unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from py_orchestrate import WorkflowStatus, activity, durable, workflow
from py_orchestrate.db_manager.base import (
    BaseDatabaseManager,
    activities_from_documents,
    activity_from_document,
    activity_to_document,
    workflow_from_document,
    workflow_to_document,
    workflows_from_documents,
)
from py_orchestrate.models import ActivityExecution, WorkflowInstance

from ..breakdown import Breakdown

NOW = datetime(2026, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 - 1.0.2's times are local


class DocumentManager(BaseDatabaseManager):
    """Keeps documents as texts, as a document database does."""

    def __init__(self) -> None:
        self.workflows: dict[str, str] = {}
        self.activities: dict[str, str] = {}

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        self.workflows[workflow.id] = json.dumps(workflow_to_document(workflow))

    def get_workflow(self, workflow_id: str) -> WorkflowInstance | None:
        text = self.workflows.get(workflow_id)
        return None if text is None else workflow_from_document(json.loads(text))

    def get_workflows_by_name(self, name: str) -> list[WorkflowInstance]:
        return [workflow for workflow in self.list_workflows() if workflow.name == name]

    def list_workflows(self) -> list[WorkflowInstance]:
        found = workflows_from_documents(map(json.loads, list(self.workflows.values())))
        return sorted(found, key=lambda workflow: workflow.created_at, reverse=True)

    def get_processing_workflows(self) -> list[WorkflowInstance]:
        return [each for each in reversed(self.list_workflows()) if each.status == WorkflowStatus.PROCESSING]

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        self.activities[execution.id] = json.dumps(activity_to_document(execution))

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        found = activities_from_documents(map(json.loads, list(self.activities.values())))
        return sorted((each for each in found if each.workflow_id == workflow_id), key=lambda each: each.created_at)


def test_it_keeps_what_a_run_is_resumed_from(breakdown: Breakdown) -> None:
    ran: list[str] = []

    @activity
    def act(name: str) -> Any:
        ran.append(name)
        if name == "fails":
            raise ValueError(name)
        return (name, {1: None})

    @activity
    def stop() -> None:
        breakdown.here()

    @workflow
    def flow(name: str) -> list[Any]:
        found: list[Any] = [act(name), act("b"), durable.now()]
        try:
            act("fails")
        except ValueError as error:
            found.append(str(error))
        found.append(act("c"))
        stop()
        return found

    manager = DocumentManager()
    handle = breakdown.recover(manager, flow, "a")
    *found, failure, last = handle.result(10)
    assert found[:2] == [("a", {1: None}), ("b", {1: None})]
    assert (failure, last) == ("fails", ("c", {1: None}))
    assert ran == ["a", "b", "fails", "c"]


def test_documents_are_1_0_2_s_own() -> None:
    run = WorkflowInstance("id", "flow", WorkflowStatus.DONE, {"n": 1}, {"result": 2}, "act", None, NOW, NOW)
    document: dict[str, Any] = {
        "id": "id",
        "name": "flow",
        "status": "done",
        "input_data": {"n": 1},
        "output_data": {"result": 2},
        "current_activity": "act",
        "error_message": None,
        "created_at": "2026-01-02T03:04:05.000678",
        "updated_at": "2026-01-02T03:04:05.000678",
    }
    assert workflow_to_document(run) == document
    assert workflow_from_document(document) == run
    for optional in ("output_data", "current_activity", "error_message"):
        del document[optional]
    (found,) = workflows_from_documents([document])
    assert (found.output_data, found.current_activity, found.error_message) == (None, None, None)


@pytest.mark.parametrize("completed_at", [None, NOW.replace(tzinfo=UTC) + timedelta(seconds=1)])
def test_documents_of_activities(completed_at: datetime | None) -> None:
    execution = ActivityExecution("e", "id", "act", {}, None, "running", "no", NOW, completed_at)
    document = activity_to_document(execution)
    assert json.loads(json.dumps(document)) == document
    assert document["completed_at"] == (None if completed_at is None else "2026-01-02T03:04:06.000678+00:00")
    assert activities_from_documents([document]) == [activity_from_document(document)] == [execution]
