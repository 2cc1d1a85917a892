"""Waiting for the first of several: which one it was is a step, so that a replay goes the same way.

While one of them is an activity that runs in this process, the run stays on its thread, and looks after the others from
time to time; else it leaves its worker until one of the times has come, or a signal.

A workflow that is cancelled meanwhile first lets the activities end and the child workflows clean up, so that what was
done last is undone first; then the cancellation is what the choice came to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from .._futures import Pending
from ..errors import DurableCallError
from ..models import ANY_SIGNAL, NEVER, ActivityStatus, StepOutcome
from .calls import Call
from .interrupts import InterruptHost, Interrupts
from .journal import Journal
from .rounds import Bell

_KIND = "choice"
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5

type Wake = tuple[datetime, str | None]


class Choices:
    """The choices of one run, on the workflow's thread."""

    def __init__(self, host: InterruptHost, journal: Journal, interrupts: Interrupts, something_ended: Bell) -> None:
        """Prepare; ``something_ended`` rings whenever one of the run's activities has ended."""
        self._host = host
        self._journal = journal
        self._interrupts = interrupts
        self._something_ended = something_ended

    def first(self, candidates: Sequence[Pending | None]) -> int:
        """Return the index of the first candidate that has come to an end; ``None`` stands for one that had before.

        Raises:
            DurableCallError: One belongs to another run.
        """
        for candidate in candidates:
            if candidate is not None and candidate.journal is not self._journal:
                raise DurableCallError("durable.wait_any() was given a future of another run")
        ordinals = [None if each is None else each.sequence for each in candidates]
        index: int = self._record("wait_any", ordinals, lambda call: self._first_ended(call, candidates))
        return index

    def ended(self, candidates: Sequence[Pending]) -> list[int]:
        """Return the ordinals of all the candidates that have come to an end, when one has."""
        ordinals = [each.sequence for each in candidates]
        found: list[int] = self._record("await", ordinals, lambda call: self._all_ended(call, candidates))
        return found

    def _record(self, name: str, ordinals: Sequence[int | None], decide: Callable[[Call], Any]) -> Any:
        self._interrupts.guard()
        sequence, step = self._journal.next(_KIND, name)
        if step is not None and step.is_final:
            return self._replayed(step)
        call = Call(sequence, _KIND, name, json.dumps(ordinals))
        found = decide(call)
        now = self._host.clock.now()
        self._journal.keep(call.step(ActivityStatus.COMPLETED, now, now, output=json.dumps(found)))
        return found

    def _replayed(self, step: StepOutcome) -> Any:
        if step.status == ActivityStatus.COMPLETED.value:
            return json.loads(step.output or "0")
        return self._interrupts.replay(step)

    def _first_ended(self, call: Call, candidates: Sequence[Pending | None]) -> int:
        def look() -> int | None:
            return next((n for n, each in enumerate(candidates) if each is None or each.look()), None)

        found: int = self._wait(call, [each for each in candidates if each is not None], look)
        return found

    def _all_ended(self, call: Call, candidates: Sequence[Pending]) -> list[int]:
        found: list[int] = self._wait(
            call, candidates, lambda: [each.sequence for each in candidates if each.look()] or None
        )
        return found

    def _wait(self, call: Call, candidates: Sequence[Pending], look: Callable[[], Any]) -> Any:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self._something_ended.clear()
            self._interrupts.guard()
            wakes = [each.wake for each in candidates]  # before the look, which finds what ends meanwhile
            waits_for_ends = self._interrupts.is_cancellation_due and any(
                not each.look() and each.delays_cancellation for each in candidates
            )
            if waits_for_ends:
                self._interrupts.cancel_children()
            else:
                self._interrupts.check_wait(call)
                found = look()
                if found is not None:
                    return found
            known = [wake for wake in wakes if wake is not None]
            if len(known) == len(wakes):  # nothing runs
                self._interrupts.suspend(*_first_of(known))
            self._journal.store()  # a child workflow that is not stored would never end
            self._something_ended.wait(self._seconds_to_look(known, pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _seconds_to_look(self, wakes: Sequence[Wake], pause: float) -> float:
        due = min((due for due, _ in wakes), default=NEVER)
        return max(0.0, min(pause, (due - self._host.clock.now()).total_seconds()))


def _first_of(wakes: Sequence[Wake]) -> Wake:
    """Return what wakes a run that waits for the first of these."""
    signals = {signal for _, signal in wakes if signal is not None}
    signal = signals.pop() if len(signals) == 1 else ANY_SIGNAL if signals else None
    return min(due for due, _ in wakes), signal
