"""The classes whose values can be stored: their sorts, and how one is found again by its stored name.

A class of the file that was started is called ``__main__:Name`` by Python, and ``jobs:Name`` in another process that
imports the same file. Both are one class, as both are one file to the registry. So with the name of such a class that
of the script is stored, and either name is understood in either process.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

MARK = "$py"
"""The key by which an object in stored JSON is known for a tagged value."""

ENUM, NAMED_TUPLE, MODEL, DATACLASS = "enum", "namedtuple", "model", "dataclass"

_STARTED = ("__main__", "__mp_main__")  # the second in a process of a pool, which runs the file anew


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


def script_name(cls: type) -> str | None:
    """Return the module name of the file that was started, if the class is one of its; ``None`` for all others."""
    if cls.__module__ not in _STARTED:
        return None
    main = sys.modules.get(cls.__module__)
    name = getattr(getattr(main, "__spec__", None), "name", "__main__")  # it has a spec with ``python -m``
    if name not in _STARTED:
        return str(name)
    return _script_path().rpartition("/")[2] or None


def stored_name(cls: type) -> dict[str, str]:
    """Return what is stored of a class, for ``resolve``: its name, and that of the script that it is defined in."""
    script = script_name(cls)
    return {"type": class_name(cls)} if script is None else {"type": class_name(cls), "script": script}


def resolve(name: str, known: Mapping[str, type], script: str | None = None) -> object:
    """Return what the stored name of a class means here, or ``None``."""
    module, _, qualname = name.partition(":")
    for each in _module_names(module, script):
        full_name = f"{each}:{qualname}"
        found = known[full_name] if full_name in known else _member(each, qualname)
        if found is not None:
            return found
    return None


def is_script(module: str) -> bool:
    """Return whether the file that was started is, by its path, what others import as the module."""
    path = _script_path()
    return path != "" and f"/{path}".endswith(f"/{module.replace('.', '/')}")


def _script_path() -> str:
    """Return the path of the file that was started, without its ending; empty where there is none."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return _path_without_ending(file) if isinstance(file, str) else ""


@functools.lru_cache(maxsize=16)
def _path_without_ending(file: str) -> str:
    return os.path.splitext(os.path.realpath(file))[0].replace(os.sep, "/")


def _module_names(module: str, script: str | None) -> Iterator[str]:
    """Yield the names of the modules here that a stored class may be in, the likeliest first."""
    if module not in _STARTED:
        yield module
        if module not in sys.modules and is_script(module):
            yield "__main__"
        return
    if script is None or is_script(script):
        yield "__main__"
        return
    yield script
    within = [name for name in list(sys.modules) if name.endswith(f".{script}")]
    if len(within) == 1:  # else nothing tells which of them
        yield within[0]
    yield "__main__"  # the file may have been given another name


def _member(module: str, qualname: str) -> object:
    namespace: Mapping[str, object] = getattr(sys.modules.get(module), "__dict__", {})
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
