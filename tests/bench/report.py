"""The report: ``RESULTS.md``, from the runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .figures import AIMS, Results, Spread, floor, import_ms, microseconds, number, rate, spread
from .peers import OWN
from .workloads import WORKLOADS

Column = tuple[str, Callable[[Results, str], float]]


_PEER_TABLES: dict[str, list[Column]] = {
    "W1": [
        ("activities a second", lambda run, name: rate(run, "W1", name, "activities")),
        ("per raw commit", lambda run, name: rate(run, "W1", name, "activities") / floor(run, "W1")),
        ("until the first ran, s", lambda run, name: run["W1"][name]["first_seconds"]),
    ],
    "W2": [
        ("workflows a second", lambda run, name: rate(run, "W2", name, "workflows")),
        ("per raw commit", lambda run, name: rate(run, "W2", name, "workflows") / floor(run, "W2")),
        ("until the first ran, s", lambda run, name: run["W2"][name]["first_seconds"]),
        ("peak of memory, MB", lambda run, name: run["W2"][name]["peak_mb"]),
        ("wrong", lambda run, name: run["W2"][name]["wrong"]),
    ],
    "W3": [
        ("first resumed step, s", lambda run, name: run["W3"][name]["first_seconds"]),
        ("last step, s", lambda run, name: run["W3"][name]["all_seconds"]),
        ("done, of 200", lambda run, name: run["W3"][name]["done"]),
        ("missing", lambda run, name: run["W3"][name]["missing"]),
        ("repeated", lambda run, name: run["W3"][name]["repeated"]),
    ],
    "W4": [
        ("median, ms", lambda run, name: run["W4"][name]["median_seconds"] * 1e3),
        ("mean, ms", lambda run, name: run["W4"][name]["mean_seconds"] * 1e3),
        ("greatest, ms", lambda run, name: run["W4"][name]["max_seconds"] * 1e3),
        ("median, in raw commits", lambda run, name: run["W4"][name]["median_seconds"] * floor(run, "W4")),
    ],
    "W6": [("import, ms", import_ms)],
    "W7": [("seconds", lambda run, name: run["W7"][name]["seconds"]), ("us a step", microseconds)],
    "W8": [
        ("activities a second", lambda run, name: rate(run, "W8", name, "activities")),
        ("per row of the floor", lambda run, name: rate(run, "W8", name, "activities") / floor(run, "W8")),
    ],
}
_SIZES = {"W9": "workflows", "W11": "processes", "W13": "ms, or %"}

_NOTES = {
    "W2": """Wrong are those that failed or had another result than their sum.""",
    "W3": """Seconds are from the start of the new process. Missing and repeated are activities, of 4,000, by the lines
that they wrote. dura and kairo-sdk wait for their leases, for 120 and for 30 seconds, and are run once.""",
    "W4": """Two commits are needed: that of the start, and that of the activity with the end. dura's idle workers look
once a second, so its mean says more than its median.""",
    "W5": """In MB, the peak of the resident memory of a fresh process. 1,000 of the pending workflows are run, and 100
new ones beside those that have ended, or in an empty store.""",
    "W6": """In pairs with a bare interpreter. Of this library: with the three names that a program needs. The
engine and SQLite are imported when the first orchestrator is made; what is aimed at, above, says what that takes.""",
    "W7": """5,000 steps, from just before the library is started in the new process to the result, divided by the
steps: so the start is in it. What is aimed at is without the start: the seconds of a replay of one step, in the same
run, are taken off. 1.0.2 and kairo-sdk have no replay to measure; dbos is run twice.""",
    "W8": """The floor is raw SQLite with eight threads that store one row at a time and share commits.""",
    "W9": """Medians of 200 calls, in a fresh process.""",
    "W13": """Each lasts three seconds. Texts of 2 MB, or rows of the same size, are results of another workflow, stored
one after another. Idle is an orchestrator that has nothing to do, for six seconds: a look a second. On this machine
pages that are not used for a second are taken away, and most of it is fetching them again; a bare interpreter that
sleeps takes 0.15 %.""",
    "W11": """Least and most: how many workflows one of the processes ended. The end is when the last one was stored as
