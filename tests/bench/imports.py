"""What an import adds to a bare interpreter, in pairs: once with the import, once with ``-c pass``, and again."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .processes import Figures, ScriptError, environment


def measure(python: str, statements: Sequence[str], pairs: int, folder: Path) -> Figures:
    """Return the median milliseconds of each statement, once the compiled files are there."""
    for statement in statements:
        _seconds(python, statement, folder)
    differences: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(pairs):
        for statement in statements:
            differences[statement].append(_seconds(python, statement, folder) - _seconds(python, "pass", folder))
    return {statement: statistics.median(values) * 1e3 for statement, values in differences.items()}


def _seconds(python: str, code: str, folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run([python, "-c", code], cwd=folder, env=environment(), capture_output=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise ScriptError(f"the import failed with status {done.returncode}")
    return seconds
