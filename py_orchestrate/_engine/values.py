"""Values that would differ from one replay to the next: the time, a random number, a fresh UUID.

Each is a step, whose value is recorded with the next write: nothing has an effect before that, so a value that a crash
loses has been seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..models import ActivityStatus
from .calls import Call
from .interrupts import InterruptHost, Interrupts
from .journal import Journal

_KIND = "value"


class Values:
    """The recorded values of one run, on the workflow's thread."""

    def __init__(self, host: InterruptHost, journal: Journal, interrupts: Interrupts) -> None:
        self._host = host
        self._journal = journal
        self._interrupts = interrupts

    def record(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the recorded value, or make one and record it."""
        self._interrupts.guard()
        sequence, step = self._journal.next(_KIND, name)
        if step is not None and step.is_final:
            return self._interrupts.replay(step)
        call = Call(sequence, _KIND, name)
        self._interrupts.check(call)
        text, copy = self._host.serializer.encode(make(), what=f"durable.{name}()")
        now = self._host.clock.now()
        self._journal.keep(call.step(ActivityStatus.COMPLETED, now, now, output=text))
        return copy
