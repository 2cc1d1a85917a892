"""How do I write to my own tables exactly once?

A transactional activity gets a connection of the workflows' own database file. What it writes is committed together
with its recorded result: after a crash either both are there or neither is, and it runs again. So no booking is lost
and none is made twice, without keys or checks of your own.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from py_orchestrate import Orchestrator, activity, workflow


@activity(transactional=True)
def book(connection: sqlite3.Connection, account: str, amount: int) -> int:
    connection.execute("INSERT INTO ledger VALUES (?, ?)", (account, amount))
    if os.environ.get("CRASH") == account:
        os._exit(9)  # in the middle of the transaction
    balance: int = connection.execute("SELECT sum(amount) FROM ledger").fetchone()[0]
    return balance


@workflow
def pay_salaries(accounts: list[str]) -> int:
    return [book(account, 100) for account in accounts][-1]


def run(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "salaries.db")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS ledger (account TEXT, amount INTEGER)")
        connection.commit()
    with Orchestrator(folder / "salaries.db") as orchestrator:
        run = orchestrator.start_workflow(pay_salaries, ["Ada", "Alan", "Grace"], workflow_id="may")
        print("paid in all:", run.result(), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for victim in ("Alan", "Grace", ""):
            environment = {**os.environ, "CRASH": victim}
            command = [sys.executable, __file__, folder]
            process = subprocess.run(command, env=environment, check=False)  # noqa: S603 - it is this file
            with closing(sqlite3.connect(Path(folder, "salaries.db"))) as connection:
                rows = connection.execute("SELECT account, amount FROM ledger").fetchall()
            print("the process ended with", process.returncode, "and the ledger says", rows, flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
