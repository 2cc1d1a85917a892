"""The test server answers as Microsoft's documentation says; each test names the page.

What is shown here is that the server agrees with our reading of these pages, through Microsoft's client as it is. None
of this has been run against Azure.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from ..children import child
from ..waiting import wait_until
from . import server as server_module
from .accounts import closing
from .server import CosmosServer, install

UNMODIFIED = MatchConditions.IfNotModified
MEGABYTE = 1024 * 1024


def connect(server: CosmosServer, **options: Any) -> CosmosClient:
    return CosmosClient(server.endpoint, server.key, enable_endpoint_discovery=False, **options)


def new_container(client: CosmosClient, **options: Any) -> ContainerProxy:
    database = client.create_database(f"test-{uuid.uuid4().hex}")
    return database.create_container("items", PartitionKey("/pk"), **options)


@pytest.fixture(scope="module")
def client(cosmos_server: CosmosServer) -> Iterator[CosmosClient]:
    with closing(connect(cosmos_server)) as made:
        yield made


@pytest.fixture
def container(client: CosmosClient, cosmos_server: CosmosServer) -> ContainerProxy:
    """Return an empty container in a database of its own, and an empty log."""
    made = new_container(client, default_ttl=-1)
    made.read()  # the client reads it once, to know its partition key
    cosmos_server.clear_log()
    return made


def ids(container: ContainerProxy, query: str = "SELECT * FROM c", **options: Any) -> list[str]:
    if "partition_key" not in options:
        options["enable_cross_partition_query"] = True
    return [item["id"] for item in container.query_items(query, **options)]


def refused(action: Any, *arguments: Any, **options: Any) -> int:
    with pytest.raises(HttpResponseError) as caught:  # the error of a batch is no CosmosHttpResponseError
        action(*arguments, **options)
    return caught.value.status_code


# ---------------------------------------------------------------------------------------------------- reading, writing


def test_a_missing_item_is_404(container: ContainerProxy) -> None:
    """HTTP status codes for Azure Cosmos DB."""
    container.create_item({"id": "a", "pk": "p"})
    for item, partition in (("b", "p"), ("a", "q")):
        with pytest.raises(CosmosResourceNotFoundError):
            container.read_item(item, partition)
        with pytest.raises(CosmosResourceNotFoundError):
            container.replace_item(item, {"id": item, "pk": partition})
        with pytest.raises(CosmosResourceNotFoundError):
            container.delete_item(item, partition)
        with pytest.raises(CosmosResourceNotFoundError):
            container.patch_item(item, partition, [{"op": "set", "path": "/n", "value": 1}])


def test_an_item_of_a_missing_container_is_404(client: CosmosClient) -> None:
    """HTTP status codes for Azure Cosmos DB."""
    missing = client.create_database(f"test-{uuid.uuid4().hex}").get_container_client("missing")
    with pytest.raises(CosmosResourceNotFoundError):
        missing.read_item("a", "p")


def test_ids_are_unique_in_a_partition(container: ContainerProxy) -> None:
    """Partitioning and horizontal scaling: the partition key and the id together identify an item."""
    container.create_item({"id": "a", "pk": "p", "n": 1})
    container.create_item({"id": "a", "pk": "q", "n": 2})
    with pytest.raises(CosmosResourceExistsError):
        container.create_item({"id": "a", "pk": "p"})
    assert [container.read_item("a", partition)["n"] for partition in "pq"] == [1, 2]


@pytest.mark.parametrize("partition", ["", 0, False, "ü%+ /:?"])
def test_any_string_number_or_boolean_is_a_partition_key(container: ContainerProxy, partition: Any) -> None:
    """Partitioning and horizontal scaling."""
    for n in (1, 2):
        container.upsert_item({"id": "a", "pk": partition, "n": n})
    assert container.read_item("a", partition)["n"] == 2
    assert ids(container, partition_key=partition) == ["a"]


def test_databases_are_apart(client: CosmosClient) -> None:
    first, second = new_container(client), new_container(client)
    first.create_item({"id": "a", "pk": "p"})
    assert ids(first) == ["a"]
    assert ids(second) == []


def test_a_write_without_a_body_in_the_answer(container: ContainerProxy) -> None:
    """Common Azure Cosmos DB REST request headers: Prefer."""
    answer = container.create_item({"id": "a", "pk": "p"}, no_response=True)
    assert dict(answer) == {}
    assert answer.get_response_headers()["etag"] == container.read_item("a", "p")["_etag"]


def test_a_containers_settings_can_be_replaced(client: CosmosClient) -> None:
    """Manage indexing policies in Azure Cosmos DB: the items stay."""
    database = client.create_database(f"test-{uuid.uuid4().hex}")
    container = database.create_container("items", PartitionKey("/pk"))
    container.create_item({"id": "a", "pk": "p"})
    container.create_item({"id": "b", "pk": "p", "ttl": 100})
    database.replace_container(container, PartitionKey("/pk"), default_ttl=-1)
    assert container.read()["defaultTtl"] == -1
    assert ids(container, partition_key="p") == ["a", "b"]
    container.upsert_item({"id": "c", "pk": "p"})
    assert ids(container, partition_key="p") == ["a", "b", "c"]


# ---------------------------------------------------------------------------------------------- optimistic concurrency


def test_an_etag_guards_replace_patch_delete_upsert_and_batch(container: ContainerProxy) -> None:
    """Database transactions and optimistic concurrency control."""
    old = container.create_item({"id": "a", "pk": "p", "n": 0})["_etag"]
    new = container.replace_item("a", {"id": "a", "pk": "p", "n": 1})["_etag"]
    assert old != new
    patch = [{"op": "set", "path": "/n", "value": 9}]
    item = {"id": "a", "pk": "p", "n": 9}
    stale = {"etag": old, "match_condition": UNMODIFIED}
    for write in (
        lambda: container.replace_item("a", item, **stale),
        lambda: container.patch_item("a", "p", patch, **stale),
        lambda: container.delete_item("a", "p", **stale),
        lambda: container.upsert_item(item, **stale),
    ):
        with pytest.raises(CosmosAccessConditionFailedError):
            write()
    for operation in (
        ("replace", ("a", item), {"if_match_etag": old}),
        ("patch", ("a", patch), {"if_match_etag": old}),
        ("delete", ("a",), {"if_match_etag": old}),
        ("upsert", (item,), {"if_match_etag": old}),
    ):
        assert refused(container.execute_item_batch, [operation], "p") == 412
    assert container.read_item("a", "p")["n"] == 1

    newer = container.patch_item("a", "p", patch, etag=new, match_condition=UNMODIFIED)["_etag"]
    container.delete_item("a", "p", etag=newer, match_condition=UNMODIFIED)
    assert ids(container) == []


def test_any_version_that_is_there(container: ContainerProxy) -> None:
    """Database transactions and optimistic concurrency control: If-Match with "*"."""
    item = {"id": "a", "pk": "p"}
    there = {"match_condition": MatchConditions.IfPresent}
    with pytest.raises(CosmosResourceNotFoundError):
        container.replace_item("a", item, **there)
    container.create_item(item)
    container.replace_item("a", item, **there)


def test_a_version_that_is_known_is_not_read_again(container: ContainerProxy) -> None:
    """Get a document (REST): 304, which the client gives as an item without anything."""
    etag = container.create_item({"id": "a", "pk": "p"})["_etag"]
    changed = {"etag": etag, "match_condition": MatchConditions.IfModified}
    assert dict(container.read_item("a", "p", **changed)) == {}
    container.upsert_item({"id": "a", "pk": "p"})
    assert container.read_item("a", "p", **changed)["id"] == "a"


def test_an_etag_is_quoted(container: ContainerProxy) -> None:
    """Database transactions and optimistic concurrency control: the _etag is an HTTP ETag."""
    etag = container.create_item({"id": "a", "pk": "p"})["_etag"]
    assert etag[0] == etag[-1] == '"'
    assert container.read_item("a", "p")["_etag"] == etag


def test_of_writers_with_the_same_etag_one_wins(container: ContainerProxy) -> None:
    """Database transactions and optimistic concurrency control."""
    etag = container.create_item({"id": "a", "pk": "p"})["_etag"]
    outcomes: list[int] = []

    def write(n: int) -> None:
        try:
            container.replace_item("a", {"id": "a", "pk": "p", "n": n}, etag=etag, match_condition=UNMODIFIED)
            outcomes.append(200)
        except CosmosHttpResponseError as error:
            outcomes.append(error.status_code)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [200] + [412] * 7


# --------------------------------------------------------------------------------------------------------------- batch


def statuses(caught: pytest.ExceptionInfo[CosmosBatchOperationError]) -> list[int]:
    return [response["statusCode"] for response in caught.value.operation_responses]


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        (("create", ({"id": "there", "pk": "p"},)), 409),
        (("replace", ("there", {"id": "there", "pk": "p"}), {"if_match_etag": "stale"}), 412),
        (
            (
                "patch",
                ("there", [{"op": "incr", "path": "/n", "value": 1}]),
                {"filter_predicate": "from c where c.n>7"},
            ),
            412,
        ),
        (("read", ("missing",)), 404),
        (("delete", ("missing",)), 404),
    ],
)
def test_a_batch_happens_as_a_whole_or_not_at_all(container: ContainerProxy, failing: Any, status: int) -> None:
    """Transactional batch operations: the failed operation has its own status, the others 424."""
    there = container.create_item({"id": "there", "pk": "p", "n": 1})
    gone = container.create_item({"id": "gone", "pk": "p", "n": 1})
    batch = [
        ("create", ({"id": "new", "pk": "p"},)),
        ("upsert", ({"id": "newer", "pk": "p"},)),
        ("patch", ("there", [{"op": "incr", "path": "/n", "value": 1}])),
        ("delete", ("gone",)),
        failing,
        ("create", ({"id": "never", "pk": "p"},)),
    ]
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch(batch, "p")
    assert caught.value.status_code == status
    assert caught.value.error_index == 4
    assert statuses(caught) == [424] * 4 + [status, 424]
    assert container.read_item("there", "p") == there
    assert container.read_item("gone", "p") == gone
    assert ids(container, partition_key="p") == ["there", "gone"]


def test_a_batch_answers_with_each_operations_result(container: ContainerProxy) -> None:
    """Transactional batch operations."""
    etag = container.create_item({"id": "a", "pk": "p", "n": 1})["_etag"]
    results = container.execute_item_batch(
        [
            ("patch", ("a", [{"op": "incr", "path": "/n", "value": 1}]), {"if_match_etag": etag}),
            ("read", ("a",)),
            ("create", ({"id": "b", "pk": "p"},)),
            ("upsert", ({"id": "b", "pk": "p", "n": 2},)),
            ("replace", ("b", {"id": "b", "pk": "p", "n": 3})),
            ("delete", ("a",)),
        ],
        "p",
    )
    assert [result["statusCode"] for result in results] == [200, 200, 201, 200, 200, 204]
    assert results[1]["resourceBody"]["n"] == 2
    assert results[4]["eTag"] == container.read_item("b", "p")["_etag"]
    assert ids(container) == ["b"]


def test_a_batch_has_at_most_100_operations(container: ContainerProxy) -> None:
    """Transactional batch operations: limitations."""
    batch = [("create", ({"id": str(n), "pk": "p"},)) for n in range(101)]
    assert refused(container.execute_item_batch, batch, "p") == 400
    assert ids(container) == []
    container.execute_item_batch(batch[:100], "p")
    assert len(ids(container)) == 100


def test_a_batch_has_at_most_2_megabytes(container: ContainerProxy) -> None:
    """Transactional batch operations: limitations."""
    batch = [("create", ({"id": str(n), "pk": "p", "text": "x" * MEGABYTE},)) for n in range(2)]
    assert refused(container.execute_item_batch, batch, "p") == 413
    assert ids(container) == []


def test_a_batch_stays_in_its_partition(container: ContainerProxy) -> None:
    """Transactional batch operations: they work on one logical partition."""
    container.create_item({"id": "other", "pk": "q"})
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch([("create", ({"id": n, "pk": n},)) for n in ("p", "q")], "p")
    assert statuses(caught) == [424, 400]
    assert refused(container.execute_item_batch, [("delete", ("other",))], "p") == 404
    assert ids(container) == ["other"]


# --------------------------------------------------------------------------------------------------------------- patch


def test_a_filter_predicate_is_taken_as_it_is_written(container: ContainerProxy) -> None:
    """Partial document update: conditional patch."""
    container.create_item({"id": "a", "pk": "p", "leaseOwner": "Worker A", "n": 0})
    increment = [{"op": "incr", "path": "/n", "value": 1}]
    met = "from c where c.leaseOwner = 'Worker A'"
    assert container.patch_item("a", "p", increment, filter_predicate=met)["n"] == 1
    with pytest.raises(CosmosAccessConditionFailedError):
        container.patch_item("a", "p", increment, filter_predicate="from c where c.leaseOwner = 'worker a'")
    with pytest.raises(CosmosAccessConditionFailedError):
        container.patch_item("a", "p", increment, filter_predicate="from c where c.leaseowner = 'Worker A'")
    assert refused(container.patch_item, "a", "p", increment, filter_predicate="from c where (") == 400
    assert container.read_item("a", "p")["n"] == 1


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "set", "path": "/n", "value": n} for n in range(11)],
        [{"op": "set", "path": "/pk", "value": "q"}],
        [{"op": "set", "path": "/id", "value": "b"}],
        [{"op": "set", "path": "/_etag", "value": "x"}],
        [{"op": "replace", "path": "/missing", "value": 1}],
        [{"op": "set", "path": "/n", "value": 1}, {"op": "remove", "path": "/missing"}],
    ],
)
def test_a_patch_that_is_refused(container: ContainerProxy, operations: Any) -> None:
    """Partial document update: supported operations, limitations."""
    item = container.create_item({"id": "a", "pk": "p", "n": 0})
    assert refused(container.patch_item, "a", "p", operations) == 400
    assert container.read_item("a", "p") == item


def test_a_patch_cannot_make_an_item_too_large(container: ContainerProxy) -> None:
    """Concepts: limits."""
    item = container.create_item({"id": "a", "pk": "p", "text": "x" * MEGABYTE})
    add = [{"op": "add", "path": "/more", "value": "x" * MEGABYTE}]
    assert refused(container.patch_item, "a", "p", add) == 413
    assert container.read_item("a", "p") == item


# --------------------------------------------------------------------------------------------------------------- query


def test_a_query_with_a_partition_key_sees_its_partition(container: ContainerProxy) -> None:
    """Query an Azure Cosmos DB container: in-partition query."""
    for partition in "pq":
        container.create_item({"id": f"{partition}1", "pk": partition})
        container.create_item({"id": f"{partition}2", "pk": partition})
    assert ids(container, partition_key="p") == ["p1", "p2"]
    assert ids(container) == ["p1", "p2", "q1", "q2"]
    assert list(container.query_items("SELECT VALUE COUNT(1) FROM c", partition_key="q")) == [2]
    assert len(list(container.read_all_items())) == 4


def test_a_query_of_all_partitions_has_to_say_so(container: ContainerProxy) -> None:
    """Query an Azure Cosmos DB container: cross-partition query."""
    with pytest.raises(CosmosHttpResponseError) as caught:
        list(container.query_items("SELECT * FROM c"))
    assert caught.value.status_code == 400


def test_pages_continue_where_they_ended(container: ContainerProxy) -> None:
    """Pagination in Azure Cosmos DB."""
    for n in range(5):
        container.create_item({"id": f"{n}", "pk": "p", "n": -n})
        container.create_item({"id": f"{n}", "pk": "q", "n": -n})
    seen: list[str] = []
    token = None
    while not seen or token:
        query = container.query_items("SELECT * FROM c ORDER BY c.n", partition_key="p", max_item_count=2)
        pages = query.by_page(token)
        seen += [item["id"] for item in next(pages)]
        token = pages.continuation_token
    assert seen == ["4", "3", "2", "1", "0"]


def test_order_by_needs_an_index(client: CosmosClient) -> None:
    """ORDER BY clause; indexing policies: include and exclude strategy, composite indexes."""
    policy = {
        "includedPaths": [{"path": "/a/?"}, {"path": "/deep/*"}],
        "excludedPaths": [{"path": "/*"}, {"path": "/deep/not/*"}],
        "compositeIndexes": [[{"path": "/a", "order": "ascending"}, {"path": "/b", "order": "descending"}]],
    }
    container = new_container(client, indexing_policy=policy)
    for n in range(3):
        container.create_item({"id": f"{n}", "pk": "p", "a": n, "b": n, "deep": {"x": n, "not": {"y": n}}})

    def order(clause: str) -> list[str]:
        return ids(container, f"SELECT * FROM c ORDER BY {clause}", partition_key="p")

    ascending = ["0", "1", "2"]
    for clause in ("c.a", "c.deep.x", "c.id", "c._ts", "c.a, c.b DESC"):
        assert order(clause) == ascending
    assert order("c.a DESC, c.b") == ascending[::-1]
    for clause in ("c.b", "c.deep.not.y", "c.missing", "c.a, c.b", "c.b DESC, c.a"):
        assert refused(order, clause) == 400
    assert ids(container, "SELECT * FROM c WHERE c.b = 1", partition_key="p") == ["1"]


# ---------------------------------------------------------------------------------------------------- limits, TTL, key


@pytest.mark.parametrize("write", ["create_item", "upsert_item"])
def test_an_item_has_at_most_2_megabytes(container: ContainerProxy, write: str) -> None:
    """Concepts: limits."""
    getattr(container, write)({"id": "a", "pk": "p", "text": "x" * (2 * MEGABYTE - 100)})
    assert refused(getattr(container, write), {"id": "b", "pk": "p", "text": "x" * 2 * MEGABYTE}) == 413
    assert refused(container.replace_item, "a", {"id": "a", "pk": "p", "text": "ü" * (MEGABYTE + 1)}) == 413
    assert ids(container) == ["a"]


def test_ids_and_partition_keys_have_limits(container: ContainerProxy) -> None:
    """Concepts: limits."""
    container.create_item({"id": "x" * 1023, "pk": "p" * 2048})
    for item in ({"id": "x" * 1024, "pk": "p"}, {"id": "a", "pk": "p" * 2049}, {"id": "ü" * 512, "pk": "p"}):
        assert refused(container.create_item, item) == 400
    assert len(ids(container)) == 1


def test_the_id_of_an_item_cannot_be_replaced(container: ContainerProxy) -> None:
    """Replace a document (REST)."""
    container.create_item({"id": "a", "pk": "p"})
    container.create_item({"id": "b", "pk": "p", "n": 1})
    assert refused(container.replace_item, "a", {"id": "b", "pk": "p"}) == 400
    assert container.read_item("b", "p")["n"] == 1


def test_items_expire(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    """Time to live: it begins with the last write, and an item's value needs one on the container (here -1)."""
    container.create_item({"id": "short", "pk": "p", "ttl": 100})
    container.create_item({"id": "written", "pk": "p", "ttl": 100})
    container.create_item({"id": "never", "pk": "p", "ttl": -1})
    container.create_item({"id": "without", "pk": "p"})
    cosmos_server.advance(60)
    assert len(ids(container)) == 4
    container.patch_item("written", "p", [{"op": "set", "path": "/n", "value": 1}])
    cosmos_server.advance(60)
    assert ids(container) == ["written", "never", "without"]
    with pytest.raises(CosmosResourceNotFoundError):
        container.read_item("short", "p")
    container.create_item({"id": "short", "pk": "p"})
    cosmos_server.advance(60)
    assert "written" not in ids(container)


