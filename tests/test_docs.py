"""The documentation is true: its programs run and print what it says, and it names everything that there is."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import py_orchestrate
from py_orchestrate import BaseDatabaseManager, Orchestrator, SQLiteDatabaseManager, WorkflowHandle, durable, errors
from py_orchestrate.decorators import Activity

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "py_orchestrate"

# A program, and what it prints where the next block says so.
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", README, re.DOTALL | re.MULTILINE)


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::ResourceWarning", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "printed"), PROGRAMS, ids=[f"program {n}" for n in range(1, len(PROGRAMS) + 1)])
def test_a_program_of_the_readme_runs_and_prints_what_it_says(tmp_path: Path, program: str, printed: str):
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = run(["program.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr or "failed: " in done.stderr  # a failed run is logged, with its traceback
    assert done.stdout == printed


def test_the_readme_has_no_program_that_is_not_run():
    assert len(PROGRAMS) == README.count("```python") >= 15
    assert "```py\n" not in README
    assert "```text\n" in README


def test_a_readme_program_goes_on_after_a_kill(tmp_path: Path):
    """The picture of the recovery: the quick start, killed in its second activity."""
    program = PROGRAMS[0][0]
    second = 'return data["count"] * 2'
    assert second in program
    killed = program.replace(second, f"__import__('os')._exit(9); {second}")
    script = tmp_path / "program.py"
    script.write_text(killed.replace('report, "database"', 'report, "database", workflow_id="one"'), encoding="utf-8")
    assert run(["program.py"], tmp_path).returncode == 9
    noisy = program.replace("    return {", '    print("again")\n    return {')
    script.write_text(noisy.replace('report, "database"', 'report, "database", workflow_id="one"'), encoding="utf-8")
    done = run(["program.py"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "database: 200\n"), done.stderr


EXAMPLES = {
    "async_activities.py": "one: ['content of a.example']\n"
    "each: ['content of a.example', 'content of b.example']\n"
    "together: ['content of a.example', 'content of b.example']\n",
    "custom_database_manager.py": "40\n40\n['activity-first-0.json', 'activity-first-1.json', 'workflow-first.json']\n",
    "fan_out.py": "{'counts': [1, 2, 3, 4], 'both': ['ONE', 2], 'tried': ['HEY', 'nothing to shout']}\n"
    "faster than one after the other: True\n",
    "idempotent_start.py": "charging 30 for order-17\n"
    "pay-order-17 paid\n"
    "pay-order-17 paid\n"
    "pay-order-17 paid\n"
    "refused: workflow id 'pay-order-17' belongs to a run of 'pay' with other arguments already; choose another id\n",
    "resume_after_crash.py": "child: reserving Oslo\n"
    "child: paying seat 7 to Oslo\n"
    "parent: the child was killed; starting again\n"
    "parent: paying seat 7 to Oslo\n"
    "parent: seat 7 to Oslo: paid\n",
    "retry_by_hand.py": "attempt 1: asking for the price of tea\n"
    "attempt 2: asking for the price of tea\n"
    "attempt 3: asking for the price of tea\n"
    "bought tea for 42\n"
    "['fetch_price: failed', 'pause: completed', 'fetch_price: failed', 'pause: completed', "
    "'fetch_price: completed']\n",
    "web_app.py": "{'id': 'ship-books'}\n{'id': 'ship-books'}\ndone sent parcel with books\n",
}


def test_every_example_is_run():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_prints_what_is_expected(tmp_path: Path, name: str):
    done = run([str(ROOT / "examples" / name)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == EXAMPLES[name]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())  # what it writes, it writes elsewhere, and removes


def test_the_example_of_the_package_runs(tmp_path: Path):
    done = run(["-m", "py_orchestrate.example"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    result = {
        "user_notified": True,
        "user": {"id": 123, "name": "User123", "email": "user123@example.com"},
        "email_result": {"sent": True, "recipient": "user123@example.com", "subject": "Important Notification"},
    }
    lines = sorted(done.stdout.splitlines())  # the workflow's own line comes when it comes
    assert lines[0] == f"Result: {result}"
    assert lines[1] == "Sending email to user123@example.com: Important Notification"
    assert lines[2].startswith("Started workflow: ")
    assert lines[3] == "Status: done"
    assert [path.name for path in tmp_path.iterdir()] == ["example.db"]


# --- completeness -----------------------------------------------------------------------------------------------------


def public(cls: type) -> list[str]:
    return [name for name in vars(cls) if not name.startswith("_")]


@pytest.mark.parametrize("name", [*py_orchestrate.__all__, *durable.__all__, *errors.__all__])
def test_the_readme_names_every_public_name(name: str):
    assert re.search(rf"\b{name}\b", README)


@pytest.mark.parametrize("name", errors.__all__)
def test_the_readme_has_a_row_for_every_error(name: str):
    if name == "OrchestrateError":
        return
    (row,) = re.findall(rf"^\| `{name}` \| .+? \|(.*)\|$", README, re.MULTILINE)
    bases = [base.__name__ for base in getattr(errors, name).__bases__ if base is not errors.OrchestrateError]
    assert re.findall(r"`(\w+)`", row) == bases


def test_the_readme_names_every_method():
    for method in public(Orchestrator):
        assert f"| `{method}(" in README, method
    for method in public(WorkflowHandle):
        assert f"`{method}(" in README, method
    for method in (*public(Activity), "fn", "name"):
        assert re.search(rf"`act\.{method}\b", README), method
    for method in BaseDatabaseManager.__abstractmethods__:
        assert f"`{method}`" in README, method


@pytest.mark.parametrize("cls", [Orchestrator, SQLiteDatabaseManager, py_orchestrate.CosmosDatabaseManager])
def test_the_readme_shows_the_parameters_as_they_are(cls: type):
    shown = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
        shown.append(f"{parameter.name}{default}".replace("'", '"'))
    assert f"`{cls.__name__}({', '.join(shown)})`" in re.sub(r"\s+", " ", README)


def test_the_methods_parameters_are_as_the_readme_shows_them():
    section = README.partition("### Orchestrator")[2].partition("\n### ")[0]
    methods = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", section, re.MULTILINE))
    assert methods.keys() == set(public(Orchestrator))
    for method, shown in methods.items():
        names = re.findall(r"(\w+)(?:=\w+)?(?:,|$)", shown)
        assert names == list(inspect.signature(getattr(Orchestrator, method)).parameters)[1:], method


def test_the_readme_calls_nothing_that_does_not_exist():
    for name in re.findall(r"\bdurable\.(\w+)", README):
        assert hasattr(durable, name), name
    for name in re.findall(r"\borchestrator\.(\w+)\(", README):
        assert hasattr(Orchestrator, name), name
    for name in re.findall(r"\borchestrator\.db\.(\w+)\(", README):
        assert hasattr(SQLiteDatabaseManager, name), name


def texts_of_the_package() -> list[str]:
    """Return every piece of text in the package's code; a formatted one in the pieces around its values."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [node.value for node in nodes if isinstance(node.value, str)]


def test_the_messages_in_the_readme_are_those_of_the_code():
    section = README.partition("## Troubleshooting")[2].partition("\n## ")[0]
    cells = [row.split(" | ")[0] for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)]
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 20
    texts = texts_of_the_package()
    of_python = ("too many positional arguments", "missing a required argument:")
    for message in messages:
        # What stands for a value in the message: the ellipsis, quoted names, numbers, a class, a state.
        pieces = [piece.strip() for piece in re.split(r"…|'\w+'|\b\d+\b|m:C|;|=WAL|stop\w+$", message)]
        for piece in pieces:
            if len(piece) > 3 and piece not in of_python:
                assert any(piece in text for text in texts), (message, piece)


def test_every_link_leads_somewhere():
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_the_changelog_speaks_of_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    assert re.search(rf"^## .*{re.escape(version[1])}", changelog, re.MULTILINE)
    for name in re.findall(r"`(\w+Error)`", changelog):
        assert hasattr(errors, name) or name in dir(__builtins__) or name in vars(__import__("builtins")), name
