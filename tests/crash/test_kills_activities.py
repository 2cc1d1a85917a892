"""Activities, one after another and in parallel, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
@activity
def plain(value):
    note()
    return [value, (1, value)]

@activity
def failing(value):
    note()
    raise ValueError(f"no {value}")

@activity
async def later(value):
    note()
    return {value: None}

def caught(call, *args):
    try:
        return call(*args)
    except ValueError as error:
        return f"caught {error}"

@workflow
def main():
    seen = [plain("s"), caught(failing, "a"), plain("b"), later("c")]
    seen += plain.map(["d", "e", "f"])
    futures = [plain.submit("g"), failing.submit("h"), later.submit("i")]
    seen += [plain("j"), *[caught(future.result) for future in futures], caught(failing, "k"), caught(failing, "l")]
    return seen
"""
NAMES = ["plain", "failing", "plain", "later", *["plain"] * 4, "failing", "later", "plain", "failing", "failing"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result[0] == "done"
    assert [step[3] for step in found.steps] == NAMES
    assert sum(found.effects.values()) == len(NAMES)
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, SCRIPT, boundary, expected) >= 10
