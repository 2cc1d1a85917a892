"""How do I run activities in parallel?

``activity.submit`` starts a call in another thread and returns its future; ``activity.map`` does so for each item of a
list, and waits for all. Each call is a step of its own: after a crash only those that had not finished run again. As
many run at once as the orchestrator has ``max_workers``.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from py_orchestrate import Orchestrator, activity, durable, workflow


@activity
def word_count(text: str) -> int:
    time.sleep(0.2)  # plays slow work
    return len(text.split())


@activity
def shout(text: str) -> str:
    if not text:
        raise ValueError("nothing to shout")
    return text.upper()


@workflow
def analyse(texts: list[str]) -> dict[str, Any]:
    counts = word_count.map(texts)  # all at once; the results are in the order of the texts

    first = shout.submit(texts[0])  # two different activities at once
    second = word_count.submit(texts[1])
    both = durable.gather(first, second)

    # With return_exceptions a failure stands among the results. Without it, it is raised when all have ended.
    tried = durable.gather(*[shout.submit(text) for text in ("hey", "")], return_exceptions=True)
    return {"counts": counts, "both": both, "tried": [str(result) for result in tried]}


def main() -> None:
    texts = ["one", "one two", "one two three", "one two three four"]
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "fan_out.db"), max_workers=8) as orchestrator,
    ):
        begin = time.monotonic()
        print(orchestrator.start_workflow(analyse, texts).result())
        slow_calls = len(texts) + 1
        print("faster than one after the other:", time.monotonic() - begin < slow_calls * 0.2)


if __name__ == "__main__":
    main()