def test_items_expire_by_themselves(container: ContainerProxy) -> None:
    """Time to live."""
    container.create_item({"id": "a", "pk": "p", "ttl": 1})
    wait_until(lambda: not ids(container, partition_key="p"))


def test_a_containers_time_to_live(client: CosmosClient, cosmos_server: CosmosServer) -> None:
    """Time to live: the container's value is the default of its items; without it the items' values do nothing."""
    without, with_default = new_container(client), new_container(client, default_ttl=100)
    without.create_item({"id": "a", "pk": "p", "ttl": 10})
    for item in ({"id": "default", "pk": "p"}, {"id": "longer", "pk": "p", "ttl": 1000}):
        with_default.create_item(item)
    cosmos_server.advance(101)
    assert ids(without) == ["a"]
    assert ids(with_default) == ["longer"]


def test_a_wrong_key_is_401(cosmos_server: CosmosServer) -> None:
    """Access control on Azure Cosmos DB resources (REST)."""
    with pytest.raises(CosmosHttpResponseError) as caught:
        CosmosClient(cosmos_server.endpoint, "d3Jvbmc=", enable_endpoint_discovery=False)
    assert caught.value.status_code == 401


def test_a_connection_string(cosmos_server: CosmosServer) -> None:
    """The account names its own address, so the client may look for it there."""
    with closing(CosmosClient.from_connection_string(cosmos_server.connection_string)) as client:
        container = new_container(client)
        container.create_item({"id": "a", "pk": "p"})
        assert ids(container) == ["a"]


