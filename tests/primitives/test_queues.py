"""Queues, priorities, delays and deduplication keys, as programs use them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    Queue,
    SQLiteDatabaseManager,
    durable,
    workflow,
)
from py_orchestrate.errors import UnsupportedOperationError, WorkflowConflictError, WorkflowFailedError
from py_orchestrate.testing.clock import FakeClock

from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


class Gate:
    """Lets workflows in and keeps them there; counts them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened = threading.Event()
        self.inside: list[str] = []
        self.most = 0
        self.order: list[str] = []

    def pass_through(self, name: str) -> None:
        with self.lock:
            self.inside.append(name)
            self.order.append(name)
            self.most = max(self.most, len(self.inside))
        assert self.opened.wait(30)
        with self.lock:
            self.inside.remove(name)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture
def job(gate: Gate) -> Any:
    @workflow
    def job(name: str) -> str:
        gate.pass_through(name)
        return name

    return job


def test_no_more_run_at_the_same_time_than_the_queue_allows(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, gate: Gate, job: Any
) -> None:
    runner = orchestrator(store, max_workers=8, queues=[Queue("mail", concurrency=2)])
    runs = [runner.start_workflow(job, f"mail-{n}", queue="mail") for n in range(12)]
    wait_until(lambda: len(gate.inside) == 2)
    free = [runner.start_workflow(job, f"free-{n}") for n in range(6)]  # the other workers are for others
    wait_until(lambda: len(gate.inside) == 8)
    assert runner.list_queues() == [{"name": "mail", "ready": 10, "running": 2, "consumers": 1}]
    assert {run["id"] for run in runner.list_workflows(queue="mail")} == {run.id for run in runs}
    gate.opened.set()
    for run in [*runs, *free]:
        run.result(20)
    assert gate.most == 8
    assert sorted(gate.order) == sorted([*(f"mail-{n}" for n in range(12)), *(f"free-{n}" for n in range(6))])


def test_limits_hold_for_several_orchestrators_together(
    tmp_path: Path, orchestrator: MakeOrchestrator, gate: Gate, job: Any
) -> None:
    queues = [Queue("mail", concurrency=3, per_process=2)]
    runners = [
        orchestrator(
            SQLiteDatabaseManager(tmp_path / "one.db"), max_workers=4, queues=queues, poll_interval_seconds=0.01
        )
        for _ in range(3)
    ]
    runs = [runners[0].start_workflow(job, str(n), queue="mail") for n in range(30)]
    wait_until(lambda: len(gate.inside) == 3)
    counts = [sum(run.record.queue == "mail" for run in runner._engine.active_runs()) for runner in runners]
    assert sum(counts) == 3
    assert max(counts) <= 2
    gate.opened.set()
    for run in runs:
        run.result(20)
    assert gate.most == 3
    assert sorted(gate.order) == sorted(str(n) for n in range(30))


