"""What the tests share: an empty registry, every backend, orchestrators that are stopped, and deaths on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, SQLiteDatabaseManager
from py_orchestrate.decorators import get_registry

from .breakdown import Breakdown
from .managers import SevenMethodsManager
from .programs import Program

BACKENDS = ("memory", "sqlite", "sqlite-memory", "seven-methods")


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Let every test begin with nothing registered, and leave what was registered before as it was."""
    registry = get_registry()
    states = (registry.workflows, registry.activities, registry._warned)
    saved = [state.copy() for state in states]
    for state in states:
        state.clear()
    yield
    for state, before in zip(states, saved, strict=True):
        state.clear()
        state.update(before)


def open_database(backend: str, folder: Path) -> BaseDatabaseManager:
    if backend == "memory":
        return MemoryDatabaseManager()
    if backend == "seven-methods":
        return SevenMethodsManager(folder / "store")
    return SQLiteDatabaseManager(folder / "test.db" if backend == "sqlite" else ":memory:")


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseDatabaseManager]:
    """Return a store of each kind."""
    manager = open_database(request.param, tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def memory() -> MemoryDatabaseManager:
    """Return the quickest store, where the kind of store cannot matter."""
    return MemoryDatabaseManager()


@pytest.fixture
def orchestrator() -> Iterator[Callable[..., Orchestrator]]:
    """Return a function that makes and starts orchestrators; all of them are stopped at the end."""
    made: list[Orchestrator] = []

    def make(db_manager: BaseDatabaseManager, *, start: bool = True, **options: Any) -> Orchestrator:
        made.append(Orchestrator(db_manager=db_manager, **options))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    ended = [each.stop(timeout=10) for each in made]
    assert all(ended), "a workflow still runs"


@pytest.fixture
def breakdown(orchestrator: Callable[..., Orchestrator]) -> Iterator[Breakdown]:
    """Return a breakdown that workflows of this test can suffer."""
    with Breakdown(orchestrator) as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    """Return a function from a script's text to the script, which can be run, killed and run again."""
    return lambda source: Program(tmp_path, source)
