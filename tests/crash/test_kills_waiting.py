"""Timers, events and child workflows, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
@activity
def act(value):
    note(value)
    return (value, 1)

@workflow
def nap(value):
    durable.sleep(0.02)
    return act(value)

@workflow
def fails():
    act("doomed")
    raise ValueError("a child's")

@workflow
def deep(n):
    return deep(n - 1) + 1 if n else len(act("deep"))

@workflow
def main():
    seen = [act("a")]
    began = durable.now()
    seen.append(durable.patched("a change"))
    durable.sleep(0.05)
    seen.append(durable.now() > began)
    try:
        seen.append(durable.wait_for_event("go"))
    finally:
        seen.append(act("b"))
    try:
        durable.wait_for_event("never", timeout=0.02)
    except TimeoutError as error:
        seen.append(str(error))
    seen.append(durable.gather(nap.submit("c"), nap.submit("d"), act.submit("e")))
    seen.append(deep(3))
    try:
        fails()
    except ValueError as error:
        seen.append(f"{error} failure")
    seen += [durable.wait_for_event("go"), durable.wait_for_event("go"), act("f")]
    return seen

def during(orchestrator):
    for n in range(3):
        orchestrator.raise_event("run", "go", (n, "event"), event_id=f"go-{n}")
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result[0] == "done"
    assert len(found.effects) == 8
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    kills = survives_every_kill(tmp_path, SCRIPT, boundary, expected)
    assert kills >= (8 if boundary == "after an effect" else 20)
