"""A fork before and after ``start()``: the child neither hangs nor harms the parent's runs."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import warnings
from contextlib import closing

import pytest

from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.errors import DurableCallError, OrchestratorStateError
from tests.children import in_fork
from tests.effects import Effects

from .scripts import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads is what is tested


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def effects(tmp_path):
    made = Effects(tmp_path / "effects")
    yield made
    made.close()


@pytest.fixture
def job(registry, effects):
    @activity
    def work(n):
        effects.note("work", n, os.getpid())
        return n * 2

    @workflow
    def job(n):
        return work(n)

    return job


def assert_sound(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_fork_before_the_start(path, job):
    orchestrator = Orchestrator(path)

    def child():
        with orchestrator:
            assert orchestrator.start_workflow(job, 1).result(20) == 2

    for _ in range(3):  # as gunicorn's workers, of an application that was loaded before
        in_fork(child)
    with orchestrator:
        assert orchestrator.start_workflow(job, 2).result(10) == 4
    assert len(orchestrator.list_workflows(status="done")) == 4
    assert_sound(path)


def test_a_fork_after_the_start(path, job, effects):
    orchestrator = Orchestrator(path)
    with orchestrator:
        before = orchestrator.start_workflow(job, 1)
        assert before.result(10) == 2
        parents_owner = orchestrator._engine.owner

        def child():
            with pytest.raises(OrchestratorStateError, match=r"before this process was forked; call start\(\)"):
                orchestrator.invoke_workflow("job", n=5)
            assert orchestrator.get_workflow_status(before.id)["output"] == 2
            with orchestrator:
                assert orchestrator._engine.owner != parents_owner
                assert orchestrator.start_workflow(job, 2).result(20) == 4

        in_fork(child)
        assert orchestrator.start_workflow(job, 3).result(10) == 6
    lines = effects.lines()
    assert sorted(line[1] for line in lines) == ["1", "2", "3"]
    assert {line[2] for line in lines if line[1] != "2"} == {str(os.getpid())}
    assert_sound(path)


def test_a_fork_while_a_run_is_under_way(path, registry, effects):
    begun, release = threading.Event(), threading.Event()

    @activity
    def lasting():
        effects.note("lasting", os.getpid())
        begun.set()
        assert release.wait(20)

    @workflow
    def slow():
        lasting()
        effects.note("after", os.getpid())

    orchestrator = Orchestrator(path, poll_interval_seconds=0.02)
    with orchestrator:
        handle = orchestrator.start_workflow(slow)
        assert begun.wait(10)

        def child():
            with orchestrator:  # looks for runs that nobody holds; the parent holds this one
                assert orchestrator.get_workflow_status(handle.id)["status"] == "processing"
                with pytest.raises(TimeoutError):
                    handle.wait(0.3)

        in_fork(child)
        release.set()
        handle.wait(10)
    assert effects.lines() == [["lasting", str(os.getpid())], ["after", str(os.getpid())]]
    assert_sound(path)


def test_the_child_of_a_workflow_records_nothing(path, job):
    seen = []

    @activity
    def double(n):
        return 2 * n

    @workflow
    def forks():
        def child():
            for call in (double, job):
                with pytest.raises(DurableCallError):
                    call(1)
            with pytest.raises(DurableCallError):
                durable.sleep(0)

        in_fork(child)
        seen.append(True)
        return double(2)

    with Orchestrator(path) as orchestrator:
        handle = orchestrator.start_workflow(forks)
        assert handle.result(20) == 4
        assert [step["input"] for step in orchestrator.get_history(handle.id)] == [{"n": 2}]
    assert seen == [True]


def _in_a_process(path, queue):
    with Orchestrator(path) as orchestrator:
        queue.put(orchestrator.start_workflow("job", 7).result(20))


def test_multiprocessing_with_fork(path, job):
    context = multiprocessing.get_context("fork")
    with Orchestrator(path) as orchestrator:
        assert orchestrator.start_workflow(job, 1).result(10) == 2
        queue = context.Queue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process = context.Process(target=_in_a_process, args=(path, queue))
            process.start()
        assert queue.get(timeout=20) == 14
        process.join(20)
        assert process.exitcode == 0
    queue.close()
    queue.join_thread()


def test_forking_while_threads_commit_never_hangs(path, job):
    orchestrator = Orchestrator(path, max_workers=8)
    stop = threading.Event()

    def invoke():
        while not stop.is_set():
            orchestrator.start_workflow(job, 1).result(20)

    with orchestrator:
        threads = [threading.Thread(target=invoke) for _ in range(4)]
        for thread in threads:
            thread.start()

        def child():
            assert orchestrator.list_workflows(limit=1) is not None
            with orchestrator:
                assert orchestrator.start_workflow(job, 3).result(20) == 6

        try:
            for _ in range(15):
                in_fork(child)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
    assert_sound(path)
    assert orchestrator.list_workflows(status="failed") == []


LEAVING = """
import warnings
from concurrent.futures import ThreadPoolExecutor
from py_orchestrate.decorators import get_registry

PLACE, HOW = options
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested

def fork():
    pid = os.fork()
    if pid == 0:
        print("child")  # buffered, as it goes to a pipe
        if HOW == "sys.exit":
            sys.exit(3)
        if HOW == "exception":
            raise ValueError("in the child")
        return "child"
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])

plain = activity("plain")(fork)
limited = activity("limited", timeout=30)(fork)
elsewhere = activity("elsewhere", executor=ThreadPoolExecutor(1))(fork)
in_transaction = activity("in_transaction", transactional=True)(lambda connection: fork())

@activity
async def awaited():
    return fork()

@activity
def after(code):
    effects.note("after", code)
    return code

@workflow("activity")
def in_an_activity():
    act = globals()[PLACE]
    try:
        code = act()
    finally:
        effects.note("left")
    return after(code)

@workflow("submitted")
def in_a_submitted_activity():
    return after(plain.submit().result())

@workflow("workflow")
def in_the_workflow():
    code = fork()
    return code if code == "child" else after(code)

@workflow("async workflow")
async def in_the_async_workflow():
    code = fork()
    return code if code == "child" else await after(code)

with Orchestrator(path) as orchestrator:
    name = PLACE if PLACE in get_registry().workflows else "activity"
    run = orchestrator.start_workflow(name)
    say(run.result(timeout=30))
    say([step["name"] for step in orchestrator.get_history(run.id)])
"""


@pytest.mark.parametrize(
    ("place", "how"),
    [(place, how) for place in ("plain", "awaited", "workflow") for how in ("return", "sys.exit", "exception")]
    + [(place, "return") for place in ("submitted", "limited", "elsewhere", "in_transaction", "async workflow")],
)
def test_a_child_that_leaves_the_code_it_was_forked_in_ends_there(tmp_path, effects, place, how):
    ended = run(LEAVING, tmp_path, place, how)
    code = {"return": 0, "sys.exit": 3, "exception": 1}[how]
    steps = {"submitted": ["plain"], "workflow": [], "async workflow": []}.get(place, [place])
    assert (ended.code, ended.out) == (0, f"child\n{code}\n{[*steps, 'after']}\n"), ended.err
    if how == "exception":
        assert ended.err.count("Traceback") == 1
        assert ended.err.endswith("ValueError: in the child\n")
    else:
        assert ended.err == ""
    assert effects.count("after", str(code)) == 1
    assert effects.count("left") == len(steps) - (place == "submitted"), "the workflow goes on in the parent only"
    assert_sound(tmp_path / "runs.db")
