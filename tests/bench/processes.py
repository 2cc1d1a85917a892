"""Child processes: how the benchmarks run a script and take its line of figures.

What a script says on stderr goes into a file, as a pipe that nobody reads would stop it. Each is the leader of a
process group of its own, so that nothing of it is left after a kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DRIVERS = Path(__file__).parent / "drivers"
TIMEOUT_SECONDS = 600

Figures = dict[str, Any]


class ScriptError(Exception):
    """A script did not end as it should; the text says so in one line, without the paths of this machine."""


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: compiled files are written, and nothing of this checkout is on its path."""
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONDEVMODE", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, **(variables or {})}


@contextlib.contextmanager
def running(command: Sequence[str | Path], folder: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command whose stderr goes into ``folder``; whatever it is, nothing of it runs afterwards."""
    with (folder / "stderr").open("ab") as errors:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env=environment(options.pop("variables", None)),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children, if there are any."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def figures_of(process: subprocess.Popen[bytes], folder: Path) -> Figures:
    """Wait for a script and return the figures that it printed."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise ScriptError(f"it did not end within {TIMEOUT_SECONDS} seconds") from None
    if process.returncode != 0 or not output.strip():
        raise ScriptError(_what_went_wrong(process.returncode, folder))
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def run(command: Sequence[str | Path], folder: Path, **options: Any) -> Figures:
    """Run a script to its end and return the figures that it printed."""
    with running(command, folder, **options) as process:
        return figures_of(process, folder)


def run_script(name: str, *arguments: object, folder: Path) -> Figures:
    """Run one of ``scripts`` with the Python that runs the benchmarks."""
    return run(script_command(name, *arguments), folder, variables=SCRIPT_VARIABLES)


def script_command(name: str, *arguments: object) -> list[str]:
    """Return the command that runs one of ``scripts``; it needs ``variables=SCRIPT_VARIABLES``."""
    return [sys.executable, str(DRIVERS.parent / "scripts" / f"{name}.py"), *map(str, arguments)]


SCRIPT_VARIABLES = {"PYTHONPATH": str(DRIVERS)}


def _what_went_wrong(status: int, folder: Path) -> str:
    lines = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = re.sub(r"(/[\w.@+-]+){2,}", "...", lines[-1])[:200] if lines else "it said nothing"
    return f"status {status}: {last}"
