"""The connection that a transactional activity works on: its own for as long as it runs, but for the transaction.

Of a loan nothing stays but what it has written, together with the activity's result:

* A cursor that is in the middle of its rows keeps its snapshot of the file, after a rollback too, for as long as
  somebody holds it, and an exception's traceback does. So whatever was opened is closed when the loan ends.
* Where SQLite itself rolls the transaction back (``ON CONFLICT ROLLBACK``, a full disk), the next statement would be
  committed by itself, before the activity's result. So none is let through then. The authorizer sees each statement
  when it is prepared, and such a connection keeps no prepared ones; where a prepared one goes on, for the rows of
  ``executemany``, that is looked at for each row.
* What would end the transaction, or the connection, is refused. What else is changed goes with the connection, which is
  used again only where nothing was. The one of a ``:memory:`` database cannot go: what would change it is refused or
  set back.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

_ROLLED_BACK = (
    "SQLite has rolled back this activity's transaction (OR ROLLBACK, ON CONFLICT ROLLBACK, RAISE(ROLLBACK), an "
    "interrupt, a full disk), so that another statement would be committed by itself: let that error end the activity, "
    "or use ABORT instead of ROLLBACK, which undoes the one statement only"
)
_TOGETHER = "the activity's writes are committed together with its result, or rolled back where it raises"

# Attributes that would end the transaction when they are set, or commit what comes later.
_KEPT = frozenset({"isolation_level", "autocommit"})
# What takes an argument and changes nothing, or nothing that outlives the transaction.
_PRAGMAS = frozenset(
    {
        "defer_foreign_keys",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "optimize",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)


class LentCursor(sqlite3.Cursor):
    """A cursor that says what was wrong where SQLite says "not authorized"."""

    connection: LentConnection

    def execute(self, sql: str, /, *parameters: Any) -> LentCursor:
        """See the base class."""
        try:
            super().execute(sql, *parameters)
        except sqlite3.DatabaseError as error:
            self.connection.explain(error)
            raise
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> LentCursor:
        """See the base class."""
        try:
            super().executemany(sql, self.connection.guarded(parameters))
        except sqlite3.DatabaseError as error:
            self.connection.explain(error)
            raise
        return self

    def executescript(self, sql: str, /) -> LentCursor:
        """See the base class."""
        self.connection.refuse("executescript() commits first, but {}: execute() the statements one by one")
        super().executescript(sql)
        return self


class LentConnection(sqlite3.Connection):
    """A connection that is lent at times; otherwise it is as any.

    Attributes:
        is_changed: Whether the last loan has, or may have, left something in the connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_lent = False
        self._opened: weakref.WeakSet[Any] = weakref.WeakSet()
        self._denied: str | None = None
        self.is_changed = False
        super().__init__(*args, **{**kwargs, "cached_statements": 0})

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Lend the connection to a user's code, inside of a transaction that it cannot end."""
        super().set_authorizer(self._authorize)
        self._is_lent = True
        try:
            yield
        finally:
            self._is_lent = False
            self._take_back()

    def _take_back(self) -> None:
        for opened in list(self._opened):
            try:
                opened.close()
            except sqlite3.Error:  # a thread of the activity's own is using it at this moment
                self.is_changed = True
        self._opened.clear()
        super().set_authorizer(None)
        if self.is_changed:
            super().set_trace_callback(None)
            super().set_progress_handler(None, 0)
            self.row_factory, self.text_factory = None, str

    # --- what is looked at ------------------------------------------------------------------------------------------

    def _authorize(self, action: int, first: str | None, second: str | None, database: str | None, _by: object) -> int:
        if not self.in_transaction:
            self._denied = _ROLLED_BACK
        elif action == sqlite3.SQLITE_TRANSACTION:
            self._denied = f"the activity's SQL has {first}, but {_TOGETHER}: leave that out"
        elif action == sqlite3.SQLITE_PRAGMA and second is not None and str(first).lower() not in _PRAGMAS:
            self._denied = (
                f"PRAGMA {first} sets what does not belong to the activity's transaction: set it on a connection of "
                "your own, or leave it out"
            )
        else:
            if database == "temp" or action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
                self.is_changed = True
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def explain(self, error: sqlite3.DatabaseError) -> None:
        """Raise what SQLite refuses as an error that says why; do nothing for another error."""
        denied, self._denied = self._denied, None
        if denied is not None and str(error) == "not authorized":
            raise sqlite3.ProgrammingError(denied) from error

    def guarded(self, parameters: Iterable[Any]) -> Iterable[Any]:
        """Return the parameters; in a loan, end where the transaction has ended meanwhile."""
        return self._guarded(parameters) if self._is_lent else parameters

    def _guarded(self, parameters: Iterable[Any]) -> Iterator[Any]:
        for each in parameters:
            if not self.in_transaction:
                raise sqlite3.ProgrammingError(_ROLLED_BACK)
            yield each

    def refuse(self, reason: str) -> None:
        """Raise, in a loan, for a reason with a place for what a transaction of an activity is."""
        if self._is_lent:
            raise sqlite3.ProgrammingError(reason.format(_TOGETHER))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse what would end the transaction, and note the rest."""
        if name[0] != "_" and name != "is_changed":
            if name in _KEPT:
                self.refuse(f"the connection's {name} is not the activity's to set, for {{}}: leave it as it is")
            self.is_changed = True
        super().__setattr__(name, value)

    # --- what is opened ---------------------------------------------------------------------------------------------

    def cursor(self, factory: Callable[[sqlite3.Connection], Any] = LentCursor) -> Any:  # type: ignore[override]
        """See the base class."""
        return self._noted(super().cursor(factory))

    def execute(self, sql: str, /, *parameters: Any) -> sqlite3.Cursor:
        """See the base class, whose cursor would be no ``LentCursor``."""
        cursor: sqlite3.Cursor = self.cursor().execute(sql, *parameters)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """See ``execute``."""
        cursor: sqlite3.Cursor = self.cursor().executemany(sql, parameters)
        return cursor

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        """See ``execute``."""
        cursor: sqlite3.Cursor = self.cursor().executescript(sql)
        return cursor

    def blobopen(self, *args: Any, **kwargs: Any) -> sqlite3.Blob:
        """See the base class. SQLite does not ask the authorizer for it."""
        if self._is_lent and not self.in_transaction:
            raise sqlite3.ProgrammingError(_ROLLED_BACK)
        blob: sqlite3.Blob = self._noted(super().blobopen(*args, **kwargs))
        return blob

    def _noted(self, opened: Any) -> Any:
        if self._is_lent:
            self._opened.add(opened)
        return opened

    # --- what is refused --------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """See the base class."""
        self.refuse("commit() is not the activity's to call: {}; leave it out")
        super().commit()

    def rollback(self) -> None:
        """See the base class."""
        self.refuse("rollback() is not the activity's to call: {}; raise an error instead")
        super().rollback()

    def close(self) -> None:
        """See the base class."""
        self.refuse("close() is not the activity's to call: the library goes on with the connection; leave it out")
        super().close()

    def __enter__(self) -> Self:
        """See the base class."""
        self.refuse("'with connection:' would commit, but {}: leave it out, and use the connection as it is")
        super().__enter__()
        return self

    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """See the base class."""
        self.refuse("the connection has an authorizer that must stay, for {}: leave set_authorizer() out")
        super().set_authorizer(authorizer_callback)


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the base class that may leave its traces in the connection, and notes that."""

    @functools.wraps(method)
    def noting(self: LentConnection, *args: Any, **kwargs: Any) -> Any:
        if self._is_lent:
            self.is_changed = True
        return method(self, *args, **kwargs)

    return noting


# All the others: what Python may add to connections is among them.
for _name, _method in vars(sqlite3.Connection).items():
    if callable(_method) and not isinstance(_method, type) and _name[0] != "_" and _name not in vars(LentConnection):
        setattr(LentConnection, _name, _noting(_method))
