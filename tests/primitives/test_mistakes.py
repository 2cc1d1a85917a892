"""Mistakes that a user can make with waits, retries, control and sagas: each has a clear error, and stores nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import (
    MemoryDatabaseManager,
    Orchestrator,
    RetryPolicy,
    WorkflowHandle,
    activity,
    durable,
    workflow,
)
from py_orchestrate.errors import (
    DurableCallError,
    InvalidWorkflowIdError,
    SerializationError,
    UnsupportedOperationError,
    WorkflowConflictError,
    WorkflowNotFoundError,
    WorkflowStateError,
)

from ..managers import SevenMethodsManager
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the mistake


@activity("mistaken_act")
def act(value: Any = None) -> Any:
    return value


def plain() -> None:
    pass


def failure_of(runner: Orchestrator, code: Callable[[], Any]) -> BaseException:
    """Return what the code raises in a workflow."""

    @workflow("w")
    def w() -> str | None:
        try:
            code()
        except Exception as error:
            raised.append(error)
            return str(error)
        return None

    raised: list[BaseException] = []
    handle = runner.start_workflow(w)
    assert handle.result(10) is not None
    return raised[-1]


def saga_with(*arguments: Any) -> Callable[[], None]:
    def code() -> None:
        with durable.Saga() as saga:
            saga.add(*arguments)

    return code


def saga_after_its_block() -> None:
    with durable.Saga() as saga:
        pass
    saga.add(act, 1)


IN_A_WORKFLOW: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "sleep negative": (lambda: durable.sleep(-1), ValueError, "must not be negative, not -1"),
    "sleep negative delta": (lambda: durable.sleep(timedelta(seconds=-1)), ValueError, "must not be negative"),
    "sleep nan": (lambda: durable.sleep(math.nan), ValueError, "must be finite, not nan"),
    "sleep infinite": (lambda: durable.sleep(math.inf), ValueError, "must be finite, not inf"),
    "sleep huge": (lambda: durable.sleep(10**400), ValueError, "must be finite"),
    "sleep text": (lambda: durable.sleep("5"), TypeError, "a number of seconds or a timedelta, not str"),  # type: ignore[arg-type]
    "sleep bool": (lambda: durable.sleep(True), TypeError, "a number of seconds or a timedelta, not bool"),
    "sleep none": (lambda: durable.sleep(None), TypeError, "a number of seconds or a timedelta, not NoneType"),  # type: ignore[arg-type]
    "sleep too far": (lambda: durable.sleep(1e12), ValueError, "after the year 9999"),
    "sleep_until naive": (lambda: durable.sleep_until(NAIVE), ValueError, "needs a time zone"),
    "sleep_until number": (lambda: durable.sleep_until(5), TypeError, "takes a datetime, not int"),  # type: ignore[arg-type]
    "event blank": (lambda: durable.wait_for_event(" "), ValueError, "the name of an event must not be blank"),
    "event empty": (lambda: durable.wait_for_event(""), ValueError, "the name of an event must not be empty"),
    "event number": (lambda: durable.wait_for_event(5), TypeError, "the name of an event is a str, not int"),  # type: ignore[arg-type]
    "event timeout": (lambda: durable.wait_for_event("go", timeout=-1), ValueError, "must not be negative"),
    "event timeout text": (lambda: durable.wait_for_event("go", timeout="1"), TypeError, "a number of seconds"),  # type: ignore[arg-type]
    "child unknown": (lambda: durable.call_workflow("nobody"), WorkflowNotFoundError, "Workflow 'nobody' not found"),
    "child close": (lambda: durable.call_workflow("ww"), WorkflowNotFoundError, "Did you mean 'w'?"),
    "child blank": (lambda: durable.call_workflow(""), ValueError, "the name of a workflow must not be empty"),
    "child arguments": (lambda: durable.call_workflow("w", 1, 2), TypeError, "too many positional arguments"),
    "child unstorable": (lambda: durable.call_workflow("takes", object()), SerializationError, "argument of workflow"),
    "heartbeat": (durable.heartbeat, DurableCallError, "works inside an activity only"),
    "saga nothing": (saga_with(), TypeError, "needs a compensation"),
    "saga none": (saga_with(None), TypeError, "needs a compensation"),
    "saga plain": (saga_with(plain), TypeError, "decorate it with @activity"),
    "saga called": (saga_with("a result"), TypeError, "pass it without calling it"),
    "saga over": (saga_after_its_block, DurableCallError, "inside its block only"),
    "saga not begun": (lambda: durable.Saga().add(act), DurableCallError, "inside its block only"),
    "unknown option": (lambda: act.options(retries=3), TypeError, "has no option 'retries'"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("what", IN_A_WORKFLOW)
def test_a_mistake_in_a_workflow(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, what: str) -> None:
    code, expected, text = IN_A_WORKFLOW[what]

    @workflow
    def takes(value: Any) -> None:
        pass

    error = failure_of(orchestrator(memory), code)
    assert isinstance(error, expected), repr(error)
    assert text in str(error)
    assert len(memory.page_workflows()) == 1, "nothing was started"


WAITS: dict[str, Callable[[], Any]] = {
    "sleep": lambda: durable.sleep(1),
    "sleep_until": lambda: durable.sleep_until(datetime.now(UTC)),
    "wait_for_event": lambda: durable.wait_for_event("go"),
    "call_workflow": lambda: durable.call_workflow("w"),
    "shield": durable.shield,
}


@pytest.mark.parametrize("what", WAITS)
def test_waits_are_for_workflows(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, what: str) -> None:
    @activity
    def waits() -> str:
        with pytest.raises(DurableCallError, match=rf"durable\.{what}.* in a workflow's own code, not in an activity"):
            WAITS[what]()
        return "refused"

    @workflow
    def w() -> str:
        return waits()

    with pytest.raises(DurableCallError, match=rf"durable\.{what}.* works inside a workflow only"):
        WAITS[what]()
    assert orchestrator(memory).start_workflow(w).result(10) == "refused"


def test_a_store_that_cannot_wait_says_so(tmp_path: Path, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(SevenMethodsManager(tmp_path / "store"))
    for code in (lambda: durable.sleep(1), lambda: durable.wait_for_event("go")):
        error = failure_of(runner, code)
        assert isinstance(error, UnsupportedOperationError)
        assert "SevenMethodsManager cannot keep" in str(error)
        assert 'it lacks the capability "waiting"; use SQLiteDatabaseManager' in str(error)
    handle = runner.start_workflow("w")
    handle.wait(10)
    for request in (
        handle.cancel, handle.pause, handle.resume, lambda: handle.raise_event("go"),
        lambda: runner.start_workflow("w", timeout=5),
    ):  # fmt: skip
        with pytest.raises(UnsupportedOperationError, match='lacks the capability "waiting"'):
            request()


@pytest.fixture
def ended(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> tuple[Orchestrator, WorkflowHandle]:
    @workflow
    def w(fails: bool = False) -> int:
        if fails:
            raise ValueError("as told")
        return act(5)

    activity(act.name)(act.fn)
    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    handle.wait(10)
    return runner, handle


REQUESTS: dict[str, Callable[[Orchestrator, str], Any]] = {
    "raise_event": lambda runner, found: runner.raise_event(found, "go"),
    "cancel_workflow": Orchestrator.cancel_workflow,
    "pause_workflow": Orchestrator.pause_workflow,
    "resume_workflow": Orchestrator.resume_workflow,
    "rewind_workflow": Orchestrator.rewind_workflow,
}
BY_ID = {**REQUESTS, "restart_workflow": Orchestrator.restart_workflow}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_run_that_has_ended(ended: tuple[Orchestrator, WorkflowHandle], what: str) -> None:
    runner, handle = ended
    before = (handle.status(), runner.get_history(handle.id))
    with pytest.raises(WorkflowStateError, match=rf"workflow {handle.id} \(w\) is done: ") as caught:
        REQUESTS[what](runner, handle.id)
    assert (caught.value.workflow_id, caught.value.status) == (handle.id, "done")
    assert (handle.status(), runner.get_history(handle.id)) == before
    assert runner.db.load_events(handle.id) == []


@pytest.mark.parametrize("what", BY_ID)
def test_a_run_that_is_not_there(memory: MemoryDatabaseManager, what: str) -> None:
    runner = Orchestrator(db_manager=memory)
    with pytest.raises(WorkflowNotFoundError, match="Workflow 'nobody' not found"):
        BY_ID[what](runner, "nobody")
    for bad, error in (("", InvalidWorkflowIdError), ("a/b", InvalidWorkflowIdError), (None, TypeError)):
        with pytest.raises(error):
            BY_ID[what](runner, bad)  # type: ignore[arg-type]
    assert memory.page_workflows() == []


@pytest.mark.parametrize("what", [name for name in BY_ID if name != "raise_event"])
def test_a_request_in_a_workflows_own_code(ended: tuple[Orchestrator, WorkflowHandle], what: str) -> None:
    runner, handle = ended
    error = failure_of(runner, lambda: BY_ID[what](runner, handle.id))
    assert isinstance(error, DurableCallError)
    assert f"{what}() must not be called in a workflow's own code" in str(error)


def test_events_that_cannot_be_sent(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w() -> Any:
        return durable.wait_for_event("go")

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    wait_until(lambda: runner.get_history(handle.id))
    for name, payload, event_id, error in [
        ("", 1, None, ValueError),
        ("a\nb", 1, None, ValueError),
        (5, 1, None, TypeError),
        ("go", object(), None, SerializationError),
        ("go", 1, "a/b", InvalidWorkflowIdError),
        ("go", 1, 5, TypeError),
    ]:
        with pytest.raises(error, match="event"):
            handle.raise_event(name, payload, event_id=event_id)
    assert memory.load_events(handle.id) == []
    handle.raise_event("go", "at last")
    assert handle.result(10) == "at last"


@pytest.mark.parametrize(
    ("from_step", "error", "text"),
    [
        (-1, ValueError, "from_step is 0 to 1, not -1"),
        (2, ValueError, "has 1 steps: from_step is 0 to 1, not 2"),
        (True, TypeError, "from_step is an int, not bool"),
        ("1", TypeError, "from_step is an int, not str"),
        (0.5, TypeError, "from_step is an int, not float"),
    ],
)
def test_a_restart_from_nowhere(
    ended: tuple[Orchestrator, WorkflowHandle], from_step: Any, error: type[Exception], text: str
) -> None:
    runner, handle = ended
    with pytest.raises(error, match=text):
        runner.restart_workflow(handle.id, from_step)
    assert len(runner.list_workflows()) == 1


def test_a_restart_under_an_id_that_is_taken(ended: tuple[Orchestrator, WorkflowHandle]) -> None:
    runner, handle = ended
    with pytest.raises(WorkflowConflictError, match="choose another id"):
        runner.restart_workflow(handle.id, new_workflow_id=handle.id)
    with pytest.raises(InvalidWorkflowIdError):
        runner.restart_workflow(handle.id, new_workflow_id="a/b")
    assert len(runner.list_workflows()) == 1


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 1e12, timedelta(0)])
def test_a_timeout_that_is_none(ended: tuple[Orchestrator, WorkflowHandle], timeout: Any) -> None:
    runner, _ = ended
    with pytest.raises(ValueError, match=r"timeout|year 9999"):
        runner.start_workflow("w", timeout=timeout)
    assert len(runner.list_workflows()) == 1


@pytest.mark.parametrize("timeout", ["5", True, [5]])
def test_a_timeout_of_another_type(ended: tuple[Orchestrator, WorkflowHandle], timeout: Any) -> None:
    runner, _ = ended
    with pytest.raises(TypeError, match="a workflow's timeout is a number of seconds or a timedelta"):
        runner.start_workflow("w", timeout=timeout)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"retry": 3}, TypeError, "an activity's retry is a RetryPolicy, not int"),
        ({"retry": RetryPolicy}, TypeError, "an activity's retry is a RetryPolicy, not type"),
        ({"timeout": 0}, ValueError, "an activity's timeout must be positive, not 0"),
        ({"timeout": -1}, ValueError, "an activity's timeout must not be negative"),
        ({"total_timeout": "1"}, TypeError, "an activity's total_timeout is a number of seconds or a timedelta"),
        ({"heartbeat_timeout": True}, TypeError, "an activity's heartbeat_timeout is a number of seconds"),
        (
            {"retries": 3},
            TypeError,
            "no option 'retries'; there are retry, .*, heartbeat_timeout, executor, transactional, version$",
        ),
    ],
)
def test_options_of_an_activity(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        activity(**options)
    text = text.replace(", transactional, version$", "$")  # which belong to the activity, and not to a call
    with pytest.raises(error, match=text):
        act.options(**options)


@pytest.mark.parametrize("option", ["transactional", "version"])
def test_options_of_an_activity_that_a_call_cannot_have(option: str) -> None:
    with pytest.raises(TypeError, match=f"has no option '{option}'; it is given where the activity is declared"):
        act.options(**{option: None})  # type: ignore[misc]
