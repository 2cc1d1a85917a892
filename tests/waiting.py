"""Waiting for a condition, instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Callable[[], Any], timeout: float = 10) -> Any:
    """Return the condition's first true result; fail when there is none within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} seconds in vain for {condition}"
        time.sleep(0.002)
    return result
