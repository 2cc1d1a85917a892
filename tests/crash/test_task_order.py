"""Tasks of async workflows that asyncio keeps in sets: a process that takes up a run makes the calls in their order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..programs import Program

pytestmark = pytest.mark.crash

TASKS = 9
PRELUDE = """
import asyncio

# Other objects at other addresses in each process, as in a program that has done something else before.
ballast = [bytearray(1 + os.urandom(1)[0]) for _ in range(os.urandom(1)[0] * 8)]

@activity
def book(number):
    return number

@activity
def undo(number):
    mark("undo", number)
    if len(open(os.environ["FOLDER"] + "/undo").readlines()) >= 5:
        crash()
    return number

@activity
def fails():
    raise ValueError
"""
SCRIPTS = {
    "a task group cancels": """
        booked, all_booked = [], asyncio.Event()

        async def one(number):
            booked.append(await book(number))
            if len(booked) == TASKS:
                all_booked.set()
            try:
                await durable.wait_for_event("never")
            except asyncio.CancelledError:
                assert await undo(number) == number
                raise

        async def fail():
            await all_booked.wait()
            await fails()

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(TASKS):
                    group.create_task(one(number))
                group.create_task(fail())
        except* ValueError:
            pass
    """,
    "asyncio.wait": """
        tasks = [asyncio.create_task(book(number)) for number in range(TASKS)]
        done, _ = await asyncio.wait(tasks)
        for task in done:
            assert await undo(task.result()) == task.result()
    """,
    "as_completed of tasks": """
        tasks = [asyncio.create_task(book(number)) for number in range(TASKS)]
        await asyncio.gather(*tasks)
        for each in asyncio.as_completed(tasks):
            number = await each
            assert await undo(number) == number
    """,
}


@pytest.mark.parametrize("which", SCRIPTS)
def test_a_recovery_takes_the_tasks_in_the_same_order(program: Callable[[str], Program], which: str) -> None:
    script = program(f"{PRELUDE}\nTASKS = {TASKS}\n\n@workflow\nasync def w():\n{SCRIPTS[which]}\n")
    script.crash(kill=True)
    script.recover().output  # noqa: B018 - each task got what it had got before
    assert set(map(int, script.lines("undo"))) == set(range(TASKS))  # none is left out, for another one's result
