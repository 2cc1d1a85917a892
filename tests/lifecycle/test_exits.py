"""How a program ends while workflows are running: in time, without noise, and with nothing lost or done twice."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import Orchestrator, activity, workflow

from ..effects import Effects
from ..waiting import wait_until
from .scripts import run, script


@pytest.fixture
def effects(tmp_path: Path) -> Iterator[Effects]:
    effects = Effects(tmp_path / "effects")
    yield effects
    effects.close()


def rows(folder: Path, sql: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        return connection.execute(sql, values).fetchall()


# --- a program that ends without stop() -------------------------------------------------------------------------------

# The activity ends only after the main thread has ended, so it is running when the interpreter goes down.
ENDING = """
END, KIND = options

def begin():
    effects.note("lasting", "begins")
    running.set()

def must_go_on():
    # Until the library has noticed, too, that the main thread has ended: else the next activity could still begin.
    return END != "recovery" and not orchestrator._engine.is_leaving

@activity
def first():
    effects.note("first")

@activity
def lasting():
    begin()
    while must_go_on():
        time.sleep(0.005)
    effects.note("lasting", "ends")

@activity("lasting_async")
async def lasting_async():
    begin()
    while must_go_on():
        await asyncio.sleep(0.005)
    effects.note("lasting", "ends")

@activity
def last():
    effects.note("last")

@workflow
def job():
    first()
    if KIND == "plain":
        lasting()
    elif KIND == "async":
        lasting_async()
    else:
        durable.gather(lasting.submit(), last.submit())  # with one worker, the second one waits for the first
        return
    last()

@workflow
def queued():
    effects.note("queued")

running = threading.Event()
orchestrator = Orchestrator(path, max_workers=1)
orchestrator.start()
handles = [orchestrator.start_workflow(job, workflow_id="job")]
handles += [orchestrator.start_workflow(queued, workflow_id=f"queued-{n}") for n in range(3)]
if END == "recovery":
    for handle in handles:
        handle.result(timeout=20)
    orchestrator.stop()
else:
    running.wait(20)
    say("running")
if END == "sys.exit":
    sys.exit(1)
if END == "exception":
    raise RuntimeError("on purpose")
if END == "signal":
    handles[0].result()
"""

CODES = {"end of script": 0, "sys.exit": 1, "exception": 1}


def check_left_behind(folder: Path, effects: Effects) -> None:
    """The running activity ended and is recorded; nothing began after it, nothing failed, and nobody holds anything."""
    assert [" ".join(line) for line in effects.lines()] == ["first", "lasting begins", "lasting ends"]
    steps = rows(folder, "SELECT sequence, status FROM activity_executions ORDER BY sequence")
    assert steps == [(0, "completed"), (1, "completed")]
    assert rows(folder, "SELECT DISTINCT status, owner, error_message FROM workflows") == [("processing", None, None)]
    assert rows(folder, "SELECT count(*) FROM orchestrators") == [(0,)]


def check_recovery(folder: Path, effects: Effects, kind: str, *, lasting: int = 1) -> None:
    """At the next start all runs are done, and no step that had ended runs again."""
    ended = run(ENDING, folder, "recovery", kind)
    assert (ended.code, ended.err) == (0, "")
    assert rows(folder, "SELECT status, count(*) FROM workflows GROUP BY status") == [("done", 4)]
    counts = [effects.count(*words) for words in (["first"], ["lasting", "begins"], ["last"], ["queued"])]
    assert counts == [1, lasting, 1, 3]
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("kind", ["plain", "submitted", "async"])
@pytest.mark.parametrize("end", CODES)
def test_a_program_may_end_while_an_activity_runs(tmp_path: Path, effects: Effects, end: str, kind: str) -> None:
    with script(ENDING, tmp_path, end, kind) as running:
        running.hear("running")
        ended = running.end()
    assert ended.code == CODES[end], ended.err
    assert ended.seconds < 3
    if end == "exception":
        assert ended.err.count("Traceback") == 1
        assert ended.err.endswith("RuntimeError: on purpose\n")
    else:
        assert ended.err == ""
    check_left_behind(tmp_path, effects)
    check_recovery(tmp_path, effects, kind)


@pytest.mark.parametrize("kind", ["plain", "submitted", "async"])
def test_one_interrupt_is_enough(tmp_path: Path, effects: Effects, kind: str) -> None:
    with script(ENDING, tmp_path, "signal", kind) as running:
        running.hear("running")
        running.signal(signal.SIGINT)
        ended = running.end()
    assert ended.code == -signal.SIGINT
    assert ended.seconds < 3
    assert ended.err.count("Traceback") == 1
    assert ended.err.endswith("KeyboardInterrupt\n"), ended.err
    check_left_behind(tmp_path, effects)
    check_recovery(tmp_path, effects, kind)


@pytest.mark.parametrize("kind", ["plain", "submitted", "async"])
def test_a_terminated_program_goes_on_at_the_next_start(tmp_path: Path, effects: Effects, kind: str) -> None:
    with script(ENDING, tmp_path, "signal", kind) as running:
        running.hear("running")
        running.signal(signal.SIGTERM)
        ended = running.end()
    assert ended.code == -signal.SIGTERM
    assert ended.seconds < 1
    assert ended.err == ""
    assert rows(tmp_path, "SELECT DISTINCT status, error_message FROM workflows") == [("processing", None)]
    check_recovery(tmp_path, effects, kind, lasting=2)


ENDLESS = """
from py_orchestrate._engine import exits

