"""A run that takes its process down at each recovery: it is set aside, and holds nobody up."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from py_orchestrate.db_manager import _crashes
from py_orchestrate.errors import RecoveryLimitError, WorkflowFailedError

from ..children import child
from ..effects import Effects

pytestmark = pytest.mark.crash

LIMIT = 4

SCRIPT = """
import os, signal, sys
from py_orchestrate import Orchestrator, activity, durable, workflow
from tests.effects import Effects

folder, limit = sys.argv[1], int(sys.argv[2])
effects = Effects(folder + "/effects")

@activity
def act(name):
    effects.note(durable.info().workflow_id, name)
    if name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return name

@workflow
def job(poisonous):
    return [act("first"), act("poison" if poisonous else "fine"), act("last")]

with Orchestrator(folder + "/runs.db", max_workers=2, poll_interval_seconds=0.02, max_recoveries=limit) as orchestrator:
    orchestrator.start_workflow(job, True, workflow_id="poison")
    for n in range(10):
        orchestrator.start_workflow(job, False, workflow_id=f"fine-{n}")
    for run in ("poison", *(f"fine-{n}" for n in range(10))):
        orchestrator.wait_for_workflow(run, 30)
print("ended", flush=True)
"""


def test_poison_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    deaths = 0
    while True:
        with child(SCRIPT, tmp_path, LIMIT) as process:
            if process.hear() == "ended":
                assert process.process.wait(timeout=30) == 0
                break
            assert process.process.wait(timeout=30) == -9
        deaths += 1
        assert deaths < 20
    assert deaths == LIMIT + 1  # the first time, and so many recoveries
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        statuses = dict(connection.execute("SELECT id, status FROM workflows").fetchall())
    assert statuses == {"poison": "failed"} | {f"fine-{n}": "done" for n in range(10)}
    with closing(Effects(tmp_path / "effects")) as effects:
        happened = Counter(map(tuple, effects.lines()))
    assert (happened["poison", "first"], happened["poison", "poison"]) == (1, LIMIT + 1)
    assert all(happened[f"fine-{n}", "last"] <= 2 for n in range(10))

    @activity
    def act(name: str) -> str:
        return f"harmless {name}"

    @workflow
    def job(poisonous: bool) -> list[Any]:
        return [act("first"), act("poison" if poisonous else "fine"), act("last")]

    with Orchestrator(tmp_path / "runs.db") as orchestrator:
        run = orchestrator.get_handle("poison")
        # Step 1 is recorded as running where the body took so long to kill that the background loop saw it.
        with pytest.raises(
            WorkflowFailedError, match=r"has died 5 times in a row, in or after step [01] \(act\)"
        ) as caught:
            run.result()
        assert isinstance(caught.value.__cause__, RecoveryLimitError)
        orchestrator.rewind_workflow("poison")
        assert run.result(10) == ["first", "harmless poison", "harmless last"]


@pytest.mark.parametrize(("limit", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("3", TypeError)])
def test_what_is_no_limit_is_refused(tmp_path: Path, limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_recoveries"):
        Orchestrator(tmp_path / "runs.db", max_recoveries=limit)
    assert not list(tmp_path.iterdir())


def test_without_a_limit_it_goes_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_crashes, "_AT_ONCE", 1000)

    @workflow
    def job() -> str:
        return "done"

    database = SQLiteDatabaseManager(tmp_path / "runs.db")
    with Orchestrator(db_manager=database) as orchestrator:
        pass
    handle = Orchestrator(db_manager=database).start_workflow(job)
    for _ in range(50):
        database.register_owner("dies")
        assert database.claim_workflows("dies", ["job"], 1)
        assert database.expire_owner("dies", 0)
    with Orchestrator(db_manager=database, max_recoveries=None) as orchestrator:
        assert orchestrator.get_handle(handle.id).result(10) == "done"
