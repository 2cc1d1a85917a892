"""What is measured: one function for each workload, which does one run of it and returns the figures by library.

The floor is measured just before this library and just after it, in each run: the speed of a disk, and of a machine
that others use too, drifts. Ratios are taken within a run.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import fleets, imports, recoveries
from .peers import OWN, Library, find_interpreter, make_venv
from .processes import ROOT, Figures, ScriptError, environment, run, run_script

FLOOR = "raw SQLite"
GROWTH = "growth"
STEPS = 5000
MANY_STEPS = 50_000
GROWTH_STEPS = (500, 1000, 2000, 5000, 10_000, 20_000, MANY_STEPS)
GROWTH_ROWS = (1000, 10_000, 100_000, 1_000_000)
PENDING_ROWS = (1000, 10_000, 100_000)

Run = dict[str, Figures]


@dataclass
class Bench:
    """What a workload needs: the libraries, and folders.

    Attributes:
        scratch: Where everything is, on the disk of the project: a temporary folder may lie in memory.
        libraries: Those that can be measured, this one first.
        quick: Whether small sizes will do.
        run: The number of the run, from 0.
        say: Prints what goes on.
        stores: Folders that are made once.
    """

    scratch: Path
    libraries: list[Library]
    quick: bool
    say: Callable[[str], None]
    run: int = 0
    stores: dict[str, Path] = field(default_factory=dict)

    @property
    def own(self) -> Library:
        return self.libraries[0]

    def size(self, usual: int, quick: int) -> int:
        """Return how much of something to do."""
        return quick if self.quick else usual

    @contextlib.contextmanager
    def folder(self, template: str = "") -> Iterator[Path]:
        """Return a fresh folder, a copy of a store that was made once if ``template`` names one."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="run-", ignore_cleanup_errors=True) as name:
            inner = Path(name) / "data"
            if template:
                shutil.copytree(self.stores[template], inner)
            else:
                inner.mkdir()
            yield inner

    def make_store(self, name: str, make: Callable[[Path], object]) -> None:
        """Make a store unless it is there."""
        if name not in self.stores:
            folder = self.scratch / "stores" / name.replace(" ", "-")
            folder.mkdir(parents=True)
            make(folder)
            self.stores[name] = folder

    def make_own_store(self, kind: str, count: int) -> str:
        """Make one of the stores of ``stores.py`` unless it is there, and return its name."""
        name = f"{kind} {count}"
        self.make_store(name, lambda folder: run_script("stores", kind, folder, "--count", count, folder=folder))
        return name

    def drive(self, library: Library, workload: str, *options: object, template: str = "") -> Figures:
        """Run a workload of a library's driver in a fresh folder."""
        with self.folder(template) as folder:
            return run(library.command(workload, folder, *options), folder)

    def script(self, name: str, workload: str, *options: object, template: str = "") -> Figures:
        """Run a script of the benchmarks in a fresh folder."""
        with self.folder(template) as folder:
            return run_script(name, workload, folder, *options, folder=folder)

    def each(self, do: Callable[[Library], Figures], skipped: Sequence[str] = ()) -> Run:
        """Do it with each library that there is, and keep what goes wrong with one as its ``error``."""
        return {library.name: self.attempt(library, do) for library in self.libraries if library.name not in skipped}

    def attempt(self, library: Library, do: Callable[[Library], Figures]) -> Figures:
        """Do it with a library; return what goes wrong as ``error``."""
        try:
            figures = do(library)
        except (ScriptError, OSError) as error:
            figures = {"error": str(error)}
        self.say(f"  {library.name}: {short(figures)}")
        return figures

    def floor(self, name: str = "one-row", count: int = 1000) -> float:
        """Return how many rows a second raw SQLite stores."""
        return float(self.script("floors", name, "--count", count)["rows_per_second"])

    def beside_floor(self, do: Callable[[Library], Figures], name: str = "one-row") -> Run:
        """Do it with this library, with the floor before and after."""
        before = self.floor(name)
        figures = self.attempt(self.own, do)
        mean = (before + self.floor(name)) / 2
        self.say(f"  {FLOOR}: {mean:.0f} rows a second")
        return {FLOOR: {"rows_per_second": mean}, OWN: figures}