done; the processes are ready before the start.""",
}

# Written by hand, from py-spy, perf and counters on the group commit, on the machine of the results checked in.
_PROFILES = {
    "W2": """the one thread that starts the workflows sets the pace, not the workers: of 0.75 ms from one start to the
next, 0.69 are its commit, and it mostly just misses one: 1.9 commits for a start. A commit of 3.7 operations, which is
one statement, takes 0.31 ms until its thread has got the interpreter back from eight others, and 0.08 ms pass until the
next one begins. A workflow takes 0.74 ms of processor time, and 0.57 with the file in memory, where 1,700 to 2,000 are
done in a second: so much is Python's own share. Waiting a moment for those who have just been woken, waking the one
that starts workflows before the others, leading for more commits, other switch intervals and larger checkpoints were
tried, and change nothing, or next to nothing.""",
    "W4": """of 0.62 ms, two commits take 0.44, two hand-overs between threads 0.06, and Python 0.12.""",
    "W6": """of the first orchestrator's time, typing, logging, sqlite3 and json take 20 to 27 ms, and the end of the
process 7. The rest are about 60 modules of this library, half of it to read them and half to make their classes. What
few programs need (dataclasses, inspect, decimal, pathlib, asyncio) is imported when it is used first, the engine and
SQLite when an orchestrator is made, and `import py_orchestrate` alone imports nothing.""",
    "W8": """the floor's threads wait for their commits, and have to be woken after them, which takes longer than the
commits' work. Here a thread that finds another one storing leaves its outcome there and goes on: an activity takes 0.06
ms of processor time, and 0.11 where each waits for its own.""",
    "W11": """one process has the file for four fifths of the time, and the interpreter for the rest. What helps is to
