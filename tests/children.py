"""Other processes: fresh ones that run a script, and forked ones."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from .waiting import wait_until

ROOT = Path(__file__).parent.parent
# As "-X dev", but for asyncio's debugging, which writes of callbacks that took long on a slow machine.
STRICT_PYTHON = [sys.executable, "-X", "faulthandler", "-W", "default"]


class Child:
    """A Python process that takes and gives lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Return the next line; an empty one when the process has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)


@contextlib.contextmanager
def child(script: str, *arguments: object) -> Iterator[Child]:
    """Run the script in a fresh process for as long as the context lasts; its ``sys.argv[1:]`` are the arguments."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with process:
        try:
            yield Child(process)
        finally:
            process.kill()


@contextlib.contextmanager
def forked(action: Callable[[], object]) -> Iterator[int]:
    """Run the action in a forked child; when the context ends, wait for the child and fail if the action raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield pid
        _, status = wait_until(lambda: _ended(pid), timeout=30)
        assert os.waitstatus_to_exitcode(status) == 0, "the forked child failed; its traceback is on standard error"
    except BaseException:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise


def _ended(pid: int) -> tuple[int, int] | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return (found, status) if found else None


def in_fork(action: Callable[[], object]) -> None:
    """Run the action in a forked child and wait for it; fail if it raised."""
    with forked(action):
        pass
