"""Exceptions: what becomes of them when their class is gone, of their tracebacks, and over a crash."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, workflow
from py_orchestrate.errors import ActivityError, WorkflowFailedError

from ..breakdown import Breakdown
from . import failures

MakeOrchestrator = Callable[..., Orchestrator]


# --- classes that are gone or changed ---------------------------------------------------------------------------------


def test_a_class_that_is_gone(
    database: BaseDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    orchestrator: MakeOrchestrator,
) -> None:
    @activity
    def go_on() -> None:
        pass

    @activity
    def fail() -> None:
        raise failures.Api(503, "busy")

    @workflow
    def w() -> list[Any]:
        try:
            fail()
        except Exception as error:
            go_on()
            stop()
            return [type(error).__name__, str(error), getattr(error, "type_name", None)]
        return []

    handle = breakdown.recover(database, w, change=lambda: monkeypatch.delattr(failures, "Api"))
    assert handle.result(10) == ["ActivityError", "503: busy", f"{failures.__name__}:Api"]
    step, *_ = orchestrator(database, start=False).get_history(handle.id)
    assert (step["error_type"], step["error_message"]) == (f"{failures.__name__}:Api", "503: busy")


@pytest.mark.parametrize(
    "replacement",
    [
        type("Api", (), {}),
        "text",
        type("Api", (Exception,), {"__str__": lambda self: "something else"}),
        type("Api", (Exception,), {"__new__": lambda cls: Exception.__new__(cls)}),  # noqa: PLW0108 - takes no argument
        type("Api", (Exception,), {"__slots__": (), "code": property(lambda self: 1 / 0)}),
    ],
    ids=["no exception", "no class", "other text", "takes nothing", "hostile"],
)
def test_a_class_that_changed(
    memory: MemoryDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    replacement: Any,
) -> None:
    @activity
    def go_on() -> None:
        pass

    @activity
    def fail() -> None:
        raise failures.Api(503, "busy")

    @workflow
    def w() -> list[Any]:
        try:
            fail()
        except Exception as error:
            go_on()
            stop()
            return [str(error)]
        return []

    handle = breakdown.recover(memory, w, change=lambda: monkeypatch.setattr(failures, "Api", replacement))
    assert handle.result(10) == ["503: busy"]


def test_reading_a_failure_imports_nothing(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    import types

    asked: list[str] = []
    lazy = types.ModuleType("a_lazy_module")

    def answer(name: str) -> Any:
        asked.append(name)
        raise ImportError(name)

    lazy.__getattr__ = answer  # type: ignore[method-assign]
    sys.modules[lazy.__name__] = lazy
    try:
        gone = type("Gone", (Exception,), {"__module__": lazy.__name__})

        @activity
        def fail() -> None:
            raise gone("text")

        @workflow
        def w() -> str:
            try:
                fail()
            except ActivityError as error:
                return error.type_name
            return ""

        assert orchestrator(memory).start_workflow(w).result(10) == "a_lazy_module:Gone"
    finally:
        del sys.modules[lazy.__name__]
    assert asked == []


def test_an_exception_that_has_another_text_each_time(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    @activity
    def fail() -> None:
        raise failures.CountsItsReadings

    @workflow
    def w() -> list[Any]:
        try:
            fail()
        except ActivityError as error:
            seen = [str(error), str(error), error.type_name]
            stop()
            return seen
        return []

    recovered, undisturbed = breakdown.both(memory, w)
    for status in (recovered, undisturbed):
        first, second, type_name = status["output"]
        assert first == second
        assert type_name.endswith(":CountsItsReadings")


# --- what else there is to an exception -------------------------------------------------------------------------------


def test_the_traceback_shows_the_activity_and_not_the_library(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    def deeper() -> None:
        raise ValueError("deep down")

    @activity
    def fail() -> None:
        try:
            deeper()
        except ValueError as error:
            raise RuntimeError("on top") from error

    @workflow
    def w() -> None:
        fail()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    with pytest.raises(WorkflowFailedError) as caught:
        handle.result(10)
    (step,) = runner.get_history(handle.id)
    for text in (step["traceback"], caught.value.traceback_text):
        assert text.index("deep down") < text.index("direct cause") < text.index("on top")
        assert text.count("in deeper") == 1
    assert "py_orchestrate" not in step["traceback"].replace("test_errors.py", "")
    cause = caught.value.__cause__
    assert isinstance(cause, RuntimeError)
    assert isinstance(cause.__cause__, ValueError)


@pytest.mark.parametrize("depth", [900, 20])
def test_a_long_traceback_is_shortened(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, depth: int
) -> None:
    def recurse(n: int) -> None:
        (recurse if n % 2 else again)(n - 1) if n else fail_long()

    def fail_long() -> None:
        raise ValueError("x" * 30_000)

    def again(n: int) -> None:
        recurse(n)

    @activity
    def fail() -> None:
        recurse(depth)

    @workflow
    def w() -> None:
        fail()

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    handle.wait(10)
    (step,) = runner.get_history(handle.id)
    assert len(step["traceback"]) < 21_000
    assert "in fail" in step["traceback"]
    assert "shortened" in step["traceback"]


def test_a_failure_that_passes_through_two_workflows_keeps_its_class(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    runner = orchestrator(memory)

    @activity
    def fail() -> None:
        raise failures.local_class()

    @workflow
    def inner() -> None:
        fail()

    handle = runner.start_workflow(inner)
    with pytest.raises(WorkflowFailedError) as caught:
        handle.result(10)
    assert caught.value.type_name.endswith("local_class.<locals>.Local")
    assert isinstance(caught.value.__cause__, ActivityError)
    assert caught.value.__cause__.type_name == caught.value.type_name

    @workflow
    def outer() -> None:
        runner.get_handle(handle.id).result()

    status = runner.start_workflow(outer).wait(10)
    assert status["error_message"] == f"workflow {handle.id} ended as failed: of a function"


def test_a_message_that_is_a_secret_s_neighbour_holds_no_argument(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @activity
    def act(value: Any) -> None:
        pass

    @workflow
    def w() -> None:
        act({"password": {"hunter2": threading.Lock()}})

    status = orchestrator(memory).start_workflow(w).wait(10)
    assert "argument of activity 'act': lock at $.value.password.hunter2 is not storable" in status["error_message"]


@pytest.mark.parametrize("method", ["load_outcomes", "finish_and_claim"])
def test_a_store_that_raises_its_driver_s_errors_does_not_lose_the_run(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    original = getattr(memory, method)
    calls: list[int] = []

    def fails_twice(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= 2:
            raise OSError("the driver's own")
        return original(*args, **kwargs)

    @workflow
    def w() -> str:
        return "done after all"

    idle = orchestrator(memory, start=False)
    handle = idle.start_workflow(w)  # so that it is taken up from the store, with its history
    monkeypatch.setattr(memory, method, fails_twice)
    orchestrator(memory, poll_interval_seconds=0.01)
    assert handle.result(10) == "done after all"
    assert len(calls) == 3


# --- processes that really die ----------------------------------------------------------------------------------------


@pytest.mark.crash
def test_errors_over_a_crash(program: Any) -> None:
    script = program("""
        import asyncio

        class Api(Exception):
            def __init__(self, code, body):
                super().__init__(f"{code}")
                self.code, self.body = code, body

        RAISED = {
            "api": lambda: Api(503, "busy"),
            "exit": lambda: SystemExit(3),
            "interrupt": lambda: KeyboardInterrupt(),
            "cancelled": lambda: asyncio.CancelledError(),
            "file": lambda: FileNotFoundError(2, "gone", "x.txt"),
            "group": lambda: ExceptionGroup("many", [KeyError("k")]),
        }

        @activity
        def call(which):
            mark("call")
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise RAISED[which]() from error

        @activity
        def go_on():
            pass

        @activity
        def last():
            crash()

        @workflow
        def w():
            seen = []
            for which in RAISED:
                try:
                    call(which)
                except BaseException as e:
                    seen.append([type(e).__name__, str(e), getattr(e, "code", None), type(e.__cause__).__name__])
            go_on()
            last()
            return seen
        """)
    expected = [
        ["Api", "503", 503, "ZeroDivisionError"],
        ["SystemExit", "3", 3, "ZeroDivisionError"],
        ["KeyboardInterrupt", "", None, "ZeroDivisionError"],
        ["CancelledError", "", None, "ZeroDivisionError"],
        ["FileNotFoundError", "[Errno 2] gone: 'x.txt'", None, "ZeroDivisionError"],
        ["ExceptionGroup", "many (1 sub-exception)", None, "ZeroDivisionError"],
    ]
    script.crash()
    assert script.recover().output == expected
    assert script.hits("call") == 6
    without_class = script.source.replace("class Api", "class Renamed").replace("Api(503", "Renamed(503")
    recovered = script.recover(without_class)  # it is done by now; looking at it must work
    assert recovered.output == expected


@pytest.mark.crash
def test_a_class_that_is_gone_after_a_crash(program: Any) -> None:
    source = """
        class Api(Exception):
            pass

        @activity
        def call():
            raise Api("busy")

        @activity
        def go_on():
            pass

        @activity
        def last():
            crash()

        @workflow
        def w():
            try:
                call()
            except Exception as error:
                go_on()
                last()
                return [type(error).__name__, str(error), getattr(error, "type_name", None)]
        """
    script = program(source)
    script.crash(kill=True)
    recovered = script.recover(source.replace("Api", "Renamed"))
    assert recovered.output == ["ActivityError", "busy", "__main__:Api"]


# --- classes that the process which replays does not have, or has under another name ----------------------------------


@pytest.mark.crash
def test_a_class_that_only_the_activity_imports(program: Any) -> None:
    """In a replay the activity does not run, so nothing else imports the module."""
    script = program("""
        @activity
        def fetch():
            mark("fetch")
            import urllib.error
            raise urllib.error.URLError("down")

        @activity
        def go_on():
            mark("go_on")

        @activity
        def last():
            crash()

        @workflow
        def w():
            try:
                fetch()
            except OSError as error:
                go_on()
                last()
                return [type(error).__name__, str(error), "urllib.error" in sys.modules]
        """)
    script.crash(kill=True)
    assert script.recover().output == ["URLError", "<urlopen error down>", True]
    assert (script.hits("fetch"), script.hits("go_on")) == (1, 1)


SCRIPT_WITH_CLASSES = """
    from dataclasses import dataclass
    from enum import Enum

    class PayError(Exception):
        pass

    class Kind(Enum):
        BOOK = "book"

    @dataclass
    class Item:
        kind: Kind

    @activity
    def make():
        mark("make")
        return [Item(Kind.BOOK)]

    @activity
    def pay():
        mark("pay")
        raise PayError("no money")

    @activity
    def go_on():
        pass

    @activity
    def last():
        crash()

    @workflow
    def w(item=None):
        (made,) = make()
        try:
            pay()
        except PayError as error:
            go_on()
            last()
            return [type(made) is Item, made.kind is Kind.BOOK, made == item, str(error)]

    if __name__ == "__main__":
        run("w", item=Item(Kind.BOOK))
    """
IMPORTER = "import script; script.run('w', item=script.Item(script.Kind.BOOK))"
ONCE = "\n    elif 'importer' not in sys.argv[0]: raise SystemExit('the script was imported by itself')"


@pytest.mark.crash
@pytest.mark.parametrize("first", ["started", "imported"])
def test_a_script_has_the_same_classes_whether_it_is_started_or_imported(program: Any, first: str) -> None:
    """As its workflows and activities are the same."""
    script = program(SCRIPT_WITH_CLASSES + ONCE)
    script.crash(kill=True, importer=None if first == "started" else IMPORTER)
    ended = script.recover(importer=IMPORTER if first == "started" else None)
    assert ended.output == [True, True, True, "no money"]
    assert (script.hits("make"), script.hits("pay")) == (1, 1)
