"""How do I limit how long an activity takes, and how does a long one end early?

``timeout`` limits one attempt, ``total_timeout`` all of them, ``heartbeat_timeout`` the time between two signs of life.
A thread cannot be ended from outside: when a limit has passed, the workflow goes on with ``ActivityTimeoutError``, and
whatever the activity still returns is dropped. An activity that calls ``durable.heartbeat()`` ends by itself then; so
it does when its workflow is cancelled.
"""

import tempfile
import threading
import time
from pathlib import Path

from py_orchestrate import Orchestrator, RetryPolicy, activity, durable, workflow
from py_orchestrate.errors import ActivityCancelledError, ActivityTimeoutError, WorkflowFailedError

WORKING = threading.Event()


@activity(timeout=0.2)
def ask_slow_service() -> str:
    time.sleep(5)  # plays a request that hangs
    return "too late"


@activity(heartbeat_timeout=0.8, retry=RetryPolicy(max_attempts=2, initial_interval=0.0))
def scan(parts: int) -> str:
    attempt = durable.info().attempt
    for part in range(parts):
        durable.heartbeat()
        time.sleep(0.05)
        if part == 3 and attempt == 1:
            time.sleep(5)  # plays a disk that got stuck: the first attempt gives no sign of life
    return f"{parts} parts at attempt {attempt}"


@activity
def convert(film: str) -> str:
    print(f"converting {film}")
    try:
        while True:
            WORKING.set()
            durable.heartbeat()  # without a heartbeat_timeout it only asks whether to go on
            time.sleep(0.01)
    except ActivityCancelledError:
        print(f"removing what there is of {film}")
        raise


@workflow
def limited() -> str:
    try:
        return ask_slow_service()
    except ActivityTimeoutError as error:
        return str(error)


@workflow
def scan_disk(parts: int) -> str:
    return scan(parts)


@workflow
def make_film(film: str) -> str:
    return convert(film)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "long.db")) as orchestrator,
    ):
        print(orchestrator.start_workflow(limited).result())
        print(orchestrator.start_workflow(scan_disk, 5).result())

        run = orchestrator.start_workflow(make_film, "Metropolis")
        WORKING.wait()
        run.cancel()
        try:
            run.result()
        except WorkflowFailedError as error:
            print(f"the film is {error.status}")


if __name__ == "__main__":
    main()
