"""Opening a Cosmos DB database: the ways in, what is refused, and what 1.0.2 left there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.cosmos import PartitionKey

from py_orchestrate import CosmosDatabaseManager, Orchestrator, activity, workflow
from py_orchestrate.errors import StorageError

from . import accounts
from .accounts import CONTAINERS, Account, await_background_requests
from .server import CosmosServer

MakeOrchestrator = Callable[..., Orchestrator]
on_the_server_only = pytest.mark.skipif(accounts.IS_REAL, reason="what a real account answers is not for us to say")


def test_the_ways_in(account: Account) -> None:
    text = f"AccountEndpoint={account.endpoint}/;AccountKey={account.key};"
    by_text = CosmosDatabaseManager(account.database_id, *CONTAINERS, connection_string=text)
    by_key = CosmosDatabaseManager(account.database_id, *CONTAINERS, endpoint=account.endpoint, credential=account.key)
    by_client = CosmosDatabaseManager(account.database_id, *CONTAINERS, client=account.client(), create=False)
    positional = CosmosDatabaseManager(account.database_id, *CONTAINERS, None, account.endpoint, account.key)
    for manager in (by_text, by_key, by_client, positional):
        assert manager.page_workflows() == []
        assert (manager.workflow_container_id, manager.activity_container_id) == CONTAINERS


def test_without_an_account_it_says_what_to_give() -> None:
    with pytest.raises(ValueError, match="Provide either connection_string or endpoint"):
        CosmosDatabaseManager("database", *CONTAINERS)
    with pytest.raises(ValueError, match="A credential is required"):
        CosmosDatabaseManager("database", *CONTAINERS, endpoint="https://example.com")


def test_what_is_not_there_and_not_to_be_made_is_named(account: Account) -> None:
    with pytest.raises(StorageError, match=r"cannot open the Cosmos DB database .* or pass create=True"):
        account.manager(create=False)
    assert account.database_id not in [database["id"] for database in account.client().list_databases()]


def test_a_container_with_another_partition_key_is_refused(account: Account) -> None:
    database = account.client().create_database(account.database_id)
    database.create_container(CONTAINERS[0], PartitionKey(path="/id"))
    database.create_container(CONTAINERS[1], PartitionKey(path="/name"))
    with pytest.raises(StorageError, match="the container 'activities' is partitioned by /name, not by /workflow_id"):
        account.manager()


@on_the_server_only
def test_a_credential_that_may_not_make_databases_is_told_what_to_do(
    cosmos_server: CosmosServer, account: Account
) -> None:
    """Data-plane roles of Microsoft Entra ID do not cover making databases: 403, substatus 5300."""
    cosmos_server.fail({"method": "POST", "match": "/dbs", "query": False, "status": 403, "substatus": 5300})
    with pytest.raises(StorageError, match="make them first, and pass create=False"):
        account.manager()
    account.manager()
    cosmos_server.fail({"method": "POST", "status": 403, "substatus": 5300, "times": -1})
    with pytest.raises(StorageError, match="the credential lacks a role for data"):
        account.manager(create=False).register_owner("owner")


@on_the_server_only
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # the client trusts this host as it is
def test_a_credential_object_is_handed_on() -> None:
    class Credential:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            return AccessToken("a token", 2**31)

    with CosmosServer(protocol="https") as server:
        manager = CosmosDatabaseManager("test", *CONTAINERS, endpoint=server.endpoint, credential=Credential())
        assert manager.page_workflows() == []
        await_background_requests()  # which end with an error, and late, where the server has gone


def test_an_account_that_is_not_there_is_named() -> None:
    with pytest.raises(StorageError, match="cannot open the Cosmos DB database 'database'"):
        CosmosDatabaseManager("database", *CONTAINERS, endpoint="http://127.0.0.1:1", credential="a2V5")


def test_the_policy_for_a_container_made_by_hand_is_that_of_one_that_is_made(account: Account) -> None:
    account.manager()
    made = account.container("activities").read()["indexingPolicy"]
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "py_orchestrate.db_manager.indexing_policy"],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    policy = json.loads(printed.stdout)
    assert {entry["path"] for entry in made["includedPaths"]} == {entry["path"] for entry in policy["includedPaths"]}
    assert {"path": "/*"} in made["excludedPaths"]


# --- 1.0.2's documents ------------------------------------------------------------------------------------------------


@pytest.fixture
def legacy(account: Account) -> Account:
    """Return an account with what 1.0.2 left: one workflow that is done, one that was killed after two activities."""
    database = account.client().create_database(account.database_id)
    workflows = database.create_container(CONTAINERS[0], PartitionKey(path="/id"))
    activities = database.create_container(CONTAINERS[1], PartitionKey(path="/workflow_id"))
    times = {"created_at": "2024-01-01T09:00:00", "updated_at": "2024-01-01T10:00:00"}  # naive, as 1.0.2 wrote them
    for workflow_id, status, output in (("old-done", "done", {"n": 1.5}), ("old-killed", "processing", None)):
        workflows.create_item({
            "id": workflow_id,
            "name": "report",
            "status": status,
            "input_data": {"source": "database"},
            "output_data": output,
            "current_activity": "fetch",
            "error_message": None,
            **times,
        })  # fmt: skip
    for n, (name, status, output) in enumerate(
        [("fetch", "completed", {"rows": [1, 2]}), ("count", "completed", 2), ("send", "running", None)]
    ):
        activities.create_item({
            "id": f"0000000{n}-legacy",
            "workflow_id": "old-killed",
            "activity_name": name,
            "input_data": {"args": [], "kwargs": {}},
            "output_data": output,
            "status": status,
            "error_message": None,
            "created_at": f"2024-01-01T09:0{n}:00",
            "completed_at": None if status == "running" else f"2024-01-01T09:0{n}:30",
        })  # fmt: skip
    return account


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def report(ran: list[str]) -> Any:
    @activity
    def fetch(source: str) -> Any:
        ran.append("fetch")
        return {"rows": [source]}

    @activity
    def count(rows: list[Any]) -> int:
        ran.append("count")
        return len(rows)

    @activity
    def send(number: int) -> str:
        ran.append("send")
        return f"sent {number}"

    @workflow("report")
    def report(source: str) -> str:
        rows = fetch(source)["rows"]
        return send(count(rows))

    return report


def test_a_workflow_of_1_0_2_goes_on_from_its_results(
    legacy: Account, orchestrator: MakeOrchestrator, report: Any, ran: list[str]
) -> None:
    runner = orchestrator(legacy.manager(), poll_interval_seconds=0.05)
    assert runner.get_handle("old-killed").result(20) == "sent 2"
    assert ran == ["send"]
    done = runner.get_workflow_status("old-done")
    assert done is not None
    assert (done["output"], done["status"]) == ({"n": 1.5}, "done")
    assert datetime.fromisoformat(done["created_at"]).astimezone().isoformat()[:19] == "2024-01-01T09:00:00"
    assert {run["id"] for run in runner.list_workflows("report")} == {"old-done", "old-killed"}


def test_it_is_taken_over_once_and_stays_as_it_is(
    legacy: Account, orchestrator: MakeOrchestrator, report: Any, ran: list[str]
) -> None:
    before = {item["id"]: item for item in legacy.container("workflows").read_all_items()}
    runner = orchestrator(legacy.manager(), poll_interval_seconds=0.05)
    runner.get_handle("old-killed").result(20)
    runner.purge_workflows(0)
    again = legacy.manager()
    assert again.page_workflows() == []
    for item in legacy.container("workflows").read_all_items():
        if item["id"] in before:
            assert {field: item[field] for field in before[item["id"]] if field[0] != "_"} == {
                field: value for field, value in before[item["id"]].items() if field[0] != "_"
            }
