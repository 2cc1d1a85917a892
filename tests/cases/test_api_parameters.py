"""Parameters of workflows and activities: any name and any kind that Python has, and wrong ones refused at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from py_orchestrate import BaseDatabaseManager, MemoryDatabaseManager, Orchestrator, activity, durable, workflow
from py_orchestrate._registry import Definition

from ..breakdown import Breakdown

MakeOrchestrator = Callable[..., Orchestrator]

NAMES = """
    self cls name id status args kwargs function workflow activity workflow_id timeout what types value step sequence
    database orchestrator scope fn func body key owner epoch input output error result n _ __x
""".split()  # noqa: SIM905 - a list of strings would be three times as long


def with_parameter(name: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {}
    exec(f"def function({name}, other=2): return [{name}, other]", namespace)
    return namespace["function"]


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_have_any_name(
    memory: MemoryDatabaseManager,
    breakdown: Breakdown,
    stop: Callable[[], None],
    orchestrator: MakeOrchestrator,
    name: str,
) -> None:
    act = activity("act")(with_parameter(name))
    plain = workflow("w")(with_parameter(name))

    @workflow
    def uses_act() -> list[Any]:
        seen = [
            act(**{name: 1}),
            act.submit(**{name: 2}).result(),
            act(3),
            durable.call_activity("act", **{name: 4}),
            act.map([5]),
        ]
        stop()
        return seen

    assert breakdown.recover(memory, uses_act).result(10) == [[1, 2], [2, 2], [3, 2], [4, 2], [[5, 2]]]
    runner = orchestrator(memory)
    assert runner.get_handle(runner.invoke_workflow("w", **{name: "Ann"})).result(10) == ["Ann", 2]
    assert runner.start_workflow(plain, "Bob", other=3).result(10) == ["Bob", 3]
    if name != "workflow_id":  # start_workflow's own; such a workflow takes it by position, or through invoke_workflow
        assert runner.start_workflow("w", **{name: "Eve"}).result(10) == ["Eve", 2]
    # And outside of a workflow, where they are plain calls.
    assert act(**{name: 1}) == act(1) == act.submit(**{name: 1}).result() == plain(**{name: 1}) == [1, 2]


OPTIONS = ["workflow_id", "timeout", "queue", "priority", "delay", "deduplication_key"]


@pytest.mark.parametrize("name", OPTIONS)
def test_none_is_an_argument_like_any_other(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, name: str
) -> None:
    plain = workflow("w")(with_parameter(name))
    runner = orchestrator(memory)

    @workflow
    def starts() -> str:
        return runner.start_workflow("w", **{name: None}).id

    assert runner.start_workflow(plain, **{name: None}).result(10) == [None, 2]
    assert runner.start_workflow(plain, 1, other=None).result(10) == [1, None]
    assert runner.start_workflow(plain.options(**{name: None}), 1).result(10) == [1, 2]  # type: ignore[arg-type]
    assert runner.get_handle(runner.start_workflow(starts).result(10)).result(10) == [None, 2]


def test_no_option_is_the_same_as_none(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    @workflow
    def w(n: int) -> int:
        return n

    runner = orchestrator(memory)
    assert runner.start_workflow(w, 1, **dict.fromkeys(OPTIONS)).result(10) == 1
    shown = inspect.signature(Orchestrator.start_workflow).parameters
    assert [str(shown[name]).partition(" = ")[2] for name in OPTIONS] == ["None"] * 6  # as help() has it, too


def positional_only(a: Any, b: Any = 2, /, c: Any = 3) -> list[Any]:
    return [a, b, c]


def positional_and_same_keyword(a: Any, /, **others: Any) -> list[Any]:
    return [a, others]


def variadic(*args: Any) -> list[Any]:
    return [*args]


def variadic_keywords(**kwargs: Any) -> dict[str, Any]:
    return kwargs


def everything(a: Any, b: Any = 2, *args: Any, c: Any, d: Any = 4, **kwargs: Any) -> list[Any]:
    return [a, b, args, c, d, kwargs]


def anything(*args: Any, **kwargs: Any) -> list[Any]:
    return [args, kwargs]


def keyword_only(*, a: Any, b: Any = 2) -> list[Any]:
    return [a, b]


def nothing() -> str:
    return "nothing"


def mutable_default(a: Any, seen: list[Any] = []) -> list[Any]:  # noqa: B006 - that is the point
    seen.append(a)
    return seen


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (positional_only, (1,), {}),
    (positional_only, (1, 5), {"c": 6}),
    (positional_only, (1, 5, 6), {}),
    (positional_and_same_keyword, (1,), {"a": 2, "b": 3}),
    (variadic, (), {}),
    (variadic, (1, [2], None), {}),
    (variadic_keywords, (), {}),
    (variadic_keywords, (), {"kwargs": 1, "args": 2, "self": 3, "name": 4}),
    (variadic_keywords, (), {"not an identifier": 1, "": 2, "**kwargs": 3, "*args": 4}),
    (everything, (1,), {"c": 3}),
    (everything, (1, 5, 6, 7), {"c": 3, "e": 8, "d": 9}),
    (everything, (), {"c": 3, "a": 1, "b": 5}),
    (everything, (1,), {"c": 3, "args": "a keyword", "kwargs": "another"}),
    (anything, (), {"args": 5}),
    (anything, (1, 2), {"args": 5, "kwargs": 6}),
    (anything, (1, 2), {"*args": 5, "**kwargs": 6}),
    (anything, (), {}),
    (keyword_only, (), {"a": 1}),
    (nothing, (), {}),
    (nothing, (), {}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_arguments_of_every_kind_arrive(
    database: BaseDatabaseManager,
    breakdown: Breakdown,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    @activity
    def stop() -> None:
        breakdown.here()

    act = activity("act")(function)

    @workflow
    def w(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        seen = [act(*args, **kwargs), act.submit(*args, **kwargs).result()]
        stop()
        return [*seen, durable.call_activity("act", *args, **kwargs)]

    expected = function(*args, **kwargs)
    assert breakdown.recover(database, w, args, kwargs).result(10) == [expected] * 3
    assert act(*args, **kwargs) == expected


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_a_workflow_takes_arguments_of_every_kind(
    memory: MemoryDatabaseManager,
    orchestrator: MakeOrchestrator,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    w = workflow("w")(function)
    runner = orchestrator(memory)
    assert runner.start_workflow(w, *args, **kwargs).result(10) == function(*args, **kwargs)
    if not args:
        assert runner.get_handle(runner.invoke_workflow("w", **kwargs)).result(10) == function(**kwargs)


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_binding_and_calling_are_each_other_s_inverse(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    definition = Definition("f", function)
    assert definition.call(definition.bind(args, kwargs)) == function(*args, **kwargs)


def test_plain_arguments_are_stored_by_name_as_1_0_2_does(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    act = activity("act")(everything)

    @workflow
    def w(name: str, size: int = 3) -> None:
        act(1, 2, 3, c=4, e=5)

    runner = orchestrator(memory)
    handle = runner.start_workflow(w, "Ann")
    handle.result(10)
    assert memory.list_workflows()[0].input_data == {"name": "Ann"}
    assert runner.get_history(handle.id)[0]["input"] == {"a": 1, "b": 2, "args": [3], "c": 4, "e": 5}


def test_a_mutable_default_is_python_s_own_trap_and_no_other(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    act = activity("act")(mutable_default)
    mutable_default.__defaults__ = ([],)

    @workflow
    def w() -> list[Any]:
        return [act(1), act(2)]

    assert orchestrator(memory).start_workflow(w).result(10) == [[1], [1, 2]]


# --- arguments that do not fit ----------------------------------------------------------------------------------------

WRONG: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (positional_only, (), {}, "missing a required argument: 'a'"),
    (positional_only, (1, 2, 3, 4), {}, "too many positional arguments"),
    (positional_only, (), {"a": 1}, "positional.only"),
    (positional_only, (1,), {"d": 1}, "got an unexpected keyword argument 'd'"),
    (everything, (1,), {}, "missing a required.*argument: 'c'"),
    (everything, (1,), {"a": 1, "c": 2}, "multiple values for argument 'a'"),
    (keyword_only, (1,), {}, "too many positional arguments"),
    (keyword_only, (), {"b": 1}, "missing a required.*argument: 'a'"),
    (nothing, (1,), {}, "too many positional arguments"),
    (nothing, (), {"name": 1}, "got an unexpected keyword argument 'name'"),
    (variadic, (), {"args": 1}, "got an unexpected keyword argument 'args'"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_of_a_workflow_are_refused_at_once(
    database: BaseDatabaseManager, orchestrator: MakeOrchestrator, wrong: Any
) -> None:
    function, args, kwargs, text = wrong
    w = workflow("w")(function)
    runner = orchestrator(database)
    with pytest.raises(TypeError, match=text):
        runner.start_workflow(w, *args, **kwargs)
    if not args:
        with pytest.raises(TypeError, match=text):
            runner.invoke_workflow("w", **kwargs)
    assert runner.list_workflows() == []


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_of_an_activity_fail_the_call(
    memory: MemoryDatabaseManager, breakdown: Breakdown, wrong: Any
) -> None:
    function, args, kwargs, text = wrong

    @activity
    def stop() -> None:
        breakdown.here()

    act = activity("act")(function)

    @workflow
    def w() -> list[str]:
        seen = []
        for call in (act, lambda *a, **k: act.submit(*a, **k).result()):
            with pytest.raises(TypeError, match=text) as caught:
                call(*args, **kwargs)
            seen.append(type(caught.value).__name__)
        stop()
        return seen

    assert breakdown.recover(memory, w).result(10) == ["TypeError", "TypeError"]
