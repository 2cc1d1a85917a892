"""Attempts of activities: counted, stored before the next begins, final after the last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import ActivityCancelledError, ActivityTimeoutError
from py_orchestrate.testing.clock import FakeClock

from ..managers import SevenMethodsManager
from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
SOON = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=0)
LATER = RetryPolicy(max_attempts=3, initial_interval=100, max_interval=100, backoff=1, jitter=0)

attempts: list[Any] = []


@pytest.fixture(autouse=True)
def no_attempts() -> None:
    attempts.clear()


def fails_until(attempt: int) -> str:
    found = durable.info().attempt
    attempts.append(found)
    if found < attempt:
        raise ConnectionError(f"attempt {found}")
    return f"attempt {found}"


@pytest.mark.parametrize("how", ["call", "submit", "map", "async", "by name"])
def test_attempts_are_counted(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, how: str) -> None:
    @activity(retry=SOON)
    def flaky(attempt: int) -> str:
        return fails_until(attempt)

    @activity(retry=SOON)
    async def later(attempt: int) -> str:
        return fails_until(attempt)

    @workflow
    def w(attempt: int) -> Any:
        calls: dict[str, Callable[[], Any]] = {
            "call": lambda: flaky(attempt),
            "submit": lambda: flaky.submit(attempt).result(),
            "map": lambda: flaky.map([attempt])[0],
            "async": lambda: later(attempt),
            "by name": lambda: durable.call_activity("flaky", attempt),
        }
        return calls[how]()

    runner = orchestrator(database)
    assert runner.start_workflow(w, 3).result(10) == "attempt 3"
    assert attempts == [1, 2, 3]
    attempts.clear()
    failed = runner.start_workflow(w, 4)
    assert failed.wait(10)["error_message"] == "attempt 3"
    assert attempts == [1, 2, 3]
    (step,) = runner.get_history(failed.id)
    assert step["status"] == "failed"
    if not isinstance(database, SevenMethodsManager):
        assert step["attempt"] == 3


def test_the_failure_is_the_last_one_and_says_so(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity(retry=SOON)
    def flaky() -> str:
        return fails_until(99)

    @workflow
    def w() -> Any:
        try:
            flaky()
        except ConnectionError as error:
            durable.sleep(0.001)
            return [str(error), error.__notes__[0]]

    assert orchestrator(memory).start_workflow(w).result(10) == ["attempt 3", "failed after 3 attempts"]


def test_what_is_not_tried_again(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity(retry=RetryPolicy(initial_interval=0.01, give_up_on=KeyError))
    def fails(error: str) -> Any:
        attempts.append(error)
        if error == "unstorable":
            return object()
        raise {"give up": KeyError("x"), "exit": SystemExit(3)}[error]

    @workflow
    def w(what: str) -> Any:
        if what == "argument":
            return fails(object())
        return durable.call_activity("nobody") if what == "unknown" else fails(what)

    runner = orchestrator(memory)
    for what in ("give up", "exit", "unstorable", "argument", "unknown"):
        assert runner.start_workflow(w, what).wait(10)["status"] == "failed"
    assert attempts == ["give up", "exit", "unstorable"]


def test_options_of_one_call(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity(retry=SOON)
    def flaky(attempt: int) -> str:
        return fails_until(attempt)

    @workflow
    def w() -> list[Any]:
        once, more = flaky.options(retry=None), flaky.options(retry=RetryPolicy(max_attempts=5, initial_interval=0.01))
        seen: list[Any] = [more(5), more.submit(5).result(), more.map([5])]
        for call in (lambda: once(2), lambda: flaky(5)):
            try:
                call()
            except ConnectionError as error:
                seen.append(str(error))
        return seen

    assert orchestrator(memory).start_workflow(w).result(10) == [
        "attempt 5", "attempt 5", ["attempt 5"], "attempt 1", "attempt 3"
    ]  # fmt: skip


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
@pytest.mark.parametrize("submitted", [False, True])
def test_a_long_wait_leaves_the_worker(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, submitted: bool
) -> None:
    @activity(retry=LATER)
    def flaky() -> str:
        return fails_until(3)

    @workflow
    def w() -> str:
        return flaky.submit().result() if submitted else flaky()

    @workflow
    def quick() -> str:
        return "quick"

    clock = FakeClock()
    runner = orchestrator(database, max_workers=1, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    for n in (1, 2):
        wait_until(lambda: runner._engine._busy == 0)
        wait_until(lambda n=n: len(attempts) == n)
        assert runner.start_workflow(quick).result(10) == "quick"
        (step,) = runner.get_history(handle.id)
        assert (step["status"], step["attempt"], step["error_message"]) == ("retrying", n + 1, f"attempt {n}")
        runner.stop()
        runner.start()
        clock.advance(99)
        assert runner.start_workflow(quick).result(10) == "quick"
        assert len(attempts) == n, "it is not due yet"
        clock.advance(1)
    assert handle.result(10) == "attempt 3"
    assert attempts == [1, 2, 3]


def test_the_background_loop_starts_what_nobody_waits_for_yet(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    clock = FakeClock()

    @activity(retry=LATER)
    def flaky() -> str:
        return fails_until(3)

    @activity
    def meanwhile() -> None:
        for n in (1, 2):
            wait_until(lambda n=n: len(attempts) == n)
            wait_until(lambda n=n: [step["attempt"] for step in runner.get_history(handle.id)][:1] == [n + 1])
            clock.advance(100)
        wait_until(lambda: len(attempts) == 3)

    @workflow
    def w() -> str:
        begun.wait(10)
        future = flaky.submit()
        meanwhile()
        return future.result()

    begun = threading.Event()
    runner = orchestrator(memory, clock=clock)
    handle = runner.start_workflow(w)
    begun.set()
    assert handle.result(20) == "attempt 3"


def test_a_run_does_not_end_before_what_it_submitted(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity(retry=LATER)
    def flaky() -> str:
        return fails_until(2)

    @workflow
    def w() -> str:
        flaky.submit()
        return "over"

    clock = FakeClock()
    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.wake_at)
    assert handle.status()["status"] == "processing"
    clock.advance(100)
    assert handle.result(10) == "over"
    assert attempts == [1, 2]


def test_the_time_for_all_attempts(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    clock = FakeClock()

    @activity(retry=RetryPolicy(max_attempts=None, initial_interval=0.001, jitter=0), total_timeout=100)
    def flaky() -> None:
        attempts.append(durable.info().attempt)
        clock.advance(30)
        raise ConnectionError(f"attempt {attempts[-1]}")

    @activity(retry=RetryPolicy(max_attempts=None, initial_interval=0.001, max_elapsed=50, jitter=0))
    def elapses() -> None:
        attempts.append(durable.info().attempt)
        clock.advance(30)
        raise ConnectionError(f"attempt {attempts[-1]}")

    @workflow
    def w(name: str) -> None:
        durable.call_activity(name)

    runner = orchestrator(memory, clock=clock)
    assert runner.start_workflow(w, "flaky").wait(10)["error_message"] == "attempt 4"
    assert attempts == [1, 2, 3, 4]
    attempts.clear()
    assert runner.start_workflow(w, "elapses").wait(10)["error_message"] == "attempt 2"


def test_the_number_survives_a_restart_on_any_store(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    go_on = threading.Event()

    @activity(retry=RetryPolicy(max_attempts=4, initial_interval=0.3, backoff=1, jitter=0))
    def flaky() -> str:
        if durable.info().attempt == 3:
            go_on.set()
        return fails_until(4)

    @workflow
    def w() -> str:
        return flaky()

    first = orchestrator(SevenMethodsManager(tmp_path / "store"))
    handle = first.start_workflow(w)
    assert go_on.wait(10)
    assert first.stop(timeout=10), "it waits for no attempt to come"
    assert attempts == [1, 2, 3]
    again = orchestrator(SevenMethodsManager(tmp_path / "store"))
    assert again.wait_for_workflow(handle.id, 10)["output"] == "attempt 4"
    assert attempts == [1, 2, 3, 4]


@pytest.mark.parametrize("policy", ["max_attempts=2, initial_interval=0.01", ""])
def test_no_attempt_is_free(program: Callable[..., Program], policy: str) -> None:
    script = program(f"""
        from py_orchestrate import RetryPolicy

        @activity({f"retry=RetryPolicy({policy})" if policy else ""})
        def fails():
            mark("attempts", durable.info().attempt)
            raise ValueError("as ever")

        @workflow
        def w():
            try:
                fails()
            except ValueError:
                while steps() == 0:
                    time.sleep(0.01)  # the background loop stores the failure
                crash()
            return "caught"

        def steps():
            with sqlite3.connect(os.path.join(os.environ["FOLDER"], "runs.db")) as connection:
                query = "SELECT count(*) FROM activity_executions WHERE status = 'failed'"
                (count,) = connection.execute(query).fetchone()
            connection.close()
            return count
        """)
    script.crash(kill=True)
    assert script.recover().output == "caught"
    # Without a policy a failure at the very end of the history runs again, as it always did.
    assert script.lines("attempts") == (["1", "2"] if policy else ["1", "1"])


# --- time limits ------------------------------------------------------------------------------------------------------


def test_a_late_result_is_never_recorded(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    release, ended = threading.Event(), threading.Event()
    told: list[Any] = []

    @activity(timeout=0.1, retry=RetryPolicy(max_attempts=2, initial_interval=0.01))
    def slow() -> str:
        if durable.info().attempt == 2:
            return "in time"
        release.wait(10)
        told.append(durable.info().cancel_requested)
        try:
            durable.heartbeat()
        except ActivityCancelledError as error:
            told.append(str(error))
        ended.set()
        return "late"

    @workflow
    def w() -> list[str]:
        return [slow(), durable.wait_for_event("go")]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(runner.get_history(handle.id)) == 2)
    release.set()
    assert ended.wait(10)
    handle.raise_event("go", "on")
    assert handle.result(10) == ["in time", "on"]
    assert told == [True, "activity 'slow' has been timed out; its result no longer counts"]
    assert [step["output"] for step in runner.get_history(handle.id)] == ["in time", "on"]


@pytest.mark.parametrize("submitted", [False, True])
def test_a_time_limit_is_a_failure_like_others(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, submitted: bool
) -> None:
    release = threading.Event()

    @activity
    def slow() -> None:
        release.wait(10)

    @activity
    async def slow_async() -> None:
        import asyncio

        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            attempts.append("cancelled")
            raise

    @workflow
    def w() -> list[str]:
        seen = []
        for call in (
            slow.options(timeout=0.05), slow.options(heartbeat_timeout=0.05), slow.options(total_timeout=0.05),
            slow_async.options(timeout=0.05),
        ):  # fmt: skip
            try:
                call.submit().result() if submitted else call()
            except ActivityTimeoutError as error:
                seen.append(str(error))
        durable.sleep(0.001)
        return seen

    assert orchestrator(memory).start_workflow(w).result(10) == [
        "activity 'slow' took longer than its timeout of 0.05 s",
        "activity 'slow' gave no heartbeat for 0.05 s",
        "activity 'slow' took longer than its total timeout of 0.05 s",
        "activity 'slow_async' took longer than its timeout of 0.05 s",
    ]
    wait_until(lambda: attempts == ["cancelled"])
    release.set()


def test_heartbeats_keep_an_activity_alive(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity(heartbeat_timeout=0.5)
    def long() -> str:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            durable.heartbeat()
            time.sleep(0.01)  # the work
        return durable.info().name

    @workflow
    def w() -> str:
        return long()

    assert orchestrator(memory).start_workflow(w).result(10) == "long"


def test_without_limits_no_thread_is_started(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def name() -> str:
        return threading.current_thread().name

    @workflow
    def w() -> list[str]:
        return [name(), name.options(timeout=10)()]

    plain, limited = orchestrator(memory).start_workflow(w).result(10)
    assert plain.startswith("py_orchestrate-worker-")
    assert limited == "py_orchestrate-timed-name"