exits.GRACE_SECONDS = 0.5

@activity
def endless():
    effects.note("endless", options[0])
    running.set()
    if options[0] == "first":
        threading.Event().wait()

@activity
async def endless_async():
    effects.note("endless", options[0])
    running.set()
    if options[0] == "first":
        await asyncio.Event().wait()

@workflow
def job(kind):
    if kind == "plain":
        endless()
    elif kind == "submitted":
        endless.submit()
    else:
        endless_async()

running = threading.Event()
orchestrators = [Orchestrator(f"{folder}/{kind}.db") for kind in ("plain", "submitted", "async")]
for orchestrator, kind in zip(orchestrators, ("plain", "submitted", "async")):
    running.clear()
    orchestrator.start()
    handle = orchestrator.start_workflow(job, kind, workflow_id="run")
    if options[0] == "first":
        assert running.wait(20)
    else:
        handle.result(timeout=20)
        orchestrator.stop()
say("running")
"""


def test_an_activity_that_does_not_end_is_left_after_a_while(tmp_path: Path, effects: Effects) -> None:
    with script(ENDLESS, tmp_path, "first") as running:
        running.hear("running")
        ended = running.end()
    assert ended.code == 0
    assert 0.4 < ended.seconds < 3, "the time is for all orchestrators together"
    assert "Traceback" not in ended.err
    assert ended.err.count("does not wait any longer") == 3
    ended = run(ENDLESS, tmp_path, "second")
    assert (ended.code, ended.out, ended.err) == (0, "running\n", "")
    assert (effects.count("endless", "first"), effects.count("endless", "second")) == (3, 3)


GIVEN_UP = """
import multiprocessing
from py_orchestrate._engine import exits

END = options[0]
exits.GRACE_SECONDS = 30 if END == "two interrupts" else 0.2

@activity
def lasting():
    running.set()
    threading.Event().wait()

@activity(transactional=True)
def writing(connection):
    lasting.fn()

@workflow
def job():
    if END == "while it writes":
        writing()
    else:
        lasting()

def begin():
    orchestrator = Orchestrator(path, max_recoveries=0)
    orchestrator.start()
    orchestrator.start_workflow(job, workflow_id="run")
    assert running.wait(20)
    return orchestrator

running = threading.Event()
if END == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    process.join()
else:
    orchestrator = begin()
if END == "stop":
    orchestrator.stop(timeout=0.1)
if END == "other thread":
    threading.Timer(0.5, say, ["other"]).start()
if END == "two interrupts":
    threading.Thread(target=lambda: (threading.main_thread().join(), say("leaving")), daemon=True).start()
say("running")
if END == "two interrupts":
    time.sleep(60)
if END == "sys.exit":
    sys.exit(3)
