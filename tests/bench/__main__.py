"""The benchmarks: ``python -m tests.bench [--runs N] [--only W1,W2] [--quick]``, or ``make bench``.

Measures this library, raw SQLite of the same durability, and other libraries, several times in turn, and writes
``bench/RESULTS.md``, ``bench/results.json`` and the plots. What each workload is: see ``workloads.py`` and the drivers;
what is aimed at: ``figures.py``. Nothing here passes or fails; the exit code is 1 if this library itself went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .figures import AIMS, number, spread
from .peers import known_libraries, make_ready
from .processes import ROOT, ScriptError
from .report import faults_of, markdown, put_into_readme
from .workloads import FLOOR, WORKLOADS, Bench, Workload


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, help="how often to measure (5)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="some workloads, as in W1,W2")
    parser.add_argument("--quick", action="store_true", help="one run of small sizes, to try it out")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the report from results.json")
    parser.add_argument("--readme", action="store_true", help="also put the medians into README.md")
    parser.add_argument("--output", type=Path, default=ROOT / "bench", help="the folder to write to (bench)")
    options = parser.parse_args(arguments)
    options.runs = options.runs or (1 if options.quick else 5)
    unknown = set(options.only or ()) - {workload.name for workload in WORKLOADS}
    if unknown:
        parser.error(f"there is no workload {', '.join(sorted(unknown))}")
    return options


def prepare(scratch: Path, *, quick: bool) -> tuple[Bench, list[dict[str, str]]]:
    """Return the bench and what there is to say of each library."""
    for left in [scratch / "stores", *scratch.glob("run-*")]:
        shutil.rmtree(left, ignore_errors=True)
    scratch.mkdir(exist_ok=True)
    libraries = known_libraries()
    for library in libraries:
        say(f"{library.name}: making its environment ready")
        make_ready(library, scratch)
        say(f"  {library.missing or f'version {library.version}, Python {library.python_version}'}")
    described = [
        {
            "name": library.name,
            "label": library.name if library.version in library.name else f"{library.name} {library.version}",
            "python": library.python_version,
            "sqlite": library.sqlite_version,
            "missing": library.missing,
        }
        for library in libraries
    ]
    return Bench(scratch, [library for library in libraries if not library.missing], quick, say), described


def measure(bench: Bench, workloads: list[Workload], runs: int) -> list[dict[str, Any]]:
    """Do all the runs."""
    results = []
    for number_of_run in range(runs):
        bench.run = number_of_run
        result: dict[str, Any] = {}
        for workload in workloads:
            if workload.once and number_of_run:
                continue
            say(f"run {number_of_run + 1} of {runs}: {workload.name}, {workload.title}")
            started = time.monotonic()
            try:
                result[workload.name] = workload.measure(bench)
            except (ScriptError, OSError) as error:  # what is measured around the libraries, as the floor
                result[workload.name] = {FLOOR: {"error": str(error)}}
                say(f"  {error}")
            say(f"  {time.monotonic() - started:.1f} s")
        results.append(result)
    return results


def write(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the report, the figures and the plots."""
    from . import plots

    folder = options.output
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for old in folder.glob("*.png"):
        old.unlink()
    names = {library["name"]: library["label"] for library in results["libraries"]}
    drawn = plots.draw(folder, results["runs"], names)
    (folder / "RESULTS.md").write_text(markdown(results, drawn), encoding="utf-8")
    if options.readme:
        readme = ROOT / "README.md"
        readme.write_text(put_into_readme(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


def main() -> int:
    """Measure, and write what was measured."""
    options = options_of()
    if options.report:
        write(options, json.loads((options.output / "results.json").read_text(encoding="utf-8")))
        return 0
    return benchmark(options)


def benchmark(options: argparse.Namespace) -> int:
    """Do all that there is to do, and return the exit code."""
    started = time.monotonic()
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    bench, libraries = prepare(ROOT / ".bench", quick=options.quick)
    workloads = [workload for workload in WORKLOADS if not options.only or workload.name in options.only]
    try:
        runs = measure(bench, workloads, options.runs)
    finally:
        shutil.rmtree(bench.scratch / "stores", ignore_errors=True)
    machine = {
        "date": date,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    minutes = (time.monotonic() - started) / 60
    results = {"machine": machine, "libraries": libraries, "quick": options.quick, "minutes": minutes, "runs": runs}
    write(options, results)
    for aim in AIMS:
        found = spread(runs, aim.figure)
        if found is not None:
            say(f"{aim.workload:<4}{aim.title:<75}{number(found.median):>9} {aim.unit:<3}{aim.verdict(found.median)}")
    failed = faults_of(runs)
    say("\n".join([f"{minutes:.1f} minutes; see {options.output.name}/RESULTS.md", *failed]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
