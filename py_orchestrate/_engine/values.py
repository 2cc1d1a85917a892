"""Values that would differ in a replay: the time, a random number, how another run stands; and which code it is.

Each is a step, whose value is recorded with the next write: nothing has an effect before that, so a value that a crash
loses has been seen by nobody.

A change of the code is a step too, where the code that has it passes for the first time. Where the history goes on
without that step, it was written by the code before the change, and that is what has to be replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DurableCallError
from ..models import ActivityStatus
from .calls import Call
from .interrupts import InterruptHost, Interrupts
from .journal import Journal

_KIND = "value"
_PATCH = "patch"


class Values:
    """The recorded values of one run, on the workflow's thread."""

    def __init__(self, host: InterruptHost, journal: Journal, interrupts: Interrupts) -> None:
        self._host = host
        self._journal = journal
        self._interrupts = interrupts
        self._changes: dict[str, tuple[bool, str]] = {}

    def record(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the recorded value, or make one and record it."""
        self._interrupts.guard()
        sequence, step = self._journal.next(_KIND, name)
        if step is not None and step.is_final:
            return self._interrupts.replay(step)
        call = Call(sequence, _KIND, name)
        self._interrupts.check(call)
        text, copy = self._host.serializer.encode(make(), what=f"{name}()")
        now = self._host.clock.now()
        self._journal.keep(call.step(ActivityStatus.COMPLETED, now, now, output=text))
        return copy

    def patched(self, change_id: str, place: str) -> bool:
        """Return whether the code after a change is to run; the same for every call of a run with the id.

        Raises:
            DurableCallError: Another place of the code has the id.
        """
        self._interrupts.guard()
        known = self._changes.get(change_id)
        if known is not None:
            if known[1] != place:
                raise DurableCallError(
                    f"the change id {change_id!r} is used at {known[1]} already: give the change at {place} another one"
                )
            return known[0]
        is_new = self._is_patched(change_id)
        self._changes[change_id] = (is_new, place)
        return is_new

    def _is_patched(self, change_id: str) -> bool:
        sequence, history = self._journal.sequence, self._journal.history
        if history.kind_at(sequence) != _PATCH and (sequence <= history.last or history.has_legacy_left):
            return False
        _, step = self._journal.next(_PATCH, change_id)
        if step is None:
            now = self._host.clock.now()
            call = Call(sequence, _PATCH, change_id)
            self._journal.keep(call.step(ActivityStatus.COMPLETED, now, now, output="true"))
        return True
