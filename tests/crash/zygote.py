"""Processes without the cost of a start: one that has imported everything, and becomes another one for each script.

The script runs in a fork of the zygote, as the main program of a process of its own, which may be killed, and ends as
any Python process ends. One zygote runs one script at a time.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..children import ROOT

_DEADLINE_SECONDS = 60


class Zygote:
    """A process that becomes another one for each script."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        atexit.register(self.close)

    def run(self, script: str, arguments: list[str], out: Path) -> tuple[int, str]:
        """Run the script; return its exit code, negative for a signal, and what it has printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"script": script, "arguments": arguments, "out": str(out), "deadline": _DEADLINE_SECONDS}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the zygote has died"
        return int(answer), out.read_text(encoding="utf-8")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)


_idle: queue.SimpleQueue[Zygote] = queue.SimpleQueue()


def run(script: str, arguments: list[str], out: Path) -> tuple[int, str]:
    """Run the script in a process of its own; see ``Zygote.run``."""
    try:
        zygote = _idle.get_nowait()
    except queue.Empty:
        zygote = Zygote()
    found = zygote.run(script, arguments, out)
    _idle.put(zygote)  # only one that has answered
    return found


def _main() -> None:
    import asyncio
    import sqlite3

    import py_orchestrate
    from py_orchestrate import durable
    from py_orchestrate._engine import event_loop
    from tests import effects, waiting

    del asyncio, sqlite3, py_orchestrate, durable, event_loop, effects, waiting  # they are imported, which is the point
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request)
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Be the script's process from here on."""
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["-c", *request["arguments"]]
    sys.modules["__main__"] = ModuleType("__main__")
    signal.alarm(request["deadline"])  # ends it should it hang, which the zygote could not
    exec(compile(request["script"], "<script>", "exec"), vars(sys.modules["__main__"]))


if __name__ == "__main__":
    _main()
