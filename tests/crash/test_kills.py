"""The kills at every boundary notice what they are there to notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

# The background loop stores nothing here, so that the commits are the same ones however slow the machine is.
ACTIVITY = """
from py_orchestrate._engine.runner import WorkflowRun

WorkflowRun.tend = lambda self: None

@activity
def act(value):
    note(value)
    return value
"""

BROKEN = {
    "an effect of the workflow's own code happens again": """
@workflow
def main():
    first = act(1)
    effects.note("run", 0, 1, "act", "outside of it")
    return first + act(2)
""",
    "a result that is different each time": """
@workflow
def main():
    return [act(1), os.getpid(), act(2)]
""",
    "an effect that a dead process does not make up for": """
@workflow
def main():
    started.append(act(1))
    if len(started) == 1 and effects.count("kill"):
        return 3
    return act(1) + act(2)

started = []
""",
    "a step that only one of two processes makes": """
@workflow
def main():
    if os.path.exists(folder + "/seen"):
        return act(2)
    open(folder + "/seen", "w").close()
    return act(1) + act(2)
""",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_survive_is_noticed(tmp_path: Path, what: str) -> None:
    script = ACTIVITY + BROKEN[what]
    expected = undisturbed(tmp_path / "undisturbed", script)
    with pytest.raises(AssertionError, match="killed after a commit, at"):
        survives_every_kill(tmp_path, script, "after a commit", expected, every=True)


def test_what_survives_passes(tmp_path: Path) -> None:
    script = ACTIVITY + """
@workflow
def main():
    return act(1) + act(2)
"""
    expected = undisturbed(tmp_path / "undisturbed", script)
    assert expected.result == ["done", 3, None]
    assert survives_every_kill(tmp_path, script, "after a commit", expected, every=True) >= 3
