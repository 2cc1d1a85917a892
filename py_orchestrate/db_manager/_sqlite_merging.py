"""A whole group commit in one statement.

Nearly all that a store is asked for is of three sorts: a new run, a step of a run, the end of a run. Each statement
that is executed hands the interpreter to other threads and has to get it back, which beside busy threads takes longer
than what the statement does. So the rows of a batch go into one ``INSERT``, into a temporary view whose triggers do for
each row what its sort asks for, and which is a transaction of its own.

That is for the common case: the claim is held, nobody has requested anything, the id is free, no time has come that a
run waits for, and what is claimed in an ended run's place is in no queue and overtakes nobody. A trigger that finds it
otherwise refuses, nothing is done, and the batch is run again, operation by operation, by what decides each case
(``_sqlite_operations.py``, ``_sqlite_claims.py``). So nothing is decided here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from ..models import WorkflowRecord
from ._sqlite_claims import CAN_OVERTAKE, IS_DUE, IS_READY, NEXT_IN_TURN
from ._sqlite_operations import FINISH, HELD, INSERT_WORKFLOW, SIGNAL, UPSERT_STEP
from ._sqlite_rows import STEP_COLUMNS, WORKFLOW_COLUMNS, fetch_readable, readable_records

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


_RAISE = "RAISE(ABORT, 'not to be merged')"
_REFUSE = f"SELECT {_RAISE}"

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
{_REFUSE} WHERE {IS_DUE.replace("?", "NEW.c7")}
"""

# What is claimed is copied as it is then, for who reads it: by that time it may be another's. The copy stays in memory
# until the next one, so it is not to be large. The owner has its row, or nobody would notice its death.
_CLAIMED = "py_orchestrate_claimed"
_CLAIMED_COLUMNS = WORKFLOW_COLUMNS.replace(" owner, epoch,", " NEW.c10, epoch + 1,").replace(
    " input_data,", f" CASE WHEN length(input_data) > {LARGEST} THEN {_RAISE} ELSE input_data END,"
)
_CLAIM = f"""
{_REFUSE} WHERE {IS_READY} AND (
    NEW.c11 IS NULL OR NEW.c12 AND {CAN_OVERTAKE} OR NOT EXISTS (SELECT 1 FROM orchestrators WHERE id = NEW.c10));
INSERT INTO {_CLAIMED} SELECT NEW.c8, position, {_CLAIMED_COLUMNS}
FROM workflows WHERE {IS_READY} AND position = ({NEXT_IN_TURN.replace(":names", "NEW.c11")});
UPDATE workflows SET owner = NEW.c10, epoch = epoch + 1
WHERE position = (SELECT position FROM {_CLAIMED} WHERE instead_of = NEW.c8)
"""

_VIEW = "py_orchestrate_merged"
_COLUMNS = ", ".join(f"NULL AS c{index}" for index in range(_WIDTH))
_SORTS = {
    "run": _bound(INSERT_WORKFLOW),
    "step": _STEP,
    "end": f"{_END}; {_CLAIM}",
    "forget": f"DELETE FROM {_CLAIMED}",
}
_SCHEMA = "".join([
    f"CREATE TEMP TABLE {_CLAIMED} (instead_of TEXT PRIMARY KEY, position INTEGER, {WORKFLOW_COLUMNS});",
    f"CREATE TEMP VIEW {_VIEW} AS SELECT {_COLUMNS};",
    *(
        f"CREATE TEMP TRIGGER {_VIEW}_{sort} INSTEAD OF INSERT ON {_VIEW} WHEN NEW.c0 = '{sort}' BEGIN {work}; END;"
        for sort, work in _SORTS.items()
    ),
])  # fmt: skip
_ROW = f"({', '.join('?' * _WIDTH)})"
_PADDING = [[None] * (_WIDTH - length) for length in range(_WIDTH + 1)]
_READ_CLAIMED = f"SELECT {WORKFLOW_COLUMNS} FROM {_CLAIMED} WHERE instead_of = ?"
_INSERTS = [f"INSERT INTO {_VIEW} VALUES {', '.join([_ROW] * rows)}" for rows in range(_MOST_ROWS + 1)]


class Mergeable:
    """An operation that can also be done as rows of a batch's one statement.

    Attributes:
        rows: What it does, by the functions below.
    """

    __slots__ = ("_operation", "_result", "rows")

    def __init__(self, operation: Callable[[sqlite3.Connection], Any], rows: Sequence[Row], result: object) -> None:
        self._operation = operation
        self._result = result
        self.rows = rows

    def __call__(self, connection: sqlite3.Connection) -> Any:
        """Do it by itself."""
        return self._operation(connection)

    def result_in(self, connection: sqlite3.Connection) -> Any:
        """Return what the operation returns where it was done so, by the connection's last statement; at any time."""
        last = self.rows[-1]
        return _claimed_instead_of(connection, last[8]) if last[0] == "end" else self._result


def prepare(connection: sqlite3.Connection) -> None:
    """Make the view and its triggers, which live as long as the connection."""
    connection.executescript(_SCHEMA)


def run_row(values: Row) -> Row:
    """Return the row of a new run, from its values."""
    return ("run", *values)


def step_row(epoch: int, values: Row) -> Row:
    """Return the row of a step of a run that is held, from its values."""
    return ("step", values[0], epoch, *values)


def end_row(values: Row, owner: str, names: str | None, *, serves_overtaken: bool) -> Row:
    """Return the row of a run's end, in whose place another run is claimed.

    Args:
        values: The end's.
        owner: Who claims.
        names: The workflows that it can run, as JSON; ``None`` if a ready run is to be left to the operation.
        serves_overtaken: Whether it is the turn of one that others have overtaken.
    """
    return ("end", *values, owner, names, serves_overtaken)


def merged(operations: Sequence[object]) -> tuple[str, list[object]] | None:
    """Return the statement for all of the operations and its values; ``None`` where one has to be done by itself."""
    values: list[object] = []
    count = 0
    claims = False
    for operation in operations:
        if not isinstance(operation, Mergeable):
            return None
        for row in operation.rows:
            count += 1
            values += row
            values += _PADDING[len(row)]
        claims = claims or row[0] == "end"
    if not 0 < count < _MOST_ROWS:
        return None
    if claims:
        return _INSERTS[count + 1], ["forget", *_PADDING[1], *values]
    return _INSERTS[count], values


def results(connection: sqlite3.Connection, operations: Sequence[Mergeable]) -> list[Any]:
    """Return what the operations return whose statement was the connection's last one; may be asked again."""
    return [operation.result_in(connection) for operation in operations]


def _claimed_instead_of(connection: sqlite3.Connection, workflow_id: object) -> list[WorkflowRecord]:
    return list(readable_records(fetch_readable(connection.execute(_READ_CLAIMED, (workflow_id,)))))
