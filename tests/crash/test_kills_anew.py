"""A workflow that begins anew, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
@activity
def act(value):
    found = durable.info()
    generation = found.idempotency_key.rpartition(":")[0]
    effects.note(generation, found.sequence, found.attempt, found.name, value)
    reach("after an effect")
    return value

@workflow
def child(n):
    return act(n)

@workflow
def main(n=0, seen=()):
    seen = [*seen, act(n), durable.wait_for_event("go"), child(n)]
    if n < 2:
        durable.continue_as_new(n + 1, seen)
    return seen

def during(orchestrator):
    for n in range(3):
        try:
            orchestrator.raise_event("run", "go", f"event {n}", event_id=f"go-{n}")
        except WorkflowStateError:
            pass
    wait_until(lambda: orchestrator.get_workflow_status("run")["status"] == "done", 20)
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result == ["done", [0, "event 0", 0, 1, "event 1", 1, 2, "event 2", 2], None]
    assert {effect.split()[0] for effect in found.effects} == {
        "run", "run-2", "run-g1", "run-g1-2", "run-g2", "run-g2-2"
    }  # fmt: skip
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, SCRIPT, boundary, expected) >= 6
