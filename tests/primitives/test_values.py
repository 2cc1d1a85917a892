"""The time, random numbers and UUIDs in a workflow: the same in every replay."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import DurableCallError
from py_orchestrate.testing.clock import FakeClock

from ..programs import Program

MakeOrchestrator = Callable[..., Orchestrator]


def test_values_are_the_same_in_every_replay(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    seen: list[list[Any]] = []

    @workflow
    def w() -> list[Any]:
        values = [durable.now(), durable.uuid4(), durable.random(), durable.random()]
        seen.append(values)
        for _ in range(3):
            durable.sleep(0.001)
        return [*values, durable.now()]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    moment, identifier, first, second, later = handle.result(10)
    assert len(seen) == 4
    assert seen == [[moment, identifier, first, second]] * 4
    assert moment.utcoffset() == timedelta(0)
    assert later > moment
    assert (type(identifier), identifier.version) == (uuid.UUID, 4)
    assert 0 <= first < 1
    assert first != second
    steps = runner.get_history(handle.id)
    assert [(step["kind"], step["name"]) for step in steps[:4]] == [
        ("value", "now"), ("value", "uuid4"), ("value", "random"), ("value", "random")
    ]  # fmt: skip
    assert [step["output"] for step in steps[:4]] == [moment, identifier, first, second]


def test_the_time_is_the_orchestrators(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> datetime:
        return durable.now()

    assert orchestrator(memory, clock=FakeClock()).start_workflow(w).result(10) == datetime(2030, 1, 1, tzinfo=UTC)


def test_values_survive_a_crash(program: Callable[..., Program]) -> None:
    script = program("""
        @activity
        def note(value):
            mark("values", value)

        @workflow
        def w():
            value = durable.uuid4()
            note(value)
            crash()
            note(value)
            return str(value)
        """)
    script.crash(kill=True)
    result = script.recover().output
    assert set(script.lines("values")) == {result}


@pytest.mark.parametrize("value", [durable.now, durable.uuid4, durable.random])
def test_values_are_for_workflows(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, value: Callable[[], Any]
) -> None:
    @activity
    def act() -> str:
        with pytest.raises(DurableCallError, match="not in an activity"):
            value()
        return "refused"

    @workflow
    def w() -> str:
        return act()

    with pytest.raises(DurableCallError, match="works inside a workflow only"):
        value()
    assert orchestrator(memory).start_workflow(w).result(10) == "refused"
