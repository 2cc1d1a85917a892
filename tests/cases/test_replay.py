"""Replay: a run that was interrupted goes on as if it had not been, or says why it cannot.

"Interrupted" is played on every store by an orchestrator that is taken for dead, and on a real file by a real process
that dies (``program``).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import NonDeterminismError, WorkflowFailedError

from ..breakdown import Breakdown
from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
MakeProgram = Callable[[str], Program]


@pytest.fixture
def hits() -> Counter[str]:
    """Return the count of real runs of activities, by name."""
    return Counter()


@pytest.fixture
def stop(breakdown: Breakdown) -> Callable[[], None]:
    """Return an activity in which the first orchestrator breaks down."""

    @activity
    def stop() -> None:
        breakdown.here()

    return stop


def outline(orchestrator: Orchestrator, workflow_id: str) -> list[tuple[int, str, str]]:
    return [(step["sequence"], step["name"], step["status"]) for step in orchestrator.get_history(workflow_id)]


# --- one value, always ------------------------------------------------------------------------------------------------


def test_a_result_is_the_same_before_and_after(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    @activity
    def probe() -> dict[str, Any]:
        return {"pair": (1, 2), "n": 1, "deep": [{"keys": {1: "one"}, "seen": {3}}]}

    @activity
    def touch(value: dict[str, Any]) -> None:
        value["n"] += 100
        value["deep"][0]["seen"].add(4)
        value["deep"].append("more")

    @workflow
    def w() -> list[Any]:
        value = probe()
        touch(value)
        stop()
        return [type(value["pair"]).__name__, value]

    recovered, undisturbed = breakdown.both(database, w)
    expected = ["tuple", {"pair": (1, 2), "n": 1, "deep": [{"keys": {1: "one"}, "seen": {3}}]}]
    assert recovered["output"] == undisturbed["output"] == expected


def test_what_an_activity_changes_later_stays_out(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    kept: list[int] = []

    @activity
    def give() -> list[int]:
        kept.append(len(kept))
        return kept

    @activity
    def spoil() -> None:
        kept.append(-1)

    @workflow
    def w() -> list[list[int]]:
        first = give()
        spoil()
        stop()
        return [first, give()]

    assert breakdown.recover(database, w).result(10) == [[0], [0, -1, 2]]


def test_what_the_workflow_changes_stays_out_of_the_history(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], orchestrator: MakeOrchestrator
) -> None:
    seen = []

    @activity
    def give() -> dict[str, list[int]]:
        return {"n": [1]}

    @activity
    def look(value: Any) -> None:
        seen.append(value)

    @workflow
    def w(given: list[int]) -> list[Any]:
        value = give()
        value["n"].append(2)
        given.append(2)
        look(value)
        stop()
        return [value, given]

    handle = breakdown.recover(database, w, [1])
    assert handle.result(10) == [{"n": [1, 2]}, [1, 2]]
    assert seen == [{"n": [1, 2]}]
    history = orchestrator(database, start=False).get_history(handle.id)
    assert history[0]["output"] == {"n": [1]}
    assert history[1]["input"] == {"value": {"n": [1, 2]}}


def test_an_activity_gets_its_argument_as_it_was_at_the_call(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    changed = threading.Event()

    @activity
    def echo(value: list[int]) -> list[int]:
        assert changed.wait(10)
        return value

    @workflow
    def w(value: list[int]) -> list[int]:
        future = echo.submit(value)
        value.append(2)
        changed.set()
        return future.result()

    given = [1]
    handle = orchestrator(database).start_workflow(w, given)
    given.append(3)
    assert handle.result(10) == [1]


def test_two_readers_of_one_future_get_one_value(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def give() -> list[int]:
        return [1]

    @workflow
    def w() -> bool:
        future = give.submit()
        return future.result() == future.result() == durable.gather(future)[0] == [1]

    assert orchestrator(memory).start_workflow(w).result(10) is True


# --- falsy results ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, 0.0, ()], ids=repr)
def test_an_empty_result_is_a_result(
    database: BaseDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    orchestrator: MakeOrchestrator,
    value: object,
    hits: Counter[str],
) -> None:
    @activity
    def give() -> object:
        hits["give"] += 1
        return value

    @workflow
    def w() -> object:
        before = [give(), give()]
        stop()
        return value if before == [value, value] and type(before[1]) is type(value) else "changed"

    handle = breakdown.recover(database, w)
    status = handle.wait(10)
    assert (status["status"], status["output"], status["error_message"]) == ("done", value, None)
    assert handle.result() == value
    assert hits == {"give": 2}
    assert [step["output"] for step in orchestrator(database, start=False).get_history(handle.id)] == [value, value, None]


# --- handled failures -------------------------------------------------------------------------------------------------


def test_a_handled_failure_is_replayed(
    database: BaseDatabaseManager, breakdown: Breakdown, orchestrator: MakeOrchestrator, hits: Counter[str]
) -> None:
    @activity
    def ship(order: str) -> None:
        hits["ship"] += 1
        raise ValueError(f"no stock for {order} (try {hits['ship']})")

    @activity
    def notify(order: str, text: str) -> None:
        hits["notify"] += 1

    @activity
    def refund(order: str) -> None:
        breakdown.here()
        hits["refund"] += 1

    @workflow
    def order(order: str) -> list[str]:
        try:
            ship(order)
        except ValueError as error:
            notify(order, str(error))
            refund(order)
            return [type(error).__name__, str(error)]
        return []

    handle = breakdown.recover(database, order, "7")
    assert handle.result(10) == ["ValueError", "no stock for 7 (try 1)"]
    assert hits == {"ship": 1, "notify": 1, "refund": 1}
    assert outline(orchestrator(database, start=False), handle.id) == [
        (0, "ship", "failed"),
        (1, "notify", "completed"),
        (2, "refund", "completed"),
    ]


def test_a_failure_at_the_very_end_runs_again(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, hits: Counter[str]
) -> None:
    stored, released = threading.Event(), threading.Event()

    @activity
    def call() -> str:
        hits["call"] += 1
        if hits["call"] == 1:
            raise ValueError("not yet")
        return "there"

    @workflow
    def w() -> str:
        try:
            return call()
        except ValueError:
            stored.set()
            assert released.wait(10)
            return "gave up"

    first = orchestrator(memory)
    handle = first.start_workflow(w)
    assert stored.wait(10)
    wait_until(lambda: outline(first, handle.id) == [(0, "call", "failed")])
    memory.release_owner(first._engine.owner)
    second = orchestrator(memory)
    assert second.get_handle(handle.id).result(10) == "there"
    released.set()
    assert first.stop(timeout=10)
    assert outline(second, handle.id) == [(0, "call", "completed")]
    assert handle.status()["output"] == "there"


def test_retries_in_a_loop_are_replayed_one_by_one(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], hits: Counter[str]
) -> None:
    @activity
    def flaky() -> int:
        hits["flaky"] += 1
        if hits["flaky"] < 3:
            raise ConnectionError(f"try {hits['flaky']}")
        return hits["flaky"]

    @workflow
    def w() -> list[Any]:
        seen: list[Any] = []
        while True:
            try:
                seen.append(flaky())
                break
            except ConnectionError as error:
                seen.append(str(error))
        stop()
        return [*seen, flaky()]

    assert breakdown.recover(database, w).result(10) == ["try 1", "try 2", 3, 4]


# --- kinds of loops ---------------------------------------------------------------------------------------------------


def loop_comprehension(poll: Callable[[], int]) -> list[int]:
    return [poll() for _ in range(5)]


def loop_while(poll: Callable[[], int]) -> list[int]:
    seen = [poll()]
    while seen[-1] < 5:
        seen.append(poll())
    return seen


def loop_recursion(poll: Callable[[], int], left: int = 5) -> list[int]:
    return [poll(), *loop_recursion(poll, left - 1)] if left else []


def loop_generator(poll: Callable[[], int]) -> list[int]:
    def polls() -> Any:
        while (value := poll()) < 5:
            yield value
        yield value

    return list(polls())


def loop_nested(poll: Callable[[], int]) -> list[int]:
    seen = []
    for outer in range(9):
        if outer == 1:
            continue
        while True:
            seen.append(poll())
            if seen[-1] in (3, 5):
                break
        if seen[-1] == 5:
            break
    return seen


def loop_map(poll: Callable[[], int]) -> list[int]:
    return list(map(lambda _: poll(), range(5)))


def loop_sorted(poll: Callable[[], int]) -> list[int]:
    return sorted(range(1, 6), key=lambda _: -poll(), reverse=True)


@pytest.mark.parametrize(
    "loop",
    [loop_comprehension, loop_while, loop_recursion, loop_generator, loop_nested, loop_map, loop_sorted],
    ids=lambda loop: loop.__name__[5:],
)
@pytest.mark.parametrize("place", [1, 2, 5])
def test_each_call_of_a_loop_is_a_step_of_its_own(
    memory: MemoryDatabaseManager, breakdown: Breakdown, loop: Callable[..., list[int]], place: int
) -> None:
    runs: list[int] = []

    @activity
    def poll() -> int:
        if len(runs) == place - 1:
            breakdown.here()
        runs.append(len(runs) + 1)
        return len(runs)

    @workflow
    def w() -> list[int]:
        return loop(poll)

    assert breakdown.recover(memory, w).result(10) == [1, 2, 3, 4, 5] == runs


def test_a_thousand_calls_of_one_name_and_argument(database: BaseDatabaseManager, breakdown: Breakdown) -> None:
    size = 1000 if "leases" in database.capabilities else 40  # JSON files are rewritten for each step
    runs: list[int] = []

    @activity
    def poll(same: str) -> int:
        if len(runs) == size * 3 // 4:
            breakdown.here()
        runs.append(len(runs))
        return runs[-1]

    @workflow
    def w() -> list[int]:
        return [poll("same") for _ in range(size)]

    assert breakdown.recover(database, w).result(30) == list(range(size)) == runs


# --- changed code -----------------------------------------------------------------------------------------------------


def change_to(code: Callable[[], Any]) -> Callable[[], None]:
    """Return what replaces the workflow ``w``, as a new release does."""
    return lambda: get_registry().workflows.__setitem__("w", code)


class Release:
    """Activities that count their runs, and a first version of the workflow that calls three of them."""

    def __init__(self, hits: Counter[str], breakdown: Breakdown) -> None:
        @activity
        def reserve() -> str:
            hits["reserve"] += 1
            return "reserved"

        @activity
        def charge() -> str:
            hits["charge"] += 1
            return "charged"

        @activity
        def ship() -> str:
            breakdown.here()
            hits["ship"] += 1
            return "shipped"

        @activity
        def audit() -> str:
            hits["audit"] += 1
            return "audited"

        self.reserve, self.charge, self.ship, self.audit = reserve, charge, ship, audit

        @workflow
        def w() -> list[str]:
            return [reserve(), charge(), ship()]

        self.w = w


CHANGES: dict[str, tuple[Callable[[Release], Any], str]] = {
    "step added in front": (
        lambda r: [r.audit(), r.reserve(), r.charge(), r.ship()],
        "step 0: history has 'reserve', code called 'audit'",
    ),
    "step added between": (
        lambda r: [r.reserve(), r.audit(), r.charge(), r.ship()],
        "step 1: history has 'charge', code called 'audit'",
    ),
    "steps swapped": (
        lambda r: [r.charge(), r.reserve(), r.ship()],
        "step 0: history has 'reserve', code called 'charge'",
    ),
    "first step removed": (
        lambda r: [r.charge(), r.ship()],
        "step 0: history has 'reserve', code called 'charge'",
    ),
    "last recorded step removed": (
        lambda r: [r.reserve()],
        "step 1: history has 'charge', but the code ended before it",
    ),
    "all steps removed": (
        lambda _: [],
        "step 0: history has 'reserve', but the code ended before it",
    ),
    "step submitted in front": (
        lambda r: durable.gather(r.audit.submit(), r.reserve.submit()),
        "step 0: history has 'reserve', code called 'audit'",
    ),
    "step called by another name": (
        lambda _: durable.call_activity("book"),
        "step 0: history has 'reserve', code called 'book'",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_code_fails_the_run_and_runs_nothing(
    database: BaseDatabaseManager,
    breakdown: Breakdown,
    orchestrator: MakeOrchestrator,
    hits: Counter[str],
    change: str,
) -> None:
    release = Release(hits, breakdown)
    code, text = CHANGES[change]
    handle = breakdown.recover(database, release.w, change=change_to(lambda: code(release)))
    status = handle.wait(10)
    assert (status["status"], status["output"]) == ("failed", None)
    assert text in status["error_message"]
    assert hits == {"reserve": 1, "charge": 1}
    with pytest.raises(WorkflowFailedError) as caught:
        handle.result()
    cause = caught.value.__cause__
    assert isinstance(cause, NonDeterminismError)
    assert (cause.sequence, cause.recorded) == (int(text[5]), text.split("'")[1])
    # And it stays so: another start does not take it up again.
    third = orchestrator(database)
    third.start_workflow(release.w, workflow_id="other").wait(10)
    assert third.get_workflow_status(handle.id) == status


@pytest.mark.parametrize(
    "code",
    [
        lambda r: [r.reserve(), r.charge(), r.ship(), r.audit()],
        lambda r: [r.reserve(), r.charge(), r.audit()],
        lambda r: [r.reserve.submit().result(), *durable.gather(r.charge.submit())],
        lambda r: [durable.call_activity("reserve"), r.charge()],
    ],
    ids=["added behind", "replaced behind", "submitted instead of called", "called by name instead"],
)
def test_a_change_that_fits_the_history_is_none(
    memory: MemoryDatabaseManager, breakdown: Breakdown, hits: Counter[str], code: Callable[[Release], list[str]]
) -> None:
    release = Release(hits, breakdown)
    # Where the step in which the breakdown came is marked as running, it is a part of the history.
    memory.record_steps = _without_marks(memory)  # type: ignore[method-assign]
    handle = breakdown.recover(memory, release.w, change=change_to(lambda: code(release)))
    assert handle.result(10)[:2] == ["reserved", "charged"]
    assert (hits["reserve"], hits["charge"]) == (1, 1)


def _without_marks(database: BaseDatabaseManager) -> Callable[..., None]:
    record = database.record_steps

    def record_completed(workflow_id: str, epoch: int, steps: Any, **options: Any) -> None:
        record(workflow_id, epoch, [step for step in steps if step.status != "running"], **options)

    return record_completed


def test_a_swallowed_mismatch_does_not_let_the_run_end_as_done(
    database: BaseDatabaseManager, breakdown: Breakdown, hits: Counter[str]
) -> None:
    release = Release(hits, breakdown)
    after: list[str] = []

    def careless() -> str:
        try:
            release.audit()
        except Exception as error:
            after.append(type(error).__name__)
        try:
            release.charge()
        except Exception as error:
            after.append(type(error).__name__)
        durable.gather(release.reserve.submit(), return_exceptions=True)
        return "all is well"

    status = breakdown.recover(database, release.w, change=change_to(careless)).wait(10)
    assert status["status"] == "failed"
    assert "step 0: history has 'reserve', code called 'audit'" in status["error_message"]
    assert hits == {"reserve": 1, "charge": 1}
    assert after == ["NonDeterminismError"] * 2


def test_a_mismatch_counts_more_than_what_the_code_raises_after_it(
    memory: MemoryDatabaseManager, breakdown: Breakdown, hits: Counter[str]
) -> None:
    release = Release(hits, breakdown)

    def rude() -> None:
        try:
            release.audit()
        finally:
            raise KeyError("something else")  # noqa: B012

    status = breakdown.recover(memory, release.w, change=change_to(rude)).wait(10)
    assert "step 0: history has 'reserve', code called 'audit'" in status["error_message"]


def test_a_renamed_parameter_fails_the_run(database: BaseDatabaseManager, breakdown: Breakdown) -> None:
    @activity
    def stop() -> None:
        breakdown.here()

    @workflow
    def w(order: str) -> None:
        stop()

    status = breakdown.recover(
        database, w, change=change_to(lambda order_id: stop()), order="7"  # type: ignore[arg-type,misc]
    ).wait(10)
    assert status["status"] == "failed"
    assert "unexpected keyword argument 'order'" in status["error_message"]


def test_stored_results_outlive_the_code_that_made_them(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], hits: Counter[str]
) -> None:
    @activity
    def old() -> str:
        return "old"

    @activity
    def gone() -> str:
        return "gone"

    @workflow
    def w() -> list[str]:
        before = [old(), gone(), durable.call_activity("gone")]
        stop()
        return [*before, old()]

    def change() -> None:
        get_registry().activities["old"] = lambda: "new"
        del get_registry().activities["gone"]

    assert breakdown.recover(database, w, change=change).result(10) == ["old", "gone", "gone", "new"]


def test_an_activity_that_is_gone_fails_where_no_result_is_stored(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    @activity
    def gone() -> str:
        return "gone"

    @workflow
    def w() -> list[str]:
        stop()
        return [gone()]

    status = breakdown.recover(database, w, change=lambda: get_registry().activities.pop("gone")).wait(10)
    assert (status["status"], status["error_message"]) == ("failed", "Activity 'gone' not found")


# --- in parallel ------------------------------------------------------------------------------------------------------


FAN_OUTS: dict[str, Callable[[Any], list[int]]] = {
    "gather": lambda act: durable.gather(*[act.submit(n) for n in (2, 1, 0)]),
    "map": lambda act: act.map([2, 1, 0]),
    "results in another order": lambda act: [
        future.result() for future in reversed([act.submit(n) for n in (0, 1, 2)])
    ],
}


@pytest.mark.parametrize("fan_out", FAN_OUTS)
def test_parallel_steps_have_their_place_in_program_order(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, fan_out: str
) -> None:
    ended = [threading.Event() for _ in range(4)]

    @activity
    def act(n: int) -> int:
        if n < 2:
            assert ended[n + 1].wait(10)  # the third ends first
        ended[n].set()
        return n * 10

    @workflow
    def w() -> list[int]:
        return FAN_OUTS[fan_out](act)

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert handle.result(10) == [20, 10, 0]
    inputs = [step["input"]["n"] for step in runner.get_history(handle.id)]
    assert inputs == ([2, 1, 0] if fan_out != "results in another order" else [0, 1, 2])


@pytest.mark.parametrize("fan_out", FAN_OUTS)
def test_parallel_steps_that_have_ended_do_not_run_again(
    database: BaseDatabaseManager, breakdown: Breakdown, hits: Counter[str], fan_out: str
) -> None:
    @activity
    def act(n: int) -> int:
        if n == 1:
            breakdown.here()
        hits[str(n)] += 1
        return n * 10

    @workflow
    def w() -> list[int]:
        return FAN_OUTS[fan_out](act)

    def wait_for_the_others() -> None:
        (run,) = database.list_workflows()
        wait_until(lambda: sum(step.status == "completed" for step in database.get_steps(run.id)) == 2)

    assert breakdown.recover(database, w, change=wait_for_the_others).result(10) == [20, 10, 0]
    assert hits == {"0": 1, "1": 1, "2": 1}


def test_parallel_failures_are_replayed(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], hits: Counter[str]
) -> None:
    @activity
    def act(n: int) -> int:
        hits[str(n)] += 1
        if n % 2:
            raise ValueError(f"odd {n}")
        return n

    @workflow
    def w() -> list[Any]:
        seen = durable.gather(*[act.submit(n) for n in range(4)], return_exceptions=True)
        try:
            act.map(range(3, -1, -1))
        except ValueError as error:
            seen.append(str(error))
        stop()
        return [repr(outcome) for outcome in seen]

    expected = ["0", "ValueError('odd 1')", "2", "ValueError('odd 3')", "'odd 3'"]
    assert breakdown.recover(database, w).result(10) == expected
    assert hits == {"0": 2, "1": 2, "2": 2, "3": 2}


def test_map_takes_several_iterables_and_stops_with_the_shortest(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def add(a: int, b: int) -> int:
        return a + b

    @workflow
    def w() -> list[Any]:
        return [add.map([1, 2, 3], iter([10, 20])), add.map([], [])]

    assert orchestrator(memory).start_workflow(w).result(10) == [[11, 22], []]
    assert add.map([1, 2], [3, 4]) == [4, 6]


def test_parallel_steps_run_at_the_same_time(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    meeting = threading.Barrier(3, timeout=10)

    @activity
    def meet(n: int) -> int:
        meeting.wait()
        return n

    @workflow
    def w() -> list[int]:
        return meet.map(range(3))

    assert orchestrator(memory, max_workers=3).start_workflow(w).result(10) == [0, 1, 2]


def test_more_parallel_steps_than_threads(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def double(n: int) -> int:
        return 2 * n

    @workflow
    def w() -> list[int]:
        return double.map(range(30))

    assert orchestrator(database, max_workers=1).start_workflow(w).result(20) == [2 * n for n in range(30)]


def test_what_nobody_waits_for_is_recorded_before_the_run_ends(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    may_end = threading.Event()

    @activity
    def slow() -> str:
        assert may_end.wait(10)
        return "recorded"

    @workflow
    def w() -> str:
        slow.submit()
        return "returned"

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    may_end.set()
    assert handle.result(10) == "returned"
    assert [step["output"] for step in runner.get_history(handle.id)] == ["recorded"]


@pytest.mark.parametrize("loses", ["leaving", "claim lost"])
def test_a_run_does_not_end_without_what_it_submitted(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, hits: Counter[str], loses: str
) -> None:
    began, may_end = threading.Event(), threading.Event()

    @activity
    def act(n: int) -> int:
        if n == 0:
            began.set()
            assert may_end.wait(10)
        hits[str(n)] += 1
        return n

    @workflow
    def w() -> str:
        act.submit(0)
        act.submit(1)
        return "returned"

    first = orchestrator(memory, max_workers=1)  # so the second one waits for the first one's thread
    handle = first.start_workflow(w)
    assert began.wait(10)
    if loses == "leaving":
        assert first.stop(timeout=0) is False
    else:
        memory.release_owner(first._engine.owner)
    may_end.set()
    assert first.stop(timeout=10)
    assert memory.read_workflow(handle.id).status.value == "processing"  # type: ignore[union-attr]
    second = orchestrator(memory)
    assert second.get_handle(handle.id).result(10) == "returned"
    assert outline(second, handle.id) == [(0, "act", "completed"), (1, "act", "completed")]
    assert hits["1"] >= 1


# --- signals cannot be swallowed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["except", "finally", "suppressed twice"])
def test_a_swallowed_signal_does_not_let_the_run_end(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, hits: Counter[str], shape: str
) -> None:
    began, may_end = threading.Event(), threading.Event()

    @activity
    def first_step() -> str:
        began.set()
        assert may_end.wait(10)
        return "first"

    @activity
    def second_step() -> str:
        hits["second"] += 1
        return "second"

    @activity
    def cleanup() -> str:
        hits["cleanup"] += 1
        return "clean"

    def attempt() -> str | None:
        try:
            return second_step()
        except BaseException:  # noqa: BLE001 - that is what is tested
            return None

    @workflow
    def w() -> list[Any]:
        seen: list[Any] = [first_step()]
        if shape == "except":
            seen.append(attempt())
        elif shape == "finally":
            try:
                seen.append(second_step())
            finally:
                seen.append(cleanup())
        else:
            seen += [attempt(), attempt()]
        return seen

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert began.wait(10)
    assert runner.stop(timeout=0) is False
    may_end.set()
    assert runner.stop(timeout=10)
    assert hits == {}
    record = database.read_workflow(handle.id)
    assert record is not None
    assert (record.status.value, record.output, record.owner) == ("processing", None, None)
    expected = {
        "except": ["first", "second"],
        "finally": ["first", "second", "clean"],
        "suppressed twice": ["first", "second", "second"],
    }
    assert orchestrator(database).get_handle(handle.id).result(10) == expected[shape]


def test_a_zombie_writes_nothing(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    began, may_end = threading.Event(), threading.Event()
    runs: list[str] = []

    @activity
    def act() -> str:
        runs.append(threading.current_thread().name)
        if len(runs) == 1:
            began.set()
            assert may_end.wait(10)
            return "the zombie's"
        return "the successor's"

    @workflow
    def w() -> list[str]:
        return [act(), act()]

    zombie = orchestrator(database)
    handle = zombie.start_workflow(w)
    assert began.wait(10)
    database.release_owner(zombie._engine.owner)
    successor = orchestrator(database)
    assert successor.get_handle(handle.id).result(10) == ["the successor's"] * 2
    before = (successor.get_workflow_status(handle.id), successor.get_history(handle.id))
    may_end.set()
    assert zombie.stop(timeout=10)
    assert (successor.get_workflow_status(handle.id), successor.get_history(handle.id)) == before
    assert len(runs) == 3


# --- processes that really die ----------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize("kill", [False, True], ids=["exit", "kill"])
@pytest.mark.parametrize("place", ["ship", "notify", "refund", "end"])
def test_compensation_over_a_crash(program: MakeProgram, place: str, kill: bool) -> None:
    script = program(
        """
        @activity
        def ship(order):
            crash("ship")
            mark("ship")
            raise ValueError("no stock")

        @activity
        def notify(order, text):
            crash("notify")
            mark("notify", text)

        @activity
        def refund(order):
            crash("refund")
            mark("refund")

        @activity
        def end():
            crash("end")

        @workflow
        def w():
            try:
                ship("7")
            except Exception as error:
                notify("7", str(error))
                refund("7")
                end()
                return [type(error).__name__, "refunded"]
        """
    )
    script.crash(place, kill=kill)
    assert script.recover().output == ["ValueError", "refunded"]
    # Each outcome is stored before the next activity begins, except that a failure is tried again as long as nothing
    # is recorded after it.
    assert (script.hits("notify"), script.hits("refund")) == (1, 1)
    assert script.hits("ship") in ((1, 2) if place == "notify" else (1,))
    assert set(script.lines("notify")) == {"no stock"}


@pytest.mark.crash
def test_falsy_results_over_a_crash(program: MakeProgram) -> None:
    script = program(
        """
        @activity
        def give(value):
            mark("give")
            return value

        @activity
        def last():
            crash()

        @workflow
        def w():
            seen = [give(value) for value in (None, False, 0, "", [], {})]
            last()
            return None if repr(seen) == "[None, False, 0, '', [], {}]" else repr(seen)
        """
    )
    script.crash()
    assert script.recover().output is None
    assert script.hits("give") == 6


@pytest.mark.crash
def test_a_crash_in_the_workflow_s_own_code(program: MakeProgram) -> None:
    script = program(
        """
        import sqlite3

        def stored():
            with sqlite3.connect(os.path.join(os.environ["FOLDER"], "runs.db")) as connection:
                return connection.execute("SELECT count(*) FROM activity_executions WHERE status = 'completed'").fetchone()

        @activity
        def poll():
            mark("poll")
            return len(open(os.path.join(os.environ["FOLDER"], "poll")).readlines())

        @workflow
        def w():
            seen = [poll(), poll()]
            if os.environ.get("CRASH"):
                while stored() != (2,):  # a workflow that goes on computing has its last step stored meanwhile
                    time.sleep(0.005)
            crash()
            return [*seen, poll()]
        """
    )
    script.crash(kill=True)
    assert script.recover().output == [1, 2, 3]
    assert script.hits("poll") == 3


@pytest.mark.crash
@pytest.mark.parametrize("round_", range(3))
def test_every_crash_on_the_way(program: MakeProgram, round_: int) -> None:
    """Die in each step of a loop, one after the other; no step that is stored may run twice or be lost."""
    script = program(
        """
        @activity
        def step(n):
            crash(str(n))
            mark("step", n)
            return n

        @workflow
        def w():
            return [step(n) for n in range(4)] + step.map(range(4, 6))
        """
    )
    for place in range(round_, 6, 3):
        script.crash(str(place), kill=True)
    assert script.recover().output == list(range(6))
    counts = Counter(script.lines("step"))
    assert set(counts) == {"0", "1", "2", "3", "4", "5"}
    # Of the two that run side by side, the one that did not die may have to run again.
    assert all(counts[str(n)] == 1 for n in range(4)), counts
    assert max(counts.values()) <= 2


@pytest.mark.crash
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("audit(); reserve(); charge()", "step 0: history has 'reserve', code called 'audit'"),
        ("charge()", "step 0: history has 'reserve', code called 'charge'"),
        ("pass", "step 0: history has 'reserve', but the code ended before it"),
    ],
)
def test_a_new_release_over_a_crash(program: MakeProgram, body: str, text: str) -> None:
    source = """
        @activity
        def reserve():
            mark("reserve")

        @activity
        def charge():
            crash()
            mark("charge")

        @activity
        def audit():
            mark("audit")

        @workflow
        def w():
            BODY
        """
    script = program(source.replace("BODY", "reserve(); charge()"))
    script.crash()
    for _ in range(2):  # the second time it has failed already
        status = script.recover(source.replace("BODY", body)).status
        assert status["status"] == "failed"
        assert text in status["error_message"]
    assert (script.hits("reserve"), script.hits("charge"), script.hits("audit")) == (1, 0, 0)


@pytest.mark.crash
def test_a_fan_out_over_a_crash(program: MakeProgram) -> None:
    script = program(
        """
        import sqlite3

        def stored():
            with sqlite3.connect(os.path.join(os.environ["FOLDER"], "runs.db")) as connection:
                return connection.execute("SELECT count(*) FROM activity_executions WHERE status = 'completed'").fetchone()

        @activity
        def act(name):
            if name == "slow" and os.environ.get("CRASH"):
                while stored() != (2,):
                    time.sleep(0.005)
                crash()
            mark(name)
            return name.upper()

        @workflow
        def w():
            return act.map(["slow", "fast", "middling"])
        """
    )
    script.crash()
    assert script.recover().output == ["SLOW", "FAST", "MIDDLING"]
    assert [script.hits(name) for name in ("slow", "fast", "middling")] == [1, 1, 1]
