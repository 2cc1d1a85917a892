"""Databases to test in: on the server that the tests start, or on a real account that the environment names.

``COSMOS_ENDPOINT`` and ``COSMOS_KEY`` name a real account. Each test makes a database of its own there, and deletes it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from azure.cosmos import CosmosClient

from py_orchestrate import CosmosDatabaseManager

ENDPOINT, KEY = os.environ.get("COSMOS_ENDPOINT"), os.environ.get("COSMOS_KEY")
IS_REAL = ENDPOINT is not None
CONTAINERS = ("workflows", "activities")


@contextlib.contextmanager
def closing(client: CosmosClient) -> Iterator[CosmosClient]:
    """Close a client at the end, when nothing is under way any more."""
    with client:
        yield client
        await_background_requests()


def await_background_requests() -> None:
    """Wait for what clients ask by themselves; where one is closed meanwhile, that connection stays open."""
    for thread in threading.enumerate():
        if thread.name == "cosmos-endpoint-refresh":
            thread.join(30)
            assert not thread.is_alive()


class Account:
    """Where a test has a database.

    Attributes:
        endpoint: The account's address.
        key: Its key.
        database_id: The database of this test.
    """

    def __init__(self, endpoint: str, key: str) -> None:
        self.endpoint = endpoint
        self.key = key
        self.database_id = f"test-{uuid.uuid4().hex}"

    def client(self) -> CosmosClient:
        """Return another client, with connections of its own."""
        return CosmosClient(self.endpoint, self.key)

    def manager(self, **options: Any) -> CosmosDatabaseManager:
        """Return another manager on the test's database."""
        options.setdefault("client", self.client())
        return CosmosDatabaseManager(self.database_id, *CONTAINERS, **options)

    def container(self, name: str) -> Any:
        """Return one of the containers."""
        return self.client().get_database_client(self.database_id).get_container_client(name)

    def delete(self) -> None:
        """Delete the test's database, if it is there."""
        if self.database_id in [database["id"] for database in self.client().list_databases()]:
            self.client().delete_database(self.database_id)

    @staticmethod
    def again(manager: CosmosDatabaseManager) -> CosmosDatabaseManager:
        """Return another manager on the same database, with connections of its own."""
        connection = manager.client.client_connection
        client = CosmosClient(connection.url_connection, connection.master_key)
        return CosmosDatabaseManager(manager.database_id, *CONTAINERS, client=client)
