"""Database managers: where workflows are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import BaseDatabaseManager
from .memory import MemoryDatabaseManager
from .sqlite import DatabaseManager, SQLiteDatabaseManager

if TYPE_CHECKING:
    from .cosmosdb import CosmosDatabaseManager

__all__ = [
    "BaseDatabaseManager",
    "CosmosDatabaseManager",
    "DatabaseManager",
    "MemoryDatabaseManager",
    "SQLiteDatabaseManager",
]


def __getattr__(name: str) -> Any:
    """Import the Cosmos DB manager on first use, so that importing the package stays cheap."""
    if name == "CosmosDatabaseManager":
        from .cosmosdb import CosmosDatabaseManager

        return CosmosDatabaseManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
