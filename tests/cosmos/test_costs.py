"""What a run costs in requests, counted by the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import Orchestrator, activity, workflow

from ..waiting import wait_until
from . import accounts
from .accounts import Account
from .server import CosmosServer

MakeOrchestrator = Callable[..., Orchestrator]
pytestmark = pytest.mark.skipif(accounts.IS_REAL, reason="a real account does not tell its requests")


@pytest.fixture
def quiet(account: Account, orchestrator: MakeOrchestrator) -> Orchestrator:
    """Return an orchestrator that looks, and gives signs of life, only when it is told to."""
    made = orchestrator(account.manager(), poll_interval_seconds=3600, lease_seconds=36000)
    made._engine._recovery.stop()
    return made


@pytest.fixture
def five() -> Any:
    @activity
    def add(total: int) -> int:
        return total + 1

    @workflow
    def five(total: int) -> int:
        for _ in range(5):
            total = add(total)
        return total

    return five


def requests(server: CosmosServer) -> dict[str, int]:
    """Return how many requests of each kind there were since the log was cleared."""
    counts = {"write": 0, "read": 0, "query": 0, "cross-partition query": 0}
    for entry in server.log():
        if entry["query"]:
            counts["cross-partition query" if entry["crossPartition"] else "query"] += 1
        else:
            counts["read" if entry["method"] == "GET" else "write"] += 1
    return counts


def test_a_run_of_five_activities(cosmos_server: CosmosServer, quiet: Orchestrator, five: Any) -> None:
    quiet.start_workflow(five, 0).result(20)
    wait_until(lambda: quiet._engine._busy == 0)
    cosmos_server.clear_log()
    workflow_id = quiet.invoke_workflow("five", total=0)
    wait_until(lambda: quiet._engine._busy == 0)
    wait_until(lambda: workflow_id not in quiet._engine._runs)
    counts = requests(cosmos_server)
    assert counts["write"] <= 7, counts
    assert counts["write"] == 6  # its start, four steps, and the fifth with its end
    assert counts["cross-partition query"] <= 1  # whoever ends a run looks for the next one
    assert counts["query"] == 0
    assert counts["read"] <= 1


def test_a_replay_is_one_query(cosmos_server: CosmosServer, quiet: Orchestrator, five: Any) -> None:
    run = quiet.start_workflow(five, 0)
    run.result(20)
    wait_until(lambda: quiet._engine._busy == 0)
    cosmos_server.clear_log()
    assert [outcome.output for outcome in quiet.db.load_outcomes(run.id)] == ["1", "2", "3", "4", "5"]
    assert requests(cosmos_server) == {"write": 0, "read": 0, "query": 1, "cross-partition query": 0}


def test_an_idle_turn_is_one_query(cosmos_server: CosmosServer, quiet: Orchestrator) -> None:
    cosmos_server.clear_log()
    loop = quiet._engine._recovery
    loop._poll_due = 0
    loop.tick(quiet._engine.clock.monotonic())
    assert requests(cosmos_server) == {"write": 0, "read": 0, "query": 0, "cross-partition query": 1}


def test_a_sign_of_life_is_a_read_a_write_and_a_query(cosmos_server: CosmosServer, quiet: Orchestrator) -> None:
    cosmos_server.clear_log()
    quiet.db.beat_owner(quiet._engine.owner)
    assert requests(cosmos_server) == {"write": 1, "read": 1, "query": 0, "cross-partition query": 1}


def test_a_step_is_sent_without_what_was_there_before(
    cosmos_server: CosmosServer, account: Account, orchestrator: MakeOrchestrator
) -> None:
    """A step's commit changes a few fields of the run; its arguments are not sent again."""

    @activity
    def look(n: int) -> int:
        return n

    @workflow
    def reads(text: str) -> int:
        return sum(look(n) for n in range(3))

    runner = orchestrator(account.manager())
    text = "a long argument " * 1000
    assert runner.start_workflow(reads, text).result(20) == 3
    carrying = [entry for entry in cosmos_server.log() if "a long argument" in entry["body"]]
    assert len(carrying) == 1


def test_payloads_are_not_indexed(account: Account) -> None:
    account.manager()
    policy = account.container("activities").read()["indexingPolicy"]
    assert {"path": "/*"} in policy["excludedPaths"]
    included = {entry["path"] for entry in policy["includedPaths"]}
    assert not included & {f"/{field}/?" for field in ("input", "output", "error", "payload", "state", "custom_status")}
