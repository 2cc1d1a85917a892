"""Who is alive on this machine: one lock file for each orchestrator, held for as long as its process lives.

The kernel lets go of the lock when the process ends, however it ends, so a crash is noticed at once and a recycled
process id fools nobody. The locks are ``flock`` locks, one file each: POSIX record locks would be lost as soon as any
other descriptor of the same file were closed in the process. The files lie in ``<database>-owners`` beside the
database, where every process that can open the database, in whatever container, sees them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from .._forks import watch_forks

if sys.platform == "win32":  # pragma: no cover - tests run on POSIX
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


_logger = logging.getLogger(__name__)


class OwnerLocks:
    """The lock files of one database."""

    def __init__(self, database_path: str) -> None:
        self._folder = database_path + "-owners"
        self._held: dict[str, int] = {}
        watch_forks(self)

    def after_fork_in_child(self) -> None:
        """Close the child's copies, so that the locks end with the parent; closing a copy does not unlock."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def hold(self, owner: str) -> None:
        """Create the owner's file and lock it, before the owner is announced to anyone."""
        descriptor = self._create(owner)
        if not _try_lock(descriptor):
            os.close(descriptor)
            raise RuntimeError(f"the lock of the fresh owner {owner} is held by somebody else")
        self._held[owner] = descriptor

    def release(self, owner: str) -> None:
        """Unlock the owner's file and remove it; an owner not held here is fine."""
        descriptor = self._held.pop(owner, None)
        self.forget(owner)
        if descriptor is not None:
            os.close(descriptor)

    def is_alive(self, owner: str) -> bool:
        """Return whether a living process holds the owner's lock."""
        if owner in self._held:
            return True
        try:
            descriptor = os.open(self._path(owner), os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError as error:
            # Not being able to look is no proof of death; a claim taken from a living owner runs work twice.
            _logger.warning("cannot tell whether orchestrator %s lives: %s", owner, error)
            return True
        try:
            if not _try_lock(descriptor):
                return True
            # Unlocked by word, not only by closing: a fork at this moment would keep a copy open, and the lock with it.
            _unlock(descriptor)
            return False
        finally:
            os.close(descriptor)

    def forget(self, owner: str) -> None:
        """Remove a dead owner's file, and the folder with the last one."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(owner))
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def _create(self, owner: str) -> int:
        while True:
            with contextlib.suppress(FileExistsError):  # not exist_ok, which looks twice
                os.mkdir(self._folder)
            # Another process that forgets the last owner removes the folder, perhaps right now; then it is made again.
            with contextlib.suppress(FileNotFoundError):
                return os.open(self._path(owner), os.O_RDWR | os.O_CREAT, 0o666)

    def _path(self, owner: str) -> str:
        return os.path.join(self._folder, f"{owner}.lock")
