"""A run has failed. The fault is put right; how does the run go on?

``rewind_workflow`` lets a failed run go on from the step that failed, with the results of the others: what was done is
not done again. ``restart_workflow`` starts a new run with the same arguments, from the beginning or from a step of your
choice, and leaves the old one as it is.
"""

import logging
import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow

PRICES = {"tea": 3}  # plays a table in which somebody has forgotten a line


@activity
def take_order(order: str) -> list[str]:
    print(f"taking {order}")
    return ["tea", "cake"]


@activity
def add_up(items: list[str]) -> int:
    print(f"adding up {items}")
    return sum(PRICES[item] for item in items)


@activity
def send_bill(amount: int) -> str:
    print(f"sending a bill over {amount}")
    return f"billed {amount}"


@workflow
def bill(order: str) -> str:
    items = take_order(order)
    amount = add_up(items)
    return send_bill(amount)


def main() -> None:
    logging.getLogger("py_orchestrate").setLevel(logging.CRITICAL)  # it would log failed runs, with their tracebacks
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "bills.db")) as orchestrator,
    ):
        run = orchestrator.start_workflow(bill, "order 17", workflow_id="bill-17")
        print(run.wait()["status"], [(step["name"], step["status"]) for step in orchestrator.get_history(run.id)])

        PRICES["cake"] = 4
        orchestrator.rewind_workflow("bill-17")
        print(run.result())

        # The cake was cheaper. A new run shares the first step of the old one, and does the rest anew.
        PRICES["cake"] = 2
        corrected = orchestrator.restart_workflow("bill-17", from_step=1, new_workflow_id="bill-17-corrected")
        print(corrected.id, corrected.result())
        print(run.id, run.result())


if __name__ == "__main__":
    main()