have the file for less: a run's end, the claim of the next run and the steps of other threads are one statement, and
what arrives while another process writes joins the next commit: 4.6 operations a commit with two processes and 5.2 with
four, instead of 3.9. A workflow takes 2.2 ms of processor time with one or two processes, and 2.8 with four, mostly to
look whether the file is free. To look more often (every 0.03 or 0.1 ms), and a lock file at which processes wait in the
kernel for their turn, were tried: the one changes nothing, the other is fairer and not faster, for who has just written
can write again at once, while another one has to be woken first.""",
}

DURABILITY = Path(__file__).parent / "durability.md"


def cell(value: Spread | None) -> str:
    """Return a median with its range."""
    if value is None:
        return "-"
    if value.runs == 1 or value.lowest == value.highest:
        return number(value.median)
    return f"{number(value.median)} ({number(value.lowest)}-{number(value.highest)})"


def row(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def aims_table(runs: Sequence[Results]) -> list[str]:
    """Return the table of what is aimed at."""
    lines = [
        row(["", "figure", "aimed at", "median", "lowest", "highest", "runs", "reached"]),
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for aim in AIMS:
        found = spread(runs, aim.figure)
        unit = f" {aim.unit}" if aim.unit else ""
        if found is None:
            lines.append(row([aim.workload, aim.title, aim.wanted(), "not measured", "", "", "0", "-"]))
            continue
        values = [f"{number(value)}{unit}" for value in (found.median, found.lowest, found.highest)]
        lines.append(row([aim.workload, aim.title, aim.wanted(), *values, str(found.runs), aim.verdict(found.median)]))
    return lines


def peer_table(runs: Sequence[Results], workload: str, names: dict[str, str]) -> list[str]:
    """Return how the libraries did in one workload."""
    columns = _PEER_TABLES[workload]
    lines = [row(["library", *(title for title, _ in columns), "runs"]), "|---|" + "--:|" * (len(columns) + 1)]
    for name, label in names.items():
        spreads = [spread(runs, lambda run, get=get, name=name: get(run, name)) for _, get in columns]
        errors = [run[workload][name]["error"] for run in runs if "error" in run.get(workload, {}).get(name, {})]
        if any(spreads) or errors:
            count = str(max((found.runs for found in spreads if found), default=0))
            lines.append(row([label, *map(cell, spreads), count + (f" ({len(errors)} failed)" if errors else "")]))
    found = spread(runs, lambda run: floor(run, workload))
    if found is not None:
        lines += ["", f"Raw SQLite: {cell(found)} rows a second."]
    return lines


def own_tables(runs: Sequence[Results], workload: str) -> list[str]:
    """Return the figures of this library by itself: a row for each size, or for each figure."""
    found = [run.get(workload, {}).get(OWN, {}) for run in runs]
    found = [figures for figures in found if "error" not in figures]
    keys = list(dict.fromkeys(key for each in found for key in each))
    if any(isinstance(each.get(key), dict) for each in found for key in keys):
        columns = list(dict.fromkeys(name for each in found for value in each.values() for name in value))
        lines = [row([_SIZES[workload], *map(_words, columns)]), "|--:|" + "--:|" * len(columns)]
        for key in keys:
            spreads = [spread(found, lambda each, key=key, name=name: float(each[key][name])) for name in columns]
            lines.append(row([f"{int(key):,}" if key.isdigit() else key, *map(cell, spreads)]))
        return lines
    lines = [row(["figure", "median and range"]), "|---|--:|"]
    lines += [row([_words(key), cell(spread(found, lambda each, key=key: float(each[key])))]) for key in keys]
    return lines


def _words(name: str) -> str:
    """Return the name of a figure as words, with the unit behind."""
    words = re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", name).replace("_", " ")
    return re.sub(r" (ms|mb|seconds)$", lambda unit: f", {_UNITS[unit[1]]}", words)


_UNITS = {"ms": "ms", "mb": "MB", "seconds": "s"}


def missing_note(runs: Sequence[Results], workload: str) -> list[str]:
    """Return why a workload was not measured, where it says so."""
    everything = [figures for run in runs for figures in run.get(workload, {}).values()]
    found = {figures["missing"] for figures in everything if isinstance(figures.get("missing"), str)}
    return [f"Not measured: {reason}." for reason in sorted(found)]


_SHORT: list[tuple[str, Callable[[Results, str], float]]] = [
    ("activities a second, one workflow", lambda run, name: rate(run, "W1", name, "activities")),
    ("workflows a second, eight workers", lambda run, name: rate(run, "W2", name, "workflows")),
    ("recovery, s to the first step", lambda run, name: run["W3"][name]["first_seconds"]),
    ("to the last", lambda run, name: run["W3"][name]["all_seconds"]),
    ("activities lost, of 4,000", lambda run, name: run["W3"][name]["missing"]),
    ("start to result, ms, mean", lambda run, name: run["W4"][name]["mean_seconds"] * 1e3),
    ("replay, us a step", microseconds),
    ("import, ms", import_ms),
    ("peak, MB", lambda run, name: run["W2"][name]["peak_mb"]),
]
_BEGIN, _END = 'ARGS="--readme" -->\n', "<!-- bench: end -->"


def in_short(results: dict[str, Any]) -> str:
    """Return the medians of the comparison, and what is not reached, for the README."""
    runs, machine = results["runs"], results["machine"]
    lines = [row(["median", *(title for title, _ in _SHORT)]), "|---|" + "--:|" * len(_SHORT)]
    for library in results["libraries"]:
        name = library["name"]
        spreads = [spread(runs, lambda run, get=get, name=name: get(run, name)) for _, get in _SHORT]
        lines.append(row([library["label"], *(number(found.median) if found else "-" for found in spreads)]))
    lines += [
        "",
        f"{machine['date']}, {machine['cores']} cores, Python {machine['python']}, SQLite {machine['sqlite']}.",
    ]
    missed = []
    for aim in AIMS:
        found = spread(runs, aim.figure)
        if found and aim.verdict(found.median).startswith("no"):
            unit = f" {aim.unit}" if aim.unit else ""
            missed.append(f"* {aim.workload}, {aim.title}: {number(found.median)}{unit}, {aim.wanted()} was aimed at.")
    lines += ["", "Not reached:" if missed else "Every figure that was aimed at is reached."]
    return "\n".join([*lines, *([""] if missed else []), *missed]) + "\n"


def put_into_readme(readme: str, results: dict[str, Any]) -> str:
    """Return the README with this between its two marks."""
    before, rest = readme.split(_BEGIN)
    return f"{before}{_BEGIN}\n{in_short(results)}\n{_END}{rest.partition(_END)[2]}"


def errors_of(runs: Sequence[Results]) -> list[str]:
    """Return what went wrong, a line each."""
    lines = []
    for place, run in enumerate(runs):
        for workload, libraries in run.items():
            for library, figures in libraries.items():
                inner = [figures, *(value for value in figures.values() if isinstance(value, dict))]
                errors = [str(each["error"]) for each in inner if "error" in each]
                lines += [f"* {workload}, {library}, run {place + 1}: {error}" for error in errors]
    return lines


def _introduction(results: dict[str, Any]) -> str:
    machine, runs = results["machine"], len(results["runs"])
    return (
        f"{machine['date']}, {machine['system']}, {machine['cores']} cores, Python {machine['python']}, SQLite "
        f"{machine['sqlite']}; {runs} {'runs' if runs > 1 else 'run'} in {number(results['minutes'])} minutes. The "
        "medians count, and behind them in brackets are the lowest and the highest. A ratio to raw SQLite is taken "
        "within each run, as the speed of the machine drifts. The figures of each run are in `results.json`. Nothing "
        "here passes or fails."
    )


def faults_of(runs: Sequence[Results]) -> list[str]:
    """Return what this library did wrong, a line each; to be slow is not wrong."""
    lines = [line for line in errors_of(runs) if f", {OWN}, " in line]
    for place, run in enumerate(runs):
        many, recovery = (run.get(workload, {}).get(OWN, {}) for workload in ("W2", "W3"))
        if many.get("wrong"):
            lines.append(f"* W2, run {place + 1}: {many['wrong']} workflows had a wrong result")
        if recovery.get("missing"):
            lines.append(f"* W3, run {place + 1}: {recovery['missing']} activities are missing")
    return lines


def markdown(results: dict[str, Any], plots: Sequence[str]) -> str:
    """Return the whole report."""
    runs = results["runs"]
    names = {library["name"]: library["label"] for library in results["libraries"]}
    lines = [
        "# Results of `make bench`",
        "",
        _introduction(results),
        "",
        *([results["note"], ""] if "note" in results else []),
        *(["**A trial with small sizes (`--quick`): the figures say little.**", ""] if results["quick"] else []),
        "## What is aimed at",
        "",
        *aims_table(runs),
        "",
    ]
    for workload in WORKLOADS:
        if not any(workload.name in run for run in runs):
            continue
        lines += ["", f"## {workload.name}. {workload.title}", ""]
        if missing := missing_note(runs, workload.name):
            lines += missing
        elif workload.name in _PEER_TABLES:
            lines += peer_table(runs, workload.name, names)
        else:
            lines += own_tables(runs, workload.name)
        if workload.name in _NOTES:
            lines += ["", _NOTES[workload.name]]
        if workload.name in _PROFILES:
            lines += ["", f"A profile says: {_PROFILES[workload.name]}"]
    lines += ["", "## Plots", "", *(f"![{name.removesuffix('.png')}]({name})" for name in plots)]
    lines += ["", "## The libraries", "", row(["library", "Python", "SQLite", "measured"]), "|---|---|---|---|"]
    for library in results["libraries"]:
        cells = [library["label"], library["python"] or "-", library["sqlite"] or "-"]
        lines.append(row([*cells, f"no: {library['missing']}" if library["missing"] else "yes"]))
    lines += ["", "## Durability and caveats", "", DURABILITY.read_text(encoding="utf-8")]
    errors = errors_of(runs)
    lines += ["## What went wrong", "", *errors] if errors else []
    return "\n".join(lines).rstrip() + "\n"
