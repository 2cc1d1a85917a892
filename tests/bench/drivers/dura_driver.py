"""Drives dura 1.3.0: a workflow is a task, an activity is a checkpoint of it.

Durability: the library sets ``journal_mode=WAL`` and ``busy_timeout=30000`` and leaves ``synchronous`` as SQLite has
it, which is ``FULL``. A checkpoint is recorded when its function has ended, so one that is interrupted runs again. It
takes one commit and one sync.

Configuration: ``run_workers`` with ``worker_count=8``, in a thread of its own, everything else as it is by default.

What makes the comparison unequal:

* An idle worker looks for tasks once a second, and ``run_workers`` has no option for that. So up to one second of
  ``sequential`` and ``many`` is waiting: ``first_seconds``. The latency has two humps: milliseconds if the worker that
  has just ended the workflow before still finds the new one, else up to a second. Its median says little; see the mean.
* No result can be waited for: the driver asks for the task, every millisecond for the latency and every 20 otherwise.
* A killed process holds its tasks for 120 seconds after it took them, and ``run_workers`` has no option for that. The
  eight that were running at the kill are therefore taken up about two minutes later, about when ``recovery-second``
  gives up; with a higher ``--limit`` it sees the end. The tasks that were waiting go on at once.
* For that reason ``replay-prepare`` runs a single ``run_worker`` with ``claim_timeout_secs=0``, so that ``replay``
  measures the replay and not the two minutes.
* It needs Python 3.13; the others are measured with 3.12.
"""

from __future__ import annotations

import os
import threading
from functools import partial

import common
from dura import DurableEngine, run_worker, run_workers


def add(total, number):
    common.executions.add()
    return total + number


def end(total):
    common.executions.add_last()
    return total


def add_up(engine, task):
    return _add_up(engine, task, task.params["count"])


def append_lines(engine, task):
    workflow = task.params["workflow"]
    for step in range(task.params["steps"]):
        append = partial(common.effects.append, workflow, step)
        engine.checkpoint(task_id=task.task_id, step_name=f"append {step}", fn=append)


def replayed(engine, task):
    total = _add_up(engine, task, task.params["count"] - 1)
    return engine.checkpoint(task_id=task.task_id, step_name="end", fn=partial(end, total))


def _add_up(engine, task, count):
    total = 0
    for number in range(count):
        total = engine.checkpoint(task_id=task.task_id, step_name=f"add {number}", fn=partial(add, total, number))
    return total


HANDLERS = {"add_up": add_up, "append_lines": append_lines, "replayed": replayed}


class Driver(common.Driver):
    def start(self, folder):
        self._open(folder)
        options = {"handlers": HANDLERS, "worker_count": common.WORKERS, "handle_signals": False}
        threading.Thread(target=run_workers, args=(self._engine,), kwargs=options, daemon=True).start()

    def start_to_be_killed(self, folder):
        self._open(folder)
        options = {"handlers": HANDLERS, "worker_id": "0", "stop_event": threading.Event(), "claim_timeout_secs": 0}
        threading.Thread(target=run_worker, args=(self._engine,), kwargs=options, daemon=True).start()

    def _open(self, folder):
        self._engine = DurableEngine(os.path.join(folder, "dura.db"))

    def start_sum(self, count):
        return self._engine.spawn_task(name="add_up", params={"count": count}).task_id

    def start_lines(self, workflow, steps):
        return self._engine.spawn_task(name="append_lines", params={"workflow": workflow, "steps": steps}).task_id

    def start_replayed(self, count):
        params = {"count": count}
        return self._engine.spawn_task(name="replayed", params=params, idempotency_key="replay").task_id

    def find_replayed(self):
        return self.start_replayed(0)  # the key exists: this is the task of the process before, with its count

    def result(self, handle):
        task = common.wait_until_ended(lambda: self._ended(handle), self.poll_seconds)
        if task.state != "completed":
            raise RuntimeError(f"the task is {task.state}: {task.failure_reason}")
        return task.result

    def _ended(self, task_id):
        task = self._engine.get_task(task_id)
        return task if task.state in {"completed", "failed", "cancelled"} else None

    def done(self):
        return self._engine.task_counts_by_state().get("completed", 0)


if __name__ == "__main__":
    common.measure(Driver())
