"""Sagas, with a kill at every durable boundary: each compensation counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
@activity
def book(what):
    note(what)
    return {"ticket": what}

@activity(retry=RetryPolicy(max_attempts=3, initial_interval=0.01))
def cancel(ticket):
    note(ticket["ticket"])
    if durable.info().attempt == 1:
        raise ConnectionError("once more")

@activity
def broken(what):
    note(what)
    raise OSError(f"cannot undo {what}")

@workflow
def undo_slowly(what):
    durable.sleep(0.02)
    cancel({"ticket": what})

@activity
def refuse():
    note()
    raise LookupError("no car left")

@workflow
def trip():
    with durable.Saga() as saga:
        saga.add(cancel, book("flight"))
        saga.add(broken, "insurance")
        book("insurance")
        saga.add(undo_slowly, "hotel")
        book("hotel")
        durable.sleep(0.02)
        refuse()

@workflow
def main():
    try:
        trip()
    except CompensationError as error:
        seen = error.failures
    with durable.Saga() as saga:
        saga.add(cancel, {"ticket": "not undone"})
        seen.append(book("last"))
    return seen
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result == ["done", ["broken: OSError: cannot undo insurance", {"ticket": "last"}], None]
    assert [line.split()[3:] for line in found.effects] == [
        ["book", "flight"], ["book", "insurance"], ["book", "hotel"], ["refuse"], ["cancel", "hotel"],
        ["cancel", "hotel"], ["broken", "insurance"], ["cancel", "flight"], ["cancel", "flight"], ["book", "last"],
    ]  # fmt: skip
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, SCRIPT, boundary, expected) >= 9
