"""What happens when the process is killed?

This program starts itself as a child, kills the child with SIGKILL in the middle of a workflow, and then goes on with
the workflow in its own process. The activity that had finished does not run again, the one that was running does.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow

IS_CHILD = len(sys.argv) > 1


def say(text: str) -> None:
    print(f"{'child' if IS_CHILD else 'parent'}: {text}", flush=True)


@activity
def reserve(trip: str) -> str:
    say(f"reserving {trip}")
    return f"seat 7 to {trip}"


@activity
def pay(seat: str) -> str:
    say(f"paying {seat}")
    while IS_CHILD:  # plays a bank that is slow; the child is killed in here
        time.sleep(0.1)
    return "paid"


@workflow
def book(trip: str) -> str:
    seat = reserve(trip)
    return f"{seat}: {pay(seat)}"


def child(database: str) -> None:
    with Orchestrator(database) as orchestrator:
        orchestrator.start_workflow(book, "Oslo", workflow_id="trip-1").result()


def parent() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = os.fspath(Path(folder, "trips.db"))
        command = [sys.executable, __file__, database]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - it is this file
            for line in process.stdout or ():
                print(line, end="")
                if "paying" in line:
                    process.kill()
        say("the child was killed; starting again")
        with Orchestrator(database) as orchestrator:  # takes up at once what the dead process left
            say(str(orchestrator.get_handle("trip-1").result(timeout=30)))


if __name__ == "__main__":
    if IS_CHILD:
        child(sys.argv[1])
    else:
        parent()
