"""Drives kairo-sdk 0.4.1 with the runtime embedded in this process and its SQLite store.

It needs the extra ``embedded``, which brings wasmtime.

Durability: SQLite with ``journal_mode=WAL`` and ``synchronous=FULL``, both set by the library. A call is a run of its
own: it takes one commit to start and one to end, which makes two syncs an activity.

Configuration: ``Kairo(concurrency=8)``, which bounds the actions that run at once, not the workflows. Actions are plain
functions, which it runs on the event loop's default threads; a small machine has fewer than eight of those (its cores
and four more).

What makes the comparison unequal:

* The actions have ``effect="unprotected"``: one that is interrupted runs again, as with the other libraries. By default
  it is ``"real"``: one that is interrupted never runs again but waits for somebody to look at it, and the call fails.
  That is so for each action that was on its way, also those that waited for one of the eight places: with 200
  workflows under way the recovery would then complete hardly any.
* A killed process holds its workflows for 30 seconds, and the next looks for such ones at its start and then once in 30
  seconds, so nothing is taken up before that.
* Workflows are coroutines on one event loop, and all commits are made on its thread.
* There is no replay: it would measure the 30 seconds.
"""

from __future__ import annotations

import asyncio
import os
import time

import common
from kairo_sdk import EmbeddedBackend, Kairo, SQLiteStore


async def add_up(context, request):
    total = 0
    for number in range(request["count"]):
        total = await context.call("add", {"total": total, "number": number})
    return total


async def append_lines(context, request):
    for step in range(request["steps"]):
        await context.call("append_line", {"workflow": request["workflow"], "step": step})


def add(request, context):
    common.executions.add()
    return request["total"] + request["number"]


def append_line(request, context):
    common.effects.append(request["workflow"], request["step"])


async def start(folder):
    backend = await EmbeddedBackend.open(SQLiteStore(os.path.join(folder, "kairo.db")))
    kairo = Kairo(backend=backend, concurrency=common.WORKERS)
    kairo.action("add", effect="unprotected")(add)
    kairo.action("append_line", effect="unprotected")(append_line)
    kairo.workflow("add_up")(add_up)
    kairo.workflow("append_lines")(append_lines)
    await kairo.start()
    return kairo


async def sequential(options):
    kairo = await start(options.folder)
    await kairo.run("add_up", {"count": common.WARM_UP})
    common.executions.reset()
    started = time.perf_counter()
    result = await kairo.run("add_up", {"count": options.count})
    return common.figures_of_sequential(started, result, options.count)


async def many(options):
    kairo = await start(options.folder)
    started = time.perf_counter()
    ids = [await kairo.submit("add_up", {"count": common.MANY_ACTIVITIES}) for _ in range(options.count)]
    results = [await _result_or_error(kairo, workflow_id) for workflow_id in ids]
    return common.figures_of_many(started, results)


async def _result_or_error(kairo, workflow_id):
    try:
        return await kairo.result(workflow_id)
    except Exception as error:
        return error


async def latency(options):
    kairo = await start(options.folder)
    times = []
    for _ in range(1 + options.count):
        started = time.perf_counter()
        result = await kairo.run("add_up", {"count": 1})
        times.append(time.perf_counter() - started)
        common.check(result, 0)
    return common.figures_of_latency(times[1:])


async def recovery_first(options):
    common.effects.open(options.folder)
    kairo = await start(options.folder)
    for workflow in range(common.RECOVERY_WORKFLOWS):
        await kairo.submit("append_lines", {"workflow": workflow, "steps": common.RECOVERY_STEPS})
    common.effects.let_go()
    await asyncio.sleep(options.limit)
    raise TimeoutError("nobody killed this process")


async def recovery_second(options):
    common.effects.open(options.folder)
    common.effects.let_go()
    give_up = time.monotonic() + options.limit
    kairo = await start(options.folder)
    while True:
        done = await _done(kairo)
        if done == common.RECOVERY_WORKFLOWS or time.monotonic() > give_up:
            return {"done": done}
        await asyncio.sleep(common.LOOK_SECONDS)


async def _done(kairo):
    completed = await kairo.list(workflow="append_lines", status="completed")
    return sum(run["output"]["payload"]["ok"] for run in completed)  # a workflow that failed is "completed", too


WORKLOADS = {
    "sequential": sequential,
    "many": many,
    "latency": latency,
    "recovery-first": recovery_first,
    "recovery-second": recovery_second,
}

if __name__ == "__main__":
    common.run({name: lambda options, run=run: asyncio.run(run(options)) for name, run in WORKLOADS.items()})
