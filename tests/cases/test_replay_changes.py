"""Code that changed between a crash and the recovery: the run fails, names the place, and runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import NonDeterminismError, WorkflowFailedError

from ..breakdown import Breakdown
from ..programs import Program
from . import values

MakeOrchestrator = Callable[..., Orchestrator]
MakeProgram = Callable[[str], Program]


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
        for call in (release.charge, release.reserve, lambda: release.reserve.submit().result()):
            try:
                call()
            except BaseException as error:
                after.append(type(error).__name__)
        return "all is well"

    status = breakdown.recover(database, release.w, change=change_to(careless)).wait(10)
    assert status["status"] == "failed"
    assert "step 0: history has 'reserve', code called 'audit'" in status["error_message"]
    assert hits == {"reserve": 1, "charge": 1}
    assert after == ["NonDeterminismError", "Unwind", "Unwind", "Unwind"]


def test_code_that_tries_again_for_ever_comes_to_an_end(
    memory: MemoryDatabaseManager, breakdown: Breakdown, hits: Counter[str]
) -> None:
    release = Release(hits, breakdown)

    def stubborn() -> str:
        while True:
            try:
                return release.audit()
            except Exception:
                continue

    status = breakdown.recover(memory, release.w, change=change_to(stubborn)).wait(10)
    assert status["status"] == "failed"
    assert "step 0: history has 'reserve', code called 'audit'" in status["error_message"]


def test_a_stored_result_that_cannot_be_read_any_more_is_no_failure_of_the_activity(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hits: list[str] = []

    @activity
    def find() -> Any:
        return values.Item("pen", values.Decimal(1))

    @activity
    def fall_back() -> None:
        hits.append("fell back")

    @workflow
    def w() -> None:
        try:
            find()
        except Exception:
            fall_back()
        stop()

    status = breakdown.recover(database, w, change=lambda: monkeypatch.delattr(values, "Item")).wait(10)
    assert status["status"] == "failed"
    assert "the class tests.cases.values:Item is not known here; import its module first" in status["error_message"]
    assert hits == []


def test_a_mismatch_counts_more_than_what_the_code_raises_after_it(
    memory: MemoryDatabaseManager, breakdown: Breakdown, hits: Counter[str]
) -> None:
    release = Release(hits, breakdown)

    def rude() -> None:
        try:
            release.audit()
        finally:
            raise KeyError("something else")

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
