"""The documentation is true: its programs run and print what it says, and it names everything that there is."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
from pathlib import Path

import pytest

import py_orchestrate
from py_orchestrate import (
    BaseDatabaseManager,
    Orchestrator,
    RetryPolicy,
    SQLiteDatabaseManager,
    WorkflowHandle,
    activity,
    durable,
    errors,
    workflow,
)
from py_orchestrate.decorators import Activity, Workflow
from py_orchestrate.testing.clock import FakeClock

from .children import STRICT_PYTHON
from .managers import SevenMethodsManager
from .waiting import wait_until

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "py_orchestrate"

# A program, and what it prints where the next block says so.
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", README, re.DOTALL | re.MULTILINE)


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT_PYTHON, "-W", "error", "-W", "ignore::ResourceWarning", *arguments],
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
    "async_workflow.py": "['maps in the archive', 'maps in the library', 'ask the curator']\n"
    "['tides in the archive', 'tides in the library', 'no hint came']\n",
    "cancel.py": "renting the crane\n"
    "ending the contract for the crane\n"
    "cancelled WorkflowCancelled('the workflow is cancelled')\n"
    "0 rent completed\n"
    "1 order cancelled\n"
    "2 give_back completed\n"
    "renting the digger\n"
    "paused\n"
    "ending the contract for the digger\n"
    "the digger: dig here\n"
    "renting the drill\n"
    "ending the contract for the drill\n"
    "failed longer than its timeout of 1.0 s\n",
    "check_replay.py": "['reserved a vase', 'shipped a vase']\n"
    "runs of version 1: 1\n"
    "order fits\n"
    "careful_order fits\n"
    "careless_order does not: at 1 it called insure, not ship\n",
    "child_workflows.py": "invoice for 11 pages\n"
    "0 workflow copy_book completed\n"
    "1 workflow copy_book completed\n"
    "2 workflow copy_book failed\n"
    "3 activity print_invoice completed\n"
    "order-1-0 done 4\n"
    "order-1-1 done 7\n"
    "order-1-2 failed None\n"
    "not copied: the library has no book 'lost'\n",
    "custom_database_manager.py": "40\n40\n['activity-first-0.json', 'activity-first-1.json', 'workflow-first.json']\n",
    "fan_out.py": "{'counts': [1, 2, 3, 4], 'both': ['ONE', 2], 'tried': ['HEY', 'nothing to shout']}\n"
    "faster than one after the other: True\n",
    "fastapi_app.py": "{'id': 'menu', 'text': 'Tee Kuchen'}\ndone Tee Kuchen\n404\n",
    "first_of_several.py": "the quick one asks for 9\n"
    "the slow one asks for 8\n"
    "8\n"
    "the lease is signed by Ada\n"
    "nobody has signed the loan\n",
    "human_approval.py": "to the manager: Ada would like 5 days off\n"
    "5 days are booked for Ada\n"
    "to the manager: Alan would like 90 days off\n"
    "nobody answered Alan\n",
    "exactly_once.py": "the process ended with 9 and the ledger says [('Ada', 100)]\n"
    "the process ended with 9 and the ledger says [('Ada', 100), ('Alan', 100)]\n"
    "paid in all: 300\n"
    "the process ended with 0 and the ledger says [('Ada', 100), ('Alan', 100), ('Grace', 100)]\n",
    "idempotent_start.py": "charging 30 for order-17\n"
    "pay-order-17 paid\n"
    "pay-order-17 paid\n"
    "pay-order-17 paid\n"
    "refused: workflow id 'pay-order-17' belongs to a run of 'pay' with other arguments already; choose another id\n",
    "long_activity.py": "activity 'ask_slow_service' took longer than its timeout of 0.2 s\n"
    "5 parts at attempt 2\n"
    "converting Metropolis\n"
    "removing what there is of Metropolis\n"
    "the film is cancelled\n",
    "process_pool.py": "2147483647 = 2147483647\n"
    "600851475143 = 71 * 839 * 1471 * 6857\n"
    "1234567890 = 2 * 3 * 3 * 5 * 3607 * 3803\n",
    "reminder.py": "['sent: welcome, user 0', 'sent: user 0, have you looked at it?']\n"
    "all sent: True\n"
    "waited together: True\n"
    "['sent: welcome, Ada', 'sent: Ada, have you looked at it?']\n"
    "0 activity send {'text': 'welcome, Ada'}\n"
    "1 timer sleep {'seconds': 0.5}\n"
    "2 activity send {'text': 'Ada, have you looked at it?'}\n",
    "queues.py": "the second start of order X found the first: True\n"
    "before anybody consumes it: [{'name': 'partner', 'ready': 14, 'running': 0, 'consumers': 0}]\n"
    "urgent order is done\n"
    "consumers: 2\n"
    "served: 14 - most at the same time: 3\n"
    "the urgent one was among the first three: True\n",
    "resume_after_crash.py": "child: reserving Oslo\n"
    "child: paying seat 7 to Oslo\n"
    "parent: the child was killed; starting again\n"
    "parent: paying seat 7 to Oslo\n"
    "parent: seat 7 to Oslo: paid\n",
    "retry.py": "attempt 1: asking for the price of tea\n"
    "attempt 2: asking for the price of tea\n"
    "attempt 3: asking for the price of tea\n"
    "bought tea for 42\n"
    "fetch_price completed at attempt 3\n"
    "attempt 1: asking for the price of unicorn\n"
    "did not buy unicorn: there is no such product\n"
    "attempt 1: asking for the price of coal\n"
    "attempt 2: asking for the price of coal\n"
    "did not buy coal: the price service does not answer (failed after 2 attempts)\n",
    "rewind.py": "taking order 17\n"
    "adding up ['tea', 'cake']\n"
    "failed [('take_order', 'completed'), ('add_up', 'failed')]\n"
    "adding up ['tea', 'cake']\n"
    "sending a bill over 7\n"
    "billed 7\n"
    "adding up ['tea', 'cake']\n"
    "sending a bill over 5\n"
    "bill-17-corrected billed 5\n"
    "bill-17 billed 7\n",
    "saga.py": "booking a flight to Oslo\n"
    "booking a hotel in Oslo for trip-1\n"
    "['flight to Oslo', 'hotel in Oslo']\n"
    "booking a flight to Atlantis\n"
    "booking a hotel in Atlantis for trip-2\n"
    "cancelling whatever hotel there is for trip-2\n"
    "cancelling the flight to Atlantis\n"
    "not booked: no hotel above water\n",
    "schedules.py": "next: 2030-03-30T01:30:00.000000+00:00\n"
    "nightly-20300330T013000Z - the archive, the night of 30 March at 02:30 CET\n"
    "nightly-20300331T010000Z - the archive, the night of 31 March at 03:00 CEST\n"
    "nightly-20300401T003000Z - the archive, the night of 01 April at 02:30 CEST\n"
    "made up for: the archive, the night of 04 April at 02:30 CEST\n"
    "[('nightly', 'paused')]\n"
    "[]\n",
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


# --- sentences that no program shows ----------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Workflow[[], str]:
    @workflow
    def sleep_an_hour() -> str:
        durable.sleep(3600)
        return "awake"

    return sleep_an_hour


@pytest.fixture
def listener() -> Workflow[[], str]:
    @workflow
    def listen() -> str:
        heard: str = durable.wait_for_event("noise")
        return heard

    return listen


def waits(run: WorkflowHandle) -> bool:
    return [step["status"] for step in run._orchestrator.get_history(run.id)] == ["waiting"]


@pytest.mark.parametrize("seconds", [1800, 3600])
def test_a_clock_that_is_set_moves_the_waits(memory, orchestrator, sleeper, seconds: int):
    clock = FakeClock()
    run = orchestrator(memory, clock=clock, poll_interval_seconds=0.01).start_workflow(sleeper)
    wait_until(lambda: waits(run))
    clock.step(seconds)
    clock.advance(1800)

    def ended() -> bool:
        clock.advance(0.01)
        return run.status()["status"] == "done"

    wait_until(ended)
    assert clock.monotonic() < 3600


def test_time_that_passes_while_no_program_runs_counts(memory, orchestrator, sleeper):
    clock = FakeClock()
    first = orchestrator(memory, clock=clock)
    run = first.start_workflow(sleeper)
    wait_until(lambda: waits(run))
    assert first.stop(timeout=5)  # it does not wait for the sleeper
    clock.advance(3600)
    assert orchestrator(memory, clock=clock).get_handle(run.id).result(timeout=10) == "awake"


def test_another_orchestrator_on_the_file_notices_within_its_poll_interval(tmp_path, orchestrator, listener):
    here = orchestrator(SQLiteDatabaseManager(tmp_path / "one.db"), poll_interval_seconds=0.01)
    there = orchestrator(SQLiteDatabaseManager(tmp_path / "one.db"), start=False)  # as in another process
    run = here.start_workflow(listener)
    wait_until(lambda: waits(run))
    there.raise_event(run.id, "noise", "a bell")
    assert run.result(timeout=10) == "a bell"
    second = here.start_workflow(listener)
    wait_until(lambda: waits(second))
    there.cancel_workflow(second.id)
    assert second.wait(timeout=10)["status"] == "cancelled"


def test_a_child_that_nobody_waits_for_goes_on_and_one_that_is_cancelled_fails_its_parent(
    memory, orchestrator, listener
):
    @workflow
    def leave() -> None:
        listener.submit()

    @workflow
    def stay() -> str:
        return listener()

    made = orchestrator(memory)
    made.start_workflow(leave, workflow_id="leave").result(timeout=10)
    made.raise_event("leave-0", "noise", "a bell")
    assert made.get_handle("leave-0").result(timeout=10) == "a bell"
    parent = made.start_workflow(stay, workflow_id="stay")
    wait_until(lambda: made.get_workflow_status("stay-0"))
    made.cancel_workflow("stay-0")
    with pytest.raises(errors.WorkflowFailedError) as caught:
        parent.result(timeout=10)
    assert isinstance(caught.value.__cause__, errors.WorkflowFailedError)
    assert caught.value.__cause__.status == "cancelled"


@pytest.mark.parametrize(("raises", "status"), [(False, "cancelled"), (True, "failed")])
def test_a_workflow_that_catches_its_cancellation_is_cancelled_unless_it_raises(memory, orchestrator, raises, status):
    @workflow
    def stubborn() -> str:
        try:
            durable.wait_for_event("noise")
        except durable.WorkflowCancelled:
            if raises:
                raise ValueError("something else") from None
        return "fine"

    run = orchestrator(memory).start_workflow(stubborn)
    wait_until(lambda: waits(run))
    run.cancel()
    assert run.wait(timeout=10)["status"] == status


def test_a_paused_run_that_is_cancelled_goes_on_and_one_that_has_not_begun_never_runs(memory, orchestrator, listener):
    made = orchestrator(memory, start=False)
    early = made.start_workflow(listener)
    early.cancel()
    made.start()
    assert early.wait(timeout=10)["status"] == "cancelled"
    assert made.get_history(early.id) == []
    run = made.start_workflow(listener)
    wait_until(lambda: waits(run))
    run.pause()
    assert run.status()["status"] == "paused"
    run.cancel()
    assert run.wait(timeout=10)["status"] == "cancelled"
    with pytest.raises(errors.WorkflowStateError):
        run.raise_event("noise")


def test_a_store_that_cannot_keep_runs_that_wait_runs_workflows_as_part_of_their_caller(tmp_path, orchestrator):
    @activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.01), timeout=10)
    def fetch() -> int:
        attempt: int = durable.info().attempt
        if attempt == 1:
            raise ConnectionError
        return attempt

    @workflow
    def inner() -> int:
        return fetch()

    @workflow
    def outer(*, sleeps: bool) -> int:
        found = inner()
        if sleeps:
            durable.sleep(1)
        return found

    made = orchestrator(SevenMethodsManager(tmp_path / "store"))
    run = made.start_workflow(outer, sleeps=False)
    assert run.result(timeout=10) == 2
    assert [step["name"] for step in made.get_history(run.id)] == ["fetch"]
    with pytest.raises(errors.WorkflowFailedError) as caught:
        made.start_workflow(outer, sleeps=True).result(timeout=10)
    assert isinstance(caught.value.__cause__, errors.UnsupportedOperationError)
    for request in (run.cancel, run.pause, run.resume, lambda: run.raise_event("noise")):
        with pytest.raises(errors.UnsupportedOperationError):
            request()


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
        names = re.findall(r'(\w+)(?:=(?:\w+|"\w+"))?(?:,|$)', shown)
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
