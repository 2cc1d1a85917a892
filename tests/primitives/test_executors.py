"""Activities on executors: real processes, a real cluster, and everything that cannot be sent there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import (
    ActivityTimeoutError,
    SerializationError,
    WorkflowFailedError,
)

from .. import executor_bodies
from ..executor_bodies import OddError, Point, UnpicklableError
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture(scope="module", autouse=True)
def _pools() -> Iterator[None]:
    yield
    executor_bodies.close()


@pytest.fixture
def bodies() -> dict[str, Any]:
    return executor_bodies.declare()


@pytest.fixture
def run(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> Callable[..., Any]:
    runner = orchestrator(memory)

    def run(code: Callable[..., Any]) -> Any:
        @workflow
        def w() -> Any:
            return code()

        return runner.start_workflow(w, workflow_id="w").result(60)

    return run


def cause(run: Callable[..., Any], code: Callable[..., Any]) -> BaseException:
    with pytest.raises(WorkflowFailedError) as caught:
        run(code)
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


# --- a process pool ---------------------------------------------------------------------------------------------------


def test_a_body_runs_in_the_pools_process(run: Callable[..., Any], bodies: dict[str, Any]) -> None:
    where = bodies["where"]

    def w() -> list[Any]:
        return [where(Point(1, 2)), *where.map([Point(3, 4), Point(5, 6)]), where.submit(Point(7, 8)).result()]

    found = run(w)
    assert os.getpid() not in {each["pid"] for each in found}
    assert [each["point"] for each in found] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert [(each["key"], each["attempt"], each["name"]) for each in found] == [
        (f"w:{n}", 1, "where") for n in range(4)
    ]


def test_a_body_calls_other_activities_plainly(run: Callable[..., Any], bodies: dict[str, Any]) -> None:
    assert run(lambda: bodies["nested"](3)) == 10


@pytest.mark.parametrize(
    ("kind", "error"), [("plain", ValueError), ("odd", OddError), ("unpicklable", UnpicklableError)]
)
def test_an_error_comes_back_with_its_traceback(
    run: Callable[..., Any], bodies: dict[str, Any], kind: str, error: type[Exception]
) -> None:
    def w() -> list[Any]:
        try:
            bodies["fails"](kind)
        except Exception as raised:
            return [type(raised).__name__, str(raised), "\n".join(raised.__notes__)]
        return []

    name, text, notes = run(w)
    assert name == error.__name__
    assert text.startswith({"plain": "plain", "odd": "odd", "unpicklable": "has a lock"}[kind])
    assert "Traceback on the executor:" in notes
    assert "in fails" in notes


def test_the_pool_survives_errors_that_cannot_be_sent(run: Callable[..., Any], bodies: dict[str, Any]) -> None:
    def w() -> list[int]:
        for kind, error in (("odd", OddError), ("unpicklable", UnpicklableError)):
            with pytest.raises(error):
                bodies["fails"](kind)
        with pytest.raises(SerializationError, match="the result of activity 'gives_a_lock' cannot be sent back"):
            bodies["gives_a_lock"]()
        found: list[int] = bodies["where"](Point(1, 1))["point"]
        return found

    assert run(w) == [1, 1]


def test_what_a_pool_cannot_be_sent_is_told(run: Callable[..., Any], memory: MemoryDatabaseManager) -> None:
    ran: list[int] = []

    @activity(executor=executor_bodies.pool)
    def local() -> None:
        ran.append(1)

    error = cause(run, local)
    assert isinstance(error, SerializationError)
    assert "activity 'local' cannot be sent to its process pool" in str(error)
    assert "Define it, and the classes of its arguments, at the top level of a module" in str(error)
    assert ran == []


def test_a_process_that_dies_fails_the_activity(run: Callable[..., Any], bodies: dict[str, Any]) -> None:
    executor_bodies.pools["pool"] = broken = executor_bodies.new_pool()
    try:
        assert isinstance(cause(run, bodies["dies"]), BrokenProcessPool)
    finally:
        executor_bodies.pools.clear()
        broken.shutdown()


def test_a_new_pool_serves_the_next_attempt(
    run: Callable[..., Any], bodies: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function that gives the pool is asked for each attempt, so it can give another one."""
    made: list[Executor] = []

    def fresh() -> Executor:
        made.append(executor_bodies.new_pool())
        return made[-1]

    dies_once = bodies["dies_once"].options(executor=fresh)
    try:
        assert run(lambda: dies_once(str(tmp_path / "marker"))) == "lived"
        assert len(made) == 2
    finally:
        for each in made:
            each.shutdown()


def test_an_activity_that_takes_too_long_is_left_behind(
    run: Callable[..., Any], bodies: dict[str, Any], tmp_path: Path
) -> None:
    late = bodies["waits_for"].options(timeout=0.2)
    try:
        error = cause(run, lambda: late(str(tmp_path / "gate")))
        assert isinstance(error, ActivityTimeoutError)
        assert "activity 'waits_for' took longer than its timeout of 0.2 s" in str(error)
    finally:
        (tmp_path / "gate").write_text("open")


