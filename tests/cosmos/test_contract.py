"""The Cosmos backend passes the contract that every backend is held to, over a real server process."""

from __future__ import annotations

import pytest

from py_orchestrate import BaseDatabaseManager, CosmosDatabaseManager
from py_orchestrate.testing.contract import DatabaseManagerContract

from .accounts import Account


class TestCosmos(DatabaseManagerContract):
    @pytest.fixture
    def database(self, account: Account) -> CosmosDatabaseManager:
        return account.manager()

    def reopen(self, database: BaseDatabaseManager) -> CosmosDatabaseManager:
        assert isinstance(database, CosmosDatabaseManager)
        return Account.again(database)
