r"""Workflow ids, and the names of workflows and activities: what is accepted, and how an id is made.

The rule for ids is the narrowest of all backends' (Cosmos DB refuses ``/ \\ ? #`` in an item's id), so that a program
that runs on SQLite keeps running when its store is exchanged. Names are stored as properties, and may be any text that
can be shown.
"""

from __future__ import annotations

from .errors import InvalidWorkflowIdError

MAX_WORKFLOW_ID_LENGTH = 200
_FORBIDDEN = frozenset("/\\?#")


def check_workflow_id(workflow_id: object, what: str = "workflow id") -> str:
    r"""Return ``workflow_id`` if every backend can store it.

    Args:
        workflow_id: The id.
        what: What it is, for messages: the ids of events and schedules go by the same rules.

    Raises:
        TypeError: It is not a string.
        InvalidWorkflowIdError: It is empty, longer than 200 characters, begins or ends with white space, or has one of
            ``/ \\ ? #``, a control character or a lone surrogate in it.
    """
    if not isinstance(workflow_id, str):
        raise TypeError(f"{_a(what)} is a str, not {type(workflow_id).__name__}")
    if not workflow_id:
        raise InvalidWorkflowIdError(f"{_a(what)} must not be empty")
    if len(workflow_id) > MAX_WORKFLOW_ID_LENGTH:
        raise InvalidWorkflowIdError(
            f"{_a(what)} has at most {MAX_WORKFLOW_ID_LENGTH} characters, this one has {len(workflow_id)}"
        )
    if workflow_id.isascii() and workflow_id.isprintable() and _FORBIDDEN.isdisjoint(workflow_id):
        suspects = ""  # nearly all ids, of which a program may ask for as many as it starts runs
    else:
        suspects = workflow_id
    for character in suspects:
        if character in _FORBIDDEN or _is_unprintable(ord(character)):
            raise InvalidWorkflowIdError(
                f"{what} {workflow_id!a} has the character {character!a}; "
                "/ \\ ? #, control characters and lone surrogates are not allowed"
            )
    if workflow_id != workflow_id.strip():
        raise InvalidWorkflowIdError(f"{what} {workflow_id!r} begins or ends with white space")
    return workflow_id


def check_name(kind: str, name: object) -> str:
    """Return ``name`` if a workflow or an activity may be called so.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty or blank, or has a control character or a lone surrogate in it.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of {_a(kind)} is a str, not {type(name).__name__}")
    if not name.strip():
        raise ValueError(f"the name of {_a(kind)} must not be {'blank' if name else 'empty'}")
    if any(_is_unprintable(ord(character)) for character in name):
        raise ValueError(f"the name of {_a(kind)} has a control character or a lone surrogate in it: {name!a}")
    return name


def check_text(what: str, value: object) -> None:
    """Raise unless this may be looked for in the store: a text, or ``None`` for anything.

    Raises:
        TypeError: It is not a string.
        ValueError: It has a lone surrogate in it, which no store takes.
    """
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")
    if any(0xD800 <= ord(character) < 0xE000 for character in value):
        raise ValueError(f"{what} has a lone surrogate in it: {value!a}")


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _is_unprintable(code: int) -> bool:
    """Return whether this is the code of a control character or a lone surrogate."""
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code <= 0xDFFF
