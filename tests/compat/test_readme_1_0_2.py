"""The examples of 1.0.2's README (tests/data/readme-1.0.2.md), unchanged, do what that README says they do."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from py_orchestrate import MemoryDatabaseManager, Orchestrator, workflow
from py_orchestrate.decorators import get_registry
from py_orchestrate.models import Outlook, WorkflowRecord
from tests.programs import Program

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "tests" / "data" / "readme-1.0.2.md").read_text(encoding="utf-8")
BLOCKS = [
    textwrap.dedent(text) for _, text in re.findall(r"^( *)```python\n(.*?)^\1```", README, re.DOTALL | re.MULTILINE)
]
IMPORTS = "from py_orchestrate import Orchestrator, activity, workflow\n"


def block(text: str) -> str:
    """Return the one example with this text in it."""
    (found,) = [each for each in BLOCKS if text in each]
    return found


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs examples as one script, in an empty folder, and returns what the script defined."""
    monkeypatch.chdir(tmp_path)

    def run(*examples: str, **names: Any) -> dict[str, Any]:
        path = tmp_path / "script.py"
        path.write_text(IMPORTS + "\n".join(examples), encoding="utf-8")
        namespace = {"__name__": "__main__", **names}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
        return namespace

    return run


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Orchestrator]:
    with Orchestrator(tmp_path / "engine.db") as made:
        yield made


def ended(engine: Orchestrator, name: str, **kwargs: Any) -> dict[str, Any]:
    return engine.wait_for_workflow(engine.invoke_workflow(name, **kwargs), timeout=20)


def test_every_example_compiles():
    assert len(BLOCKS) == 26
    for number, text in enumerate(BLOCKS):
        only_decorators = text.startswith("@activity")
        compile(text + "def nothing(): ...\n" * only_decorators, f"example {number}", "exec")


def test_quick_start(execute: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    names = execute(
        block('@activity("fetch_data")\n'),
        block('@workflow("data_processing_workflow")'),
        block("# Invoke a workflow"),
    )
    status = names["orchestrator"].get_workflow_status(names["workflow_id"])
    assert status["status"] == "done"  # stop() waited for it
    assert status["output"] == {"workflow_completed": True, "total_processed": 200}
    assert status["error_message"] is status["current_activity"] is None
    assert re.match(r"Status: (processing|done)\nCurrent activity: \w+\n$", capsys.readouterr().out)
    assert Path("py_orchestrate.db").exists()
    names["orchestrator"].db.close()


def test_a_run_that_is_stopped_right_after_its_start_is_waited_for(orchestrator: Callable[..., Orchestrator]):
    """The quick start relies on it, also where the background loop is just looking for runs to take up."""
    looking, looked, stored = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryDatabaseManager):
        def look(self, *_args: Any, **_options: Any) -> Outlook:
            return Outlook(frozenset({"quick"}), None)

        def claim_workflows(self, owner: str, names: Iterable[str], limit: int, **options: Any) -> list[WorkflowRecord]:
            found = super().claim_workflows(owner, names, limit, **options)
            looking.set()
            looked.wait(20)
            return found

        def create_workflow(self, record: WorkflowRecord) -> WorkflowRecord | None:
            stored.set()
            return super().create_workflow(record)

    def finish_looking() -> None:
        stored.wait(0.2)  # in vain, unless the run is stored for later
        looked.set()

    @workflow
    def quick() -> str:
        return "done"

    engine = orchestrator(Slow())
    assert looking.wait(20)
    threading.Thread(target=finish_looking).start()
    workflow_id = engine.invoke_workflow("quick")
    engine.stop()
    status = engine.get_workflow_status(workflow_id)
    assert status is not None
    assert status["status"] == "done"


def test_the_status_is_the_documented_dictionary(execute: Callable[..., dict[str, Any]], engine: Orchestrator):
    execute("@workflow\ndef empty(): return None\n")
    documented = re.findall(r'"(\w+)":', block('"status": "processing|done|failed"'))
    assert list(ended(engine, "empty")) == documented


def test_recovery_example(program: Callable[..., Program]):
    made = program(f"""
{block('@workflow("data_processing")')}
@activity
def fetch_data(source):
    mark("fetch")
    return [source]

@activity
def process_data(data):
    mark("process")
    crash()
    return data * 2

@activity
def save_results(processed):
    return dict(saved=processed)

run("data_processing", source="a")
""")
    made.crash(kill=True)
    assert made.recover().output == {"saved": ["a", "a"]}
    assert (made.hits("fetch"), made.hits("process")) == (1, 2)


def test_safe_changes(execute: Callable[..., dict[str, Any]], engine: Orchestrator):
    execute(
        block("# ✅ Adding optional parameters"),
        """
@workflow
def old_and_new(data):
    old = [process_data(data), process_data(data, "fast")]
    return [*old, process_data_v2(data), process_data_v2(data, enhanced=False)]
""",
    )
    assert ended(engine, "old_and_new", data="d")["output"] == [
        {"processed": "d", "mode": "default"},
        {"processed": "d", "mode": "fast"},
        {"processed": "d", "enhanced": True},
        {"processed": "d", "enhanced": False},
    ]


