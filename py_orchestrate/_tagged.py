"""The tagged form: values that JSON lacks, written as JSON, and read back with their type.

A tagged value is an object whose key ``$py`` names the tag; ``v`` is the content and ``type`` the class::

    (1, 2)                  {"$py":"tuple","v":[1,2]}
    {1: "a"}                {"$py":"dict","v":[[1,"a"]]}
    Decimal("1.10")         {"$py":"Decimal","v":"1.10"}
    Point(x=1, y=2)         {"$py":"dataclass","type":"shapes:Point","v":{"x":1,"y":2}}

A dictionary that has a key ``$py`` itself is written as pairs, so an object with that key is always a tagged value.

Reading imports nothing and calls nothing by a stored name: a class is looked up among the ones the caller knows and in
loaded modules, must be of the tag's sort, and is filled without its ``__init__``. A field that was added to the class
since gets its default; one that was removed is an error. JSON's scanner calls the reader for the innermost object
first, so reading does not recurse.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import inspect
import io
import json
import re
import types
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from itertools import batched
from math import isfinite
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID

from ._json_text import dump
from ._stored_classes import (
    DATACLASS,
    ENUM,
    MARK,
    MODEL,
    NAMED_TUPLE,
    attributes,
    class_kind,
    class_name,
    model_base,
    resolve,
    script_name,
    stored_name,
)
from .errors import SerializationError

MAX_DEPTH: Final = 200
"""Levels of containers in the tagged form; each is up to four levels of JSON, and ``json`` stops at about 1000."""

_MAX_SHOWN = 40  # longer keys and paths are data more than they are directions
_GENERIC = "__orig_class__"  # what typing leaves in an instance that is made as Box[int](1)
# JSON joins an escaped high surrogate and an escaped low one that follows it into one character.
_BETWEEN_SURROGATES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")
_ADVICE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (io.IOBase, "pass its name, or what it contains"),
    (types.CoroutineType, "await it, and pass what it gives"),
    ((type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial), "pass its name"),
    (defaultdict, "its factory cannot be stored, so convert it with dict()"),
)


# -------------------------------------------------------------------------------------------------------------- writing


class _Writer:
    """Turns one value into JSON data; knows the way to the part it is at, for the message of a refusal."""

    def __init__(self, what: str, known: Mapping[str, type]) -> None:
        self._what = what
        self._known = known
        self._path: list[Any] = []
        self._open: set[int] = set()

    def write(self, value: Any) -> Any:
        """Return the value as JSON data."""
        cls = type(value)
        write = _WRITERS.get(cls)
        if write is None:
            kind = class_kind(cls)
            if kind is None:
                raise self.refusal(value, "is not storable", _advice(cls))
            if resolve(class_name(cls), self._known, script_name(cls)) is not cls:
                raise self.refusal(
                    value,
                    f"is not storable, because {class_name(cls)} does not lead to its class",
                    "define the class at the top of a module, or name it in an annotation of the function",
                )
            write = _CLASS_WRITERS[kind]
        return write(self, value)

    def children(self, owner: object, parts: Iterable[tuple[Any, Any]]) -> list[Any]:
        """Return the parts of ``owner`` as JSON data; each comes with its step in the path."""
        if id(owner) in self._open:
            raise self.refusal(owner, "contains itself", "store ids in place of references that lead back")
        if len(self._path) >= MAX_DEPTH:
            advice = f"at most {MAX_DEPTH} levels are stored (about 1000 where all of it is plain JSON data)"
            raise self.refusal(owner, "is nested too deeply", advice)
        self._open.add(id(owner))
        self._path.append(None)
        written = []
        for step, part in parts:
            self._path[-1] = step
            written.append(self.write(part))
        self._path.pop()
        self._open.discard(id(owner))
        return written

    def fields(self, owner: object, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return named parts of ``owner`` as a JSON object."""
        return dict(zip(state, self.children(owner, state.items()), strict=True))

    def own_fields(self, value: object, names: Iterable[str], ignored: Iterable[str] = ()) -> dict[str, Any]:
        """Return the fields that are set; refuse a value that has more to it than its fields."""
        state = attributes(value)
        fields = {name: state.pop(name) for name in names if name in state}
        for name in state:
            cached = isinstance(inspect.getattr_static(type(value), name, None), functools.cached_property)
            if name != _GENERIC and name not in ignored and not cached:
                advice = "make it a field, or delete it before"
                raise self.refusal(value, f"has an attribute that is no field ({name})", advice)
        return fields

    def attempt(self, value: object, otherwise: object) -> Any:
        """Return the value as JSON data, or ``otherwise`` where it is not storable."""
        path, opened = self._path.copy(), self._open.copy()
        try:
            return self.write(value)
        except SerializationError:
            self._path, self._open = path, opened
            return otherwise

    def refusal(self, value: object, fault: str, advice: str) -> SerializationError:
        """Return the error that says why the value, which is where the path now leads, cannot be stored."""
        path = "$" + "".join(map(_shown_step, self._path))
        if len(self._path) > _MAX_SHOWN:
            path = "$" + "".join(map(_shown_step, self._path[: _MAX_SHOWN // 2])) + "…"
        place = f" at {path}" if self._path else ""
        return SerializationError(f"{self._what}: {_shown_class(type(value))}{place} {fault}; {advice}", path)


def _shown_class(cls: type) -> str:
    """Return the class's name, with its module where it would pass for a built-in one (numpy has a ``bool``)."""
    return (
        f"{cls.__module__}.{cls.__qualname__}"
        if cls.__module__ != "builtins" and hasattr(builtins, cls.__qualname__)
        else cls.__qualname__
    )


def _shown_step(step: Any) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if isinstance(step, tuple):
        return f".<{step[0]} {step[1]}>"
    return f".{step}"


def _shown_key(key: Any, position: int) -> Any:
    """Return the step to a dictionary's value: by name where the key looks like one, else by position."""
    is_name = type(key) is str and len(key) <= _MAX_SHOWN and key.isidentifier()
    return key if is_name else ("entry", position)


def _advice(cls: type) -> str:
    for classes, advice in _ADVICE:
        if issubclass(cls, classes):
            return advice
    plain = next((base.__name__ for base in cls.__mro__ if base in _WRITERS), None)
    if plain is not None:
        return f"it is a kind of {plain}, so convert it to a plain {plain}"
    if issubclass(cls, Iterable):
        return "convert it to a list or a dict"
    if hasattr(cls, "__await__"):
        return "store what it comes to instead"
    if cls.__module__ == "numpy":
        return "convert it with its item()"
    return "pass plain data, a dataclass or an id instead"


def _whole(value: int) -> Any:
    try:
        str(value)  # as json does; refuses more digits than sys.get_int_max_str_digits()
    except ValueError:
        return {MARK: "int", "v": hex(value)}
    return value


def _number(value: float) -> Any:
    return value if isfinite(value) else {MARK: "float", "v": str(value)}


def _text(value: str) -> Any:
    pieces = [value] if value.isascii() else _BETWEEN_SURROGATES.split(value)
    return value if len(pieces) == 1 else {MARK: "str", "v": pieces}


def _write_list(writer: _Writer, value: list[Any]) -> Any:
    return writer.children(value, enumerate(value.copy()))


def _write_tuple(writer: _Writer, value: tuple[Any, ...]) -> Any:
    return {MARK: "tuple", "v": writer.children(value, enumerate(value))}


def _write_deque(writer: _Writer, value: deque[Any]) -> Any:
    return {MARK: "deque", "v": writer.children(value, enumerate(value.copy())), "maxlen": value.maxlen}


def _write_set(writer: _Writer, value: Any) -> Any:
    elements = writer.children(value, ((("element", n), element) for n, element in enumerate(tuple(value))))
    # Any fixed order will do; by length first puts whole numbers in theirs.
    elements.sort(key=lambda element: (len(text := dump(element)), text))
    return {MARK: type(value).__name__, "v": elements}


def _write_dict(writer: _Writer, value: dict[Any, Any]) -> Any:
    items = list(value.items())
    if not all(type(key) is str and key != MARK and _text(key) is key for key, _ in items):
        return _write_pairs(writer, value)
    parts = ((_shown_key(key, n), part) for n, (key, part) in enumerate(items))
    return dict(zip([key for key, _ in items], writer.children(value, parts), strict=True))


def _write_pairs(writer: _Writer, value: Any) -> Any:
    writer.own_fields(value, ())
    parts: list[tuple[Any, Any]] = []
    for n, (key, part) in enumerate(list(value.items())):
        parts += [(("key", n), key), (_shown_key(key, n), part)]
    return {MARK: type(value).__name__, "v": [*batched(writer.children(value, parts), 2)]}


def _write_moment(writer: _Writer, value: datetime | time) -> Any:
    written: dict[str, Any] = {MARK: type(value).__name__, "v": value.isoformat()}
    if value.fold:
        written["fold"] = 1
    zone = value.tzinfo
    if zone is None:
        return written
    if type(zone) is timezone:
        name, offset = zone.tzname(None), zone.utcoffset(None)
        return written if name == timezone(offset).tzname(None) else {**written, "name": _text(name)}
    from zoneinfo import ZoneInfo  # slow to import, and seldom met

    if type(zone) is ZoneInfo and zone.key:
        return {**written, "zone": zone.key}
    fault = f"has a time zone of the kind {type(zone).__qualname__}, which is not storable"
    raise writer.refusal(value, fault, "use datetime.timezone or zoneinfo.ZoneInfo")


def _write_enum(writer: _Writer, value: Enum) -> Any:
    written: dict[str, Any] = {MARK: ENUM, **stored_name(type(value))}
    if not isinstance(value, Flag):  # a flag may be a sum of members, which has no name of its own
        written["name"] = _text(value.name)
    return {**written, "v": writer.attempt(value.value, value.name)}


def _write_named_tuple(writer: _Writer, value: Any) -> Any:
    writer.own_fields(value, ())
    state = dict(zip(type(value)._fields, tuple.__iter__(value), strict=True))
    return {MARK: NAMED_TUPLE, **stored_name(type(value)), "v": writer.fields(value, state)}


def _write_dataclass(writer: _Writer, value: Any) -> Any:
    state = writer.own_fields(value, [field.name for field in dataclasses.fields(value)])
    return {MARK: DATACLASS, **stored_name(type(value)), "v": writer.fields(value, state)}


def _write_model(writer: _Writer, value: Any) -> Any:
    inner = model_base().__getstate__(value)
    state = writer.own_fields(value, type(value).model_fields, ignored=inner)
    written = {MARK: MODEL, **stored_name(type(value)), "v": writer.fields(value, state)}
    written["set"] = sorted(inner["__pydantic_fields_set__"])
    for key in ("extra", "private"):
        if inner[f"__pydantic_{key}__"] is not None:
            written[key] = writer.write(inner[f"__pydantic_{key}__"])
    return written


# -------------------------------------------------------------------------------------------------------------- reading


class _Reader:
    """Turns one object of JSON data, in which all is read already, into the value that it stands for."""

    def __init__(self, known: Mapping[str, type], *, lenient: bool) -> None:
        self._known = known
        self._lenient = lenient

    def __call__(self, data: dict[str, Any]) -> Any:
        if MARK not in data:
            return data
        tag = data[MARK] if isinstance(data[MARK], str) else ""
        try:
            if tag in _CLASS_READERS:
                return _CLASS_READERS[tag](self._class(data, tag), data)
            return _READERS[tag](data)
        except RecursionError:
            raise
        except Exception as error:
            if self._lenient:
                content = data.get("v", data)
                return list(content.values()) if tag == NAMED_TUPLE and isinstance(content, dict) else content
            if isinstance(error, SerializationError):
                raise
            # Without the error's text, which would show the value.
            name = tag if tag in _READERS or tag in _CLASS_READERS else f"value with an unknown {MARK!r}"
            raise SerializationError(f"a stored {name} cannot be read ({type(error).__name__})") from None

    def _class(self, data: Mapping[str, Any], kind: str) -> type:
        name = data["type"]
        found = resolve(name, self._known, data.get("script"))
        if not isinstance(found, type):
            advice = "import its module first, or name it in an annotation of the function"
            raise SerializationError(f"the class {name} is not known here; {advice}")
        if class_kind(found) != kind:
            raise SerializationError(f"{name} is no {kind} here")
        return found


def _missing(cls: type, stored: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return the fields that the class has gained since.

    Raises:
        SerializationError: It has lost one.
    """
    names = list(names)
    for name in stored:
        if name not in names:
            raise SerializationError(f"{class_name(cls)} no longer has the field {name}")
    return [name for name in names if name not in stored]


def _no_default(cls: type, name: str) -> SerializationError:
    return SerializationError(f"{class_name(cls)} has a new field without a default: {name}")


def _read_moment(cls: Any, data: dict[str, Any]) -> Any:
    moment = cls.fromisoformat(data["v"])
    zone = moment.tzinfo
    if "zone" in data:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(data["zone"])
    elif "name" in data:
        zone = timezone(zone.utcoffset(None), data["name"])
    return moment.replace(tzinfo=zone, fold=data.get("fold", 0))


def _read_enum(cls: type[Enum], data: dict[str, Any]) -> Any:
    member = cls(data["v"]) if issubclass(cls, Flag) else cls.__members__.get(data["name"])
    if type(member) is not cls:  # a flag with boundary=EJECT gives an int
        raise SerializationError(f"{class_name(cls)} no longer has the member {data.get('name', 'with these bits')}")
    return member


def _read_named_tuple(cls: Any, data: dict[str, Any]) -> Any:
    state = dict(data["v"])
    for name in _missing(cls, state, cls._fields):
        if name not in cls._field_defaults:
            raise _no_default(cls, name)
        state[name] = cls._field_defaults[name]
    return tuple.__new__(cls, [state[name] for name in cls._fields])


def _read_dataclass(cls: Any, data: dict[str, Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    state = dict(data["v"])
    value = object.__new__(cls)
    for name in _missing(cls, state, fields):
        field = fields[name]
        if field.default_factory is not dataclasses.MISSING:
            state[name] = field.default_factory()
        elif field.init and field.default is dataclasses.MISSING:
            raise _no_default(cls, name)
        elif field.init:  # else it was not set; where it has a default, the class has that as its attribute
            state[name] = field.default
    for name, content in state.items():
        object.__setattr__(value, name, content)
    return value


def _read_model(cls: Any, data: dict[str, Any]) -> Any:
    fields, state = cls.model_fields, dict(data["v"])
    for name in _missing(cls, state, fields):
        if fields[name].is_required():
            raise _no_default(cls, name)
        state[name] = fields[name].get_default(call_default_factory=True)
    value = object.__new__(cls)
    inner = {f"__pydantic_{key}__": data.get(key) for key in ("extra", "private")}
    model_base().__setstate__(value, {"__dict__": state, "__pydantic_fields_set__": set(data["set"]), **inner})
    return value


# ---------------------------------------------------------------------------------------------------------------- table

# Tag: class, content as JSON data, value from that content.
_SIMPLE: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "bytes": (bytes, lambda value: b64encode(value).decode(), b64decode),
    "bytearray": (bytearray, lambda value: b64encode(value).decode(), lambda text: bytearray(b64decode(text))),
    "complex": (complex, lambda value: [_number(value.real), _number(value.imag)], lambda parts: complex(*parts)),
    "date": (date, date.isoformat, date.fromisoformat),
    "timedelta": (timedelta, lambda value: [value.days, value.seconds, value.microseconds], lambda p: timedelta(*p)),
    "Decimal": (Decimal, str, Decimal),
    "Fraction": (Fraction, lambda value: [_whole(value.numerator), _whole(value.denominator)], lambda p: Fraction(*p)),
    "UUID": (UUID, str, UUID),
    "range": (range, lambda value: [_whole(value.start), _whole(value.stop), _whole(value.step)], lambda p: range(*p)),
    "Path": (type(Path()), lambda value: _text(str(value)), Path),
    "PurePosixPath": (PurePosixPath, lambda value: _text(str(value)), PurePosixPath),
    "PureWindowsPath": (PureWindowsPath, lambda value: _text(str(value)), PureWindowsPath),
}


def _simple_writer(tag: str, content: Callable[[Any], Any]) -> Callable[[_Writer, Any], Any]:
    return lambda _, value: {MARK: tag, "v": content(value)}


def _simple_reader(read: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda data: read(data["v"])


_WRITERS: dict[type, Callable[[_Writer, Any], Any]] = {
    type(None): lambda _, value: value,
    bool: lambda _, value: value,
    int: lambda _, value: _whole(value),
    float: lambda _, value: _number(value),
    str: lambda _, value: _text(value),
    list: _write_list,
    dict: _write_dict,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_set,
    deque: _write_deque,
    OrderedDict: _write_pairs,
    Counter: _write_pairs,
    datetime: _write_moment,
    time: _write_moment,
    **{cls: _simple_writer(tag, content) for tag, (cls, content, _) in _SIMPLE.items()},
}
_CLASS_WRITERS: dict[str, Callable[[_Writer, Any], Any]] = {
    ENUM: _write_enum,
    NAMED_TUPLE: _write_named_tuple,
    DATACLASS: _write_dataclass,
    MODEL: _write_model,
}
_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "int": lambda data: int(data["v"], 16),
    "float": lambda data: float(data["v"]),
    "str": lambda data: "".join(data["v"]),
    "dict": lambda data: dict(data["v"]),
    "OrderedDict": lambda data: OrderedDict(data["v"]),
    "Counter": lambda data: Counter(dict(data["v"])),
    "tuple": lambda data: tuple(data["v"]),
    "set": lambda data: set(data["v"]),
    "frozenset": lambda data: frozenset(data["v"]),
    "deque": lambda data: deque(data["v"], data["maxlen"]),
    "datetime": lambda data: _read_moment(datetime, data),
    "time": lambda data: _read_moment(time, data),
    **{tag: _simple_reader(read) for tag, (_, _, read) in _SIMPLE.items()},
}
_CLASS_READERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    ENUM: _read_enum,
    NAMED_TUPLE: _read_named_tuple,
    DATACLASS: _read_dataclass,
    MODEL: _read_model,
}


def encode_tagged(value: object, what: str, known: Mapping[str, type]) -> tuple[str, Any]:
    """Return a value as text, in tagged form where it needs it, and what is read from that text.

    Raises:
        SerializationError: The value is not storable, or would not come back with the type and content it has.
    """
    name = type(value).__qualname__
    try:
        text = dump(_Writer(what, known).write(value))
    except SerializationError:
        raise
    except RecursionError:
        raise SerializationError(f"{what}: {name} is nested too deeply; store parts of it by their ids") from None
    except Exception as error:  # noqa: BLE001 - a class of the user's, or another thread that changes the value
        raise SerializationError(f"{what}: {name} is not storable ({type(error).__name__})") from None
    try:
        decoded = decode_tagged(text, known)
        # The form tells apart all that the types in it can tell apart, so equal texts are equal values; ``==`` would
        # miss the sign of zero and 1 for True, and would not accept a NaN.
        if dump(_Writer("its copy", known).write(decoded)) == text:
            return text, decoded
        fault = "the copy differs"
    except SerializationError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - as above
        fault = type(error).__name__
    raise SerializationError(f"{what}: {name} is not storable, because it would not come back as it is: {fault}")


def decode_tagged(text: str, known: Mapping[str, type], *, lenient: bool = False) -> Any:
    """Return the value that a text with tagged values stands for.

    Args:
        text: The stored text.
        known: Classes by their stored name, beside the ones in loaded modules.
        lenient: Return the plain content of what cannot be read, instead of raising.

    Raises:
        SerializationError: A tagged value cannot be read.
        ValueError: The text is not JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return json.loads(text, object_hook=_Reader(known, lenient=lenient))
    except RecursionError:
        if not lenient:
            raise
        return json.loads(text)
