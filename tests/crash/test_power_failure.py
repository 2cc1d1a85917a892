"""Power failures: whatever was acknowledged is on the disk, on one that loses all that was not synced.

A process that is killed leaves behind what it has written, synced or not. So the processes here run with a library,
``power_failure.c``, that copies each file at each of its syncs to another folder, as it is then. When the process is
killed, that folder has what a disk has after a power failure, at the worst: only what was synced.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from ..children import Child, child
from ..effects import Effects
from ..waiting import wait_until
from . import zygote

_COMPILER = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes the place of the syncs as Linux allows it"),
    pytest.mark.skipif(_COMPILER is None and os.environ.get("CI") != "true", reason="needs a C compiler, such as gcc"),
]

STEPS = 4
SECTOR_BYTES = 512

PRELUDE = f"""
import itertools, json, os, signal, sys, threading
from py_orchestrate import Orchestrator, SQLiteDatabaseManager, activity, workflow
from tests.effects import Effects

path, journal_mode, synchronous, noted, *runs = sys.argv[1:]
effects = Effects(noted)

@activity
def step(n, k):
    effects.note("step", f"run-{{n}}", k)
    return 10 * n + k

@workflow
def chain(n):
    return sum([step(n, k) for k in range({STEPS})])

database = SQLiteDatabaseManager(path, journal_mode=journal_mode, synchronous=synchronous)
orchestrator = Orchestrator(db_manager=database, max_workers=4)

def run_through(numbers):
    for n in numbers:
        handle = orchestrator.start_workflow(chain, n, workflow_id=f"run-{{n}}")
        effects.note("started", f"run-{{n}}")
        effects.note("ended", f"run-{{n}}", handle.result())
"""

CLIENTS = """
def client(first):
    for n in itertools.count(first, 4):
        handle = orchestrator.start_workflow(chain, n, workflow_id=f"run-{n}")
        effects.note("started", f"run-{n}")
        if n % 3 == 0:
            effects.note("ended", f"run-{n}", handle.result())

orchestrator.start()
for first in range(4):
    threading.Thread(target=client, args=[first], daemon=True).start()
threading.Event().wait()
"""

RUNS_AND_AN_END = """
with orchestrator:
    run_through(range(3))
database.close()
"""

RUNS_AND_A_POWER_FAILURE = """
orchestrator.start()
run_through(range(3, 6))
os.kill(os.getpid(), signal.SIGKILL)
"""

LONE_START = """
orchestrator.start_workflow(chain, 0, workflow_id="run-0")
effects.note("started", "run-0")
os.kill(os.getpid(), signal.SIGKILL)
"""

HEIR = """
with orchestrator:
    print(json.dumps({run: orchestrator.get_handle(run).result() for run in runs}))
