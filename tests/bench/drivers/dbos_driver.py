"""Drives DBOS 3.4.0 with the SQLite system database that it uses where no Postgres is configured.

Durability: the library sets ``busy_timeout=30000`` and ``foreign_keys=ON`` and leaves the rest as SQLite has it:
``journal_mode=DELETE`` and ``synchronous=FULL``. A step is recorded when it has ended, so one that is interrupted runs
again. It takes one commit, which without a write-ahead log makes four syncs.

Configuration: ``max_executor_threads=8``, and workflows are started with ``DBOS.start_workflow``, which runs them at
once on those threads. The documented alternative, a queue with ``worker_concurrency=8``, looks for work once a second
and would be slower here.

What makes the comparison unequal:

* SQLite is its default, but what its documentation is about is Postgres.
* Interrupted workflows go through an internal queue that is looked at once a second, which is part of the times of
  ``recovery-second`` and ``replay``. The result of a workflow from another process is asked for every 20 ms here, not
  every second as by default.
* From Python 3.12 on it needs ``unixepoch('subsec')``, which SQLite has from 3.42 on; with an older one it does not
  start. The driver then gives the connections such a function, so that all libraries are measured on the same SQLite.
"""

from __future__ import annotations

import os
import sqlite3
import time

import common
import sqlalchemy
from dbos import DBOS, SetWorkflowID

if sqlite3.sqlite_version_info < (3, 42):

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
    def add_unixepoch(connection, _record):
        connection.create_function("unixepoch", 1, lambda _subsec: round(time.time(), 3))


@DBOS.step()
def add(total, number):
    common.executions.add()
    return total + number


@DBOS.step()
def append_line(workflow_number, step):
    common.effects.append(workflow_number, step)


@DBOS.step()
def end(total):
    common.executions.add_last()
    return total


@DBOS.workflow()
def add_up(count):
    total = 0
    for number in range(count):
        total = add(total, number)
    return total


@DBOS.workflow()
def append_lines(workflow_number, steps):
    for step in range(steps):
        append_line(workflow_number, step)


@DBOS.workflow()
def replayed(count):
    total = 0
    for number in range(count - 1):
        total = add(total, number)
    return end(total)


class Driver(common.Driver):
    def start(self, folder):
        file = os.path.join(os.path.abspath(folder), "dbos.sqlite")
        config = {
            "name": "bench",
            "system_database_url": f"sqlite:///{file}",
            "max_executor_threads": common.WORKERS,
            "log_level": "WARNING",
        }
        DBOS(config=config)
        DBOS.launch()

    def start_sum(self, count):
        return DBOS.start_workflow(add_up, count)

    def start_lines(self, workflow, steps):
        return DBOS.start_workflow(append_lines, workflow, steps)

    def start_replayed(self, count):
        with SetWorkflowID("replay"):
            return DBOS.start_workflow(replayed, count)

    def find_replayed(self):
        return DBOS.retrieve_workflow("replay")

    def result(self, handle):
        return handle.get_result(polling_interval_sec=self.poll_seconds)

    def done(self):
        return len(DBOS.list_workflows(status="SUCCESS", load_input=False, load_output=False))


if __name__ == "__main__":
    common.measure(Driver())
