"""JSON data as compact text that people can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder as json_encoder
from typing import Any


def _refuse(value: object) -> Any:
    raise TypeError(type(value).__name__)


def _choose_encoder() -> Callable[[Any], str]:
    """Return ``JSONEncoder.encode``, or the function below it, which costs half but is not documented."""
    portable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    make: Any = getattr(json_encoder, "c_make_encoder", None)
    escape = json_encoder.encode_basestring

    def encode(data: Any) -> str:
        # Made anew each time: the first argument, which finds circles, must not be shared between threads, nor keep
        # what a call that failed left in it.
        return "".join(make({}, _refuse, escape, None, ":", ",", False, False, False)(data, 0))  # noqa: FBT003

    try:
        works = encode({"\u00e9": [1.5]}) == portable({"\u00e9": [1.5]})
    except Exception:  # noqa: BLE001 - another interpreter, or a later version
        works = False
    return encode if works else portable


_encode = _choose_encoder()


def dump(data: Any) -> str:
    """Return JSON data as compact text: readable, or escaped where a lone surrogate has no UTF-8.

    NaN, data that contains itself, and what is no JSON data are errors.
    """
    text = _encode(data)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text