class Token:
    """A credential that needs no Azure."""

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        return AccessToken("token", 2**40)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_token_instead_of_the_key() -> None:
    """Microsoft Entra ID: the client sends tokens over https only."""
    with CosmosServer(protocol="https") as server, closing(CosmosClient(server.endpoint, Token())) as client:
        container = new_container(client)
        container.create_item({"id": "a", "pk": "p"})
        assert ids(container) == ["a"]


# -------------------------------------------------------------------------------------------------------------- faults


def test_429_is_retried_after_the_time_that_it_names(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    """Diagnose and troubleshoot Azure Cosmos DB request rate too large (429) exceptions."""
    cosmos_server.fail({"status": 429, "retryAfterMs": 1, "substatus": 3200, "times": 2})
    container.create_item({"id": "a", "pk": "p"})
    assert [entry["status"] for entry in cosmos_server.log()] == [429, 429, 201]

    cosmos_server.fail({"status": 429, "retryAfterMs": 1, "substatus": 3200, "times": -1})
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.create_item({"id": "b", "pk": "p"})
    assert (caught.value.status_code, caught.value.sub_status) == (429, 3200)
    assert caught.value.headers["x-ms-retry-after-ms"] == "1"


@pytest.mark.parametrize("status", [408, 449, 503])
def test_a_write_that_is_refused_for_now(container: ContainerProxy, cosmos_server: CosmosServer, status: int) -> None:
    """Designing resilient applications with Azure Cosmos DB SDKs: the application has to retry these."""
    cosmos_server.fail({"status": status})
    assert refused(container.create_item, {"id": "a", "pk": "p"}) == status
    assert ids(container) == []


def test_a_connection_lost_before_the_write(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    """Designing resilient applications with Azure Cosmos DB SDKs: the client does not retry the write."""
    cosmos_server.fail({"kind": "drop-before"})
    with pytest.raises(ServiceResponseError):
        container.create_item({"id": "a", "pk": "p"})
    assert ids(container) == []
    assert [(entry["fault"], entry["status"]) for entry in cosmos_server.log()] == [("drop-before", None), (None, 200)]


def test_a_connection_lost_after_the_write(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    """Designing resilient applications with Azure Cosmos DB SDKs: the write has happened, unknown to the client."""
    cosmos_server.fail({"kind": "drop-after", "batch": True})
    with pytest.raises(ServiceResponseError):
        container.execute_item_batch([("create", ({"id": "a", "pk": "p"},))], "p")
    assert ids(container) == ["a"]
    assert [(entry["fault"], entry["status"]) for entry in cosmos_server.log()] == [("drop-after", 200), (None, 200)]


@pytest.mark.parametrize(("kind", "there_at_once"), [("delay", False), ("delay-after", True)])
def test_an_answer_that_comes_too_late(
    container: ContainerProxy, cosmos_server: CosmosServer, kind: str, there_at_once: bool
) -> None:
    cosmos_server.fail({"kind": kind, "ms": 1000, "method": "POST"})
    with pytest.raises(ServiceResponseTimeoutError):
        container.create_item({"id": "a", "pk": "p"}, read_timeout=0.1)
    assert ids(container, partition_key="p") == (["a"] if there_at_once else [])
    wait_until(lambda: ids(container, partition_key="p") == ["a"])


@pytest.mark.parametrize(("kind", "there_at_once"), [("hold-before", False), ("hold-after", True)])
def test_a_request_that_is_held(
    container: ContainerProxy, cosmos_server: CosmosServer, kind: str, there_at_once: bool
) -> None:
    cosmos_server.fail({"kind": kind})
    writer = threading.Thread(target=container.create_item, args=({"id": "a", "pk": "p"},))
    writer.start()
    wait_until(cosmos_server.held)
    assert ids(container) == (["a"] if there_at_once else [])
    assert writer.is_alive()
    assert cosmos_server.release() == 1
    writer.join()
    assert ids(container) == ["a"]


def test_which_requests_a_fault_hits(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    item = {"id": "a", "pk": "p"}

    def hits(**conditions: Any) -> list[str]:
        container.upsert_item(item)
        cosmos_server.clear()
        cosmos_server.fail({"status": 503, "times": -1, **conditions})
        hit = []
        for name, action in {
            "read": lambda: container.read_item("a", "p"),
            "upsert": lambda: container.upsert_item(item),
            "batch": lambda: container.execute_item_batch([("upsert", (item,))], "p"),
            "query": lambda: ids(container, partition_key="p"),
            "everywhere": lambda: ids(container),
        }.items():
            try:
                action()
            except CosmosHttpResponseError:
                hit.append(name)
        cosmos_server.clear()
        return hit

    assert hits() == ["read", "upsert", "batch", "query", "everywhere"]
    assert hits(method="GET") == ["read"]
    assert hits(match="/docs/a") == ["read"]
    assert hits(batch=True) == ["batch"]
    assert hits(query=True) == ["query", "everywhere"]
    assert hits(crossPartition=True) == ["everywhere"]
    assert hits(crossPartition=False) == ["read", "upsert", "batch", "query"]
    assert hits(body='"id":"a"') == ["upsert", "batch"]
    assert hits(pattern="^\\{.*FROM c") == ["query", "everywhere"]
    assert hits(headers={"X-Ms-Documentdb-Is-Upsert": "True"}) == ["upsert"]
    assert hits(after=2, times=2) == ["batch", "query"]
    assert hits(match="/another/") == []


@pytest.mark.parametrize(
    "fault", [{"statuss": 429}, {"kind": "drop"}, {}, {"status": 1, "kind": "drop-after"}, {"kind": "delay"}]
)
def test_a_fault_that_is_misspelt(cosmos_server: CosmosServer, fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        cosmos_server.fail(fault)


def test_the_log(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    container.create_item({"id": "a", "pk": "p"})
    container.read_item("a", "p")
    ids(container, partition_key="p")
    ids(container)
    container.execute_item_batch([("read", ("a",))], "p")
    items = f"/{container.container_link}/docs"
    log = cosmos_server.log()
    assert [(entry["method"], entry["url"], entry["status"]) for entry in log] == [
        ("POST", items, 201),
        ("GET", f"{items}/a", 200),
        ("POST", items, 200),
        ("POST", items, 200),
        ("POST", items, 200),
    ]
    assert [entry["query"] for entry in log] == [False, False, True, True, False]
    assert [entry["batch"] for entry in log] == [False, False, False, False, True]
    assert [entry["crossPartition"] for entry in log] == [False, False, False, True, False]
    assert [entry["partitionKey"] for entry in log] == ['["p"]', '["p"]', '["p"]', None, '["p"]']
    assert log[0]["body"] == '{"id":"a","pk":"p"}'
    cosmos_server.fail({"status": 503})
    cosmos_server.clear_log()
    assert cosmos_server.log() == []
    assert refused(container.read_item, "a", "p") == 503


# --------------------------------------------------------------------------------------------------------- the process


def is_listening(endpoint: str) -> bool:
    address = urlsplit(endpoint)
    try:
        socket.create_connection((address.hostname, address.port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_server_that_refuses_connections_keeps_its_state(cosmos_server: CosmosServer) -> None:
    with closing(connect(cosmos_server, retry_total=0)) as client:
        container = new_container(client)
        container.create_item({"id": "a", "pk": "p"})
        cosmos_server.refuse()
        with pytest.raises(ServiceRequestError):
            container.create_item({"id": "b", "pk": "p"})
        cosmos_server.accept()
        container.create_item({"id": "c", "pk": "p"})
        assert ids(container) == ["a", "c"]


def test_a_paused_server_answers_later(container: ContainerProxy, cosmos_server: CosmosServer) -> None:
    cosmos_server.pause()
    with pytest.raises(ServiceResponseTimeoutError):
        container.create_item({"id": "a", "pk": "p"}, read_timeout=0.1)
    cosmos_server.resume()
    wait_until(lambda: ids(container) == ["a"])


def test_a_server_that_is_started_again_is_empty() -> None:
    with CosmosServer() as server:
        endpoint = server.endpoint
        with closing(connect(server)) as client:
            container = new_container(client)
            container.create_item({"id": "a", "pk": "p"})
            server.restart()
            assert server.endpoint == endpoint
            with pytest.raises(CosmosResourceNotFoundError):
                container.read_item("a", "p")
        server.kill()
        assert not server.alive
        assert not is_listening(endpoint)
        server.reset()
        assert server.alive


def test_a_server_dies_with_the_process_that_started_it() -> None:
    script = """
        from tests.cosmos.server import CosmosServer
        server = CosmosServer()
        print(server.endpoint, flush=True)
        input()
    """
    with child(script) as parent:
        endpoint = parent.hear()
        assert is_listening(endpoint)
        parent.kill()
        wait_until(lambda: not is_listening(endpoint))


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "@vercel" / "cosmosdb-server" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"name": "the package", "version": "1.0.2"}')
    monkeypatch.setattr(server_module, "install", lambda: tmp_path)
    with pytest.raises(RuntimeError, match=r"the package 1\.0\.2: the corrections are for 1\.0\.1"):
        CosmosServer()


def test_without_node_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="node is missing"):
        CosmosServer()


def test_the_package_is_installed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text('#!/bin/sh\necho "$@" >>calls\nmkdir -p node_modules\n[ ! -e fails ] || { echo sorry; exit 1; }\n')
    npm.chmod(0o755)
    installed = tmp_path / "installed"
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(server_module, "INSTALLED", installed)
    for _ in range(2):
        assert install() == installed / "node_modules"
    assert (installed / "calls").read_text() == "ci --ignore-scripts --no-audit --no-fund\n"

    (installed / "installed").write_text("what another package-lock.json says")
    (installed / "fails").touch()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="sorry"):
            install()
    (installed / "fails").unlink()
    install()
    install()
    assert len((installed / "calls").read_text().splitlines()) == 4


# ------------------------------------------------------------------------------------------------- without corrections


def test_what_the_package_does_without_the_corrections() -> None:
    """If this fails after an upgrade of the package, a correction may have become superfluous."""
    with CosmosServer(raw=True) as server, connect(server) as client:
        container = new_container(client)
        container.create_item({"id": "a", "pk": "p", "Name": "A"})
        assert refused(container.read_item, "missing", "p") == 500

        batch = [("create", ({"id": name, "pk": "p"},)) for name in ("b", "a")]
        assert refused(container.execute_item_batch, batch, "p") == 409
        container.read_item("b", "p")  # not atomic

        nothing = [{"op": "set", "path": "/n", "value": 1}]
        assert refused(container.patch_item, "a", "p", nothing, filter_predicate="from c where c.Name = 'A'") == 412

        assert ids(container, "SELECT * FROM c WHERE c.pk = 'p' OR c.pk = 'q'", partition_key="q") == ["a", "b"]