def test_who_does_not_consume_a_queue_leaves_its_runs(
    tmp_path: Path, orchestrator: MakeOrchestrator, gate: Gate, job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gate.opened.set()
    web = orchestrator(SQLiteDatabaseManager(tmp_path / "one.db"), poll_interval_seconds=0.01, start=False)
    run = web.start_workflow(job, "a", queue="mail")
    assert caplog.text == "", "who hands work to others need not start"
    web.start()
    wait_until(lambda: "in queues that no orchestrator consumes: 'mail'" in caplog.text)
    assert web.list_queues() == [{"name": "mail", "ready": 1, "running": 0, "consumers": 0}]
    assert gate.order == []
    worker = orchestrator(
        SQLiteDatabaseManager(tmp_path / "one.db"), poll_interval_seconds=0.01, queues=[Queue("mail"), Queue("idle")]
    )
    assert run.result(20) == "a"
    assert caplog.text.count("no orchestrator consumes") == 1
    assert [queue["name"] for queue in worker.list_queues()] == ["idle", "mail"]


def test_priorities_decide_who_is_next(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, gate: Gate, job: Any
) -> None:
    runner = orchestrator(store, start=False, max_workers=4, queues=[Queue("mail", concurrency=1)])
    runs = [
        runner.start_workflow(job, name, queue="mail", priority=priority)
        for name, priority in [("c", 5), ("b", 0), ("a", -5), ("d", 5)]
    ]
    gate.opened.set()
    runner.start()
    for run in runs:
        run.result(20)
    assert gate.order == ["a", "b", "c", "d"]


def test_a_parent_and_its_children_fit_into_a_queue_for_one(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    """A queue's place is for who runs: a parent that waits for its children does not keep them out."""

    @workflow
    def child(n: int) -> int:
        return n * n

    @workflow
    def parent(depth: int) -> int:
        below = parent.options(queue="narrow")(depth - 1) if depth else 0
        squares = child.options(queue="narrow", priority=depth).map(range(3))
        return below + sum(squares)

    runner = orchestrator(store, max_workers=1, queues=[Queue("narrow", concurrency=1, per_process=1)])
    assert runner.start_workflow(parent, 4, queue="narrow").result(30) == 25
    assert len(runner.list_workflows(queue="narrow")) == 20


def test_a_rate_lets_so_many_begin_and_what_goes_on_is_not_among_them(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    begun: dict[str, datetime] = {}

    def watch(name: str, moment_of: Callable[..., datetime]) -> None:
        claim = getattr(store, name)

        def watched(*args: Any, **options: Any) -> Any:
            claimed = claim(*args, **options)
            begun.update((run.id, moment_of(*args, **options)) for run in claimed if run.epoch == 1)
            return claimed

        monkeypatch.setattr(store, name, watched)

    watch("claim_workflows", lambda *_args, now, **_: now)
    watch("suspend_and_claim", lambda _id, _epoch, suspension, **_: suspension.suspended_at)
    watch("finish_and_claim", lambda _id, _epoch, end, **_: end.finished_at)

    @workflow
    def mail(n: int) -> int:
        durable.sleep(30)
        return n

    runner = orchestrator(
        store, clock=clock, poll_interval_seconds=0.01, queues=[Queue("mail", rate=(2, timedelta(minutes=1)))]
    )
    runs = [runner.start_workflow(mail, n, queue="mail") for n in range(6)]

    def all_done() -> bool:
        clock.advance(0.5)
        return all(run.status()["status"] == "done" for run in runs)

    wait_until(all_done, timeout=60)
    times = [begun[run.id] for run in runs]
    assert times == sorted(times)
    assert all(late - early >= timedelta(minutes=1) for early, late in zip(times, times[2:], strict=False))


def test_a_delay_passes_before_it_begins(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    clock = FakeClock()
    runner = orchestrator(store, clock=clock, poll_interval_seconds=0.01, queues=[Queue("mail")])

    @workflow
    def when() -> datetime:
        return durable.now()

    start = clock.now()
    run = runner.start_workflow(when, delay=timedelta(hours=1))
    queued = runner.start_workflow(when, queue="mail", delay=3600.0, timeout=60)
    early = runner.start_workflow(when, delay=0)
    assert early.result(20) == start
    clock.advance(3599)
    wait_until(lambda: runner._engine._recovery._seconds_to_wake() <= 1)
    assert {run.status()["status"], queued.status()["status"]} == {"processing"}

    def ended() -> bool:
        clock.advance(0.01)
        return run.status()["status"] == queued.status()["status"] == "done"

    wait_until(ended)
    for each in (run, queued):
        assert each.result(20) >= start + timedelta(hours=1)


def test_what_is_delayed_or_queued_can_be_cancelled(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(store, queues=[Queue("mail")])

    @workflow
    def never() -> None:
        raise AssertionError("it ran")

    late = runner.start_workflow(never, queue="mail", delay=timedelta(days=1))
    nobodys = runner.start_workflow(never, queue="nobody's")
    for run in (late, nobodys):
        run.cancel()
        assert run.wait(20)["status"] == "cancelled"


def test_a_second_start_with_a_key_finds_the_first_until_that_has_ended(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, gate: Gate, job: Any
) -> None:
    runner = orchestrator(store, queues=[Queue("mail")])
    first = runner.start_workflow(job, "user 5", queue="mail", deduplication_key="user 5")
    wait_until(lambda: gate.inside)
    assert runner.start_workflow(job, "user 5", queue="mail", deduplication_key="user 5").id == first.id
    with pytest.raises(WorkflowConflictError, match="key 'user 5' belongs to a run of 'job' with other arguments") as c:
        runner.start_workflow(job, "user 6", queue="mail", deduplication_key="user 5")
    assert c.value.workflow_id == first.id
    elsewhere = runner.start_workflow(job, "user 5", deduplication_key="user 5")
    assert elsewhere.id != first.id
    gate.opened.set()
    first.result(20)
    again = runner.start_workflow(job, "user 6", queue="mail", deduplication_key="user 5")
    assert again.id != first.id
    assert again.result(20) == "user 6"
    elsewhere.result(20)


def test_a_workflow_may_have_parameters_of_these_names(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def report(queue: str, priority: int, delay: int, deduplication_key: str) -> list[Any]:
        return [queue, priority, delay, deduplication_key]

    runner = orchestrator(memory, queues=[Queue("mail")])
    run = runner.start_workflow(report, queue="a", priority=1, delay=2, deduplication_key="b")
    assert run.result(20) == ["a", 1, 2, "b"]
    own = report.options(queue="mail", deduplication_key="key")
    other = runner.start_workflow(own, queue="a", priority=1, delay=2, deduplication_key="b")
    assert other.result(20) == ["a", 1, 2, "b"]
    assert [found["id"] for found in runner.list_workflows(queue="mail")] == [other.id]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((5,), TypeError, "a queue's name is a str, not int"),
        (("",), ValueError, "name of a queue must not be empty"),
        (("a\nb",), ValueError, "control character"),
        (("mail", 0), ValueError, "the concurrency of queue 'mail' must be at least 1, not 0"),
        (("mail", 1.5), TypeError, "the concurrency of queue 'mail' is an int, not float"),
        (("mail", True), TypeError, "is an int, not bool"),
        (("mail", None, -1), ValueError, "per_process of queue 'mail' must be at least 1"),
        (("mail", None, None, 5), TypeError, "the rate of queue 'mail' is a pair"),
        (("mail", None, None, (5,)), TypeError, "is a pair"),
        (("mail", None, None, (0, 60)), ValueError, "must be at least 1"),
        (("mail", None, None, (5, 0)), ValueError, "the time of the rate of queue 'mail' must be positive"),
        (("mail", None, None, (5, -1)), ValueError, "must not be negative"),
        (("mail", None, None, (5, "1m")), TypeError, "a number of seconds or a timedelta"),
        (("mail", None, None, (5, float("inf"))), ValueError, "finite"),
        (("mail", None, None, (5, 1e300)), ValueError, "the time of the rate of queue 'mail' is too long"),
    ],
)
def test_what_is_no_queue_is_refused(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Queue(*arguments)


@pytest.mark.parametrize(
    ("queues", "error", "text"),
    [
        (["mail"], TypeError, r"queues=\[Queue\('mail'\)\], not 'mail'"),
        ([Queue("mail"), Queue("mail", 1)], ValueError, "queue 'mail' is there twice"),
    ],
)
def test_what_are_no_queues_is_refused(tmp_path: Path, queues: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Orchestrator(tmp_path / "runs.db", queues=queues)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"queue": ""}, ValueError, "name of a queue must not be empty"),
        ({"queue": 5}, TypeError, "name of a queue is a str"),
        ({"queue": Queue("mail")}, TypeError, "name of a queue is a str, not Queue"),
        ({"priority": "high"}, TypeError, "priority is an int, not str"),
        ({"priority": 2**31}, ValueError, "between -2147483648 and 2147483647"),
        ({"delay": -1}, ValueError, "a workflow's delay must not be negative"),
        ({"delay": "1"}, TypeError, "a workflow's delay is a number of seconds or a timedelta"),
        ({"delay": timedelta(days=365 * 9000)}, ValueError, "after the year 9999"),
        ({"deduplication_key": " "}, ValueError, "deduplication key must not be blank"),
    ],
)
def test_options_that_are_none_store_nothing(
    orchestrator: MakeOrchestrator, job: Any, options: Any, error: Any, text: str
) -> None:
    runner = orchestrator(MemoryDatabaseManager())
    with pytest.raises(error, match=text):
        runner.start_workflow(job, "a", **options)
    assert runner.list_workflows() == []


def test_a_store_without_queues_says_so(
    tmp_path: Path, orchestrator: MakeOrchestrator, job: Any, gate: Gate, act: Any
) -> None:
    gate.opened.set()
    with pytest.raises(UnsupportedOperationError, match="SevenMethodsManager cannot keep queues: it lacks"):
        Orchestrator(db_manager=SevenMethodsManager(tmp_path / "store"), queues=[Queue("mail")])
    runner = orchestrator(SevenMethodsManager(tmp_path / "store"))
    for options in ({"queue": "mail"}, {"priority": 1}, {"deduplication_key": "k"}, {"delay": 5}):
        with pytest.raises(UnsupportedOperationError, match=r"it lacks the capability \"(queues|waiting)\""):
            runner.start_workflow(job, "a", **options)
    with pytest.raises(UnsupportedOperationError, match="cannot keep queues"):
        runner.list_queues()
    assert runner.list_workflows() == []
    assert runner.start_workflow(job, "a").result(20) == "a"


def test_a_child_has_no_deduplication_key(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child() -> None: ...

    @workflow
    def parent() -> None:
        child.options(deduplication_key="k")()

    with pytest.raises(WorkflowFailedError, match="a child workflow cannot have a deduplication_key") as caught:
        orchestrator(memory).start_workflow(parent).result(20)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_queue_is_plain_data() -> None:
    queue = Queue("mail", rate=(5, 60))
    assert queue == Queue("mail", None, None, (5, 60))
    assert (queue.is_limited, queue.period, queue.starts_per_period) == (True, timedelta(minutes=1), 5)
    assert (Queue("x").is_limited, Queue("x").period) == (False, timedelta())
    assert datetime.now(UTC) + queue.period  # a timedelta
