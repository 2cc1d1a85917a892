"""Log lines: a workflow's own once, however often it is replayed; the library's where a program looks for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.decorators import get_registry

from ..breakdown import Breakdown
from ..programs import Program
from ..waiting import wait_until

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns what the workflow's logger has logged."""
    caplog.set_level(logging.DEBUG, "py_orchestrate")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "py_orchestrate.durable"]


def library_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name != "py_orchestrate.durable"]


# --- the workflow's own lines -----------------------------------------------------------------------------------------


def test_each_line_is_logged_once(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], lines: Callable[[], list[str]]
) -> None:
    @activity
    def step(n: int) -> int:
        durable.logger.info("in step %s", n)
        return n

    @workflow
    def w() -> None:
        durable.logger.info("A")
        step(1)
        durable.logger.info("B")
        step(2)
        durable.logger.warning("C")
        stop()
        durable.logger.info("D")
        step(3)
        durable.logger.error("E")

    breakdown.recover(database, w).result(10)
    assert lines() == ["A", "in step 1", "B", "in step 2", "C", "D", "in step 3", "E"]


def test_every_method_of_the_logger_is_silent_in_a_replay(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], lines: Callable[[], list[str]]
) -> None:
    def log_all(text: str) -> None:
        durable.logger.debug("%s debug", text)
        durable.logger.info("%s info", text)
        durable.logger.warning("%s warning", text)
        durable.logger.error("%s error", text)
        durable.logger.critical("%s critical", text)
        durable.logger.log(logging.INFO, "%s log", text)
        try:
            raise ValueError
        except ValueError:
            durable.logger.exception("%s exception", text)
        if durable.logger.isEnabledFor(logging.INFO):
            durable.logger.info("%s guarded", text)

    @activity
    def step() -> None:
        pass

    @workflow
    def w() -> None:
        log_all("before")
        step()
        stop()
        log_all("after")

    breakdown.recover(memory, w).result(10)
    words = "debug info warning error critical log exception guarded".split()  # noqa: SIM905 - as above
    assert lines() == [f"{text} {word}" for text in ("before", "after") for word in words]


def test_records_carry_the_run_and_the_step(
    memory: MemoryDatabaseManager,
    orchestrator: MakeOrchestrator,
    caplog: pytest.LogCaptureFixture,
    lines: Callable[[], list[str]],
) -> None:
    @activity
    def step() -> None:
        durable.logger.info("inside", extra={"own": 1, "workflow_step": "overridden"})

    @workflow
    def w() -> None:
        durable.logger.info("first")
        step()
        durable.logger.info("second", extra={"own": 2})

    orchestrator(memory).start_workflow(w, workflow_id="run").result(10)
    first, inside, second = [record for record in caplog.records if record.name == "py_orchestrate.durable"]
    assert [vars(record)["workflow_id"] for record in (first, inside, second)] == ["run"] * 3
    assert [vars(record)["workflow_step"] for record in (first, inside, second)] == [0, "overridden", 1]
    assert (vars(inside)["own"], vars(second)["own"]) == (1, 2)


def test_the_logger_works_outside_too(caplog: pytest.LogCaptureFixture, lines: Callable[[], list[str]]) -> None:
    durable.logger.info("from nowhere %s", 1)
    assert lines() == ["from nowhere 1"]


def test_is_replaying_is_true_up_to_the_first_step_that_is_not_recorded(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], orchestrator: MakeOrchestrator
) -> None:
    seen: list[tuple[str, bool]] = []

    def look(place: str) -> None:
        seen.append((place, durable.info().is_replaying))  # type: ignore[union-attr]

    @activity
    def step(n: int) -> int:
        return n

    @workflow
    def w() -> None:
        look("start")
        step(1)
        look("after 1")
        future = step.submit(2)
        look("submitted")
        future.result()
        look("after 2")
        stop()
        look("after stop")
        step(3)
        look("end")

    breakdown.recover(database, w).result(10)
    places = ["start", "after 1", "submitted", "after 2", "after stop", "end"]
    assert seen[:4] == [(place, False) for place in places[:4]]
    assert seen[4:] == [(place, n < 4) for n, place in enumerate(places)]


def test_starting_another_run_does_not_end_the_replay(
    memory: MemoryDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    orchestrator: MakeOrchestrator,
    lines: Callable[[], list[str]],
) -> None:
    runner = orchestrator(memory, start=False)

    @workflow
    def other() -> None:
        pass

    @activity
    def step() -> None:
        pass

    @workflow
    def w() -> None:
        durable.logger.info("A")
        runner.start_workflow(other)
        durable.logger.info("B")
        step()
        durable.logger.info("C")
        runner.start_workflow(other)
        durable.logger.info("D")
        stop()
        durable.logger.info("E")

    breakdown.recover(memory, w).result(10)
    # D came after the last step that was stored, so nothing tells whether it has been logged already.
    assert [line for line in lines() if line != "D"] == ["A", "B", "C", "E"]
    assert 1 <= lines().count("D") <= 2


@pytest.mark.crash
def test_lines_over_a_crash(program: Callable[[str], Program]) -> None:
    script = program("""
        class Marker(logging.Handler):
            def emit(self, record):
                mark("log", f"{record.getMessage()} {record.workflow_id} {record.workflow_step}")

        logging.getLogger("py_orchestrate.durable").addHandler(Marker())
        durable.logger.setLevel(logging.INFO)

        @activity
        def s1():
            durable.logger.info("in s1")

        @activity
        def s2():
            crash()
            durable.logger.info("in s2")

        @workflow
        def w():
            durable.logger.info("A")
            s1()
            durable.logger.info("B")
            s2()
            durable.logger.info("C")
        """)
    script.crash()
    script.recover()
    assert script.lines("log") == ["A run 0", "in s1 run 0", "B run 1", "in s2 run 1", "C run 2"]