def test_the_pools_size_bounds_what_runs_at_once(
    run: Callable[..., Any], bodies: dict[str, Any], tmp_path: Path
) -> None:
    gates = [tmp_path / f"gate{n}" for n in range(4)]
    for gate in gates:
        gate.write_text(gate.name)
    assert run(lambda: bodies["waits_for"].map([str(gate) for gate in gates])) == [gate.name for gate in gates]


# --- a cluster --------------------------------------------------------------------------------------------------------


def test_a_cluster_of_dask(run: Callable[..., Any], bodies: dict[str, Any]) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        on_cluster = {name: each.options(executor=client.get_executor) for name, each in bodies.items()}

        @activity(executor=client.get_executor())
        def local(n: int) -> list[int]:
            return [os.getpid(), n]

        def w() -> list[Any]:
            seen = [*on_cluster["where"].map([Point(1, 2), Point(3, 4)]), local(5)]
            for kind, error in (("plain", ValueError), ("odd", OddError), ("unpicklable", UnpicklableError)):
                with pytest.raises(error):
                    on_cluster["fails"](kind)
            with pytest.raises(SerializationError, match="cannot be sent back"):
                on_cluster["gives_a_lock"]()
            return seen

        one, two, (pid, number) = run(w)
        assert ([one["point"], two["point"]], number) == ([[1, 2], [3, 4]], 5)
        assert os.getpid() not in {one["pid"], two["pid"], pid}


# --- others -----------------------------------------------------------------------------------------------------------


def test_an_executor_of_this_process_bears_everything(run: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as threads:

        @activity(executor=threads)
        def local(lock: str) -> list[str]:
            info = durable.info()
            return [threading.current_thread().name.partition("_")[0], info.idempotency_key, lock]

        assert run(lambda: [local("a"), *local.map("bc")]) == [
            ["mine", "w:0", "a"], ["mine", "w:1", "b"], ["mine", "w:2", "c"]
        ]  # fmt: skip


class Refusing(Executor):
    """An executor that takes nothing."""

    def submit(self, *_args: Any, **_options: Any) -> Future[Any]:
        raise RuntimeError("cannot schedule new futures after shutdown")


class Breaking(Executor):
    """An executor whose futures fail."""

    def submit(self, *_args: Any, **_options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("the cluster is gone"))
        return future


@pytest.mark.parametrize(
    ("executor", "error", "text"),
    [(Refusing(), RuntimeError, "after shutdown"), (Breaking(), BrokenExecutor, "the cluster is gone")],
)
def test_an_executor_that_fails_fails_the_activity(
    run: Callable[..., Any], executor: Executor, error: type[Exception], text: str
) -> None:
    act = activity("act", executor=executor)(lambda: 1)
    found = cause(run, act)
    assert isinstance(found, error)
    assert text in str(found)


def test_options_take_an_executor_and_take_it_away(run: Callable[..., Any]) -> None:
    @activity(executor=Refusing())
    def act() -> str:
        return threading.current_thread().name.partition("_")[0]

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as threads:
        other, none = act.options(executor=threads), act.options(executor=None)
        assert run(lambda: [other(), none() != "mine"]) == ["mine", True]


def test_a_stop_while_a_body_is_elsewhere_runs_it_again(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, bodies: dict[str, Any], tmp_path: Path
) -> None:
    """The orchestrator leaves; what the body came to is not lost where the next one asks again."""
    gate = tmp_path / "gate"

    @workflow
    def w() -> str:
        found: str = bodies["waits_for"](str(gate))
        return found

    first = orchestrator(memory)
    handle = first.start_workflow(w)
    wait_until(lambda: first.get_workflow_status(handle.id)["current_activity"] == "waits_for")
    assert not first.stop(timeout=0.1)
    gate.write_text("open")
    wait_until(lambda: first.stop(timeout=1))
    assert orchestrator(memory).get_handle(handle.id).result(60) == "open"


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [5, "threads", object()])
def test_what_is_no_executor_is_refused(executor: Any) -> None:
    with pytest.raises(TypeError, match="executor"):
        activity(executor=executor)(executor_bodies.where)
    assert "where" not in get_registry().activities


def test_options_that_do_not_go_together_are_refused() -> None:
    pool = executor_bodies.pool
    with pytest.raises(TypeError, match="async"):
        activity(executor=pool)(executor_bodies.coroutine)
    with pytest.raises(ValueError, match="heartbeat_timeout"):
        activity(executor=pool, heartbeat_timeout=1)(executor_bodies.where)
    with pytest.raises(ValueError, match="transactional"):
        activity(executor=pool, transactional=True)(executor_bodies.where)
    with pytest.raises(TypeError, match="async"):
        activity(executor_bodies.coroutine).options(executor=pool)
    assert "where" not in get_registry().activities


def test_a_function_that_gives_no_executor_fails_the_activity(run: Callable[..., Any]) -> None:
    act = activity("act", executor=lambda: None)(lambda: 1)  # type: ignore[arg-type,return-value]
    error = cause(run, act)
    assert isinstance(error, TypeError)
    assert "act" in str(error)
    assert "executor" in str(error)
