"""What these tests share: the stores that can keep runs that wait, and an activity that returns its argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, SQLiteDatabaseManager, activity


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BaseDatabaseManager:
    """Return a store of each kind that can keep runs that wait."""
    return MemoryDatabaseManager() if request.param == "memory" else SQLiteDatabaseManager(tmp_path / "test.db")


@pytest.fixture
def act() -> Any:
    """Return an activity that returns its argument."""

    @activity
    def act(value: Any) -> Any:
        return value

    return act
