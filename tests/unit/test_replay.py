"""The decision about the next call, on its own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_orchestrate._engine.replay import RUN, Decision, History, Mismatch, is_unsettled, settled
from py_orchestrate.models import StepOutcome, StepRecord


def step(sequence: int, name: str = "a", status: str = "completed", kind: str = "activity") -> StepOutcome:
    return StepOutcome(sequence, kind, name, status, "1", None)


def decide(history: History, sequence: int, name: str = "a", kind: str = "activity") -> Decision:
    return history.decide(sequence, kind, name)


def test_an_empty_history_runs_everything() -> None:
    history = History()
    assert history.is_empty
    assert history.last == -1
    assert decide(history, 0) is RUN
    assert history.leftover(0) is None


def test_what_is_completed_is_replayed_in_its_place() -> None:
    steps = [step(0, "a"), step(1, "b"), step(2, "a")]
    history = History(reversed(steps))
    assert not history.is_empty
    assert [decide(history, n, name) for n, name in enumerate("aba")] == steps
    assert decide(history, 3) is RUN


def test_asking_twice_gives_the_same_answer() -> None:
    history = History([step(0)])
    assert decide(history, 0) == decide(history, 0) == step(0)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "something new"])
def test_what_is_not_completed_runs_again_at_the_end(status: str) -> None:
    history = History([step(0), step(1, status=status)])
    assert decide(history, 1) is RUN


@pytest.mark.parametrize("status", ["running", "interrupted", "something new"])
def test_what_is_not_completed_runs_again_in_the_middle(status: str) -> None:
    history = History([step(0, status=status), step(1)])
    assert decide(history, 0) is RUN
    assert decide(history, 1) == step(1)


@pytest.mark.parametrize("after", ["completed", "running", "failed"])
def test_a_failure_with_something_after_it_is_replayed(after: str) -> None:
    history = History([step(0, status="failed"), step(1, status=after)])
    assert decide(history, 0) == step(0, status="failed")


def test_a_failure_that_is_settled_is_replayed_at_the_end() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    record = StepRecord(0, "activity", "a", "failed", "{}", None, None, "no", now, now)
    assert is_unsettled(record)
    assert decide(History([record.outcome]), 0) is RUN
    assert not is_unsettled(settled(record))
    assert decide(History([settled(record).outcome]), 0) == settled(record).outcome


@pytest.mark.parametrize(
    "change", [{"kind": "timer"}, {"status": "completed"}, {"status": "running"}, {"state": '{"attempt": 3}'}]
)
def test_what_need_not_be_settled(change: dict[str, str]) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert not is_unsettled(
        StepRecord(0, "activity", "a", "failed", "{}", None, None, "no", now, now)._replace(**change)
    )


def test_a_gap_is_run() -> None:
    history = History([step(0), step(2)])
    assert decide(history, 1) is RUN
    assert decide(history, 2) == step(2)


@pytest.mark.parametrize("status", ["completed", "failed", "running"])
@pytest.mark.parametrize(
    ("kind", "name", "called"),
    [("activity", "b", "b"), ("timer", "a", "timer a"), ("effect", "effect", "effect effect")],
)
def test_another_call_is_a_mismatch_whatever_came_of_the_first(status: str, kind: str, name: str, called: str) -> None:
    decision = decide(History([step(0, status=status), step(1)]), 0, name, kind)
    assert decision == Mismatch(0, "a", called)
    assert isinstance(decision, Mismatch)
    assert decision.message.startswith(
        f"step 0: history has 'a', code called '{called}'; the workflow's code was changed"
    )


def test_a_recorded_step_of_another_kind_is_named_with_its_kind() -> None:
    assert decide(History([step(0, "nap", kind="timer")]), 0) == Mismatch(0, "timer nap", "a")


@pytest.mark.parametrize("status", ["completed", "failed", "running"])
def test_what_is_left_over_is_named(status: str) -> None:
    history = History([step(0), step(1, "b", status), step(2, "c")])
    assert history.leftover(0) == Mismatch(0, "a", None)
    assert history.leftover(1) == Mismatch(1, "b", None)
    assert history.leftover(3) is None
    assert history.leftover(7) is None
    leftover = history.leftover(2)
    assert leftover is not None
    assert leftover.message.startswith("step 2: history has 'c', but the code ended before it; the workflow's code was")


def test_what_is_left_over_after_a_gap_is_named_by_its_own_place() -> None:
    assert History([step(0), step(5, "f")]).leftover(2) == Mismatch(5, "f", None)


# --- steps of 1.0.2 ---------------------------------------------------------------------------------------------------


def test_steps_of_1_0_2_are_found_by_name_in_their_order() -> None:
    first, other, second = step(-3, "a"), step(-2, "b"), step(-1, "a")
    history = History([second, first, other])
    assert not history.is_empty
    assert history.last == -1
    assert [decide(history, n, name) for n, name in enumerate("baaab")] == [other, first, second, RUN, RUN]


@pytest.mark.parametrize("status", ["failed", "running", "interrupted"])
def test_steps_of_1_0_2_that_did_not_complete_run_again(status: str) -> None:
    history = History([step(-2, "a", status), step(-1, "a")])
    assert decide(history, 0) == step(-1, "a")
    assert decide(history, 1) is RUN


def test_steps_of_ours_come_before_those_of_1_0_2() -> None:
    history = History([step(-1, "a"), step(0, "a")])
    assert decide(history, 0) == step(0, "a")
    assert decide(history, 1) == step(-1, "a")


def test_steps_of_1_0_2_are_never_left_over() -> None:
    assert History([step(-2), step(-1)]).leftover(0) is None
    assert History([step(-1)]).is_empty is False


def test_only_an_activity_takes_a_step_of_1_0_2() -> None:
    history = History([step(-1, "effect")])
    assert decide(history, 0, "effect", "effect") is RUN
    assert decide(history, 1, "effect") == step(-1, "effect")


# --- any history ------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["completed", "failed", "running"]), max_size=8), st.integers(0, 8))
def test_a_replay_of_the_same_code_never_mismatches_and_runs_what_is_unfinished(statuses: list[str], made: int) -> None:
    steps = [step(n, f"name {n % 3}", status) for n, status in enumerate(statuses)]
    history = History(steps)
    for n in range(len(steps) + 2):
        decision = decide(history, n, f"name {n % 3}")
        if n < len(steps) and (statuses[n] == "completed" or (statuses[n] == "failed" and n < len(steps) - 1)):
            assert decision == steps[n]
        else:
            assert decision is RUN
    assert (history.leftover(made) is None) == (made >= len(steps))


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_different_code_is_noticed(recorded: list[str], called: list[str]) -> None:
    history = History([step(n, name) for n, name in enumerate(recorded)])
    decisions = [decide(history, n, name) for n, name in enumerate(called)]
    noticed = any(isinstance(decision, Mismatch) for decision in decisions) or history.leftover(len(called)) is not None
    assert noticed == (called[: len(recorded)] != recorded)
