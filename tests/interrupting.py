"""Interrupts at every line: what Ctrl+C may do to code that the main thread happens to be in."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any


def interrupted_at(line: int, files: Collection[str], action: Callable[[], object]) -> None:
    """Do the action, and raise KeyboardInterrupt at the n-th line of the files that it comes to, if it does."""
    lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        # A "with" is traced between its parts too, where a real interrupt cannot come.
        is_with = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")
        if event == "line" and not is_with:
            lines += 1
            if lines == line:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
