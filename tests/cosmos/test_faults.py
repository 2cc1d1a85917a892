"""What goes wrong between a program and Cosmos DB, for real: statuses, lost answers, a server that is gone and back."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import CosmosDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.db_manager._cosmos_store import Refused
from py_orchestrate.errors import ClaimLostError, InvalidWorkflowIdError, StorageError
from py_orchestrate.testing._contract_base import begin, claim_run, read
from py_orchestrate.testing._samples import at, event_record, race, run_end, run_record, step_record, suspension

from ..waiting import wait_until
from . import accounts
from .accounts import Account
from .server import CosmosServer

MakeOrchestrator = Callable[..., Orchestrator]
pytestmark = pytest.mark.skipif(accounts.IS_REAL, reason="a real account has no faults on request")

BATCH = {"method": "POST", "batch": True}


@pytest.fixture
def manager(account: Account) -> CosmosDatabaseManager:
    return account.manager()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from py_orchestrate.db_manager import _cosmos_store

    monkeypatch.setattr(_cosmos_store, "_FIRST_DELAY_SECONDS", 0.001)


def write(manager: CosmosDatabaseManager, epoch: int, number: int) -> None:
    manager.record_steps("run", epoch, [step_record(number)])


def sequences(manager: CosmosDatabaseManager) -> list[int]:
    return [step.sequence for step in manager.get_steps("run")]


# --- one request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 410, 429, 449, 500, 503])
def test_a_write_that_is_turned_away_is_made_again(
    cosmos_server: CosmosServer, manager: CosmosDatabaseManager, status: int
) -> None:
    epoch = claim_run(manager)
    cosmos_server.fail({**BATCH, "status": status, "times": 2, "retryAfterMs": 1})
    write(manager, epoch, 0)
    assert sequences(manager) == [0]


@pytest.mark.parametrize("status", [408, 410, 429, 449, 500, 503])
def test_a_read_that_is_turned_away_is_made_again(
    cosmos_server: CosmosServer, manager: CosmosDatabaseManager, status: int
) -> None:
    manager.create_workflow(run_record("run"))
    cosmos_server.fail({"method": "GET", "match": "/docs/run", "status": status, "times": 2, "retryAfterMs": 1})
    assert read(manager).id == "run"
    cosmos_server.fail({"query": True, "status": status, "times": 2, "retryAfterMs": 1})
    assert [record.id for record in manager.page_workflows()] == ["run"]


def test_too_many_requests_are_waited_for_beyond_the_clients_own_patience(
    cosmos_server: CosmosServer, manager: CosmosDatabaseManager
) -> None:
    epoch = claim_run(manager)
    cosmos_server.fail({**BATCH, "status": 429, "times": 15, "retryAfterMs": 1})  # the client gives up after ten
    write(manager, epoch, 0)
    assert sequences(manager) == [0]


def test_a_service_that_stays_busy_is_an_error_that_says_so(cosmos_server: CosmosServer, account: Account) -> None:
    manager = account.manager(max_retries=1)
    epoch = claim_run(manager)
    cosmos_server.fail({**BATCH, "status": 503, "times": -1})
    with pytest.raises(StorageError, match=r"cannot write the Cosmos DB database 'test-.*': it answered 503"):
        write(manager, epoch, 0)
    cosmos_server.clear()
    assert sequences(manager) == []
    write(manager, epoch, 0)
    assert sequences(manager) == [0]


def lose_create(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    lose()
    assert manager.create_workflow(run_record("run")) is None
    assert manager.create_workflow(run_record("run")) == run_record("run")


def lose_register(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    lose()
    manager.register_owner("owner-b")
    assert manager.beat_owner("owner-b") == {"owner-a": 0, "owner-b": 1}


def lose_beat(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    lose()
    assert manager.beat_owner("owner-a") == {"owner-a": 1}


def lose_claim(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    manager.create_workflow(run_record("run"))
    lose()
    (record,) = manager.claim_workflows("owner-a", ["greet"], 1)
    assert (record.epoch, read(manager).owner) == (1, "owner-a")


def lose_step(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    epoch = begin(manager)
    lose()
    write(manager, epoch, 0)
    assert sequences(manager) == [0]
    write(manager, epoch, 1)


def lose_suspension(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    epoch = begin(manager)
    lose()
    manager.suspend_workflow("run", epoch, suspension(steps=(step_record(0),), wake_at=at(9)))
    assert (read(manager).owner, read(manager).wake_at, sequences(manager)) == (None, at(9), [0])


def lose_end(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    epoch = begin(manager)
    lose()
    manager.finish_workflow("run", epoch, run_end(steps=(step_record(0),)))
    assert (read(manager).output, sequences(manager)) == ('"bye"', [0])


def lose_event(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    begin(manager)
    lose()
    manager.add_event("run", event_record("e"))
    assert [(event.id, event.position) for event in manager.load_events("run")] == [("e", 1)]
    assert read(manager).signals == 1


def lose_cancellation(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    begin(manager)
    lose()
    manager.cancel_workflow("run")
    assert (read(manager).request, read(manager).signals) == ("cancel", 1)


def lose_deletion(manager: CosmosDatabaseManager, lose: Callable[[], None]) -> None:
    manager.finish_workflow("run", begin(manager), run_end())
    lose()
    assert manager.delete_workflow("run")
    assert (manager.read_workflow("run"), manager.get_steps("run")) == (None, [])


@pytest.mark.parametrize("kind", ["drop-before", "drop-after"])
@pytest.mark.parametrize(
    "scenario",
    [
        lose_create,
        lose_register,
        lose_beat,
        lose_claim,
        lose_step,
        lose_suspension,
        lose_end,
        lose_event,
        lose_cancellation,
        lose_deletion,
    ],
)
def test_a_lost_answer_is_decided_by_reading_and_nothing_happens_twice(
    cosmos_server: CosmosServer, manager: CosmosDatabaseManager, kind: str, scenario: Callable[..., None]
) -> None:
    """A write whose connection breaks may have been applied: it is neither forgotten nor made twice."""
    manager.register_owner("owner-a")
    method = "DELETE" if scenario is lose_deletion else "POST"
    scenario(manager, lambda: cosmos_server.fail({"method": method, "query": False, "kind": kind}))
    assert [entry["method"] for entry in cosmos_server.log() if entry["fault"] == kind] == [method]


def test_threads_that_meet_in_the_clients_headers_do_no_harm(
    manager: CosmosDatabaseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own race: Python's error for it comes after the request was served."""
    epoch = claim_run(manager)
    container = manager._runs.container
    troubles: list[str] = []

    def troubled(name: str) -> Callable[..., Any]:
        method = getattr(container, name)

        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            if name not in troubles:
                troubles.append(name)
                raise RuntimeError("OrderedDict mutated during iteration")
            return result

        return call

    for name in ("read_item", "execute_item_batch", "create_item"):
        monkeypatch.setattr(container, name, troubled(name))
    write(manager, epoch, 0)
    assert read(manager).epoch == epoch
    assert manager.create_workflow(run_record("other")) is None
    assert sequences(manager) == [0]
    assert sorted(troubles) == ["create_item", "execute_item_batch", "read_item"]


