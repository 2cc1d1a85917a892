"""Every backend here passes the contract that users' own backends are held to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, SQLiteDatabaseManager
from py_orchestrate.testing.contract import BasicDatabaseManagerContract, DatabaseManagerContract

from ..managers import SevenMethodsManager


class TestMemory(DatabaseManagerContract):
    @pytest.fixture
    def database(self) -> MemoryDatabaseManager:
        return MemoryDatabaseManager()


class TestSQLiteFile(DatabaseManagerContract):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[SQLiteDatabaseManager]:
        manager = SQLiteDatabaseManager(tmp_path / "contract.db")
        yield manager
        manager.close()

    def reopen(self, database: BaseDatabaseManager) -> SQLiteDatabaseManager:
        assert isinstance(database, SQLiteDatabaseManager)
        return SQLiteDatabaseManager(database.db_path)


class TestSQLiteRollbackJournal(TestSQLiteFile):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[SQLiteDatabaseManager]:
        manager = SQLiteDatabaseManager(tmp_path / "contract.db", journal_mode="DELETE")
        yield manager
        manager.close()

    def reopen(self, database: BaseDatabaseManager) -> SQLiteDatabaseManager:
        assert isinstance(database, SQLiteDatabaseManager)
        return SQLiteDatabaseManager(database.db_path, journal_mode="DELETE")


class TestSQLiteInMemory(DatabaseManagerContract):
    @pytest.fixture
    def database(self) -> SQLiteDatabaseManager:
        return SQLiteDatabaseManager(":memory:")


class TestSevenMethods(BasicDatabaseManagerContract):
    @pytest.fixture
    def database(self, tmp_path: Path) -> SevenMethodsManager:
        return SevenMethodsManager(tmp_path / "store")

    def reopen(self, database: BaseDatabaseManager) -> SevenMethodsManager:
        assert isinstance(database, SevenMethodsManager)
        return SevenMethodsManager(database.folder)