# --- the library's lines ----------------------------------------------------------------------------------------------


def test_a_failure_is_logged_once_with_its_traceback(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @activity
    def fail() -> None:
        raise ValueError("no stock")

    @workflow
    def w() -> None:
        fail()

    caplog.set_level(logging.DEBUG)
    runner = orchestrator(database)
    runner.start_workflow(w, workflow_id="run").wait(10)
    assert runner.stop()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "workflow 'w' (run) failed: no stock"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert (vars(record)["workflow_id"], vars(record)["workflow_name"]) == ("run", "w")
    assert vars(record)["workflow_step"] == 1
    assert 'raise ValueError("no stock")' in caplog.text


def test_a_handled_failure_is_no_error(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @activity
    def fail() -> None:
        raise ValueError("no stock")

    @workflow
    def w() -> None:
        with pytest.raises(ValueError, match="no stock"):
            fail()

    caplog.set_level(logging.DEBUG)
    orchestrator(memory).start_workflow(w).result(10)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_payloads_are_not_logged(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @activity
    def act(value: Any) -> dict[str, Any]:
        return {"token": value}

    @workflow
    def w(value: str) -> Any:
        act(value)
        act.submit(value).result()
        return [value, threading.Lock()]

    caplog.set_level(logging.DEBUG)
    runner = orchestrator(database)
    runner.start_workflow(w, "hunter2").wait(10)
    runner.stop()
    assert "hunter2" not in caplog.text
    assert "result of workflow 'w'" in caplog.text


def test_a_lost_claim_and_a_leaving_run_are_no_warnings(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    def w() -> None:
        stop()
        stop()

    caplog.set_level(logging.DEBUG)
    breakdown.recover(memory, w).result(10)
    breakdown.wake_up()
    for runner in breakdown.runners:
        assert runner.stop(timeout=10)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    lost = [record for record in caplog.records if "is no longer held" in record.getMessage()]
    assert {record.levelno for record in lost} == {logging.DEBUG}


def test_nothing_is_done_to_the_program_s_logging(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def w() -> None:
        durable.logger.info("a line")

    root = logging.getLogger()
    before = (root.handlers.copy(), root.level, root.filters.copy())
    orchestrator(memory).start_workflow(w).result(10)
    assert (root.handlers, root.level, root.filters) == before
    for name in ("py_orchestrate", "py_orchestrate.durable", "py_orchestrate._engine.runner"):
        assert logging.getLogger(name).handlers == []
        assert logging.getLogger(name).propagate
        assert logging.getLogger(name).level == logging.NOTSET


def test_every_line_is_the_library_s(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    def w() -> None:
        raise ValueError("as it should")

    caplog.set_level(logging.DEBUG)
    runner = orchestrator(database, start=False)
    runner.invoke_workflow("w")
    runner.start()
    runner.start_workflow(w).wait(10)
    runner.stop()
    assert library_records(caplog)
    assert {record.name.partition(".")[0] for record in caplog.records} == {"py_orchestrate"}


def test_an_error_on_a_background_thread_is_seen(
    memory: MemoryDatabaseManager,
    orchestrator: MakeOrchestrator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    look = memory.look

    def broken(*args: Any, **options: Any) -> Any:
        if ended.is_set():
            return look(*args, **options)
        ended.set()
        raise RuntimeError("the loop's own trouble")

    @workflow
    def w() -> str:
        return "runs all the same"

    monkeypatch.setattr(memory, "look", broken)
    runner = orchestrator(memory, poll_interval_seconds=0.01)
    assert ended.wait(10)
    assert runner.start_workflow(w).result(10) == "runs all the same"
    records = wait_until(lambda: [record for record in caplog.records if record.levelno >= logging.WARNING])
    assert [record.getMessage() for record in records] == ["unexpected error in the background loop; it goes on"]
    assert records[0].exc_info is not None


def test_names_that_nobody_has_registered_are_told_once(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    def gone() -> str:
        return "found again"

    idle = orchestrator(database, start=False)
    handle = idle.start_workflow(gone)
    function = get_registry().workflows.pop("gone")
    runner = orchestrator(database, poll_interval_seconds=0.005)

    def warnings() -> list[str]:
        return [r.getMessage() for r in caplog.records if "nobody has registered here" in r.getMessage()]

    wait_until(warnings)
    loops = runner._engine._recovery
    before = loops._poll_due
    wait_until(lambda: loops._poll_due > before + 0.02)  # several turns later
    assert len(warnings()) == 1
    assert "'gone'" in warnings()[0]
    assert handle.status()["status"] == "processing"
    get_registry().workflows["gone"] = function
    assert handle.result(10) == "found again"


def test_a_failure_that_passes_through_generations_is_logged_once(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    def generation(n: int) -> None:
        if n == 0:
            raise ValueError("the youngest's")
        generation(n - 1)

    @workflow
    def handles() -> str:
        try:
            generation(1)
        except ValueError:
            return "handled"
        return "no failure"

    caplog.set_level(logging.INFO, logger="py_orchestrate")
    runner = orchestrator(memory)
    assert runner.start_workflow(handles).result(10) == "handled"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    runner.start_workflow(generation, 3).wait(10)
    (failed,) = [record for record in caplog.records if record.levelno > logging.INFO]
    assert failed.levelno == logging.ERROR
    assert failed.exc_info is not None
    told = [record for record in caplog.records if "the youngest's" in record.getMessage()]
    assert len(told) == 2 + 4, "each run that failed is told, the outermost as an error"
