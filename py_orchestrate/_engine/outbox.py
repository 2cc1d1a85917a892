"""What submitted activities come to, on its way into the store.

The threads of a run's submitted activities share their writes. One that has an outcome while another one is storing
leaves it there and goes on to the next activity; the one that stores takes all that have come meanwhile, in one write,
until there are none. So threads neither wait for each other's writes nor have to be woken after them, which beside a
busy interpreter takes longer than most activities' own work.

Guarantees:

* An outcome is durable when its ``conclude`` is called without an error.
* No more outcomes than the limit wait for a write, and so no more share one; who has one more waits for room. With the
  number of threads as the limit, a crash lets three times as many activities run again at the most: those that are
  being written, those that wait for it, and those that run or wait for room.
* A record that cannot be stored harms no other: the batch is then stored one by one.
* What is large is stored by itself, and nobody waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .._context import Unwind
from ..models import StepRecord

LARGEST = 4096
"""Up to how many characters of payload an outcome shares a write."""


class _Waiting(NamedTuple):
    """An outcome that is to be stored, and what is called with the error, or ``None``, when that has been tried."""

    record: StepRecord
    conclude: Callable[[BaseException | None], object]


class Outbox:
    """The outcomes of one run's submitted activities that are not durable yet."""

    def __init__(self, store: Callable[[Sequence[StepRecord]], object], limit: int) -> None:
        """Prepare.

        Args:
            store: Makes records durable; called on the threads that ``put`` is called on, by one at a time, but for
                large ones.
            limit: How many outcomes may wait.
        """
        self._store = store
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._is_storing = False
        self._blocked: list[threading.Lock] = []

    def put(self, record: StepRecord, conclude: Callable[[BaseException | None], object]) -> None:
        """Store a record, or leave it to the thread that is storing.

        Args:
            record: The outcome.
            conclude: Is called when that has been tried, on some thread, with the error if it has failed.
        """
        item = _Waiting(record, conclude)
        if len(record.input or "") + len(record.output or "") + len(record.error or "") > LARGEST:
            self._settle([item])
            return
        while not self._add(item):
            pass
        self._work()

    def _add(self, item: _Waiting) -> bool:
        """Let an outcome wait; where there is no room, wait for some, and return false."""
        with self._lock:
            if len(self._waiting) < self._limit:
                self._waiting.append(item)
                return True
            room = threading.Lock()
            room.acquire()
            self._blocked.append(room)
        with room:
            return False

    def _work(self) -> None:
        """Store what waits, until there is nothing, unless somebody does."""
        while True:
            with self._lock:
                if self._is_storing or not self._waiting:
                    return
                self._is_storing = True
                batch, self._waiting = self._waiting, []
                blocked, self._blocked = self._blocked, []
            for room in blocked:
                room.release()
            try:
                self._settle(batch)
            finally:
                with self._lock:
                    self._is_storing = False

    def _settle(self, batch: Sequence[_Waiting]) -> None:
        error: BaseException | None = None
        try:
            self._store([item.record for item in batch])
        except BaseException as raised:  # noqa: BLE001 - raised where the round is waited for
            if len(batch) > 1 and not isinstance(raised, Unwind):
                for item in batch:
                    self._settle([item])
                return
            error = raised
        for item in batch:
            item.conclude(error)
