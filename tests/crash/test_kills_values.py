"""Recorded values, changes of code and a published status, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
@activity
def act(name, value):
    note(name)
    with open(f"{folder}/seen-{name}", "a") as file:
        file.write(f"{value}\\n")
    return len(set(open(f"{folder}/seen-{name}"))) == 1

@workflow
def main():
    seen = []
    for n in range(3):
        key, moment, number = str(durable.uuid4()), durable.now(), durable.random()
        durable.set_custom_status({"done": n, "of": 3})
        seen.append(act(n, [key, moment, number]))
        if durable.patched("a change"):
            seen.append(act("patched", durable.info().workflow_id))
    durable.sleep(0.01)
    durable.set_custom_status({"done": 3, "of": 3})
    return seen

def during(orchestrator):
    wait_until(lambda: orchestrator.get_workflow_status("run")["status"] == "done", 20)
    assert orchestrator.get_custom_status("run") == {"done": 3, "of": 3}
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result == ["done", [True] * 6, None]
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, SCRIPT, boundary, expected) >= 6
