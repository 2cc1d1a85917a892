"""Threads and processes that a workflow starts by itself: a durable call in them is refused, never run unrecorded."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import multiprocessing.pool
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import DurableCallError

from ..children import in_fork

MakeOrchestrator = Callable[..., Orchestrator]

Outcome = list[Any]


def caught(action: Callable[[], Any]) -> Outcome:
    """Return what the action gave or raised, so that no thread ends with an exception that nobody looks at."""
    try:
        return ["gave", action()]
    except BaseException as error:
        return ["raised", type(error), str(error)]


def in_thread(action: Callable[[], Any], start: Callable[[Callable[[], None]], Any]) -> Outcome:
    """Run the action in a thread that ``start`` makes and starts, and wait for it."""
    outcomes: list[Outcome] = []
    ended = threading.Event()

    def body() -> None:
        outcomes.append(caught(action))
        ended.set()

    start(body)
    assert ended.wait(10)
    return outcomes[0]


def by_thread(action: Callable[[], Any]) -> Outcome:
    return in_thread(action, lambda body: threading.Thread(target=body).start())


def by_daemon(action: Callable[[], Any]) -> Outcome:
    return in_thread(action, lambda body: threading.Thread(target=body, daemon=True).start())


def by_subclass(action: Callable[[], Any]) -> Outcome:
    class Worker(threading.Thread):
        def __init__(self, body: Callable[[], None]) -> None:
            super().__init__()
            self.body = body

        def run(self) -> None:
            self.body()

    return in_thread(action, lambda body: Worker(body).start())


def by_timer(action: Callable[[], Any]) -> Outcome:
    return in_thread(action, lambda body: threading.Timer(0, body).start())


def by_thread_of_a_thread(action: Callable[[], Any]) -> Outcome:
    return by_thread(lambda: by_daemon(action))[1]


def by_executor(action: Callable[[], Any]) -> Outcome:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(caught, action).result()


def by_executor_map(action: Callable[[], Any]) -> Outcome:
    with ThreadPoolExecutor(2) as executor:
        first, second = executor.map(caught, [action, action])
    assert first == second
    return first


def by_thread_pool(action: Callable[[], Any]) -> Outcome:
    with multiprocessing.pool.ThreadPool(1) as pool:
        return pool.apply(caught, [action])


def by_to_thread(action: Callable[[], Any]) -> Outcome:
    return asyncio.run(asyncio.to_thread(caught, action))


def by_run_in_executor(action: Callable[[], Any]) -> Outcome:
    async def main() -> Outcome:
        return await asyncio.get_running_loop().run_in_executor(None, caught, action)

    return asyncio.run(main())


def by_copied_context(action: Callable[[], Any]) -> Outcome:
    context = contextvars.copy_context()
    return by_thread(lambda: context.run(caught, action))[1]


WAYS = [
    by_thread,
    by_daemon,
    by_subclass,
    by_timer,
    by_thread_of_a_thread,
    by_executor,
    by_executor_map,
    by_thread_pool,
    by_to_thread,
    by_run_in_executor,
    by_copied_context,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[3:])
@pytest.mark.parametrize("call", ["call", "submit", "map", "by name", "result"])
def test_a_durable_call_in_a_foreign_thread_raises(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, way: Callable[..., Outcome], call: str
) -> None:
    hits: Counter[str] = Counter()
    outcomes: list[Outcome] = []

    @activity
    def act(n: int) -> int:
        hits[str(n)] += 1
        return n

    @workflow
    def w() -> int:
        future = act.submit(0)
        action: dict[str, Callable[[], Any]] = {
            "call": lambda: act(1),
            "submit": lambda: act.submit(1),
            "map": lambda: act.map([1]),
            "by name": lambda: durable.call_activity("act", 1),
            "result": future.result,
        }
        outcomes.append(way(action[call]))
        return act(2)

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == 2
    ((verb, *what),) = outcomes
    assert (verb, what[0]) == ("raised", DurableCallError)
    assert "which the workflow started by itself: it could not be recorded" in what[1]
    assert "activity.submit(...)" in what[1]
    assert hits == {"0": 1, "2": 1}
    assert [(step["sequence"], step["input"]) for step in runner.get_history(handle.id)] == [
        (0, {"n": 0}),
        (1, {"n": 2}),
    ]


def test_a_foreign_thread_that_outlives_the_run_raises_too(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    hits: list[int] = []
    may_call = threading.Event()
    outcomes: list[Outcome] = []
    threads: list[threading.Thread] = []

    @activity
    def act(n: int) -> int:
        hits.append(n)
        return n

    @workflow
    def w() -> None:
        def late() -> None:
            assert may_call.wait(10)
            outcomes.append(caught(lambda: act(1)))

        context = contextvars.copy_context()
        for target in (late, lambda: context.run(late)):
            threads.append(threading.Thread(target=target, daemon=True))
            threads[-1].start()

    orchestrator(memory).start_workflow(w).result(10)
    may_call.set()
    for thread in threads:
        thread.join(10)
    assert [outcome[1] for outcome in outcomes] == [DurableCallError] * 2
    assert hits == []


def test_a_context_that_outlives_the_run_raises_too(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    hits: list[int] = []
    contexts: list[contextvars.Context] = []
    outcomes: list[Outcome] = []

    @activity
    def act() -> None:
        hits.append(1)

    @workflow
    def leaves_its_context() -> None:
        contexts.append(contextvars.copy_context())

    @workflow
    def finds_it() -> None:
        outcomes.append(contexts[0].run(caught, act))

    runner = orchestrator(memory, max_workers=1)  # both run on one thread
    runner.start_workflow(leaves_its_context).result(10)
    runner.start_workflow(finds_it).result(10)
    assert outcomes[0][1] is DurableCallError
    assert hits == []


def test_a_pool_that_another_workflow_warmed_up_raises_too(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    hits: list[int] = []
    outcomes: list[Outcome] = []

    @activity
    def act() -> None:
        hits.append(1)

    with ThreadPoolExecutor(1) as executor:

        @workflow
        def warms_up() -> int:
            return executor.submit(lambda: 1).result()

        @workflow
        def w() -> None:
            outcomes.append(executor.submit(caught, act).result())

        runner = orchestrator(memory)
        assert runner.start_workflow(warms_up).result(10) == 1
        runner.start_workflow(w).result(10)
        # What is no call of an activity is not a workflow's business once that has ended.
        assert executor.submit(runner.invoke_workflow, "warms_up").result(10)
    assert outcomes[0][1] is DurableCallError
    assert hits == []


def test_the_orchestrator_refuses_a_foreign_thread(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    outcomes: list[Outcome] = []

    @workflow
    def other() -> None:
        pass

    runner = orchestrator(memory)

    @workflow
    def w() -> None:
        outcomes.append(by_thread(lambda: runner.invoke_workflow("other")))
        outcomes.append(by_copied_context(lambda: runner.start_workflow(other)))

    runner.start_workflow(w).result(10)
    assert [outcome[1] for outcome in outcomes] == [DurableCallError] * 2
    assert runner.list_workflows("other") == []


def test_a_foreign_thread_may_log(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    outcomes: list[Outcome] = []

    @workflow
    def w() -> None:
        outcomes.append(by_thread(lambda: durable.logger.warning("from a thread")))

    orchestrator(memory).start_workflow(w).result(10)
    assert outcomes == [["gave", None]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_of_a_workflow_raises_and_leaves_the_run_alone(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    hits: list[int] = []

    @activity
    def act(n: int) -> int:
        hits.append(n)
        return n

    def check() -> None:
        for call in (lambda: act(1), lambda: act.submit(1), lambda: by_thread(lambda: act(1))):
            outcome = caught(call)
            outcome = outcome[1] if outcome[0] == "gave" else outcome
            assert outcome[1] is DurableCallError, outcome
        assert hits == [0]

    @workflow
    def w() -> list[int]:
        seen = [act(0)]
        in_fork(check)
        return [*seen, act(2)]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(30) == [0, 2]
    assert [step["sequence"] for step in runner.get_history(handle.id)] == [0, 1]


def test_an_activity_may_use_threads_of_its_own(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def inner(n: int) -> int:
        return n + 1

    @activity
    def outer() -> list[Any]:
        inside = [way(lambda: inner(1)) for way in WAYS]
        with ThreadPoolExecutor(2) as executor:
            return [outcome[1] for outcome in inside] + list(executor.map(inner, [1, 1]))

    @workflow
    def w() -> list[Any]:
        return [outer(), outer.submit().result()]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(20) == [[2] * (len(WAYS) + 2)] * 2
    assert [step["name"] for step in runner.get_history(handle.id)] == ["outer", "outer"]


def test_threads_that_no_workflow_started_call_plainly(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    began, may_end = threading.Event(), threading.Event()

    @activity
    def act(n: int) -> int:
        return n

    @activity
    def wait() -> None:
        began.set()
        assert may_end.wait(10)

    @workflow
    def w() -> None:
        wait()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert began.wait(10)
    assert act(1) == 1
    assert [way(lambda: act(1)) for way in WAYS] == [["gave", 1]] * len(WAYS)
    may_end.set()
    handle.wait(10)
    assert [step["name"] for step in runner.get_history(handle.id)] == ["wait"]


def test_threads_of_the_library_that_a_workflow_caused_are_not_foreign(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @activity
    def act(n: int) -> int:
        return n

    @workflow
    def child(n: int) -> int:
        return sum([act(n), later(n), *act.map([n, n])])

    runner = orchestrator(memory, max_workers=4)

    @workflow
    def parent() -> list[int]:
        handles = [runner.start_workflow(child, n) for n in (1, 2, 3)]
        return [handle.result(10) for handle in handles] + later.map([5])

    assert runner.start_workflow(parent).result(20) == [4, 8, 12, 5]
    # And none of these threads is left with the workflow's name on it.
    assert runner.start_workflow(child, 4).result(10) == 16


def test_tasks_of_an_event_loop_in_the_workflow_are_its_own(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def act(n: int) -> int:
        return n

    @workflow
    def w() -> list[int]:
        async def task(n: int) -> int:
            await asyncio.sleep(0)
            return act(n)

        async def main() -> list[int]:
            return await asyncio.gather(*map(task, range(3)))

        return asyncio.run(main())

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == [0, 1, 2]
    assert [step["input"]["n"] for step in runner.get_history(handle.id)] == [0, 1, 2]


def test_ended_runs_are_not_kept_alive_by_their_threads(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    import gc
    import weakref

    may_end = threading.Event()
    kept: list[weakref.ref[Any]] = []

    class Payload:
        pass

    @workflow
    def w() -> None:
        payload = Payload()
        kept.append(weakref.ref(payload))
        threading.Thread(target=may_end.wait, args=[10]).start()
        del payload
        from py_orchestrate._context import current_scope

        kept.append(weakref.ref(current_scope()))

    orchestrator(memory).start_workflow(w).result(10)
    try:
        deadline = time.monotonic() + 10
        while kept[1]() is not None:
            gc.collect()
            assert time.monotonic() < deadline, gc.get_referrers(kept[1]())
    finally:
        may_end.set()
