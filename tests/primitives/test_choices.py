"""``wait_any`` and ``as_completed``: which of several came first is recorded, and a replay goes the same way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
    UnsupportedOperationError,
    WorkflowCancelled,
    WorkflowFailedError,
)
from py_orchestrate.testing.clock import FakeClock

from ..breakdown import Breakdown
from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


class Gates:
    """Activities that end when they are told to, and a list of those that began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self._open: dict[str, threading.Event] = {}
        self._guard = threading.Lock()

    def open(self, name: str) -> None:
        """Let the activity end."""
        self._gate(name).set()

    def activity(self) -> Any:
        """Return the activity."""

        @activity
        def gated(name: str) -> str:
            self.began.append(name)
            assert self._gate(name).wait(20)
            if name.startswith("bad"):
                raise ValueError(name)
            return name

        return gated

    def _gate(self, name: str) -> threading.Event:
        with self._guard:
            return self._open.setdefault(name, threading.Event())


@pytest.fixture
def gates() -> Any:
    made = Gates()
    yield made
    for name in list(made.began):
        made.open(name)


def choices(runner: Orchestrator, run_id: str) -> list[Any]:
    return [step["output"] for step in runner.get_history(run_id) if step["kind"] == "choice"]


def statuses(runner: Orchestrator, run_id: str) -> list[str]:
    return [f"{step['kind']} {step['status']}" for step in runner.get_history(run_id)]


# --- activities -------------------------------------------------------------------------------------------------------


def test_the_first_activity_that_ends_wins(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates
) -> None:
    gated = gates.activity()

    @workflow
    def w() -> list[str]:
        futures = [gated.submit(name) for name in "abc"]
        winner = durable.wait_any(*futures)
        assert winner is futures[1]
        return [winner.result(), *(future.result() for future in futures)]

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(gates.began) == 3)
    gates.open("b")
    wait_until(lambda: choices(runner, handle.id))
    assert handle.status()["status"] == "processing"
    gates.open("a")
    gates.open("c")
    assert handle.result(10) == ["b", "a", "b", "c"]
    assert choices(runner, handle.id) == [1]
    assert [step["name"] for step in runner.get_history(handle.id)] == ["gated"] * 3 + ["wait_any"]


def test_as_completed_yields_each_once_in_the_order_of_their_ends(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates
) -> None:
    gated = gates.activity()
    seen: list[str] = []

    @workflow
    def w() -> list[str]:
        order = []
        for future in durable.as_completed(gated.submit(name) for name in "abcd"):
            order.append(future.result())
            seen[:] = order
        return order

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(gates.began) == 4)
    for n, name in enumerate("cadb", 1):
        gates.open(name)
        wait_until(lambda n=n: len(seen) == n)
    assert handle.result(10) == list("cadb")
    assert choices(runner, handle.id) == [2, 0, 1, 0]


def test_a_failure_wins_too_and_is_raised_where_its_result_is_asked(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates
) -> None:
    gated = gates.activity()

    @workflow
    def w() -> list[str]:
        slow, bad = gated.submit("slow"), gated.submit("bad")
        assert durable.wait_any(slow, bad) is bad
        seen = []
        for _ in range(2):
            with pytest.raises(ValueError, match="bad"):
                bad.result()
            seen.append("raised")
        return [*seen, slow.result()]

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    gates.open("bad")
    wait_until(lambda: choices(runner, handle.id))
    gates.open("slow")
    assert handle.result(10) == ["raised", "raised", "slow"]


def test_of_several_that_have_ended_the_first_by_order_wins(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates
) -> None:
    gated = gates.activity()
    for name in "abc":
        gates.open(name)

    @workflow
    def w() -> list[str]:
        futures = [gated.submit(name) for name in "abc"]
        durable.gather(*futures)
        again = durable.wait_any(futures[2], futures[0], futures[2])
        return [again.result(), *(each.result() for each in durable.as_completed(reversed(futures)))]

    handle = orchestrator(database).start_workflow(w)
    assert handle.result(10) == ["c", "c", "b", "a"]


def test_a_replay_takes_the_recorded_winner_whatever_ended_since(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, breakdown: Breakdown, gates: Gates
) -> None:
    """The loser, which the dead process did not finish, ends first the second time."""
    gated = gates.activity()
    ran: list[int] = []

    @activity
    def after(name: str) -> str:
        ran.append(1)
        breakdown.here()
        return f"after {name}"

    @workflow
    def w() -> list[str]:
        futures = [gated.submit("a"), gated.submit("b")]
        winner = durable.wait_any(*futures).result()
        return [after(winner), *durable.gather(*futures)]

    gates.open("b")
    handle = breakdown.recover(memory, w, change=lambda: gates.open("a"))
    assert handle.result(10) == ["after b", "a", "b"]
    assert gates.began.count("b") == 1


