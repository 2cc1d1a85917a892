"""A file, or a folder, that may not be written: a clear error, nothing lost, and it goes on when it may be again.

A process that runs as root may write anything. Here it gives that right up: on Linux, the capabilities that stand for
it, in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PRELUDE = """
import ctypes, logging, os, stat, sys, threading
from pathlib import Path
from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from py_orchestrate.errors import StorageError
from tests.waiting import wait_until

def be_nobody_special():
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface, this process
    sets = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    for index in (0, 1, 2):  # effective, permitted, inheritable
        sets[index] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())

be_nobody_special()
folder = Path(sys.argv[1])
path = folder / "runs.db"
ran = []

@activity
def act(n):
    ran.append(n)
    return n

@workflow
def job():
    return [act(n) for n in range(3)]

def lock(*paths):
    for each in paths:
        each.chmod(0o555 if each.is_dir() else 0o444)

def unlock():
    folder.chmod(0o755)
    for each in folder.iterdir():
        each.chmod(0o755 if each.is_dir() else 0o644)

def refused(action):
    try:
        action()
    except StorageError as error:
        return str(error)
    raise AssertionError("it was not refused")
"""


def run(folder: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, str(folder)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="gives rights up as Linux does it")


def test_a_file_in_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
lock(folder)
text = refused(lambda: Orchestrator(path))
assert "cannot open the database" in text and str(path) in text, text
assert list(folder.iterdir()) == []
unlock()
with Orchestrator(path) as orchestrator:
    assert orchestrator.start_workflow(job).result(10) == [0, 1, 2]
print("done")
""",
    )


def test_a_file_that_may_not_be_written_any_longer(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
manager = SQLiteDatabaseManager(path, journal_mode="DELETE")
orchestrator = Orchestrator(db_manager=manager)
run = orchestrator.start_workflow(job)
manager.close()
lock(path, folder)
text = refused(lambda: orchestrator.start_workflow(job))
assert "cannot" in text and str(path) in text and ("readonly" in text or "unable to open" in text), text
text = refused(orchestrator.start)
assert str(path) in text, text
assert orchestrator.get_workflow_status(run.id)["status"] == "processing"  # what only reads goes on
assert ran == []
unlock()
assert len(orchestrator.list_workflows()) == 1
orchestrator.start()
assert run.result(10) == [0, 1, 2]
assert orchestrator.stop(10)
print("done")
""",
    )


def test_a_folder_that_may_not_be_written_any_longer_while_runs_are_under_way(tmp_path: Path) -> None:
    """With a rollback journal each write makes a file, so that the folder decides."""
    run(
        tmp_path,
        """
logging.basicConfig(filename=sys.argv[1] + ".log", level=logging.WARNING)
log = Path(sys.argv[1] + ".log")
begun, opened = threading.Event(), threading.Event()

@activity
def held():
    ran.append("held")
    begun.set()
    assert opened.wait(30)
    return "held"

@workflow
def long():
    return [act(0), held(), act(1), act(2)]

with Orchestrator(db_manager=SQLiteDatabaseManager(path, journal_mode="DELETE")) as orchestrator:
    run = orchestrator.start_workflow(long)
    assert begun.wait(30)
    lock(folder)
    opened.set()
    wait_until(lambda: "a write is tried again" in log.read_text(), 30)
    assert ran == [0, "held"]
    unlock()
    assert run.result(30) == [0, "held", 1, 2]
assert ran == [0, "held", 1, 2]
print("done")
""",
    )
