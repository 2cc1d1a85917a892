"""One name, one piece of code: what counts as the same code again, and what as another's."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, activity, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.errors import DuplicateNameError

from ..programs import Program

MakeOrchestrator = Callable[..., Orchestrator]

SOURCE = """
from py_orchestrate import activity, workflow

@activity
def act():
    return VALUE

@workflow
def flow():
    return act()
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Return a function that writes a module and imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file that changes twice a second is not compiled anew
    names: list[str] = []

    def write_and_import(name: str, value: Any, source: str = SOURCE) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(source.replace("VALUE", repr(value)))
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name)

    yield write_and_import
    for name in names:
        sys.modules.pop(name, None)


def result_of(orchestrator: Orchestrator, name: str) -> Any:
    return orchestrator.get_handle(orchestrator.invoke_workflow(name)).result(10)


def test_a_reloaded_module_counts_with_one_warning(
    modules: Callable[..., ModuleType],
    tmp_path: Path,
    memory: MemoryDatabaseManager,
    orchestrator: MakeOrchestrator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = modules("flows", 1)
    runner = orchestrator(memory)
    assert result_of(runner, "flow") == 1
    for value in (2, 3):
        (tmp_path / "flows.py").write_text(SOURCE.replace("VALUE", repr(value)))
        importlib.reload(module)
        assert result_of(runner, "flow") == value
    messages = [record.getMessage() for record in caplog.records if "defined again" in record.getMessage()]
    assert len(messages) == 2
    assert messages[0].startswith(f"activity 'act' is defined again, by flows.act ({tmp_path / 'flows.py'}:4)")
    assert messages[1].startswith("workflow 'flow' is defined again")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_module_imported_under_two_names_is_one_file(modules: Callable[..., ModuleType], tmp_path: Path) -> None:
    first = modules("flows", 1)
    spec = importlib.util.spec_from_file_location("other_name_for_flows", tmp_path / "flows.py")
    assert spec is not None
    assert spec.loader is not None
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    assert get_registry().activities["act"] is second.act.fn is not first.act.fn


def test_a_link_to_the_file_is_the_file(modules: Callable[..., ModuleType], tmp_path: Path) -> None:
    modules("flows", 1)
    (tmp_path / "linked.py").symlink_to(tmp_path / "flows.py")
    importlib.invalidate_caches()
    try:
        importlib.import_module("linked")
    finally:
        sys.modules.pop("linked", None)


def test_another_file_is_refused_and_both_places_are_named(modules: Callable[..., ModuleType], tmp_path: Path) -> None:
    first = modules("flows", 1)
    with pytest.raises(DuplicateNameError) as caught:
        modules("others", 2)
    text = str(caught.value)
    assert "activity 'act' is defined twice" in text
    assert f"flows.act ({tmp_path / 'flows.py'}:4)" in text
    assert f"others.act ({tmp_path / 'others.py'}:4)" in text
    assert "@activity('other_name')" in text
    assert isinstance(caught.value, ValueError)
    assert get_registry().activities["act"] is first.act.fn
    with pytest.raises(DuplicateNameError, match="workflow 'flow' is defined twice"):
        modules("more", 2, SOURCE.replace("def act", "def more_act"))


def test_an_activity_and_a_workflow_may_share_a_name(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    act = activity("same")(lambda: 1)
    workflow("same")(lambda: act() + 1)
    assert result_of(orchestrator(memory), "same") == 2


def test_registering_the_very_same_function_again_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    def act() -> None:
        pass

    for _ in range(3):
        activity(act)
        get_registry().register_activity("act", act)
    assert caplog.records == []


def test_cells_of_a_notebook(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    runner = orchestrator(memory)
    for n in range(3):
        cell = SOURCE.replace("VALUE", repr(n))
        exec(compile(cell, f"<ipython-input-{n}-abc>", "exec"), namespace)
        assert result_of(runner, "flow") == n
    exec(compile(SOURCE.replace("VALUE", "9"), "/tmp/ipykernel_1/12345.py", "exec"), namespace)
    assert result_of(runner, "flow") == 9
    assert sum("defined again" in record.getMessage() for record in caplog.records) == 2


def test_a_cell_does_not_take_a_file_s_name(modules: Callable[..., ModuleType]) -> None:
    modules("flows", 1)
    with pytest.raises(DuplicateNameError, match=r"flows\.act .* and __main__\.act"):
        exec(compile(SOURCE, "<ipython-input-1>", "exec"), {"__name__": "__main__"})


def test_functions_of_one_file_made_in_a_loop(memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator) -> None:
    acts = [activity(f"act {n}")(functools.partial(divmod, 7, n + 1)) for n in range(3)]

    @workflow
    def w() -> list[int]:
        return [act() for act in acts]

    assert orchestrator(memory).start_workflow(w).result(10) == [(7, 0), (3, 1), (2, 1)]


def test_the_newest_registration_counts_for_old_objects_too(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    old = activity("act")(lambda: "old")

    @workflow
    def w() -> str:
        return old()

    activity("act")(lambda: "new")
    assert orchestrator(memory).start_workflow(w).result(10) == "new"
    assert old() == "old"  # outside of a workflow it is a plain call of the object at hand


def test_plain_dictionaries_may_be_filled_and_cleared(
    memory: MemoryDatabaseManager, orchestrator: MakeOrchestrator
) -> None:
    runner = orchestrator(memory)
    get_registry().activities["act"] = lambda: 1
    get_registry().workflows["flow"] = lambda: [get_registry().get_activity("act")()]
    assert result_of(runner, "flow") == [1]
    get_registry().workflows.clear()
    with pytest.raises(ValueError, match="Workflow 'flow' not found"):
        runner.invoke_workflow("flow")


def test_threads_may_register_at_once() -> None:
    start = threading.Barrier(8)
    errors: list[BaseException] = []

    def register(n: int) -> None:
        start.wait(10)
        try:
            for m in range(50):
                activity(f"act {n} {m}")(lambda: None)
                activity("shared")(lambda: None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=register, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert errors == []
    assert len(get_registry().activities) == 401


def test_a_script_that_is_imported_too(program: Callable[[str], Program]) -> None:
    script = program("""
        @activity
        def act():
            return 1

        @workflow
        def w():
            return act()

        if __name__ == "__main__":
            import script  # as a part of the program that the script uses does
            assert script.act is not act
            run("w")
        """)
    ended = script.run()
    assert ended.output == 1
    assert ended.err.count("defined again") == 2
