"""Running a body under time limits, on a thread of its own.

A thread cannot be ended from outside, so a body that takes too long is left alone: its attempt fails, it is told
(``durable.info().cancel_requested``, ``durable.heartbeat()``), and whatever it still comes to is dropped. Which of the
two came first, the result or the limit, is decided once, under one lock.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from .._clock import Clock
from ..errors import ActivityTimeoutError

_LONGEST_WAIT_SECONDS = 0.5


class Pulse:
    """The signs of life of one attempt.

    Attributes:
        last: When the last one came, on the monotonic clock.
        abandoned: Whether the attempt has been given up.
    """

    __slots__ = ("_clock", "_end", "abandoned", "last")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last = 0.0  # who looks at it gives the first one itself
        self.abandoned = False
        self._end: Callable[[], object] | None = None

    def beat(self) -> None:
        """Give a sign of life."""
        self.last = self._clock.monotonic()

    def can_be_ended_by(self, end: Callable[[], object]) -> None:
        """Remember what ends the body: a coroutine can be ended, a thread cannot."""
        self._end = end
        if self.abandoned:
            end()

    def abandon(self) -> None:
        """Give the attempt up."""
        self.abandoned = True
        if self._end is not None:
            self._end()


class Limits(NamedTuple):
    """How long an attempt may take, in seconds; ``None`` for any time.

    Attributes:
        timeout: The attempt itself.
        heartbeat: From one sign of life to the next.
        total: All attempts, for the message.
        left: What is left of that.
    """

    timeout: float | None
    heartbeat: float | None
    total: float | None
    left: float | None


class _Attempt:
    """A body on its thread, and who was first: its end or a limit."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self._body = body
        self._changed = threading.Condition()
        self._ended = False
        self._given_up = False
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the body, on its thread."""
        result, error = None, None
        try:
            result = self._body()
        except BaseException as raised:  # noqa: BLE001 - raised where the body is waited for
            error = raised
        with self._changed:
            if not self._given_up:
                self._ended, self._result, self._error = True, result, error
                self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether it has come."""
        with self._changed:
            return self._ended or self._changed.wait_for(lambda: self._ended, seconds)

    def give_up(self) -> bool:
        """Let the end count for nothing; return whether it had not come yet."""
        with self._changed:
            self._given_up = not self._ended
            return self._given_up

    def outcome(self) -> Any:
        """Return or raise what the body came to."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or it and this frame would keep each other alive
        return self._result


def run_limited(body: Callable[[], Any], pulse: Pulse, clock: Clock, name: str, limits: Limits) -> Any:
    """Run ``body`` on a thread of its own and return or raise what it comes to.

    Raises:
        ActivityTimeoutError: A limit has passed. The body may go on, but what it comes to is dropped.
    """
    attempt = _Attempt(body)
    pulse.beat()
    started = pulse.last
    context = contextvars.copy_context()
    threading.Thread(target=lambda: context.run(attempt.run), name=f"py_orchestrate-timed-{name}", daemon=True).start()
    while True:
        due, message = _next_limit(pulse, name, limits, started)
        remaining = due - clock.monotonic()
        if remaining <= 0:
            if attempt.give_up():
                pulse.abandon()
                raise ActivityTimeoutError(message)
            return attempt.outcome()
        if attempt.wait(min(remaining, _LONGEST_WAIT_SECONDS)):  # a test's clock may be turned meanwhile
            return attempt.outcome()


def _next_limit(pulse: Pulse, name: str, limits: Limits, started: float) -> tuple[float, str]:
    """Return the limit that passes first, and what to say then."""
    found = []
    if limits.timeout is not None:
        message = f"activity {name!r} took longer than its timeout of {limits.timeout} s"
        found.append((started + limits.timeout, message))
    if limits.left is not None:
        message = f"activity {name!r} took longer than its total timeout of {limits.total} s"
        found.append((started + limits.left, message))
    if limits.heartbeat is not None:
        message = f"activity {name!r} gave no heartbeat for {limits.heartbeat} s"
        found.append((pulse.last + limits.heartbeat, message))
    return min(found)
