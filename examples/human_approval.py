"""How does a workflow wait for a person, or for another system?

``durable.wait_for_event`` waits for what ``raise_event`` sends, with or without a time limit. Waiting needs no thread.
What is sent too early is kept. Here a second thread plays the manager who answers; it could as well be a request in a
web application, or another process with the same database file.
"""

import tempfile
import threading
from pathlib import Path

from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.errors import EventTimeoutError

REQUESTED = threading.Event()  # plays the manager's mailbox


@activity
def ask_manager(name: str, days: int) -> None:
    print(f"to the manager: {name} would like {days} days off")
    REQUESTED.set()


@activity
def book_days(name: str, days: int) -> str:
    return f"{days} days are booked for {name}"


@workflow
def request_leave(name: str, days: int, patience: float) -> str:
    ask_manager(name, days)
    try:
        answer = durable.wait_for_event("answer", timeout=patience)
    except EventTimeoutError:
        return f"nobody answered {name}"
    if not answer["approved"]:
        return f"declined by {answer['by']}"
    return book_days(name, days)


def manager(orchestrator: Orchestrator) -> None:
    REQUESTED.wait()
    # With an id of its own an event may be sent again, by a sender who is not sure, and still arrives once.
    for _ in range(2):
        answer = {"approved": True, "by": "Grace"}
        orchestrator.raise_event("leave-1", "answer", answer, event_id="grace-on-leave-1")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "leave.db")) as orchestrator,
    ):
        thread = threading.Thread(target=manager, args=[orchestrator])
        thread.start()
        run = orchestrator.start_workflow(request_leave, "Ada", 5, patience=60, workflow_id="leave-1")
        print(run.result())
        thread.join()

        run = orchestrator.start_workflow(request_leave, "Alan", 90, patience=0.2)
        print(run.result())


if __name__ == "__main__":
    main()
