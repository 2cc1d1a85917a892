"""How do I wait for a time, for minutes or for months?

``durable.sleep`` and ``durable.sleep_until`` need no thread. The run leaves its worker, is a row in the database until
the time has come, and is then replayed up to this point. So many runs can wait on few workers, a stop does not wait for
them, and a process that starts later goes on with them. The time is fixed by the first call; no restart moves it.
"""

import tempfile
import time
from datetime import timedelta
from pathlib import Path

from py_orchestrate import Orchestrator, activity, durable, workflow

PAUSE = timedelta(seconds=0.5)  # plays three days


@activity
def send(text: str) -> str:
    return f"sent: {text}"


@workflow
def remind(name: str) -> list[str]:
    sent = [send(f"welcome, {name}")]
    durable.sleep(PAUSE)
    sent.append(send(f"{name}, have you looked at it?"))
    return sent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "reminders.db")

        with Orchestrator(database, max_workers=2) as orchestrator:
            begin = time.monotonic()
            runs = [orchestrator.start_workflow(remind, f"user {number}") for number in range(50)]
            print(runs[0].result())
            print("all sent:", all(len(run.result()) == 2 for run in runs))
            print("waited together:", time.monotonic() - begin < len(runs) / 2 * PAUSE.total_seconds())

            orchestrator.start_workflow(remind, "Ada", workflow_id="ada")
        # The orchestrator is stopped, and did not wait for the reminder. Another one, perhaps tomorrow, goes on.
        with Orchestrator(database) as orchestrator:
            print(orchestrator.get_handle("ada").result())
            for step in orchestrator.get_history("ada"):
                print(step["sequence"], step["kind"], step["name"], step["input"])


if __name__ == "__main__":
    main()
