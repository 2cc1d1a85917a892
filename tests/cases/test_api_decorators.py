"""What may be decorated, in which order, and what is refused where it is decorated."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import multiprocessing
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, workflow
from py_orchestrate.decorators import get_registry

from ..names import shown

MakeOrchestrator = Callable[..., Orchestrator]


@pytest.fixture
def run(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> Callable[..., Any]:
    """Return a function that runs a workflow and returns its result."""
    runner = orchestrator(memory)
    return lambda code, *args, **kwargs: runner.start_workflow(code, *args, **kwargs).result(10)


def plain(n: int) -> int:
    """Add one."""
    return n + 1


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorate", [activity, workflow])
def test_the_three_forms(decorate: Callable[..., Any]) -> None:
    registered = get_registry().activities if decorate is activity else get_registry().workflows
    for form, name in ((decorate, "plain"), (decorate(), "plain"), (decorate("a name"), "a name")):
        registered.clear()
        made = form(plain)
        assert list(registered) == [name]
        assert registered[name] is plain
        assert (made.name, made.fn, made(1)) == (name, plain, 2)


@pytest.mark.parametrize("decorate", [activity, workflow])
def test_a_decorated_function_looks_like_the_function(decorate: Callable[..., Any]) -> None:
    made = decorate(plain)
    assert (made.__name__, made.__doc__, made.__module__) == ("plain", "Add one.", __name__)
    assert inspect.signature(made) == inspect.signature(plain)
    assert made.__wrapped__ is plain
    assert "plain" in repr(made)
    assert callable(made)


@activity
def halve(n: int) -> float:
    return n / 2


class Halves:
    """Something decorated that is not at the top level."""

    @staticmethod
    @workflow("halve flow")
    def flow(n: int) -> float:
        return n / 2


class Third:
    def __call__(self, n: int) -> float:
        return n / 3


third = activity("third")(Third())


@pytest.mark.parametrize("decorated", [halve, Halves.flow, third], ids=["activity", "static workflow", "object"])
def test_a_decorated_function_is_pickled_and_copied_as_a_function_is(decorated: Any) -> None:
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert copy.deepcopy([decorated]) == [decorated]


def test_a_process_pool_finds_a_decorated_function() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(halve, [2, 4])) == [1, 2]


def test_what_has_no_name_of_its_own_is_not_pickled() -> None:
    for decorated in (halve.options(timeout=5), activity("local")(lambda n: n)):
        with pytest.raises((pickle.PicklingError, AttributeError), match=r"not the same object|local object"):
            pickle.dumps(decorated)


def test_marks_of_1_0_2() -> None:
    assert (activity(plain)._is_activity, activity("n")(plain)._activity_name) == (True, "n")
    assert (workflow(plain)._is_workflow, workflow("n")(plain)._workflow_name) == (True, "n")


def test_one_function_may_be_activity_and_workflow_under_two_names(run: Callable[..., Any]) -> None:
    first, second = activity("first")(plain), activity("second")(plain)

    @workflow
    def w() -> list[int]:
        return [first(1), second(2)]

    assert run(w) == [2, 3]
    assert run(workflow("plain")(plain), 4) == 5


# --- what is refused --------------------------------------------------------------------------------------------------


def generates() -> Iterator[int]:
    yield 1


async def generates_async() -> AsyncIterator[int]:
    yield 1


async def coroutine(n: int = 1) -> int:
    return n


class Service:
    def method(self, n: int) -> int:
        return n

    @classmethod
    def of_class(cls, n: int) -> int:
        return n

    @staticmethod
    def static(n: int) -> int:
        return n


class AddOne:
    def __call__(self, n: int) -> int:
        return n + 1


class AsyncCallable:
    async def __call__(self, n: int) -> int:
        return n + 1


BOTH = [activity, workflow]


@pytest.mark.parametrize("decorate", BOTH)
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (generates, "is a generator, which cannot be stored; return a list instead"),
        (functools.partial(generates), "is a generator"),
        (generates_async, "is a generator"),
        (Service, "is a class; decorate a function that makes the object"),
        (Service.method, "is a method, whose object could not be stored"),
        (Service().method, "is a method"),
        (Service.of_class, "is a method"),
        (vars(Service)["of_class"], "classmethod"),
        (property(plain), "property"),
        (dict, "is a class"),
        (min, "has no signature"),
        (5, "takes a name or a function, not int"),
        (b"name", "takes a name or a function, not bytes"),
        (["name"], "takes a name or a function, not list"),
    ],
    ids=shown,
)
def test_what_cannot_be_run_is_refused(decorate: Callable[..., Any], function: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        decorate(function)
    if callable(function):
        with pytest.raises(TypeError, match=text):
            decorate("name")(function)
    assert (get_registry().activities, get_registry().workflows) == ({}, {})


@pytest.mark.parametrize("decorate", BOTH)
@pytest.mark.parametrize("argument", [5, None, "text", [plain]], ids=shown)
def test_what_is_no_function_is_refused(decorate: Callable[..., Any], argument: Any) -> None:
    with pytest.raises(TypeError, match="decorates a function, not"):
        decorate("name")(argument)


@pytest.mark.parametrize("decorate", BOTH)
def test_what_has_no_name_is_refused_without_one(decorate: Callable[..., Any]) -> None:
    for function in (lambda n: n, functools.partial(plain, 1), AddOne()):
        with pytest.raises(TypeError, match="has no name of its own; give it one"):
            decorate(function)
        decorate("name")(function)
        get_registry().activities.clear()
        get_registry().workflows.clear()


@pytest.mark.parametrize("function", [coroutine, functools.partial(coroutine, 1), AsyncCallable()], ids=shown)
def test_whatever_is_async_can_be_a_workflow(orchestrator: MakeOrchestrator, function: Callable[..., Any]) -> None:
    made = workflow("w")(function)
    arguments = () if isinstance(function, functools.partial) else (1,)
    expected = 2 if isinstance(function, AsyncCallable) else 1
    assert orchestrator(MemoryDatabaseManager()).start_workflow(made, *arguments).result(10) == expected
    plain_call = made(*arguments)
    assert inspect.iscoroutine(plain_call)
    assert asyncio.run(plain_call) == expected


@pytest.mark.parametrize("second", BOTH)
@pytest.mark.parametrize("first", BOTH)
def test_decorating_twice_is_refused(first: Callable[..., Any], second: Callable[..., Any]) -> None:
    made = first(plain)
    for decorate in (second, second("other")):
        with pytest.raises(TypeError, match="is decorated twice"):
            decorate(made)


def test_methods_are_refused_in_their_class_body() -> None:
    for decorate in BOTH:
        with pytest.raises(TypeError, match="make it a function or a @staticmethod"):

            class Broken:
                @decorate
                def method(self) -> None: ...

        with pytest.raises(TypeError, match="is a method"):

            class AlsoBroken:
                @classmethod
                @decorate
                def method(cls) -> None: ...

        with pytest.raises(TypeError, match="classmethod"):

            class BrokenTheOtherWay:
                @decorate
                @classmethod
                def method(cls) -> None: ...


def test_a_function_whose_first_parameter_is_called_self_is_no_method(run: Callable[..., Any]) -> None:
    @activity
    def act(self: int) -> int:
        return self + 1

    @workflow
    def w(self: int) -> int:
        return act(self)

    assert run(w, 1) == 2
    assert run(w, self=1) == 2


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_static_methods_in_both_orders(run: Callable[..., Any]) -> None:
    class Steps:
        @staticmethod
        @activity("under")
        def under(n: int) -> int:
            return n + 1

        @activity("over")
        @staticmethod
        def over(n: int) -> int:
            return n * 10

        @staticmethod
        @workflow("flow under")
        def flow_under(n: int) -> list[int]:
            return [Steps.under(n), Steps.over(n), Steps().under(n), Steps().over(n)]

        @workflow("flow over")
        @staticmethod
        def flow_over(n: int) -> list[int]:
            return [*Steps.under.map([n]), Steps.over.submit(n).result()]

    assert run(Steps.flow_under, 2) == [3, 20, 3, 20]
    assert run(Steps().flow_over, 2) == [3, 20]
    assert Steps().over(2) == Steps.over(2) == 20


def test_partials_and_callable_objects(run: Callable[..., Any]) -> None:
    def power(base: int, exponent: int, offset: int = 0) -> int:
        return base**exponent + offset

    square = activity("square")(functools.partial(power, exponent=2))
    two_to = activity("two_to")(functools.partial(power, 2))
    nested = activity("nested")(functools.partial(functools.partial(power, 2), offset=1))
    add_one = activity("add_one")(AddOne())
    add_one_async = activity("add_one_async")(AsyncCallable())
    later = activity("later")(functools.partial(coroutine, 7))
    bound = workflow("bound")(functools.partial(lambda a, b: [a, b], 1))

    @workflow
    def w() -> list[int]:
        return [square(3), two_to(3), nested(3), add_one(1), add_one_async(1), later()]

    assert run(w) == [9, 8, 9, 2, 2, 7]
    assert run(bound, 2) == [1, 2]


def traced(calls: list[str]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append(function.__name__)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def test_other_decorators_under_and_over(run: Callable[..., Any]) -> None:
    under: list[str] = []
    over: list[str] = []

    @activity
    @traced(under)
    def inside(n: int) -> int:
        return n + 1

    @traced(over)
    @activity
    def outside(n: int) -> int:
        return n + 10

    @activity
    @functools.cache
    def cached(n: int) -> int:
        return n + 100

    @activity
    @contextlib.contextmanager
    def manager() -> Iterator[int]:
        yield 1

    @traced(over)
    @workflow
    @traced(under)
    def w(n: int) -> list[int]:
        return [inside(n), outside(n), cached(n), cached(n)]

    assert run(w, 1) == [2, 11, 101, 101]
    # What is over the workflow is not the workflow's: the run is made from what was registered.
    assert (under, over) == (["w", "inside"], ["outside"])
    assert w(1) == [2, 11, 101, 101]


def test_functions_of_singledispatch(run: Callable[..., Any]) -> None:
    @functools.singledispatch
    def show(x: Any, suffix: str = "") -> str:
        return f"anything{suffix}"

    @show.register
    def _(x: int, suffix: str = "") -> str:
        return f"an int{suffix}"

    act = activity(show)

    @workflow
    def flow() -> list[str]:
        return [act(3), act("3", suffix="!"), act.submit(4, "?").result()]

    assert run(flow) == ["an int", "anything!", "an int?"]
    assert run(workflow("show flow")(show), 5) == "an int"
    with pytest.raises(TypeError, match="positional"):
        run("show flow", x=5)


def test_a_decorator_without_wraps_needs_a_name(run: Callable[..., Any]) -> None:
    def careless(function: Any) -> Any:
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @activity
    @careless
    def one(n: int) -> int:
        return n

    assert one.name == "wrapper"

    @activity("two")
    @careless
    def two(n: int) -> int:
        return n * 2

    @workflow
    def w() -> list[int]:
        return [one(1), two(1)]

    assert run(w) == [1, 2]


def test_async_activities(run: Callable[..., Any]) -> None:
    @activity
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    @activity
    async def together(n: int) -> list[int]:
        return await asyncio.gather(later(n), later.fn(n + 1))

    @activity
    async def meeting(n: int) -> int:
        return n

    @workflow
    def w() -> list[Any]:
        return [later(1), later.submit(2).result(), later.map([3, 4]), together(5), meeting(1)]

    assert run(w) == [2, 3, [4, 5], [6, 7], 1]
    # Outside of a workflow it is the plain call that it was, of which one awaits the result.
    assert asyncio.run(later(1)) == 2


def test_async_activities_share_one_loop_and_run_side_by_side(run: Callable[..., Any]) -> None:
    loops: set[int] = set()

    @activity
    async def meet(gate: int) -> int:
        loops.add(id(asyncio.get_running_loop()))
        for _ in range(1000):
            if waiting[gate] == 2:
                return gate
            await asyncio.sleep(0.001)
        raise AssertionError("met nobody")

    waiting = {1: 0}

    @activity
    async def arrive(gate: int) -> int:
        waiting[gate] += 1
        return await meet.fn(gate)

    @workflow
    def w() -> list[int]:
        return arrive.map([1, 1])

    assert run(w) == [1, 1]
    assert len(loops) == 1


def test_a_lambda_that_returns_a_coroutine_leaves_no_warning(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, recwarn: pytest.WarningsRecorder
) -> None:
    import gc

    careless = activity("careless")(lambda n: coroutine(n + 1))
    flow = workflow("flow")(lambda: coroutine(2))

    @workflow
    def w() -> Any:
        return careless(1)

    runner = orchestrator(memory)
    for code, subject in ((w, "activity 'careless'"), (flow, "workflow 'flow'")):
        status = runner.start_workflow(code).wait(10)
        assert status["status"] == "failed"
        assert status["error_message"] == (
            f"{subject} returned a coroutine that nobody awaited; declare it with async def, or await it"
        )
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


def test_a_workflow_called_as_a_function(run: Callable[..., Any]) -> None:
    @activity
    def act(n: int) -> int:
        return n + 1

    @workflow
    def inner(n: int) -> int:
        return act(n)

    assert inner(1) == 2
    assert run(inner, 1) == 2
