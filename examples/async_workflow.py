"""How do I write a workflow with async and await?

An ``async def`` workflow awaits its activities, and uses asyncio for what goes on at the same time. It runs on an event
loop of its own whose order is recorded, so it is replayed like any other. Its waits cost no thread.

``await rank(found)`` is ``await rank.submit(found)``, which is the form that type checkers understand.
"""

import asyncio
import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, activity, durable, workflow


@activity
async def search(place: str, query: str) -> list[str]:
    await asyncio.sleep(0.01)  # an async activity runs on an ordinary event loop
    return [f"{query} in {place}"]


@activity
def rank(found: list[str]) -> list[str]:  # one that is not async is awaited too
    return sorted(found)


@workflow
async def research(query: str) -> list[str]:
    places = ("the archive", "the library")
    found = await asyncio.gather(*(search.submit(place, query) for place in places))
    ranked = await rank.submit([line for lines in found for line in lines])
    try:
        async with asyncio.timeout(0.2):  # a durable timer
            ranked.append(await durable.wait_for_event("hint"))
    except TimeoutError:
        ranked.append("no hint came")
    return ranked


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Orchestrator(Path(folder, "research.db")) as orchestrator:
        run = orchestrator.start_workflow(research, "maps")
        run.raise_event("hint", "ask the curator")
        print(await run)  # an async program waits for a run without holding its loop
        print(await orchestrator.start_workflow(research, "tides").result_async(timeout=10))


if __name__ == "__main__":
    asyncio.run(main())
