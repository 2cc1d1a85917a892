"""How a function is called, read from its code.

``inspect`` knows it for every sort of callable, and takes as long to import as half of this package. So what is written
with a plain ``def``, as nearly everything is that anybody decorates, is read here, and ``inspect`` is asked, and
imported, for the rest: a partial, an object with ``__call__``, a function that stands for another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

# The documented meanings of bits in code objects: inspect.CO_VARARGS and so on.
_VARARGS, _VARKEYWORDS, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x08, 0x20, 0x80, 0x200


def is_plain(function: object) -> bool:
    """Return whether all there is to know of a function stands in its code: it is no wrapper of another one."""
    # An attribute may say otherwise: __wrapped__, __signature__, what marks it as a coroutine function.
    return type(function) is FunctionType and not function.__dict__


class Parameters:
    """The parameters of a function, as far as arguments for it can be stored by their names.

    Attributes:
        are_named: Whether each can be given by its name: there is no ``*args``, ``**kwargs`` or ``/``.
        names: The names of all, in no certain order.
    """

    def __init__(self, function: Callable[..., Any], *, skip_first: bool = False) -> None:
        self._function = function
        self._skip_first = skip_first
        if is_plain(function):
            self._read_code(function)  # type: ignore[arg-type]  # which is_plain() has looked at
        else:
            self._read_signature()

    def _read_code(self, function: FunctionType) -> None:
        code = function.__code__
        first = 1 if self._skip_first else 0
        positional = code.co_argcount
        named = positional + code.co_kwonlyargcount
        self.are_named = not (code.co_posonlyargcount or code.co_flags & (_VARARGS | _VARKEYWORDS))
        self.names = code.co_varnames[
            first : named + sum(bool(code.co_flags & bit) for bit in (_VARARGS, _VARKEYWORDS))
        ]
        self._positional = code.co_varnames[first:positional]
        self._keyword_only = code.co_varnames[positional:named]
        defaults = len(function.__defaults__ or ())
        self._optional = {*code.co_varnames[positional - defaults : positional], *(function.__kwdefaults__ or ())}

    def _read_signature(self) -> None:
        parameters = self.signature.parameters.values()
        named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        self.are_named = len(named) == len(parameters)
        self.names = tuple(each.name for each in parameters)
        self._positional = tuple(each.name for each in named if each.kind is each.POSITIONAL_OR_KEYWORD)
        self._keyword_only = tuple(each.name for each in named if each.kind is each.KEYWORD_ONLY)
        self._optional = {each.name for each in named if each.default is not each.empty}

    @functools.cached_property
    def signature(self) -> Any:
        """What ``inspect`` makes of the function: an ``inspect.Signature``."""
        import inspect

        signature = inspect.signature(self._function)
        parameters = list(signature.parameters.values())
        if self._skip_first:
            return signature.replace(parameters=parameters[1:])
        if parameters and _dispatches(self._function) and parameters[0].kind is parameters[0].POSITIONAL_OR_KEYWORD:
            parameters[0] = parameters[0].replace(kind=parameters[0].POSITIONAL_ONLY)
            return signature.replace(parameters=parameters)
        return signature

    @functools.cached_property
    def _quick(self) -> range:
        """How many arguments can be bound by position alone."""
        if not self.are_named or set(self._keyword_only) - self._optional:
            return range(0)
        return range(sum(name not in self._optional for name in self._positional), len(self._positional) + 1)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return arguments by name, in the order of the parameters; ``None`` for what only ``inspect`` can bind.

        That is what does not fit, too: the words for it are Python's own.
        """
        if not kwargs and len(args) in self._quick:
            return dict(zip(self._positional, args, strict=False))
        if not self.are_named or len(args) > len(self._positional):
            return None
        bound = dict(zip(self._positional, args, strict=False))
        for name in (*self._positional[len(args) :], *self._keyword_only):
            if name in kwargs:
                bound[name] = kwargs[name]
            elif name not in self._optional:
                return None
        return bound if len(bound) == len(args) + len(kwargs) else None


def _dispatches(function: object) -> bool:
    """Return whether this was made by ``functools.singledispatch``, which looks at the first argument by position."""
    return callable(getattr(function, "dispatch", None)) and hasattr(function, "registry")


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return whether calling ``function`` gives a coroutine, also for a partial or an object with ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    if is_plain(function):
        return _has(function, _COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - the method is wanted, not whether it is there
    )


def is_generator_function(function: object) -> bool:
    """Return whether calling ``function``, or what a method is of, gives a generator, be it an async one."""
    return _has(function, _GENERATOR | _ASYNC_GENERATOR)


def _has(function: object, flags: int) -> bool:
    if isinstance(function, MethodType):
        function = function.__func__
    return isinstance(function, FunctionType) and bool(function.__code__.co_flags & flags)


def innermost(function: Any) -> Any:
    """Return what is under wrappers and partials."""
    seen = set()
    while id(function) not in seen:
        seen.add(id(function))
        function = (
            function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", function)
        )
    return function


def annotations_of(function: Any) -> Mapping[str, Any]:
    """Return the annotations of what is under wrappers, as objects.

    Raises:
        Exception: One that is a string cannot be evaluated.
    """
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    found: Mapping[str, Any] = getattr(function, "__annotations__", None) or {}
    if is_plain(function) and not any(isinstance(annotation, str) for annotation in found.values()):
        return found
    import inspect

    return inspect.get_annotations(function, eval_str=True)