"""


@pytest.mark.parametrize("end", ["end of script", "sys.exit", "stop", "other thread", "multiprocessing"])
def test_an_end_that_does_not_wait_any_longer_is_no_crash(tmp_path: Path, end: str) -> None:
    for _ in range(3):
        with script(GIVEN_UP, tmp_path, end) as running:
            running.hear("running")
            ended = running.end()
        assert ended.code == (3 if end == "sys.exit" else 0), ended.err
        assert ended.seconds < 3
        assert "Traceback" not in ended.err
        found = rows(tmp_path, "SELECT status, owner, crashes, wake_at, error_message FROM workflows")
        assert found == [("processing", None, 0, None, None)]
        assert rows(tmp_path, "SELECT count(*) FROM orchestrators") == [(0,)]


def test_a_second_interrupt_ends_the_wait_and_is_no_crash(tmp_path: Path) -> None:
    with script(GIVEN_UP, tmp_path, "two interrupts") as running:
        running.hear("running")
        running.signal(signal.SIGINT)
        running.hear("leaving")
        while running.process.poll() is None:
            running.signal(signal.SIGINT)  # one that comes just before Python waits is seen after the wait only
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(timeout=5)
        ended = running.end()
    assert "does not wait any longer" not in ended.err, "the grace period was not cut short"
    assert rows(tmp_path, "SELECT status, owner, crashes FROM workflows") == [("processing", None, 0)]


def test_an_activity_that_keeps_others_from_writing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with script(GIVEN_UP, tmp_path, "while it writes") as running:
        running.hear("running")
        ended = running.end()
    assert (ended.code, "Traceback" in ended.err) == (0, False)
    assert ended.seconds < 15
    assert rows(tmp_path, "SELECT status FROM workflows") == [("processing",)]


def test_what_was_given_up_records_nothing_and_runs_elsewhere(tmp_path: Path, registry: object) -> None:
    begun, release = threading.Event(), threading.Event()
    ends: list[str] = []

    @activity
    def lasting() -> str:
        if begun.is_set():
            return "elsewhere"
        begun.set()
        assert release.wait(20)
        ends.append("late")
        return "late"

    @workflow
    def job() -> str:
        return lasting()

    given_up = Orchestrator(tmp_path / "runs.db")
    given_up.start()
    handle = given_up.start_workflow(job)
    assert begun.wait(20)
    assert not given_up.stop(timeout=0)
    given_up._engine.give_up()
    given_up._engine.join(20)
    with Orchestrator(tmp_path / "runs.db", max_recoveries=0) as other:
        assert other.get_handle(handle.id).result(20) == "elsewhere"
    release.set()
    wait_until(lambda: not given_up._engine.active_runs())
    assert ends == ["late"]
    assert [step["output"] for step in given_up.get_history(handle.id)] == ["elsewhere"]
    assert rows(tmp_path, "SELECT count(*) FROM orchestrators") == [(0,)]


SEVERAL = """
@activity
def lasting(n):
    effects.note("begins", n)
    together.wait(20)
    while threading.main_thread().is_alive():
        time.sleep(0.005)
    time.sleep(0.3)
    effects.note("ends", n)

@activity
def after(n):
    effects.note("after", n)

@workflow
def job(n):
    lasting(n)
    after(n)

together = threading.Barrier(4)

def use(n):
    orchestrator = Orchestrator(f"{folder}/{n}.db")
    orchestrator.start()
    orchestrator.invoke_workflow("job", n=n)

for n in range(3):  # as in a notebook or a test: started in a function, never stopped, no name left
    use(n)
together.wait(20)
say("running")
"""


def test_several_orchestrators_may_be_left_alone(tmp_path: Path, effects: Effects) -> None:
    with script(SEVERAL, tmp_path) as running:
        running.hear("running")
        ended = running.end()
    assert (ended.code, ended.err) == (0, "")
    assert ended.seconds < 3
    assert (effects.count("ends"), effects.count("after")) == (3, 0)
    for n in range(3):
        with closing(sqlite3.connect(tmp_path / f"{n}.db")) as connection:
            assert connection.execute("SELECT status, owner FROM workflows").fetchall() == [("processing", None)]


IDLE = """
@activity
async def later():
    pass

@workflow
def job():
    later()
    later.submit().result()

orchestrator = Orchestrator(path)
orchestrator.start()
orchestrator.start_workflow(job).result(timeout=20)
say("idle")
"""


def test_an_idle_orchestrator_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with script(IDLE, tmp_path) as running:
        running.hear("idle")
        ended = running.end()
    assert (ended.code, ended.err) == (0, "")
    assert ended.seconds < 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["effects", "runs.db"]


WITH = """
@activity
def lasting():
    effects.note("begins")
    say("running")
    release.wait(20)
    effects.note("ends")

@activity
def after():
    effects.note("after")

@workflow
def job():
    lasting()
    after()

release = threading.Event()
begun = time.monotonic()
try:
    with Orchestrator(path) as orchestrator:
        handle = orchestrator.start_workflow(job, workflow_id="run")
        try:
            handle.result()
        finally:
            threading.Timer(0.3, release.set).start()
except KeyboardInterrupt:
    effects.note("left")
    say(orchestrator.get_workflow_status("run")["status"])
else:
    effects.note("done")
