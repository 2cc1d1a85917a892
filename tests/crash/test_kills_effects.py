"""Starts of runs and sent events in a workflow's own code, with a kill at every durable boundary: each counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
@activity
def act(value):
    note(value)
    return value

@activity
def broken(value):
    note(value)
    raise ValueError(value)

@workflow
def listener(name):
    return [act(name), durable.wait_for_event("news"), act("heard"), durable.wait_for_event("news")]

@workflow
def main():
    act("first")
    started = orchestrator.start_workflow(listener, "listener")
    orchestrator.raise_event(started.id, "news", 1)
    try:
        broken("no")
    except ValueError as error:
        orchestrator.raise_event(started.id, "news", str(error))
    durable.sleep(0.02)
    return [started.id, started.result()]
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result == ["done", ["run-1", ["listener", 1, "heard", "no"]], None]
    assert [list(step[1:4]) for step in found.steps if step[0] == "run"] == [
        [0, "activity", "act"], [1, "start", "listener"], [2, "send", "news"], [3, "activity", "broken"],
        [4, "send", "news"], [5, "timer", "sleep"],
    ]  # fmt: skip
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, SCRIPT, boundary, expected) >= 3
