"""Opens the database and the containers that the Cosmos DB backend works with."""

from __future__ import annotations

from typing import Any

from ..errors import StorageError
from ._cosmos_store import INDEXING_POLICY

_FORBIDDEN, _NOT_FOUND = 403, 404
_ACCESS = tuple[str | None, str | None, Any, Any]


def open_containers(
    names: tuple[str, str, str],
    access: _ACCESS,
    *,
    create: bool,
    consistency: str | None,
    timeout_seconds: float,
) -> tuple[Any, Any, Any, Any]:
    """Return the client, the database, the container of what is shared, and that of the runs.

    Args:
        names: The names of the database and of the two containers.
        access: A connection string; or an endpoint and a credential; or a client.
        create: Whether to make what is not there.
        consistency: The consistency level; ``None`` for the account's.
        timeout_seconds: How long a request may take.

    Raises:
        ImportError: ``azure-cosmos`` is not installed.
        ValueError: The access is none.
        StorageError: The account cannot be reached, or refuses, or a container is not as it has to be.
    """
    try:
        from azure.core.exceptions import AzureError
        from azure.cosmos import PartitionKey
    except ImportError as error:
        raise ImportError(
            "Cosmos DB support requires the optional dependency 'azure-cosmos'. "
            "Install it with 'pip install py-orchestrate[cosmos]'."
        ) from error
    database_id, shared_id, runs_id = names
    try:
        client = _client(access, consistency, timeout_seconds)
        if create:
            database = client.create_database_if_not_exists(id=database_id)
            shared = database.create_container_if_not_exists(id=shared_id, partition_key=PartitionKey(path="/id"))
            runs = database.create_container_if_not_exists(
                id=runs_id, partition_key=PartitionKey(path="/workflow_id"), indexing_policy=INDEXING_POLICY
            )
        else:
            database = client.get_database_client(database_id)
            shared, runs = database.get_container_client(shared_id), database.get_container_client(runs_id)
        for container, path in ((shared, "/id"), (runs, "/workflow_id")):
            _check_partition_key(container, path)
    except AzureError as error:
        raise _opening_error(names, error, create=create) from error
    return client, database, shared, runs


def _client(access: _ACCESS, consistency: str | None, timeout_seconds: float) -> Any:
    from azure.cosmos import CosmosClient

    connection_string, endpoint, credential, client = access
    if client is not None:
        return client
    if not connection_string and not endpoint:
        raise ValueError("Provide either connection_string or endpoint.")
    if endpoint and not connection_string and credential is None:
        raise ValueError("A credential is required when using endpoint authentication.")
    options: dict[str, Any] = {"read_timeout": timeout_seconds}
    if consistency is not None:
        options["consistency_level"] = consistency
    if connection_string:
        return CosmosClient.from_connection_string(connection_string, **options)
    return CosmosClient(str(endpoint), credential=credential, **options)


def _check_partition_key(container: Any, path: str) -> None:
    paths = container.read()["partitionKey"]["paths"]
    if paths != [path]:
        raise StorageError(
            f"the container {container.id!r} is partitioned by {', '.join(paths)}, not by {path}; choose another one"
        )


def _opening_error(names: tuple[str, str, str], error: Any, *, create: bool) -> StorageError:
    status = getattr(error, "status_code", None)
    message = str(getattr(error, "message", None) or error).partition("\n")[0][:300]
    hint = ""
    if status == _FORBIDDEN and create:
        hint = "; a credential of Microsoft Entra ID cannot make databases: make them first, and pass create=False"
    elif status == _NOT_FOUND and not create:
        hint = f"; make the database and its containers {names[1]!r} and {names[2]!r}, or pass create=True"
    return StorageError(f"cannot open the Cosmos DB database {names[0]!r}: {message}{hint}")
