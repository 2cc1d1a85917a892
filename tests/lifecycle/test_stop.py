"""``stop()``: what it waits for, what it leaves, and what can be done afterwards."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from py_orchestrate import Orchestrator, activity, workflow
from py_orchestrate.errors import OrchestratorStateError
from tests.waiting import wait_until


class Steps:
    """A workflow of two activities, the first of which lasts until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.ran: list[str] = []

        @activity
        def first():
            self.begun.set()
            assert self.release.wait(20)
            self.ran.append("first")
            return 1

        @activity
        def second(number):
            self.ran.append("second")
            return number + 1

        @workflow
        def job():
            return second(first())

        self.job = job


@pytest.fixture
def steps(registry):
    made = Steps()
    yield made
    made.release.set()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def test_it_waits_for_what_runs(path, steps):
    orchestrator = Orchestrator(path)
    orchestrator.start()
    handle = orchestrator.start_workflow(steps.job)
    assert steps.begun.wait(10)
    threading.Timer(0.1, steps.release.set).start()

    assert orchestrator.stop() is True

    assert handle.status()["output"] == 2  # the store can be read after the stop
    assert orchestrator.stop() is True


def test_it_gives_up_in_time_names_what_runs_and_the_late_step_counts(path, steps, caplog):
    orchestrator = Orchestrator(path)
    orchestrator.start()
    handle = orchestrator.start_workflow(steps.job)
    assert steps.begun.wait(10)

    since = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert orchestrator.stop(timeout=0.2) is False
    assert time.monotonic() - since < 0.7
    assert handle.id in caplog.text
    assert "first" in caplog.text
    with pytest.raises(OrchestratorStateError, match="stopping"):
        orchestrator.invoke_workflow("job")
    with pytest.raises(OrchestratorStateError, match="still stopping"):
        orchestrator.start()

    steps.release.set()
    assert orchestrator.stop(timeout=10) is True
    assert steps.ran == ["first"], "the second step does not start after the stop"
    history = orchestrator.get_history(handle.id)
    assert [(step["name"], step["status"], step["output"]) for step in history] == [("first", "completed", 1)]
    assert handle.status()["status"] == "processing"

    orchestrator.start()
    assert handle.result(10) == 2
    assert steps.ran == ["first", "second"]
    assert orchestrator.stop() is True


def test_nothing_is_taken_up_while_it_waits(path, steps):
    orchestrator = Orchestrator(path, max_workers=1)
    orchestrator.start()
    handles = [orchestrator.start_workflow(steps.job) for _ in range(3)]
    assert steps.begun.wait(10)
    threading.Timer(0.1, steps.release.set).start()

    assert orchestrator.stop() is True

    assert [handle.status()["status"] for handle in handles] == ["done", "processing", "processing"]
    with Orchestrator(path):
        assert [handle.result(10) for handle in handles] == [2, 2, 2]


def test_invoking_after_it_is_refused_and_stores_nothing(path, steps):
    orchestrator = Orchestrator(path)
    orchestrator.start()
    orchestrator.stop()

    with pytest.raises(OrchestratorStateError, match=r"call start\(\)"):
        orchestrator.invoke_workflow("job")

    assert orchestrator.list_workflows() == []


@pytest.mark.parametrize("place", ["activity", "workflow"])
def test_a_workflow_may_stop_its_own_orchestrator(path, registry, place):
    answers = []

    @activity
    def last():
        if place == "activity":
            answers.append(orchestrator.stop())
        return "last"

    @activity
    def after():
        return "after"

    @workflow
    def job():
        if place == "workflow":
            answers.append(orchestrator.stop())
        return [last(), after()]

    orchestrator = Orchestrator(path)
    orchestrator.start()
    handle = orchestrator.start_workflow(job)

    assert handle.result(10) == ["last", "after"], "a stop without a limit lets what runs come to its end"
    assert answers[0] is False
    wait_until(lambda: orchestrator._engine._state == "stopped")
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("py_orchestrate-worker")])


def test_it_can_be_started_again_and_again(path: Path, steps):
    steps.release.set()
    orchestrator = Orchestrator(path)
    owners = set()
    for _ in range(5):
        with orchestrator:
            owners.add(orchestrator._engine.owner)
            assert orchestrator.start_workflow(steps.job).result(10) == 2
    assert len(owners) == 5
    assert len(orchestrator.list_workflows(status="done")) == 5
