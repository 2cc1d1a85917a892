"""Which class a stored name means, in a process that was started with the class's file, or imports it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest

from py_orchestrate._stored_classes import resolve, stored_name

MakeModule = Callable[..., type]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    """Return a function that puts a module with a class ``Item`` among those that are loaded, and returns the class."""

    def make(name: str, file: str | None = None, spec: str | None = None) -> type:
        made = types.ModuleType(name)
        if file is not None:
            made.__file__ = file
        made.__spec__ = None if spec is None else types.SimpleNamespace(name=spec)  # type: ignore[assignment]
        made.Item = type("Item", (), {"__module__": name, "__qualname__": "Item"})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, made)
        found: type = made.Item
        return found

    return make


@pytest.mark.parametrize(
    ("file", "spec", "script"),
    [
        ("/code/app/jobs.py", None, "jobs"),
        ("/code/app/jobs.py", "app.jobs", "app.jobs"),
        ("/code/app/__main__.py", "app.__main__", "app.__main__"),
        ("/code/app/__main__.py", "__main__", "__main__"),
        ("/code/app/run-jobs", None, "run-jobs"),
        (None, None, None),
    ],
)
def test_a_class_of_the_script_is_stored_with_the_name_of_the_script(
    module: MakeModule, file: str | None, spec: str | None, script: str | None
) -> None:
    item = module("__main__", file, spec)
    stored = stored_name(item)
    assert stored == {"type": "__main__:Item"} | ({} if script is None else {"script": script})
    assert resolve(stored["type"], {}, stored.get("script")) is item
    assert stored_name(module("jobs")) == {"type": "jobs:Item"}


@pytest.mark.parametrize("name", ["jobs:Item", "app.jobs:Item", "code.app.jobs:Item"])
def test_the_script_is_the_module_that_others_import(module: MakeModule, name: str) -> None:
    item = module("__main__", "/code/app/jobs.py")
    assert resolve(name, {}) is item
    for other in ("obs:Item", "lib.jobs:Item", "app:Item", "jobs.app:Item"):
        assert resolve(other, {}) is None


@pytest.mark.parametrize("loaded", ["jobs", "app.jobs"])
@pytest.mark.parametrize("started", ["/code/worker.py", None])
def test_a_module_that_is_imported_is_the_script_of_others(
    module: MakeModule, loaded: str, started: str | None
) -> None:
    module("__main__", started)
    item = module(loaded, "/code/app/jobs.py")
    assert resolve("__main__:Item", {}, "jobs") is item


def test_where_the_script_is_also_imported_both_classes_are_told_apart(module: MakeModule) -> None:
    ours, theirs = module("__main__", "/code/jobs.py"), module("jobs", "/code/jobs.py")
    assert resolve("__main__:Item", {}, "jobs") is ours
    assert resolve("jobs:Item", {}) is theirs


def test_a_script_that_was_given_another_name_finds_its_own_classes(module: MakeModule) -> None:
    item = module("__main__", "/code/new_name.py")
    assert resolve("__main__:Item", {}, "old_name") is item
    module("a.old_name")
    module("b.old_name")  # nothing tells which of them
    assert resolve("__main__:Item", {}, "old_name") is item


def test_classes_that_annotations_name_have_both_names_too(module: MakeModule) -> None:
    module("__main__", "/code/worker.py")
    item = module("jobs")
    assert resolve("__main__:make.<locals>.Point", {"jobs:make.<locals>.Point": item}, "jobs") is item
