"""The orchestrator used inside workflows and activities: other runs are started once, and waiting takes no worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import WorkflowConflictError

from ..breakdown import Breakdown
from ..histories import outline
from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def current() -> list[Orchestrator]:
    """Return where the orchestrator stands that the code under test is to use: the last one."""
    return []


@pytest.fixture
def child() -> Any:
    @activity
    def double(n: int) -> int:
        return 2 * n

    @workflow
    def child(n: int) -> int:
        return double(n)

    return child


@pytest.mark.parametrize("inside", ["workflow", "activity", "submitted activity", "async activity"])
def test_starting_and_waiting_with_one_worker(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, child: Any, inside: str
) -> None:
    runner = orchestrator(database, max_workers=1)

    def start_two(n: int) -> int:
        first = runner.start_workflow(child, n)
        second = runner.invoke_workflow("child", n=n + 1)
        status = runner.wait_for_workflow(second, 20)
        assert status["status"] == "done"
        return first.result(20) + status["output"]

    act = activity("act")(start_two)

    @activity
    async def act_async(n: int) -> int:
        import asyncio

        return await asyncio.to_thread(start_two, n)

    @workflow
    def parent(n: int) -> int:
        calls: dict[str, Callable[[int], int]] = {
            "workflow": start_two,
            "activity": act,
            "submitted activity": lambda n: act.submit(n).result(),
            "async activity": act_async,
        }
        return calls[inside](n)

    assert runner.start_workflow(parent, 1).result(20) == 6
    assert runner.start_workflow(child, 5).result(20) == 10  # and the one worker is still there
    assert runner._engine._capacity == 1


def test_ten_levels_with_one_worker(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(database, max_workers=1)

    @workflow
    def level(n: int) -> int:
        return n and 1 + runner.start_workflow(level, n - 1).result(30)

    assert runner.start_workflow(level, 10).result(30) == 10


def test_more_waiting_parents_than_workers(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, child: Any
) -> None:
    runner = orchestrator(memory, max_workers=2)

    @workflow
    def parent(n: int) -> list[int]:
        return [runner.start_workflow(child, m).result(30) for m in range(n)]

    handles = [runner.start_workflow(parent, 3) for _ in range(20)]
    assert [handle.result(30) for handle in handles] == [[0, 2, 4]] * 20


def test_what_a_workflow_started_is_not_started_again(
    database: BaseDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    orchestrator: MakeOrchestrator,
    child: Any,
) -> None:
    reader = orchestrator(database, start=False)

    @activity
    def step(n: int) -> int:
        return n

    @workflow
    def parent() -> list[Any]:
        begun = [current_orchestrator().invoke_workflow("child", n=1), step(1)]
        begun.append(current_orchestrator().start_workflow(child, 2).id)
        begun.append(current_orchestrator().start_workflow(child, 3, workflow_id="mine").id)
        stop()
        return [*begun, current_orchestrator().start_workflow(child, 4).id]

    made: list[Orchestrator] = []

    def current_orchestrator() -> Orchestrator:
        # Any that accepts runs: the ids come from the workflow, not from the orchestrator.
        if not made:
            made.append(orchestrator(database))
        return made[0]

    handle = breakdown.recover(database, parent, workflow_id="parent")
    expected = ["parent-0", 1, "parent-2", "mine", "parent-5"]
    assert handle.result(10) == expected
    assert {run["id"] for run in reader.list_workflows("child")} == {"parent-0", "parent-2", "mine", "parent-5"}
    assert [made[0].get_handle(each).result(10) for each in ("parent-0", "parent-2", "mine", "parent-5")] == [
        2,
        4,
        6,
        8,
    ]
    assert outline(reader, "parent") == [
        (n, name, "completed") for n, name in enumerate(["child", "step", "child", "child", "stop", "child"])
    ]


@pytest.mark.parametrize("own_id", [None, "an id of its own"])
def test_what_was_done_is_stored_before_another_run_begins(
    memory: MemoryDatabaseManager,
    orchestrator: MakeOrchestrator,
    child: Any,
    monkeypatch: pytest.MonkeyPatch,
    own_id: str | None,
) -> None:
    runner = orchestrator(memory)
    create, seen = memory.create_workflow, []

    def look_and_create(record: Any) -> Any:
        seen.append((record.name, [step.name for step in memory.get_steps("parent")]))
        return create(record)

    @activity
    def step() -> None:
        pass

    @workflow
    def parent() -> None:
        step()
        runner.start_workflow(child, 1, workflow_id=own_id).wait(10)

    monkeypatch.setattr(memory, "create_workflow", look_and_create)
    runner.start_workflow(parent, workflow_id="parent").result(10)
    assert seen == [("parent", []), ("child", ["step"])]


def test_an_id_that_another_run_has_is_an_error_in_the_workflow(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, child: Any
) -> None:
    runner = orchestrator(memory)

    @workflow
    def parent() -> str:
        runner.start_workflow(child, 1, workflow_id="one")
        try:
            runner.start_workflow(child, 2, workflow_id="one")
        except WorkflowConflictError as error:
            return error.workflow_id
        return ""

    assert runner.start_workflow(parent).result(10) == "one"


def test_a_long_id_of_the_parent_still_gives_ids(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, child: Any
) -> None:
    runner = orchestrator(memory)

    @workflow
    def parent() -> list[str]:
        return [runner.invoke_workflow("child", n=n) for n in (1, 2)]

    first, second = runner.start_workflow(parent, workflow_id="x" * 200).result(10)
    assert first != second
    assert runner.get_handle(first).result(10) == 2


def test_wrong_starts_in_a_workflow_take_no_place(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, child: Any
) -> None:
    runner = orchestrator(memory)

    @workflow
    def parent() -> str:
        for start in (
            lambda: runner.invoke_workflow("nothing"),
            lambda: runner.invoke_workflow("child"),
            lambda: runner.invoke_workflow("child", n=object()),
            lambda: runner.start_workflow(child, 1, workflow_id="/"),
        ):
            with pytest.raises((ValueError, TypeError)):
                start()
        return runner.invoke_workflow("child", n=1)

    assert runner.start_workflow(parent, workflow_id="parent").result(10) == "parent-0"
    assert [run["name"] for run in runner.list_workflows()] == ["child", "parent"]


def test_asking_inside_a_workflow(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, child: Any) -> None:
    runner = orchestrator(memory)

    @activity
    def look(workflow_id: str) -> list[Any]:
        return [runner.get_workflow_status(workflow_id)["status"], durable.info().workflow_id == workflow_id]  # type: ignore[index]

    @workflow
    def w() -> list[Any]:
        own = durable.info().workflow_id
        return [look(own), runner.get_workflow_status(own)["name"], len(runner.list_workflows())]  # type: ignore[index]

    assert runner.start_workflow(w).result(10) == [["processing", True], "w", 1]


LOOKS: dict[str, Callable[[Orchestrator, str], Any]] = {
    "result": lambda runner, other: runner.get_handle(other).result(0.02),
    "wait": lambda runner, other: runner.get_handle(other).wait(0.02)["status"],
    "wait_for_workflow": lambda runner, other: runner.wait_for_workflow(other, timeout=0.02)["status"],
    "status": lambda runner, other: runner.get_handle(other).status()["status"],
    "get_workflow_status": lambda runner, other: runner.get_workflow_status(other)["status"],  # type: ignore[index]
    "unknown": lambda runner, other: runner.get_workflow_status("not " + other),
    "custom_status": lambda runner, other: runner.get_handle(other).custom_status(),
    "list_workflows": lambda runner, other: [run["id"] for run in runner.list_workflows(status="processing")],
    "get_history": lambda runner, other: [step["status"] for step in runner.get_history(other)],
    "export_history": lambda runner, other: runner.export_history(other)["status"],
}


@pytest.mark.parametrize("what", LOOKS)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_workflow_has_seen_of_another_run_is_the_same_in_a_replay(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, what: str, is_async: bool
) -> None:
    runner = orchestrator(memory)
    seen: list[Any] = []

    def look() -> Any:
        try:
            found = LOOKS[what](runner, "other")
        except TimeoutError as error:
            found = str(error)
        seen.append(found)
        return found

    @workflow
    def other() -> str:
        durable.set_custom_status("waits")
        durable.wait_for_event("end")
        durable.set_custom_status("has ended")
        return "has ended"

    @workflow
    def w() -> Any:
        found = look()
        durable.wait_for_event("go on")
        return found

    @workflow
    async def w_async() -> Any:
        found = look()
        await durable.wait_for_event("go on")
        return found

    runner.start_workflow(other, workflow_id="other")
    wait_until(lambda: any(step["status"] == "waiting" for step in runner.get_history("other")))
    looking = runner.start_workflow(w_async if is_async else w)
    wait_until(lambda: any(step["status"] == "waiting" for step in runner.get_history(looking.id)))
    assert len(seen) == 1
    runner.raise_event("other", "end")
    runner.wait_for_workflow("other", 10)
    runner.start_workflow(other, workflow_id="not other")
    looking.raise_event("go on")
    assert looking.result(10) == seen[0]
    assert seen == [seen[0]] * 2
    assert [step["kind"] for step in runner.get_history(looking.id)] == ["value", "event"]
    assert runner._engine._capacity == 5, "and no worker was lost"


def test_a_run_that_ends_in_time_has_done_so_in_a_replay(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, child: Any
) -> None:
    runner = orchestrator(memory)
    seen: list[int] = []

    @workflow
    def w() -> int:
        seen.append(runner.start_workflow(child, 2).result(20))
        durable.sleep(0.01)
        return seen[-1]

    assert runner.start_workflow(w).result(20) == 4
    assert seen == [4, 4]


@pytest.mark.parametrize("inside", ["workflow", "activity"])
def test_a_start_while_the_orchestrator_stops_is_stored_for_later(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, child: Any, inside: str
) -> None:
    began, may_go_on = threading.Event(), threading.Event()
    runners: list[Orchestrator] = []

    @activity
    def wait() -> None:
        began.set()
        assert may_go_on.wait(10)

    @activity
    def start() -> str:
        return runners[-1].invoke_workflow("child", n=1)

    @workflow
    def parent() -> str:
        wait()
        return start() if inside == "activity" else runners[-1].invoke_workflow("child", n=1)

    runners.append(orchestrator(database))
    handle = runners[0].start_workflow(parent)
    assert began.wait(10)
    stopper = threading.Thread(target=runners[0].stop)  # waits for what runs, and must not make it fail
    stopper.start()
    wait_until(lambda: runners[0]._engine._state == "stopping")
    may_go_on.set()
    stopper.join(10)
    assert not stopper.is_alive()
    child_id = handle.result(10)
    assert runners[0].get_workflow_status(child_id)["status"] == "processing"  # type: ignore[index]
    runners.append(orchestrator(database))
    assert runners[1].get_handle(child_id).result(10) == 2


def test_waiting_for_a_run_that_a_stop_keeps_from_beginning(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, child: Any
) -> None:
    began, may_go_on = threading.Event(), threading.Event()
    runners: list[Orchestrator] = []

    @activity
    def wait() -> None:
        began.set()
        assert may_go_on.wait(10)

    @workflow
    def parent() -> int:
        wait()
        return runners[-1].start_workflow(child, 1).result()

    runners.append(orchestrator(database))
    handle = runners[0].start_workflow(parent)
    assert began.wait(10)
    assert runners[0].stop(timeout=0) is False
    may_go_on.set()
    assert runners[0].stop(timeout=10)
    assert database.read_workflow(handle.id).status.value == "processing"  # type: ignore[union-attr]
    runners.append(orchestrator(database))
    assert runners[1].get_handle(handle.id).result(10) == 2


def test_the_parent_waits_for_itself_in_vain(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    runner = orchestrator(memory, max_workers=1)

    @workflow
    def w() -> str:
        try:
            runner.wait_for_workflow(durable.info().workflow_id, 0.05)
        except TimeoutError:
            return "timed out"
        return ""

    assert runner.start_workflow(w).result(10) == "timed out"


def test_durable_functions_outside_say_so() -> None:
    from py_orchestrate.errors import DurableCallError

    act = activity("act")(lambda n: n)
    for call in (durable.info, lambda: durable.call_activity("act", 1)):
        with pytest.raises(DurableCallError, match="works inside a workflow"):
            call()
    assert durable.gather(act.submit(1), act.submit(2)) == [1, 2]
    with pytest.raises(TypeError, match=r"gather takes futures; argument 1 is int\. Pass activity\.submit"):
        durable.gather(act.submit(1), act(2))
    with pytest.raises(TypeError, match=r"argument 0 is list\. Pass a list with a star, gather\(\*futures\)"):
        durable.gather([act.submit(1)])  # type: ignore[arg-type]
    assert durable.gather() == []


def test_info_in_a_workflow_and_in_an_activity(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    @activity
    def look() -> list[Any]:
        info = durable.info()
        assert isinstance(info, durable.ActivityInfo)
        return [info.workflow_id, info.workflow_name, info.name, info.sequence, info.idempotency_key]

    @workflow
    def w() -> list[Any]:
        seen: list[Any] = []
        for _ in range(2):
            info = durable.info()
            assert isinstance(info, durable.WorkflowInfo)
            seen += [[info.workflow_id, info.name, info.sequence, info.is_replaying], look()]
        stop()
        return [*seen, durable.info().is_replaying]  # type: ignore[union-attr]

    assert breakdown.recover(database, w, workflow_id="run").result(10) == [
        ["run", "w", 0, True],
        ["run", "w", "look", 0, "run:0"],
        ["run", "w", 1, True],
        ["run", "w", "look", 1, "run:1"],
        False,
    ]


@pytest.mark.crash
def test_children_over_a_crash(program: Callable[[str], Program]) -> None:
    script = program("""
        runners = []

        @activity
        def step(n):
            mark("step", n)
            return n

        @activity
        def last():
            crash("last")

        @workflow
        def child(n):
            crash(f"child {n}")
            mark("child", n)
            return step(n)

        @workflow
        def w():
            runner = runners[0]
            total = step(10)
            for n in range(3):
                total += runner.start_workflow(child, n).result()
            last()
            return total

        runners.append(Orchestrator(os.path.join(os.environ["FOLDER"], "runs.db"), max_workers=1))
        with runners[0] as orchestrator:
            orchestrator.start_workflow("w", workflow_id="run")
            status = orchestrator.wait_for_workflow("run", 20)
            mark("listed", len(orchestrator.list_workflows("child")))
        print(json.dumps(status))
        """)
    for place in ("child 0", "child 2", "last"):
        script.crash(place, kill=True)
    assert script.recover().output == 13
    assert sorted(script.lines("child")) == ["0", "1", "2"]
    assert sorted(script.lines("step")) == ["0", "1", "10", "2"]
    assert script.lines("listed") == ["3"]