def test_a_slow_answer_is_given_up_and_looked_up(cosmos_server: CosmosServer, account: Account) -> None:
    from azure.cosmos import CosmosClient

    manager = account.manager(client=CosmosClient(account.endpoint, account.key, read_timeout=1))
    epoch = claim_run(manager)
    cosmos_server.fail({**BATCH, "kind": "hold-after"})
    write(manager, epoch, 0)
    assert sequences(manager) == [0]
    assert cosmos_server.release() == 1


@pytest.mark.parametrize("kind", ["drop-before", "drop-after"])
def test_the_condition_of_a_write_holds_for_its_second_attempt_too(
    cosmos_server: CosmosServer, manager: CosmosDatabaseManager, kind: str
) -> None:
    """Two that have found the same run: who comes second is refused, also where its first answer is lost."""
    manager.create_workflow(run_record("run"))
    first, second = (manager._runs.read("run", "run") for _ in range(2))
    assert first is not None
    assert second is not None
    manager._runs.update("run", first, {"owner": "first"})
    cosmos_server.fail({**BATCH, "kind": kind})
    with pytest.raises(Refused) as caught:
        manager._runs.update("run", second, {"owner": "second"})
    assert (caught.value.status, read(manager).owner) == (412, "first")


def test_a_claim_that_could_not_be_found_out_about_is_made_good(cosmos_server: CosmosServer, account: Account) -> None:
    """The claim is stored, its answer is lost, and so is every look at it: the next claim finds the run."""
    manager = account.manager(max_retries=0)
    manager.register_owner("owner-a")
    manager.create_workflow(run_record("run"))
    cosmos_server.fail({**BATCH, "kind": "drop-after"})
    cosmos_server.fail({"method": "GET", "match": "/docs/run", "status": 503, "after": 1, "times": 1})
    with pytest.raises(StorageError):
        manager.claim_workflows("owner-a", ["greet"], 1)
    assert read(manager).owner == "owner-a"
    (record,) = manager.claim_workflows("owner-a", ["greet"], 1)
    assert (record.id, record.epoch) == ("run", 1)
    manager.finish_workflow("run", record.epoch, run_end())
    assert manager.claim_workflows("owner-a", ["greet"], 1) == []


