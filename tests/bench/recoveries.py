"""The recovery: workflows are started, their process is killed half-way, and another one takes them up.

Each activity appends a line with its workflow and its step to the file of effects. The lines, and when they were
written, are what counts, whatever a library says of itself.
"""

from __future__ import annotations

import time
from pathlib import Path

from .drivers.common import RECOVERY_STEPS, RECOVERY_WORKFLOWS
from .peers import Library
from .processes import Figures, ScriptError, figures_of, kill, running

KILL_AT = RECOVERY_WORKFLOWS * RECOVERY_STEPS // 2
START_SECONDS = 120
LIMIT_SECONDS = 180


def measure(library: Library, folder: Path) -> Figures:
    """Return the times of the second process, from its start on, and what became of the activities."""
    effects = folder / "effects"
    with running(library.command("recovery-first", folder), folder) as first:
        deadline = time.monotonic() + START_SECONDS
        while _lines(effects) < KILL_AT:
            if time.monotonic() > deadline or first.poll() is not None:
                raise ScriptError("the first process did not come half-way")
            time.sleep(0.005)
        kill(first)
    size = effects.stat().st_size
    started, clock = time.monotonic(), time.time()
    with running(library.command("recovery-second", folder, "--limit", LIMIT_SECONDS), folder) as second:
        while effects.stat().st_size == size and second.poll() is None:
            time.sleep(0.001)
        first_seconds = time.monotonic() - started
        done = figures_of(second, folder)["done"]
    all_seconds = effects.stat().st_mtime - clock
    if effects.stat().st_size == size:
        raise ScriptError("nothing was resumed")
    lines = effects.read_text(encoding="ascii").splitlines()
    figures = {"first_seconds": first_seconds, "all_seconds": all_seconds, "done": done}
    missing = RECOVERY_WORKFLOWS * RECOVERY_STEPS - len(set(lines))
    return figures | {"missing": missing, "repeated": len(lines) - len(set(lines))}


def _lines(effects: Path) -> int:
    try:
        return effects.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
