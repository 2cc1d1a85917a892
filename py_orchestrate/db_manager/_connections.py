"""SQLite connections of one database file: one that writes, one for transactional activities, a few that read.

The number of connections does not grow with the number of threads that come and go: a reader is borrowed for one query
and returned. ``:memory:`` has one connection for everything, because a second one would be another, empty database.

A fork must find no connection open. SQLite keeps a table of the locks that its process holds, and a child inherits that
table without the locks: its own new connections would trust locks that nobody holds, or wait for threads that are not
there. So the connections are closed before a fork, and either side opens its own when it needs them. Where that cannot
be done in time (the forking thread is inside a transaction), the child neither uses nor closes what it inherits;
closing one could remove locks and files that the parent relies on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..errors import StorageError
from . import _sqlite_merging as merging
from ._migrations import migrate, refuse_unknown
from ._sqlite_loans import LentConnection

_logger = logging.getLogger(__name__)

JOURNAL_MODES = ("WAL", "DELETE", "TRUNCATE", "PERSIST")
SYNCHRONOUS_LEVELS = ("FULL", "EXTRA", "NORMAL")
_IDLE_READERS = 4
_LONGEST_TIMEOUT_SECONDS = 2_000_000.0  # SQLite counts milliseconds, in 32 bits
# Small, because growing the log is what a flush to disk costs most: a log of 1 MB that is written over and over commits
# about a third faster than SQLite's default of 4 MB does while it grows.
_WAL_CHECKPOINT_PAGES = 250
_FORK_WAIT_SECONDS = 5.0
# As long as this the file is taken for the one that was looked at, for a look costs a twentieth of a busy commit. What
# is written meanwhile is lost with what was written before, or, where the file was moved away and back, is not lost.
_SAME_FILE_SECONDS = 0.005

# To open a temporary file takes ten times as long as most of what a query would put there.
_TEMPORARY_IN_MEMORY = "PRAGMA temp_store=MEMORY"

ConnectionT = TypeVar("ConnectionT", bound=sqlite3.Connection)

_FIRST_PAUSE_SECONDS = 0.0003
_LONGEST_PAUSE_SECONDS = 0.005

_inherited: list[object] = []


def _close_all(connections: set[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


def _nobody_joins() -> None:
    """Add nothing."""


class _Patience:
    """Waits for another process that writes, up to the busy timeout.

    SQLite's own patience sleeps for longer and longer, up to a tenth of a second, and so leaves the file idle, and a
    process that is unlucky behind, where several write all the time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def wait(self, error: sqlite3.Error) -> None:
        """Wait a moment, after an error; raise it if it says something else, or the time is over."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._seconds
        if not _is_busy(error) or now >= self._deadline:
            raise error
        time.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        self._pause = min(self._pause * 1.2, _LONGEST_PAUSE_SECONDS)


def _is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process has the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _absolute(path: str) -> str:
    """Return the path from the root on, links and all."""
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError as error:
        raise StorageError(
            f"cannot open the database {path!r}: the program's working folder is not there any more ({error}); give an "
            "absolute path"
        ) from error


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file that has the path now from any other; ``None`` where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Connections:
    """Opens, lends and closes the connections, and is the group commit's source of transactions."""

    def __init__(self, path: str, *, journal_mode: str, synchronous: str, busy_timeout: float) -> None:
        self.in_memory = path == ":memory:"
        # Once, because the program may change its folder; and what lies beside the file bears the file's own name,
        # whatever links led there, as SQLite's log does. The way that was given is kept to see where it leads later.
        self._given = path if self.in_memory else _absolute(path)
        self.path = path if self.in_memory else os.path.realpath(self._given)
        self._journal_mode = journal_mode
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._writer: sqlite3.Connection | None = None
        self._lender: LentConnection | None = None
        self._file: tuple[int, int] | None = None
        self._looked_at = -1.0
        self._is_read_only = False
        self._warned = False
        self._open: set[sqlite3.Connection] = set()
        self._reset()
        # A manager that nobody closed must not end in Python 3.13's ResourceWarning. This keeps the connections out of
        # what is collected with it, where they might be first. Not at the program's end: threads still use them then.
        weakref.finalize(self, _close_all, self._open).atexit = False

    def _reset(self) -> None:
        self._readers: deque[sqlite3.Connection] = deque()
        self._lent = 0
        self._held = False
        self._lock = threading.RLock()
        self._all_returned = threading.Condition(self._lock)

    # --- forks: the group commit keeps writers out meanwhile ----------------------------------------------------------

    def before_fork(self) -> None:
        """Close every connection, once the lent readers have come back, and lend none until the fork is over."""
        self._held = self._lock.acquire(timeout=_FORK_WAIT_SECONDS)
        if self._held and self._all_returned.wait_for(lambda: self._lent == 0, _FORK_WAIT_SECONDS):
            self.close()

    def after_fork_in_parent(self) -> None:
        """Lend connections again."""
        if self._held:
            self._held = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Set aside what the parent could not close."""
        _inherited.extend(self._open)
        self._open.clear()
        self._writer = self._lender = None
        self._reset()

    # --- writing: the group commit's leader is alone here -----------------------------------------------------------

    def begin(self, join: Callable[[], None] = _nobody_joins) -> sqlite3.Connection:
        """Begin a write transaction: at once exclusive against other writers, so that it cannot fail half-way.

        Args:
            join: Is called after each wait for another process.

        Raises:
            StorageError: The file was replaced or removed since it was opened.
            sqlite3.OperationalError: Another process writes for longer than the busy timeout.
        """
        writer = self._ready_writer()
        patience = _Patience(self._busy_timeout)
        while True:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                patience.wait(error)
            else:
                return writer
            join()

    def merge(
        self,
        operations: Sequence[Callable[[Any], Any]],
        settle: Callable[[list[Any]], None],
        join: Callable[[], None] = _nobody_joins,
    ) -> bool:
        """Do the operations in a transaction of one statement, if they can be, and hand their results to ``settle``.

        Args:
            operations: What to do.
            settle: Takes the results.
            join: As for ``begin``; may add to ``operations``.

        Returns:
            Whether it was done; where not, nothing was.

        Raises:
            StorageError: The file was replaced or removed since it was opened.
            sqlite3.OperationalError: Another process writes for longer than the busy timeout.
        """
        patience = _Patience(self._busy_timeout)
        while (statement := merging.merged(operations)) is not None:
            writer = self._ready_writer()
            before = writer.total_changes
            try:
                self.commit_merged(writer, statement)
                settle(merging.results(writer, operations))  # type: ignore[arg-type]  # merged() has looked
            except sqlite3.Error as error:  # nothing is done; what its triggers have counted as changes says nothing
                if not _is_busy(error):
                    return False
                patience.wait(error)
            except BaseException:  # an interrupt, which mostly arrives in the commit, and is raised after it
                if writer.total_changes != before:
                    settle(merging.results(writer, operations))  # type: ignore[arg-type]
                raise
            else:
                return True
            join()
        return False

    @staticmethod
    def commit_merged(writer: sqlite3.Connection, statement: tuple[str, list[object]]) -> None:
        """Run a statement that is a transaction; as durable as ``commit``."""
        writer.execute(*statement)

    def _ready_writer(self) -> sqlite3.Connection:
        if self._is_read_only:  # SQLite opens such a file for reading, and never looks again
            self.close()
        self.prepare()
        self._refuse_another_file()
        writer = self._writer
        assert writer is not None  # noqa: S101 - prepare() opened it, and close() keeps leaders out
        if writer.in_transaction:  # an interrupt kept the last leader from rolling back
            writer.rollback()
        return writer

    def commit(self) -> None:
        """Commit the write transaction; with ``synchronous=FULL`` it is on the disk when this returns."""
        assert self._writer is not None  # noqa: S101 - begin() came first
        self._writer.execute("COMMIT")

    def rollback(self) -> bool:
        """End the write transaction without its writes; return whether there was one."""
        if self._writer is None or not self._writer.in_transaction:
            return False
        self._writer.rollback()
        return True

    @contextlib.contextmanager
    def lending(self) -> Iterator[LentConnection]:
        """Begin a write transaction for a user's code, on a connection of its own; what is not committed is undone.

        As for ``begin``, the caller is alone, and the same is raised. With a connection of its own, whatever that code
        does to it does not reach the one that all other writes go through, nor slow it.
        """
        connection = self._begun_lender()
        try:
            yield connection
        except BaseException:
            connection.is_changed = True  # as for a reader
            raise
        finally:
            try:
                if connection.in_transaction:
                    connection.rollback()
            finally:
                if connection.is_changed:
                    self._drop_lender()

    def _begun_lender(self) -> LentConnection:
        patience = _Patience(self._busy_timeout)
        while True:
            connection = self._ready_lender()
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT:  # of a cursor that was not to be seen
                    self._drop_lender()
                patience.wait(error)
            else:
                connection.is_changed = False
                return connection

    def _drop_lender(self) -> None:
        if self._lender is not None:
            self._close(self._lender)
            self._lender = None

    def _ready_lender(self) -> LentConnection:
        writer = self._ready_writer()
        if self.in_memory:
            assert isinstance(writer, LentConnection)  # noqa: S101 - see _open_writer()
            return writer
        if self._lender is None:
            self._lender = self._open_lender()
        return self._lender

    @staticmethod
    def commit_lent(connection: LentConnection) -> None:
        """Commit what was written on a connection from ``lending``; as durable as ``commit``."""
        connection.execute("COMMIT")

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for a query; not for ``:memory:``, whose readers must take turns with its writers."""
        with self._lock:
            self._lent += 1
        try:
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = self._open_reader()
            try:
                yield reader
            except BaseException:
                self._close(reader)  # a connection that failed is not trusted again
                raise
            if len(self._readers) < _IDLE_READERS:
                self._readers.append(reader)
            else:
                self._close(reader)
        finally:
            with self._lock:
                self._lent -= 1
                if self._lent == 0:
                    self._all_returned.notify_all()

    # --- opening and closing ----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Open the file, refuse one that is not ours, and bring its tables up to date.

        Raises:
            StorageError: It cannot be opened.
            DatabaseVersionError: It is another program's, or a newer version's. It is left untouched.
        """
        if self._writer is None:
            with self._lock:
                if self._writer is None:
                    self._open_writer()

    def close(self) -> None:
        """Close every connection; the last one to close a file folds its write-ahead log into it."""
        if self.in_memory:
            return  # closing it would erase it
        with self._lock:
            while self._readers:
                self._close(self._readers.pop())
            for connection in (self._lender, self._writer):
                if connection is not None:
                    self._close(connection)
            self._writer = self._lender = None

    def _close(self, connection: sqlite3.Connection) -> None:
        self._open.discard(connection)
        connection.close()

    def _open_writer(self) -> sqlite3.Connection:
        # In memory it is the one for activities, too.
        connection = self._connect(LentConnection if self.in_memory else sqlite3.Connection)
        try:
            refuse_unknown(connection, self.path)
            mode = self._set_up(connection)
            migrate(connection, self.path)
            connection.execute(_TEMPORARY_IN_MEMORY)  # not before: the indexes of a large file are made in a file
            merging.prepare(connection)
            self._be_impatient(connection, mode)
        except sqlite3.Error as error:
            self._close(connection)
            raise StorageError(f"cannot open the database {self.path!r}: {error}") from error
        except BaseException:
            self._close(connection)
            raise
        self._writer = connection
        self._file = _identity(self.path)
        self._looked_at = -1.0
        self._is_read_only = not self.in_memory and not os.access(self.path, os.W_OK)
        return connection

    def _open_lender(self) -> LentConnection:
        connection = self._connect(LentConnection)
        try:
            mode = self._set_up(connection)
            connection.execute(_TEMPORARY_IN_MEMORY)
            self._be_impatient(connection, mode)
        except BaseException:
            self._close(connection)
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> str:
        """Set what a connection that writes needs; return the journal mode."""
        mode = self._set_journal_mode(connection)
        connection.execute(f"PRAGMA synchronous={self._level(mode)}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_CHECKPOINT_PAGES}")
        return mode

    @staticmethod
    def _be_impatient(connection: sqlite3.Connection, mode: str) -> None:
        """Leave the waiting to ``_Patience``, but where a commit may have to wait, too."""
        if mode == "wal":
            connection.execute("PRAGMA busy_timeout=0")

    def _level(self, mode: str) -> str:
        """Return the level of ``PRAGMA synchronous`` that keeps what this one's name promises.

        A journal that is deleted is there again after a power failure, and undoes the commit, unless the folder was
        flushed too, which SQLite does at the level EXTRA only.
        """
        return "EXTRA" if mode == "delete" and self._synchronous == "FULL" else self._synchronous

    def _refuse_another_file(self) -> None:
        """Raise where what would be written would be lost: SQLite goes on with the file that it has opened."""
        now = time.monotonic()
        if self.in_memory or now - self._looked_at < _SAME_FILE_SECONDS:
            return
        if _identity(self._given) != self._file:
            raise StorageError(
                f"the database file {self.path!r} was replaced or removed while it was open, so nothing is written: "
                "put it back, or stop this program and start it again"
            )
        self._looked_at = now

    def _open_reader(self) -> sqlite3.Connection:
        self.prepare()
        self._refuse_another_file()
        connection = self._connect(sqlite3.Connection)
        connection.execute("PRAGMA query_only=ON")
        connection.execute(_TEMPORARY_IN_MEMORY)
        return connection

    def _connect(self, factory: type[ConnectionT]) -> ConnectionT:
        folder = os.path.dirname(self.path)
        if not self.in_memory and not os.path.isdir(folder):
            raise StorageError(
                f"cannot open the database {self.path!r}: the folder {folder!r} does not exist; create it"
            )
        try:
            # The timeout comes first: every pragma after it may have to wait for another process.
            connection = sqlite3.connect(
                self.path,
                timeout=min(self._busy_timeout, _LONGEST_TIMEOUT_SECONDS),
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
                factory=factory,
            )
        except sqlite3.Error as error:
            raise StorageError(f"cannot open the database {self.path!r}: {error}") from error
        self._open.add(connection)
        return connection

    def _set_journal_mode(self, connection: sqlite3.Connection) -> str:
        """Return the journal mode that is in effect then."""
        wanted = self._journal_mode.lower()
        actual = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        if self.in_memory or actual == wanted:
            return actual
        actual = self._switch_journal_mode(connection, wanted)
        if actual != wanted and not self._warned:
            self._warned = True
            _logger.warning(
                "the database %r does not take journal_mode=%s and stays with %s: as safe, but slower, and readers "
                "wait for writers; choose a mode with SQLiteDatabaseManager(journal_mode=...) to silence this",
                self.path,
                self._journal_mode,
                actual,
            )
        return actual

    def _switch_journal_mode(self, connection: sqlite3.Connection, wanted: str) -> str:
        # Switching needs the file for itself; SQLite answers "locked" at once where waiting could deadlock, so this
        # waits instead, for as long as any other write would.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                return str(connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0])
            except sqlite3.OperationalError as error:
                if _is_busy(error) and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                raise StorageError(
                    f"cannot set journal_mode={self._journal_mode} on the database {self.path!r}: {error}. Write-ahead "
                    "logging needs a local disk; on a network file system pass "
                    "SQLiteDatabaseManager(path, journal_mode='DELETE') and keep all processes on one machine"
                ) from error
