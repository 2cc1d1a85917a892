"""A queue keeps to what a partner's service bears, however many processes hand it work.

Two orchestrators, as in two processes, consume the queue "partner". The partner bears three requests at a time. An
urgent order goes before the others, and an order that is handed in twice is done once.
"""

import tempfile
import threading
import time
from pathlib import Path

from py_orchestrate import Orchestrator, Queue, activity, workflow

lock = threading.Lock()
inside: set[str] = set()
at_once: list[int] = []
served: list[str] = []


@activity
def ask_partner(order: str) -> str:
    with lock:
        inside.add(order)
        at_once.append(len(inside))
        served.append(order)
    time.sleep(0.02)
    with lock:
        inside.remove(order)
    return f"{order} is done"


@workflow
def serve(order: str) -> str:
    return ask_partner(order)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queues.db"
        desk = Orchestrator(path)  # hands work in, and consumes no queue
        runs = [desk.start_workflow(serve, f"order {n}", queue="partner") for n in range(12)]
        urgent = desk.start_workflow(serve, "urgent order", queue="partner", priority=-1)
        again = desk.start_workflow(serve, "order X", queue="partner", deduplication_key="X")
        same = desk.start_workflow(serve, "order X", queue="partner", deduplication_key="X")
        print("the second start of order X found the first:", again.id == same.id)
        print("before anybody consumes it:", desk.list_queues())

        partner = Queue("partner", concurrency=3)
        with Orchestrator(path, queues=[partner]) as one, Orchestrator(path, queues=[partner]):
            print(urgent.result(30))
            for run in [*runs, again]:
                run.result(30)
            print("consumers:", one.list_queues()[0]["consumers"])
        print("served:", len(served), "- most at the same time:", max(at_once))
        print("the urgent one was among the first three:", "urgent order" in served[:3])


if __name__ == "__main__":
    main()
