"""How do I call async code?

An activity may be ``async def``. A workflow may not; it calls such an activity like any other, without ``await``. All
async activities of an orchestrator share one event loop, which runs in a thread of its own.
"""

import asyncio
import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow


@activity
async def download(url: str) -> str:
    await asyncio.sleep(0.1)  # plays the network
    return f"content of {url}"


@activity
async def download_all(urls: list[str]) -> list[str]:
    # One step for all of them: if the process dies in here, all are downloaded again.
    return list(await asyncio.gather(*[download.fn(url) for url in urls]))


@workflow
def mirror(urls: list[str]) -> dict[str, list[str]]:
    one = download(urls[0])
    each = download.map(urls)  # a step for each of them
    together = download_all(urls)
    return {"one": [one], "each": each, "together": together}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "async.db")) as orchestrator,
    ):
        result = orchestrator.start_workflow(mirror, ["a.example", "b.example"]).result()
        for name, contents in result.items():
            print(f"{name}: {contents}")


if __name__ == "__main__":
    main()
