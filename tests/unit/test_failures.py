"""Exceptions as stored text, without an engine. What comes back of all kinds is in tests/cases/test_errors.py."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate._failures import decode_failure, encode_failure, shown_message, summarize_failure
from py_orchestrate._payloads import LimitedSerializer
from py_orchestrate.errors import ActivityError, NonDeterminismError, SerializationError
from py_orchestrate.serialization import JsonSerializer

from ..cases.failures import FAILURES, LESS, SAME, Api, describe, text_of

SERIALIZER = JsonSerializer()


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def round_trip(error: BaseException) -> BaseException:
    failure = encode_failure(raised(error), SERIALIZER)
    return decode_failure(failure.document, failure.message, SERIALIZER)


@pytest.mark.parametrize("which", FAILURES)
def test_a_document_is_text_that_every_store_takes(which: str) -> None:
    failure = encode_failure(raised(FAILURES[which]()), SERIALIZER)
    assert isinstance(json.loads(failure.document), dict)
    assert failure.document.isascii()
    failure.message.encode()  # no lone surrogates
    assert failure.message
    assert "\0" not in failure.message
    assert len(failure.document) < 1_000_000
    assert len(failure.message) < 70_000


@pytest.mark.parametrize("which", FAILURES)
def test_decoding_gives_a_new_object_each_time_and_the_same_content(which: str) -> None:
    failure = encode_failure(raised(FAILURES[which]()), SERIALIZER)
    first, second = (decode_failure(failure.document, failure.message, SERIALIZER) for _ in range(2))
    assert first is not second
    assert describe(first) == describe(second)
    if which in SAME:
        assert describe(first) == describe(SAME[which]())


@pytest.mark.parametrize("which", FAILURES)
def test_a_second_journey_changes_nothing_more(which: str) -> None:
    """A failure passes through a workflow, and perhaps through its parent."""
    once = round_trip(FAILURES[which]())
    twice = round_trip(once)
    if which in SAME or LESS[which][1] != f"{ActivityError.__module__}:ActivityError":
        assert describe(twice)[:5] == describe(once)[:5]
    assert text_of(twice) == text_of(once)
    summaries = [summarize_failure(encode_failure(each, SERIALIZER).document, None) for each in (once, twice)]
    assert summaries[0].type_name == summaries[1].type_name


@pytest.mark.parametrize("max_bytes", [1, 1000, None])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 5000),
        ValueError("x" * 3_000_000),
        ValueError("😀" * 3_000_000),
        ValueError(["x" * 1000] * 1000),
        ValueError("x", ["x" * 1000] * 1000),
        FileNotFoundError(2, "x" * 500_000, "file"),
        Api(503, "x" * 5000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_how_much_it_holds_does_not_change_its_class(error: BaseException, max_bytes: int | None) -> None:
    serializer = SERIALIZER if max_bytes is None else LimitedSerializer(SERIALIZER, max_bytes)
    failure = encode_failure(raised(error), serializer)
    assert len(failure.document) < 2_000_000
    decoded = decode_failure(failure.document, failure.message, serializer)
    assert type(decoded) is type(error)
    assert text_of(decoded)[:1000] == text_of(error)[:1000]
    assert describe(round_trip(decoded))[:2] == describe(decoded)[:2]


def test_nothing_of_the_original_is_shared() -> None:
    payload = {"n": [1]}
    error = Api(503, "busy")
    error.args = (payload,)
    error.extra = payload  # type: ignore[attr-defined]
    failure = encode_failure(error, SERIALIZER)
    payload["n"].append(2)
    once, again = (decode_failure(failure.document, None, SERIALIZER) for _ in range(2))
    assert once.args == ({"n": [1]},)
    once.args[0]["n"].append(3)
    assert again.args == ({"n": [1]},)
    assert again.extra == {"n": [1]}  # type: ignore[attr-defined]


def test_the_traceback_is_a_note_and_does_not_pile_up() -> None:
    error = round_trip(ValueError("x"))
    (note,) = error.__notes__
    assert note.startswith("Traceback where it was first raised:\n")
    assert "raise error\nValueError: x" in note
    again = round_trip(error)
    assert len(again.__notes__) == 1


def test_a_failure_of_1_0_2_has_only_its_text() -> None:
    error = decode_failure(None, "disk on fire", SERIALIZER)
    assert isinstance(error, ActivityError)
    assert (str(error), error.message, error.type_name, error.traceback_text) == (
        "disk on fire", "disk on fire", "builtins:Exception", ""
    )  # fmt: skip
    assert str(decode_failure(None, None, SERIALIZER)) == ""
    assert summarize_failure(None, "disk on fire") == ("", "disk on fire", "")
    assert summarize_failure(None, None) == ("", "", "")


def test_a_summary_builds_nothing() -> None:
    failure = encode_failure(raised(Api(503, "busy")), SERIALIZER)
    summary = summarize_failure(failure.document, failure.message)
    assert summary.type_name == f"{Api.__module__}:Api"
    assert summary.message == "503: busy"
    assert "raise error" in summary.traceback_text


def test_the_library_s_own_errors_come_back_with_their_data() -> None:
    mismatch = round_trip(NonDeterminismError("text", 3, "a", "b"))
    assert isinstance(mismatch, NonDeterminismError)
    assert (str(mismatch), mismatch.sequence, mismatch.recorded, mismatch.called) == ("text", 3, "a", "b")
    refusal = round_trip(SerializationError("text", "$.a[1]"))
    assert isinstance(refusal, SerializationError)
    assert refusal.path == "$.a[1]"
    stand_in = round_trip(ActivityError("text", "gone:Error", "traceback"))
    assert isinstance(stand_in, ActivityError)
    assert (stand_in.message, stand_in.type_name) == ("text", "gone:Error")


@pytest.mark.parametrize(
    "name", ["builtins:int", "builtins:print", "os:path", "nowhere:Error", "builtins:", ":", "", "x"]
)
def test_a_name_that_leads_to_no_exception(name: str) -> None:
    document = json.loads(encode_failure(ValueError("text"), SERIALIZER).document)
    error = decode_failure(json.dumps({**document, "type": name}), None, SERIALIZER)
    assert isinstance(error, ActivityError)
    assert (str(error), error.type_name) == ("text", name)


def test_a_module_that_is_loaded_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("a_lazy_module")
    lazy.__getattr__ = lambda name: pytest.fail(f"asked for {name}")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, lazy.__name__, lazy)
    assert isinstance(decoded_as("a_lazy_module:Error"), ActivityError)


def decoded_as(type_name: str) -> BaseException:
    document = json.loads(encode_failure(ValueError("text"), SERIALIZER).document)
    return decode_failure(json.dumps({**document, "type": type_name}), None, SERIALIZER)


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("class Error(Exception): pass", True),
        ("class Error: pass", False),
        ("raise KeyError('it needs something')", False),
        ("raise SystemExit(1)", False),
        ("import warnings; warnings.warn('old', DeprecationWarning)", False),
        ("a syntax error", False),
        ("", False),
    ],
)
def test_the_module_of_a_class_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, is_found: bool
) -> None:
    name = f"module_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(source)
    error = decoded_as(f"{name}:Error")
    sys.modules.pop(name, None)
    assert type(error).__module__ == (name if is_found else ActivityError.__module__)
    assert str(error) == "text"


def test_init_of_a_class_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = encode_failure(raised(Api(503, "busy")), SERIALIZER)

    def forbidden(self: Any, *args: Any) -> None:
        pytest.fail("called")

    monkeypatch.setattr(Api, "__init__", forbidden)
    error = decode_failure(failure.document, None, SERIALIZER)
    assert type(error) is Api
    assert (error.code, error.body) == (503, "busy")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x"), "x"),
        (ValueError(), "ValueError"),
        (KeyError("x"), "'x'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("a\0b"), "a\\x00b"),
        (ValueError("a\ud83d"), "a\\ud83d"),
        (ValueError("漢字 😀"), "漢字 😀"),
        (ValueError("\ud83d\ude00"), "😀"),
    ],
    ids=repr,
)
def test_the_text_that_people_see(error: BaseException, text: str) -> None:
    assert shown_message(error) == text
