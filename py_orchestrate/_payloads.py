"""The stored texts of values: a limit for what one may take, and which are equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ._stored_classes import MARK
from .errors import SerializationError
from .serialization import Serializer


class LimitedSerializer:
    """A serializer around another one, which refuses what that makes too much of.

    Attributes:
        unlimited: The other serializer.
    """

    def __init__(self, serializer: Serializer, max_bytes: int) -> None:
        self.unlimited = serializer
        self._max_bytes = max_bytes

    def encode(self, value: Any, *, what: str = "value", types: Mapping[str, type] | None = None) -> tuple[str, Any]:
        """See ``Serializer``.

        Raises:
            SerializationError: The value cannot be stored, or takes too much.
        """
        text, copy = self.unlimited.encode(value, what=what, types=types)
        # A text has at most four bytes for each of its characters, so most need not be encoded to be measured.
        if len(text) * 4 > self._max_bytes and (size := len(text.encode("utf-8", "surrogatepass"))) > self._max_bytes:
            raise SerializationError(
                f"the {what} takes {size:,} bytes, and max_payload_bytes is {self._max_bytes:,}: store it elsewhere, "
                "and pass its path or id"
            )
        return text, copy

    def decode(self, text: str, *, types: Mapping[str, type] | None = None, lenient: bool = False) -> Any:
        """See ``Serializer``. What is stored can be read, whatever the limit is."""
        return self.unlimited.decode(text, types=types, lenient=lenient)


def are_equal(one: str, other: str) -> bool:
    """Return whether two texts hold equal values: the same but for the order of what a ``dict`` holds.

    The texts are compared, not the values: for Python 1 and True are equal, NaN is not even equal to itself, and a
    class may say anything.
    """
    if one == other:
        return True
    try:
        return _in_order(json.loads(one)) == _in_order(json.loads(other))
    except (ValueError, RecursionError):  # another serializer's, or nested too deeply
        return False


def _in_order(data: Any) -> str:
    return json.dumps(_sorted(data), sort_keys=True)


def _sorted(data: Any) -> Any:
    if isinstance(data, list):
        return [_sorted(each) for each in data]
    if not isinstance(data, dict):
        return data
    found = {key: _sorted(value) for key, value in data.items()}
    if found.get(MARK) in ("dict", "Counter", "set", "frozenset"):  # pairs of a key and its value, or elements
        found["v"].sort(key=_in_order)
    return found
