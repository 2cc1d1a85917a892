"""What is registered, without decorators."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from py_orchestrate import RetryPolicy
from py_orchestrate._options import ActivityOptions
from py_orchestrate._registry import Definition, WorkflowRegistry
from py_orchestrate._signatures import is_coroutine_function
from py_orchestrate.errors import ActivityNotFoundError, DuplicateNameError, WorkflowNotFoundError


def from_file(path: str, source: str = "def act(): return FILE") -> Callable[..., Any]:
    """Return a function that was compiled from a file by that name."""
    namespace: dict[str, Any] = {"__name__": "a_module", "FILE": path}
    exec(compile(source, path, "exec"), namespace)
    return namespace["act"]


def test_getting_what_is_registered() -> None:
    registry = WorkflowRegistry()
    first, second = (lambda: 1), (lambda: 2)
    registry.register_activity("name", first)
    registry.register_workflow("name", second)
    assert registry.get_activity("name") is first
    assert registry.get_workflow("name") is second
    assert (registry.activities, registry.workflows) == ({"name": first}, {"name": second})
    assert type(registry.activities) is type(registry.workflows) is dict


def test_getting_what_is_not_registered() -> None:
    registry = WorkflowRegistry()
    registry.register_activity("charge", lambda: 1)
    registry.register_activity("change", lambda: 1)
    registry.register_workflow("order", lambda: 1)
    with pytest.raises(
        ActivityNotFoundError, match=r"^Activity 'charg' not found. Did you mean 'charge' or 'change'\?$"
    ):
        registry.get_activity("charg")
    with pytest.raises(WorkflowNotFoundError, match=r"^Workflow 'charge' not found$"):
        registry.get_workflow("charge")
    with pytest.raises(ActivityNotFoundError, match=r"^Activity 'order' not found$") as caught:
        registry.activity_definition("order")
    assert caught.value.name == "order"


def test_a_definition_is_made_once_and_anew_for_another_function() -> None:
    registry = WorkflowRegistry()
    registry.activities["act"] = lambda a: a
    first = registry.activity_definition("act")
    assert registry.activity_definition("act") is first
    registry.activities["act"] = lambda b: b
    second = registry.activity_definition("act")
    assert second is not first
    assert second.parameters.names == ("b",)
    registry.workflows["act"] = lambda c: c
    assert registry.workflow_definition("act").parameters.names == ("c",)
    assert registry.activity_definition("act") is second


def test_files(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    one, other = str(tmp_path / "one.py"), str(tmp_path / "other.py")
    for path in (one, other):
        (tmp_path / path).write_text("")
    registry = WorkflowRegistry()
    registry.register_activity("act", from_file(one))
    again = from_file(one)
    registry.register_activity("act", again)
    registry.register_activity("act", from_file(one))
    assert len(caplog.records) == 1  # one warning for a name, not for each time
    assert caplog.records[0].levelno == logging.WARNING
    assert "activity 'act' is defined again, by a_module.act" in caplog.text
    with pytest.raises(DuplicateNameError) as caught:
        registry.register_activity("act", from_file(other))
    assert f"a_module.act ({one}:1)" in str(caught.value)
    assert f"a_module.act ({other}:1)" in str(caught.value)
    assert registry.get_activity("act")() == one


def test_code_without_a_file_is_told_apart_by_its_module() -> None:
    registry = WorkflowRegistry()
    for cell in ("<stdin>", "<string>", "<ipython-input-1>", "/nowhere/ipykernel/1.py"):
        registry.register_activity("act", from_file(cell))
    other = from_file("<stdin>")
    other.__module__ = "another_module"
    with pytest.raises(DuplicateNameError, match=r"a_module\.act .* and another_module\.act"):
        registry.register_activity("act", other)


def test_what_wraps_a_function_counts_as_the_function(tmp_path: Any) -> None:
    one, other = str(tmp_path / "one.py"), str(tmp_path / "other.py")
    for path in (one, other):
        (tmp_path / path).write_text("")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args: [function(*args)])

    registry = WorkflowRegistry()
    registry.register_activity("act", wrap(from_file(one)))
    registry.register_activity("act", functools.partial(wrap(functools.partial(from_file(one)))))
    for wrapped in (
        wrap(from_file(other)),
        functools.partial(from_file(other)),
        wrap(functools.partial(from_file(other))),
    ):
        with pytest.raises(DuplicateNameError):
            registry.register_activity("act", wrapped)


def test_functions_without_code_have_a_place_too() -> None:
    registry = WorkflowRegistry()
    registry.register_activity("act", max)
    with pytest.raises(DuplicateNameError, match=r"builtins\.max and .*from_file.*|builtins\.max"):
        registry.register_activity("act", from_file("<stdin>"))


# --- definitions ------------------------------------------------------------------------------------------------------


def plain(a: Any, b: Any = 2) -> tuple[Any, ...]:
    return a, b


def keywords(a: Any, *, b: Any, c: Any = 3) -> tuple[Any, ...]:
    return a, b, c


def test_binding_by_position_and_by_name_gives_the_same() -> None:
    definition = Definition("plain", plain)
    assert definition.bind((1,), {}) == definition.bind((), {"a": 1}) == {"a": 1}
    assert definition.bind((1, 5), {}) == definition.bind((1,), {"b": 5}) == {"a": 1, "b": 5}
    assert Definition("keywords", keywords).bind((1,), {"b": 2}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"a": 2}),
        (plain, (1,), {"c": 2}),
        (keywords, (1,), {}),
        (keywords, (1, 2), {}),
    ],
)
def test_binding_refuses_what_python_refuses_in_the_words_of_python(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError) as expected:
        inspect.signature(function).bind(*args, **kwargs)
    with pytest.raises(TypeError) as caught:
        Definition("name", function).bind(args, kwargs)
    assert str(caught.value) == str(expected.value)


def test_binding_does_not_share_what_it_is_given() -> None:
    def variadic(*args: Any, **kwargs: Any) -> None: ...

    kwargs = {"k": 1}
    bound = Definition("variadic", variadic).bind((1,), kwargs)
    bound["k"] = 2
    assert kwargs == {"k": 1}


def test_arguments_that_no_longer_fit() -> None:
    for stored in ({}, {"a": 1, "gone": 2}, {"a": 1, "**kwargs": {}}):
        with pytest.raises(TypeError):
            Definition("plain", plain).call(stored)


def test_calling_does_not_use_up_the_stored_arguments() -> None:
    def variadic(a: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return a, args, kwargs

    definition = Definition("variadic", variadic)
    stored = definition.bind((1, 2), {"k": 3, "args": 4})
    assert definition.call(stored) == definition.call(stored) == (1, (2,), {"k": 3, "args": 4})


async def coroutine() -> None: ...


class AsyncCall:
    async def __call__(self) -> None: ...


class SyncCall:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, False),
        (coroutine, True),
        (functools.partial(coroutine), True),
        (functools.partial(functools.partial(plain), 1), False),
        (AsyncCall(), True),
        (functools.partial(AsyncCall()), True),
        (SyncCall(), False),
        (lambda: [coroutine], False),
        (len, False),
    ],
)
def test_what_gives_a_coroutine(function: Callable[..., Any], expected: bool) -> None:
    assert is_coroutine_function(function) is expected
    assert Definition("name", function).is_async is expected


@dataclass
class Item:
    name: str


def test_types_are_what_annotations_name() -> None:
    def annotated(items: list[Item]) -> dict[str, Item | None]: ...

    def broken(item: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert Definition("annotated", annotated).types == {f"{__name__}:Item": Item}
    assert Definition("wrapped", functools.wraps(annotated)(lambda items: None)).types == {f"{__name__}:Item": Item}
    assert Definition("broken", broken).types == {}
    assert Definition("plain", len).types == {}


def attempts_of() -> None: ...


def test_the_last_options_and_the_last_version_of_a_function_count() -> None:
    registry = WorkflowRegistry()
    for attempts in (1, 2):
        registry.register_activity("a", attempts_of, ActivityOptions(retry=RetryPolicy(max_attempts=attempts)))
        assert registry.activity_definition("a").options.retry == RetryPolicy(max_attempts=attempts)
        registry.register_workflow("w", attempts_of, str(attempts))
        assert registry.workflow_definition("w").version == str(attempts)
