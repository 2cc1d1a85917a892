"""Cancelling, pausing, rewinding and timing out, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

CANCELLED = """
@activity
def act(value):
    note(value)

@workflow
def grandchild():
    try:
        act("grandchild")
        durable.sleep(3600)
    finally:
        with durable.shield():
            act("grandchild undone")

@workflow
def child_():
    try:
        grandchild()
    finally:
        with durable.shield():
            durable.sleep(0.02)
            act("child undone")

@workflow
def forgotten():
    durable.sleep(3600)

@workflow
def main():
    try:
        act("begun")
        forgotten.submit()
        child_()
    except BaseException:
        try:
            act("not shielded")
        except durable.WorkflowCancelled:
            with durable.shield():
                act("undone")
        raise

def during(orchestrator):
    wait_until(lambda: effects.count("run-2-0", 0) or effects.count("run", 3))
    try:
        orchestrator.cancel_workflow("run")
    except WorkflowStateError:
        pass
"""

TIMED_OUT = """
@activity
def act(value):
    note(value)

@workflow
def child_():
    try:
        durable.wait_for_event("never")
    finally:
        with durable.shield():
            act("child undone")

@workflow
def timed():
    try:
        act("begun")
        child_()
    finally:
        with durable.shield():
            act("undone")

@workflow
def main():
    try:
        timed.options(timeout=1)()
    except WorkflowTimeoutError:
        act("after")
        return "timed out"
"""

PAUSED = """
@activity
def act(value):
    note(value)
    return value

@workflow
def main():
    seen = [act("a"), durable.wait_for_event("go"), act("b")]
    durable.sleep(0.05)
    return [*seen, act("c"), durable.wait_for_event("go")]

def during(orchestrator):
    try:
        wait_until(lambda: effects.count("run", 0))
        orchestrator.pause_workflow("run")
        wait_until(lambda: orchestrator.get_workflow_status("run")["status"] != "processing")
        for n in range(2):
            orchestrator.raise_event("run", "go", n, event_id=f"go-{n}")
        orchestrator.resume_workflow("run")
    except WorkflowStateError:
        pass
"""

REWOUND = """
FIXED = os.path.join(folder, "fixed")

@activity
def act(value):
    note(value)
    return value

@activity
def compensate():
    note()

@activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.01))
def fragile(value):
    if not os.path.exists(FIXED):
        raise ValueError(f"{value} fails")
    note(value)
    return value

@workflow
def child_():
    return [act("child's"), fragile("child's own")]

@workflow
def main():
    seen = [act("a")]
    try:
        fragile("handled") if not seen else None
        seen.append(child_())
        seen.append(durable.gather(act.submit("b"), fragile.submit("c"), fragile.submit("d")))
    except ValueError:
        compensate()
        raise
    return seen

def during(orchestrator):
    if orchestrator.wait_for_workflow("run", 20)["status"] == "failed":
        open(FIXED, "w").close()
        try:
            orchestrator.rewind_workflow("run")
        except WorkflowStateError:
            pass
"""

SCRIPTS = {"cancelled": CANCELLED, "timed out": TIMED_OUT, "paused": PAUSED, "rewound": REWOUND}
RESULTS = {
    "cancelled": ["cancelled", None, "WorkflowCancelled: the workflow is cancelled"],
    "timed out": ["done", "timed out", None],
    "paused": ["done", ["a", 0, "b", "c", 1], None],
    "rewound": ["done", ["a", ["child's", "child's own"], ["b", "c", "d"]], None],
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Undisturbed]:
    found = {
        name: undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", script) for name, script in SCRIPTS.items()
    }
    assert {name: each.result for name, each in found.items()} == RESULTS
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("what", SCRIPTS)
def test_a_kill_at_any_boundary_changes_nothing(
    tmp_path: Path, expected: dict[str, Undisturbed], what: str, boundary: str
) -> None:
    is_rewound = what == "rewound"
    assert survives_every_kill(tmp_path, SCRIPTS[what], boundary, expected[what], is_rewound=is_rewound) >= 3
