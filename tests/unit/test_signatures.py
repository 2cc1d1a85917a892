"""What is read from a function's code is what ``inspect`` says of it."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from py_orchestrate._signatures import (
    Parameters,
    annotations_of,
    innermost,
    is_coroutine_function,
    is_generator_function,
    is_plain,
)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class CallableObject:
    def __call__(self, a, b=2): ...


async def coroutine(a): ...


def generator(a):
    yield a


async def async_generator(a):
    yield a


FUNCTIONS: list[Callable[..., Any]] = [
    lambda: ...,
    lambda a: ...,
    lambda a, b=2: ...,
    lambda a=1, b=2: ...,
    lambda a, *, b: ...,
    lambda a=1, *, b=2: ...,
    lambda *, b, a=1: ...,
    lambda a, /, b=2: ...,
    lambda *a, b=2: ...,
    lambda a, **b: ...,
    lambda a, /, *c, b=2, **d: ...,
    functools.partial(lambda a, b, c: ..., 1),
    functools.partial(lambda a, b=2: ..., b=3),
    wrapped(lambda a, b=2: ...),
    CallableObject(),
    coroutine,
    generator,
    async_generator,
]


def calls() -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    for count in range(4):
        for names in itertools.chain.from_iterable(itertools.combinations("abcx", size) for size in range(4)):
            for order in itertools.permutations(names):
                yield tuple(range(count)), {name: name for name in order}


@pytest.mark.parametrize(
    ("function", "skip_first"), [*((each, False) for each in FUNCTIONS), *((each, True) for each in FUNCTIONS[1:6])]
)
def test_arguments_are_bound_as_inspect_binds_them(function: Callable[..., Any], skip_first: bool) -> None:
    signature = inspect.signature(function)
    if skip_first:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    parameters = Parameters(function, skip_first=skip_first)
    assert set(parameters.names) == set(signature.parameters)
    for args, kwargs in calls():
        bound = parameters.bind(args, kwargs)
        try:
            expected = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:
            assert bound is None, (args, kwargs)
        else:
            if parameters.are_named:
                assert (bound, list(bound or ())) == (expected, list(expected))
            else:
                assert bound is None


def test_a_plain_function_is_read_without_inspect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "signature", lambda _: pytest.fail("inspect was asked"))
    assert Parameters(lambda a, b=2: ...).bind((1,), {"b": 3}) == {"a": 1, "b": 3}
    with pytest.raises(pytest.fail.Exception, match="inspect was asked"):
        Parameters(functools.partial(coroutine))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sorts_of_functions(function: Callable[..., Any]) -> None:
    assert is_coroutine_function(function) is inspect.iscoroutinefunction(function)
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    assert is_generator_function(function) is is_generator


def test_a_function_that_is_marked_as_async_is() -> None:
    def function() -> Any: ...

    assert is_plain(function)
    assert not is_coroutine_function(function)
    assert is_coroutine_function(inspect.markcoroutinefunction(function))


def test_what_is_under_wrappers() -> None:
    assert innermost(wrapped(functools.partial(wrapped(coroutine), 1))) is coroutine


def test_annotations() -> None:
    def function(a: int, b): ...

    function.__annotations__ = {"a": int}
    assert annotations_of(wrapped(function)) == {"a": int}
    function.__annotations__ = {"a": "int"}
    assert annotations_of(wrapped(function)) == {"a": int}
    function.__annotations__ = {"a": "Missing"}
    with pytest.raises(NameError):
        annotations_of(function)
