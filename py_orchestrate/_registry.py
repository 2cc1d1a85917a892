"""What is registered under which name.

``workflows`` and ``activities`` are plain dictionaries from names to functions, as in 1.0.2, and callers may clear or
fill them. What the engine needs to know besides (the signature, whether the function is ``async``) is worked out once
for each function and kept beside them.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ._options import NO_OPTIONS, ActivityOptions
from ._signatures import Parameters, annotations_of, innermost, is_coroutine_function
from .errors import ActivityNotFoundError, DuplicateNameError, WorkflowNotFoundError


class Definition:
    """A registered function and how it is called with stored arguments.

    Arguments are stored as a dictionary by parameter name; ``*args`` stand as a list under their name, and ``**kwargs``
    stand beside the others, or under ``**kwargs`` where one has the name of a parameter that takes no keyword.

    Attributes:
        name: The registered name.
        function: The function itself.
        is_async: Whether calling it gives a coroutine.
        parameters: Its parameters, but for one that the library fills.
        options: How an activity is run.
        version: The version of a workflow's code; that of an activity is one of its options.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        options: ActivityOptions = NO_OPTIONS,
        version: str | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.version = version
        self.is_async = is_coroutine_function(function)
        self.parameters = Parameters(function, skip_first=options.transactional)  # that is the library's to fill

    @functools.cached_property
    def types(self) -> Mapping[str, type]:
        """The classes that the annotations name; they let a class that no module holds come back typed."""
        from .serialization import known_types

        try:
            return known_types(*annotations_of(self.function).values())
        except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated names no class
            return {}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name; defaults are left to the function.

        Raises:
            TypeError: They do not fit the signature; with Python's own text.
        """
        bound = self.parameters.bind(args, kwargs)
        return self._bind_by_signature(args, kwargs) if bound is None else bound

    def _bind_by_signature(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        signature = self.parameters.signature
        taken = {
            each.name
            for each in signature.parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL)
        }
        bound: dict[str, Any] = {}
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_KEYWORD:
                bound.update({f"**{name}": value} if value.keys() & {*taken, f"**{name}"} else value)
            else:
                bound[name] = list(value) if parameter.kind is parameter.VAR_POSITIONAL else value
        return bound

    def call(self, arguments: dict[str, Any], *first: Any) -> Any:
        """Call the function with stored arguments, behind those that are not stored.

        Raises:
            TypeError: They do not fit the signature, for example because the code changed.
        """
        if self.parameters.are_named:
            return self.function(*first, **arguments)
        rest = dict(arguments)
        args: list[Any] = list(first)
        kwargs: dict[str, Any] = {}
        parameters = self.parameters.signature.parameters.values()
        variadic = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), None)
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                rest |= rest.pop(f"**{parameter.name}", {})  # the last parameter, so the others have taken theirs
                continue
            if parameter.name not in rest:
                continue
            value = rest.pop(parameter.name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            elif parameter.kind is parameter.POSITIONAL_ONLY or (variadic and arguments.get(variadic)):
                args.append(value)
            else:
                kwargs[parameter.name] = value
        return self.function(*args, **kwargs, **rest)


class WorkflowRegistry:
    """The registered workflows and activities, by name."""

    def __init__(self) -> None:
        self.workflows: dict[str, Callable[..., Any]] = {}
        self.activities: dict[str, Callable[..., Any]] = {}
        self._definitions: dict[tuple[str, str], Definition] = {}
        self._options: dict[str, tuple[Callable[..., Any], ActivityOptions]] = {}
        self._versions: dict[str, tuple[Callable[..., Any], str | None]] = {}
        self._warned: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def register_workflow(self, name: str, func: Callable[..., Any], version: str | None = None) -> None:
        """Register a workflow function, and the version of its code.

        Raises:
            DuplicateNameError: Another file has registered the name.
        """
        self._register("workflow", self.workflows, name, func)
        self._versions[name] = (func, version)
        self._definitions.pop(("workflow", name), None)  # the same function may have got another version

    def register_activity(self, name: str, func: Callable[..., Any], options: ActivityOptions = NO_OPTIONS) -> None:
        """Register an activity function, and how it is run.

        Raises:
            DuplicateNameError: Another file has registered the name.
        """
        self._register("activity", self.activities, name, func)
        self._options[name] = (func, options)
        self._definitions.pop(("activity", name), None)  # the same function may have got other options

    def get_workflow(self, name: str) -> Callable[..., Any]:
        """Return a workflow function by name.

        Raises:
            WorkflowNotFoundError: There is none.
        """
        return self.workflow_definition(name).function

    def get_activity(self, name: str) -> Callable[..., Any]:
        """Return an activity function by name.

        Raises:
            ActivityNotFoundError: There is none.
        """
        return self.activity_definition(name).function

    def workflow_definition(self, name: str) -> Definition:
        """Return a workflow's definition by name.

        Raises:
            WorkflowNotFoundError: There is none.
        """
        function = self.workflows.get(name)
        if function is None:
            raise WorkflowNotFoundError(name, self.workflows)
        return self._definition("workflow", name, function)

    def activity_definition(self, name: str) -> Definition:
        """Return an activity's definition by name.

        Raises:
            ActivityNotFoundError: There is none.
        """
        function = self.activities.get(name)
        if function is None:
            raise ActivityNotFoundError(name, self.activities)
        return self._definition("activity", name, function)

    def types_of_activity(self, name: str) -> Mapping[str, type] | None:
        """Return the classes that an activity's annotations name; ``None`` where it is not registered."""
        function = self.activities.get(name)
        return None if function is None else self._definition("activity", name, function).types

    def _definition(self, kind: str, name: str, function: Callable[..., Any]) -> Definition:
        definition = self._definitions.get((kind, name))
        if definition is None or definition.function is not function:
            if kind == "activity":
                known, options = self._options.get(name, (None, NO_OPTIONS))
                definition = Definition(name, function, options if known is function else NO_OPTIONS)
            else:
                known, version = self._versions.get(name, (None, None))
                definition = Definition(name, function, version=version if known is function else None)
            self._definitions[kind, name] = definition
        return definition

    def _register(
        self, kind: str, functions: dict[str, Callable[..., Any]], name: str, function: Callable[..., Any]
    ) -> None:
        with self._lock:
            known = functions.get(name)
            if known is not None and known is not function:
                if _file(known) != _file(function):
                    raise DuplicateNameError(
                        f"{kind} {name!r} is defined twice: {_place(known)} and {_place(function)}; give one of them "
                        f"another name, as in @{kind}('other_name')"
                    )
                if (kind, name) not in self._warned:
                    self._warned.add((kind, name))
                    import logging

                    logging.getLogger(__name__).warning(
                        "%s %r is defined again, by %s; the new one counts", kind, name, _place(function)
                    )
            functions[name] = function


def _file(function: Callable[..., Any]) -> str:
    """Return what tells one source from another: the file, or the module where there is none (a notebook's cell)."""
    function = innermost(function)
    code = getattr(function, "__code__", None)
    path = getattr(code, "co_filename", None)
    if path and os.path.exists(path):
        return str(os.path.realpath(path))
    return f"<module {getattr(function, '__module__', None)}>"


def _place(function: Callable[..., Any]) -> str:
    function = innermost(function)
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name
