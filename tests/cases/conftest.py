"""What the cases share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from py_orchestrate import activity

from ..breakdown import Breakdown


@pytest.fixture
def hits() -> Counter[str]:
    """Return the count of real runs of activities, by name."""
    return Counter()


@pytest.fixture
def stop(breakdown: Breakdown) -> Callable[[], None]:
    """Return an activity in which the first orchestrator breaks down."""

    @activity
    def stop() -> None:
        breakdown.here()

    return stop
