"""A storage that fails for a while: nothing is lost, nothing runs twice, and work goes on when it is back."""

from __future__ import annotations

import threading

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, workflow
from py_orchestrate._engine import engine as engine_module
from py_orchestrate._engine.recovery import RecoveryLoop
from py_orchestrate.errors import StorageError
from py_orchestrate.testing.clock import FakeClock
from tests.waiting import wait_until


class Failing(MemoryDatabaseManager):
    """A store whose methods fail as often as they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, int] = {}
        self.failed: list[str] = []

    def _perhaps(self, name):
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            self.failed.append(name)
            raise StorageError(f"{name} fails for now")


def _failing(name):
    method = getattr(MemoryDatabaseManager, name)

    def call(self, *args, **kwargs):
        self._perhaps(name)
        return method(self, *args, **kwargs)

    return call


for _name in (
    "create_workflow",
    "claim_workflows",
    "look",
    "load_outcomes",
    "record_steps",
    "finish_workflow",
    "finish_and_claim",
    "register_owner",
    "release_owner",
):
    setattr(Failing, _name, _failing(_name))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(engine_module, "_FIRST_RETRY_SECONDS", 0.001)


@pytest.fixture
def ran(registry):
    counts: list[int] = []

    @activity
    def work(n):
        counts.append(n)
        return n + 1

    @workflow
    def job():
        total = 0
        for _ in range(3):
            total = work(total)
        return [total, work.map([10, 20])]

    return counts


@pytest.mark.parametrize("name", ["record_steps", "finish_and_claim"])
def test_a_write_is_tried_again_until_it_succeeds(ran, orchestrator, caplog, name):
    database = Failing()
    runner = orchestrator(database)
    database.failures[name] = 4

    assert runner.start_workflow("job").result(10) == [3, [11, 21]]

    assert sorted(ran) == [0, 1, 2, 10, 20], "a write that fails does not run its activity again"
    assert database.failed.count(name) == 4
    assert f"{name} fails for now" in caplog.text


def test_a_history_that_cannot_be_read_is_read_again(ran, orchestrator):
    database = Failing()
    workflow_id = Orchestrator(db_manager=database).invoke_workflow("job")
    database.failures["load_outcomes"] = 3

    assert orchestrator(database).get_handle(workflow_id).result(10) == [3, [11, 21]]

    assert sorted(ran) == [0, 1, 2, 10, 20]
    assert database.failed == ["load_outcomes"] * 3


class Idle:
    """What the background loop knows of an engine that has a free worker and nothing to run."""

    def __init__(self, database):
        self.database = database
        self.clock = FakeClock()
        self.owner = "owner"

    def active_runs(self):
        return []

    def workflow_names(self):
        return ["job"]

    queue_arguments = {}  # noqa: RUF012 - as the engine has it

    def reserve(self, limit=None):
        return 1

    def free(self, workers):
        assert workers == 1


def test_the_background_loop_backs_off_and_forgets_it_when_all_is_well(caplog):
    host = Idle(Failing())
    loop = RecoveryLoop(host, poll_interval_seconds=0.1)
    host.database.failures["look"] = 8

    waits = []
    for _ in range(10):
        waits.append(loop.tick(host.clock.monotonic()))
        host.clock.advance(waits[-1])

    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 0.1, 0.1])
    assert caplog.text.count("the background loop will try again") == 8


@pytest.mark.parametrize("name", ["claim_workflows", "look"])
def test_the_background_loop_survives(ran, orchestrator, name):
    database = Failing()
    workflow_id = Orchestrator(db_manager=database).invoke_workflow("job")
    database.failures[name] = 1

    assert orchestrator(database).get_handle(workflow_id).result(10) == [3, [11, 21]]

    assert database.failed == [name]


def test_invoking_tells_the_caller_and_stores_nothing(ran, orchestrator):
    database = Failing()
    runner = orchestrator(database)
    database.failures["create_workflow"] = 1

    with pytest.raises(StorageError, match="create_workflow fails"):
        runner.invoke_workflow("job")

    assert runner.list_workflows() == []
    assert runner.start_workflow("job").result(10) == [3, [11, 21]], "the worker that was meant for it is free again"


def test_starting_tells_the_caller_and_can_be_repeated(ran, orchestrator):
    database = Failing()
    database.failures["register_owner"] = 1
    runner = orchestrator(database, start=False)

    with pytest.raises(StorageError, match="register_owner fails"):
        runner.start()
    runner.start()

    assert runner.start_workflow("job").result(10) == [3, [11, 21]]


def test_stopping_ends_while_the_storage_fails(registry, caplog):
    database = Failing()
    begun = threading.Event()

    @activity
    def work():
        begun.set()

    @workflow
    def job():
        work()
        work()

    orchestrator = Orchestrator(db_manager=database)
    orchestrator.start()
    database.failures = {"record_steps": 10**9, "finish_and_claim": 10**9, "release_owner": 1}
    handle = orchestrator.start_workflow(job)
    assert begun.wait(10)
    wait_until(lambda: "record_steps" in database.failed)

    assert orchestrator.stop(timeout=0.1) is False
    wait_until(lambda: orchestrator._engine._state == "stopped")

    database.failures = {}
    assert handle.status()["status"] == "processing"
    assert "could not sign off" in caplog.text