def short(figures: Figures) -> str:
    """Return the figures as one line."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in figures.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def sequential(bench: Bench) -> Run:
    count = bench.size(1000, 200)

    def do(library: Library) -> Figures:
        return bench.drive(library, "sequential", "--count", count)

    return bench.beside_floor(do) | bench.each(do, [OWN])


def many(bench: Bench) -> Run:
    count = bench.size(500, 100)

    def do(library: Library) -> Figures:
        return bench.drive(library, "many", "--count", count)

    return bench.beside_floor(do) | bench.each(do, [OWN])


def recovery(bench: Bench) -> Run:
    slow = ("dura", "kairo-sdk")  # they wait for their leases, for 120 and for 30 seconds: one run each
    skipped = slow if bench.quick or bench.run else ()

    def do(library: Library) -> Figures:
        with bench.folder() as folder:
            return recoveries.measure(library, folder)

    return bench.each(do, skipped)


def latency(bench: Bench) -> Run:

    def do(library: Library) -> Figures:
        count = bench.size(40 if library.name == "dura" else 100, 20)  # each takes dura up to a second
        return bench.drive(library, "latency", "--count", count)

    return bench.beside_floor(do) | bench.each(do, [OWN])


def memory(bench: Bench) -> Run:
    """Measure the peaks beside long tables; those of ``many`` are in its own figures.

    The large stores of ended workflows are used where they are, and grow by a hundred each time: to copy one would
    leave much for the system to write while the next workload is measured.
    """

    def do(_library: Library) -> Figures:
        figures = {"empty": bench.script("own", "memory", "--count", 100)["peak_mb"]}
        for count in PENDING_ROWS[: bench.size(len(PENDING_ROWS), 1)]:
            name = bench.make_own_store("pending", count)
            figures[name] = bench.script("own", "memory", "--count", 1000, template=name)["peak_mb"]
        for count in GROWTH_ROWS[: bench.size(len(GROWTH_ROWS), 1)]:
            name = bench.make_own_store("ended", count)
            folder = bench.stores[name]
            figures[name] = run_script("own", "memory", folder, "--count", 100, folder=folder)["peak_mb"]
        return figures

    return {OWN: bench.attempt(bench.own, do)}


OWN_IMPORTS = [
    "import py_orchestrate",
    "from py_orchestrate import Orchestrator, activity, workflow",
    "from py_orchestrate import Orchestrator, activity, workflow; Orchestrator(':memory:')",
]


def imports_of(bench: Bench) -> Run:
    pairs = bench.size(20, 3)

    def do(library: Library) -> Figures:
        statements = OWN_IMPORTS if library.name == OWN else [f"import {library.module}"]
        with bench.folder() as folder:
            return imports.measure(library.python, statements, pairs if library.name == OWN else pairs // 2, folder)

    return bench.each(do)


def replay(bench: Bench) -> Run:
    """Measure how long an interrupted workflow takes to where it was: in the new process, from the start to the result.

    The steps of the others are recorded by themselves, and so is one history of this library; its longer ones are
    written through its storage interface.
    """

    def prepare(library: Library, steps: int) -> str:
        name = f"replay {steps} {library.name}"

        def record(folder: Path) -> None:
            with contextlib.suppress(ScriptError):  # its last activity kills the process
                run(library.command("replay-prepare", folder, "--count", steps), folder)

        bench.make_store(name, record)
        return name

    def do(library: Library) -> Figures:
        steps = bench.size(STEPS, 500)
        figures = bench.drive(library, "replay", "--count", steps, template=prepare(library, steps))
        return figures | {"steps": steps}

    unable = ["py-orchestrate 1.0.2", "kairo-sdk", *(["dbos"] if bench.run > 1 else [])]

    def seconds(steps: int) -> float:
        name = bench.make_own_store("history", steps)
        return float(bench.drive(bench.own, "replay", "--count", steps, template=name)["seconds"])

    def grow(_library: Library) -> Figures:
        """Return the seconds by the number of steps, and those of a replay of one step, which is mostly the start."""
        start = statistics.median(seconds(1) for _ in range(3))
        sizes = GROWTH_STEPS[: bench.size(len(GROWTH_STEPS), 2)]
        return {"start": start} | {str(steps): seconds(steps) for steps in sizes}

    return bench.each(do, unable) | {GROWTH: bench.attempt(bench.own, grow)}


def fan_out(bench: Bench) -> Run:
    count = bench.size(1000, 200)
    return bench.beside_floor(lambda _: bench.script("own", "fan-out", "--count", count), "group-commit")


def listing(bench: Bench) -> Run:
    """Ask stores of several sizes; they are read only, and so used where they are."""
    figures = {}
    for count in GROWTH_ROWS[: bench.size(len(GROWTH_ROWS), 1)]:
        name = bench.make_own_store("ended", count)

        def do(_library: Library, folder: Path = bench.stores[name], count: int = count) -> Figures:
            return run_script("own", "pages", folder, "--count", count, folder=folder)

        figures[str(count)] = bench.attempt(bench.own, do)
    return {OWN: figures}


_SLEEPERS = re.compile(
    r"(?P<woken>\d+) of (?P<workflows>\d+) woken in (?P<over_seconds>\d+) s, late by (?P<median_late_ms>\d+) ms "
    r"\(median\), (?P<latest_ms>-?\d+) ms \(latest\); (?P<threads>\d+) threads, (?P<peak_mb>\d+) MB "
    r"\((?P<before_mb>\d+) before\), (?P<cpu_seconds>[\d.]+) s"
)


def sleepers(bench: Bench) -> Run:
    """Let ``tests/sleepers.py`` measure it; its exit code is a verdict, which is of no interest here.

    It is run as a file, as the package ``tests`` imports pytest, and without its folder, which has a ``typing``; and by
    a shell, as a process begins with the peak of memory of the one that started it.
    """
    options = ["--workflows", "2000", "--seconds", "3"] if bench.quick else []

    def do(_library: Library) -> Figures:
        command = [
            "sh",
            "-c",
            '"$@"; exit $?',
            "sh",
            sys.executable,
            "-P",
            str(ROOT / "tests" / "sleepers.py"),
            *options,
        ]
        with bench.folder() as folder:
            options_of_run = {"cwd": folder, "env": environment(), "capture_output": True, "text": True}
            done = subprocess.run(command, check=False, **options_of_run)
        found = _SLEEPERS.search(done.stdout)
        if found is None:
            raise ScriptError(f"status {done.returncode}: it printed no figures")
        return {name: float(value) for name, value in found.groupdict().items()}

    return {OWN: bench.attempt(bench.own, do)}


def processes(bench: Bench) -> Run:
    count = bench.size(1200, 200)
    name = "backlog"
    bench.make_store(name, lambda folder: run_script("own", "backlog", folder, "--count", count, folder=folder))
    figures: dict[str, Any] = {}
    for number in (1, 2, 4):

        def do(_library: Library, number: int = number) -> Figures:
            with bench.folder(name) as folder:
                return fleets.measure(number, folder)

        figures[str(number)] = bench.attempt(bench.own, do)
    return {OWN: figures}


def free_threaded(bench: Bench) -> Run:
    """Measure ``many`` on a Python without the global lock, if there is one, and on this one."""
    minors = [name for name in ("python3.14t", "python3.13t") if find_interpreter(name)]
    if not minors:
        return {OWN: {"missing": "no free-threaded Python (3.13t, 3.14t) is here"}}
    python = make_venv(str(find_interpreter(minors[0])), bench.scratch / "environments" / minors[0])
    count = str(bench.size(500, 100))

    def do(library: Library) -> Figures:
        figures = bench.drive(library, "many", "--count", count)
        with bench.folder() as folder:
            command = [python, *library.command("many", folder, "--count", count)[1:]]
            free = run(command, folder, variables={"PYTHONPATH": str(ROOT)})
        return {"with_lock": figures["seconds"], "without_lock": free["seconds"], "python": minors[0]}

    return {OWN: bench.attempt(bench.own, do)}


def neighbours(bench: Bench) -> Run:
    seconds = bench.size(3, 1)

    def do(_library: Library) -> Figures:
        figures = bench.script("own", "neighbours", "--count", seconds)
        return figures | {"idle": bench.script("own", "idle", "--count", 2 * seconds)}

    return {OWN: bench.attempt(bench.own, do)}


@dataclass(frozen=True)
class Workload:
    """A workload: its name, what it is, what does a run of it, and whether one run is all."""

    name: str
    title: str
    measure: Callable[[Bench], Run]
    once: bool = False


WORKLOADS = [
    Workload("W1", "One workflow, 1,000 activities one after the other", sequential),
    Workload("W2", "500 workflows of five activities, eight workers", many),
    Workload("W3", "Recovery: 200 workflows of 20 activities, killed half-way", recovery),
    Workload("W4", "From the start to the result, one activity", latency),
    Workload("W5", "Memory", memory),
    Workload("W6", "Import", imports_of),
    Workload("W7", "Replay", replay),
    Workload("W8", "Fan-out: one workflow, 1,000 activities on eight threads", fan_out),
    Workload("W9", "Listing 1,000,000 workflows", listing),
    Workload("W10", "100,000 sleeping workflows, due over 60 s", sleepers, once=True),
    Workload("W11", "1,200 workflows of five activities, worked off by several processes", processes),
    Workload("W12", "Free-threaded Python", free_threaded),
    Workload("W13", "Small steps beside large results; doing nothing", neighbours),
]
