"""How do I know that a change of a workflow fits the runs that are under way?

Save the histories of some runs, and replay them with the new code in a test: ``check_replay`` runs nothing, and raises
where the code makes another call than the history has. ``durable.patched`` is how a change is made to fit.
"""

import json
import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.errors import NonDeterminismError
from py_orchestrate.testing import check_replay


@activity
def reserve(item: str) -> str:
    return f"reserved {item}"


@activity
def insure(item: str) -> str:
    return f"insured {item}"


@activity
def ship(item: str) -> str:
    return f"shipped {item}"


@workflow("order", version="1")
def order(item: str) -> list[str]:
    return [reserve(item), ship(item)]


def careless_order(item: str) -> list[str]:
    return [reserve(item), insure(item), ship(item)]


def careful_order(item: str) -> list[str]:
    done = [reserve(item)]
    if durable.patched("insurance"):
        done.append(insure(item))
    return [*done, ship(item)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Orchestrator(Path(folder, "orders.db")) as orchestrator:
        run = orchestrator.start_workflow(order, "a vase")
        print(run.result())
        saved = Path(folder, "order.json")  # to be kept beside the tests
        saved.write_text(json.dumps(orchestrator.export_history(run.id)), encoding="utf-8")
        print("runs of version 1:", len(orchestrator.list_workflows(version="1")))

        for code in (order, careful_order, careless_order):
            try:
                check_replay(code, saved.read_text(encoding="utf-8"))
                print(code.__name__, "fits")
            except NonDeterminismError as error:
                print(f"{code.__name__} does not: at {error.sequence} it called {error.called}, not {error.recorded}")


if __name__ == "__main__":
    main()
