"""Threads: nothing starves, nothing leaks, nobody is overtaken, and a bad run harms no other."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    Orchestrator,
    SQLiteDatabaseManager,
    activity,
    durable,
    workflow,
)
from py_orchestrate._engine.workers import WorkerPool
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import StorageError
from py_orchestrate.testing._samples import race

from ..waiting import wait_until

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system has no /proc")

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return an event for activities to wait for; it is set at the end in any case."""
    gate = threading.Event()
    yield gate
    gate.set()


def rows(path: Path, sql: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def library_threads() -> list[str]:
    """Return the names of the library's threads, but for the one that waits for the program's end."""
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("py_orchestrate")]
    return [name for name in names if name != "py_orchestrate-exit-guard"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def on_threads(count: int, action: Callable[[int], Any]) -> list[Any]:
    """Return what the action returns on each of several threads that begin at the same moment."""
    barrier = threading.Barrier(count)

    def at_once(n: int) -> Any:
        barrier.wait(30)
        return action(n)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(at_once, range(count)))


# --- nothing starves --------------------------------------------------------------------------------------------------


def test_nested_workflow_calls_need_one_worker(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def step(n: int) -> int:
        return 10 * n

    @workflow
    def child(n: int) -> int:
        return step(n)

    @workflow
    def parent() -> int:
        return child(1) + child(2)

    started = orchestrator(database, max_workers=1)
    assert started.start_workflow(parent).result(timeout=10) == 30


def test_a_workflow_may_wait_for_another_with_one_worker(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def step(n: int) -> int:
        return n + 1

    @workflow
    def descend(depth: int) -> int:
        if not depth:
            return 0
        return step(started.start_workflow("descend", depth=depth - 1).result())

    started = orchestrator(database, max_workers=1)
    assert started.start_workflow(descend, 10).result(timeout=20) == 10


@pytest.mark.parametrize("call", ["plain", "submitted", "nested"])
def test_an_activity_may_wait_for_a_workflow_with_one_worker(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, call: str
) -> None:
    @activity
    def step(n: int) -> int:
        return n + 1

    @workflow
    def child(n: int) -> list[int]:
        return step.map(range(n))

    @activity
    def ask(n: int) -> list[int]:
        return started.get_handle(started.invoke_workflow("child", n=n)).result()

    @activity
    def ask_within(n: int) -> list[int]:
        return ask(n)

    @workflow
    def parent() -> list[list[int]]:
        if call == "submitted":
            return ask.map([1, 2, 3])
        return [ask(n) if call == "plain" else ask_within(n) for n in (1, 2, 3)]

    started = orchestrator(database, max_workers=1)
    assert started.start_workflow(parent).result(timeout=20) == [[1], [1, 2], [1, 2, 3]]


def test_many_pending_parents_do_not_starve_their_children(path: Path) -> None:
    @activity
    def step(n: int) -> int:
        return n + 1

    @workflow
    def child(n: int) -> int:
        return step(n)

    @workflow
    def parent(n: int) -> int:
        children = [started.start_workflow(child, n) for _ in range(2)]
        return sum(each.result() for each in children)

    started = Orchestrator(path, max_workers=4)
    handles = [started.start_workflow(parent, n) for n in range(40)]
    with started:
        assert [handle.result(timeout=30) for handle in handles] == [2 * (n + 1) for n in range(40)]
        assert rows(path, "SELECT count(*) FROM workflows") == [(120,)]
        assert started._engine._capacity == 4


def test_a_waiting_parent_never_misses_its_child(path: Path) -> None:
    """Parent and child change places hundreds of times, with the background loop always looking for work."""

    @workflow
    def child(n: int) -> int:
        return n

    @workflow
    def parent(n: int) -> int:
        return started.start_workflow(child, n).result()

    with Orchestrator(path, max_workers=1, poll_interval_seconds=0.001) as started:
        for n in range(300):
            assert started.start_workflow(parent, n).result(timeout=10) == n
        assert started._engine._capacity == 1


def test_what_waits_for_a_thread_begins_when_there_may_be_more(gate: threading.Event) -> None:
    """A run that was claimed in a waiting parent's place must not end up behind the parent."""
    pool = WorkerPool("worker", 1)
    pool.submit(lambda: gate.wait(30))
    began = threading.Event()
    pool.submit(began.set)
    assert not began.is_set()
    pool.change_limit(+1)
    assert began.wait(10)
    pool.stop()


def test_work_goes_to_whoever_was_busy_last() -> None:
    """Threads are not made, nor woken in turn, where one is enough: its stack and its caches are warm."""
    pool = WorkerPool("worker", 8)
    names = []
    done = threading.Semaphore(0)

    def work() -> None:
        names.append(threading.current_thread().name)
        done.release()

    for _ in range(20):
        pool.submit(work)
        assert done.acquire(timeout=10)
        wait_until(lambda: pool._idle)
    assert len(set(names)) == 1
    pool.stop()
    wait_until(lambda: not pool._threads)


def test_a_pool_does_all_that_is_submitted_whoever_submits_it() -> None:
    pool = WorkerPool("worker", 4)
    done: list[tuple[int, int]] = []
    race([lambda n=n: [pool.submit(lambda each=each: done.append((n, each))) for each in range(500)] for n in range(4)])
    wait_until(lambda: len(done) == 2000)
    assert len(set(done)) == 2000
    assert len(pool._threads) <= 4
    pool.submit(lambda: done.append((9, 9)))
    pool.stop()  # what was submitted before is done
    wait_until(lambda: not pool._threads)
    assert done[-1] == (9, 9)


def test_activities_in_flight_are_bounded(path: Path, gate: threading.Event) -> None:
    """While a write lasts, others go on, but not for ever: what is not stored runs again after a crash."""
    workers = 3
    bodies: list[int] = []
    writes: list[int] = []

    class SlowManager(SQLiteDatabaseManager):
        def record_steps(self, workflow_id: str, epoch: int, steps: Any, **others: Any) -> Any:
            assert gate.wait(30)
            # On a slow machine some are marked as running meanwhile, which is another write.
            if ended := sum(step.status != "running" for step in steps):
                writes.append(ended)
            return super().record_steps(workflow_id, epoch, steps, **others)

    @activity
    def act(n: int) -> int:
        bodies.append(n)
        return n

    @workflow
    def spread() -> int:
        return sum(act.map(range(100)))

    with Orchestrator(db_manager=SlowManager(path), max_workers=workers) as runner:
        handle = runner.start_workflow(spread)
        wait_until(lambda: len(bodies) == 1 + workers + workers - 1)  # in the write, waiting for one, for room
        assert writes == []
        gate.set()
        assert handle.result(30) == sum(range(100))
    assert sum(writes) == 100
    assert max(writes) <= workers
    assert len(writes) < 100, "none was shared"


@pytest.mark.parametrize("place", ["workflow", "activity", "submitted activity"])
def test_stopping_does_not_wait_for_a_child_that_nobody_begins(path: Path, gate: threading.Event, place: str) -> None:
    """A parent that waits for what the stop keeps from beginning is handed back, and goes on at the next start."""
    waiting = threading.Event()

    @workflow
    def child() -> str:
        return "child"

    def ask() -> str:
        handle = started.start_workflow(child, workflow_id="child")
        waiting.set()
        assert gate.wait(30)
        return f"parent of {handle.result()}"

    ask_in_activity = activity("ask")(ask)

    @workflow
    def parent() -> str:
        if place == "workflow":
            return ask()
        return ask_in_activity() if place == "activity" else ask_in_activity.submit().result()

    @workflow
    def other() -> None:
        gate.wait(30)

    started = Orchestrator(path, max_workers=2)
    started.start()
    handle = started.start_workflow(parent)
    started.start_workflow(other)
    assert waiting.wait(10)
    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(started.stop, 20)
        wait_until(lambda: started._engine._state == "stopping")
        gate.set()
        assert stopping.result(timeout=30)
    assert handle.status()["status"] == "processing"
    with started:
        assert handle.result(timeout=10) == "parent of child"


def test_a_wait_for_a_workflow_can_be_given_up(path: Path, gate: threading.Event) -> None:
    @workflow
    def slow() -> None:
        gate.wait(30)

    @workflow
    def impatient() -> str:
        try:
            started.start_workflow(slow).result(timeout=0.05)
        except TimeoutError:
            return "gave up"
        return "waited"

    with Orchestrator(path, max_workers=1) as started:
        assert started.start_workflow(impatient).result(timeout=10) == "gave up"
        gate.set()


# --- context variables ------------------------------------------------------------------------------------------------

tenant = contextvars.ContextVar("tenant", default="none")


def test_the_callers_context_does_not_reach_a_workflow(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    """For it could not survive a restart; what a workflow needs are its arguments."""

    @activity
    def read() -> str:
        return tenant.get()

    @workflow
    def job() -> list[str]:
        return [tenant.get(), read(), read.submit().result()]

    started = orchestrator(database)
    token = tenant.set("acme")
    try:
        assert started.start_workflow(job).result(timeout=10) == ["none"] * 3
    finally:
        tenant.reset(token)


def test_a_workflows_context_reaches_its_activities(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def read() -> str:
        return tenant.get()

    @activity
    async def read_later() -> str:
        await asyncio.sleep(0)
        return tenant.get()

    @workflow
    def job() -> list[str]:
        tenant.set("acme")
        return [read(), read_later(), *durable.gather(read.submit(), read_later.submit())]

    assert orchestrator(database).start_workflow(job).result(timeout=10) == ["acme"] * 4


def test_context_does_not_leak_to_the_next_on_the_same_thread(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def set_and_read(value: str) -> list[Any]:
        before = tenant.get()
        tenant.set(value)
        return [before, durable.info().workflow_id, threading.current_thread().name]

    @activity
    async def set_and_read_later(value: str) -> list[Any]:
        return set_and_read.fn(value)

    @workflow
    def inline(value: str) -> list[Any]:
        return set_and_read(value)

    @workflow
    def submitted(value: str) -> list[Any]:
        return set_and_read.submit(value).result()

    @workflow
    def awaited(value: str) -> list[Any]:
        return set_and_read_later(value)

    started = orchestrator(database, max_workers=1)
    for each in (inline, submitted, awaited):
        seen = [(handle := started.start_workflow(each, str(n)), handle.result(timeout=10)) for n in range(3)]
        assert [result[0] for _, result in seen] == ["none"] * 3
        assert [result[1] for _, result in seen] == [handle.id for handle, _ in seen]
        assert len({result[2] for _, result in seen}) == 1, "not the same thread, so nothing was tested"


def test_parallel_workflows_know_which_they_are(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    together = threading.Barrier(4)

    @activity
    def who() -> str:
        together.wait(10)
        return durable.info().idempotency_key

    @workflow
    def job() -> list[str]:
        return [durable.info().workflow_id, who(), who(), who.submit().result()]

    started = orchestrator(database, max_workers=4)
    handles = [started.start_workflow(job) for _ in range(4)]
    for handle in handles:
        assert handle.result(timeout=20) == [handle.id, *[f"{handle.id}:{n}" for n in range(3)]]


# --- any thread -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_an_orchestrator_works_from_any_thread(tmp_path: Path, where: str) -> None:
    @activity
    def step() -> str:
        return threading.current_thread().name

    @workflow
    def job() -> str:
        return step()

    def in_thread(action: Callable[[], Any]) -> Any:
        (result,) = on_threads(1, lambda _: action())  # the thread has ended when this returns
        return result

    started: Orchestrator = in_thread(lambda: Orchestrator(tmp_path / "runs.db" if where == "file" else where))
    in_thread(started.start)
    found = in_thread(lambda: started.invoke_workflow("job"))
    assert in_thread(lambda: started.wait_for_workflow(found, 10))["output"].startswith("py_orchestrate-worker")
    assert in_thread(lambda: started.get_workflow_status(found))["status"] == "done"
    assert [run["id"] for run in in_thread(started.list_workflows)] == [found]
    assert len(in_thread(lambda: started.get_history(found))) == 1
    assert in_thread(started.stop)


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_many_threads_invoke_at_once(tmp_path: Path, where: str) -> None:
    @activity
    def step(n: int) -> int:
        return n + 1

    @workflow
    def job(n: int) -> int:
        return step(step(n))

    with Orchestrator(tmp_path / "runs.db" if where == "file" else where, max_workers=4) as started:
        found = on_threads(16, lambda n: [started.start_workflow(job, n).result(timeout=20) for _ in range(10)])
        assert found == [[n + 2] * 10 for n in range(16)]
        assert len(started.list_workflows(status="done")) == 160


def test_one_id_started_by_many_threads_is_one_run(path: Path) -> None:
    ran: list[int] = []

    @activity
    def step() -> None:
        ran.append(1)

    @workflow
    def job() -> None:
        step()

    with Orchestrator(path, max_workers=4) as started:
        for n in range(20):
            handles = on_threads(8, lambda _, n=n: started.start_workflow(job, workflow_id=f"run-{n}"))
            for handle in handles:
                handle.result(timeout=10)
        assert len(ran) == 20


@needs_proc
@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_threads_that_come_and_go_leave_nothing_open(tmp_path: Path, where: str) -> None:
    @workflow
    def job() -> None:
        pass

    with Orchestrator(tmp_path / "runs.db" if where == "file" else where) as started:
        handle = started.start_workflow(job)
        handle.result(timeout=10)
        before = descriptors()
        seen: list[int] = []
        for _ in range(10):
            threads = [threading.Thread(target=lambda: seen.append(len(handle.status()))) for _ in range(50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(seen) == 500
        assert descriptors() - before <= 3 * 4  # four readers stay open, each with the file and its write-ahead log


# --- no leaks ---------------------------------------------------------------------------------------------------------


def test_stopping_ends_every_thread(database: BaseDatabaseManager) -> None:
    @activity
    def plain() -> None:
        pass

    @activity
    async def later() -> None:
        pass

    @workflow
    def job() -> None:
        plain()
        durable.gather(plain.submit(), later.submit())

    with Orchestrator(db_manager=database) as started:
        for handle in [started.start_workflow(job) for _ in range(20)]:
            handle.result(timeout=10)
        assert {name.split("-")[1] for name in library_threads()} == {
            "recovery",
            "lease",
            "worker",
            "activity",
            "event",
        }
    wait_until(lambda: not library_threads(), timeout=2)
    assert sum(thread.name == "py_orchestrate-exit-guard" for thread in threading.enumerate()) == 1


@needs_proc
def test_starting_and_stopping_leaks_nothing(path: Path) -> None:
    @activity
    def plain() -> None:
        pass

    @activity
    async def later() -> None:
        pass

    @workflow
    def job() -> None:
        durable.gather(plain.submit(), later.submit())

    started = Orchestrator(path)
    counts = []
    for n in range(51):
        started.start()
        started.start_workflow(job).result(timeout=10)
        assert started.stop()
        wait_until(lambda: not library_threads(), timeout=2)
        gc.collect(0)
        if n in (0, 50):
            counts.append((descriptors(), threading.active_count()))
    assert counts[0] == counts[1]
    assert rows(path, "SELECT count(*) FROM orchestrators") == [(0,)]
    assert os.listdir(path.parent) == [path.name]


@needs_proc
def test_orchestrators_that_are_let_go_leave_nothing(tmp_path: Path) -> None:
    @workflow
    def job() -> None:
        pass

    def use(name: str) -> None:
        with Orchestrator(tmp_path / name) as started:
            started.start_workflow(job).result(timeout=10)

    use("first.db")
    gc.collect()
    before = descriptors()
    for n in range(20):
        use(f"{n}.db")
    wait_until(lambda: not library_threads(), timeout=2)
    gc.collect()
    assert descriptors() <= before


# --- how much is claimed, and in which order --------------------------------------------------------------------------


def test_no_more_is_claimed_than_can_run(path: Path) -> None:
    counts: list[int] = []
    parallel: list[int] = []
    lock = threading.Lock()

    @activity
    def step() -> None:
        with lock:
            parallel.append(1)
            counts.append(len(parallel))
        if len(counts) % 50 == 0:
            held.append(rows(path, "SELECT count(*) FROM workflows WHERE owner IS NOT NULL")[0][0])
        with lock:
            parallel.pop()

    @workflow
    def job() -> None:
        step()

    held: list[int] = []
    started = Orchestrator(path, max_workers=4)
    for _ in range(1000):
        started.invoke_workflow("job")
    assert rows(path, "SELECT count(*) FROM workflows WHERE owner IS NULL") == [(1000,)]
    with started:
        wait_until(lambda: rows(path, "SELECT count(*) FROM workflows WHERE status = 'done'") == [(1000,)], timeout=30)
        assert len([name for name in library_threads() if "worker" in name]) <= 4
    assert len(counts) == 1000
    assert max(counts) <= 4
    assert len(held) == 20
    assert 1 <= max(held) <= 4


def test_what_exceeds_the_workers_is_nobodys(path: Path, gate: threading.Event) -> None:
    @workflow
    def job() -> None:
        gate.wait(30)

    with Orchestrator(path, max_workers=2) as first:
        for _ in range(5):
            first.invoke_workflow("job")
        assert rows(path, "SELECT count(owner) FROM workflows") == [(2,)]
        with Orchestrator(path, max_workers=2):
            wait_until(lambda: rows(path, "SELECT count(owner), count(DISTINCT owner) FROM workflows") == [(4, 2)])
            gate.set()


def test_the_oldest_goes_first(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    order: list[int] = []

    @workflow
    def one(n: int) -> None:
        order.append(n)

    @workflow
    def other(n: int) -> None:
        order.append(n)

    started = orchestrator(database, start=False, max_workers=1)
    handles = [started.start_workflow((one, other)[n % 3 == 0], n) for n in range(60)]
    started.start()
    for handle in handles:
        handle.result(timeout=20)
    assert order == list(range(60))


def test_the_oldest_goes_first_while_new_ones_come(path: Path, gate: threading.Event) -> None:
    order: list[int] = []

    @workflow
    def block() -> None:
        gate.wait(30)

    @workflow
    def job(n: int) -> None:
        order.append(n)
        if n < 20:
            started.start_workflow("job", n=n + 100)

    with Orchestrator(path, max_workers=1) as started:
        started.start_workflow(block)
        for n in range(20):
            started.start_workflow(job, n)
        gate.set()
        wait_until(lambda: len(order) == 40)
    assert order == [*range(20), *range(100, 120)]


# --- bad runs and unknown names ---------------------------------------------------------------------------------------

DAMAGE = {
    "arguments that are no JSON": "input_data = '{'",
    "arguments that do not fit": """input_data = '{"m": 1}'""",
    "arguments that are a list": "input_data = '[1]'",
    "arguments that are a blob": "input_data = x'ff'",
    "a time that is none": "created_at = 'yesterday'",
    "a time that is a number": "updated_at = 5",
    "a status that is none": "status = 'lost'",
    "a name that nobody knows": "name = 'unknown'",
    "a name that is a blob": "name = x'6a6f62'",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_bad_run_does_not_stop_the_others(path: Path, damage: str) -> None:
    @activity
    def step(n: int) -> int:
        return n + 1

    @workflow
    def job(n: int) -> int:
        return step(n)

    started = Orchestrator(path, max_workers=1, poll_interval_seconds=0.01)
    handles = [started.start_workflow(job, n) for n in range(4)]
    rows(path, f"UPDATE workflows SET {damage} WHERE id = ?", handles[1].id)
    with started:
        assert [handles[n].result(timeout=10) for n in (0, 2, 3)] == [1, 3, 4]
        assert started.start_workflow(job, 7).result(timeout=10) == 8
    (bad,) = rows(path, "SELECT status, owner FROM workflows WHERE id = ?", handles[1].id)
    assert bad in [("processing", None), ("failed", None), ("lost", None)]


@pytest.mark.parametrize("damage", [DAMAGE["a time that is none"], DAMAGE["a status that is none"]])
def test_a_bad_run_can_be_looked_at(path: Path, damage: str) -> None:
    """Or is at least named; and what is good is listed beside it."""

    @workflow
    def job(n: int) -> int:
        return n

    with Orchestrator(path) as started:
        handles = [started.start_workflow(job, n) for n in range(3)]
        for handle in handles:
            handle.result(timeout=10)
        rows(path, f"UPDATE workflows SET {damage} WHERE id = ?", handles[1].id)
        with pytest.raises(StorageError, match=handles[1].id):
            handles[1].status()
        assert {run["id"] for run in started.list_workflows()} == {handles[0].id, handles[2].id}


def test_unknown_names_wait_for_who_knows_them(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    def known() -> str:
        return "known"

    @workflow
    def elsewhere() -> str:
        return "elsewhere"

    started = Orchestrator(path, poll_interval_seconds=0.01)
    waiting = [started.start_workflow(elsewhere) for _ in range(3)]
    forgotten = get_registry().workflows.pop("elsewhere")
    started.start()
    assert started.start_workflow(known).result(timeout=10) == "known"
    ticks = started._engine._recovery
    for _ in range(5):
        wait_until(lambda before=ticks._poll_due: ticks._poll_due > before)
    assert rows(path, "SELECT DISTINCT status, owner FROM workflows WHERE name = 'elsewhere'") == [("processing", None)]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [("elsewhere" in record.getMessage()) for record in warnings[-1:]] == [True]
    assert len([record for record in warnings if "registered" in record.getMessage()]) == 1
    get_registry().workflows["elsewhere"] = forgotten
    assert [handle.result(timeout=10) for handle in waiting] == ["elsewhere"] * 3
    started.stop()


def test_an_unknown_name_waits_for_another_process(path: Path) -> None:
    @workflow
    def elsewhere() -> str:
        return "elsewhere"

    with ExitStack() as stack:
        database = SQLiteDatabaseManager(path)
        stack.callback(database.close)
        handle = Orchestrator(db_manager=database).start_workflow(elsewhere)
        function = get_registry().workflows.pop("elsewhere")
        first = stack.enter_context(Orchestrator(path, poll_interval_seconds=0.01))
        before = first._engine._recovery._poll_due
        wait_until(lambda: first._engine._recovery._poll_due > before)
        assert handle.status()["status"] == "processing"
        get_registry().workflows["elsewhere"] = function
        second = stack.enter_context(Orchestrator(path, poll_interval_seconds=0.01))
        assert second.get_handle(handle.id).result(timeout=10) == "elsewhere"


def test_waiting_ends_soon_after_the_run(path: Path) -> None:
    """Nobody who waits in the process that runs it waits for a turn of anything."""

    @activity
    def step() -> float:
        return time.monotonic()

    @workflow
    def job() -> float:
        return step()

    with Orchestrator(path, poll_interval_seconds=30) as started:
        delays = []
        for _ in range(50):
            ended = started.start_workflow(job).result(timeout=10)
            delays.append(time.monotonic() - ended)
    assert sorted(delays)[25] < 0.1
