"""Transactional activities: the user's rows and the outcome are committed together, or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
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
from py_orchestrate.errors import (
    DurableCallError,
    SerializationError,
    StorageError,
    TransactionError,
    UnsupportedOperationError,
    WorkflowFailedError,
)

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


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, path: Path) -> SQLiteDatabaseManager:
    """Return a database in a file and one in memory, with a table ``items``."""
    database = SQLiteDatabaseManager(path if request.param == "file" else ":memory:")
    database._write(lambda connection: connection.execute("CREATE TABLE IF NOT EXISTS items (name TEXT UNIQUE)"))
    return database


def items_of(database: SQLiteDatabaseManager) -> list[str]:
    rows = database._read(lambda connection: connection.execute("SELECT name FROM items ORDER BY 1").fetchall())
    return [name for (name,) in rows]


@pytest.fixture
def run(orchestrator: MakeOrchestrator, database: SQLiteDatabaseManager) -> Callable[..., Any]:
    """Return a function that runs a body as a transactional activity, and returns its result or its error's text."""

    @activity(transactional=True, retry=RetryPolicy(max_attempts=2, initial_interval=0.01))
    def transaction(connection: sqlite3.Connection, name: str) -> Any:
        return bodies[name](connection)

    @workflow
    def w(name: str) -> Any:
        try:
            return transaction(name)
        except (sqlite3.Error, TransactionError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    bodies: dict[str, Callable[[sqlite3.Connection], Any]] = {}
    runner = orchestrator(database)

    def run(body: Callable[[sqlite3.Connection], Any]) -> Any:
        bodies[str(len(bodies))] = body
        return runner.start_workflow(w, str(len(bodies) - 1)).result(10)

    return run


Body = Callable[[sqlite3.Connection], Any]


def insert(connection: sqlite3.Connection, *names: str) -> None:
    for name in names:
        connection.execute("INSERT INTO items VALUES (?)", (name,))


def with_connection(connection: sqlite3.Connection) -> None:
    with connection:
        insert(connection, "y")


def set_attribute(name: str, value: Any) -> Body:
    return lambda connection: setattr(connection, name, value)


REFUSED: dict[str, tuple[Body, str]] = {
    "commit": (lambda connection: connection.commit(), "commit() is not the activity's to call"),
    "rollback": (lambda connection: connection.rollback(), "raise an error instead"),
    "COMMIT": (lambda connection: connection.execute("COMMIT"), "the activity's SQL has COMMIT"),
    "ROLLBACK": (lambda connection: connection.cursor().execute("ROLLBACK"), "the activity's SQL has ROLLBACK"),
    "script": (lambda connection: connection.executescript("SELECT 1"), "executescript() commits first"),
    "with": (with_connection, "'with connection:' would commit"),
    "close": (lambda connection: connection.close(), "close() is not the activity's to call"),
    "isolation_level": (set_attribute("isolation_level", "DEFERRED"), "the connection's isolation_level is not"),
    "autocommit": (set_attribute("autocommit", False), "the connection's autocommit is not"),
    "authorizer": (lambda connection: connection.set_authorizer(None), "leave set_authorizer() out"),
    "PRAGMA": (lambda connection: connection.execute("PRAGMA query_only = ON"), "PRAGMA query_only sets what does not"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_transaction_and_its_connection_are_not_the_activitys_to_end(
    database: SQLiteDatabaseManager, run: Callable[[Body], Any], what: str
) -> None:
    body, text = REFUSED[what]

    def refused(connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        insert(connection, "x")
        body(connection)

    def swallowed(connection: sqlite3.Connection) -> str:
        with pytest.raises(sqlite3.DatabaseError):
            refused(connection)
        return "went on"

    error = run(refused)
    assert error.startswith("ProgrammingError: ")
    assert text in error
    assert items_of(database) == []
    assert run(swallowed) == "went on"
    assert items_of(database)[0] == "x", "in the transaction that goes on"


def roll_back(connection: sqlite3.Connection) -> None:
    insert(connection, "before", "twice")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT OR ROLLBACK INTO items VALUES ('twice')")
    assert not connection.in_transaction


class OwnCursor(sqlite3.Cursor):
    pass


def rows_that_roll_back(connection: sqlite3.Connection) -> Iterator[tuple[str]]:
    yield ("first",)
    roll_back(connection)
    yield ("last",)


AFTER_A_ROLLBACK: dict[str, Body] = {
    "execute": lambda connection: (roll_back(connection), insert(connection, "after")),
    "cursor": lambda connection: (roll_back(connection), connection.cursor(OwnCursor).execute("DELETE FROM items")),
    "with clause": lambda connection: (
        roll_back(connection),
        connection.execute("WITH n AS (SELECT 'after') INSERT INTO items SELECT * FROM n"),
    ),
    "table": lambda connection: (roll_back(connection), connection.execute("CREATE TABLE after (name)")),
    "savepoint": lambda connection: (roll_back(connection), connection.execute("SAVEPOINT own")),
    "begin": lambda connection: (roll_back(connection), connection.execute("BEGIN")),
    "rows": lambda connection: connection.executemany("INSERT INTO items VALUES (?)", rows_that_roll_back(connection)),
    "blob": lambda connection: (roll_back(connection), connection.blobopen("items", "name", 1)),
}


@pytest.mark.parametrize("how", AFTER_A_ROLLBACK)
@pytest.mark.parametrize("swallowed", [False, True])
def test_what_follows_a_rollback_by_sqlite_is_not_committed_by_itself(
    database: SQLiteDatabaseManager, run: Callable[[Body], Any], how: str, swallowed: bool
) -> None:
    attempts: list[int] = []

    def body(connection: sqlite3.Connection) -> None:
        attempts.append(1)
        with contextlib.suppress(*([sqlite3.DatabaseError] if swallowed else [])):
            AFTER_A_ROLLBACK[how](connection)

    run(lambda connection: insert(connection, "kept"))
    error = run(body)
    if swallowed:
        assert "TransactionError: the activity went on after SQLite had rolled back its transaction" in error
        assert len(attempts) == 1, "not even tried again"
    elif how == "cursor":
        assert "not authorized" in error
    else:
        assert "ProgrammingError: SQLite has rolled back this activity's transaction" in error
    assert items_of(database) == ["kept"]
    assert run(lambda connection: connection.execute("SELECT count(*) FROM items").fetchone()) == (1,)


def test_a_rollback_by_sqlite_that_ends_the_activity_is_its_error(
    database: SQLiteDatabaseManager, run: Callable[[Body], Any]
) -> None:
    def body(connection: sqlite3.Connection) -> None:
        insert(connection, "a")
        connection.execute("INSERT OR ROLLBACK INTO items VALUES ('a')")

    assert "IntegrityError: UNIQUE constraint failed" in run(body)
    assert items_of(database) == []


def test_what_breaks_a_rule_at_the_commit_fails_once(
    database: SQLiteDatabaseManager, run: Callable[[Body], Any]
) -> None:
    attempts: list[int] = []

    def body(connection: sqlite3.Connection) -> None:
        attempts.append(1)
        connection.execute(
            "CREATE TABLE parts (item TEXT REFERENCES items (name) DEFERRABLE INITIALLY DEFERRED)",
        )
        connection.execute("INSERT INTO parts VALUES ('none')")

    assert "TransactionError: what the activity has written cannot be committed: FOREIGN KEY" in run(body)
    assert len(attempts) == 1
    assert run(lambda connection: connection.execute("PRAGMA table_info(parts)").fetchall()) == []


@pytest.mark.parametrize("how", ["execute", "cursor", "own cursor", "blob", "made by hand"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_an_activity_leaves_open_does_not_hold_up_others(
    database: SQLiteDatabaseManager, run: Callable[[Body], Any], how: str, fails: bool
) -> None:
    kept: list[Any] = []
    query = "SELECT name FROM items"

    def body(connection: sqlite3.Connection) -> None:
        if how == "blob":
            kept.append(connection.blobopen("items", "name", 1, readonly=True))
            kept[-1].read(1)
        else:
            cursors: dict[str, Callable[[], sqlite3.Cursor]] = {
                "execute": lambda: connection.execute(query),
                "cursor": lambda: connection.cursor().execute(query),
                "own cursor": lambda: connection.cursor(OwnCursor).execute(query),
                "made by hand": lambda: sqlite3.Cursor(connection).execute(query),
            }
            kept.append(cursors[how]())
            kept[-1].fetchone()
        if fails:
            raise ValueError("in the midst of the rows")

    run(lambda connection: insert(connection, "a", "b", "c"))
    outcome = run(body)
    assert outcome is None or outcome.startswith("ValueError: in the midst of the rows")
    # Both have to write after that snapshot: another connection, and the one that it was taken on.
    database._write(lambda connection: connection.execute("INSERT INTO items VALUES ('d')"))
    assert run(lambda connection: insert(connection, "e")) is None
    assert items_of(database) == ["a", "b", "c", "d", "e"]
    if how not in ("blob", "made by hand"):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            kept[-1].fetchone()


CHANGES: dict[str, Body] = {
    "row_factory": set_attribute("row_factory", sqlite3.Row),
    "text_factory": set_attribute("text_factory", bytes),
    "trace": lambda connection: connection.set_trace_callback(lambda _sql: pytest.fail("it is traced")),
    "progress": lambda connection: connection.set_progress_handler(lambda: 1, 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_an_activity_sets_does_not_reach_others(
    database: SQLiteDatabaseManager, run: Callable[[Body], Any], what: str
) -> None:
    def body(connection: sqlite3.Connection) -> None:
        insert(connection, "a")
        CHANGES[what](connection)

    assert run(body) is None
    assert run(lambda connection: connection.execute("SELECT name FROM items").fetchall()) == [("a",)]
    assert items_of(database) == ["a"]


def test_a_connection_that_was_changed_is_not_used_again(run: Callable[[Body], Any]) -> None:
    lent: list[sqlite3.Connection] = []

    def body(connection: sqlite3.Connection) -> None:
        lent.append(connection)
        connection.execute("SELECT 1").fetchone()

    def function(connection: sqlite3.Connection) -> None:
        body(connection)
        connection.create_function("one", 0, lambda: 1)

    def table(connection: sqlite3.Connection) -> None:
        body(connection)
        connection.execute("CREATE TEMP TABLE own (name)")

    for each in (body, function, table, body):
        run(each)
    if lent[0] is not lent[-1]:  # it is the one there is, in memory
        assert len({id(connection) for connection in lent}) == 3
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            lent[0].execute("SELECT 1")


def test_pragmas_that_belong_to_the_transaction(database: SQLiteDatabaseManager, run: Callable[[Body], Any]) -> None:
    def body(connection: sqlite3.Connection) -> list[Any]:
        connection.execute("PRAGMA user_version = 7")
        connection.execute("PRAGMA defer_foreign_keys = ON")
        columns = connection.execute("SELECT name FROM pragma_table_info('items')").fetchall()
        return [columns, connection.execute("PRAGMA foreign_keys").fetchone()]

    assert run(body) == [[("name",)], (1,)]
    assert run(lambda connection: connection.execute("PRAGMA user_version").fetchone()) == (7,)


def test_a_write_through_the_orchestrator_is_refused_and_holds_up_nobody(
    path: Path, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def other() -> str:
        return "other"

    @activity(transactional=True)
    def start(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO items VALUES ('never')")
        return runner.start_workflow(other).id

    @workflow
    def run() -> str:
        return start()  # type: ignore[call-arg]  # it gets its connection

    runner = orchestrator(SQLiteDatabaseManager(path))
    error = runner.start_workflow(run)
    with pytest.raises(WorkflowFailedError, match="a transactional activity cannot start workflows"):
        error.result(20)
    assert items(path) == []
    assert runner.start_workflow(other).result(20) == "other"


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
