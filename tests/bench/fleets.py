"""Several processes on one file: they are ready before the clock starts, and begin at the same moment."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

from .processes import SCRIPT_VARIABLES, Figures, ScriptError, figures_of, running, script_command

READY_SECONDS = 1.0


def measure(number: int, folder: Path) -> Figures:
    """Return how many workflows a second so many processes end, and the least and the most that one of them ended.

    The end is when the last workflow was stored as done.
    """
    command = script_command("own", "fleet", folder)
    with contextlib.ExitStack() as stack:
        fleet = [
            stack.enter_context(running(command, folder, variables=SCRIPT_VARIABLES, stdin=subprocess.PIPE))
            for _ in range(number)
        ]
        time.sleep(READY_SECONDS)
        started = time.time()
        for process in fleet:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        ended = [figures_of(process, folder)["ended"] for process in fleet]
    with closing(sqlite3.connect(folder / "py_orchestrate.db")) as connection:
        done, last = connection.execute(
            "SELECT count(*), max(updated_at) FROM workflows WHERE status = 'done'"
        ).fetchone()
    if sum(ended) != done:
        raise ScriptError(f"{done} workflows are done, but the processes ended {sum(ended)}")
    seconds = datetime.fromisoformat(last).timestamp() - started
    return {"workflows_per_second": done / seconds, "least": min(ended), "most": max(ended), "done": done}
