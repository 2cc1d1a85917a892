"""The first of several, and activities on executors, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..programs import Program
from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

CHOICES = """
import contextlib
@activity
def act(value):
    note(value)
    return value

@activity
def after(value):
    wait_until(lambda: os.path.exists(f"{folder}/{value}"), 20)  # until others have come before it
    note(value)
    return value

@activity
def open_gate(value):
    note(value)
    open(f"{folder}/{value}", "w").close()

@workflow
def listens(name):
    return act(durable.wait_for_event(name))

@workflow
def main():
    seen = []
    slow, quick = after.submit("gate"), act.submit("quick")
    winner = durable.wait_any(slow, quick, durable.create_timer(3600))
    seen.append([winner is quick, winner.result()])
    open_gate("gate")
    seen.append(slow.result())
    never, heard = listens.submit("never"), listens.submit("soon")
    waits = [never, durable.expect_event("go"), durable.create_timer(3600), heard]
    order = []
    for future in durable.as_completed(waits):
        order.append([waits.index(future), future.result()])
        if len(order) == 2:
            break
    seen.append(sorted(order))
    try:
        durable.wait_any(never, durable.expect_event("never"), durable.create_timer(0.01)).result()
    finally:
        seen.append(act("last"))
    return seen

def during(orchestrator):
    orchestrator.raise_event("run", "go", "an event", event_id="go")
    wait_until(lambda: orchestrator.get_workflow_status("run-6") or ended(orchestrator), 20)
    if not ended(orchestrator):
        with contextlib.suppress(WorkflowStateError):
            orchestrator.raise_event("run-6", "soon", "a child", event_id="soon")
    wait_until(lambda: ended(orchestrator), 20)
    with contextlib.suppress(WorkflowStateError):
        orchestrator.cancel_workflow("run-5")
    orchestrator.wait_for_workflow("run-5", 20)

def ended(orchestrator):
    return orchestrator.get_workflow_status("run")["status"] == "done"
"""

EXECUTORS = """
from concurrent.futures import ThreadPoolExecutor

threads = ThreadPoolExecutor(2)

def body(value):
    note(value)
    return value

here = activity("here", executor=threads, version="1")(body)
retried = activity("retried", executor=lambda: threads, retry=RetryPolicy(initial_interval=0.01, max_attempts=2))

@retried
def flaky(value):
    note(value)
    if durable.info().attempt == 1:
        raise ConnectionError(value)
    return value

@workflow(version="a")
def main():
    seen = [here("one"), *here.map(["two", "three"]), flaky("four")]
    future = here.submit("five")
    seen.append(flaky.submit("six").result())
    return [*seen, future.result(), durable.info().version]
"""


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", CHOICES)
    assert found.result == [
        "done",
        [[True, "quick"], "gate", [[1, "an event"], [3, "a child"]], "last"],
        None,
    ]
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_first_of_several_is_the_same_after_a_kill(tmp_path: Path, choices: Undisturbed, boundary: str) -> None:
    kills = survives_every_kill(tmp_path, CHOICES, boundary, choices)
    assert kills >= (5 if boundary == "after an effect" else 12)


@pytest.fixture(scope="module")
def executors(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", EXECUTORS)
    assert found.result == ["done", ["one", "two", "three", "four", "six", "five", "a"], None]
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_bodies_on_executors_survive_a_kill(tmp_path: Path, executors: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, EXECUTORS, boundary, executors) >= 8


IN_PROCESSES = """
from tests import executor_bodies

bodies = executor_bodies.declare()

@workflow
def w():
    path = os.path.join(os.environ["FOLDER"], "lines")
    seen = [bodies["append"](path, "one"), *bodies["append"].map([path, path], ["two", "three"])]
    bodies["append"].submit(path, "four").result()
    durable.random()
    crash("between")
    seen.append(bodies["append"](path, "five"))
    return seen

if __name__ == "__main__":
    run("w")
    executor_bodies.close()
"""


def test_what_ran_in_a_process_pool_is_not_run_again(tmp_path: Path) -> None:
    program = Program(tmp_path, IN_PROCESSES)
    assert program.run(crash="between", kill=True).code == -9
    assert program.run().output == ["one", "two", "three", "five"]
    lines = (tmp_path / "lines").read_text(encoding="utf-8").split()
    assert (sorted(lines[1:3]), lines[3:]) == (["three", "two"], ["four", "five"])
