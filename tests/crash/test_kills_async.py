"""Async workflows, with a kill at every durable boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import BOUNDARIES, Undisturbed, survives_every_kill, undisturbed

pytestmark = pytest.mark.crash

SCRIPT = """
import asyncio

@activity
def act(value):
    note(value)
    return value

@activity
async def later(value):
    await asyncio.sleep(0.001)
    note(value)
    return value

@activity
def fails(value):
    note(value)
    raise ValueError(value)

@workflow
async def child(value):
    await durable.sleep(0.01)
    return await act(value)

@workflow
async def main():
    seen = [await act("a"), str(durable.patched("a change"))]
    seen += await asyncio.gather(act("b"), later("c"), child("d"))

    async def branch(name):
        first = await act(name)
        heard = await durable.wait_for_event(name)
        return [first, heard, await later(name + "2")]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(name)) for name in ("e", "f")]
    seen += [task.result() for task in tasks]
    try:
        async with asyncio.timeout(0.02):
            await durable.wait_for_event("never")
    except TimeoutError:
        seen.append("timed out")
    try:
        async with durable.Saga() as saga:
            saga.add(act, "undone")
            await fails("g")
    except ValueError as error:
        seen.append(str(error))
    winner = await durable.wait_any(durable.create_timer(3600), act.submit("h"))
    seen.append(await winner)
    return seen

def during(orchestrator):
    for name in ("f", "e"):
        orchestrator.raise_event("run", name, "event " + name, event_id=name)
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    found = undisturbed(tmp_path_factory.mktemp("undisturbed") / "folder", SCRIPT)
    assert found.result == [
        "done",
        ["a", "True", "b", "c", "d", ["e", "event e", "e2"], ["f", "event f", "f2"], "timed out", "g", "h"],
        None,
    ]
    return found


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_any_boundary_changes_nothing(tmp_path: Path, expected: Undisturbed, boundary: str) -> None:
    kills = survives_every_kill(tmp_path, SCRIPT, boundary, expected, races=True)
    assert kills >= 11
