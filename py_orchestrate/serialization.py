"""How values become text in the database, and come back: faithfully, or not at all.

A workflow never sees the object that an activity returned, but what is decoded from the stored text: in its first run
as in a replay. So a value must come back with the type and content it had, and one that would not is refused before
anything is stored. Nothing is pickled and nothing is turned into a string because no better way is known.

What ``JsonSerializer`` stores:

* as plain JSON: ``None``, ``bool``, ``int``, ``float``, ``str``, ``list``, ``dict`` with ``str`` keys;
* in tagged form (see ``_tagged.py``): ``tuple``, ``set``, ``frozenset``, ``bytes``, ``bytearray``, ``complex``,
  ``range``, NaN and infinities, integers too long for JSON, ``dict`` with any storable keys, ``OrderedDict``,
  ``Counter``, ``deque``, ``datetime``, ``date``, ``time`` (naive, with ``datetime.timezone`` or ``zoneinfo.ZoneInfo``),
  ``timedelta``, ``Decimal``, ``Fraction``, ``UUID``, paths, members of enums and flags, named tuples, dataclasses and
  pydantic models.

Other subclasses of these types are refused (``numpy.float64`` is a ``float``), and so are attributes that are no
fields of their class. What is not kept: that two parts of a value are one and the same object, and what a
``cached_property`` has computed, which is computed again.

A class must be found by its name when a value of it is read: at the top of a module that is loaded by then, or among
the ``types`` that the caller hands over, made by ``known_types`` from a function's annotations.

Limits: 200 levels of containers, or about 1000 where all of it is plain JSON data.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from json.encoder import encode_basestring
from marshal import dumps as marshal_dumps
from math import isfinite
from types import MappingProxyType, SimpleNamespace
from typing import Any, Protocol

from ._json_text import dump
from ._stored_classes import MARK, class_kind, class_name
from .errors import SerializationError

__all__ = ["JsonSerializer", "Serializer", "known_types"]

_MARK = f'"{MARK}"'
_MARKED_KEY = f'"{MARK}":'  # with the colon it can only be a key: within a string the quotes are escaped
_NO_TYPES: Mapping[str, type] = MappingProxyType({})
_SHORT = 1 << 63
_scan_once: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


class Serializer(Protocol):
    """What the engine needs of a serializer. It is called from several threads at once."""

    def encode(self, value: Any, *, what: str = "value", types: Mapping[str, type] | None = None) -> tuple[str, Any]:
        """Return the text to store and what ``decode`` gives for that text.

        The second is what the workflow goes on with, so it shares nothing mutable with ``value``.

        Args:
            value: What to store.
            what: What the value is, for messages: ``result of activity 'charge'``.
            types: Classes by ``module:qualname``, beside the ones in loaded modules; see ``known_types``.

        Raises:
            SerializationError: The value would not come back as it is. Nothing else is raised for what a value holds.
        """
        ...

    def decode(self, text: str, *, types: Mapping[str, type] | None = None, lenient: bool = False) -> Any:
        """Return a fresh copy of the stored value.

        Args:
            text: What ``encode`` returned, or JSON that 1.0.2 stored.
            types: As for ``encode``.
            lenient: For showing values where their classes are not loaded: what cannot be rebuilt comes back as the
                plain content it has. Never raises for text that is JSON.

        Raises:
            SerializationError: The text is broken, or a class in it is not known here.
        """
        ...


class JsonSerializer:
    """Stores values as JSON text that people can read; the module's text says which values.

    It holds no state, so one may be shared by all threads.
    """

    def encode(self, value: Any, *, what: str = "value", types: Mapping[str, type] | None = None) -> tuple[str, Any]:
        """Return the text to store and a fresh copy of the value, decoded from it.

        Args:
            value: What to store.
            what: What the value is, for messages.
            types: Classes by ``module:qualname``, beside the ones in loaded modules.

        Raises:
            SerializationError: The value would not come back as it is; says where in it, and what to do.
        """
        fast = _FAST.get(type(value))
        done = fast(value) if fast is not None else None
        if done is not None:
            return done
        from ._tagged import encode_tagged  # imports all sorts of values, which few programs store

        return encode_tagged(value, what, types or _NO_TYPES)

    def decode(self, text: str, *, types: Mapping[str, type] | None = None, lenient: bool = False) -> Any:
        """Return a fresh copy of the stored value.

        Args:
            text: What ``encode`` returned, or JSON that 1.0.2 stored.
            types: Classes by ``module:qualname``, beside the ones in loaded modules.
            lenient: Return the plain content of what cannot be rebuilt, instead of raising.

        Raises:
            SerializationError: The text is broken, or a class in it is not known here.
        """
        try:
            if _MARK in text:
                from ._tagged import decode_tagged  # as above

                return decode_tagged(text, types or _NO_TYPES, lenient=lenient)
            return _decoded(text)
        except json.JSONDecodeError as error:  # not chained: the error holds the whole text
            raise SerializationError(f"the stored text is not JSON: {error.msg} at position {error.pos}") from None
        except ValueError:
            if lenient:
                return json.loads(text, parse_int=_int_or_digits)
            raise SerializationError(
                f"the stored text has an integer of more than {sys.get_int_max_str_digits()} digits; "
                "see sys.set_int_max_str_digits"
            ) from None
        except RecursionError:
            raise SerializationError("the stored text is nested too deeply to be read here") from None


def _decoded(text: str) -> Any:
    """Return what ``json.loads`` does, without its search for white space, which no text of ours has around it."""
    try:
        value, end = _scan_once(text, 0)
    except StopIteration:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


def _int_or_digits(digits: str) -> int | str:
    """Return the integer, or, where it has more digits than this process takes, what stands there."""
    try:
        return int(digits)
    except ValueError:
        return digits


def _plain_json(value: Any) -> tuple[str, Any] | None:
    """Return text and copy if the value is plain JSON data through and through, else ``None``."""
    try:
        text = dump(value)
        if _MARKED_KEY in text:
            return None
        decoded, _ = _scan_once(text, 0)
        # ``==`` would take a named tuple for a list's equal, an IntEnum for an int, 1 for True. The bytes of marshal
        # tell all exact types apart and are refused for most subclasses; for one with a buffer (numpy.float64) they
        # are those of a ``bytes``, which nothing decoded from JSON has. Format 2 is the last without references and
        # interning, by which the bytes of equal data could differ.
        if marshal_dumps(decoded, 2) == marshal_dumps(value, 2):
            return text, decoded
    except Exception:  # noqa: BLE001 - whatever is wrong with the value, the slow path finds and names it
        return None
    return None


def _plain_str(value: str) -> tuple[str, Any] | None:
    return (encode_basestring(value), value) if value.isascii() else _plain_json(value)


def _plain_int(value: int) -> tuple[str, Any] | None:
    return (str(value), value) if -_SHORT < value < _SHORT else None


def _plain_float(value: float) -> tuple[str, Any] | None:
    return (repr(value), value) if isfinite(value) else None


_FAST: dict[type, Callable[[Any], tuple[str, Any] | None]] = {
    dict: _plain_json,
    list: _plain_json,
    type(None): lambda _: ("null", None),
    str: _plain_str,
    bool: lambda value: ("true" if value else "false", value),
    int: _plain_int,
    float: _plain_float,
}


def known_types(*annotations: object) -> dict[str, type]:
    """Return the classes that annotations name, by ``module:qualname``.

    Looks into generics, unions, ``Annotated``, type aliases, and the fields of the classes it finds. With the result as
    ``types``, values of classes that no module holds by name (those defined inside a function) can be stored.

    Args:
        annotations: Annotations as objects; strings in the fields of classes are resolved where possible.
    """
    found: dict[str, type] = {}
    seen: set[int] = set()
    kept: list[object] = []  # alive, so that an id in ``seen`` stays theirs
    pending = list(annotations)
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        kept.append(item)
        if isinstance(item, type) and class_kind(item) is not None:
            found[class_name(item)] = item
            pending.extend(_field_annotations(item, found))
        pending.extend(_inner_annotations(item))
    return found


def _inner_annotations(item: object) -> Iterator[object]:
    """Yield what an annotation is made of."""
    if isinstance(item, list | tuple):  # the parameters in Callable[[A, B], C]
        yield from item
    if isinstance(item, Enum):  # in a Literal
        yield type(item)
    yield from typing.get_args(item)
    yield typing.get_origin(item)
    yield getattr(item, "__value__", None)  # type X = ...
    if isinstance(item, typing.NewType):
        yield item.__supertype__
    if isinstance(item, typing.TypeVar):
        yield item.__bound__
        yield from item.__constraints__


def _field_annotations(cls: type, found: Mapping[str, type]) -> Iterator[object]:
    """Yield the annotations of a class's fields; a string is evaluated in the class's module, with what was found."""
    import inspect  # takes long to import, and is seldom needed

    names = {known.__name__: known for known in found.values()}
    fields = getattr(cls, "model_fields", {})
    yield from [field.annotation for field in fields.values()] if class_kind(cls) == "model" else []
    for base in cls.__mro__:
        scope = getattr(sys.modules.get(base.__module__), "__dict__", {})
        annotations: Mapping[str, Any] = {}
        with suppress(Exception):  # an annotation that cannot be evaluated names no class
            annotations = inspect.get_annotations(base)
        for annotation in annotations.values():
            holder = SimpleNamespace(__annotations__={"field": annotation})
            with suppress(Exception):
                yield typing.get_type_hints(holder, scope, names, include_extras=True)["field"]