"""


def test_an_interrupt_leaves_the_block_when_the_running_activity_has_ended(tmp_path: Path, effects: Effects) -> None:
    with script(WITH, tmp_path) as running:
        running.hear("running")
        running.signal(signal.SIGINT)
        running.hear("processing")
        ended = running.end()
    assert (ended.code, ended.err) == (0, "")
    assert [" ".join(line) for line in effects.lines()] == ["begins", "ends", "left"]
    assert rows(tmp_path, "SELECT status, owner FROM workflows") == [("processing", None)]


WAITING = """
@activity
def hold():
    # Until the library has noticed, too, that the main thread has ended: else the next one could still begin.
    while not orchestrator._engine.is_leaving:
        time.sleep(0.005)

@workflow
def child():
    say("running")
    hold()
    hold()

@workflow
def parent():
    return orchestrator.start_workflow(child).result()

orchestrator = Orchestrator(path, max_workers=1)
orchestrator.start()
handle = orchestrator.start_workflow(parent)
if options:
    handle.result()
else:
    while len(orchestrator.list_workflows()) < 2 or not orchestrator.get_history(handle.id + "-0"):
        time.sleep(0.005)
"""


@pytest.mark.parametrize("end", ["end of script", "signal"])
def test_a_parent_that_waits_for_its_child_does_not_hold_up_the_end(tmp_path: Path, end: str) -> None:
    with script(WAITING, tmp_path, *([end] if end == "signal" else [])) as running:
        running.hear("running")
        if end == "signal":
            running.signal(signal.SIGINT)
        ended = running.end()
    assert ended.code == (-signal.SIGINT if end == "signal" else 0)
    assert ended.seconds < 3
    assert ended.err.count("Traceback") == (1 if end == "signal" else 0)
    assert rows(tmp_path, "SELECT status, owner FROM workflows") == [("processing", None)] * 2


SERVING = """
import contextlib
from py_orchestrate._engine import exits
from py_orchestrate.errors import OrchestratorStateError

KIND, HOW = options
exits.GRACE_SECONDS = 0.2 if KIND == "endless" else 20

@activity
def act():
    begun.set()
    while KIND == "endless" or not orchestrator._engine.is_leaving:
        time.sleep(0.005)
    return "ended"

@workflow
def job():
    if KIND == "waiting":
        begun.set()
        durable.sleep(600)
    found = act()
    if KIND == "two steps":
        act()
    return found

def refused(call):
    try:
        return call()
    except OrchestratorStateError as error:
        return str(error).partition(",")[0]

def serve():
    handle = orchestrator.start_workflow(job)
    if HOW == "plain":
        say(refused(handle.result))
    else:
        with contextlib.closing(asyncio.new_event_loop()) as loop:  # asyncio.run may need one more thread at its end
            say(refused(lambda: loop.run_until_complete(handle.result_async())))
    threading.main_thread().join()
    say(refused(lambda: orchestrator.start_workflow(job)))
    orchestrator.stop(timeout=0)
    say(refused(orchestrator.start))

begun = threading.Event()
orchestrator = Orchestrator(path)
orchestrator.start()
threading.Thread(target=serve).start()
begun.wait(20)
"""


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, "plain") for kind in ("one step", "two steps", "waiting", "endless")]
    + [("two steps", "async"), ("endless", "async")],
)
def test_a_thread_that_outlives_the_main_thread_does_not_wait_in_vain(tmp_path: Path, kind: str, how: str) -> None:
    ended = run(SERVING, tmp_path, kind, how)
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err
    is_done = kind == "one step"
    told = "the program's main thread has ended"
    assert ended.out.splitlines() == ["ended" if is_done else told, told, told]
    status = "done" if is_done else "processing"
    assert rows(tmp_path, "SELECT status, owner, crashes FROM workflows") == [(status, None, 0)]


LATE = """
@activity
def late():
    while threading.main_thread().is_alive():
        time.sleep(0.005)
    try:
        orchestrator.invoke_workflow("job")
    except RuntimeError as error:
        effects.note(error)

@workflow
def job():
    late()

orchestrator = Orchestrator(path)
orchestrator.start()
orchestrator.invoke_workflow("job")
while not orchestrator.list_workflows()[0]["current_activity"]:
    time.sleep(0.005)
"""


def test_a_workflow_that_comes_too_late_is_refused_clearly(tmp_path: Path, effects: Effects) -> None:
    ended = run(LATE, tmp_path)
    assert (ended.code, ended.err) == (0, "")
    (line,) = effects.lines()
    assert " ".join(line).startswith("the program's main thread has ended, and so its orchestrators hand back")
    assert rows(tmp_path, "SELECT count(*) FROM workflows") == [(1,)]


# --- being a guest in somebody's program ------------------------------------------------------------------------------

GUEST = """
def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]

