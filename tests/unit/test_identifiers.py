"""Ids and names: what is accepted."""

from __future__ import annotations

import time
import uuid

import pytest

from py_orchestrate._identifiers import MAX_WORKFLOW_ID_LENGTH, check_name, check_workflow_id
from py_orchestrate._ids import new_workflow_id
from py_orchestrate.errors import InvalidWorkflowIdError


def test_new_ids_are_uuids_of_version_7() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_workflow_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
        assert check_workflow_id(text) == text


def test_new_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for milliseconds in (1, 1_000, 1_700_000_000_000, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
        made.append(new_workflow_id())
    assert made == sorted(made)


@pytest.mark.parametrize(
    "workflow_id",
    ["a", "0", "order-7", "a b", "a:b", "a.b_c~d", "{}", "漢字", "😀", "é", "e\u0301", "x" * 200, "\u00a1"],
)
def test_good_ids(workflow_id: str) -> None:
    assert check_workflow_id(workflow_id) is workflow_id


@pytest.mark.parametrize(
    "workflow_id",
    [
        "",
        "x" * (MAX_WORKFLOW_ID_LENGTH + 1),
        " a",
        "a ",
        "\u3000a",
        *(f"a{c}b" for c in "/\\?#\0\n\t\x1f\x7f\x85\ud800\udfff"),
    ],
    ids=ascii,
)
def test_bad_ids(workflow_id: str) -> None:
    with pytest.raises(InvalidWorkflowIdError) as caught:
        check_workflow_id(workflow_id)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("workflow_id", [None, 5, b"a", ["a"], uuid.UUID(int=1)], ids=repr)
def test_ids_of_another_type(workflow_id: object) -> None:
    with pytest.raises(TypeError, match=f"a workflow id is a str, not {type(workflow_id).__name__}"):
        check_workflow_id(workflow_id)


@pytest.mark.parametrize("name", ["a", "billing/month #1?", " a ", "漢字", "x" * 10_000, "<lambda>"])
def test_good_names(name: str) -> None:
    assert check_name("workflow", name) is name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "the name of an activity must not be empty"),
        (" \t", "the name of an activity must not be blank"),
        ("a\0", r"has a control character or a lone surrogate in it: 'a\\x00'"),
        ("\ud83d", r"has a control character or a lone surrogate in it: '\\ud83d'"),
        ("a\nb", "has a control character"),
    ],
    ids=ascii,
)
def test_bad_names(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_name("activity", name)


def test_names_of_another_type() -> None:
    with pytest.raises(TypeError, match="the name of a workflow is a str, not int"):
        check_name("workflow", 5)
