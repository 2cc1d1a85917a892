"""How do I try an activity again when it fails?

There is no retry policy yet, and a loop does what one would do. Every attempt is a step of the workflow; the failed
ones are recorded too, so after a crash the loop goes on with the attempt that it was at.
"""

import tempfile
import time
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow


@activity
def fetch_price(product: str, attempt: int) -> int:
    print(f"attempt {attempt}: asking for the price of {product}")
    if attempt < 3:  # plays a service that is down at first
        raise ConnectionError("the price service does not answer")
    return 42


@activity
def pause(seconds: float) -> None:
    # In an activity, so that a workflow that is replayed does not wait again.
    time.sleep(seconds)


@workflow
def buy(product: str) -> str:
    attempts = 5
    for attempt in range(1, attempts + 1):
        try:
            price = fetch_price(product, attempt)
            break
        except ConnectionError:
            if attempt == attempts:
                raise
            pause(0.1 * 2**attempt)
    return f"bought {product} for {price}"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "retry.db")) as orchestrator,
    ):
        run = orchestrator.start_workflow(buy, "tea")
        print(run.result())
        print([f"{step['name']}: {step['status']}" for step in orchestrator.get_history(run.id)])


if __name__ == "__main__":
    main()
