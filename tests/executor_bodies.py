"""Activities for executors: a process pool and a cluster find them here, at the top level of a module."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from py_orchestrate import RetryPolicy, activity, durable

pools: dict[str, Executor] = {}


def pool() -> Executor:
    """Return the executor of the activities here: a process pool, unless a test has put another one in its place."""
    if "pool" not in pools:
        pools["pool"] = new_pool()
    return pools["pool"]


def new_pool() -> ProcessPoolExecutor:
    """Return a process pool whose processes begin with nothing."""
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """Let this process end when its parent is killed, which a pool's processes do not notice by themselves."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def close() -> None:
    """Shut what is there down."""
    while pools:
        pools.popitem()[1].shutdown()


class Point(NamedTuple):
    """An argument of a class of one's own."""

    x: int
    y: int


class OddError(Exception):
    """One that can be pickled, and not be read again."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class UnpicklableError(Exception):
    """One that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("has a lock")
        self.lock = threading.Lock()


def where(point: Point) -> dict[str, Any]:
    """Tell where this runs, and what it is told there."""
    info = durable.info()
    return {
        "pid": os.getpid(),
        "point": [point.x, point.y],
        "key": info.idempotency_key,
        "attempt": info.attempt,
        "name": info.name,
    }


def fails(kind: str) -> None:
    """Raise an error of a kind."""
    raise {"plain": ValueError("plain"), "odd": OddError("odd", 1), "unpicklable": UnpicklableError()}[kind]


def gives_a_lock() -> Any:
    """Return what cannot be sent."""
    return threading.Lock()


def dies() -> None:
    """End the process."""
    os._exit(3)


def dies_once(marker: str) -> str:
    """End the process, the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(3)
    return "lived"


def waits_for(path: str) -> str:
    """Wait for a file."""
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return Path(path).read_text(encoding="utf-8")


def append(path: str, line: str) -> str:
    """Add a line to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return line


def nested(n: int) -> int:
    """Call another activity, which is a plain call here."""
    return plain_square(n) + plain_square.submit(1).result()


@activity
def plain_square(n: int) -> int:
    """Return the square."""
    return n * n


def declare() -> dict[str, Any]:
    """Register the activities, as importing this module does, and return them."""
    bodies = (where, fails, gives_a_lock, dies, waits_for, append, nested)
    declared = {body.__name__: activity(executor=pool)(body) for body in bodies}
    declared["dies_once"] = activity(executor=pool, retry=RetryPolicy(initial_interval=0.01))(dies_once)
    declared["plain_square"] = activity(plain_square.fn)
    return declared


async def coroutine() -> None:
    """Do nothing."""
    await asyncio.sleep(0)
