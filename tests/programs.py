"""Scripts that run a workflow on a real file in a process of their own, die in the middle, and are started again."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from .children import ROOT, STRICT_PYTHON

DEADLINE_SECONDS = 30

_PRELUDE = '''
import json, logging, os, signal, sqlite3, sys, threading, time
from py_orchestrate import Orchestrator, activity, durable, workflow


def mark(name, text="x"):
    """Count a side effect outside of the database."""
    with open(os.path.join(os.environ["FOLDER"], name), "a", encoding="utf-8") as file:
        file.write(f"{text}\\n")


def crash(place="1"):
    """Die on the spot if this is the place where this process is to die."""
    if os.environ.get("CRASH") == place:
        os.kill(os.getpid(), signal.SIGKILL) if os.environ.get("KILL") else os._exit(9)


def completed():
    """Count the steps whose result is stored."""
    with sqlite3.connect(os.path.join(os.environ["FOLDER"], "runs.db")) as connection:
        query = "SELECT count(*) FROM activity_executions WHERE status = 'completed'"
        (count,) = connection.execute(query).fetchone()
    connection.close()
    return count


def run(name, /, **kwargs):
    """Start the run, or take it up, and print how it ends."""
    with Orchestrator(os.path.join(os.environ["FOLDER"], "runs.db")) as orchestrator:
        orchestrator.start_workflow(name, workflow_id="run", **kwargs)
        print(json.dumps(orchestrator.wait_for_workflow("run", 20)))
'''


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def status(self) -> dict[str, Any]:
        """The run's status, as the process printed it."""
        assert self.code == 0, self.err
        return json.loads(self.out.splitlines()[-1])

    @property
    def output(self) -> Any:
        """The run's result."""
        assert self.status["status"] == "done", self.status
        return self.status["output"]


class Program:
    """A script with a workflow ``w``.

    The script may call ``mark(name)`` to count a side effect, ``crash(place)`` where it may have to die, and
    ``run(name, **kwargs)`` if it does not end with ``run("w")``, which is what a script without that call gets.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.source = source

    def run(
        self, *, crash: str | None = None, kill: bool = False, source: str | None = None, importer: str | None = None
    ) -> Ended:
        """Run the script, or a changed one, up to its end or its death at a place.

        Args:
            crash: The place.
            kill: Whether the death is by SIGKILL.
            source: The changed script.
            importer: What is run in place of the script, which it imports as ``script``.
        """
        script = self.folder / "script.py"
        text = textwrap.dedent(self.source if source is None else source)
        ending = "" if "run(" in text or "print(" in text else '\nrun("w")\n'
        script.write_text(_PRELUDE + text + ending, encoding="utf-8")
        if importer is not None:
            script = self.folder / "importer.py"
            script.write_text(importer, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOLDER": str(self.folder)}
        if crash is not None:
            environment |= {"CRASH": crash, "KILL": "1" if kill else ""}
        process = subprocess.run(
            [*STRICT_PYTHON, "-W", "error", str(script)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        return Ended(process.returncode, process.stdout, process.stderr)

    def crash(self, place: str = "1", *, kill: bool = False, importer: str | None = None) -> None:
        """Run the script, or what imports it, up to its death at a place."""
        ended = self.run(crash=place, kill=kill, importer=importer)
        assert ended.code == (-9 if kill else 9), ended

    def recover(self, source: str | None = None, *, importer: str | None = None) -> Ended:
        """Run the script, or a changed one, or what imports it, once more."""
        return self.run(source=source, importer=importer)

    def hits(self, name: str) -> int:
        """Return how often a side effect happened, in all processes."""
        return len(self.lines(name))

    def lines(self, name: str) -> list[str]:
        """Return the texts of a side effect."""
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
