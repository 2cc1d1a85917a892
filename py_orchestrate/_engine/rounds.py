"""What a workflow's thread waits with: an event and a future that cost next to nothing where nobody has to wait.

Those of ``threading`` and ``concurrent.futures`` do the same with a condition each, and take as long as all the rest of
a short activity.
"""

from __future__ import annotations

import contextlib
import threading


class Bell:
    """Tells one thread that something has happened; any number of threads may ring it."""

    __slots__ = ("_is_rung", "_lock")

    def __init__(self) -> None:
        self._is_rung = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the thread that waits go on, or the next one that does."""
        if not self._is_rung:
            self._is_rung = True
            with contextlib.suppress(RuntimeError):  # another thread was as fast
                self._lock.release()

    def clear(self) -> None:
        """Forget that it was rung."""
        self._lock.acquire(blocking=False)
        self._is_rung = False

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, for up to so many seconds; return whether it was. It is cleared then."""
        was_rung = self._lock.acquire(timeout=seconds)
        self._is_rung = False
        return was_rung


class Round[T]:
    """What something on another thread comes to; any number of threads may wait for it."""

    __slots__ = ("_come_to", "_end", "_error", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._come_to: T
        self._error: BaseException | None = None
        self._end = threading.Lock()
        self._end.acquire()

    @classmethod
    def ended(cls, come_to: T) -> Round[T]:
        """Return one that is over."""
        found = cls()
        found.end(come_to)
        return found

    def end(self, come_to: T) -> None:
        """Let it have come to something; once."""
        self._come_to = come_to
        self.is_over = True
        self._end.release()

    def fail(self, error: BaseException) -> None:
        """Let it have come to nothing, for something that is not the body's own failure; once."""
        self._error = error
        self.is_over = True
        self._end.release()

    def result(self) -> T:
        """Wait for the end and return what it came to.

        Raises:
            BaseException: It came to nothing.
        """
        error = self.error()
        if error is not None:
            raise error
        return self._come_to

    def error(self) -> BaseException | None:
        """Wait for the end and return why it came to nothing, if it did."""
        if not self.is_over:
            with self._end:
                pass
        return self._error