"""


class Mode(NamedTuple):
    """How SQLite is to write."""

    journal_mode: str
    synchronous: str

    def __str__(self) -> str:
        return f"{self.journal_mode} {self.synchronous}"


MODES = [Mode("WAL", "FULL"), Mode("DELETE", "FULL")]


class Found(NamedTuple):
    """What is in a database file.

    Attributes:
        runs: Each run's status and result.
        steps: The result of each step that is stored as completed, by its run and ordinal.
    """

    runs: dict[str, tuple[str, str | None]]
    steps: dict[tuple[str, int], str]


class Machine:
    """A folder with a process's files, and beside it the disk that keeps what was synced."""

    def __init__(self, folder: Path, library: Path, mode: Mode) -> None:
        self._library = library
        self._mode = mode
        self._shadow = folder / "shadow"
        self._noted = folder / "effects"
        self._noted_by_heir = folder / "effects of the heir"
        self._heir_said = folder / "said by the heir"
        self._looked_at = folder / "looked at"
        self.written = folder / "written"
        self.synced = self._shadow / "disk"
        for made in (self.written, self.synced, self._shadow / "new"):
            made.mkdir(parents=True)

    @contextlib.contextmanager
    def process(self, script: str, fails: str = "") -> Iterator[Child]:
        """Run the script as long as the context lasts, or until the power fails as ``power_failure.c`` explains it."""
        with contextlib.ExitStack() as stack:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("LD_PRELOAD", str(self._library), prepend=":")
                environment.setenv("POWER_FAILURE_DISK", os.path.realpath(self.written))
                environment.setenv("POWER_FAILURE_SHADOW", os.path.realpath(self._shadow))
                environment.setenv("POWER_FAILURE_AT", fails)
                arguments = (self.written / "runs.db", *self._mode, self._noted)
                process = stack.enter_context(child(PRELUDE + script, *arguments))
            yield process

    def run(self, script: str, fails: str = "", *, ends: int = -signal.SIGKILL) -> None:
        """Run the script up to its end, which is the power failure's unless said otherwise."""
        with self.process(script, fails) as process:
            assert process.process.wait(timeout=30) == ends

    def syncs(self, name: str) -> int:
        """Return how often the file of that name was synced."""
        log = self._shadow / "log"
        return log.read_text(encoding="utf-8").splitlines().count(name) if log.exists() else 0

    def acknowledged(self) -> list[list[str]]:
        return _lines(self._noted)

    def found(self, disk: Path | None = None) -> Found:
        """Return what is in the file on the disk, once it is found sound; the disk stays as it is."""
        shutil.rmtree(self._looked_at, ignore_errors=True)
        shutil.copytree(disk or self.synced, self._looked_at)
        with closing(sqlite3.connect(self._looked_at / "runs.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'activity_executions'").fetchone() is None:
                return Found({}, {})
            runs = connection.execute("SELECT id, status, output_data FROM workflows").fetchall()
            steps = connection.execute(
                "SELECT workflow_id, sequence, output_data FROM activity_executions "
                "WHERE kind = 'activity' AND status = 'completed'"
            ).fetchall()
        return Found({run: (status, output) for run, status, output in runs}, {(run, k): out for run, k, out in steps})

    def has_a_worthy_heir(self, found: Found, disk: Path | None = None) -> None:
        """Demand of a new process on the disk that it ends every run as it should, and repeats no completed step."""
        disk = disk or self.synced
        self._noted_by_heir.unlink(missing_ok=True)
        arguments = [str(disk / "runs.db"), *self._mode, str(self._noted_by_heir), *found.runs]
        code, said = zygote.run(PRELUDE + HEIR, arguments, self._heir_said)
        assert code == 0
        assert json.loads(said) == {run: _result(run) for run in found.runs}
        every = [(run, k) for run in found.runs for k in range(STEPS)]
        left = [["step", run, str(k)] for run, k in every if (run, k) not in found.steps]
        assert sorted(_lines(self._noted_by_heir)) == sorted(left)
        ended = self.found(disk)
        assert ended.runs == {run: ("done", str(_result(run))) for run in found.runs}
        assert ended.steps == {(run, k): str(_outcome(run, k)) for run, k in every}


def lost(acknowledged: list[list[str]], found: Found) -> list[str]:
    """Return what was acknowledged and is not there: runs, steps and ends.

    A step's effect acknowledges the run and the outcomes of the steps before it, for they were to be durable by then.
    """
    missing = set()
    for word, run, *rest in acknowledged:
        if run not in found.runs:
            missing.add(run)
        if word == "ended" and found.runs.get(run) != ("done", rest[0]):
            missing.add(f"the end of {run}")
        if word == "step":
            before = [(run, k) for k in range(int(rest[0]))]
            missing |= {f"step {k} of {run}" for run, k in before if found.steps.get((run, k)) != str(_outcome(run, k))}
    return sorted(missing)


def _outcome(run: str, k: int) -> int:
    return 10 * int(run.removeprefix("run-")) + k


def _result(run: str) -> int:
    return sum(_outcome(run, k) for k in range(STEPS))


def _lines(path: Path) -> list[list[str]]:
    with closing(Effects(path)) as effects:
        return effects.lines()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled library."""
    if _COMPILER is None:
        raise RuntimeError(
            "a C compiler is missing: the tests of power failures need one, such as gcc. On Debian or Ubuntu: "
            "apt-get install gcc libc6-dev."
        )
    made = tmp_path_factory.mktemp("library") / "power_failure.so"
    source = Path(__file__).with_name("power_failure.c")
    subprocess.run([_COMPILER, "-shared", "-fPIC", "-pthread", "-o", made, source], check=True)
    return made


@pytest.fixture
def plug_in(tmp_path: Path, library: Path) -> Callable[[Mode], Machine]:
    """Return a function that makes the test's machine."""
    return lambda mode: Machine(tmp_path, library, mode)


@pytest.fixture
def chance() -> random.Random:
    """Return a source of random numbers with a fresh seed; pytest shows it when the test fails."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    return random.Random(seed)


def with_some_of_the_rest(machine: Machine, chance: random.Random) -> Path:
    """Return a disk that has any of the sectors that were written since the last sync, as disks do."""
    mixed = machine.synced.with_name("mixed")
    shutil.rmtree(mixed, ignore_errors=True)
    shutil.copytree(machine.synced, mixed)
    share = chance.random()
    for name in ("runs.db", "runs.db-wal"):
        if (mixed / name).exists():
            synced, written = (mixed / name).read_bytes(), (machine.written / name).read_bytes()
            size = max(len(synced), len(written))
            sectors = [
                (written if chance.random() < share else synced)[at : at + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")
                for at in range(0, size, SECTOR_BYTES)
            ]
            (mixed / name).write_bytes(b"".join(sectors)[:size])
    return mixed


def demand_all(machine: Machine, chance: random.Random, disks: int = 2) -> None:
    """Demand that everything that was acknowledged is on the disk, and that a new process can go on there.

    Also on some disks that have some of what was not synced.
    """
    for _ in range(disks):
        assert lost(machine.acknowledged(), machine.found(with_some_of_the_rest(machine, chance))) == []
    found = machine.found()
    assert lost(machine.acknowledged(), found) == []
    machine.has_a_worthy_heir(found)


# --- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("checkpoints", [0, 4])
def test_at_any_moment(plug_in: Callable[[Mode], Machine], chance: random.Random, mode: Mode, checkpoints: int) -> None:
    machine = plug_in(mode)
    noted = 50 * checkpoints + chance.randrange(1, 60)
    with machine.process(CLIENTS) as process:
        # The file is synced by each checkpoint, and before the first; in the mode DELETE by each commit.
        wait_until(lambda: machine.syncs("runs.db") > checkpoints and len(machine.acknowledged()) >= noted, timeout=30)
        process.kill()
    assert checkpoints == 0 or {word for word, *_ in machine.acknowledged()} == {"started", "step", "ended"}
    demand_all(machine, chance)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("mode", "name", "number"),
    [
        (MODES[0], "*", range(1, 15)),  # while the file is made
        (MODES[0], "runs.db-wal", range(10, 100)),
        (MODES[0], "runs.db", range(2, 5)),  # in a checkpoint
        (MODES[1], "*", range(1, 200)),
        (MODES[1], "runs.db", range(5, 50)),  # between the journal's sync and its removal
    ],
    ids=str,
)
def test_at_a_sync(
    plug_in: Callable[[Mode], Machine], chance: random.Random, mode: Mode, *, name: str, number: range, moment: str
) -> None:
    machine = plug_in(mode)
    place = f"{moment} {name} {chance.choice(number)}"
    print(place)
    machine.run(CLIENTS, place)
    demand_all(machine, chance)


def test_after_a_process_that_has_ended_well(plug_in: Callable[[Mode], Machine], chance: random.Random) -> None:
    machine = plug_in(Mode("WAL", "FULL"))
    machine.run(RUNS_AND_AN_END, ends=0)
    # It has removed its log, but the disk does not know: it has an old log beside a newer file.
    assert not (machine.written / "runs.db-wal").exists()
    assert (machine.synced / "runs.db-wal").exists()
    assert lost(machine.acknowledged(), machine.found()) == []
    machine.run(CLIENTS, f"before * {chance.randint(1, 4)}")
    demand_all(machine, chance, disks=0)  # for the old log's sectors are not those of the new one


@pytest.mark.parametrize(
    "mode",
    [
        Mode("WAL", "FULL"),
        Mode("TRUNCATE", "FULL"),
        Mode("PERSIST", "FULL"),
        Mode("DELETE", "FULL"),
        Mode("DELETE", "EXTRA"),
    ],
    ids=str,
)
def test_the_last_commit_is_on_the_disk(plug_in: Callable[[Mode], Machine], chance: random.Random, mode: Mode) -> None:
    machine = plug_in(mode)
    machine.run(LONE_START)
    assert machine.acknowledged() == [["started", "run-0"]]
    demand_all(machine, chance)


@pytest.mark.parametrize(("mode", "number"), [(MODES[0], 3), (MODES[1], 40)], ids=str)
def test_half_way_through_a_write_to_the_file(
    plug_in: Callable[[Mode], Machine], chance: random.Random, mode: Mode, number: int
) -> None:
    machine = plug_in(mode)
    machine.run(CLIENTS, f"before runs.db {number}")  # all is written, and any part of it may be on the disk
    assert (machine.synced / "runs.db").read_bytes() != (machine.written / "runs.db").read_bytes()
    for _ in range(20):
        disk = with_some_of_the_rest(machine, chance)
        found = machine.found(disk)
        assert lost(machine.acknowledged(), found) == []
    machine.has_a_worthy_heir(found, disk)


# --- the tests can fail -----------------------------------------------------------------------------------------------


def test_control_what_was_not_synced_is_lost(plug_in: Callable[[Mode], Machine], chance: random.Random) -> None:
    machine = plug_in(Mode("WAL", "NORMAL"))
    machine.run(RUNS_AND_AN_END, ends=0)
    assert lost(machine.acknowledged(), machine.found()) == []  # it has synced all at its end
    machine.run(RUNS_AND_A_POWER_FAILURE)
    found = machine.found()
    runs = ["run-3", "run-4", "run-5"]
    steps = [f"step {k} of {run}" for run in runs for k in range(STEPS - 1)]
    assert lost(machine.acknowledged(), found) == sorted([*runs, *steps, *(f"the end of {run}" for run in runs)])
    for _ in range(20):
        machine.found(with_some_of_the_rest(machine, chance))
    machine.has_a_worthy_heir(found)  # what is left is sound all the same