def test_a_mark_is_found_though_others_have_written_since(manager: CosmosDatabaseManager) -> None:
    manager.create_workflow(run_record("run"))
    run = manager._runs.read("run", "run")
    assert run is not None
    for n in range(20):
        manager._runs.update("run", run, {"custom_status": str(n)})
    assert len(run["marks"]) == 8
    assert manager._runs.read("run", "run") == {**run, "_ts": manager._runs.read("run", "run")["_ts"]}  # type: ignore[index]


# --- races ------------------------------------------------------------------------------------------------------------


def test_of_eight_threads_that_change_one_run_each_change_counts(account: Account) -> None:
    managers = [account.manager() for _ in range(4)]
    epoch = claim_run(managers[0])
    managers[0].record_steps("run", epoch, [step_record(0)])

    def signal(n: int) -> None:
        managers[n % 4].add_event("run", event_record(f"event-{n}"))

    def step(n: int) -> None:
        managers[0].record_steps("run", epoch, [step_record(n)])

    race([*[lambda n=n: signal(n) for n in range(4)], *[lambda n=n: step(n) for n in range(1, 5)]])  # type: ignore[misc]
    assert read(managers[1]).signals == 4
    assert sorted(event.position for event in managers[2].load_events("run")) == [1, 2, 3, 4]
    assert sequences(managers[3]) == [0, 1, 2, 3, 4]


def test_a_zombie_writes_nothing(account: Account) -> None:
    zombie, heir = account.manager(), account.manager()
    epoch = claim_run(zombie)
    write(zombie, epoch, 0)
    assert heir.expire_owner("owner-a", 0)
    heir.register_owner("heir")
    (record,) = heir.claim_workflows("heir", ["greet"], 1)
    for attempt in (
        lambda: write(zombie, epoch, 1),
        lambda: zombie.finish_workflow("run", epoch, run_end(steps=(step_record(1),))),
        lambda: zombie.suspend_workflow("run", epoch, suspension(steps=(step_record(1),))),
    ):
        with pytest.raises(ClaimLostError):
            attempt()
    assert sequences(heir) == [0]
    assert (read(heir).owner, read(heir).crashes) == ("heir", 1)
    heir.finish_workflow("run", record.epoch, run_end())


