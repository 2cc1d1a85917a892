"""Starting runs and asking about them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from py_orchestrate import (
    BaseDatabaseManager,
    MemoryDatabaseManager,
    Orchestrator,
    Queue,
    WorkflowStatus,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import (
    InvalidWorkflowIdError,
    OrchestratorStateError,
    WorkflowConflictError,
    WorkflowFailedError,
    WorkflowNotFoundError,
)
from py_orchestrate.serialization import JsonSerializer

from ..breakdown import Breakdown
from ..names import shown

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def greet() -> Any:
    @activity
    def make_greeting(name: str) -> str:
        return f"Hello, {name}!"

    @workflow
    def greet(name: str, *, times: int = 1) -> str:
        return " ".join([make_greeting(name)] * times)

    return greet


@pytest.fixture
def slow() -> Any:
    """Return a workflow that runs until its ``may_end`` is set."""

    @activity
    def wait() -> None:
        slow.began.set()
        assert slow.may_end.wait(20)

    @workflow
    def slow() -> str:
        wait()
        return "ended"

    slow.began, slow.may_end = threading.Event(), threading.Event()
    yield slow
    slow.may_end.set()


# --- starting ---------------------------------------------------------------------------------------------------------


def test_the_ways_to_start(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any) -> None:
    runner = orchestrator(database)
    assert runner.start_workflow(greet, "Ann").result(10) == "Hello, Ann!"
    assert runner.start_workflow(greet, name="Bob", times=2).result(10) == "Hello, Bob! Hello, Bob!"
    assert runner.start_workflow("greet", "Cem").result(10) == "Hello, Cem!"
    workflow_id = runner.invoke_workflow("greet", name="Dia")
    assert runner.wait_for_workflow(workflow_id, 10)["output"] == "Hello, Dia!"
    assert len(runner.list_workflows("greet")) == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gret", r"^Workflow 'gret' not found\. Did you mean 'greet'\?$"),
        ("greets", "Did you mean 'greet'"),
        ("xyz", r"^Workflow 'xyz' not found$"),
        ("", r"^Workflow '' not found$"),
        ("make_greeting", "not found"),
    ],
)
def test_an_unknown_name_is_refused_at_once(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any, name: str, text: str
) -> None:
    runner = orchestrator(database)
    for start in (runner.invoke_workflow, runner.start_workflow):
        with pytest.raises(WorkflowNotFoundError, match=text) as caught:
            start(name, name="Ann")
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, LookupError)
        assert caught.value.name == name
    assert runner.list_workflows() == []


def test_an_unknown_activity_is_named_with_its_neighbours(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, greet: Any
) -> None:
    @workflow
    def w() -> None:
        durable.call_activity("make_greting", "Ann")

    status = orchestrator(memory).start_workflow(w).wait(10)
    assert status["error_message"] == "Activity 'make_greting' not found. Did you mean 'make_greeting'?"


@pytest.mark.parametrize("name", [None, 5, b"greet", ["greet"], object(), len, lambda: None], ids=shown)
def test_what_is_no_name_is_refused_at_once(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, greet: Any, name: Any
) -> None:
    runner = orchestrator(memory)
    for start in (runner.invoke_workflow, runner.start_workflow):
        with pytest.raises(TypeError):
            start(name, name="Ann")
    assert runner.list_workflows() == []


def test_an_activity_is_no_workflow(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    act = activity("act")(lambda: None)
    with pytest.raises(TypeError, match="is not a workflow; decorate it with @workflow"):
        orchestrator(memory).start_workflow(act)


@pytest.mark.parametrize(
    ("workflow_id", "error", "text"),
    [
        ("", InvalidWorkflowIdError, "must not be empty"),
        ("a/b", InvalidWorkflowIdError, "has the character '/'"),
        ("a\\b", InvalidWorkflowIdError, "has the character"),
        ("a?b", InvalidWorkflowIdError, "has the character"),
        ("a#b", InvalidWorkflowIdError, "has the character"),
        ("a\0b", InvalidWorkflowIdError, "has the character"),
        ("a\nb", InvalidWorkflowIdError, "has the character"),
        ("\ud83d", InvalidWorkflowIdError, "has the character"),
        (" a", InvalidWorkflowIdError, "white space"),
        ("a ", InvalidWorkflowIdError, "white space"),
        ("x" * 201, InvalidWorkflowIdError, "at most 200 characters, this one has 201"),
        (5, TypeError, "is a str, not int"),
        (b"a", TypeError, "is a str, not bytes"),
    ],
    ids=ascii,
)
def test_a_bad_id_is_refused_at_once(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, workflow_id: Any, error: type[Exception], text: str
) -> None:
    greet = workflow("greet")(lambda name: name)
    runner = orchestrator(database)
    for ask in (
        lambda: runner.start_workflow(greet, "Ann", workflow_id=workflow_id),
        lambda: runner.get_workflow_status(workflow_id),
        lambda: runner.wait_for_workflow(workflow_id, 1),
        lambda: runner.get_history(workflow_id),
        lambda: runner.get_handle(workflow_id),
    ):
        with pytest.raises(error, match=text):
            ask()
    assert runner.list_workflows() == []


@pytest.mark.parametrize("workflow_id", ["a", "x" * 200, "order:7", "a b", "漢字", "😀", "A.b-c_d~1", "0", "'; DROP--"])
def test_ids_of_ones_own(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], workflow_id: str
) -> None:
    @workflow
    def w() -> str:
        stop()
        return durable.info().workflow_id

    handle = breakdown.recover(database, w, workflow_id=workflow_id)
    assert handle.result(10) == handle.id == workflow_id


def test_ids_that_the_library_makes(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, greet: Any) -> None:
    runner = orchestrator(memory)
    ids = [runner.invoke_workflow("greet", name="Ann") for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(runner.wait_for_workflow(each, 10)["id"] == each for each in ids)
    assert sorted(each[:13] for each in ids) == [each[:13] for each in ids]  # by time, to the millisecond


def test_a_second_start_with_one_id_finds_the_first(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any
) -> None:
    runner = orchestrator(database)
    handle = runner.start_workflow(greet, "Ann", workflow_id="one")
    handle.wait(10)
    again = [
        runner.start_workflow(greet, "Ann", workflow_id="one"),
        runner.start_workflow("greet", name="Ann", workflow_id="one"),
    ]
    assert {each.id for each in again} == {"one"}
    assert [each.result(0) for each in again] == ["Hello, Ann!"] * 2
    assert len(runner.list_workflows()) == 1
    assert len(runner.get_history("one")) == 1


def test_equal_arguments_are_no_other_arguments(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w(x: Any = None, **more: Any) -> None:
        """End."""

    @workflow
    def parent() -> None:
        w.options(workflow_id="child")({"a": 1, "b": 2}, m=1, n=2)
        w.options(workflow_id="child")({"b": 2, "a": 1}, n=2, m=1)

    runner = orchestrator(database)
    equal: list[tuple[Any, Any]] = [
        ({"a": 1, "b": [{"c": 2, "d": (3,)}]}, {"b": [{"d": (3,), "c": 2}], "a": 1}),
        ({1: {"a": 1, "b": 2}, 2: "two"}, {2: "two", 1: {"b": 2, "a": 1}}),
        ({(1, frozenset({"a", "b"})): math.nan, "x": 5}, {"x": 5, (1, frozenset({"b", "a"})): math.nan}),
        (Counter("aab"), Counter("baa")),
    ]
    other: list[tuple[Any, Any]] = [
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": True}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    ]
    for n, (one, same) in enumerate(equal):
        runner.start_workflow(w, one, workflow_id=f"equal {n}")
        assert runner.start_workflow(w, same, workflow_id=f"equal {n}").id == f"equal {n}"
    for n, (one, another) in enumerate(other):
        runner.start_workflow(w, one, workflow_id=f"other {n}")
        with pytest.raises(WorkflowConflictError, match="with other arguments"):
            runner.start_workflow(w, another, workflow_id=f"other {n}")
    runner.start_workflow(w, m=1, n=2, workflow_id="more")
    assert runner.start_workflow(w, n=2, m=1, workflow_id="more").id == "more"
    if "waiting" in database.capabilities:
        assert runner.start_workflow(parent).result(10) is None


def test_a_second_start_with_one_id_and_something_else_is_an_error(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any
) -> None:
    workflow("other")(lambda name: name)
    runner = orchestrator(database)
    before = runner.start_workflow(greet, "Ann", workflow_id="one").wait(10)
    for start, text in (
        (lambda: runner.start_workflow(greet, "Bob", workflow_id="one"), "with other arguments"),
        (lambda: runner.start_workflow(greet, "Ann", times=2, workflow_id="one"), "with other arguments"),
        (lambda: runner.start_workflow("other", "Ann", workflow_id="one"), "belongs to a run of 'greet'"),
    ):
        with pytest.raises(WorkflowConflictError, match=text) as caught:
            start()
        assert caught.value.workflow_id == "one"
        assert isinstance(caught.value, ValueError)
    assert runner.list_workflows() == [before]


def test_of_many_starts_with_one_id_one_runs(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runs: list[int] = []
    ready = threading.Barrier(8)

    @workflow
    def w() -> int:
        runs.append(1)
        return 7

    runner = orchestrator(database)
    results: list[Any] = []

    def start() -> None:
        ready.wait(10)
        results.append(runner.start_workflow(w, workflow_id="one").result(10))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [7] * 8
    assert runs == [1]


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_status(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any, slow: Any) -> None:
    runner = orchestrator(database)
    done = runner.start_workflow(greet, "Ann").wait(10)
    assert set(done) == {
        "id", "name", "status", "current_activity", "error_message", "output", "created_at", "updated_at"
    }  # fmt: skip
    assert (done["name"], done["status"], done["output"]) == ("greet", "done", "Hello, Ann!")
    assert (done["error_message"], done["current_activity"]) == (None, None)
    assert runner.get_workflow_status(done["id"]) == done
    times = [datetime.fromisoformat(done[key]) for key in ("created_at", "updated_at")]
    assert times == sorted(times)
    assert [moment.utcoffset() for moment in times] == [timedelta(0)] * 2
    assert all(len(done[key]) == len("2024-01-02T03:04:05.000000+00:00") for key in ("created_at", "updated_at"))

    handle = runner.start_workflow(slow)
    assert slow.began.wait(10)
    running = handle.status()
    assert (running["status"], running["current_activity"], running["output"]) == ("processing", "wait", None)
    slow.may_end.set()
    assert handle.wait(10)["status"] == "done"


def test_unknown_ids(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(database)
    assert runner.get_workflow_status("nope") is None
    for ask in (runner.get_history, runner.get_handle, runner.wait_for_workflow):
        with pytest.raises(WorkflowNotFoundError, match="Workflow 'nope' not found"):
            ask("nope")
    for ask in (runner.get_workflow_status, runner.get_history, runner.get_handle, runner.wait_for_workflow):
        with pytest.raises(ValueError, match="must not be empty"):
            ask("")
        with pytest.raises(TypeError, match="is a str, not NoneType"):
            ask(None)  # type: ignore[arg-type]


def test_a_handle_of_a_deleted_run(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, greet: Any) -> None:
    handle = orchestrator(memory).start_workflow(greet, "Ann")
    handle.wait(10)
    assert memory.delete_workflow(handle.id)
    for ask in (handle.status, handle.wait, handle.result):
        with pytest.raises(WorkflowNotFoundError):
            ask()
    assert handle.id in repr(handle)


def test_lists(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any) -> None:
    @workflow
    def fails() -> None:
        raise ValueError("as it should")

    runner = orchestrator(database)
    ids = []
    for n in range(6):
        handle = runner.start_workflow(fails) if n % 3 == 2 else runner.start_workflow(greet, str(n))
        handle.wait(10)
        ids.append(handle.id)
    newest_first = ids[::-1]

    def listed(*args: Any, **kwargs: Any) -> list[str]:
        return [run["id"] for run in runner.list_workflows(*args, **kwargs)]

    assert listed() == newest_first
    assert runner.list_workflows()[0] == runner.get_workflow_status(ids[5])
    assert listed("greet") == listed(name="greet") == [ids[n] for n in (4, 3, 1, 0)]
    assert listed("never-used") == []
    assert listed(status="failed") == listed(status=WorkflowStatus.FAILED) == [ids[5], ids[2]]
    assert listed(status="processing") == listed(status="paused") == listed("fails", status="done") == []
    assert listed("greet", status="done", limit=2) == [ids[4], ids[3]]
    assert listed(limit=0) == []
    assert listed(limit=100) == newest_first
    assert listed(cursor=ids[3]) == [ids[2], ids[1], ids[0]]
    assert listed(cursor=ids[0]) == []
    assert listed("greet", cursor=ids[2], limit=1) == [ids[1]]  # the cursor may be of another name
    pages, cursor = [], None
    while page := listed(limit=4, cursor=cursor):
        pages.append(page)
        cursor = page[-1]
    assert [len(page) for page in pages] == [4, 2]
    assert [each for page in pages for each in page] == newest_first


def test_lists_that_are_asked_for_wrongly(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any
) -> None:
    runner = orchestrator(database)
    with pytest.raises(ValueError, match="there is no status 'running'; it is one of 'processing', 'done', 'failed'"):
        runner.list_workflows(status="running")
    with pytest.raises(ValueError, match="must not be negative"):
        runner.list_workflows(limit=-1)
    with pytest.raises(LookupError, match="nope"):
        runner.list_workflows(cursor="nope")
    for option in ("name", "cursor", "version", "queue"):
        for value in (5, greet, [option]):
            with pytest.raises(
                TypeError, match=rf"the {option} of list_workflows\(\) is a str, not {type(value).__name__}"
            ):
                runner.list_workflows(**{option: value})
        with pytest.raises(
            ValueError, match=rf"the {option} of list_workflows\(\) has a lone surrogate in it: '\\ud800'"
        ):
            runner.list_workflows(**{option: "\ud800"})
    assert runner.list_workflows(limit=10**30) == []


def test_a_history(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act(n: int) -> tuple[int, ...]:
        if n == 2:
            raise ValueError("two")
        return (n,)

    @workflow
    def w() -> None:
        act(1)
        with pytest.raises(ValueError, match="two"):
            act(2)
        act.submit(n=3).result()

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    handle.result(10)
    first, second, third = runner.get_history(handle.id)
    assert set(first) == {
        "sequence", "kind", "name", "status", "attempt", "due_at", "child_id", "version", "input", "output",
        "error_message", "error_type", "traceback",
        "started_at", "completed_at",
    }  # fmt: skip
    assert [step["sequence"] for step in (first, second, third)] == [0, 1, 2]
    assert {step["kind"] for step in (first, second, third)} == {"activity"}
    assert (first["input"], first["output"], first["status"]) == ({"n": 1}, (1,), "completed")
    assert (first["error_message"], first["error_type"], first["traceback"]) == (None, None, None)
    assert (second["output"], second["status"], second["error_message"]) == (None, "failed", "two")
    assert second["error_type"] == "builtins:ValueError"
    assert 'raise ValueError("two")' in second["traceback"]
    assert third["output"] == (3,)
    times = [step[key] for step in (first, second, third) for key in ("started_at", "completed_at")]
    assert times == sorted(times)


def test_a_history_of_a_run_without_steps(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(database)
    handle = runner.start_workflow(workflow("w")(lambda: 1))
    handle.wait(10)
    assert runner.get_history(handle.id) == []


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_wait_that_takes_too_long(database: BaseDatabaseManager, orchestrator: MakeOrchestrator, slow: Any) -> None:
    runner = orchestrator(database)
    handle = runner.start_workflow(slow)
    assert slow.began.wait(10)
    for wait in (handle.wait, handle.result, lambda timeout: runner.wait_for_workflow(handle.id, timeout)):
        for timeout in (0, 0.05, -1):
            began = time.monotonic()
            with pytest.raises(TimeoutError, match=f"{handle.id} .slow. has not ended within .*in wait"):
                wait(timeout)
            assert time.monotonic() - began < 5
    slow.may_end.set()
    assert handle.result(10) == "ended"
    assert handle.result(0) == "ended"


@pytest.mark.parametrize("is_ended", [False, True])
def test_what_a_wait_takes_for_a_time(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, slow: Any, greet: Any, is_ended: bool
) -> None:
    runner = orchestrator(memory)
    handle = runner.start_workflow(greet, "Ann") if is_ended else runner.start_workflow(slow)
    if is_ended:
        assert handle.result(timedelta(seconds=10)) == handle.result(math.inf) == handle.result(10**400)
    waits: list[Callable[[Any], Any]] = [
        handle.wait,
        handle.result,
        lambda timeout: asyncio.run(handle.result_async(timeout)),
        lambda timeout: asyncio.run(runner.wait_async(handle.id, timeout)),
        runner.stop,
    ]
    for wait in waits:
        for timeout in ("1", True, [1]):
            with pytest.raises(TypeError, match=r"the timeout of .* is a number of seconds, a timedelta or None, not"):
                wait(timeout)
        with pytest.raises(ValueError, match=r"the timeout of .* must be a number, not nan"):
            wait(math.nan)
    assert handle.status()["status"] == ("done" if is_ended else "processing")
    if not is_ended:
        for timeout in (timedelta(milliseconds=1), timedelta(-1), 0, -1):
            with pytest.raises(TimeoutError, match="has not ended within 0"):
                handle.wait(timeout)
            with pytest.raises(TimeoutError):
                asyncio.run(handle.result_async(timeout))
    assert not is_ended or runner.stop(timedelta(seconds=10))


@pytest.mark.parametrize("poll_interval", [math.inf, 1e10, 10**400])
def test_an_endless_poll_interval_ends_no_thread(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any, poll_interval: float
) -> None:
    @workflow
    def naps() -> str:
        durable.sleep(0.001)
        return "rested"

    stored = orchestrator(database, start=False).start_workflow(greet, "Ann")
    runner = orchestrator(database, poll_interval_seconds=poll_interval, lease_seconds=3e9, retention=3e9)
    assert runner.get_handle(stored.id).result(10) == "Hello, Ann!"
    if "waiting" in database.capabilities:
        assert runner.start_workflow(naps).result(10) == "rested"
    assert {"py_orchestrate-recovery", "py_orchestrate-lease"} <= {thread.name for thread in threading.enumerate()}


def test_many_wait_for_one(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, slow: Any) -> None:
    runner = orchestrator(memory)
    handle = runner.start_workflow(slow)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(handle.result(10))) for _ in range(10)]
    for thread in threads:
        thread.start()
    assert slow.began.wait(10)
    slow.may_end.set()
    for thread in threads:
        thread.join(10)
    assert results == ["ended"] * 10
    assert runner._engine._waiters._waiters == {}


def test_a_wait_for_a_run_of_another_orchestrator(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, slow: Any
) -> None:
    runner, watcher = orchestrator(database), orchestrator(database, start=False)
    handle = runner.start_workflow(slow)
    assert slow.began.wait(10)
    with pytest.raises(TimeoutError):
        watcher.wait_for_workflow(handle.id, 0.02)
    slow.may_end.set()
    assert watcher.get_handle(handle.id).result(10) == "ended"


def test_a_result_that_is_none_now(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def fails() -> None:
        raise KeyError("k")

    handle = orchestrator(memory).start_workflow(fails)
    for _ in range(2):
        with pytest.raises(WorkflowFailedError, match=f"workflow {handle.id} ended as failed: 'k'") as caught:
            handle.result(10)
        error = caught.value
        assert (error.workflow_id, error.status, error.message) == (handle.id, "failed", "'k'")
        assert error.type_name == "builtins:KeyError"
        assert 'raise KeyError("k")' in error.traceback_text
        assert type(error.__cause__) is KeyError


# --- before start and after stop --------------------------------------------------------------------------------------


def test_an_invoke_before_start_is_stored_and_waits(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runner = orchestrator(database, start=False)
    handle = runner.start_workflow(greet, "Ann")
    assert "the orchestrator is not started" in caplog.text
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    assert (handle.status()["status"], runner.get_history(handle.id)) == ("processing", [])
    runner.start()
    assert handle.result(10) == "Hello, Ann!"


def test_an_invoke_after_stop_is_refused_and_stores_nothing(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any
) -> None:
    runner = orchestrator(database)
    runner.start_workflow(greet, "Ann").result(10)
    assert runner.stop() is True
    assert runner.stop() is True
    for start in (lambda: runner.invoke_workflow("greet", name="Bob"), lambda: runner.start_workflow(greet, "Bob")):
        with pytest.raises(OrchestratorStateError, match=r"is stopped; call start\(\) to use it again"):
            start()
    assert len(runner.list_workflows()) == 1  # asking still works
    runner.start()
    assert runner.start_workflow(greet, "Bob").result(10) == "Hello, Bob!"


def test_an_invoke_while_stopping_is_refused(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, greet: Any, slow: Any
) -> None:
    runner = orchestrator(database)
    handle = runner.start_workflow(slow)
    assert slow.began.wait(10)
    assert runner.stop(timeout=0) is False
    with pytest.raises(OrchestratorStateError, match="is stopping"):
        runner.invoke_workflow("greet", name="Ann")
    with pytest.raises(OrchestratorStateError, match="still stopping"):
        runner.start()
    slow.may_end.set()
    assert runner.stop(timeout=10)
    assert [run["id"] for run in runner.list_workflows()] == [handle.id]


def test_a_context_manager_starts_and_stops(database: BaseDatabaseManager, greet: Any) -> None:
    with Orchestrator(db_manager=database) as runner:
        handle = runner.start_workflow(greet, "Ann")
    assert handle.status()["status"] == "done"
    with pytest.raises(OrchestratorStateError):
        runner.start_workflow(greet, "Bob")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "at least 1"),
        ({"max_workers": True}, TypeError, "is an int, not bool"),
        ({"max_workers": 2.0}, TypeError, "is an int, not float"),
        ({"poll_interval_seconds": 0}, ValueError, "must be positive"),
        ({"poll_interval_seconds": float("nan")}, ValueError, "poll_interval_seconds must be positive, not nan"),
        ({"poll_interval_seconds": "1"}, TypeError, "poll_interval_seconds is a number of seconds, not str"),
        ({"poll_interval_seconds": timedelta(1)}, TypeError, "poll_interval_seconds is a number of seconds, not timed"),
        ({"lease_seconds": None}, TypeError, "lease_seconds is a number of seconds, not NoneType"),
        ({"lease_seconds": math.inf}, ValueError, "lease_seconds must be finite, not inf"),
        ({"lease_seconds": 1e12}, ValueError, "lease_seconds must be at most 3153600000 seconds"),
        ({"lease_seconds": 10**400}, ValueError, "lease_seconds must be finite, not as large as that"),
        ({"retention": timedelta.max}, ValueError, "the retention must be at most .* leave it out to keep them"),
        ({"retention": {"done": 1e11}}, ValueError, "the retention of 'done' must be at most"),
        ({"db_manager": "runs.db"}, TypeError, "is a BaseDatabaseManager, not str"),
        ({"db_manager": MemoryDatabaseManager}, TypeError, "db_manager is .* not the class MemoryDatabaseManager"),
        ({"queues": None}, TypeError, "queues holds instances of Queue, .* not None"),
        ({"queues": "mail"}, TypeError, "queues holds instances of Queue, .* not 'mail'"),
        ({"queues": Queue("mail")}, TypeError, r"queues holds instances of Queue, .* not Queue\("),
        ({"serializer": "json"}, TypeError, r"serializer is an object with encode and decode\(\), not str"),
        ({"serializer": JsonSerializer}, TypeError, "serializer is .* not the class JsonSerializer"),
        ({"clock": time.time}, TypeError, r"clock is an object with now and monotonic\(\), not builtin"),
    ],
)
def test_an_orchestrator_that_is_made_wrongly(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Orchestrator(**{"db_manager": MemoryDatabaseManager(), **options})
