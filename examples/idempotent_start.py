"""How do I make sure that something is started once only?

Give the run an id that says what it is for. A second start with the id returns the run that exists, whether it is
running, done or failed, and whichever process started it.
"""

import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow
from py_orchestrate.errors import WorkflowConflictError


@activity
def charge(order: str, amount: int) -> str:
    print(f"charging {amount} for {order}")
    return "paid"


@workflow
def pay(order: str, amount: int) -> str:
    return charge(order, amount)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "orders.db")) as orchestrator,
    ):
        for _ in range(3):  # a button pressed three times, a message delivered three times
            run = orchestrator.start_workflow(pay, "order-17", 30, workflow_id="pay-order-17")
            print(run.id, run.result())
        try:
            orchestrator.start_workflow(pay, "order-17", 99, workflow_id="pay-order-17")
        except WorkflowConflictError as error:
            print(f"refused: {error}")


if __name__ == "__main__":
    main()
