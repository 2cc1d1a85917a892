"""Waiting without a worker: for a time or an event; and what waiting for a child workflow shares with that.

Each wait is a step. Where it is not over, the step is stored as ``waiting``, together with what the run waits for, and
the run leaves its worker; when it is replayed, the step says what was waited for and since when, so that neither a
crash nor a slow start moves a deadline. Nothing is marked as taken in the store: an event is taken by the step that
names its position, so it is taken as durably as the step is stored, and once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, Self

from .._clock import Clock
from .._failures import encode_failure
from .._registry import WorkflowRegistry
from ..errors import EventTimeoutError
from ..models import NEVER, ActivityStatus, EventRecord, StepOutcome
from .calls import Call
from .interrupts import InterruptHost, Interrupts
from .journal import Journal

_COMPLETED = ActivityStatus.COMPLETED.value


class WaitHost(InterruptHost, Protocol):
    """What is needed of the engine around."""

    registry: WorkflowRegistry
    clock: Clock

    def require(self, capability: str, what: str) -> None:
        """Raise ``UnsupportedOperationError`` unless the store has the capability."""
        ...

    def require_waiting(self, what: str) -> None:
        """Raise unless the database can keep runs that wait.

        Raises:
            UnsupportedOperationError: It cannot.
        """
        ...


class WaitPart:
    """What the waits of one run share, on the workflow's thread.

    Attributes:
        host: The engine around.
        journal: The run's journal.
        interrupts: What stops the run's calls.
    """

    def __init__(self, host: WaitHost, journal: Journal, interrupts: Interrupts) -> None:
        self.host = host
        self.journal = journal
        self.interrupts = interrupts

    def next(self, kind: str, name: str) -> tuple[int, StepOutcome | None]:
        """Return the next call's ordinal, and what is recorded of it."""
        self.interrupts.guard()
        return self.journal.next(kind, name)

    def failed(self, call: Call, error: Exception, started_at: datetime) -> StepOutcome:
        """Record that a wait has failed, and return the outcome."""
        failure = encode_failure(error, self.host.serializer)
        step = call.step(ActivityStatus.FAILED, started_at, self.host.clock.now(), failure=failure)
        self.journal.keep(step)
        return step.outcome


class Wait:
    """One wait, as its call stands: what its future waits for; see ``Pending``.

    Attributes:
        call: The call.
        outcome: What it has come to.
    """

    def __init__(self, part: WaitPart, call: Call, step: StepOutcome | None, state: dict[str, Any]) -> None:
        self.call = call
        self.outcome = step if step is not None and step.is_final else None
        self._part = part
        self._state = state
        self._is_recorded = step is not None

    @property
    def journal(self) -> Journal:
        """See ``Pending``."""
        return self._part.journal

    @property
    def sequence(self) -> int:
        """See ``Pending``."""
        return self.call.sequence

    @property
    def wake(self) -> tuple[datetime, str | None]:
        """See ``Pending``."""
        raise NotImplementedError

    @property
    def since(self) -> datetime:
        """When the call was made for the first time."""
        return datetime.fromisoformat(self._state["since"])

    @property
    def delays_cancellation(self) -> bool:
        """See ``Pending``."""
        return False

    def begin(self) -> Self:
        """Record that it is waited for, unless that is recorded."""
        if not self._is_recorded:
            self._is_recorded = True
            self._part.journal.keep(self.call.step(ActivityStatus.WAITING, self.since, None, state=self._state))
        return self

    def look(self) -> bool:
        """See ``Pending``."""
        if self.outcome is None:
            self.outcome = self._end()
        return self.outcome is not None

    def settle(self) -> Any:
        """See ``Pending``."""
        self._part.journal.check_thread()
        if self.outcome is None:
            self._part.interrupts.guard()
            self._part.interrupts.check_wait(self.call)
            if not self.look():
                self.begin()
                self._part.interrupts.suspend(*self.wake)
        assert self.outcome is not None  # noqa: S101 - or the run would have left
        return self._part.interrupts.replay(self.outcome)

    def _end(self) -> StepOutcome | None:
        """Return what the wait has come to, recorded; ``None`` if it is not over."""
        raise NotImplementedError


