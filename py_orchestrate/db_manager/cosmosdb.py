"""The Azure Cosmos DB backend: 1.0.2's two containers, through 1.0.2's seven methods.

It has no leases yet, so one process at a time may use a database (the base class's defaults see to the rest). This is
the only module that imports ``azure``, and it does so when a manager is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ..errors import StorageError
from ..models import ActivityExecution, WorkflowInstance, WorkflowStatus
from .base import BaseDatabaseManager

__all__ = ["CosmosDatabaseManager"]

_JSON_TEXT = "json-text"


class CosmosDatabaseManager(BaseDatabaseManager):
    """Workflow persistence in two Cosmos DB containers; needs ``pip install 'py-orchestrate[cosmos]'``.

    Args:
        database_id: The database; made if it is not there.
        workflow_container_id: The container for workflows, partitioned by ``/id``; made if it is not there.
        activity_container_id: The container for activities, partitioned by ``/workflow_id``; made if it is not there.
        connection_string: The account's connection string; or give ``endpoint`` and ``credential``.
        endpoint: The account's address.
        credential: A key, or a credential of ``azure-identity``.

    Raises:
        ImportError: ``azure-cosmos`` is not installed.
        ValueError: Neither a connection string nor an endpoint with a credential is given.
        StorageError: The account cannot be reached, or refuses.
    """

    def __init__(
        self,
        database_id: str,
        workflow_container_id: str,
        activity_container_id: str,
        connection_string: str | None = None,
        endpoint: str | None = None,
        credential: Any = None,
    ) -> None:
        try:
            from azure.cosmos import CosmosClient, PartitionKey, exceptions
        except ImportError as error:
            raise ImportError(
                "Cosmos DB support requires the optional dependency 'azure-cosmos'. "
                "Install it with 'pip install py-orchestrate[cosmos]'."
            ) from error
        if not connection_string and not endpoint:
            raise ValueError("Provide either connection_string or endpoint.")
        if endpoint and not connection_string and credential is None:
            raise ValueError("A credential is required when using endpoint authentication.")
        self.database_id = database_id
        self.workflow_container_id = workflow_container_id
        self.activity_container_id = activity_container_id
        self._not_found = exceptions.CosmosResourceNotFoundError
        self._cosmos_error = exceptions.CosmosHttpResponseError
        try:
            if connection_string:
                self.client = CosmosClient.from_connection_string(connection_string)
            else:
                self.client = CosmosClient(str(endpoint), credential=credential)
            self.database = self.client.create_database_if_not_exists(id=database_id)
            self.workflows_container = self.database.create_container_if_not_exists(
                id=workflow_container_id, partition_key=PartitionKey(path="/id")
            )
            self.activity_executions_container = self.database.create_container_if_not_exists(
                id=activity_container_id, partition_key=PartitionKey(path="/workflow_id")
            )
        except self._cosmos_error as error:
            raise StorageError(f"cannot open the Cosmos DB database {database_id!r}: {error.message}") from error

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        """See the base class."""
        self._upsert(
            self.workflows_container,
            {
                "id": workflow.id,
                "name": workflow.name,
                "status": workflow.status.value,
                **_payloads(workflow),
                "current_activity": workflow.current_activity,
                "error_message": workflow.error_message,
                "created_at": workflow.created_at.isoformat(timespec="microseconds"),
                "updated_at": workflow.updated_at.isoformat(timespec="microseconds"),
            },
        )

    def get_workflow(self, workflow_id: str) -> WorkflowInstance | None:
        """See the base class."""
        try:
            return _workflow(self.workflows_container.read_item(item=workflow_id, partition_key=workflow_id))
        except self._not_found:
            return None
        except self._cosmos_error as error:
            raise self._storage_error("read", error) from error

    def get_workflows_by_name(self, name: str) -> list[WorkflowInstance]:
        """See the base class."""
        query = "SELECT * FROM c WHERE c.name = @name ORDER BY c.created_at DESC"
        return [_workflow(document) for document in self._query_workflows(query, name=name)]

    def list_workflows(self) -> list[WorkflowInstance]:
        """See the base class."""
        return [_workflow(document) for document in self._query_workflows("SELECT * FROM c ORDER BY c.created_at DESC")]

    def get_processing_workflows(self) -> list[WorkflowInstance]:
        """See the base class."""
        query = "SELECT * FROM c WHERE c.status = @status ORDER BY c.created_at ASC"
        return [_workflow(document) for document in self._query_workflows(query, status="processing")]

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """See the base class."""
        completed_at = execution.completed_at
        self._upsert(
            self.activity_executions_container,
            {
                "id": execution.id,
                "workflow_id": execution.workflow_id,
                "activity_name": execution.activity_name,
                **_payloads(execution),
                "status": execution.status,
                "error_message": execution.error_message,
                "created_at": execution.created_at.isoformat(timespec="microseconds"),
                "completed_at": None if completed_at is None else completed_at.isoformat(timespec="microseconds"),
            },
        )

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """See the base class."""
        try:
            documents = list(
                self.activity_executions_container.query_items(
                    query="SELECT * FROM c WHERE c.workflow_id = @workflow_id ORDER BY c.created_at ASC",
                    parameters=[{"name": "@workflow_id", "value": workflow_id}],
                    partition_key=workflow_id,
                )
            )
        except self._cosmos_error as error:
            raise self._storage_error("read", error) from error
        return [_execution(document) for document in documents]

    def _upsert(self, container: Any, document: dict[str, Any]) -> None:
        try:
            container.upsert_item(document)
        except self._cosmos_error as error:
            raise self._storage_error("write", error) from error

    def _query_workflows(self, query: str, **parameters: str) -> Iterable[dict[str, Any]]:
        try:
            return list(
                self.workflows_container.query_items(
                    query=query,
                    parameters=[{"name": f"@{name}", "value": value} for name, value in parameters.items()],
                    enable_cross_partition_query=True,
                )
            )
        except self._cosmos_error as error:
            raise self._storage_error("read", error) from error

    def _storage_error(self, verb: str, error: Any) -> StorageError:
        return StorageError(f"cannot {verb} the Cosmos DB database {self.database_id!r}: {error.message}")


def _payloads(holder: WorkflowInstance | ActivityExecution) -> dict[str, str]:
    """Return the payloads as JSON text, because Cosmos DB keeps numbers as doubles, which rounds large integers."""
    return {
        "input_data": json.dumps(holder.input_data),
        "output_data": json.dumps(holder.output_data),
        "payload_format": _JSON_TEXT,
    }


def _payload(document: dict[str, Any], field: str) -> Any:
    """Return a payload; 1.0.2 stored them as Cosmos DB's own values."""
    value: Any = document.get(field)
    return json.loads(value) if document.get("payload_format") == _JSON_TEXT else value


def _workflow(document: dict[str, Any]) -> WorkflowInstance:
    return WorkflowInstance(
        id=document["id"],
        name=document["name"],
        status=WorkflowStatus(document["status"]),
        input_data=_payload(document, "input_data"),
        output_data=_payload(document, "output_data"),
        current_activity=document.get("current_activity"),
        error_message=document.get("error_message"),
        created_at=datetime.fromisoformat(document["created_at"]),
        updated_at=datetime.fromisoformat(document["updated_at"]),
    )


def _execution(document: dict[str, Any]) -> ActivityExecution:
    completed_at = document.get("completed_at")
    return ActivityExecution(
        id=document["id"],
        workflow_id=document["workflow_id"],
        activity_name=document["activity_name"],
        input_data=_payload(document, "input_data"),
        output_data=_payload(document, "output_data"),
        status=document["status"],
        error_message=document.get("error_message"),
        created_at=datetime.fromisoformat(document["created_at"]),
        completed_at=None if completed_at is None else datetime.fromisoformat(completed_at),
    )
