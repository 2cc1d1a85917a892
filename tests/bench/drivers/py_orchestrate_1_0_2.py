"""Drives py-orchestrate 1.0.2, the release before this project.

Durability: SQLite as it is by default, the library sets nothing: ``journal_mode=DELETE`` and ``synchronous=FULL``, a
new connection for each statement. An activity takes three commits: the workflow's current activity, its start, its end.
Without a write-ahead log that makes twelve syncs.

Configuration: ``max_workers=8``, everything else as it is by default.

What makes the comparison unequal:

* Nothing can be waited for: the driver asks for the status, every millisecond for the latency and every 20 otherwise.
  That reads the file, for which a writer has to wait, as there is no write-ahead log.
* It puts the recording functions into the workflow's module for the time of one workflow, and takes them out at its
  end. Workflows that run at the same time see each other's: activities are recorded for another workflow or not at all.
  So ``many`` and the recovery write less than they should. It does so only after the workflow's end can be seen, so
  one that is started at once may have nothing recorded: ``sequential`` and ``latency`` wait a moment between two
  workflows, which is no part of their times, and fail if anything has not been recorded.
* For the same reason an activity of another workflow can set a workflow that has just ended back to "processing". It is
  then taken for interrupted by a loop that looks every five seconds, and runs once more. ``many`` lasts until that has
  happened to all of them, so its time is a multiple of five seconds.
* It recognises a completed activity by its name alone. A workflow that is taken up and that calls one activity in a
  loop gets the same result for each call, and the other calls never happen. ``wrong`` in ``many`` counts workflows with
  such a result. The recovery reports such workflows as done; the pairs that are missing from the effects show it. There
  is no replay for the same reason.
"""

from __future__ import annotations

import os
import sqlite3
import time

import common

from py_orchestrate import Orchestrator, activity, workflow


@activity
def add(total, number):
    common.executions.add()
    return total + number


@activity
def append_line(workflow_number, step):
    common.effects.append(workflow_number, step)


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


SETTLE_SECONDS = 0.05


class Driver(common.Driver):
    replays = False

    def start(self, folder):
        self._file = os.path.join(folder, "py_orchestrate.db")
        self._orchestrator = Orchestrator(self._file, max_workers=common.WORKERS)
        self._orchestrator.start()

    def start_sum(self, count):
        return self._orchestrator.invoke_workflow("add_up", count=count)

    def start_lines(self, workflow, steps):
        return self._orchestrator.invoke_workflow("append_lines", workflow_number=workflow, steps=steps)

    def result(self, handle):
        status = common.wait_until_ended(lambda: self._ended(handle), self.poll_seconds)
        if status["status"] == "failed":
            raise RuntimeError(status["error_message"])
        return status["output"]

    def _ended(self, workflow_id):
        status = self._orchestrator.get_workflow_status(workflow_id)
        return None if status["status"] == "processing" else status

    def done(self):
        return sum(status["status"] == "done" for status in self._orchestrator.list_workflows())

    def settle(self):
        time.sleep(SETTLE_SECONDS)

    def check_recorded(self, activities):
        connection = sqlite3.connect(self._file)
        (recorded,) = connection.execute("SELECT count(*) FROM activity_executions").fetchone()
        if recorded < activities:
            raise RuntimeError(f"{recorded} of {activities} activities are recorded")


if __name__ == "__main__":
    common.measure(Driver())