@pytest.mark.parametrize(
    ("change", "call", "error"),
    [
        ("# ❌ Removing parameters", 'process_data("d", "fast")', "too many positional arguments"),
        ("# ❌ Adding required parameters", 'process_data("d")', "missing a required argument: 'required_param'"),
    ],
)
def test_unsafe_changes(
    execute: Callable[..., dict[str, Any]], engine: Orchestrator, change: str, call: str, error: str
):
    changes = re.split(r"(?=^# ❌)", block("# ❌ Removing parameters"), flags=re.MULTILINE)
    (changed,) = [text for text in changes if text.startswith(change)]
    execute(changed, f"@workflow\ndef old():\n    return {call}\n")
    status = ended(engine, "old")
    assert (status["status"], status["error_message"]) == ("failed", error)


def test_another_type_of_parameter_fails_with_the_error_of_the_code(
    execute: Callable[..., dict[str, Any]], engine: Orchestrator
):
    assert "argument of type 'dict' is not iterable" in README  # what the code raises is for the code to say
    execute("""
@activity("process_data")
def process_data(data):
    return "a" in 1 if isinstance(data, str) else data

@workflow
def old():
    return process_data("text")
""")
    assert "argument of type 'int' is not" in ended(engine, "old")["error_message"]


def test_the_last_definition_in_a_file_counts_and_is_warned_of_once(
    execute: Callable[..., dict[str, Any]], engine: Orchestrator, caplog: pytest.LogCaptureFixture
):
    execute(block("# ❌ Removing parameters"), "@workflow\ndef new():\n    return process_data('d', 'needed')\n")
    assert ended(engine, "new")["output"] == {"processed": "d", "required": "needed"}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("activity 'process_data' is defined again")


def test_versioned_activities(execute: Callable[..., dict[str, Any]], engine: Orchestrator):
    execute(block("# Good: Use versioned activity names"))
    assert ended(engine, "data_processing_v2", source="s")["output"] == {"result": {"data": "v2_s", "timeout": 60}}
    assert set(get_registry().activities) == {"fetch_data_v1", "fetch_data_v2"}


def test_optional_parameters(execute: Callable[..., dict[str, Any]], engine: Orchestrator):
    execute(
        block("# Good: Backward compatible changes"),
        "@workflow\ndef both():\n    return [process_item({'n': 1}), process_item({'n': 1}, validation=False)]\n",
    )
    assert ended(engine, "both")["output"] == [{"processed": {"n": 1}, "validated": True}, {"processed": {"n": 1}}]


def test_flexible_processor(execute: Callable[..., dict[str, Any]], engine: Orchestrator):
    execute(
        block("# Good: Handle different signatures gracefully"),
        """
@workflow
def every_way():
    return [
        flexible_processor("a"),
        flexible_processor("b", {"fast": True}),
        flexible_processor(data="c"),
        flexible_processor(data="d", options={"fast": False}),
    ]
""",
    )
    assert ended(engine, "every_way")["output"] == [
        {"processed": "a", "options": {}},
        {"processed": "b", "options": {"fast": True}},
        {"processed": "c", "options": {}},
        {"processed": "d", "options": {"fast": False}},
    ]


