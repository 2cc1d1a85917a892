"""The engine's one decision: what the history says about the next call. Pure: no I/O, no threads, no clock.

A step's identity is its ordinal in the workflow. The recorded kind and name are a check: where they differ from the
call, the code no longer is the code that wrote the history, and nothing it computes from here on can be trusted.

Two special cases. A recorded failure at the very end of the history is not replayed but run again, because a recovery
runs again what was interrupted or failed; once the workflow has acted on the failure, it is replayed. That it has shows
in what is recorded behind it; and where nothing is, because what followed has a lower ordinal or no row yet, in the
failure's own state: it is settled. (A failure under a retry policy always is, for its attempts are used up.) And
1.0.2's steps, which have no ordinals (theirs are negative), are matched by name, in their order, wherever no step of
ours is recorded.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..models import ActivityStatus, StepOutcome, StepRecord

_COMPLETED: Final = ActivityStatus.COMPLETED.value
_FAILED: Final = ActivityStatus.FAILED.value
_RUNNING: Final = ActivityStatus.RUNNING.value
_SETTLED: Final = json.dumps({"attempt": 1})
_GOES_ON: Final = (ActivityStatus.WAITING.value, ActivityStatus.RETRYING.value, ActivityStatus.CANCELLED.value)


class Run:
    """The decision to run the call: no usable outcome is recorded."""


class Mismatch(NamedTuple):
    """The decision to fail the workflow: another call is recorded at this place.

    Attributes:
        sequence: The place.
        recorded: What is recorded there.
        called: What the code called; ``None`` when the code ended instead.
    """

    sequence: int
    recorded: str
    called: str | None

    @property
    def message(self) -> str:
        """The whole story, for the error."""
        if self.called is None:
            return (
                f"step {self.sequence}: history has {self.recorded!r}, but the code ended before it; the workflow's "
                "code was changed while this run was under way"
            )
        return (
            f"step {self.sequence}: history has {self.recorded!r}, code called {self.called!r}; the workflow's code "
            "was changed while this run was under way, or it is not deterministic"
        )


RUN: Final = Run()
Decision = StepOutcome | Run | Mismatch


class History:
    """The recorded outcomes of one run, as a replay uses them up.

    Attributes:
        last: The highest ordinal that is recorded; -1 for none.
        has_legacy: Whether 1.0.2 began this run.
    """

    __slots__ = ("_legacy", "_steps", "has_legacy", "last")

    def __init__(self, outcomes: Iterable[StepOutcome] = ()) -> None:
        steps = {outcome.sequence: outcome for outcome in outcomes}
        self._legacy: dict[str, deque[StepOutcome]] = {}
        legacy = sorted(sequence for sequence in steps if sequence < 0)
        self.has_legacy = bool(legacy)
        for sequence in legacy:
            outcome = steps.pop(sequence)
            if outcome.status == _COMPLETED:
                self._legacy.setdefault(outcome.name, deque()).append(outcome)
        self._steps = steps
        self.last = max(steps, default=-1)

    def of_kind(self, kind: str) -> list[StepOutcome]:
        """Return what is recorded of one kind, by sequence."""
        return [self._steps[sequence] for sequence in sorted(self._steps) if self._steps[sequence].kind == kind]

    def kind_at(self, sequence: int) -> str | None:
        """Return what kind of step is recorded at a place; ``None`` for none."""
        step = self._steps.get(sequence)
        return None if step is None else step.kind

    @property
    def last_step(self) -> StepOutcome | None:
        """The recorded step with the highest ordinal."""
        return self._steps.get(self.last)

    @property
    def has_legacy_left(self) -> bool:
        """Whether steps of 1.0.2 are still to be replayed."""
        return any(self._legacy.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is recorded."""
        return not self._steps and not self._legacy

    def decide(self, sequence: int, kind: str, name: str) -> Decision:
        """Return the outcome to replay or to go on from, ``RUN``, or the mismatch, for the call at ``sequence``."""
        step = self._steps.get(sequence)
        if step is None:
            return self._decide_legacy(name) if kind == "activity" else RUN
        if step.name != name or step.kind != kind:
            return Mismatch(sequence, _shown(step.kind, step.name), _shown(kind, name))
        return step if self._counts(step) else RUN

    def _counts(self, step: StepOutcome) -> bool:
        """Return whether what is recorded is replayed, or gone on from."""
        if step.status == _FAILED:
            # The last word, unless nothing shows that the workflow has acted on it.
            return step.kind != "activity" or step.sequence < self.last or step.state is not None
        return (
            step.status == _COMPLETED
            or step.status in _GOES_ON
            or (step.status == _RUNNING and step.state is not None)  # an attempt after the first
        )

    def leftover(self, sequence: int) -> Mismatch | None:
        """Return the mismatch of a code that ended with ``sequence`` calls while more are recorded, if so."""
        if sequence > self.last:
            return None
        step = self._steps[min(recorded for recorded in self._steps if recorded >= sequence)]
        return Mismatch(step.sequence, _shown(step.kind, step.name), None)

    def _decide_legacy(self, name: str) -> Decision:
        waiting = self._legacy.get(name)
        return waiting.popleft() if waiting else RUN


def is_unsettled(step: StepRecord) -> bool:
    """Return whether a step is a failure that is run again where nothing is recorded behind it."""
    return step.kind == "activity" and step.status == _FAILED and step.state is None


def settled(step: StepRecord) -> StepRecord:
    """Return a failed step as one that is replayed, whatever is recorded behind it."""
    return step._replace(state=_SETTLED)


def _shown(kind: str, name: str) -> str:
    return name if kind == "activity" else f"{kind} {name}"