def test_who_dies_while_it_frees_runs_is_relieved(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    dying, other = account.manager(), account.manager()
    claim_run(dying)
    monkeypatch.setattr(dying, "_free_runs_of", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        dying.expire_owner("owner-a", 0)
    assert read(other).owner == "owner-a"
    other.register_owner("owner-b")
    assert other.beat_owner("owner-b") == {"owner-b": 1}
    assert (read(other).owner, read(other).crashes) == (None, 1)
    assert other.beat_owner("owner-b") == {"owner-b": 2}


def test_who_claims_after_it_was_expired_is_found(account: Account) -> None:
    manager = account.manager()
    manager.register_owner("owner-a")
    begin(manager)
    manager._owners.forget("owner-a")  # as one that was expired in the middle of its claim
    manager.register_owner("owner-b")
    for _ in range(13):  # a sweep in six, and two sweeps must see it
        manager.beat_owner("owner-b")
    assert read(manager).owner is None


def test_a_message_whose_sender_died_is_delivered_by_the_next_look(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that was not created, and an end that the parent was not told of."""
    dying, other = account.manager(), account.manager()
    epoch = claim_run(dying, "parent")
    child = run_record("child", parent_id="parent")
    with monkeypatch.context() as patch:
        patch.setattr(dying, "_deliver", lambda _: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            dying.record_steps("parent", epoch, [step_record(0)], children=[child])
    assert other.read_workflow("child") is None
    other.look(now=at(60 * 24 * 3650))
    assert other.read_workflow("child") == child
    other.register_owner("owner-b")
    (claimed,) = other.claim_workflows("owner-b", ["greet"], 1)
    with monkeypatch.context() as patch:
        patch.setattr(other, "_tell_parent", lambda _: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            other.finish_workflow("child", claimed.epoch, run_end())
    assert read(dying, "parent").signals == 0
    dying.look(now=at(60 * 24 * 3650))
    assert read(dying, "parent").signals == 1
    dying.look(now=at(60 * 24 * 3650))
    assert read(dying, "parent").signals == 1


@pytest.mark.parametrize("size", [1, 300_000])
def test_a_run_whose_maker_died_with_its_key_is_stored_by_who_finds_the_key(
    account: Account, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    dying, other = account.manager(), account.manager()
    record = run_record("first", deduplication_key="key", input=json.dumps({"value": "x" * size}))
    with monkeypatch.context() as patch:
        patch.setattr(dying, "_insert_run", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            dying.create_workflow(record)
    assert other.read_workflow("first") is None
    assert other.create_workflow(run_record("second", deduplication_key="key")) == record
    assert read(other, "first") == record


@pytest.mark.parametrize("size", [1, 300_000])
def test_a_run_that_was_deleted_does_not_come_back_with_its_key(account: Account, size: int) -> None:
    manager = account.manager()
    value = json.dumps({"value": "x" * size})
    assert manager.create_workflow(run_record("first", deduplication_key="key", input=value)) is None
    manager.register_owner("owner-a")
    (record,) = manager.claim_workflows("owner-a", ["greet"], 1)
    manager.finish_workflow("first", record.epoch, run_end())
    assert manager.delete_workflow("first")
    assert manager.create_workflow(run_record("second", deduplication_key="key", input=value)) is None
    assert [record.id for record in manager.page_workflows()] == ["second"]
    kinds = Counter(item["type"] for item in account.container("workflows").read_all_items())
    assert kinds == {"key": 1, "orchestrator": 1}  # no part of a large value is left


def test_a_run_whose_maker_died_before_its_history_was_whole_gives_its_id_free(
    cosmos_server: CosmosServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from py_orchestrate.db_manager import _cosmos_records

    dying, other = account.manager(), account.manager()
    with monkeypatch.context() as patch:
        patch.setattr(dying._runs, "update", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            dying.create_workflow(run_record("run"), steps=[step_record(0)])
    assert (other.read_workflow("run"), other.page_workflows(), other.look().ready) == (None, [], frozenset())
    monkeypatch.setattr(_cosmos_records, "_DRAFTED_WITHIN_SECONDS", -5)
    assert other.create_workflow(run_record("run")) is None
    assert read(other) == run_record("run")


# --- whole programs ---------------------------------------------------------------------------------------------------


def test_a_program_goes_on_when_the_server_is_back(
    cosmos_server: CosmosServer, account: Account, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    ran: Counter[int] = Counter()
    held = threading.Event()

    @activity
    def act(n: int) -> int:
        ran[n] += 1
        if n == 2:
            held.set()
            wait_until(lambda: not cosmos_accepts.is_set(), 20)
        return n

    @workflow
    def job() -> list[int]:
        found = [act(n) for n in range(4)]
        durable.sleep(0.01)
        return found

    cosmos_accepts = threading.Event()
    cosmos_accepts.set()
    runner = orchestrator(account.manager(max_retries=1), poll_interval_seconds=0.05)
    run = runner.start_workflow(job)
    assert held.wait(20)
    cosmos_server.refuse()
    cosmos_accepts.clear()
    wait_until(lambda: "a write is tried again" in caplog.text, 30)
    with pytest.raises(StorageError, match="cannot write the Cosmos DB database"):
        runner.start_workflow(job)
    cosmos_server.accept()
    assert run.result(60) == [0, 1, 2, 3]
    assert ran == {0: 1, 1: 1, 2: 1, 3: 1}


def test_programs_work_while_every_fifth_write_fails_somehow(
    cosmos_server: CosmosServer, account: Account, orchestrator: MakeOrchestrator
) -> None:
    ran: Counter[tuple[int, int]] = Counter()
    lock = threading.Lock()

    @activity
    def act(run: int, n: int) -> int:
        with lock:
            ran[run, n] += 1
        return n

    @workflow
    def child(run: int) -> int:
        return act(run, 100)

    @workflow
    def job(run: int) -> list[int]:
        found = [act(run, n) for n in range(3)]
        durable.sleep(0.001)
        return [*found, child(run)]

    runners = [orchestrator(account.manager(max_retries=20), poll_interval_seconds=0.05) for _ in range(2)]
    stopping = threading.Event()

    kinds: list[dict[str, Any]] = [
        {"status": 503}, {"kind": "drop-before"}, {"status": 429, "retryAfterMs": 1}, {"kind": "drop-after"}
    ]  # fmt: skip

    def trouble() -> None:
        suffered = 0
        while not stopping.wait(0.005):
            if not suffered or any(entry["fault"] for entry in cosmos_server.log()):
                cosmos_server.clear_log()
                cosmos_server.fail({"method": "POST", "query": False, "after": 4, **kinds[suffered % 4]})
                suffered += 1

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        runs = [runners[n % 2].start_workflow(job, n) for n in range(20)]
        assert [run.result(60) for run in runs] == [[0, 1, 2, 100]] * 20
    finally:
        stopping.set()
        thread.join()
    assert set(ran.values()) == {1}
    assert len(ran) == 80


# --- values and ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow_id", ["a/b", "a\\b", "a?b", "a#b", "x" * 201, " a", ""])
def test_ids_that_cosmos_refuses_are_refused_on_every_store(
    account: Account, orchestrator: MakeOrchestrator, memory: Any, workflow_id: str
) -> None:
    @workflow
    def job() -> None: ...

    texts = set()
    for store in (memory, account.manager()):
        with pytest.raises(InvalidWorkflowIdError) as caught:
            orchestrator(store).start_workflow(job, workflow_id=workflow_id)
        texts.add(str(caught.value))
    assert len(texts) == 1


@pytest.mark.parametrize("workflow_id", ["漢字かな", "a b", "100%", "a+b:c;d=e&f", 'it\'s "it"', "é" * 200, "😀" * 200])
def test_other_ids_are_taken(account: Account, orchestrator: MakeOrchestrator, workflow_id: str) -> None:
    @activity
    def act() -> int:
        return 1

    @workflow
    def job() -> Any:
        return [act(), durable.wait_for_event("go")]

    runner = orchestrator(account.manager(), poll_interval_seconds=0.02)
    run = runner.start_workflow(job, workflow_id=workflow_id)
    run.raise_event("go", 2, event_id=workflow_id)
    assert run.result(20) == [1, 2]
    assert [step["name"] for step in runner.get_history(workflow_id)] == ["act", "go"]


def test_exact_numbers_and_very_large_values(account: Account, orchestrator: MakeOrchestrator) -> None:
    large = "漢字" * 500_000  # 3 MB as UTF-8, 6 MB as the service counts it

    @activity
    def echo(value: Any) -> Any:
        return value

    @workflow
    def child(value: Any) -> Any:
        return [value, durable.wait_for_event("large")]

    @workflow
    def job(value: Any) -> Any:
        return [echo(value), echo([2**70, 2**53 + 1, 0.1, -0.0, 1e-320, 1.7976931348623157e308]), child(value)]

    runner = orchestrator(account.manager(), poll_interval_seconds=0.05)
    run = runner.start_workflow(job, large, workflow_id="run")
    wait_until(lambda: runner.get_workflow_status("run-2"), 30)
    runner.raise_event("run-2", "large", large)
    found = run.result(60)
    assert found[0] == large
    assert repr(found[1]) == repr([2**70, 2**53 + 1, 0.1, -0.0, 1e-320, 1.7976931348623157e308])
    assert found[2] == [large, large]
    assert runner.purge_workflows(0) == 2
    assert list(account.container("activities").read_all_items()) == []


def test_what_takes_too_much_is_refused_before_it_is_sent_where_there_is_a_limit(
    cosmos_server: CosmosServer, account: Account, orchestrator: MakeOrchestrator
) -> None:
    from py_orchestrate.errors import SerializationError

    @workflow
    def job(value: str) -> None: ...

    runner = orchestrator(account.manager(), max_payload_bytes=1_000_000)
    cosmos_server.clear_log()
    with pytest.raises(
        SerializationError, match=r"takes 2,000,0.. bytes, and max_payload_bytes is 1,000,000"
    ) as caught:
        runner.start_workflow(job, "secret" + "x" * 2_000_000)
    assert "secret" not in str(caught.value)
    assert not [entry for entry in cosmos_server.log() if "secret" in entry["body"]]


def test_what_is_too_late_is_not_waited_for(cosmos_server: CosmosServer, account: Account) -> None:
    """A paused server answers nothing; a read gives up when the client's time is over."""
    from azure.cosmos import CosmosClient

    manager = account.manager(
        client=CosmosClient(account.endpoint, account.key, read_timeout=1, retry_total=0), max_retries=0
    )
    cosmos_server.pause()
    began = time.monotonic()
    with pytest.raises(StorageError, match="cannot read the Cosmos DB database"):
        manager.read_workflow("run")
    assert time.monotonic() - began < 20
    cosmos_server.resume()
    assert manager.read_workflow("run") is None
