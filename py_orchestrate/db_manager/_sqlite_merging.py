"""A whole group commit in one statement.

Nearly all that a store is asked for is of three sorts: a new run, a step of a run, the end of a run. Each statement
that is executed hands the interpreter to other threads and has to get it back, which beside busy threads takes longer
than what the statement does. So the rows of a batch go into one ``INSERT``, into a temporary view whose triggers do for
each row what its sort asks for, and which is a transaction of its own.

That is for the common case: the claim is held, nobody has requested anything, the id is free, nothing waits to be
claimed. A trigger that finds it otherwise refuses, nothing is done, and the batch is run again, operation by operation,
by what decides each case (``_sqlite_operations.py``, ``_sqlite_claims.py``). So nothing is decided here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from ._sqlite_claims import IS_ANYTHING_DUE
from ._sqlite_operations import FINISH, HELD, INSERT_WORKFLOW, SIGNAL, UPSERT_STEP
from ._sqlite_rows import STEP_COLUMNS, WORKFLOW_COLUMNS

Row = tuple[object, ...]

_MOST_ROWS = 64
LARGEST = 4096
"""Up to how many characters an operation's payloads have for it to be merged: what is longer takes its time anyway, and
may be too long for the store. It is kept out by who makes the rows."""

_WIDTH = WORKFLOW_COLUMNS.count(",") + 2


def _bound(statement: str, first: int = 1) -> str:
    """Return a statement with the view's columns, from ``first`` on, in place of its parameters."""
    parts = statement.split("?")
    return "".join(f"{part}NEW.c{first + index}" for index, part in enumerate(parts[:-1])) + parts[-1]


_REFUSE = "SELECT RAISE(ABORT, 'not to be merged')"

# A step is stored for a run that is held, as nobody but its holder may, and about which there is nothing to tell.
_STEP = f"""
INSERT INTO activity_executions (workflow_id, id, {STEP_COLUMNS})
SELECT {", ".join(f"NEW.c{3 + index}" for index in range(14))} FROM workflows
WHERE {_bound(HELD)} AND request IS NULL AND crashes = 0
ON CONFLICT{UPSERT_STEP.partition("ON CONFLICT")[2]};
{_REFUSE} WHERE changes() <> 1
"""

_PARENT = "(SELECT parent_id FROM workflows WHERE id = NEW.c8)"
_END = f"""
{_bound(FINISH.partition(" RETURNING")[0])};
{_REFUSE} WHERE changes() <> 1;
{SIGNAL.replace(":signal", "'workflow:' || NEW.c8").replace(":id", _PARENT)};
{_REFUSE} WHERE NEW.c10 AND ({IS_ANYTHING_DUE.replace("?", "NEW.c7")})
"""

_VIEW = "py_orchestrate_merged"
_COLUMNS = ", ".join(f"NULL AS c{index}" for index in range(_WIDTH))
_SORTS = {"run": _bound(INSERT_WORKFLOW), "step": _STEP, "end": _END}
_SCHEMA = "".join([
    f"CREATE TEMP VIEW {_VIEW} AS SELECT {_COLUMNS};",
    *(
        f"CREATE TEMP TRIGGER {_VIEW}_{sort} INSTEAD OF INSERT ON {_VIEW} WHEN NEW.c0 = '{sort}' BEGIN {work}; END;"
        for sort, work in _SORTS.items()
    ),
])  # fmt: skip
_ROW = f"({', '.join('?' * _WIDTH)})"
_INSERTS = [f"INSERT INTO {_VIEW} VALUES {', '.join([_ROW] * rows)}" for rows in range(_MOST_ROWS + 1)]


class Mergeable:
    """An operation that can also be done as rows of a batch's one statement.

    Attributes:
        rows: What it does, by the functions below.
        result: What the operation returns where it is done so.
    """

    __slots__ = ("_operation", "result", "rows")

    def __init__(self, operation: Callable[[sqlite3.Connection], Any], rows: Sequence[Row], result: object) -> None:
        self._operation = operation
        self.rows = rows
        self.result = result

    def __call__(self, connection: sqlite3.Connection) -> Any:
        """Do it by itself."""
        return self._operation(connection)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the view and its triggers, which live as long as the connection."""
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.executescript(_SCHEMA)


def run_row(values: Row) -> Row:
    """Return the row of a new run, from its values."""
    return ("run", *values)


def step_row(epoch: int, values: Row) -> Row:
    """Return the row of a step of a run that is held, from its values."""
    return ("step", values[0], epoch, *values)


def end_row(values: Row, *, claims: bool) -> Row:
    """Return the row of a run's end, from its values; ``claims`` asks whether there is anything to claim."""
    return ("end", *values, claims)


def merged(operations: Sequence[object]) -> tuple[str, list[object]] | None:
    """Return the statement for all of the operations and its values; ``None`` where one has to be done by itself."""
    values: list[object] = []
    count = 0
    for operation in operations:
        if not isinstance(operation, Mergeable):
            return None
        for row in operation.rows:
            count += 1
            values += row
            values += [None] * (_WIDTH - len(row))
    if not 0 < count <= _MOST_ROWS:
        return None
    return _INSERTS[count], values
