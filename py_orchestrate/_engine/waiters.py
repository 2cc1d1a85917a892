"""Those who wait for runs of one engine to end, on any thread, and what they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..models import WorkflowEnd, WorkflowRecord


class Waiter:
    """One who waits for a run to end.

    Attributes:
        notify: Is called, on any thread, whenever the run ends or leaves here, and when the engine stops.
        record: The run as it is stored, once it has ended here; who has it need not read it.
    """

    __slots__ = ("notify", "record")

    def __init__(self, notify: Callable[[], None]) -> None:
        self.notify = notify
        self.record: WorkflowRecord | None = None


class Waiters:
    """The waiters, by the id of the run; safe on any thread."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[Waiter]] = {}
        self._lock = threading.RLock()

    def add(self, workflow_id: str, notify: Callable[[], None]) -> Waiter:
        """Return somebody new who waits for a run."""
        waiter = Waiter(notify)
        with self._lock:
            self._waiters.setdefault(workflow_id, []).append(waiter)
        return waiter

    def remove(self, workflow_id: str, waiter: Waiter) -> None:
        """Forget somebody who waits no longer."""
        with self._lock:
            self._waiters[workflow_id].remove(waiter)
            if not self._waiters[workflow_id]:
                del self._waiters[workflow_id]

    def rouse(self, workflow_id: str) -> None:
        """Let those who wait for a run look at how it stands."""
        with self._lock:
            for waiter in self._waiters.get(workflow_id, ()):
                waiter.notify()

    def rouse_all(self) -> None:
        """Let all look."""
        with self._lock:
            for workflow_id in self._waiters:
                self.rouse(workflow_id)

    def hand_over(self, record: WorkflowRecord, end: WorkflowEnd) -> None:
        """Let those who wait for a run have its end, which has just been stored."""
        if record.id not in self._waiters:
            return
        ended = record._replace(
            status=end.status,
            output=end.output,
            error=end.error,
            error_message=end.error_message,
            current_activity=end.current_activity,
            custom_status=record.custom_status if end.custom_status is None else end.custom_status,
            updated_at=end.finished_at,
            owner=None,
            request=None,
        )
        with self._lock:
            for waiter in self._waiters.get(record.id, ()):
                waiter.record = ended
                waiter.notify()
