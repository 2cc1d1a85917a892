"""Exceptions as stored text, and back.

A failure is stored as a JSON document: the exception's class by name, its text, its traceback, its arguments and
attributes where they can be stored, its cause and, of a group, its members. Nothing is pickled. It is raised again as
the same class where that class can be imported by its name and comes out with the same text;
``__init__`` of a class written in Python is not called, because its parameters are not the exception's ``args``.
Everywhere else it is raised as ``ActivityError`` with the class's name and the text. What a workflow catches is always
made from the stored document, in the first run as in a replay, so the two cannot differ.

What is large is cut, by fixed limits: a text to its beginning, and other arguments to the exception's text, of which
most classes can be made. The limit for values does not hold here: it would decide which ``except`` clause matches.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import traceback
from collections.abc import Iterator
from contextvars import Context
from types import MemberDescriptorType, TracebackType
from typing import Any, NamedTuple

from ._payloads import LimitedSerializer
from ._stored_classes import is_script, resolve, stored_name
from .errors import ActivityError, SerializationError
from .serialization import Serializer

_TRACEBACK_LIMIT = 20_000
_MESSAGE_LIMIT = 64_000
_LARGE = 2 * _MESSAGE_LIMIT
_CAUSES = 5
_MEMBERS = 1000
_BUILT_IN_MEMBERS = ("errno", "strerror", "filename", "filename2", "name", "path")
_PACKAGE = os.path.dirname(__file__) + os.sep
_NOTE = "Traceback where it was first raised:\n"


class Failure(NamedTuple):
    """An exception in its stored form.

    Attributes:
        document: The JSON text; ``None`` where nothing failed.
        message: The exception's text, as the database's ``error_message`` shows it; ``None`` likewise.
    """

    document: str | None
    message: str | None


NO_FAILURE = Failure(None, None)


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


def encode_failure(error: BaseException, serializer: Serializer, *, step: dict[str, Any] | None = None) -> Failure:
    """Return the exception in its stored form; never raises because of what the exception holds.

    Args:
        error: The exception.
        serializer: What encodes its arguments.
        step: Of a workflow's failure: which step it came from.
    """
    if isinstance(serializer, LimitedSerializer):
        serializer = serializer.unlimited
    try:
        document = _document(error, serializer, _CAUSES)
    except Exception:  # noqa: BLE001 - a hostile class must not cost the failure
        document = _empty_document(error)
    document["traceback"] = _traceback_text(error)
    if step is not None:
        document["step"] = step
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
        _add_note(error, _NOTE + data["traceback"].rstrip())
    return error


def summarize_failure(document: str | None, message: str | None) -> FailureSummary:
    """Return what a stored failure says without building the exception."""
    if document is None:
        return FailureSummary("", message or "", "")
    data = json.loads(document)
    return FailureSummary(data["type"], data["message"], data["traceback"])


def annotated_failure(failure: Failure, note: str) -> Failure:
    """Return a stored failure with one more note."""
    if failure.document is None:
        return failure
    document = json.loads(failure.document)
    document["notes"].append(note)
    return failure._replace(document=json.dumps(document))


def origin_of_failure(document: str | None) -> dict[str, Any] | None:
    """Return which step a workflow's failure came from; see ``Journal.origin_of``."""
    step: dict[str, Any] | None = None if document is None else json.loads(document).get("step")
    return step


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
    if not message.isascii():  # as it comes out of the document: JSON joins two surrogates that stand side by side
        message = message.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return _shortened(message)


def _shortened(text: str) -> str:
    return text if len(text) <= _MESSAGE_LIMIT else text[:_MESSAGE_LIMIT] + "… (shortened)"


def user_traceback(error: BaseException) -> TracebackType | None:
    """Return the traceback from the user's code on, without this library's frames above it."""
    traceback_ = error.__traceback__
    while traceback_ is not None and traceback_.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        traceback_ = traceback_.tb_next
    return traceback_


def _traceback_text(error: BaseException) -> str:
    """Return the traceback from the user's code on, with its causes, shortened in the middle where it is long."""
    traceback_ = user_traceback(error)
    try:
        text = "".join(traceback.format_exception(type(error), error, traceback_))
    except Exception:  # noqa: BLE001 - a broken exception must not cost the failure
        text = "".join(traceback.format_tb(traceback_)) + f"{type(error).__name__}: {_message(error)}\n"
    if len(text) > _TRACEBACK_LIMIT:
        half = _TRACEBACK_LIMIT // 2
        text = f"{text[:half]}\n… (shortened) …\n{text[-half:]}"
    return text


def _empty_document(error: BaseException) -> dict[str, Any]:
    return {
        **stored_name(type(error)),
        "message": _message(error),
        "args": None,
        "state": {},
        "notes": [],
        "cause": None,
        "traceback": "",
    }


def _document(error: BaseException, serializer: Serializer, causes: int) -> dict[str, Any]:
    document = _empty_document(error)
    if isinstance(error, ActivityError) and error.type_name:  # passing through: still the failure that it stands for
        document["type"] = error.type_name
    if isinstance(error, BaseExceptionGroup):
        if _size(error) <= _MEMBERS:
            text = _encoded([error.message], serializer)
            document["args"] = text if text is not None and len(text) <= _LARGE else None
            document["members"] = [_document(member, serializer, causes) for member in error.exceptions]
    else:
        document["args"] = _kept_arguments(error, document["message"], serializer)
    state = {name: _encoded(value, serializer) for name, value in _attributes(error)}
    document["state"] = {name: text for name, text in state.items() if text is not None and len(text) <= _LARGE}
    document["notes"] = _notes(error)
    if error.__cause__ is not None and causes:
        document["cause"] = _document(error.__cause__, serializer, causes - 1)
    return document


