"""How do I use all cores, or a cluster?

``@activity(executor=...)`` runs an activity on any ``concurrent.futures.Executor``: here on a process pool. With Dask
it is ``executor=client.get_executor()``. What has ended is recorded, as ever: after a crash it does not run again.
"""

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow


@cache
def pool() -> ProcessPoolExecutor:
    """Return the pool, made when the first activity needs it: the pool's own processes import this file too."""
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@activity(executor=pool)
def factorise(number: int) -> tuple[int, list[int]]:
    factors, divisor, rest = [], 2, number
    while divisor * divisor <= rest:
        if rest % divisor:
            divisor += 1
        else:
            factors.append(divisor)
            rest //= divisor
    return os.getpid(), [*factors, rest]


@workflow
def factorise_all(numbers: list[int]) -> list[list[int]]:
    found = factorise.map(numbers)
    return [factors for pid, factors in found if pid != os.getpid()]  # none of them ran here


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Orchestrator(Path(folder, "factors.db")) as orchestrator, pool():
        numbers = [2**31 - 1, 600851475143, 1234567890]
        for number, factors in zip(numbers, orchestrator.start_workflow(factorise_all, numbers).result(), strict=True):
            print(number, "=", " * ".join(map(str, factors)))


if __name__ == "__main__":
    main()