@workflow
def job():
    return "done"

def embed():
    with Orchestrator(path) as orchestrator:
        seen.append(orchestrator.start_workflow(job).result(timeout=20))
        seen.append(handlers() == before)

seen = []
signal.signal(signal.SIGTERM, lambda *_: None)
before = handlers()
thread = threading.Thread(target=embed)
thread.start()
thread.join()
say([*seen, handlers() == before])
"""


def test_it_can_be_embedded_in_a_thread_and_leaves_signals_alone(tmp_path: Path) -> None:
    ended = run(GUEST, tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "['done', True, True]\n", "")


IMPORTING = """
import logging
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event in ("sqlite3.connect", "socket.connect") else None)
descriptors = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
for name in [name for name in sys.modules if name.partition(".")[0] == "py_orchestrate"]:
    del sys.modules[name]
handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
import py_orchestrate
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert not descriptors or os.listdir("/proc/self/fd") == descriptors
assert opened == []
assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
assert logging.getLogger().handlers == []
orchestrator = py_orchestrate.Orchestrator(path)
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
say("clean")
"""


def test_importing_it_starts_no_thread_and_opens_no_file(tmp_path: Path) -> None:
    ended = run(IMPORTING, tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "clean\n", "")


# --- an activity that lets no other thread run ------------------------------------------------------------------------

# A function that is called through PyDLL keeps the interpreter's lock.
HOGGING = """
import ctypes

@activity
def hog():
    effects.note("begins")
    running.set()
    ctypes.PyDLL(None).usleep(1_500_000)
    effects.note("ends")

@workflow
def job():
    hog()
    return "done"

running = threading.Event()
orchestrator = Orchestrator(path, poll_interval_seconds=0.02)
orchestrator.start()
if options[0] == "idle":
    say("started")
    sys.stdin.readline()
    orchestrator.stop()
elif options[0] == "works":
    say(orchestrator.start_workflow(job).result(timeout=20))
    orchestrator.stop()
else:
    orchestrator.invoke_workflow("job")
    running.wait(20)
"""


def test_an_activity_that_hogs_the_interpreter_is_not_taken_over(tmp_path: Path, effects: Effects) -> None:
    with script(HOGGING, tmp_path, "idle") as other:
        other.hear("started")
        assert run(HOGGING, tmp_path, "works")[:3] == (0, "done\n", "")
        assert other.end("\n").code == 0
    assert [line[0] for line in effects.lines()] == ["begins", "ends"]
    assert rows(tmp_path, "SELECT epoch FROM workflows") == [(1,)]


def test_an_activity_that_hogs_the_interpreter_does_not_break_the_end(tmp_path: Path, effects: Effects) -> None:
    ended = run(HOGGING, tmp_path, "leaves")
    assert (ended.code, ended.err) == (0, "")
    assert [line[0] for line in effects.lines()] == ["begins", "ends"]
    # Nothing durable came after it, so the run had no step left at which to leave.
    assert rows(tmp_path, "SELECT status, owner FROM workflows") == [("done", None)]
    assert rows(tmp_path, "SELECT status FROM activity_executions") == [("completed",)]


# --- notebooks --------------------------------------------------------------------------------------------------------

NOTEBOOK = """
import py_orchestrate.decorators

def cell(source):
    exec(compile(source, "<cell>", "exec"), globals())

for version in range(3):  # the same cell again and again, in one process
    cell('''
@activity
def act():
    return "version %d"

@workflow
def job():
    return act()

orchestrator = Orchestrator(path)
orchestrator.start()
say(orchestrator.start_workflow(job).result(timeout=20))
''' % version)
"""


def test_a_notebook_runs_its_cell_again(tmp_path: Path) -> None:
    ended = run(NOTEBOOK, tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == "version 0"
    assert "Traceback" not in ended.err
    assert rows(tmp_path, "SELECT status, count(*) FROM workflows GROUP BY status") == [("done", 3)]
    assert rows(tmp_path, "SELECT count(*) FROM orchestrators") == [(0,)]


def test_nothing_is_left_running(tmp_path: Path) -> None:
    """A process that has ended is gone, and its database can be moved away at once."""
    with script(IDLE, tmp_path) as running:
        running.hear("idle")
        running.end()
    wait_until(lambda: not (tmp_path / "runs.db-wal").exists(), timeout=1)
