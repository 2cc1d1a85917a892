"""A limit for what one value may take in the store: a serializer around another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import SerializationError
from .serialization import Serializer


class LimitedSerializer:
    """Refuses what another serializer makes too much of."""

    def __init__(self, serializer: Serializer, max_bytes: int) -> None:
        self._serializer = serializer
        self._max_bytes = max_bytes

    def encode(self, value: Any, *, what: str = "value", types: Mapping[str, type] | None = None) -> tuple[str, Any]:
        """See ``Serializer``.

        Raises:
            SerializationError: The value cannot be stored, or takes too much.
        """
        text, copy = self._serializer.encode(value, what=what, types=types)
        # A text has at most four bytes for each of its characters, so most need not be encoded to be measured.
        if len(text) * 4 > self._max_bytes and (size := len(text.encode("utf-8", "surrogatepass"))) > self._max_bytes:
            raise SerializationError(
                f"the {what} takes {size:,} bytes, and max_payload_bytes is {self._max_bytes:,}: store it elsewhere, "
                "and pass its path or id"
            )
        return text, copy

    def decode(self, text: str, *, types: Mapping[str, type] | None = None, lenient: bool = False) -> Any:
        """See ``Serializer``. What is stored can be read, whatever the limit is."""
        return self._serializer.decode(text, types=types, lenient=lenient)
