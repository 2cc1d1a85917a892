"""Running a body under time limits: the first of two, its end or a limit, counts."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from py_orchestrate._clock import SystemClock
from py_orchestrate._engine.time_limits import Limits, Pulse, run_limited
from py_orchestrate._engine.workers import EventLoopThread
from py_orchestrate.errors import ActivityTimeoutError
from py_orchestrate.testing.clock import FakeClock

from ..waiting import wait_until

LONG = Limits(timeout=600, heartbeat=None, total=None, left=None)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Return what lets the bodies of a test end, at its end at the latest."""
    event = threading.Event()
    yield event
    event.set()
    wait_until(lambda: not timed_threads())


def timed_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("py_orchestrate-timed-")]


def limited(body: Callable[[], Any], limits: Limits, pulse: Pulse | None = None) -> Any:
    clock = SystemClock()
    return run_limited(body, pulse or Pulse(clock), clock, "x", limits)


def test_a_body_in_time_returns_or_raises() -> None:
    assert limited(lambda: 5, LONG) == 5
    for error in (ValueError("x"), SystemExit(3), KeyboardInterrupt()):

        def body(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            limited(body, LONG)
        assert caught.value is error
        assert any(entry.name == "body" for entry in caught.traceback)


def test_the_thread_is_a_named_daemon_with_the_callers_context() -> None:
    tenant = contextvars.ContextVar("tenant", default="none")
    tenant.set("acme")

    def body() -> tuple[str, bool, str]:
        seen = tenant.get()
        tenant.set("changed")
        return threading.current_thread().name, threading.current_thread().daemon, seen

    assert limited(body, LONG) == ("py_orchestrate-timed-x", True, "acme")
    assert tenant.get() == "acme"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(0.05, None, None, None), "took longer than its timeout of 0.05 s"),
        (Limits(600, 0.05, None, None), "gave no heartbeat for 0.05 s"),
        (Limits(600, None, 10, 0.05), "took longer than its total timeout of 10 s"),
        (Limits(None, None, 10, -5), "took longer than its total timeout of 10 s"),
    ],
)
def test_a_limit_passes(release: threading.Event, limits: Limits, text: str) -> None:
    pulse = Pulse(SystemClock())
    with pytest.raises(ActivityTimeoutError, match=f"activity 'x' {text}"):
        limited(release.wait, limits, pulse)
    assert pulse.abandoned
    assert not release.is_set()


def test_a_heartbeat_keeps_it_alive(release: threading.Event) -> None:
    clock = FakeClock()
    pulse = Pulse(clock)
    outcome: list[Any] = []
    limits = Limits(None, 10, None, None)
    thread = threading.Thread(target=lambda: outcome.append(run_limited(release.wait, pulse, clock, "x", limits)))
    thread.start()
    for _ in range(5):
        wait_until(timed_threads)
        pulse.beat()
        clock.advance(9)
    assert outcome == []
    release.set()
    thread.join(10)
    assert outcome == [True]


def test_a_turned_clock_is_noticed(release: threading.Event) -> None:
    clock = FakeClock()
    pulse = Pulse(clock)
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            run_limited(release.wait, pulse, clock, "x", LONG)
        except ActivityTimeoutError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(timed_threads)
    clock.advance(601)
    thread.join(10)
    assert len(outcome) == 1


def test_what_comes_late_is_dropped(release: threading.Event) -> None:
    ended = threading.Event()

    def body() -> str:
        release.wait()
        ended.set()
        return "late"

    with pytest.raises(ActivityTimeoutError):
        limited(body, Limits(0.02, None, None, None))
    release.set()
    assert ended.wait(10)


def test_of_a_result_and_a_limit_one_counts() -> None:
    for _ in range(200):
        pulse = Pulse(SystemClock())
        try:
            assert limited(lambda: "result", Limits(0.00005, None, None, None), pulse) == "result"
            assert not pulse.abandoned
        except ActivityTimeoutError:
            assert pulse.abandoned
    wait_until(lambda: not timed_threads())


def test_a_coroutine_is_cancelled() -> None:
    import asyncio

    loop = EventLoopThread()
    seen: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    pulse = Pulse(SystemClock())
    with pytest.raises(ActivityTimeoutError):
        limited(lambda: loop.run(body(), pulse.can_be_ended_by), Limits(0.05, None, None, None), pulse)
    wait_until(lambda: seen == ["cancelled"])
    wait_until(lambda: not timed_threads())
    loop.stop()


def test_what_is_abandoned_before_it_can_be_ended_is_ended_then() -> None:
    pulse = Pulse(SystemClock())
    pulse.abandon()
    ended: list[bool] = []
    pulse.can_be_ended_by(lambda: ended.append(True))
    assert ended == [True]