def test_signature_test_example(execute: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    names = execute(
        block("def test_signature_compatibility"),
        """
@activity
def shout(text, loud): return text.upper()

@workflow("my_workflow")
def my_workflow(input): return shout(input)
""",
    )
    names["test_signature_compatibility"]()
    with Orchestrator("test.db") as engine:
        (status,) = engine.list_workflows("my_workflow")
        status = engine.wait_for_workflow(status["id"], timeout=20)
    assert (status["status"], status["error_message"]) == ("failed", "missing a required argument: 'loud'")
    shown = capsys.readouterr().out  # it looks once, right after the start
    assert shown in ("", "Signature error: missing a required argument: 'loud'\n")


CACHED = """
@activity("finish")
def finish(data):
    crash()
    return data

@workflow("w")
def w():
    return finish(process_data("d"))
"""


def test_changed_logic_does_not_change_stored_results(program: Callable[..., Program]):
    old, new = re.split(r"(?=^# New implementation)", block("old_logic_"), flags=re.MULTILINE)
    made = program(old + CACHED)
    made.crash()
    assert made.recover(new + CACHED).output == {"result": "old_logic_d"}


def test_a_deleted_activity_serves_its_stored_result(program: Callable[..., Program]):
    made = program("""
from py_orchestrate.decorators import get_registry

@activity("process_data")
def process_data(data):
    mark("process")
    return data + "!"
""" + CACHED)
    made.crash()
    deleted = made.source + '\nget_registry().activities.pop("process_data")\nrun("w")\n'
    assert made.recover(deleted).output == "d!"
    assert made.hits("process") == 1


@pytest.mark.parametrize(
    ("signature", "deleted", "error"),
    [
        ("data", True, "Activity 'process_data' not found"),
        ("data, more", False, "missing a required argument: 'more'"),
        ("", False, "too many positional arguments"),
    ],
)
def test_a_risky_change_of_interrupted_work_fails_the_workflow(
    program: Callable[..., Program], signature: str, deleted: bool, error: str
):
    text = """
from py_orchestrate.decorators import get_registry

@activity("process_data")
def process_data({signature}):
    crash()

@workflow("w")
def w():
    return process_data("d")
"""
    made = program(text.format(signature="data"))
    made.crash()
    ending = '\nget_registry().activities.pop("process_data")\nrun("w")\n' if deleted else ""
    status = made.recover(text.format(signature=signature) + ending).status
    assert (status["status"], status["error_message"]) == ("failed", error)


def test_check_for_running_workflows(
    execute: Callable[..., dict[str, Any]], engine: Orchestrator, capsys: pytest.CaptureFixture[str]
):
    example = block("processing_workflows = orchestrator.list_workflows()")
    names = execute("""
import threading
go_on = threading.Event()

@activity
def held(): go_on.wait(20)

@workflow
def slow(): held()
""")
    workflow_id = engine.invoke_workflow("slow")
    execute(example, orchestrator=engine)
    assert capsys.readouterr().out == "Warning: 1 workflows still processing\n"
    names["go_on"].set()
    engine.wait_for_workflow(workflow_id, timeout=20)
    execute(example, orchestrator=engine)
    assert capsys.readouterr().out == ""


def test_migration_strategy(execute: Callable[..., dict[str, Any]], engine: Orchestrator):
    execute(
        block("# Step 1: Create new versioned activity"),
        '@workflow("old_workflow")\ndef old_workflow(input): return process_data_v1(input)\n',
    )
    new = ended(engine, "new_workflow", input="i")
    assert new["output"] == {"result": {"processed": "i", "new_param": "enhanced"}}
    old = ended(engine, "old_workflow", input="i")
    assert old["output"] == {"processed": "i", "new_param": "legacy_default"}
    # An activity that calls another one makes a plain call: one step.
    assert [step["name"] for step in engine.get_history(old["id"])] == ["process_data_v1"]


def test_stuck_workflow_example(
    execute: Callable[..., dict[str, Any]], engine: Orchestrator, capsys: pytest.CaptureFixture[str]
):
    execute("@activity\ndef bad(): raise OSError('disk on fire')\n@workflow\ndef w(): bad()\n")
    workflow_id = ended(engine, "w")["id"]
    execute(block("# Check current activity and error message"), orchestrator=engine, workflow_id=workflow_id)
    assert capsys.readouterr().out == "Status: failed\nCurrent Activity: bad\nError: disk on fire\n"


def test_resuming_after_a_restart_example(tmp_path: Path):
    module = block('@activity("fetch_data")\n') + block('@workflow("data_processing_workflow")')
    (tmp_path / "my_activities.py").write_text(module, encoding="utf-8")
    wait = "print(orchestrator.wait_for_workflow(workflow_id, 20)['output'])\norchestrator.stop()\n"
    invoke = "workflow_id = orchestrator.invoke_workflow('data_processing_workflow', source='s', destination='d')\n"
    script = block("# Ensure all activities are imported and registered") + invoke + wait
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'workflow_completed': True, 'total_processed': 200}\n"


def test_integrity_check_example(execute: Callable[..., dict[str, Any]]):
    execute("@workflow\ndef w(): return 1\n")
    with Orchestrator("my_workflows.db") as engine:
        ended(engine, "w")
    names = execute(block("PRAGMA integrity_check"))
    assert names["conn"].execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    names["conn"].close()


def test_detailed_logging_example(tmp_path: Path):
    work = """
from py_orchestrate import activity, workflow

@activity
def bad(): raise OSError("disk on fire")

@workflow
def w(): bad()

with orchestrator:
    orchestrator.wait_for_workflow(orchestrator.invoke_workflow("w"), 20)
"""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom py_orchestrate import Orchestrator\n"
    done = subprocess.run(
        [sys.executable, "-c", script + block("logging.basicConfig(level=logging.DEBUG)") + work],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # the library logs; it does not print
    assert "disk on fire" in done.stderr


def test_inspect_example(
    execute: Callable[..., dict[str, Any]], engine: Orchestrator, capsys: pytest.CaptureFixture[str]
):
    execute("@workflow\ndef my_workflow_name(n): return n\n@workflow\ndef other(): ...\n")
    ended(engine, "other")
    ids = [ended(engine, "my_workflow_name", n=n)["id"] for n in range(2)]
    execute(block('list_workflows("my_workflow_name")'), orchestrator=engine)
    assert capsys.readouterr().out.splitlines() == [f"ID: {each}, Status: done" for each in reversed(ids)]


def test_direct_call_example(execute: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    names = execute(block("# Test activity functions directly"))
    assert names["result"] == {"result": "test_input"}
    assert capsys.readouterr().out == "{'result': 'test_input'}\n"
    assert json.dumps(names["result"])
