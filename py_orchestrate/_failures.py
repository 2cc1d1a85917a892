"""Exceptions as stored text, and back.

A failure is stored as a JSON document: the exception's class by name, its text, its traceback, its arguments and
attributes where they can be stored, and its cause. Nothing is pickled, and reading one imports nothing. It is raised
again as the same class where that class is already imported and comes out with the same text; ``__init__`` of a class
written in Python is not called, because its parameters are not the exception's ``args``. Everywhere else it is raised
as ``ActivityError`` with the class's name and the text. What a workflow catches is always made from the stored
document, in the first run as in a replay, so the two cannot differ.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, NamedTuple

from .errors import ActivityError, SerializationError
from .serialization import Serializer

_TRACEBACK_LIMIT = 20_000
_MESSAGE_LIMIT = 64_000
_CAUSES = 5
_PACKAGE = os.path.dirname(__file__) + os.sep
_NOTE = "Traceback where it was first raised:\n"


class Failure(NamedTuple):
    """An exception in its stored form.

    Attributes:
        document: The JSON text.
        message: The exception's text, as the database's ``error_message`` shows it.
    """

    document: str
    message: str


class FailureSummary(NamedTuple):
    """What a failure document says, for people.

    Attributes:
        type_name: ``module:qualname`` of the class.
        message: Its text.
        traceback_text: Its traceback.
    """

    type_name: str
    message: str
    traceback_text: str


def encode_failure(error: BaseException, serializer: Serializer) -> Failure:
    """Return the exception in its stored form; never raises because of what the exception holds."""
    document = _document(error, serializer, _CAUSES)
    document["traceback"] = _traceback_text(error)
    return Failure(json.dumps(document), shown_message(error))


def decode_failure(document: str | None, message: str | None, serializer: Serializer) -> BaseException:
    """Return the exception to raise for a stored failure.

    Args:
        document: The failure document; ``None`` for one that 1.0.2 stored.
        message: The stored text, used where there is no document.
        serializer: What the arguments were encoded with.
    """
    if document is None:
        return ActivityError(message or "", "builtins:Exception")
    data = json.loads(document)
    error = _rebuild(data, serializer)
    if data["traceback"]:
        error.add_note(_NOTE + data["traceback"].rstrip())
    return error


def summarize_failure(document: str | None, message: str | None) -> FailureSummary:
    """Return what a stored failure says without building the exception."""
    if document is None:
        return FailureSummary("", message or "", "")
    data = json.loads(document)
    return FailureSummary(data["type"], data["message"], data["traceback"])


def shown_message(error: BaseException) -> str:
    """Return the text for ``error_message``: ``str(error)``, as in 1.0.2, or the class where that says nothing."""
    message = _message(error)
    if not isinstance(error, Exception):
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    # SQLite refuses lone surrogates in text, and shells end a text at a NUL.
    return (message or type(error).__name__).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _message(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not cost the failure
        message = f"<unprintable {type(error).__name__}>"
    return message if len(message) <= _MESSAGE_LIMIT else message[:_MESSAGE_LIMIT] + "… (shortened)"


def _traceback_text(error: BaseException) -> str:
    """Return the traceback from the user's code on, with its causes, shortened in the middle where it is long."""
    traceback_ = error.__traceback__
    while traceback_ is not None and traceback_.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        traceback_ = traceback_.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, traceback_))
    except Exception:  # noqa: BLE001 - a broken exception must not cost the failure
        text = "".join(traceback.format_tb(traceback_)) + f"{type(error).__name__}: {_message(error)}\n"
    if len(text) > _TRACEBACK_LIMIT:
        half = _TRACEBACK_LIMIT // 2
        text = f"{text[:half]}\n… (shortened) …\n{text[-half:]}"
    return text


def _document(error: BaseException, serializer: Serializer, causes: int) -> dict[str, Any]:
    cause = error.__cause__
    state = {key: _encoded(value, serializer) for key, value in vars(error).items()}
    type_name = _name(type(error))
    if isinstance(error, ActivityError) and error.type_name:  # passing through: still the failure that it stands for
        type_name = error.type_name
    return {
        "type": type_name,
        "message": _message(error),
        "args": _encoded(_arguments(error), serializer),
        "state": {key: text for key, text in state.items() if text is not None and key != "__notes__"},
        "notes": [str(note) for note in _notes(error)],
        "cause": _document(cause, serializer, causes - 1) if cause is not None and causes else None,
        "traceback": "",
    }


def _arguments(error: BaseException) -> list[Any]:
    """Return what ``__new__`` needs; for OSError that is more than ``args`` (the file's name)."""
    if isinstance(error, OSError):
        reduced = error.__reduce__()
        if isinstance(reduced, tuple) and isinstance(reduced[1], tuple):
            return list(reduced[1])
    return list(error.args)


def _notes(error: BaseException) -> list[object]:
    notes = getattr(error, "__notes__", ())
    return [note for note in notes if not str(note).startswith(_NOTE)] if isinstance(notes, list) else []


def _encoded(value: Any, serializer: Serializer) -> str | None:
    try:
        return serializer.encode(value, what="an exception's argument")[0]
    except SerializationError:
        return None


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find(type_name: str) -> type[BaseException] | None:
    module_name, _, qualname = type_name.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _rebuild(data: dict[str, Any], serializer: Serializer) -> BaseException:
    error = _same_class(data, serializer)
    if error is None:
        error = ActivityError(data["message"], data["type"], data["traceback"])
    if data["cause"] is not None:
        error.__cause__ = _rebuild(data["cause"], serializer)
    for note in data["notes"]:
        error.add_note(note)
    return error


def _same_class(data: dict[str, Any], serializer: Serializer) -> BaseException | None:
    cls = _find(data["type"])
    if cls is None or data["args"] is None:
        return None
    try:
        arguments = serializer.decode(data["args"])
        state = {key: serializer.decode(text) for key, text in data["state"].items()}
        # A built-in's own __init__ takes its args and may set fields from them; one written in Python takes others.
        builtin_init = not hasattr(cls.__init__, "__code__")
        error: BaseException = cls(*arguments) if builtin_init else cls.__new__(cls, *arguments)
        if error.args != tuple(arguments) and not isinstance(error, OSError):
            error.args = tuple(arguments)
        vars(error).update(state)
        matches = _message(error) == data["message"]
    except Exception:  # noqa: BLE001 - whatever the class does, the failure is still raised, as ActivityError
        return None
    return error if matches else None
