"""Signs of life: an orchestrator gives some, and watches those of the others.

A crash on the same machine is noticed at once, by the store. This is for what that cannot see: a machine that is gone,
a process that is paused. An orchestrator that is silent for its lease loses its claims, and others go on with its
runs. When it wakes up it is told: nothing that it then records of them is accepted, for each claim has a higher epoch
than the one before, and it begins anew as another owner.

No clock is compared with another one. Each observer measures, with its own monotonic clock, for how long it has seen
the same count of signs; and of the time between two looks no more than a beat counts, so that an observer that was
itself asleep does not blame the others for it.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from .._clock import Clock
from ..db_manager.base import BaseDatabaseManager
from ..errors import OrchestrateError

_logger = logging.getLogger(__name__)

BEATS_PER_LEASE = 6
_BEATS_MISSED = 4
"""So many in a row end a lease: with the beat before the first and the one after the last, that is within the lease."""


class LeaseHost(Protocol):
    """What is needed of the engine around."""

    database: BaseDatabaseManager
    clock: Clock
    owner: str

    def wake(self) -> None:
        """Look for runs to take up, because one has just become ready."""
        ...

    def renew_owner(self) -> None:
        """Begin anew as another owner: the lease has ended, and the claims are gone."""
        ...

    def sign_off(self) -> None:
        """Give the claims back."""
        ...


class Leases:
    """Beats on a thread of its own, from the start of an orchestrator until the end of its last run."""

    def __init__(self, host: LeaseHost, *, lease_seconds: float) -> None:
        self._host = host
        self._pause = lease_seconds / BEATS_PER_LEASE
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_at = host.clock.monotonic()
        self._stopping = threading.Event()
        self._signs_off = False
        self._thread = threading.Thread(target=self._main, name="py_orchestrate-lease", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, without waiting for it: it may need a lock that the caller holds."""
        self._stopping.set()

    def sign_off(self) -> None:
        """End the thread, and let it give the claims back; on the thread, for an activity may block all writes."""
        self._signs_off = True
        self._stopping.set()

    def join(self, timeout: float = 5.0) -> None:
        """Wait for the thread that was told to end; not for ever, for it may be in the middle of a write."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def beat(self, now: float) -> None:
        """Give a sign of life at the monotonic time ``now``, and let those go whose lease has ended."""
        beats = self._host.database.beat_owner(self._host.owner)
        if self._host.owner not in beats:
            self._host.renew_owner()
        passed, self._looked_at = min(now - self._looked_at, self._pause), now
        seen, self._seen = self._seen, {}
        for owner, count in beats.items():
            last_count, silent = seen.get(owner, (count, -passed))
            silent = silent + passed if count == last_count else 0.0
            self._seen[owner] = (count, silent)
            if silent > self._pause * (_BEATS_MISSED - 0.5) and owner != self._host.owner:
                self._expire(owner, count)

    def _expire(self, owner: str, count: int) -> None:
        if self._host.database.expire_owner(owner, count, now=self._host.clock.now()):
            _logger.warning(
                "orchestrator %s has given no sign of life for %.1f s: others go on with its runs",
                owner,
                self._pause * _BEATS_MISSED,
            )
            self._host.wake()

    def _main(self) -> None:
        while not self._stopping.wait(min(self._pause, threading.TIMEOUT_MAX)):
            try:
                self.beat(self._host.clock.monotonic())
            except OrchestrateError as error:
                _logger.warning("this orchestrator cannot give a sign of life, and tries again: %s", error)
            except Exception:
                _logger.exception("unexpected error while giving a sign of life; it goes on")
        if self._signs_off:
            self._host.sign_off()
