"""Drives this project, as the README says.

Durability: SQLite with ``journal_mode=WAL`` and ``synchronous=FULL``, both set by the library: each recorded step is on
the disk before the workflow goes on. An activity is recorded when it has ended, so one that is interrupted runs again.
One after the other they take one commit and one sync each; what several workflows record at once may share a commit.

Configuration: ``max_workers=8``, everything else as it is by default.
"""

from __future__ import annotations

import os

import common

from py_orchestrate import Orchestrator, activity, workflow


@activity
def add(total, number):
    common.executions.add()
    return total + number


@activity
def append_line(workflow_number, step):
    common.effects.append(workflow_number, step)


@activity
def end(total):
    common.executions.add_last()
    return total


@workflow
def add_up(count):
    total = 0
    for number in range(count):
        total = add(total, number)
    return total


@workflow
def append_lines(workflow_number, steps):
    for step in range(steps):
        append_line(workflow_number, step)


@workflow
def replayed(count):
    total = 0
    for number in range(count - 1):
        total = add(total, number)
    return end(total)


class Driver(common.Driver):
    def start(self, folder):
        self._orchestrator = Orchestrator(os.path.join(folder, "py_orchestrate.db"), max_workers=common.WORKERS)
        self._orchestrator.start()

    def start_sum(self, count):
        return self._orchestrator.start_workflow(add_up, count)

    def start_lines(self, workflow, steps):
        return self._orchestrator.start_workflow(append_lines, workflow, steps)

    def start_replayed(self, count):
        return self._orchestrator.start_workflow(replayed, count, workflow_id="replay")

    def find_replayed(self):
        return self._orchestrator.get_handle("replay")

    def result(self, handle):
        return handle.result()

    def done(self):
        return len(self._orchestrator.list_workflows(status="done"))


if __name__ == "__main__":
    common.measure(Driver())