def test_a_choice_is_replayed_on_every_store(database: BaseDatabaseManager, breakdown: Breakdown, gates: Gates) -> None:
    gated = gates.activity()
    gates.open("a")
    gates.open("b")

    @activity
    def last() -> str:
        breakdown.here()
        return "last"

    @workflow
    def w() -> list[Any]:
        number = durable.random()
        order = [each.result() for each in durable.as_completed([gated.submit("a"), gated.submit("b")])]
        seen.append([number, *order])
        return [*sorted(order), last(), number == seen[0][0], order == seen[0][1:]]

    seen: list[Any] = []
    assert breakdown.recover(database, w).result(10) == ["a", "b", "last", True, True]
    assert sorted(gates.began) == ["a", "b"]


def test_a_retried_activity_loses_to_one_that_is_there(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    clock = FakeClock()
    tried: list[int] = []

    @activity(retry=RetryPolicy(initial_interval=60, max_interval=60))
    def flaky() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError("not now")
        return "flaky"

    @activity
    def steady() -> str:
        return "steady"

    @workflow
    def w() -> list[str]:
        first, second = flaky.submit(), steady.submit()
        return [durable.wait_any(first, second).result(), first.result()]

    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    wait_until(lambda: runner._engine._busy == 0 and len(tried) == 1)
    clock.advance(60)
    wait_until(lambda: (clock.advance(0.01), handle.status()["status"] == "done")[1])
    assert handle.result(0) == ["steady", "flaky"]


# --- timers, events, children -----------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Any:
    @workflow
    def child(name: str) -> str:
        heard: str = durable.wait_for_event(name)
        if heard == "bad":
            raise ValueError(heard)
        return heard

    return child


def test_none_of_these_needs_a_thread(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator, listening: Any
) -> None:
    @workflow
    def w() -> list[Any]:
        waits = [durable.create_timer(3600), durable.expect_event("go"), listening.submit("one")]
        winner = durable.wait_any(*waits)
        return [waits.index(winner), winner.result()]

    runner = orchestrator(store, max_workers=1)
    by_event = runner.start_workflow(w, workflow_id="by-event")
    by_child = runner.start_workflow(w, workflow_id="by-child")
    wait_until(lambda: runner.get_workflow_status("by-event-2") and runner.get_workflow_status("by-child-2"))
    wait_until(lambda: runner._engine._busy == 0)
    runner.raise_event("by-child", "other", "noise")  # a signal that it does not wait for
    by_event.raise_event("go", "an event")
    runner.raise_event("by-child-2", "one", "a child")
    assert by_event.result(10) == [1, "an event"]
    assert by_child.result(10) == [2, "a child"]
    assert statuses(runner, "by-event") == [
        "timer waiting", "event completed", "workflow waiting", "choice completed"
    ]  # fmt: skip


def test_a_timer_wins(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listening: Any) -> None:
    clock = FakeClock()

    @workflow
    def w() -> list[Any]:
        timers = [
            durable.create_timer(30),
            durable.create_timer(timedelta(seconds=20)),
            durable.create_timer(datetime(2099, 1, 1, tzinfo=UTC)),
        ]
        order = [timers.index(durable.wait_any(*timers, durable.expect_event("never"), listening.submit("never")))]
        order += [timers.index(each) for each in durable.as_completed(timers[:2])]
        return [*order, timers[0].result()]

    runner = orchestrator(memory, clock=clock, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w)
    wait_until(lambda: len(statuses(runner, handle.id)) == 5)
    clock.advance(25)
    wait_until(lambda: (clock.advance(0.01), len(choices(runner, handle.id)) >= 1)[1])
    clock.advance(5)
    wait_until(lambda: (clock.advance(0.01), handle.status()["status"] == "done")[1])
    assert handle.result(0) == [1, 1, 0, None]


def test_a_time_that_has_passed_wins_at_once(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> bool:
        past = durable.create_timer(datetime(2020, 1, 1, tzinfo=UTC))
        return durable.wait_any(durable.expect_event("never"), past) is past

    assert orchestrator(memory).start_workflow(w).result(10)


def test_an_expected_event_has_its_own_timeout(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> list[str]:
        short = durable.expect_event("never", timeout=0.02)
        long = durable.expect_event("never", timeout=timedelta(hours=1))
        assert durable.wait_any(long, short) is short
        with pytest.raises(EventTimeoutError, match=r"no event 'never' was sent within 0\.02 s"):
            short.result()
        return ["timed out"]

    assert orchestrator(memory).start_workflow(w).result(10) == ["timed out"]


def test_each_event_is_taken_once_by_the_first_that_comes_to_an_end(
    store: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def w() -> list[Any]:
        first, second, other = (durable.expect_event(name) for name in ("x", "x", "y"))
        return [
            second.result(), durable.wait_any(first, other).result(), first.result(), durable.wait_for_event("x"),
            other.result(),
        ]  # fmt: skip

    runner = orchestrator(store)
    handle = runner.start_workflow(w)
    for payload in range(3):
        handle.raise_event("x", payload)
    handle.raise_event("y", "other")
    assert handle.result(10) in ([0, 1, 1, 2, "other"], [0, "other", 1, 2, "other"])


def test_a_child_that_fails_wins_with_its_failure(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listening: Any
) -> None:
    @workflow
    def w() -> str:
        one, two = listening.submit("a"), listening.submit("b")
        assert durable.wait_any(one, two) is two
        with pytest.raises(ValueError, match="bad"):
            two.result()
        return "seen"

    runner = orchestrator(memory)
    handle = runner.start_workflow(w, workflow_id="w")
    wait_until(lambda: runner.get_workflow_status("w-1"))
    runner.raise_event("w-1", "b", "bad")
    assert handle.result(10) == "seen"
    runner.cancel_workflow("w-0")


@pytest.mark.parametrize("winner", ["event", "timer", "child", "activity"])
def test_a_running_activity_beside_what_waits(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates, listening: Any, winner: str
) -> None:
    gated = gates.activity()

    @workflow
    def w() -> list[Any]:
        waits: dict[str, Any] = {
            "activity": gated.submit("a"),
            "event": durable.expect_event("go"),
            "child": listening.submit("one"),
            "timer": durable.create_timer(0.05 if winner == "timer" else 3600),
        }
        first = durable.wait_any(*waits.values())
        return [name for name, future in waits.items() if future is first]

    runner = orchestrator(memory, poll_interval_seconds=0.01)
    handle = runner.start_workflow(w, workflow_id="w")
    wait_until(lambda: gates.began == ["a"] and runner.get_workflow_status("w-2"))
    if winner == "event":
        handle.raise_event("go")
    elif winner == "child":
        runner.raise_event("w-2", "one", "a")
    elif winner == "activity":
        gates.open("a")
    wait_until(lambda: choices(runner, "w"))
    gates.open("a")  # a run ends after what it has begun
    assert handle.result(10) == [winner]


def test_a_restart_finds_the_waits_as_they_were(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, listening: Any
) -> None:
    clock = FakeClock()

    @workflow
    def w() -> str:
        names = {
            durable.expect_event("go", timeout=60): "event", durable.create_timer(90): "timer",
            listening.submit("x"): "child",
        }  # fmt: skip
        return names[durable.wait_any(*names)]

    first = orchestrator(memory, clock=clock)
    handle = first.start_workflow(w)
    wait_until(lambda: statuses(first, handle.id) == ["event waiting", "timer waiting", "workflow waiting"])
    assert first.stop(timeout=5)
    clock.advance(61)
    assert orchestrator(memory, clock=clock).get_handle(handle.id).result(10) == "event"


# --- control ----------------------------------------------------------------------------------------------------------


def test_a_choice_is_cancelled_after_its_children_have_cleaned_up(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    order: list[str] = []

    @activity
    def undo(what: str) -> None:
        order.append(what)

    @workflow
    def child() -> None:
        try:
            durable.wait_for_event("never")
        finally:
            with durable.shield():
                undo("child")

    @workflow
    def w() -> None:
        try:
            durable.wait_any(child.submit(), durable.expect_event("never"))
        finally:
            with durable.shield():
                undo("parent")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w, workflow_id="w")
    wait_until(lambda: statuses(runner, "w") == ["workflow waiting", "event waiting"])
    wait_until(lambda: statuses(runner, "w-0") == ["event waiting"])
    handle.cancel()
    assert handle.wait(10)["status"] == "cancelled"
    assert order == ["child", "parent"]
    assert statuses(runner, "w") == ["workflow waiting", "event waiting", "choice cancelled", "activity completed"]


def test_a_cancelled_choice_is_replayed_as_that(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, breakdown: Breakdown
) -> None:
    undone: list[str] = []

    @activity
    def undo(what: str) -> str:
        undone.append(what)
        if what == "second":
            breakdown.here()
        return what

    @activity
    def cancel_parent() -> None:
        wait_until(lambda: statuses(runner, "w") == ["workflow waiting", "event waiting"])
        runner.cancel_workflow("w")

    @workflow
    def child() -> None:
        cancel_parent()
        durable.wait_for_event("never")

    @workflow
    def w() -> None:
        started = child.submit()
        try:
            durable.wait_any(durable.expect_event("never"), started)
        except WorkflowCancelled:
            with durable.shield():
                undo("first")
                undo("second")
                try:
                    started.result()
                except WorkflowFailedError as error:
                    undo(error.status)
            raise

    runner = orchestrator(memory, start=False)
    handle = breakdown.recover(memory, w, workflow_id="w")
    assert handle.wait(10)["status"] == "cancelled"
    assert undone == ["first", "second", "second", "cancelled"]
    assert statuses(runner, "w")[:4] == ["workflow failed", "event waiting", "choice cancelled", "activity completed"]


def test_a_choice_is_cancelled_after_the_activity_that_runs(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates
) -> None:
    gated = gates.activity()
    caught: list[str] = []

    @workflow
    def w() -> str:
        future = gated.submit("a")
        try:
            durable.wait_any(future, durable.create_timer(3600))
        except WorkflowCancelled:
            with durable.shield():
                caught.append(future.result())
            raise
        return "not cancelled"

    handle = orchestrator(memory).start_workflow(w)
    wait_until(lambda: gates.began == ["a"])
    handle.cancel()
    assert handle.status()["status"] == "processing"
    gates.open("a")
    assert handle.wait(10)["status"] == "cancelled"
    assert caught == ["a"]


def test_a_choice_under_a_shield_is_not_cancelled(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    seen: list[str] = []

    @workflow
    def w() -> None:
        with durable.shield():
            seen.append(durable.wait_any(durable.expect_event("go"), durable.create_timer(3600)).result())
        durable.sleep(0)

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: statuses(runner, handle.id) == ["event waiting", "timer waiting"])
    handle.cancel()
    handle.raise_event("go", "heard")
    assert handle.wait(10)["status"] == "cancelled"
    assert seen == ["heard"]


def test_a_choice_can_be_paused(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> str:
        found: str = durable.wait_any(durable.expect_event("go"), durable.create_timer(3600)).result()
        return found

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: statuses(runner, handle.id) == ["event waiting", "timer waiting"])
    handle.pause()
    handle.raise_event("go", "heard")
    assert handle.status()["status"] == "paused"
    handle.resume()
    assert handle.result(10) == "heard"


def test_a_workflows_timeout_ends_a_choice(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> None:
        durable.wait_any(durable.expect_event("never"), durable.create_timer(3600))

    handle = orchestrator(memory).start_workflow(w.options(timeout=0.05))
    with pytest.raises(WorkflowFailedError, match=r"longer than its timeout of 0.05 s"):
        handle.result(10)


def test_a_loser_that_still_runs_is_waited_for_at_the_end(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, gates: Gates
) -> None:
    gated = gates.activity()

    @workflow
    def w() -> str:
        return durable.wait_any(gated.submit("slow"), gated.submit("quick")).result()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    gates.open("quick")
    wait_until(lambda: choices(runner, handle.id))
    assert handle.status()["status"] == "processing"
    gates.open("slow")
    assert handle.result(10) == "quick"
    assert statuses(runner, handle.id) == ["activity completed", "activity completed", "choice completed"]


# --- elsewhere, and mistakes ------------------------------------------------------------------------------------------


def test_outside_of_a_workflow_everything_is_done_at_once() -> None:
    @activity
    def act(n: int) -> int:
        return n

    futures = [act.submit(n) for n in range(3)]
    assert durable.wait_any(*futures) is futures[0]
    assert [each.result() for each in durable.as_completed(futures)] == [0, 1, 2]


def test_in_an_activity_everything_is_done_at_once(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def inner(n: int) -> int:
        return n

    @activity
    def outer() -> list[int]:
        futures = [inner.submit(n) for n in range(3)]
        return [durable.wait_any(*futures).result(), *(each.result() for each in durable.as_completed(futures))]

    @workflow
    def w() -> list[int]:
        return outer()

    assert orchestrator(memory).start_workflow(w).result(10) == [0, 0, 1, 2]


def test_what_is_no_future_is_refused() -> None:
    with pytest.raises(TypeError, match=r"wait_any takes futures; argument 0 is int\. Pass"):
        durable.wait_any(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="as_completed takes futures; argument 1 is str"):
        durable.as_completed([durable.DurableFuture.of_call(int), "x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one future: without any it would wait for ever"):
        durable.wait_any()
    assert list(durable.as_completed([])) == []


def test_a_future_of_another_run_is_refused(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    kept: list[Any] = []

    @activity
    def act() -> int:
        return 1

    @workflow
    def gives() -> int:
        kept.append(act.submit())
        return kept[0].result()

    @workflow
    def takes() -> None:
        durable.wait_any(*kept)

    runner = orchestrator(memory)
    assert runner.start_workflow(gives).result(10) == 1
    with pytest.raises(WorkflowFailedError) as caught:
        runner.start_workflow(takes).result(10)
    assert isinstance(caught.value.__cause__, DurableCallError)
    assert "a future of another run" in str(caught.value)


@pytest.mark.parametrize("make", [lambda: durable.create_timer(1), lambda: durable.expect_event("x")])
def test_a_timer_or_an_event_needs_a_workflow(make: Callable[[], Any]) -> None:
    with pytest.raises(
        DurableCallError, match=r"durable\.(create_timer|expect_event)\(\) works inside a workflow only"
    ):
        make()


@pytest.mark.parametrize("make", [lambda: durable.create_timer(1), lambda: durable.expect_event("x")])
def test_a_store_that_cannot_keep_waits_says_so(
    tmp_path: Path, orchestrator: MakeOrchestrator, make: Callable[[], Any]
) -> None:
    @workflow
    def w() -> None:
        make()

    with pytest.raises(WorkflowFailedError) as caught:
        orchestrator(SevenMethodsManager(tmp_path / "store")).start_workflow(w).result(10)
    assert isinstance(caught.value.__cause__, UnsupportedOperationError)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: durable.create_timer(-1), ValueError, r"the duration of durable.create_timer\(\)"),
        (lambda: durable.create_timer(float("nan")), ValueError, r"the duration of durable.create_timer\(\)"),
        (lambda: durable.create_timer("1"), TypeError, r"the duration of durable.create_timer\(\)"),
        (lambda: durable.create_timer(datetime(2030, 1, 1)), ValueError, "needs a time zone"),  # noqa: DTZ001
        (lambda: durable.expect_event(" "), ValueError, "event"),
        (lambda: durable.expect_event(1), TypeError, "event"),  # type: ignore[arg-type]
        (lambda: durable.expect_event("x", timeout=-1), ValueError, r"the timeout of durable.expect_event\(\)"),
    ],
)
def test_bad_arguments_are_refused_and_take_no_place(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, make: Any, error: type[Exception], text: str
) -> None:
    @workflow
    def w() -> str:
        with pytest.raises(error, match=text):
            make()
        return "refused"

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert handle.result(10) == "refused"
    assert runner.get_history(handle.id) == []


def test_a_change_of_what_is_waited_for_does_not_fit(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow("w")
    def before() -> None:
        durable.wait_any(durable.expect_event("a"), durable.create_timer(3600))

    first = orchestrator(memory)
    handle = first.start_workflow(before)
    wait_until(lambda: statuses(first, handle.id) == ["event waiting", "timer waiting"])
    first.stop(timeout=5)
    get_registry().workflows["w"] = lambda: durable.wait_any(durable.create_timer(3600), durable.expect_event("a"))
    second = orchestrator(memory)
    second.raise_event(handle.id, "a")
    with pytest.raises(WorkflowFailedError, match="timer"):
        second.get_handle(handle.id).result(10)


def test_a_run_that_has_losers_can_be_restarted(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    ran: list[str] = []

    @activity
    def act(name: str) -> str:
        ran.append(name)
        return name

    @workflow
    def w() -> list[Any]:
        timer, loser = durable.create_timer(3600), durable.expect_event("loser")
        winner = durable.wait_any(timer, durable.expect_event("go"), loser).result()
        return [winner, act("once"), act("again"), loser.result()]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    handle.raise_event("go", "heard")
    wait_until(lambda: len(runner.get_history(handle.id)) == 6)
    again = runner.restart_workflow(handle.id, 5)
    wait_until(lambda: len(runner.get_history(again.id)) == 6)
    for each in (handle, again):
        each.raise_event("loser", each.id)
        assert each.result(10) == ["heard", "once", "again", each.id]
    assert ran == ["once", "again", "again"]
