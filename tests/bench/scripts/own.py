"""Workloads that only this library is put through, each in a process of its own.

``python own.py WORKLOAD FOLDER [--count N]``, with the folder of the drivers on its path, uses
``FOLDER/py_orchestrate.db`` and prints one line of JSON.

======================  ==============================================================================================
``fan-out``             one workflow that hands N activities to eight threads with ``activity.map``
``memory``              runs workflows until N are done: the ones that are pending, or else new ones; its peak of memory
``pages``               200 calls each of ``list_workflows(limit=100)``, of a page from the middle, and of a status
``backlog``             stores N workflows of five activities for ``fleet``
``fleet``               one of the processes that work them off; begins when a line comes from standard input
``neighbours``          how long a small step takes by itself, and beside results of two megabytes that are stored one
                        after another: a text, and the same size in rows, which take the interpreter long to encode
``idle``                the share of a processor that an orchestrator takes that has nothing to do for N seconds
======================  ==============================================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

from py_orchestrate import Orchestrator, activity, workflow

FILE = "py_orchestrate.db"
CALLS = 200
PAGE = 100

ended: list[int] = []


@activity
def add(total, number):
    """Add two numbers."""
    return total + number


@workflow
def add_up(count):
    """Add up ``range(count)``, and count the workflows that this process brought to their end."""
    total = 0
    for number in range(count):
        total = add(total, number)
    ended.append(total)
    return total


@workflow
def spread(count):
    """Do all the additions on the orchestrator's threads."""
    return sum(add.map(range(count), range(count)))


def open_store(folder: Path) -> Orchestrator:
    """Return an orchestrator that is not started."""
    return Orchestrator(folder / FILE, max_workers=common.WORKERS)


def fan_out(folder: Path, count: int) -> dict[str, Any]:
    """Return the seconds from the start of the workflow to its result."""
    orchestrator = open_store(folder)
    orchestrator.start()
    orchestrator.start_workflow(spread, common.WORKERS).result(60)  # by now there are threads
    started = time.perf_counter()
    result = orchestrator.start_workflow(spread, count).result(300)
    seconds = time.perf_counter() - started
    common.check(result, count * (count - 1))
    return {"seconds": seconds, "activities": count}


def memory(folder: Path, count: int) -> dict[str, Any]:
    """Return the peak of memory once so many workflows have ended here."""
    orchestrator = open_store(folder)
    started = time.perf_counter()
    orchestrator.start()
    if not orchestrator.list_workflows(status="processing", limit=1):
        for _ in range(count):
            orchestrator.start_workflow(add_up, common.MANY_ACTIVITIES)
    while len(ended) < count:
        time.sleep(0.01)
    return {"peak_mb": common.peak_mb(), "seconds": time.perf_counter() - started}


def _median_ms(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def pages(folder: Path, count: int) -> dict[str, Any]:
    """Return the medians of three questions to a store of so many workflows ``run-0``, ``run-1`` and so on."""
    orchestrator = open_store(folder)
    middle = f"run-{count // 2}"
    common.check(len(orchestrator.list_workflows(limit=PAGE, cursor=middle)), min(PAGE, count // 2))
    return {
        "first_page_ms": _median_ms(lambda: orchestrator.list_workflows(limit=PAGE)),
        "middle_page_ms": _median_ms(lambda: orchestrator.list_workflows(limit=PAGE, cursor=middle)),
        "status_ms": _median_ms(lambda: orchestrator.get_workflow_status(middle)),
    }


def backlog(folder: Path, count: int) -> dict[str, Any]:
    """Store workflows that nobody runs yet."""
    orchestrator = open_store(folder)
    for _ in range(count):
        orchestrator.start_workflow(add_up, common.MANY_ACTIVITIES)
    return {"workflows": count}


def fleet(folder: Path, _count: int) -> dict[str, Any]:
    """Work until nothing is left, also not at the others; return how many workflows ended here."""
    orchestrator = open_store(folder)
    sys.stdin.readline()
    orchestrator.start()
    while orchestrator.list_workflows(status="processing", limit=1):
        time.sleep(0.1)  # the end is read from the file afterwards; to look more often takes from what is measured
    return {"ended": len(ended)}


LARGE = 2_000_000
results: dict[str, Any] = {}
steps: list[float] = []


@activity
def large(kind):
    """Return two megabytes."""
    return results[kind]


@workflow
def large_steps(kind, seconds):
    """Store large results one after another."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        large(kind)


@workflow
def small_steps(seconds):
    """Note how long each of many small steps takes."""
    last = time.perf_counter()
    until = last + seconds
    while last < until:
        add(1, 2)
        now = time.perf_counter()
        steps.append(now - last)
        last = now


def neighbours(folder: Path, count: int) -> dict[str, Any]:
    """Return the median and the 95th percentile of small steps, in milliseconds; each lasts ``count`` seconds."""
    # Not before: the memory of the other workloads is measured.
    results["text"] = "x" * LARGE
    results["rows"] = [{"id": row, "name": "x" * 60, "value": row / 2} for row in range(LARGE // 100)]
    orchestrator = open_store(folder)
    orchestrator.start()
    figures = {}
    for kind in ("alone", *results):
        if kind in results:
            beside = orchestrator.start_workflow(large_steps, kind, count + 1)
        steps.clear()
        orchestrator.start_workflow(small_steps, count).result(120)
        by_length = sorted(steps)
        figures[kind] = {
            name: by_length[int(len(by_length) * part)] * 1e3 for name, part in (("median", 0.5), ("p95", 0.95))
        }
        if kind in results:
            beside.result(120)
    return figures


def idle(folder: Path, count: int) -> dict[str, Any]:
    """Return the percentage of one processor that an idle orchestrator takes, over so many seconds."""
    orchestrator = open_store(folder)
    orchestrator.start()
    orchestrator.start_workflow(add_up, 3).result(60)
    time.sleep(0.5)  # what follows a run is over by then
    used, began = time.process_time(), time.perf_counter()
    time.sleep(count)
    return {"percent": (time.process_time() - used) / (time.perf_counter() - began) * 100}


WORKLOADS = {
    "fan-out": fan_out,
    "memory": memory,
    "pages": pages,
    "backlog": backlog,
    "fleet": fleet,
    "neighbours": neighbours,
    "idle": idle,
}


def main() -> None:
    """Run the workload that the command line names, and end without stopping the library, as the drivers do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(WORKLOADS[options.workload](options.folder, options.count)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
