"""How do I cancel a run, so that it cleans up? How do I pause one?

``run.cancel()`` makes the run's next durable call raise ``WorkflowCancelled``, also the one it waits in. Durable calls
that clean up stand under ``durable.shield()``, which keeps the cancellation out. A paused run leaves its worker at its
next durable call and stays where it is until ``run.resume()``, also over a restart of the program.
"""

import logging
import tempfile
import time
from pathlib import Path

from py_orchestrate import Orchestrator, WorkflowHandle, activity, durable, workflow
from py_orchestrate.errors import WorkflowFailedError


@activity
def rent(machine: str) -> str:
    print(f"renting {machine}")
    return f"contract for {machine}"


@activity
def give_back(contract: str) -> None:
    print(f"ending the {contract}")


@workflow
def use_machine(machine: str) -> str:
    contract = rent(machine)
    try:
        order = durable.wait_for_event("order")
        return f"{machine}: {order}"
    finally:
        with durable.shield():  # or it would not be given back when the run is cancelled
            give_back(contract)


def wait_for_contract(orchestrator: Orchestrator, run: WorkflowHandle) -> None:
    while not any(step["status"] == "completed" for step in orchestrator.get_history(run.id)):
        time.sleep(0.01)


def main() -> None:
    logging.getLogger("py_orchestrate").setLevel(logging.CRITICAL)  # it would log failed runs, with their tracebacks
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "machines.db")) as orchestrator,
    ):
        run = orchestrator.start_workflow(use_machine, "the crane")
        wait_for_contract(orchestrator, run)
        run.cancel()
        try:
            run.result()
        except WorkflowFailedError as error:
            print(error.status, repr(error.__cause__))
        for step in orchestrator.get_history(run.id):
            print(step["sequence"], step["name"], step["status"])

        run = orchestrator.start_workflow(use_machine, "the digger")
        wait_for_contract(orchestrator, run)
        run.pause()
        while run.status()["status"] != "paused":  # one that is just running takes a moment
            time.sleep(0.01)
        run.raise_event("order", "dig here")  # is kept
        print(run.status()["status"])
        run.resume()
        print(run.result())

        # A run may be given a time limit. When it is over, the run is cancelled in the same way, and ends as failed.
        run = orchestrator.start_workflow(use_machine, "the drill", timeout=1)
        print(run.wait()["status"], run.status()["error_message"].partition(" took ")[2])


if __name__ == "__main__":
    main()
