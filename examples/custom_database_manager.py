"""How do I store workflows somewhere else?

A database manager needs seven methods, the same as in 1.0.2. This one keeps each record as a JSON file in a folder.
With the seven alone it serves one orchestrator in one process, which the library says in a warning.
"""

import dataclasses
import json
import logging
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from py_orchestrate import BaseDatabaseManager, Orchestrator, WorkflowStatus, activity, workflow
from py_orchestrate.models import ActivityExecution, WorkflowInstance


class JsonFolder(BaseDatabaseManager):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        self._write("workflow", workflow.id, workflow)

    def get_workflow(self, workflow_id: str) -> WorkflowInstance | None:
        return next((found for found in self.list_workflows() if found.id == workflow_id), None)

    def get_workflows_by_name(self, name: str) -> list[WorkflowInstance]:
        return [found for found in self.list_workflows() if found.name == name]

    def list_workflows(self) -> list[WorkflowInstance]:
        found = [WorkflowInstance(**fields) for fields in self._read("workflow")]
        for instance in found:
            instance.status = WorkflowStatus(instance.status)
        return sorted(found, key=lambda instance: instance.created_at, reverse=True)

    def get_processing_workflows(self) -> list[WorkflowInstance]:
        return [found for found in reversed(self.list_workflows()) if found.status == WorkflowStatus.PROCESSING]

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        self._write("activity", execution.id, execution)

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        found = [ActivityExecution(**fields) for fields in self._read("activity")]
        own = [execution for execution in found if execution.workflow_id == workflow_id]
        return sorted(own, key=lambda execution: execution.created_at)

    def _write(self, kind: str, record_id: str, record: Any) -> None:
        # Written beside its place and then put there, so that a crash leaves the old file or the new one.
        path = self.folder / f"{kind}-{record_id.replace(':', '-')}.json"
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(dataclasses.asdict(record), default=str))
        unfinished.replace(path)

    def _read(self, kind: str) -> list[dict[str, Any]]:
        records = [json.loads(path.read_text()) for path in self.folder.glob(f"{kind}-*.json")]
        for fields in records:
            for name in ("created_at", "updated_at", "completed_at"):
                if fields.get(name):
                    fields[name] = datetime.fromisoformat(fields[name])
        return records


@activity
def double(number: int) -> int:
    return 2 * number


@workflow
def quadruple(number: int) -> int:
    return double(double(number))


def main() -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Orchestrator(db_manager=JsonFolder(folder)) as orchestrator:
            print(orchestrator.start_workflow(quadruple, 10, workflow_id="first").result())
        # Another orchestrator finds what the first one stored.
        print(Orchestrator(db_manager=JsonFolder(folder)).get_handle("first").status()["output"])
        print(sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    main()
