"""Transactional activities: the user's rows and the outcome are committed together, or not at all."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    SQLiteDatabaseManager,
    activity,
    durable,
    workflow,
)
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import DurableCallError, SerializationError, StorageError, UnsupportedOperationError

from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SQLiteDatabaseManager(tmp_path / "test.db").close()
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        connection.execute("CREATE TABLE items (name TEXT UNIQUE)")
        connection.commit()
    return tmp_path / "test.db"


def items(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM items ORDER BY 1")]


@pytest.fixture
def add() -> Any:
    @activity(transactional=True, retry=RetryPolicy(max_attempts=3, initial_interval=0.01))
    def add(connection: sqlite3.Connection, name: str, *more: str, fails: int = 0, gives: Any = None) -> Any:
        for each in (name, *more):
            connection.execute("INSERT INTO items VALUES (?)", (each,))
        if durable.info().attempt <= fails:
            raise ConnectionError(f"attempt {durable.info().attempt}")
        return gives

    return add


def test_rows_and_result_are_stored_together(path: Path, orchestrator: MakeOrchestrator, add: Any) -> None:
    @workflow
    def w() -> list[Any]:
        first = add("a", "b", gives=(1, 2))
        return [first, add.submit("c", gives=3).result(), add.map(["d", "e"]), durable.call_activity("add", "f")]

    runner = orchestrator(SQLiteDatabaseManager(path))
    handle = runner.start_workflow(w)
    assert handle.result(10) == [(1, 2), 3, [None, None], None]
    assert items(path) == ["a", "b", "c", "d", "e", "f"]
    steps = runner.get_history(handle.id)
    assert {step["status"] for step in steps} == {"completed"}
    assert steps[0]["input"] == {"name": "a", "more": ["b"], "gives": (1, 2)}


@pytest.mark.parametrize("submitted", [False, True])
def test_what_fails_leaves_no_rows(path: Path, orchestrator: MakeOrchestrator, add: Any, submitted: bool) -> None:
    @workflow
    def w(fails: int) -> str:
        try:
            call = add.submit if submitted else add
            done = call(f"name {fails}", fails=fails, gives="stored")
            return done.result() if submitted else done
        except ConnectionError as error:
            return str(error)

    runner = orchestrator(SQLiteDatabaseManager(path))
    assert runner.start_workflow(w, 2).result(10) == "stored"
    assert runner.start_workflow(w, 3).result(10) == "attempt 3"
    assert items(path) == ["name 2"]


def test_a_result_that_cannot_be_stored_leaves_no_rows(path: Path, orchestrator: MakeOrchestrator, add: Any) -> None:
    @activity(transactional=True)
    def unstorable(connection: sqlite3.Connection) -> Any:
        connection.execute("INSERT INTO items VALUES ('x')")
        return object()

    @workflow
    def w() -> str:
        with pytest.raises(SerializationError):
            unstorable()
        with pytest.raises(sqlite3.IntegrityError):
            add("twice", "twice")
        return "refused"

    assert orchestrator(SQLiteDatabaseManager(path)).start_workflow(w).result(10) == "refused"
    assert items(path) == []


ENDINGS: dict[str, Callable[[sqlite3.Connection], Any]] = {
    "commit": lambda connection: connection.commit(),
    "rollback": lambda connection: connection.rollback(),
    "statement": lambda connection: connection.execute("COMMIT"),
    "script": lambda connection: connection.executescript("INSERT INTO items VALUES ('y')"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_transaction_is_not_the_activitys_to_end(path: Path, orchestrator: MakeOrchestrator, how: str) -> None:
    @activity(transactional=True)
    def ends(connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        connection.execute("INSERT INTO items VALUES ('x')")
        ENDINGS[how](connection)

    @workflow
    def w() -> str:
        try:
            ends()
        except sqlite3.DatabaseError as error:
            return str(error)
        return "ended it"

    runner = orchestrator(SQLiteDatabaseManager(path))
    assert runner.start_workflow(w).result(10) == "not authorized"
    assert items(path) == []
    assert runner.list_workflows()[0]["status"] == "done", "the connection is as it was"


def test_many_transactions_and_other_writes(path: Path, orchestrator: MakeOrchestrator, add: Any) -> None:
    @activity
    def plain(n: int) -> int:
        return n

    @workflow
    def w(n: int) -> int:
        total = 0
        for k in range(5):
            add(f"{n}-{k}")
            total += plain(k)
        return total

    runners = [orchestrator(SQLiteDatabaseManager(path), max_workers=4) for _ in range(2)]
    handles = [runners[n % 2].start_workflow(w, n) for n in range(20)]
    assert [handle.result(60) for handle in handles] == [10] * 20
    assert len(items(path)) == 100


def test_in_memory_too(orchestrator: MakeOrchestrator) -> None:
    @activity(transactional=True)
    def count(connection: sqlite3.Connection) -> int:
        connection.execute("CREATE TABLE IF NOT EXISTS visits (n INTEGER)")
        connection.execute("INSERT INTO visits VALUES (1)")
        return connection.execute("SELECT count(*) FROM visits").fetchone()[0]

    @workflow
    def w() -> list[int]:
        return [count(), count()]

    assert orchestrator(SQLiteDatabaseManager(":memory:")).start_workflow(w).result(10) == [1, 2]


def test_a_lost_claim_writes_nothing(path: Path, orchestrator: MakeOrchestrator, add: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @activity
    def first() -> None:
        begun.set()
        go_on.wait(10)

    @workflow
    def w() -> None:
        first()
        add("written by a zombie")

    database = SQLiteDatabaseManager(path)
    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert begun.wait(10)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE workflows SET epoch = epoch + 5")
        connection.commit()
    go_on.set()
    wait_until(lambda: runner._engine._busy == 0)
    assert items(path) == []
    assert handle.status()["status"] == "processing"


def test_a_store_that_cannot_be_written_is_tried_again(
    path: Path, orchestrator: MakeOrchestrator, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow
    def w() -> None:
        add("a")

    database = SQLiteDatabaseManager(path)
    record = database.record_transaction
    failures: list[int] = []

    def failing(*args: Any) -> None:
        if len(failures) < 2:
            failures.append(1)
            raise StorageError("the disk is full")
        record(*args)

    monkeypatch.setattr(database, "record_transaction", failing)
    orchestrator(database).start_workflow(w).result(10)
    assert items(path) == ["a"]
    assert len(failures) == 2


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "seven methods"])
def test_a_store_without_transactions_says_so(
    tmp_path: Path, orchestrator: MakeOrchestrator, add: Any, store: str
) -> None:
    @workflow
    def w() -> str:
        try:
            add("a")
        except UnsupportedOperationError as error:
            return str(error)
        return "stored"

    database = MemoryDatabaseManager() if store == "memory" else SevenMethodsManager(tmp_path / "store")
    status = orchestrator(database).start_workflow(w).wait(10)
    assert "has no transactions: it lacks the capability" in str(status["output"])
    assert "use SQLiteDatabaseManager" in str(status["output"])


def test_elsewhere_there_is_no_transaction(path: Path, orchestrator: MakeOrchestrator, add: Any) -> None:
    @activity
    def plain() -> str:
        with pytest.raises(DurableCallError, match=r"works in a workflow's own code only.*add\.fn with a connection"):
            add("a")
        return "refused"

    @workflow
    def w() -> str:
        return plain()

    for call in (add, add.submit):
        with pytest.raises(DurableCallError, match="works in a workflow's own code only"):
            call("a")
    assert orchestrator(SQLiteDatabaseManager(path)).start_workflow(w).result(10) == "refused"
    assert items(path) == []


def test_what_cannot_be_transactional() -> None:
    async def later(connection: Any) -> None:
        pass

    def nothing() -> None:
        pass

    def named(*, connection: Any) -> None:
        pass

    for function, text in [(later, "is async"), (nothing, "takes no connection"), (named, "takes no connection")]:
        with pytest.raises(TypeError, match=text):
            activity(transactional=True)(function)
    for options in ({"timeout": 1}, {"total_timeout": 1}, {"heartbeat_timeout": 1}):
        with pytest.raises(ValueError, match="a transactional activity cannot have a time limit"):
            activity(transactional=True, **options)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="transactional is a bool, not int"):
        activity(transactional=1)  # type: ignore[call-overload]
    assert not get_registry().activities, "nothing was registered"

    @activity(transactional=True)
    def fine(connection: Any, n: int) -> None:
        pass

    with pytest.raises(ValueError, match="cannot have a time limit"):
        fine.options(timeout=1)
    with pytest.raises(TypeError, match="has no option 'transactional'"):
        fine.options(transactional=False)  # type: ignore[call-arg]
