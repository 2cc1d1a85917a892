"""The store that several processes of a test share: a SQLite file in their folder, or what a file there names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from py_orchestrate import BaseDatabaseManager, SQLiteDatabaseManager

_NAME = "store.json"


def use_cosmos(folder: Path, endpoint: str, key: str, database_id: str) -> None:
    """Let a folder's processes share a Cosmos DB database."""
    (folder / _NAME).write_text(json.dumps([endpoint, key, database_id]), encoding="utf-8")


def open_store(folder: str | os.PathLike[str]) -> BaseDatabaseManager:
    """Return another manager on the store of a folder's processes."""
    if not (Path(folder) / _NAME).exists():
        return SQLiteDatabaseManager(Path(folder) / "runs.db")
    endpoint, key, database_id = json.loads((Path(folder) / _NAME).read_text(encoding="utf-8"))
    from azure.cosmos import CosmosClient

    from py_orchestrate import CosmosDatabaseManager

    return CosmosDatabaseManager(database_id, "workflows", "activities", client=CosmosClient(endpoint, key))
