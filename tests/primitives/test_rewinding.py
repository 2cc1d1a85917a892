"""Rewinding a failed run, restarting from a step, and running out of time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    WorkflowHandle,
    activity,
    durable,
    workflow,
)
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import WorkflowFailedError, WorkflowStateError, WorkflowTimeoutError
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
BOTH = pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)

ran: Counter[Any] = Counter()
broken: set[Any] = set()


@pytest.fixture(autouse=True)
def effects() -> Iterator[None]:
    yield
    ran.clear()
    broken.clear()


@pytest.fixture
def act() -> Any:
    @activity
    def act(value: Any) -> Any:
        ran[value] += 1
        if value in broken:
            raise ValueError(f"{value} is broken")
        return value

    return act


def mended(handle: WorkflowHandle) -> None:
    """Check that the run has failed, put the fault right, and rewind it."""
    assert handle.wait(10)["status"] == "failed"
    broken.clear()
    ran.clear()
    handle._orchestrator.rewind_workflow(handle.id)


@BOTH
def test_the_failed_step_runs_again(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    broken.update({"b", "handled"})

    @workflow
    def w() -> list[Any]:
        seen = [act("a")]
        try:
            act("handled")
        except ValueError as error:
            seen.append(str(error))
        return [*seen, act("b"), act("c")]

    handle = orchestrator(database).start_workflow(w)
    mended(handle)
    assert handle.result(10) == ["a", "handled is broken", "b", "c"]
    assert ran == {"b": 1, "c": 1}, "what was handled before stays as it was"
    assert handle.status()["error_message"] is None


@BOTH
def test_siblings_keep_their_results_and_compensations_are_forgotten(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    broken.update({2, 4})

    @workflow
    def w() -> list[Any]:
        try:
            return durable.gather(*[act.submit(n) for n in range(6)])
        except ValueError:
            act("compensation")
            raise

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    mended(handle)
    assert handle.result(10) == [0, 1, 2, 3, 4, 5]
    assert ran == {2: 1, 4: 1}
    assert [step["input"]["value"] for step in runner.get_history(handle.id)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("how", ["from", "in except", "cause only"])
def test_a_failure_is_followed_through_others(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, how: str
) -> None:
    broken.add("b")

    @workflow
    def w() -> list[Any]:
        first = act("a")
        try:
            return [first, act("b")]
        except ValueError as error:
            act("clean up")
            if how == "from":
                raise RuntimeError("chained") from error
            if how == "in except":
                raise RuntimeError("in its context")  # noqa: B904 - what is tested
            caught = error
        raise RuntimeError("later") from caught

    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == ["a", "b"]
    assert ran == {"b": 1}


def test_a_failure_of_the_workflows_own_code(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    broken.add("the code")

    @workflow
    def w() -> str:
        act("a")
        if "the code" in broken:
            raise ZeroDivisionError
        return "done"

    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == "done"
    assert ran == {}


def gathered(act: Any) -> Any:
    def w() -> list[Any]:
        found = durable.gather(*map(act.submit, ("bad", "good", "bad too")), return_exceptions=True)
        errors = [each for each in found if isinstance(each, Exception)]
        if errors:
            raise ExceptionGroup("some failed", errors)
        return found

    return w


def nested(act: Any) -> Any:
    def w() -> list[Any]:
        found, errors = [act("good")], []
        for future in (act.submit("bad"), act.submit("bad too")):
            try:
                found.append(future.result())
            except ValueError as error:
                wrapped = RuntimeError("wrapped")
                wrapped.__cause__ = error
                errors.append(ExceptionGroup("one", [wrapped]))
        if errors:
            raise RuntimeError from ExceptionGroup("all", errors)
        return found

    return w


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (gathered, ["bad", "good", "bad too"]),
        (nested, ["good", "bad", "bad too"]),
    ],
)
def test_a_group_of_failures(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, code: Any, result: list[str]
) -> None:
    broken.update({"bad", "bad too"})
    workflow("w")(code(act))
    handle = orchestrator(memory).start_workflow("w")
    mended(handle)
    assert handle.result(10) == result
    assert ran == {"bad": 1, "bad too": 1}, "what has failed runs again, and nothing else"


def test_a_task_group_of_activities(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    broken.add("bad")

    @workflow
    async def w() -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(act(value)) for value in ("a", "bad", "c")]
        return [task.result() for task in tasks]

    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == ["a", "bad", "c"]
    assert ran == {"bad": 1}


def test_a_task_group_of_children(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    broken.add("bad")

    @workflow
    def child(value: str) -> Any:
        return act(value)

    @workflow
    async def w() -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(value)) for value in ("a", "bad")]
        return [task.result() for task in tasks]

    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == ["a", "bad"]
    assert ran["bad"] == 1


@pytest.mark.parametrize("waits", [False, True])
def test_one_that_was_seen_and_gone_on_from_stays(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any, *, waits: bool
) -> None:
    broken.update({"handled", "b"})

    @workflow
    def w() -> list[Any]:
        handled, event = act.submit("handled"), durable.expect_event("go")
        seen = durable.gather(handled, return_exceptions=True)
        return [str(seen[0]), *([event.result()] if waits else []), act("b")]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(runner.get_history(handle.id)) > 1)
    if waits:
        handle.raise_event("go")
    mended(handle)
    assert handle.result(10) == ["handled is broken", *([None] if waits else []), "b"]
    assert ran == {"b": 1}


def test_siblings_that_failed_without_being_seen(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    gates = {value: threading.Event() for value in ("slow", "slow child")}
    broken.update({"fast", *gates})

    @activity
    def gated(value: str) -> Any:
        assert gates[value].wait(10)
        return act.fn(value)

    @workflow
    def child(value: str) -> Any:
        return gated(value)

    @workflow
    def w() -> list[Any]:
        slow = [gated.submit("slow"), child.submit("slow child")]
        try:
            fast = act.submit("fast").result()
        except ValueError:
            gates["slow"].set()  # which is waited for, and fails, before the run ends
            raise
        return [fast, *durable.gather(*slow)]

    handle = orchestrator(memory).start_workflow(w, workflow_id="w")
    assert handle.wait(10)["status"] == "failed"
    gates["slow child"].set()
    assert handle._orchestrator.wait_for_workflow("w-1", 10)["status"] == "failed"
    mended(handle)
    assert handle.result(10) == ["fast", "slow", "slow child"]
    assert ran == {"fast": 1, "slow": 1, "slow child": 1}


def test_more_failures_than_an_exception_chain_has_links(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    broken.update(range(300))

    @workflow
    def w() -> int:
        found = durable.gather(*map(act.submit, range(300)), return_exceptions=True)
        errors = [each for each in found if isinstance(each, Exception)]
        if errors:
            raise ExceptionGroup("all failed", errors)
        return len(found)

    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == 300
    assert ran.total() == 300


def test_a_group_that_came_from_nowhere_but_its_own_members(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def w() -> str:
        act("a")
        if "the code" in broken:
            error = ValueError("own")
            error.__context__ = ExceptionGroup("in a circle", [error])
            raise error.__context__
        return "done"

    broken.add("the code")
    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == "done"
    assert ran == {}


def test_code_that_was_changed_and_changed_back(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    def first() -> list[Any]:
        return [act("a"), durable.wait_for_event("go")]

    def second() -> list[Any]:
        return [durable.wait_for_event("go"), act("a")]

    runner = orchestrator(memory)
    workflow("w")(first)
    handle = runner.start_workflow("w")
    wait_until(lambda: (found := memory.read_workflow(handle.id)) and found.waiting_for)
    get_registry().workflows["w"] = second
    handle.raise_event("go", 5)
    assert "code called 'event go'" in handle.wait(10)["error_message"]
    get_registry().workflows["w"] = first
    runner.rewind_workflow(handle.id)
    assert handle.result(10) == ["a", 5]
    assert ran == {"a": 1}


@BOTH
def test_failed_children_are_rewound(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    broken.update({"grandchild's", "other child's"})

    @workflow
    def grandchild() -> list[Any]:
        return [act("grandchild's first"), act("grandchild's")]

    @workflow
    def child() -> list[Any]:
        return [act("child's"), grandchild()]

    @workflow
    def other() -> Any:
        return act("other child's")

    @workflow
    def undo() -> None:
        act("undone")

    @workflow
    def parent() -> list[Any]:
        try:
            return durable.gather(child.submit(), other.submit(), act.submit("mine"))
        except ValueError:
            undo()
            raise

    runner = orchestrator(database)
    handle = runner.start_workflow(parent, workflow_id="p")
    mended(handle)
    assert handle.result(10) == [["child's", ["grandchild's first", "grandchild's"]], "other child's", "mine"]
    assert ran == {"grandchild's": 1, "other child's": 1}
    assert [status["status"] for status in runner.list_workflows()] == ["done"] * 5


def test_attempts_begin_anew(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    seen: list[int] = []

    @activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.01))
    def flaky() -> str:
        seen.append(durable.info().attempt)
        if len(seen) < 4:
            raise ConnectionError("not yet")
        return "at last"

    @workflow
    def w() -> str:
        return flaky()

    handle = orchestrator(memory).start_workflow(w)
    mended(handle)
    assert handle.result(10) == "at last"
    assert seen == [1, 2, 1, 2]


def test_of_many_rewinds_at_once_one_counts(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    broken.add("a")

    @workflow
    def w() -> Any:
        return act("a")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.wait(10)["status"] == "failed"
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def rewind() -> None:
        barrier.wait()
        try:
            runner.rewind_workflow(handle.id)
            outcomes.append("rewound")
        except WorkflowStateError:
            outcomes.append("refused")

    runner.stop()  # so that it does not fail again meanwhile
    threads = [threading.Thread(target=rewind) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert Counter(outcomes) == {"rewound": 1, "refused": 7}
    broken.clear()
    runner.start()
    assert handle.result(10) == "a"


# --- restart ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_restart_shares_the_first_steps(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    @workflow
    def child(n: int) -> Any:
        return act(n)

    @workflow
    def w(start: int) -> list[Any]:
        return [act("a"), child(start), durable.wait_for_event("go"), act("b"), durable.wait_for_event("go")]

    runner = orchestrator(database)
    handle = runner.start_workflow(w, 5)
    handle.raise_event("go", 1)
    handle.raise_event("go", 2)
    expected = ["a", 5, 1, "b", 2]
    assert handle.result(10) == expected
    for from_step, repeated in [(0, {"a": 1, 5: 1, "b": 1}), (2, {"b": 1}), (3, {"b": 1}), (4, {}), (5, {})]:
        ran.clear()
        again = runner.restart_workflow(handle.id, from_step)
        assert again.id != handle.id
        assert again.result(10) == expected, from_step
        assert ran == repeated, from_step
    named = runner.restart_workflow(handle.id, from_step=1, new_workflow_id="named")
    assert (named.id, named.result(10)) == ("named", expected)
    assert handle.result() == expected


def test_a_restart_of_a_run_that_failed_or_runs(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    broken.add("b")

    @workflow
    def w() -> list[Any]:
        return [act("a"), act("b"), durable.wait_for_event("go")]

    runner = orchestrator(memory)
    failed = runner.start_workflow(w)
    failed.wait(10)
    broken.clear()
    runs = runner.restart_workflow(failed.id, 1)
    wait_until(lambda: (found := memory.read_workflow(runs.id)) and found.waiting_for)
    with pytest.raises(ValueError, match=r"step 2 \(go\) .* is waiting: .* choose a from_step up to 2"):
        runner.restart_workflow(runs.id, 3)
    again = runner.restart_workflow(runs.id, 2)
    for handle in (runs, again):
        handle.raise_event("go", 5)
        assert handle.result(10) == ["a", "b", 5]
    assert ran == {"a": 1, "b": 2}


def test_a_shared_failure_stays_one(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, act: Any) -> None:
    broken.add("a")

    @workflow
    def w() -> str:
        try:
            act("a")
        except ValueError:
            return act("b")
        return "no failure"

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == "b"
    broken.clear()
    assert runner.restart_workflow(handle.id, 1).result(10) == "b"
    assert ran == {"a": 1, "b": 2}


@BOTH
def test_a_restart_where_the_workflow_is_not_registered_is_for_those_that_have_it(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    def w() -> list[Any]:
        return [act("a"), act("b")]

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert handle.result(10) == ["a", "b"]
    registered = get_registry().workflows.pop("w")
    again = runner.restart_workflow(handle.id, 1)
    wait_until(lambda: "whose names nobody has registered here: 'w'" in caplog.text)
    assert again.status()["status"] == "processing"
    get_registry().workflows["w"] = registered
    assert again.result(10) == ["a", "b"]
    assert ran == {"a": 1, "b": 2}


# --- running out of time ----------------------------------------------------------------------------------------------


@BOTH
def test_a_run_out_of_time_cleans_up_and_fails(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, act: Any
) -> None:
    reasons: list[str] = []

    @workflow
    def child() -> None:
        try:
            durable.wait_for_event("never")
        finally:
            with durable.shield():
                act("child's")

    @workflow
    def w() -> None:
        try:
            child()
        except durable.WorkflowCancelled as signal:
            reasons.append(signal.reason)
            with durable.shield():
                durable.sleep(10)
                act("mine")
            raise

    clock = FakeClock()
    runner = orchestrator(database, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w, workflow_id="p", timeout=100)
    wait_until(lambda: (found := database.read_workflow("p-0")) and found.waiting_for)
    clock.advance(99)
    runner._engine.wake()
    assert ran == {}
    clock.advance(1)
    wait_until(lambda: ran["child's"])
    wait_until(lambda: len(runner.get_history("p")) == 2)
    clock.advance(10)
    assert handle.wait(10)["status"] == "failed"
    assert handle.status()["error_message"] == "workflow p took longer than its timeout of 100.0 s"
    assert ran == {"child's": 1, "mine": 1}
    assert set(reasons) == {"timeout"}
    with pytest.raises(WorkflowFailedError) as caught:
        handle.result()
    assert isinstance(caught.value.__cause__, WorkflowTimeoutError)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert runner.get_handle("p-0").status()["status"] == "cancelled"


def test_a_rewound_run_has_all_the_time(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def child() -> Any:
        return durable.wait_for_event("go")

    @workflow
    def w() -> Any:
        return child()

    clock = FakeClock()
    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w, workflow_id="p", timeout=10)
    wait_until(lambda: (found := memory.read_workflow("p-0")) and found.waiting_for)
    clock.advance(10)
    assert handle.wait(10)["status"] == "failed"
    runner.rewind_workflow("p")
    anew = wait_until(lambda: [run for run in runner.list_workflows("child") if run["status"] == "processing"])
    clock.advance(1000)
    runner.raise_event(anew[0]["id"], "go", 5)
    assert handle.result(10) == 5


def test_a_parameter_called_timeout_gets_its_argument(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def w(timeout: float, workflow_id: str = "none") -> list[Any]:
        return [timeout, workflow_id]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w, timeout=9, workflow_id="mine")
    assert handle.result(10) == [9, "mine"]
    assert handle.id != "mine"
    record = memory.read_workflow(handle.id)
    assert record is not None
    assert record.deadline is None
    own = runner.start_workflow(w.options(timeout=100, workflow_id="own"), timeout=9)
    assert (own.id, own.result(10)) == ("own", [9, "none"])
    record = memory.read_workflow("own")
    assert record is not None
    assert record.deadline is not None
