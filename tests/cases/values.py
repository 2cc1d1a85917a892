"""Values that can be stored, and values that cannot."""

from __future__ import annotations

import enum
import io
import os
import re
import socket
import sqlite3
import sys
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic


class Colour(enum.Enum):
    RED = 1
    BLUE = (0, 0, 255)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    HELLO = "hello"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


Plain = namedtuple("Plain", ["x", "y"])  # noqa: PYI024 - as old code has them


class Typed(NamedTuple):
    name: str
    size: int = 0


@dataclass
class Item:
    name: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Order:
    items: tuple[Item, ...]
    placed: datetime


class Model(pydantic.BaseModel):
    id: UUID
    level: Level = Level.LOW
    parts: list[Item] = []


class Text(str):
    """A kind of str."""

    __slots__ = ()


class Number(float):
    """A kind of float, as numpy's are."""


class Rows(list[Any]):
    """A kind of list."""


class Zone(tzinfo):
    """A zone that only its program knows."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, moment: datetime | None) -> str:
        return "own"


class Thing:
    """A class like any other."""


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def circular_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["deep"] = {"er": value}
    return value


def local_dataclass() -> Any:
    @dataclass
    class Local:
        x: int

    return Local(1)


def with_extra_attribute() -> Item:
    item = Item("pen", Decimal(1))
    item.extra = 1  # type: ignore[attr-defined]
    return item


def generator() -> Iterator[int]:
    yield 1


ITEM = Item("pen", Decimal("1.10"), {"blue", "new"})

STORABLE: dict[str, Any] = {
    "None": None,
    "True": True,
    "int": 42,
    "float": 0.1,
    "str": "text",
    "list": [1, [2, [3]], {"a": None}],
    "dict": {"a": 1, "b": {"c": [1.5, "x", None, True]}},
    "mixed numbers": [1, 1.0, True, 0, 0.0, -0.0, False],
    "order of keys": {"z": 1, "a": 2, "m": 3},
    "datetime aware": datetime(2024, 1, 2, tzinfo=UTC),
    "datetime naive": datetime(2024, 1, 2),  # noqa: DTZ001 - must stay naive
    "datetime offset": datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    "datetime zone": datetime(2024, 11, 3, 1, 30, fold=1, tzinfo=ZoneInfo("America/New_York")),
    "datetime round": datetime(2024, 1, 2, 3, 4, 5, 0, tzinfo=UTC),
    "date": date(2024, 2, 29),
    "time": time(1, 2, 3, 4, tzinfo=UTC),
    "timedelta": timedelta(days=-1, microseconds=7),
    "Decimal": Decimal("1.10"),
    "Decimals": [Decimal("-0"), Decimal("1E+400"), Decimal("NaN"), Decimal("-Infinity")],
    "Fraction": Fraction(1, 3),
    "UUID": UUID(int=1),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "complex": complex(-0.0, float("inf")),
    "range": range(1, 10, 3),
    "set": {1, 2, 3},
    "set of mixed": {1, "1", None, (1, "a"), frozenset({2})},
    "frozenset": frozenset({"a"}),
    "empty set": set(),
    "tuple": (1, (2,), []),
    "empty tuple": (),
    "int keys": {1: "a", 2: "b"},
    "mixed keys": {1: "int", "1": "str", (1, 2): "tuple", None: "none", 1.5: "float", b"k": "bytes"},
    "marker key": {"$py": "tuple", "v": [1, 2]},
    "OrderedDict": OrderedDict([("z", 1), ("a", 2)]),
    "Counter": Counter("abracadabra"),
    "deque": deque([1, 2], maxlen=5),
    "Path": Path("a/b"),
    "PurePosixPath": PurePosixPath("/a/b"),
    "PureWindowsPath": PureWindowsPath(r"C:\a\b"),
    "Enum": Colour.BLUE,
    "IntEnum": Level.HIGH,
    "StrEnum": Word.HELLO,
    "Flag": Right.READ | Right.WRITE,
    "namedtuple": Plain(1, [2]),
    "NamedTuple": Typed("a", 7),
    "dataclass": ITEM,
    "dataclass with slots": Order((ITEM, ITEM), datetime(2024, 1, 2, tzinfo=UTC)),
    "pydantic": Model(id=UUID(int=2), parts=[ITEM]),
    "Enum keys": {Colour.RED: 1, Level.LOW: 2},
    "NaN": float("nan"),
    "infinities": [float("inf"), float("-inf")],
    "lone surrogate": "hi\ud83d",
    "surrogates apart": "\ud83d" + "\ude00",
    "astral": "\U0001f600",
    "surrogate key": {"\udc80": 1},
    "NUL": "a\0b",
    "NUL key": {"\0": "\0"},
    "line ends": "\r\n\u2028\u2029\x85",
    "2**53+1": 2**53 + 1,
    "2**63": 2**63,
    "-2**63-1": -(2**63) - 1,
    "2**80": 2**80,
    "10**5000": 10**5000,
    "-10**5000": [-(10**5000)],
    "deep list": nested(150),
    "long text": "x" * 1_000_000,
    "long list": list(range(20_000)),
}
"""Values that must come back with the type and content they had."""

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "file": (lambda: io.StringIO("x"), "StringIO"),
    "lock": (threading.Lock, "lock"),
    "connection": (lambda: sqlite3.connect(":memory:", check_same_thread=False), "Connection"),
    "socket": (socket.socket, "socket"),
    "object": (object, "object"),
    "instance": (Thing, "Thing"),
    "class": (lambda: Thing, "type"),
    "function": (lambda: generator, "function"),
    "lambda": (lambda: lambda: 1, "function"),
    "method": (lambda: [].append, "builtin_function_or_method"),
    "module": (lambda: sys, "module"),
    "Ellipsis": (lambda: ..., "ellipsis"),
    "iterator": (lambda: iter([1]), "list_iterator"),
    "map": (lambda: map(str, [1]), "map"),
    "dict view": ({}.keys, "dict_keys"),
    "mappingproxy": (lambda: types.MappingProxyType({}), "mappingproxy"),
    "memoryview": (lambda: memoryview(b"x"), "memoryview"),
    "weakref": (lambda: weakref.ref(Thing), "ReferenceType"),
    "pattern": (lambda: re.compile("x"), "Pattern"),
    "defaultdict": (lambda: defaultdict(list), "defaultdict"),
    "subclass of str": (lambda: Text("x"), "Text"),
    "subclass of float": (lambda: Number(1.5), "Number"),
    "subclass of list": (lambda: Rows([1]), "Rows"),
    "own zone": (lambda: datetime(2024, 1, 2, tzinfo=Zone()), "datetime"),
    "environment": (lambda: os.environ, "_Environ"),
    "exception": (lambda: ValueError("x"), "ValueError"),
    "dataclass of a function": (local_dataclass, "local_dataclass.<locals>.Local"),
    "dataclass with an extra attribute": (with_extra_attribute, "Item"),
    "circular list": (circular_list, "list"),
    "circular dict": (circular_dict, "dict"),
    "200,000 deep": (lambda: nested(200_000), "list"),
}
"""Values that must be refused, and the type that the refusal names."""
