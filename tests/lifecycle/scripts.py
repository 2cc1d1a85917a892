"""Programs that run a script of their own and say how they ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..children import ROOT, STRICT_PYTHON

DEADLINE_SECONDS = 40

PRELUDE = """
import asyncio, os, signal, sys, threading, time
from py_orchestrate import Orchestrator, activity, durable, workflow
from tests.effects import Effects

folder, options = sys.argv[1], sys.argv[2:]
effects = Effects(folder + "/effects")
path = folder + "/runs.db"


def say(text):
    print(text, flush=True)

"""


class Ended(NamedTuple):
    """How a script ended."""

    code: int
    out: str
    err: str
    seconds: float


class Running:
    """A script that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._since = time.monotonic()

    def hear(self, expected: str) -> None:
        """Wait for the line; from now on count the time that it takes to end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        assert line == expected, self.end()
        self._since = time.monotonic()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)
        self._since = time.monotonic()

    def end(self, line: str = "") -> Ended:
        """Wait for the end, having given the line to it."""
        out, err = self.process.communicate(line, timeout=DEADLINE_SECONDS)
        return Ended(self.process.returncode, out, err, time.monotonic() - self._since)


@contextlib.contextmanager
def script(source: str, folder: Path, *options: object) -> Iterator[Running]:
    """Run the script in a fresh process for as long as the context lasts."""
    process = subprocess.Popen(
        [*STRICT_PYTHON, "-c", PRELUDE + textwrap.dedent(source), str(folder), *map(str, options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            yield Running(process)
        finally:
            process.kill()


def run(source: str, folder: Path, *options: object) -> Ended:
    """Run the script to its end."""
    with script(source, folder, *options) as running:
        return running.end()
