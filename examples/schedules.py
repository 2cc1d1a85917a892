"""A schedule starts a workflow again and again; a clock that is turned by hand shows a night in which clocks change.

In Berlin, 02:30 does not exist on 31 March 2030. The job runs at 03:00 that day, once. Then no program runs for three
days, and the next start makes up for the last of the missed nights. Needs the extra: py-orchestrate[schedules].
"""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.testing.clock import FakeClock

BERLIN = ZoneInfo("Europe/Berlin")


@activity
def back_up(folder: str, night: datetime) -> str:
    return f"{folder}, the night of {night:%d %B at %H:%M %Z}"


@workflow
def nightly(folder: str) -> str:
    info = durable.info()
    assert isinstance(info, durable.WorkflowInfo)
    assert info.scheduled_at is not None  # it is where no schedule started the run
    return back_up(folder, info.scheduled_at.astimezone(BERLIN))


def pass_time(clock: FakeClock, orchestrator: Orchestrator, count: int) -> None:
    """Turn the clock until so many runs are done; from hour to hour, as an impatient watchman would."""
    while len(orchestrator.list_workflows("nightly", status="done")) < count:
        clock.advance(600)
        time.sleep(0.01)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedules.db"
        clock = FakeClock()
        clock.advance((datetime(2030, 3, 29, 12, tzinfo=UTC) - clock.now()).total_seconds())
        with Orchestrator(path, clock=clock, poll_interval_seconds=0.001) as orchestrator:
            made = orchestrator.schedule_workflow(
                nightly, "30 2 * * *", "Europe/Berlin", arguments={"folder": "the archive"}
            )
            print("next:", made["next_at"])
            pass_time(clock, orchestrator, 3)
            for run in reversed(orchestrator.list_workflows("nightly")):
                print(run["id"], "-", run["output"])

        clock.advance(timedelta(days=3).total_seconds())
        with Orchestrator(path, clock=clock, poll_interval_seconds=0.001) as orchestrator:
            while len(orchestrator.list_workflows("nightly", status="done")) < 4:
                time.sleep(0.01)
            print("made up for:", orchestrator.list_workflows("nightly")[0]["output"])
            orchestrator.pause_schedule("nightly")
            print([(schedule["id"], schedule["status"]) for schedule in orchestrator.list_schedules()])
            orchestrator.remove_schedule("nightly")
            print(orchestrator.list_schedules())


if __name__ == "__main__":
    main()
