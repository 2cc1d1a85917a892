"""``async def`` workflows: a deterministic loop of their own, and what it has in common with plain ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
import time
import warnings
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
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import (
    DurableCallError,
    EventTimeoutError,
    NonDeterminismError,
    WorkflowCancelled,
    WorkflowFailedError,
)
from py_orchestrate.testing.clock import FakeClock

from ..breakdown import Breakdown
from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


def history(runner: Orchestrator, run_id: str) -> list[str]:
    return [f"{step['kind']} {step['name']} {step['status']}" for step in runner.get_history(run_id)]


def failure(runner: Orchestrator, flow: Any, *args: Any) -> BaseException:
    with pytest.raises(WorkflowFailedError) as caught:
        runner.start_workflow(flow, *args).result(10)
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


# --- calls ------------------------------------------------------------------------------------------------------------


def test_everything_that_is_durable_is_awaited(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def plain(n: int) -> int:
        return n

    @activity
    async def coroutine(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @activity
    def fails() -> None:
        raise ValueError("mine")

    @workflow
    async def child(n: int) -> int:
        return await plain(n) * 10

    @workflow
    def plain_child(n: int) -> int:
        return plain(n) * 100

    @workflow
    async def w(n: int) -> list[Any]:
        seen: list[Any] = [await plain(n), await coroutine(2), await plain.submit(3), await child(4)]
        seen += [await plain_child(5), await child.submit(6)]
        seen += await plain.map([7, 8])
        seen += await child.map([1, 2])
        seen += await durable.gather(plain.submit(9), coroutine.submit(10))
        seen.append(await durable.call_activity("plain", 11))
        seen.append(await durable.call_workflow("child", 12))
        await durable.sleep(0.01)
        await durable.sleep_until(durable.now())
        await asyncio.sleep(0.01)
        seen.append(await durable.wait_for_event("go"))
        with pytest.raises(EventTimeoutError):
            await durable.wait_for_event("never", timeout=0.01)
        with pytest.raises(ValueError, match="mine"):
            await fails()
        durable.set_custom_status("nearly there")
        seen.append(durable.patched("a change"))
        return [*seen, type(durable.uuid4()).__name__, durable.info().name]

    runner = orchestrator(store, max_workers=1)
    handle = runner.start_workflow(w, 1)
    handle.raise_event("go", "an event")
    assert handle.result(20) == [
        1, 2, 3, 40, 500, 60, 7, 8, 10, 20, 9, 10, 11, 120, "an event", True, "UUID", "w"
    ]  # fmt: skip
    assert runner.get_custom_status(handle.id) == "nearly there"
    assert threading.active_count() < 50


def test_gather_gives_ordinals_by_the_order_of_the_calls(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    begun = threading.Barrier(4)  # all are under way at once

    @activity
    def blocking(n: int) -> int:
        begun.wait(10)
        return n

    @workflow
    async def w() -> list[int]:
        return list(await asyncio.gather(*(blocking(n) for n in range(4))))

    runner = orchestrator(store)
    handle = runner.start_workflow(w)
    assert handle.result(10) == [0, 1, 2, 3]
    steps = [step for step in runner.get_history(handle.id) if step["kind"] == "activity"]
    assert [(step["sequence"], step["input"]) for step in steps] == [(n, {"n": n}) for n in range(4)]


def test_nothing_but_the_calls_is_recorded_where_they_follow_each_other(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    async def w() -> int:
        total = 0
        for n in range(3):
            total += await act(n)
        return total

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == 3
    assert history(runner, handle.id) == ["activity act completed"] * 3


def test_tasks_go_their_own_ways(store: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    async def w() -> list[Any]:
        seen: list[Any] = []

        async def branch(name: str, delay: float) -> str:
            await asyncio.sleep(delay)
            seen.append(await act(name))
            await durable.sleep(0.001)
            seen.append(await act(name * 2))
            return name

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(name, delay)) for name, delay in (("a", 0.5), ("b", 0.01))]
        return [*seen, *(task.result() for task in tasks)]

    runner = orchestrator(store, max_workers=1, poll_interval_seconds=0.01)
    assert runner.start_workflow(w).result(10) == ["b", "bb", "a", "aa", "a", "b"]


def test_asyncio_timeout_is_a_durable_timer(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    clock = FakeClock()

    @workflow
    async def w() -> list[Any]:
        try:
            async with asyncio.timeout(60):
                await durable.wait_for_event("never")
        except TimeoutError:
            loop = asyncio.get_running_loop()
            return [await act("timed out"), loop.time()]
        return []

    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    wait_until(lambda: runner._engine._busy == 0 and len(runner.get_history(handle.id)) == 2)
    assert sorted(history(runner, handle.id)) == ["event never waiting", "timer sleep waiting"]
    clock.advance(60)
    wait_until(lambda: (clock.advance(0.01), handle.status()["status"] == "done")[1])
    assert handle.result(0) == ["timed out", 60.0]


def test_a_call_is_made_when_it_is_awaited(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    async def w() -> list[int]:
        first, second = act(1), act(2)
        return [await second, await first]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == [2, 1]
    assert [step["input"]["value"] for step in runner.get_history(handle.id)] == [2, 1]


def test_wait_any_and_as_completed(store: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    gates = {name: threading.Event() for name in "ab"}
    began: list[str] = []

    @activity
    def gated(name: str) -> str:
        began.append(name)
        assert gates[name].wait(20)
        if name == "b":
            raise ValueError(name)
        return name

    @workflow
    async def w() -> list[Any]:
        futures = [gated.submit("a"), gated.submit("b"), durable.create_timer(3600)]
        winner = await durable.wait_any(*futures)
        seen: list[Any] = [futures.index(winner)]
        with pytest.raises(ValueError, match="b"):
            await winner
        seen += [futures.index(future) async for future in durable.as_completed(futures[:2])]
        return [*seen, await futures[0], await durable.wait_any(futures[0], futures[2]) is futures[0]]

    runner = orchestrator(store)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(began) == 2)
    gates["b"].set()
    wait_until(lambda: any(step["kind"] == "choice" for step in runner.get_history(handle.id)))
    gates["a"].set()
    assert handle.result(10) == [1, 1, 0, "a", True]


def test_a_saga_is_undone(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    undone: list[str] = []

    @activity
    def undo(what: str) -> None:
        undone.append(what)

    @workflow
    async def w() -> None:
        async with durable.Saga() as saga:
            await act("hotel")
            saga.add(undo, "hotel")
            await act("flight")
            saga.add(undo, "flight")
            raise ValueError("no seat")

    cause = failure(orchestrator(memory), w)
    assert (type(cause), str(cause)) == (ValueError, "no seat")
    assert undone == ["flight", "hotel"]


def test_it_begins_anew(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    async def w(n: int) -> int:
        await act(n)
        if n < 3:
            durable.continue_as_new(n + 1)
        return n

    runner = orchestrator(memory)
    handle = runner.start_workflow(w, 0)
    assert handle.result(10) == 3
    assert len(runner.get_history(handle.id)) == 1


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_replay_takes_the_tasks_the_same_way(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, breakdown: Breakdown
) -> None:
    """What ended last in the first run ends first in the second: the recorded order decides."""
    gates = {name: threading.Event() for name in "abc"}
    ran: list[str] = []
    noticed: list[str] = []

    @activity
    def gated(name: str) -> str:
        assert gates[name].wait(20)
        ran.append(name)
        return name

    @activity
    def hangs() -> None:
        breakdown.here()

    @workflow
    async def w() -> list[str]:
        order: list[str] = []

        async def branch(name: str) -> None:
            for _ in range(2):  # by the second time its gate is open
                order.append(await gated(name))
                noticed.append(name)

        await asyncio.gather(*map(branch, "cab"))
        await hangs()
        return order

    def open_gates() -> None:
        for name, count in (("b", 2), ("c", 4), ("a", 6)):
            gates[name].set()
            wait_until(lambda count=count: len(noticed) >= count)

    opener = threading.Thread(target=open_gates)
    opener.start()
    handle = breakdown.recover(store, w)
    opener.join()
    assert handle.result(10) == ["b", "b", "c", "c", "a", "a"]
    assert ran == ["b", "b", "c", "c", "a", "a"]


def test_a_restart_goes_on_where_it_waited(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    async def w() -> list[Any]:
        first, heard = await asyncio.gather(act(1), durable.wait_for_event("go"))
        return [first, heard]

    first = orchestrator(memory)
    handle = first.start_workflow(w)
    wait_until(lambda: first._engine._busy == 0 and "event go waiting" in history(first, handle.id))
    assert first.stop(timeout=5)
    second = orchestrator(memory)
    second.raise_event(handle.id, "go", "heard")
    assert second.get_handle(handle.id).result(10) == [1, "heard"]


def test_changed_code_is_told(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow("w")
    async def before() -> None:
        await act(1)
        await durable.wait_for_event("go")

    first = orchestrator(memory)
    handle = first.start_workflow(before)
    wait_until(lambda: "event go waiting" in history(first, handle.id))
    assert first.stop(timeout=5)

    async def after() -> None:
        await durable.wait_for_event("go")

    get_registry().workflows["w"] = after
    second = orchestrator(memory)
    second.raise_event(handle.id, "go")
    with pytest.raises(WorkflowFailedError) as caught:
        second.get_handle(handle.id).result(10)
    assert isinstance(caught.value.__cause__, NonDeterminismError)


# --- control ----------------------------------------------------------------------------------------------------------


def test_a_cancellation_reaches_every_task_that_waits(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    undone: list[str] = []

    @activity
    def undo(what: str) -> None:
        undone.append(what)

    @workflow
    async def w() -> None:
        async def branch(name: str) -> None:
            try:
                await durable.wait_for_event(name)
            except WorkflowCancelled:
                with durable.shield():
                    await undo(name)
                raise

        await asyncio.gather(branch("a"), branch("b"), asyncio.sleep(3600))

    runner = orchestrator(store)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(runner.get_history(handle.id)) == 3)
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    assert sorted(undone) == ["a", "b"]


def test_a_shielded_task_is_left_to_end(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    seen: list[Any] = []

    @workflow
    async def w() -> None:
        async def shielded() -> None:
            with durable.shield():
                seen.append(await durable.wait_for_event("go"))

        task = asyncio.create_task(shielded())
        try:
            await durable.wait_for_event("never")
        finally:
            await task

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(runner.get_history(handle.id)) == 2)
    handle.cancel()
    wait_until(lambda: "cancelled" in " ".join(history(runner, handle.id)))
    handle.raise_event("go", "heard")
    assert handle.wait(10)["status"] == "cancelled"
    assert seen == ["heard"]


def test_a_delay_of_asyncio_is_cancelled_too(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    cleaned: list[str] = []

    @activity
    def clean() -> None:
        cleaned.append("clean")

    @workflow
    async def w() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            with durable.shield():
                await clean()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: history(runner, handle.id) == ["timer sleep waiting"])
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    assert cleaned == ["clean"]


def test_its_timeout_cancels_it(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    async def w() -> None:
        await durable.wait_for_event("never")

    cause = failure(orchestrator(memory), w.options(timeout=0.05))
    assert isinstance(cause, TimeoutError)
    assert "longer than its timeout of 0.05 s" in str(cause)


def test_it_can_be_paused(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    async def w() -> Any:
        return await act(await durable.wait_for_event("go"))

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: history(runner, handle.id) == ["event go waiting"])
    handle.pause()
    handle.raise_event("go", "heard")
    assert handle.status()["status"] == "paused"
    handle.resume()
    assert handle.result(10) == "heard"


def test_tasks_that_nobody_awaits_are_cancelled_at_the_end(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    ended: list[str] = []

    @workflow
    async def w() -> int:
        async def forgotten() -> None:
            try:
                await durable.wait_for_event("never")
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        task = asyncio.create_task(forgotten())
        found: int = await act(1)
        assert not task.done()
        return found

    assert orchestrator(memory).start_workflow(w).result(10) == 1
    assert ended == ["cancelled"]


def test_a_retry_that_is_due_later_needs_no_thread(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    clock = FakeClock()
    tried: list[int] = []

    @activity(retry=RetryPolicy(initial_interval=60, max_interval=60))
    def flaky() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError("not now")
        return "there"

    @workflow
    async def w() -> str:
        return await flaky()

    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(tried) == 1 and runner._engine._busy == 0)
    clock.advance(60)
    wait_until(lambda: (clock.advance(0.01), handle.status()["status"] == "done")[1])
    assert handle.result(0) == "there"


def test_leaving_the_worker_closes_the_coroutines_without_a_sound(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []

    @workflow
    async def w() -> str:
        async def branch(name: str) -> None:
            try:
                await durable.wait_for_event(name)
            finally:
                closed.append(name)
                with contextlib.suppress(DurableCallError):
                    await act("counts for nothing")

        await asyncio.gather(*map(branch, "ab"))
        return "ended"

    runner = orchestrator(memory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle = runner.start_workflow(w)
        wait_until(lambda: runner._engine._busy == 0 and len(history(runner, handle.id)) == 2)
        assert sorted(closed) == ["a", "b"]
        handle.raise_event("a")
        handle.raise_event("b")
        assert handle.result(10) == "ended"
        gc.collect()
    assert caplog.records == []


def test_a_failing_task_is_told_once(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def w() -> int:
        async def fails() -> None:
            raise ValueError("nobody asks for this")

        asyncio.create_task(fails())  # noqa: RUF006 - nobody holds it
        found: int = await act(1)
        return found

    assert orchestrator(memory).start_workflow(w).result(10) == 1
    gc.collect()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_task_group_raises_all_that_failed(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @activity
    def fails(text: str) -> None:
        raise ValueError(text)

    @workflow
    async def w() -> list[str]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails("one"))
                group.create_task(durable.wait_for_event("never"))
        except ExceptionGroup as raised:
            return [str(error) for error in raised.exceptions]
        return []

    assert orchestrator(memory).start_workflow(w).result(10) == ["one"]


# --- a store without waiting ------------------------------------------------------------------------------------------


def test_a_store_of_1_0_2_runs_activities_in_them(tmp_path: Path, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    async def w() -> list[int]:
        return list(await asyncio.gather(act(1), act(2)))

    @workflow
    async def parent() -> None:
        await w()

    runner = orchestrator(SevenMethodsManager(tmp_path / "store"))
    assert runner.start_workflow(w).result(10) == [1, 2]
    assert "run async child workflows" in str(failure(runner, parent))


# --- mistakes ---------------------------------------------------------------------------------------------------------


async def to_thread() -> None:
    await asyncio.to_thread(time.sleep, 0)


async def in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)


async def a_socket() -> None:
    await asyncio.open_connection("localhost", 1)


async def a_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def a_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(1, print)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (to_thread, "run_in_executor"),
        (in_executor, "run_in_executor"),
        (a_socket, r"\w+"),
        (a_process, r"subprocess_exec|\w+"),
        (a_signal, "add_signal_handler"),
    ],
)
def test_what_is_not_durable_is_refused(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, code: Any, name: str
) -> None:
    cause = failure(orchestrator(memory), workflow("w")(code))
    assert isinstance(cause, DurableCallError)
    assert re.search(rf"cannot use the event loop's {name}\(\): what it brings could not be recorded", str(cause))
    assert "Await an activity that does it" in str(cause)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # those that were not begun
@pytest.mark.parametrize("begin", [lambda act, n: act(n), lambda act, n: act.submit(n)], ids=["call", "submit"])
def test_coroutines_are_not_begun_in_the_order_of_a_set(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, begin: Any
) -> None:
    @workflow
    async def w() -> list[Any]:
        return [await each for each in asyncio.as_completed([begin(act, n) for n in range(3)])]

    cause = failure(orchestrator(memory), w)
    assert isinstance(cause, DurableCallError)
    assert "cannot hand coroutines to asyncio.as_completed()" in str(cause)
    assert "durable.as_completed() takes what act.submit() returns" in str(cause)
    del cause
    gc.collect()  # now, and not in another test


@pytest.mark.parametrize("is_eager", [False, True], ids=["in turn", "eager"])
def test_sets_of_tasks_and_futures_keep_the_order_in_which_they_were_made(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, is_eager: bool
) -> None:
    @workflow
    async def w() -> list[Any]:
        loop = asyncio.get_running_loop()
        if is_eager:
            loop.set_task_factory(asyncio.eager_task_factory)
        tasks = []
        for n in range(20):
            kept = [object() for _ in range(n % 3)]  # whatever else is made meanwhile, and has an address
            tasks.append(asyncio.create_task(act(n)))
            assert len({tasks[-1]: kept, loop.create_future(): kept}) == 2
        assert [task.result() for task in (await asyncio.wait(tasks))[0]] != []
        seen = [await each for each in asyncio.as_completed(tasks)]
        hidden = [asyncio.shield(asyncio.create_task(act(n))) for n in range(20)]
        return [list(set(tasks)) == tasks, seen, [future in set(hidden) for future in hidden], len({*tasks, *hidden})]

    runner = orchestrator(memory)
    first = runner.start_workflow(w).result(10)
    assert first[2:] == [[True] * 20, 40]
    assert sorted(first[1]) == list(range(20))
    assert runner.start_workflow(w).result(10) == first


def test_a_task_factory_of_one_s_own_is_refused(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    async def w() -> None:
        asyncio.get_running_loop().set_task_factory(lambda loop, coro, **_: asyncio.Task(coro, loop=loop))

    assert "takes no task factory but asyncio.eager_task_factory" in str(failure(orchestrator(memory), w))


async def a_future_of_nobody() -> None:
    await asyncio.get_running_loop().create_future()


async def an_event_of_nobody() -> None:
    await asyncio.Event().wait()


async def each_other() -> None:
    async def first() -> None:
        await second_task

    second_task = asyncio.create_task(asyncio.Event().wait())
    await first()


@pytest.mark.parametrize("code", [a_future_of_nobody, an_event_of_nobody, each_other])
def test_waiting_for_nothing_fails_instead_of_hanging(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, code: Any
) -> None:
    cause = failure(orchestrator(memory), workflow("w")(code))
    assert isinstance(cause, DurableCallError)
    assert "awaits something that is not durable" in str(cause)


def test_a_result_is_awaited(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    @workflow
    async def w() -> None:
        act.submit(1).result()

    @workflow
    async def loops() -> None:
        for _ in durable.as_completed([act.submit(1)]):
            pass

    @workflow
    async def saga() -> None:
        with durable.Saga():
            pass

    runner = orchestrator(memory)
    assert "write 'await future', not future.result()" in str(failure(runner, w))
    assert "async for future in durable.as_completed" in str(failure(runner, loops))
    assert "async with durable.Saga()" in str(failure(runner, saga))


def test_another_runs_handle_is_not_awaited(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def other() -> int:
        return 1

    runner = orchestrator(memory)
    handle = runner.start_workflow(other)

    @workflow
    async def w() -> None:
        await handle

    cause = failure(runner, w)
    assert isinstance(cause, DurableCallError)
    assert "await a child workflow" in str(cause)


def test_a_future_of_another_run_is_not_awaited(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    kept: list[Any] = []

    @workflow
    async def gives() -> None:
        kept.append(act.submit(1))
        await kept[0]

    @workflow
    async def takes() -> None:
        await kept[0]

    runner = orchestrator(memory)
    runner.start_workflow(gives).result(10)
    assert "a future of another run" in str(failure(runner, takes))


def test_a_call_that_is_never_awaited_is_warned_of_by_python(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    async def w() -> None:
        act(1)

    runner = orchestrator(memory)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handle = runner.start_workflow(w)
        handle.result(10)
        gc.collect()
    assert any("never awaited" in str(warning.message) for warning in caught)
    assert runner.get_history(handle.id) == []


def test_outside_of_an_orchestrator_it_is_a_plain_coroutine(act: Any) -> None:
    @activity
    async def later(n: int) -> int:
        return n

    @workflow
    async def w() -> list[int]:
        return [await later(1), await later.submit(2).result()]

    assert asyncio.run(w()) == [1, 2]
