"""Database managers: where workflows are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import BaseDatabaseManager
from .sqlite import DatabaseManager, SQLiteDatabaseManager

if TYPE_CHECKING:
    from .cosmosdb import CosmosDatabaseManager
    from .memory import MemoryDatabaseManager

__all__ = [
    "BaseDatabaseManager",
    "CosmosDatabaseManager",
    "DatabaseManager",
    "MemoryDatabaseManager",
    "SQLiteDatabaseManager",
]


def __getattr__(name: str) -> Any:
    """Import what few programs use on first use, so that importing the package stays cheap."""
    if name == "CosmosDatabaseManager":
        from .cosmosdb import CosmosDatabaseManager

        return CosmosDatabaseManager
    if name == "MemoryDatabaseManager":
        from .memory import MemoryDatabaseManager

        return MemoryDatabaseManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
