"""Exceptions as activities raise them: the plain, the odd and the hostile."""

# ruff: noqa: N818, PLE0307, PLE0643, PLW0108 - the classes are named as users name theirs; the faults are meant

from __future__ import annotations

import asyncio
import enum
import io
import json
import os
import subprocess
import threading
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self


class Api(Exception):
    """Takes other arguments than its ``args``."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body}")
        self.code = code
        self.body = body


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Slotted(Exception):
    __slots__ = ("__hidden", "code")

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code
        self.__hidden = -code

    def __str__(self) -> str:
        return f"slotted {self.code} {self.__hidden}"


@dataclass
class Data(Exception):
    code: int
    body: str = "none"


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class RequestFailed(OSError):
    """As requests has it: an OSError with attributes that cannot be stored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.response = kwargs.pop("response", None)
        self.status_code = kwargs.pop("status_code", None)
        super().__init__(*args, **kwargs)


class HasLock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.code = 7


class Unstrable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoText(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Unreprable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class CountsItsReadings(Exception):
    """Has another text each time one asks."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0

    def __str__(self) -> str:
        self.readings += 1
        return f"reading {self.readings}"


class NeedsTwo(Exception):
    """Cannot be made from its ``args``, not even without ``__init__``."""

    def __new__(cls, first: str, second: str) -> Self:
        return super().__new__(cls, first + second)

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Hostile(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduction")


class HostileOSError(OSError):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduction")


class Impossible(Exception):
    @property
    def __dict__(self) -> Any:
        raise RuntimeError("no attributes")


class Stop(BaseException):
    """No Exception."""


class Outer:
    class Inner(LookupError):
        """Lives in a class."""


class Colour(enum.Enum):
    RED = 1


def with_cause() -> BaseException:
    try:
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError as error:
            raise KeyError("middle") from error
    except KeyError as error:
        outer = Api(503, "busy")
        outer.__cause__ = error
        return outer


def with_context() -> BaseException:
    try:
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            raise ValueError("while handling")  # noqa: B904
    except ValueError as error:
        return error


def with_long_chain() -> BaseException:
    error: BaseException = ValueError("last")
    for n in range(50):
        following = ValueError(f"link {n}")
        following.__cause__ = error
        error = following
    return error


def with_circular_cause() -> BaseException:
    error, other = ValueError("one"), ValueError("other")
    error.__cause__, other.__cause__ = other, error
    return error


def with_notes() -> BaseException:
    error = ValueError("noted")
    error.add_note("first note")
    error.add_note("second note\nof two lines")
    return error


def with_odd_notes() -> BaseException:
    error = ValueError("noted")
    error.__notes__ = [Unstrable(), "text", 7]  # type: ignore[list-item]
    return error


def with_notes_that_are_no_list() -> BaseException:
    error = ValueError("noted")
    error.__notes__ = 5  # type: ignore[assignment]
    return error


def with_odd_attributes() -> BaseException:
    error = ValueError("odd")
    vars(error)[7] = "seven"  # type: ignore[index]
    vars(error)["a key"] = Decimal("1.10")
    return error


def local_class() -> BaseException:
    class Local(Exception):
        pass

    return Local("of a function")


def raised_by(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


LOCK = threading.Lock()

ACTIVITY_ERROR = "py_orchestrate.errors:ActivityError"

SAME: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("no stock"),
    "no text": lambda: ValueError(),
    "empty text": lambda: RuntimeError(""),
    "several arguments": lambda: RuntimeError("a", 1, None, 2.5),
    "rich arguments": lambda: ValueError(Decimal("1.10"), (1, {2}), b"\x00\xff", Colour.RED),
    "empty tuple": lambda: ValueError(()),
    "NUL": lambda: ValueError("a\0b"),
    "lone surrogate": lambda: ValueError("a\ud83db"),
    "lines": lambda: ValueError("a\r\nb\tc\u2028d"),
    "other scripts": lambda: ValueError("漢字 😀 \x1b[31m"),
    "long": lambda: ValueError("x" * 60_000),
    "KeyError": lambda: raised_by(lambda: {}["missing"]),
    "KeyError of a tuple": lambda: KeyError(("a", 1)),
    "IndexError": lambda: raised_by(lambda: [][1]),
    "ZeroDivisionError": lambda: raised_by(lambda: 1 / 0),
    "AttributeError": lambda: raised_by(lambda: (1).nothing),  # type: ignore[attr-defined]
    "NameError": lambda: raised_by(lambda: nothing),  # type: ignore[name-defined]  # noqa: F821
    "ModuleNotFoundError": lambda: raised_by(lambda: __import__("nothing_by_that_name")),
    "ImportError": lambda: ImportError("cannot", name="n", path="p"),
    "SyntaxError": lambda: raised_by(lambda: compile("x = (", "file.py", "exec")),
    "AssertionError": lambda: AssertionError(),
    "NotImplementedError": lambda: NotImplementedError("later"),
    "RecursionError": lambda: RecursionError("too deep"),
    "MemoryError": lambda: MemoryError("full"),
    "TypeError": lambda: raised_by(lambda: len(5)),  # type: ignore[arg-type]
    "FileNotFoundError": lambda: raised_by(lambda: os.stat("/nowhere/x.txt")),
    "OSError of two files": lambda: raised_by(lambda: os.rename("/nowhere/a", "/nowhere/b")),
    "OSError of a bytes name": lambda: raised_by(lambda: os.stat(b"/nowhere/x.txt")),
    "OSError of text": lambda: OSError("disk on fire"),
    "OSError of three": lambda: OSError(13, "denied", "f"),
    "OSError of an unknown number": lambda: OSError(99999, "what"),
    "ConnectionResetError": lambda: ConnectionResetError(104, "reset"),
    "TimeoutError": lambda: TimeoutError("late"),
    "UnicodeDecodeError": lambda: raised_by(lambda: b"a\xff".decode()),
    "UnicodeEncodeError": lambda: raised_by("a\ud83d".encode),
    "StopIteration": lambda: StopIteration(3),
    "StopAsyncIteration": lambda: StopAsyncIteration(),
    "SystemExit of a number": lambda: SystemExit(3),
    "SystemExit of text": lambda: SystemExit("bye"),
    "SystemExit of nothing": lambda: SystemExit(),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(),
    "CancelledError": lambda: asyncio.CancelledError("gone"),
    "GeneratorExit": lambda: GeneratorExit(),
    "BaseException": lambda: Stop("stop"),
    "group": lambda: ExceptionGroup("many", [ValueError("one"), KeyError("two")]),
    "group in a group": lambda: ExceptionGroup("outer", [ExceptionGroup("inner", [Api(1, "b")]), OSError(2, "x", "f")]),
    "group of no Exceptions": lambda: BaseExceptionGroup("hard", [SystemExit(1), ValueError("soft")]),
    "JSONDecodeError": lambda: raised_by(lambda: json.loads("{")),
    "CalledProcessError": lambda: subprocess.CalledProcessError(1, ["cmd", "-x"], b"out", None),
    "own __init__": lambda: Api(503, "busy"),
    "keywords only": lambda: KeywordOnly(code=5),
    "slots": lambda: Slotted(7),
    "dataclass": lambda: Data(7, "body"),
    "dataclass by keyword": lambda: Data(code=7),
    "frozen dataclass": lambda: Frozen(7),
    "requests": lambda: RequestFailed("502 for url", status_code=502),
    "requests with a number": lambda: RequestFailed(5, "text", "file", status_code=502),
    "class in a class": lambda: Outer.Inner("inner"),
    "unreprable": lambda: Unreprable("shown"),
    "unstrable": lambda: Unstrable("hidden"),
    "text that is none": lambda: NoText("hidden"),
    "cause": with_cause,
    "context": with_context,
    "notes": with_notes,
    "odd attributes": with_odd_attributes,
}
"""What comes back as it was: class, text, arguments, attributes, notes and causes."""

LESS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "attribute that cannot be stored": (lambda: HasLock("locked"), f"{__name__}:HasLock"),
    "requests with a response": (lambda: RequestFailed("502", response=io.StringIO()), f"{__name__}:RequestFailed"),
    "urllib": (
        lambda: urllib.error.HTTPError("http://host", 404, "Not Found", None, io.BytesIO(b"body")),  # type: ignore[arg-type]
        "urllib.error:HTTPError",
    ),
    "argument that cannot be stored": (lambda: ValueError(LOCK), ACTIVITY_ERROR),
    "argument that contains itself": (lambda: ValueError(circular()), ACTIVITY_ERROR),
    "argument that is a class": (lambda: TypeError(int), ACTIVITY_ERROR),
    "very long": (lambda: ValueError("x" * 3_000_000), "builtins:ValueError"),
    "very long attribute": (lambda: Api(503, "x" * 3_000_000), f"{__name__}:Api"),
    "own __new__": (lambda: NeedsTwo("a", "b"), ACTIVITY_ERROR),
    "class of a function": (local_class, ACTIVITY_ERROR),
    "hostile": (lambda: Hostile("hostile"), f"{__name__}:Hostile"),
    "hostile OSError": (lambda: HostileOSError(2, "text", "file"), f"{__name__}:HostileOSError"),
    "impossible": (lambda: Impossible("impossible"), ACTIVITY_ERROR),
    "odd notes": (with_odd_notes, "builtins:ValueError"),
    "notes that are no list": (with_notes_that_are_no_list, "builtins:ValueError"),
    "long chain": (with_long_chain, "builtins:ValueError"),
    "circular cause": (with_circular_cause, "builtins:ValueError"),
    "big group": (lambda: ExceptionGroup("many", [ValueError(n) for n in range(10_000)]), ACTIVITY_ERROR),
    "group that holds what cannot be stored": (
        lambda: ExceptionGroup("some", [ValueError(LOCK), local_class()]),
        "builtins:ExceptionGroup",
    ),
}
"""What loses something on the way, or comes back as an ActivityError; never in silence, and always in the same way."""

FAILURES = {**SAME, **{name: make for name, (make, _) in LESS.items()}}


def describe(error: BaseException | None, depth: int = 8) -> list[Any]:
    """Return all that code can learn of an exception, as plain data; not the traceback that the library notes on it."""
    if error is None or depth == 0:
        return []
    notes = value_of(error, "__notes__") or []
    shown = [note for note in notes if not note.startswith("Traceback where")] if isinstance(notes, list) else ["?"]
    state = object.__getstate__(error)
    plain, slots = state if isinstance(state, tuple) else (state, {})
    attributes = {**(plain or {}), **slots}
    attributes.pop("__notes__", None)
    members = (
        "name",
        "path",
        "code",
        "value",
        "errno",
        "strerror",
        "filename",
        "filename2",
        "reason",
        "start",
        "lineno",
    )
    return [
        f"{type(error).__module__}:{type(error).__qualname__}",
        text_of(error),
        ascii(error.args) if not isinstance(error, BaseExceptionGroup) else error.message,
        sorted((str(key), ascii(value)) for key, value in attributes.items()),
        [(member, ascii(value_of(error, member))) for member in members],
        shown,
        [describe(part, depth - 1) for part in value_of(error, "exceptions") or []],
        describe(error.__cause__, depth - 1),
        error.__suppress_context__,
    ]


def value_of(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except KeyError:  # urllib's, which looks into a file that it no longer has
        return None


def text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as raised:
        return f"raised {type(raised).__name__}"