class Timer(Wait):
    """A wait for a time."""

    @property
    def wake(self) -> tuple[datetime, str | None]:
        """See ``Pending``."""
        return datetime.fromisoformat(self._state["wake_at"]), None

    def _end(self) -> StepOutcome | None:
        now = self._part.host.clock.now()
        if now < self.wake[0]:
            return None
        step = self.call.step(ActivityStatus.COMPLETED, self.since, now, output="null", state=self._state)
        self._part.journal.keep(step)
        return step.outcome


class ExpectedEvent(Wait):
    """A wait for an event."""

    def __init__(self, part: Waits, call: Call, step: StepOutcome | None, state: dict[str, Any]) -> None:
        super().__init__(part, call, step, state)
        self._waits = part

    @property
    def wake(self) -> tuple[datetime, str | None]:
        """See ``Pending``."""
        deadline = self._state["deadline"]
        return NEVER if deadline is None else datetime.fromisoformat(deadline), f"event:{self.call.name}"

    def _end(self) -> StepOutcome | None:
        """Take the oldest event of the name that was not taken yet."""
        now, name, deadline = self._part.host.clock.now(), self.call.name, self.wake[0]
        # What is there before the deadline counts, whatever its sender's clock says; after it, that is all to go by.
        event = self._waits.oldest_event(name, deadline if now >= deadline else None)
        if event is not None:
            state = {**self._state, "event": event.position}
            step = self.call.step(ActivityStatus.COMPLETED, self.since, now, output=event.payload, state=state)
            self._part.interrupts.replay(step.outcome)  # one that cannot be read fails the run before it is taken
            self._part.journal.keep(step)
            self._waits.take(name, event.position)
            return step.outcome
        if now >= deadline:
            timeout = json.loads(self.call.arguments)["timeout"]
            error = EventTimeoutError(f"no event {name!r} was sent within {timeout} s")
            return self._part.failed(self.call, error, self.since)
        return None


class Waits(WaitPart):
    """The timers and the expected events of one run."""

    def __init__(self, host: WaitHost, journal: Journal, interrupts: Interrupts) -> None:
        super().__init__(host, journal, interrupts)
        self._taken: dict[str, int] | None = None

    def timer(self, moment: Callable[[datetime], datetime], arguments: str) -> Timer:
        """Return a timer, for a time that is worked out from now when the call is made for the first time."""
        sequence, step = self.next("timer", "sleep")
        call = Call(sequence, "timer", "sleep", arguments)
        if step is not None:
            return Timer(self, call, step, state_of(step))
        self.interrupts.check(call)
        now = self.host.clock.now()
        return Timer(self, call, None, {"wake_at": moment(now).isoformat(), "since": now.isoformat()})

    def expected_event(
        self, name: str, timeout: float | None, deadline_of: Callable[[datetime], datetime]
    ) -> ExpectedEvent:
        """Return the wait for an event."""
        sequence, step = self.next("event", name)
        call = Call(sequence, "event", name, json.dumps({"timeout": timeout}))
        if step is not None:
            return ExpectedEvent(self, call, step, state_of(step))
        self.interrupts.check(call)
        now = self.host.clock.now()
        deadline = None if timeout is None else deadline_of(now).isoformat()
        return ExpectedEvent(self, call, None, {"deadline": deadline, "since": now.isoformat()})

    def oldest_event(self, name: str, sent_by: datetime | None) -> EventRecord | None:
        """Return the oldest event of the name that was not taken yet, unless it was sent too late."""
        after = self._taken_events().get(name, 0)
        database, workflow_id = self.host.database, self.journal.record.id
        found: list[EventRecord] = self.host.persist(
            lambda: database.load_events(workflow_id, name=name, after=after, limit=1)
        )
        if not found or (sent_by is not None and found[0].sent_at > sent_by):
            return None
        return found[0]

    def take(self, name: str, position: int) -> None:
        """Note that an event was taken."""
        self._taken_events()[name] = position

    def taken_events(self) -> dict[str, int]:
        """Return the position of the last event of each name that was taken, here and before."""
        return dict(self._taken_events())

    def _taken_events(self) -> dict[str, int]:
        if self._taken is None:
            self._taken = {}
            for step in self.journal.history.of_kind("event"):
                if step.status == _COMPLETED:
                    self._taken[step.name] = max(self._taken.get(step.name, 0), state_of(step)["event"])
        return self._taken


def state_of(step: StepOutcome) -> dict[str, Any]:
    """Return what a step has to know beside what it came to."""
    state: dict[str, Any] = json.loads(step.state or "{}")
    return state