def _kept_arguments(error: BaseException, message: str, serializer: Serializer) -> str | None:
    """Return the arguments as text; where they are large, those of an exception that has only its text."""
    text = _encoded(_arguments(error), serializer)
    return text if text is None or len(text) <= _LARGE else _encoded([message], serializer)


def _size(error: BaseException) -> int:
    """Return how many exceptions there are in a group, and in the groups in it."""
    return sum(map(_size, error.exceptions)) if isinstance(error, BaseExceptionGroup) else 1


def _arguments(error: BaseException) -> list[Any]:
    """Return what ``__new__`` needs; for OSError that is more than ``args`` (the file's name)."""
    args = error.args
    if isinstance(error, OSError):
        reduced = OSError.__reduce__(error)
        if isinstance(reduced, tuple) and isinstance(reduced[1], tuple):
            args = reduced[1]
    return [_shortened(each) if type(each) is str else each for each in args]


def _attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield what the instance holds beside its ``args``: in its ``__dict__``, in slots, and in fields of built-ins.

    Not all fields of built-ins: most follow from ``args``, and AttributeError's ``obj`` is whatever was looked into.
    """
    for name, value in vars(error).items():
        if name != "__notes__":
            yield name, value
    for cls in type(error).__mro__:
        for name, member in vars(cls).items():
            if isinstance(member, MemberDescriptorType) and ("__slots__" in vars(cls) or name in _BUILT_IN_MEMBERS):
                value = getattr(error, name, None)
                if value is not None:
                    yield name, value


def _notes(error: BaseException) -> list[str]:
    notes = vars(error).get("__notes__")
    texts = [note if isinstance(note, str) else _note_text(note) for note in notes] if isinstance(notes, list) else []
    return [_shortened(text) for text in texts if not text.startswith(_NOTE)]


def _note_text(note: object) -> str:
    try:
        return str(note)
    except Exception:  # noqa: BLE001 - as for a message
        return f"<unprintable {type(note).__name__}>"


def _add_note(error: BaseException, note: str) -> None:
    """Do what ``add_note`` does, also for a class that refuses to be changed (a frozen dataclass)."""
    notes = vars(error).setdefault("__notes__", [])
    if isinstance(notes, list):
        notes.append(note)


def _encoded(value: Any, serializer: Serializer) -> str | None:
    try:
        return serializer.encode(value, what="an exception's argument")[0]
    except SerializationError:
        return None


def _find(type_name: str, script: str | None) -> type[BaseException] | None:
    """Return the class that a stored name means here; its module is imported if it is not there yet.

    The first run may have caught an exception of a module that only the activity imports, when it is called. In a
    replay it is not called, and an ``except`` clause for a base class would not match any more.
    """
    found = resolve(type_name, {}, script)
    module_name = type_name.partition(":")[0]
    if found is None and script is None and not is_script(module_name):
        # A module may do anything while it is imported, but its calls are none of the workflow's.
        with contextlib.suppress(Exception, SystemExit):
            Context().run(importlib.import_module, module_name)
            found = resolve(type_name, {})
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _rebuild(data: dict[str, Any], serializer: Serializer) -> BaseException:
    error = _same_class(data, serializer)
    if error is None:
        error = ActivityError(data["message"], data["type"], data["traceback"])
    if data["cause"] is not None:
        object.__setattr__(error, "__cause__", _rebuild(data["cause"], serializer))  # as for notes
    for note in data["notes"]:
        _add_note(error, note)
    return error


def _same_class(data: dict[str, Any], serializer: Serializer) -> BaseException | None:
    cls = _find(data["type"], data.get("script"))
    if cls is None or data["args"] is None:
        return None
    try:
        arguments = serializer.decode(data["args"])
        if "members" in data:
            arguments.append([_rebuild(member, serializer) for member in data["members"]])
        error = _made(cls, arguments)
        for name, text in data["state"].items():
            _set_attribute(error, name, serializer.decode(text))
        matches = _message(error) == data["message"]
    except Exception:  # noqa: BLE001 - whatever the class does, the failure is still raised, as ActivityError
        return None
    return error if matches else None


def _made(cls: type[BaseException], arguments: list[Any]) -> BaseException:
    """Return an exception with these ``args``."""
    error: BaseException
    if not hasattr(cls.__init__, "__code__"):  # a built-in's own takes its args, and may set fields from them
        error = cls(*arguments)
    else:  # one written in Python takes who knows what
        error = cls.__new__(cls, *arguments)
        if isinstance(error, OSError):  # whose __new__ leaves its fields to __init__ here
            OSError.__init__(error, *arguments)
    if error.args != tuple(arguments) and not isinstance(error, OSError | BaseExceptionGroup):
        error.args = tuple(arguments)
    return error


def _set_attribute(error: BaseException, name: str, value: Any) -> None:
    import inspect  # takes long to import, and is seldom needed

    member = inspect.getattr_static(type(error), name, None)
    if isinstance(member, MemberDescriptorType):
        member.__set__(error, value)
    else:
        vars(error)[name] = value
