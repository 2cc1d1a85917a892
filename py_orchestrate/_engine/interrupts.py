"""What makes a durable call stop short: the run waits, is paused, is cancelled, or has run out of its time.

A cancellation is raised at the first call that is not replayed, and recorded there, as what that call came to: so a
replay raises it at the same place. From then on every call raises it again without being recorded, for the code's way
from there is fixed by the history; those under a shield are made as ever. A workflow that runs out of its time is
cancelled in the same way, and ends as failed.

Child workflows that the run has started and not seen the end of are cancelled with it. Where it waits for one, it goes
on waiting until that has ended, so that what was done last is undone first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn, Protocol

from .._clock import Clock
from .._failures import decode_failure, encode_failure
from ..db_manager.base import BaseDatabaseManager
from ..errors import (
    SerializationError,
    WorkflowCancelled,
    WorkflowNotFoundError,
    WorkflowStateError,
    WorkflowTimeoutError,
)
from ..models import ActivityStatus, ControlRequest, StepOutcome
from ..serialization import Serializer
from .calls import Call
from .journal import Journal, JournalHost

# In an async workflow each task has shields of its own.
_shields: ContextVar[int] = ContextVar("py_orchestrate_shields", default=0)


class InterruptHost(JournalHost, Protocol):
    """What is needed of the engine around."""

    database: BaseDatabaseManager
    serializer: Serializer
    clock: Clock

    def notice_request(self, workflow_id: str, request: ControlRequest | None) -> None:
        """Tell a run that is running here what was just requested of it, and look for it if it is not."""
        ...


class Interrupts:
    """Decides whether a call of one run may be made, on the workflow's thread.

    Attributes:
        raised: The cancellation, once it was raised.
        wake_at: When the run is to go on, once it has decided to wait.
        waiting_for: The signal that it then waits for.
        new_input: The arguments to begin anew with, once the run has decided to.
        children: The runs that end with this one, by the ordinals of their calls.
    """

    def __init__(self, host: InterruptHost, journal: Journal) -> None:
        self._host = host
        self._journal = journal
        self.raised: WorkflowCancelled | None = None
        self.waits = False
        self.wake_at: datetime | None = None
        self.waiting_for: str | None = None
        self.new_input: str | None = None
        self.children: dict[int, str] = {}

    # --- before and in a call -----------------------------------------------------------------------------------------

    def guard(self) -> None:
        """Raise unless a call may be made at all.

        Raises:
            WorkflowCancelled: The run is cancelled, and this is not under a shield.
        """
        self._journal.check()
        if self.raised is not None and not self.is_shielded:
            raise _again(self.raised)

    def check(self, call: Call) -> None:
        """Raise if something keeps a call from being made that is not replayed.

        Raises:
            WorkflowCancelled: The run's cancellation is raised here.
            Unwind: The run is paused here.
        """
        # Where steps behind this one are recorded, the code went on from here before: no other way may be taken.
        if call.sequence >= self._journal.history.last:
            self.check_wait(call)
        elif self._journal.request is ControlRequest.PAUSE:
            self.suspend(None)

    def check_wait(self, call: Call) -> None:
        """Raise if something keeps the code from waiting for the end of a call that it has made before.

        Raises:
            WorkflowCancelled: The run's cancellation is raised here.
            Unwind: The run is paused here.
        """
        if self.is_cancellation_due:
            self.cancel(call)
        if self._journal.request is ControlRequest.PAUSE:
            self.suspend(None)

    @property
    def is_shielded(self) -> bool:
        """Whether the code is under a shield."""
        return _shields.get() > 0

    @property
    def is_cancellation_due(self) -> bool:
        """Whether the run is to be cancelled, and may be here."""
        return not self.is_shielded and self.raised is None and self.is_cancellation_wanted

    @property
    def is_cancellation_wanted(self) -> bool:
        """Whether the run is to be cancelled; on any thread."""
        return self._journal.request is ControlRequest.CANCEL or self.is_timed_out

    @property
    def is_timed_out(self) -> bool:
        """Whether the run is out of its time."""
        deadline = self._journal.record.deadline
        return deadline is not None and self._host.clock.now() >= deadline

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Keep the cancellation out."""
        self._journal.check_thread()
        _shields.set(_shields.get() + 1)
        try:
            yield
        finally:
            # No reset(): a coroutine that is closed from outside ends its blocks in another context.
            _shields.set(max(0, _shields.get() - 1))

    # --- stopping -----------------------------------------------------------------------------------------------------

    def cancel(self, call: Call) -> NoReturn:
        """Raise the cancellation, as what the call came to.

        Raises:
            WorkflowCancelled: Always.
        """
        self.cancel_children()
        signal = self.cancellation()
        now = self._host.clock.now()
        failure = encode_failure(signal, self._host.serializer)
        self._journal.keep(call.step(ActivityStatus.CANCELLED, now, now, failure=failure))
        self.raised = signal
        self._journal.raise_failure(signal, call.sequence)

    def cancellation(self) -> WorkflowCancelled:
        """Return the cancellation to raise."""
        record = self._journal.record
        # Whoever cancels a run that nobody holds takes its deadline away; what is out of its time keeps it.
        was_timed_out = record.request is ControlRequest.CANCEL and record.deadline is not None
        if was_timed_out or (self._journal.request is not ControlRequest.CANCEL and self.is_timed_out):
            return WorkflowCancelled("the workflow is out of its time", "timeout")
        return WorkflowCancelled()

    def replay(self, step: StepOutcome, types: Mapping[str, type] | None = None) -> Any:
        """Return, or raise, what is recorded of a call.

        Raises:
            WorkflowCancelled: The cancellation was raised there.
            BaseException: The call failed.
        """
        serializer = self._host.serializer
        if step.status == ActivityStatus.COMPLETED:
            try:
                return serializer.decode(step.output or "null", types=types)
            except SerializationError as error:  # no failure of the call's, which the code might handle
                self._journal.fail(error)
        raised = decode_failure(step.error, None, serializer)
        if step.status == ActivityStatus.CANCELLED:
            raised = self.raised = raised if isinstance(raised, WorkflowCancelled) else WorkflowCancelled()
        return self._journal.raise_failure(raised, step.sequence)

    def cancel_children(self) -> None:
        """Request the cancellation of the child workflows that have not ended."""
        if not self.children:
            return
        self._journal.store()  # they may not be stored yet
        for child_id in list(self.children.values()):
            self.cancel_child(child_id)

    def cancel_child(self, child_id: str) -> None:
        """Request the cancellation of one child workflow, if it has not ended."""
        with contextlib.suppress(WorkflowNotFoundError, WorkflowStateError):
            self._host.persist(lambda: self._host.database.cancel_workflow(child_id))
            self._host.notice_request(child_id, ControlRequest.CANCEL)

    def suspend(self, wake_at: datetime | None, waiting_for: str | None = None) -> NoReturn:
        """Let the run leave its worker, to go on at a time or with a signal.

        Args:
            wake_at: When it goes on; ``NEVER`` where only the signal counts, ``None`` where it may go on at once.
            waiting_for: The signal.

        Raises:
            Unwind: Always.
        """
        deadline = self._journal.record.deadline
        if wake_at is not None and deadline is not None and self.raised is None and not self.is_shielded:
            # One that has passed is being waited out: for a child that is cancelled.
            wake_at = wake_at if self.is_timed_out else min(wake_at, deadline)
        self.waits, self.wake_at, self.waiting_for = True, wake_at, waiting_for
        self._journal.unwind()

    def begin_anew(self, arguments: str) -> NoReturn:
        """Let the run leave its worker, to begin anew.

        Raises:
            Unwind: Always.
        """
        self.new_input = arguments
        self._journal.unwind()

    # --- the run's end ------------------------------------------------------------------------------------------------

    def verdict(self, error: BaseException | None) -> BaseException | None:
        """Return what a cancelled run ends with, given what its code ended with; unchanged for any other."""
        if self.raised is None or not (error is None or isinstance(error, WorkflowCancelled)):
            return error
        if self.raised.reason == "timeout":
            record = self._journal.record
            allowed = (
                "" if record.deadline is None else f" of {(record.deadline - record.created_at).total_seconds()} s"
            )
            timeout = WorkflowTimeoutError(f"workflow {record.id} took longer than its timeout{allowed}")
            timeout.__cause__ = self.raised
            return timeout
        return self.raised


def _again(signal: WorkflowCancelled) -> WorkflowCancelled:
    """Return an equal signal: one that is raised again and again would collect tracebacks."""
    return WorkflowCancelled(str(signal), signal.reason)
