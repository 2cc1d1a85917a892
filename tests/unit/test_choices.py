"""Waiting for the first of several, while an activity's attempts end and begin on other threads at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

import pytest

from py_orchestrate._engine.calls import Call
from py_orchestrate._engine.choices import Choices
from py_orchestrate.models import NEVER

DUE = datetime(2030, 1, 1, tzinfo=UTC)


class Suspended(Exception):  # noqa: N818 - no error
    """The run has left its worker."""


class Attempts:
    """A submitted activity that goes on to its next state after so many looks at it, whatever is looked at.

    Its states are ``running``, ``later`` (it waits for another attempt) and ``over``.
    """

    sequence = 0

    def __init__(self, states: tuple[str, ...], changes: tuple[int, ...]) -> None:
        self._states = states
        self._changes = changes
        self._looks = 0

    @property
    def state(self) -> str:
        return self._states[sum(self._looks >= change for change in self._changes)]

    def go_on(self) -> str:
        state = self.state
        self._looks += 1
        return state

    @property
    def wake(self) -> tuple[datetime, None] | None:
        state = self.go_on()
        return None if state == "running" else (DUE if state == "later" else NEVER, None)

    def look(self) -> bool:
        return self.go_on() == "over"


def journeys() -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    for states in (
        ("running", "over"),
        ("running", "later", "running", "over"),
        ("later", "running", "over"),
        ("later", "running", "later", "running", "over"),
    ):
        for changes in combinations(range(1, 9), len(states) - 1):
            yield states, changes


@pytest.mark.parametrize(("states", "changes"), list(journeys()))
def test_no_end_is_missed(states: tuple[str, ...], changes: tuple[int, ...]) -> None:
    """A run that leaves its worker goes on again: at the next attempt, or at once if that has begun meanwhile."""
    attempts = Attempts(states, changes)

    def suspend(wake_at: datetime, _waiting_for: str | None = None) -> None:
        # The run's end waits for what runs, and then goes on when the next attempt is due, if it is waited for.
        assert attempts.state == "later" or wake_at == DUE
        raise Suspended

    nothing: Any = lambda *_: None  # noqa: E731
    interrupts = SimpleNamespace(guard=nothing, is_cancellation_due=False, check_wait=nothing, suspend=suspend)
    bell = SimpleNamespace(clear=nothing, wait=lambda _: attempts.go_on())
    host = SimpleNamespace(clock=SimpleNamespace(now=lambda: DUE))
    choices = Choices(
        cast("Any", host), cast("Any", SimpleNamespace(store=nothing)), cast("Any", interrupts), cast("Any", bell)
    )
    try:
        found = choices._first_ended(Call(1, "choice", "wait_any"), [cast("Any", attempts)])
    except Suspended:
        return
    assert (found, attempts.state) == (0, "over")
