"""Whether two values are alike to the last bit: ``==`` takes 1 for True, -0.0 for 0.0, and NaN for something else."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any


def assert_alike(one: Any, other: Any, path: str = "$") -> None:
    """Fail unless both have the same type and content, all the way down, and the same order where there is one."""
    assert type(one) is type(other), f"{path}: {one!a} and {other!a}"
    if isinstance(one, float):
        same = (math.isnan(one) and math.isnan(other)) or (one == other and math.copysign(1, one * other) == 1)
        assert same or (one == other == 0 and str(one) == str(other)), f"{path}: {one!r} and {other!r}"
    elif isinstance(one, complex):
        assert_alike([one.real, one.imag], [other.real, other.imag], path)
    elif isinstance(one, Decimal):
        assert one.as_tuple() == other.as_tuple(), f"{path}: {one!r} and {other!r}"
    elif isinstance(one, datetime | time):
        _assert_same_moment(one, other, path)
    elif isinstance(one, Enum):
        assert one is other or one == other, path
    else:
        _assert_same_content(one, other, path)


def _assert_same_moment(one: Any, other: Any, path: str) -> None:
    assert one.replace(tzinfo=None) == other.replace(tzinfo=None), path
    assert (one.fold, type(one.tzinfo)) == (other.fold, type(other.tzinfo)), path
    assert repr(one.tzinfo) == repr(other.tzinfo), path


def _assert_same_content(one: Any, other: Any, path: str) -> None:
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        assert_alike([getattr(one, name) for name in names], [getattr(other, name) for name in names], path)
    elif hasattr(one, "__pydantic_fields_set__"):
        assert one.__pydantic_fields_set__ == other.__pydantic_fields_set__, path
        assert_alike(dict(one), dict(other), path)
    elif isinstance(one, dict):
        assert_alike([list(item) for item in one.items()], [list(item) for item in other.items()], path)
    elif isinstance(one, set | frozenset):
        assert_alike(_in_order(one), _in_order(other), path)
    elif isinstance(one, list | tuple | deque):
        assert len(one) == len(other), path
        assert getattr(one, "maxlen", None) == getattr(other, "maxlen", None), path
        for n, (mine, yours) in enumerate(zip(one, other, strict=True)):
            assert_alike(mine, yours, f"{path}[{n}]")
    else:
        assert one == other, f"{path}: {one!a} and {other!a}"


def _in_order(elements: Any) -> list[Any]:
    return sorted(elements, key=lambda element: (type(element).__name__, ascii(element)))
