"""Retries and time limits, with a kill at every durable boundary: no attempt is free, none is counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
activities.HELD_SECONDS = 0.03  # so that a longer wait than that leaves the worker, without taking seconds
held = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=0)
left = RetryPolicy(max_attempts=2, initial_interval=0.05, backoff=1, jitter=0)

def fail_until(attempt):
    note()
    if durable.info().attempt < attempt:
        raise ConnectionError(f"attempt {durable.info().attempt}")
    return durable.info().attempt

@activity(retry=held)
def short():
    return fail_until(3)

@activity(retry=left)
def long():
    return fail_until(2)

@activity(retry=left)
def never():
    return fail_until(99)

@activity(retry=left)
async def later():
    return fail_until(2)

@workflow
def main():
    seen = [short(), long()]
    seen.append(durable.gather(long.submit(), later.submit()))
    try:
        never()
    except ConnectionError as error:
        seen.append(str(error))
    never.options(retry=held)()
"""


TIMED = """
activities.HELD_SECONDS = 0.03

@activity(timeout=0.2, retry=RetryPolicy(max_attempts=2, initial_interval=0.05, jitter=0))
def slow():
    note()
    if durable.info().attempt == 1:
        time.sleep(20)
    return durable.info().attempt

@workflow
def main():
    return slow()
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result[0] == "failed"
    assert found.result[2] == "attempt 3"
    assert set(found.effects.values()) == {1}
    assert len(found.effects) == 3 + 2 + (2 + 2) + 2 + 3
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    assert survives_every_kill(tmp_path, SCRIPT, boundary, expected) >= 14


def test_a_time_limit_is_an_attempt_too(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed", TIMED)
    assert expected.result == ["done", 2, None]
    assert survives_every_kill(tmp_path, TIMED, "before a commit", expected) >= 3
