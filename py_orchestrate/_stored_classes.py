"""The classes whose values can be stored: their sorts, and how one is found again by its stored name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any

MARK = "$py"
"""The key by which an object in stored JSON is known for a tagged value."""

ENUM, NAMED_TUPLE, MODEL, DATACLASS = "enum", "namedtuple", "model", "dataclass"


def class_name(cls: type) -> str:
    """Return the name under which a class is stored: ``module:qualname``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_kind(cls: type) -> str | None:
    """Return the tag of a class's values, or ``None`` for a class whose values cannot be stored."""
    if issubclass(cls, Enum):
        return ENUM
    if issubclass(cls, tuple):
        return NAMED_TUPLE if isinstance(getattr(cls, "_fields", None), tuple) else None
    if model_base() in cls.__mro__:
        return MODEL
    return DATACLASS if hasattr(cls, "__dataclass_fields__") else None


def model_base() -> Any:
    """Return ``BaseModel`` of pydantic 2 where that is loaded; no value of it exists before."""
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base if hasattr(base, "__pydantic_fields_set__") else None


def resolve(name: str, known: Mapping[str, type]) -> object:
    """Return what the stored name of a class means here, or ``None``."""
    if name in known:
        return known[name]
    module, _, qualname = name.partition(":")
    namespace = getattr(sys.modules.get(module), "__dict__", {})
    if qualname in namespace:  # also a parametrized pydantic model, whose qualname may have dots in its brackets
        return namespace[qualname]
    found: object = None
    for part in qualname.split("."):
        # Never getattr: a module may answer that with an import, and a metaclass with anything.
        found = namespace.get(part)
        namespace = vars(found) if isinstance(found, type) else {}
    return found


def attributes(value: object) -> dict[str, Any]:
    """Return all that an instance holds in its ``__dict__`` and its slots, whatever the class says about pickling."""
    state: Any = object.__getstate__(value)
    plain, slots = state if isinstance(state, tuple) else (state, None)
    return {**(plain or {}), **(slots or {})}
