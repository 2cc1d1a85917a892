"""What these tests share: the stores that can keep runs that wait, and an activity that returns its argument."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, SQLiteDatabaseManager, activity

if "cosmos" in os.environ.get("STORES", ""):
    from ..cosmos.server_fixture import cosmos_server

    __all__ = ["cosmos_server"]


# Which kinds of stores; ``make test-cosmos`` asks for "cosmos" alone.
STORES = os.environ.get("STORES", "memory,sqlite").split(",")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseDatabaseManager]:
    """Return a store of each kind that can keep runs that wait."""
    if request.param == "memory":
        yield MemoryDatabaseManager()
    elif request.param == "sqlite":
        yield SQLiteDatabaseManager(tmp_path / "test.db")
    else:
        from ..cosmos.accounts import Account

        server = request.getfixturevalue("cosmos_server")
        account = Account(server.endpoint, server.key)
        yield account.manager()
        account.delete()


@pytest.fixture
def act() -> Any:
    """Return an activity that returns its argument."""

    @activity
    def act(value: Any) -> Any:
        return value

    return act
