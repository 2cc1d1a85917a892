"""Values: they come back as they were, or are refused at once, alike on every store and before and after a crash."""

from __future__ import annotations

import asyncio
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate.errors import SerializationError, WorkflowFailedError
from py_orchestrate.serialization import JsonSerializer

from ..breakdown import Breakdown
from ..conftest import BACKENDS, open_database
from ..likeness import assert_alike
from ..programs import Program
from . import values
from .values import REFUSED, STORABLE

MakeOrchestrator = Callable[..., Orchestrator]


class Journey:
    """A workflow that hands its argument to an activity and back, and notes what each place saw."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.seen: dict[str, list[Any]] = {"workflow": [], "activity": [], "result": []}
        self.echoed = 0

        @activity
        def echo(value: Any) -> Any:
            self.seen["activity"].append(value)
            return value

        @activity
        def stop() -> None:
            interrupt()

        @workflow
        def journey(value: Any) -> Any:
            self.seen["workflow"].append(value)
            result = echo(value)
            self.seen["result"].append(result)
            stop()
            return result

        self.workflow = journey


@pytest.mark.parametrize("which", STORABLE)
def test_a_value_keeps_its_type_and_content(memory: MemoryDatabaseManager, breakdown: Breakdown, which: str) -> None:
    value = STORABLE[which]
    journey = Journey(breakdown.here)
    handle = breakdown.recover(memory, journey.workflow, value)
    assert_alike(handle.result(10), value)
    assert_alike(journey.seen, {"workflow": [value] * 2, "activity": [value], "result": [value] * 2})


def test_every_store_keeps_every_value(database: BaseDatabaseManager, breakdown: Breakdown) -> None:
    journey = Journey(breakdown.here)
    handle = breakdown.recover(database, journey.workflow, STORABLE)
    assert_alike(handle.result(20), STORABLE)
    assert_alike(journey.seen["result"], [STORABLE] * 2)
    status = handle.status()
    assert status["status"] == "done"
    assert_alike(status["output"], STORABLE)
    assert_alike(database.get_steps(handle.id)[0].output, JsonSerializer().encode(STORABLE)[0])


@pytest.mark.parametrize("which", ["list", "dict", "set", "deque", "bytearray", "Counter", "dataclass", "pydantic"])
def test_nobody_shares_an_object_with_another(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, which: str
) -> None:
    journey = Journey(lambda: None)
    returned = orchestrator(memory).start_workflow(journey.workflow, STORABLE[which]).result(10)
    places = [STORABLE[which], returned, *(place for seen in journey.seen.values() for place in seen)]
    assert len({id(place) for place in places}) == len(places) == 5


def test_a_class_of_a_function_comes_back_typed_where_an_annotation_names_it(
    database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None]
) -> None:
    @dataclass
    class Part:
        name: str

    @dataclass
    class Whole:
        parts: list[Part]

    # What the annotations would be in a module without ``from __future__ import annotations``.
    Whole.__annotations__["parts"] = list[Part]

    def annotated(function: Any, **annotations: Any) -> Any:
        function.__annotations__ = annotations
        return function

    def build(part):
        return Whole([part, part])

    def w(part):
        whole = build(part)
        stop()
        return whole

    build = activity(annotated(build, part=Part, **{"return": Whole}))
    w = workflow(annotated(w, part=Part, **{"return": Whole | None}))
    result = breakdown.recover(database, w, Part("leg")).result(10)
    assert type(result) is Whole
    assert result == Whole([Part("leg"), Part("leg")])


# --- what cannot be stored --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", REFUSED)
def test_an_argument_that_cannot_be_stored_is_refused_at_once(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, which: str
) -> None:
    make, type_name = REFUSED[which]
    runs: list[Any] = []

    @workflow
    def w(value: Any) -> None:
        runs.append(value)

    runner = orchestrator(database)
    for value, path in ((make(), "$.value"), ({"deep": [1, make()]}, "$.value.deep[1]")):
        for start in (
            lambda value=value: runner.invoke_workflow("w", value=value),
            lambda v=value: runner.start_workflow(w, v),
        ):
            with pytest.raises(SerializationError, match="argument of workflow 'w'") as caught:
                start()
            assert isinstance(caught.value, TypeError)
            if which != "200,000 deep":
                assert f"{type_name} at {path}" in str(caught.value) or which.startswith("circular")
            assert len(str(caught.value)) < 500
        close(value)
    assert database.list_workflows() == []
    assert runs == []


@pytest.mark.parametrize("which", REFUSED)
def test_a_result_that_cannot_be_stored_fails_the_activity(
    memory: MemoryDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], which: str
) -> None:
    make, type_name = REFUSED[which]
    made: list[Any] = []

    @activity
    def go_on() -> None:
        pass

    @activity
    def bad() -> Any:
        made.append(make())
        return {"deep": (1, made[-1])}

    @workflow
    def w() -> Any:
        try:
            return bad()
        except TypeError as error:
            go_on()
            stop()
            return [type(error).__name__, str(error), getattr(error, "path", None)]

    recovered, undisturbed = breakdown.both(memory, w)
    for value in made:
        close(value)
    assert len(made) == 2  # a refused result is a recorded failure, and not tried again once the run went on
    assert recovered["output"] == undisturbed["output"]
    kind, text, path = recovered["output"]
    assert kind == "SerializationError"
    assert text.startswith("result of activity 'bad': ")
    if which != "200,000 deep":
        assert path.startswith("$.deep[1]")
        assert type_name in text


def test_an_integer_that_is_too_long_here_can_be_looked_at(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    @workflow
    def long() -> list[Any]:
        return [-(10**4000), 5, 1.5]

    @workflow
    def marked() -> Any:
        return (10**4000,)

    runner = orchestrator(memory)
    handles = [runner.start_workflow(long), runner.start_workflow(marked)]
    for handle in handles:
        handle.wait(10)
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(1000)
    try:
        digits = "1" + "0" * 4000
        assert handles[0].status()["output"] == ["-" + digits, 5, 1.5]
        assert handles[1].status()["output"] == {"$py": "tuple", "v": [digits]}
        assert len(runner.list_workflows()) == 2
        with pytest.raises(SerializationError, match="an integer of more than 1000 digits"):
            handles[0].result(10)
    finally:
        sys.set_int_max_str_digits(limit)
    assert handles[0].result(10)[0] == -(10**4000)


@pytest.mark.parametrize("which", ["file", "lock", "circular list", "200,000 deep", "subclass of float"])
def test_an_unhandled_refusal_ends_the_run(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, which: str
) -> None:
    make, _ = REFUSED[which]
    hits: Counter[str] = Counter()

    @activity
    def returns_it() -> Any:
        hits["result"] += 1
        return make()

    @activity
    def takes(value: Any) -> None:
        hits["argument"] += 1

    @workflow
    def result() -> Any:
        returns_it()

    @workflow
    def argument() -> Any:
        takes(make())

    @workflow
    def submitted() -> Any:
        takes.submit(make()).result()

    @workflow
    def output() -> Any:
        hits["output"] += 1
        return make()

    runner = orchestrator(database)
    expected = {
        result: "result of activity 'returns_it'",
        argument: "argument of activity 'takes'",
        submitted: "argument of activity 'takes'",
        output: "result of workflow 'output'",
    }
    for code, text in expected.items():
        status = runner.start_workflow(code, workflow_id=code.name).wait(10)
        assert (status["status"], status["output"]) == ("failed", None)
        assert status["error_message"].startswith(text)
        with pytest.raises(WorkflowFailedError) as caught:
            runner.get_handle(code.name).result()
        assert isinstance(caught.value.__cause__, SerializationError)
    assert hits == {"result": 1, "output": 1}
    # And a restart leaves them alone.
    assert runner.stop(timeout=10)
    again = orchestrator(database)
    assert again.list_workflows(status="processing") == []
    assert hits == {"result": 1, "output": 1}


def close(value: Any) -> None:
    """Close what Python would warn of."""
    for part in value["deep"] if isinstance(value, dict) and "deep" in value else [value]:
        if type(part).__name__ in ("Connection", "socket", "StringIO"):
            part.close()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (lambda: (n for n in range(3)), "returned a generator, which cannot be stored; return a list instead"),
        (lambda: asyncio.sleep(0), "returned a coroutine that nobody awaited; declare it with async def, or await it"),
        (lambda: (n async for n in _nothing()), "returned a generator, which cannot be stored"),
    ],
    ids=["generator", "coroutine", "async generator"],
)
def test_work_that_was_never_done_is_no_result(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, body: Callable[[], Any], text: str
) -> None:
    act = activity("act")(body)

    @workflow
    def of_activity() -> Any:
        return act()

    of_workflow = workflow("of_workflow")(body)
    runner = orchestrator(database)
    for code, subject in ((of_activity, "activity 'act'"), (of_workflow, "workflow 'of_workflow'")):
        status = runner.start_workflow(code).wait(10)
        assert (status["status"], status["output"]) == ("failed", None)
        assert f"{subject} {text}" in status["error_message"]


def test_a_future_is_no_result(database: BaseDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @activity
    def act() -> int:
        return 1

    @workflow
    def forgets() -> Any:
        return act.submit()

    @workflow
    def forgets_several() -> Any:
        return [act.submit()]

    runner = orchestrator(database)
    for code, text in (
        (forgets, "workflow 'forgets' returned a future, not what it comes to: return future.result()"),
        (forgets_several, "DurableFuture at $[0] is not storable; store what it comes to instead"),
    ):
        assert text in runner.start_workflow(code).wait(10)["error_message"]


def test_a_class_that_is_called_as_a_built_in_one_is_shown_with_its_module() -> None:
    numpy_bool = type("bool", (), {"__module__": "numpy"})
    with pytest.raises(
        SerializationError, match=r"numpy\.bool at \$\.ok is not storable; convert it with its item\(\)"
    ):
        JsonSerializer().encode({"ok": numpy_bool()})


async def _nothing() -> Any:
    for n in ():
        yield n


@pytest.mark.parametrize("text", [STORABLE[which] for which in STORABLE if type(STORABLE[which]) is str], ids=ascii)
def test_odd_text_in_an_error_and_in_a_log_line(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, text: str
) -> None:
    @activity
    def fail() -> None:
        raise ValueError(text)

    @workflow
    def w() -> None:
        fail()

    runner = orchestrator(database)
    handle = runner.start_workflow(w)
    assert handle.wait(10)["status"] == "failed"
    with pytest.raises(WorkflowFailedError) as caught:
        handle.result()
    cause = caught.value.__cause__
    assert type(cause) is ValueError
    assert str(cause)[:60_000] == text[:60_000]
    assert len(handle.status()["error_message"]) < 70_000


@pytest.mark.parametrize(
    "name", ["billing/month #1?", "a b", "漢字", "😀", "x" * 300, "'; DROP TABLE workflows; --", "a:0"]
)
def test_odd_names(database: BaseDatabaseManager, breakdown: Breakdown, stop: Callable[[], None], name: str) -> None:
    act = activity(name)(lambda n: n + 1)

    @workflow(name)
    def w(n: int) -> int:
        seen = act(n)
        stop()
        return act(seen)

    handle = breakdown.recover(database, name, n=1)
    assert handle.result(10) == 3
    assert handle.status()["name"] == name
    assert [run.name for run in database.page_workflows(name=name)] == [name]


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud83d", "a\nb", "\x7f"])
def test_names_that_no_store_could_show_are_refused(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, name: str
) -> None:
    for decorate in (activity, workflow):
        with pytest.raises(ValueError, match="the name of a"):
            decorate(name)

    @workflow
    def w() -> list[str]:
        with pytest.raises(ValueError, match="the name of a") as caught:
            durable.call_activity(name)
        return [str(caught.value)]

    runner = orchestrator(memory)
    handle = runner.start_workflow(w)
    assert "the name of an activity" in handle.result(10)[0]
    assert runner.get_history(handle.id) == []


# --- any value --------------------------------------------------------------------------------------------------------

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63)
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["", "$py", "\0", "\ud83d", "\ude00", "\ud83d\ude00", "a\u2028"])
    | st.binary()
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from([*values.Colour, *values.Level, *values.Word, values.Right.READ | values.Right.WRITE])
    | st.builds(Path, st.sampled_from(["a", "a/b", "../c"]))
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-2, 1]))
)
_KEYS = st.integers() | st.text() | st.booleans() | st.none() | st.tuples(st.integers(), st.text()) | st.dates()


def _containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(parts, max_size=4)
        | st.tuples(parts, parts)
        | st.dictionaries(st.text() | st.just("$py"), parts, max_size=4)
        | st.dictionaries(_KEYS, parts, max_size=4)
        | st.sets(_KEYS, max_size=4)
        | st.frozensets(_KEYS, max_size=4)
        | st.builds(values.Plain, parts, parts)
        | st.builds(values.Typed, st.text(), st.integers())
        | st.builds(values.Item, st.text(), st.decimals(), st.sets(st.text(), max_size=2))
        | st.lists(parts, max_size=3).map(lambda items: values.deque(items, maxlen=5))
        | st.dictionaries(_KEYS, parts, max_size=3).map(values.OrderedDict)
        | st.lists(_KEYS, max_size=4).map(Counter)
        | st.builds(values.Model, id=st.uuids(), level=st.sampled_from(values.Level))
    )


_VALUES = st.recursive(_SCALARS, _containers, max_leaves=12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_value_is_replayed_as_it_was_in_the_first_run(backend: str, tmp_path: Path) -> None:
    made: list[Orchestrator] = []

    def orchestrator(database: BaseDatabaseManager) -> Orchestrator:
        made.append(Orchestrator(db_manager=database))
        made[-1].start()
        return made[-1]

    @hypothesis.settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.lists(_VALUES, min_size=1, max_size=8))
    def check(given: list[Any]) -> None:
        serializer = JsonSerializer()
        accepted = []
        for value in given:
            try:
                serializer.encode(value)
            except SerializationError:
                continue  # refused at once, which is the other thing that may happen
            accepted.append(value)
        with Breakdown(orchestrator) as breakdown:
            journey = Journey(breakdown.here)
            handle = breakdown.recover(database, journey.workflow, accepted)
            assert_alike(handle.result(10), accepted)
        while made:
            made.pop().stop()
        assert_alike(journey.seen["result"], [accepted, accepted])
        assert_alike(journey.seen["activity"], [accepted])

    database = open_database(backend, tmp_path)
    try:
        check()
    finally:
        for each in made:
            each.stop(timeout=10)
        database.close()


# --- processes that really die ----------------------------------------------------------------------------------------


@pytest.mark.crash
def test_values_over_a_crash(program: Callable[[str], Program]) -> None:
    script = program("""
        import enum
        from collections import namedtuple
        from dataclasses import dataclass
        from datetime import datetime, timezone
        from decimal import Decimal
        from uuid import UUID

        class Level(enum.IntEnum):
            HIGH = 2

        Point = namedtuple("Point", "x y")

        @dataclass
        class Item:
            name: str
            price: Decimal

        VALUES = [
            datetime(2024, 1, 2, tzinfo=timezone.utc), datetime(2024, 1, 2), Decimal("1.10"), UUID(int=1),
            b"\\x00\\xff", {1, 2}, (1, 2), Level.HIGH, Point(1, 2), Item("pen", Decimal("1.10")),
            float("nan"), "hi\\ud83d", "a\\0b",
            2**80, {1: "a"}, -0.0, [(), {}, None],
        ]

        @activity
        def echo(value):
            mark("echo")
            return value

        @activity
        def last():
            crash()

        @workflow
        def w(values):
            seen = [echo(value) for value in values]
            last()
            return [ascii(value) for value in seen] + [ascii(values)]

        run("w", values=VALUES)
        """)
    script.crash(kill=True)
    recovered = script.recover().output
    assert script.hits("echo") == 17
    (script.folder / "runs.db").unlink()
    assert script.run().output == recovered
    assert recovered[2] == "Decimal('1.10')"
    assert recovered[7:10] == ["<Level.HIGH: 2>", "Point(x=1, y=2)", "Item(name='pen', price=Decimal('1.10'))"]


def test_the_comparison_itself() -> None:
    """The tests above are worth what it is worth."""
    unlike = [
        1,
        True,
        1.0,
        "1",
        b"1",
        None,
        0.0,
        -0.0,
        math.nan,
        math.inf,
        (1,),
        [1],
        {1},
        frozenset({1}),
        {1: 1},
        {"1": 1},
    ]
    for n, one in enumerate(unlike):
        assert_alike([one], [one])
        for other in unlike[n + 1 :]:
            with pytest.raises(AssertionError):
                assert_alike(one, other)
    for one, other in [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([[1]], [[True]]), ({1: 0.0}, {1: -0.0})]:
        with pytest.raises(AssertionError):
            assert_alike(one, other)
