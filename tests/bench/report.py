"""The report: ``RESULTS.md``, from the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .figures import AIMS, Results, Spread, floor, number, rate, spread
from .peers import OWN
from .workloads import STEPS, WORKLOADS

Column = tuple[str, Callable[[Results, str], float]]

_MANY_NOTE = "“Wrong” counts the workflows that failed or had another result than their sum."
_PEER_TABLES: dict[str, tuple[list[Column], str]] = {
    "W1": (
        [
            ("activities a second", lambda run, name: rate(run, "W1", name, "activities")),
            ("per raw commit", lambda run, name: rate(run, "W1", name, "activities") / floor(run, "W1")),
            ("until the first ran, s", lambda run, name: run["W1"][name]["first_seconds"]),
        ],
        "",
    ),
    "W2": (
        [
            ("workflows a second", lambda run, name: rate(run, "W2", name, "workflows")),
            ("per raw commit", lambda run, name: rate(run, "W2", name, "workflows") / floor(run, "W2")),
            ("peak of memory, MB", lambda run, name: run["W2"][name]["peak_mb"]),
            ("wrong", lambda run, name: run["W2"][name]["wrong"]),
        ],
        _MANY_NOTE,
    ),
    "W3": (
        [
            ("first resumed step, s", lambda run, name: run["W3"][name]["first_seconds"]),
            ("last step, s", lambda run, name: run["W3"][name]["all_seconds"]),
            ("done, of 200", lambda run, name: run["W3"][name]["done"]),
            ("missing", lambda run, name: run["W3"][name]["missing"]),
            ("repeated", lambda run, name: run["W3"][name]["repeated"]),
        ],
        "Seconds are from the start of the new process. Missing and repeated are activities, of 4,000, from what they "
        "wrote themselves. dura and kairo-sdk wait for their leases, for 120 and for 30 seconds, and are run once.",
    ),
    "W4": (
        [
            ("median, ms", lambda run, name: run["W4"][name]["median_seconds"] * 1e3),
            ("mean, ms", lambda run, name: run["W4"][name]["mean_seconds"] * 1e3),
            ("greatest, ms", lambda run, name: run["W4"][name]["max_seconds"] * 1e3),
            ("median, in raw commits", lambda run, name: run["W4"][name]["median_seconds"] * floor(run, "W4")),
        ],
        "Two commits are needed: that of the start, and that of the activity or the end. dura's idle workers look once a "
        "second, so its mean says more than its median.",
    ),
    "W6": (
        [("import, ms", lambda run, name: max(run["W6"][name].values()))],
        "Of this library: with the three names that a program needs.",
    ),
    "W7": (
        [
            ("seconds", lambda run, name: run["W7"][name]["seconds"]),
            ("us a step", lambda run, name: run["W7"][name]["seconds"] / STEPS * 1e6),
        ],
        "From just before the library is started in the new process to the result, divided by the steps: the start "
        "itself, some milliseconds, is in it. 1.0.2 and kairo-sdk have no replay to measure; dbos is run twice.",
    ),
}

DURABILITY = """\
| library | SQLite mode | an activity takes |
|---|---|---|
| py-orchestrate | `journal_mode=WAL`, `synchronous=FULL` | one commit and one sync; what several workflows record at once may share them |
| raw SQLite | `journal_mode=WAL`, `synchronous=FULL` | one commit and one sync a row; the group commit of W8 shares them among eight threads |
| py-orchestrate 1.0.2 | `journal_mode=DELETE`, `synchronous=FULL` | three commits, twelve syncs, less where it loses some |
| dbos | `journal_mode=DELETE`, `synchronous=FULL` | one commit, four syncs |
| dura | `journal_mode=WAL`, `synchronous=FULL` | one commit, one sync |
| kairo-sdk | `journal_mode=WAL`, `synchronous=FULL` | two commits, two syncs |

All are as each library sets them by default, with eight workers. What is unequal:

* dbos documents Postgres first; SQLite is its default. It takes up interrupted workflows through a queue that it looks
  at once a second. Where SQLite is older than 3.42, its driver gives it a function that it needs.
* dura's idle workers look for work once a second, which is part of W1, W2 and W4. It holds the workflows of a killed
  process for 120 seconds, and needs Python 3.13; the others are measured with the Python of this project.
* kairo-sdk's workflows are coroutines on one event loop. A killed process holds its workflows for 30 seconds. Its
  actions are declared `unprotected`, so that an interrupted one runs again, as with the others.
* py-orchestrate 1.0.2 recognises an activity by its name alone, so after a kill most of a loop is skipped: W3 counts
  them as missing. Workflows that run at the same time disturb each other: W2 counts wrong results, and lasts until a
  loop that looks every five seconds has found none to repeat.
"""


def cell(value: Spread | None) -> str:
    """Return a median with its range."""
    if value is None:
        return "–"
    if value.runs == 1 or value.lowest == value.highest:
        return number(value.median)
    return f"{number(value.median)} ({number(value.lowest)}–{number(value.highest)})"


def row(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def aims_table(runs: Sequence[Results]) -> list[str]:
    """Return the table of what is aimed at."""
    lines = [row(["", "figure", "aimed at", "median", "lowest", "highest", "runs", "reached"]), "|---|---|---|--:|--:|--:|--:|---|"]
    for aim in AIMS:
        found = spread(runs, aim.figure)
        unit = f" {aim.unit}" if aim.unit else ""
        if found is None:
            lines.append(row([aim.workload, aim.title, aim.wanted(), "not measured", "", "", "0", "–"]))
            continue
        values = [f"{number(value)}{unit}" for value in (found.median, found.lowest, found.highest)]
        lines.append(row([aim.workload, aim.title, aim.wanted(), *values, str(found.runs), aim.verdict(found.median)]))
    return lines


def peer_table(runs: Sequence[Results], workload: str, names: dict[str, str]) -> list[str]:
    """Return how the libraries did in one workload."""
    columns, note = _PEER_TABLES[workload]
    lines = [row(["library", *(title for title, _ in columns), "runs"]), "|---|" + "--:|" * (len(columns) + 1)]
    for name, label in names.items():
        spreads = [spread(runs, lambda run, get=get, name=name: get(run, name)) for _, get in columns]
        errors = [run[workload][name]["error"] for run in runs if "error" in run.get(workload, {}).get(name, {})]
        if any(spreads) or errors:
            count = str(max((found.runs for found in spreads if found), default=0))
            lines.append(row([label, *map(cell, spreads), count + (f" ({len(errors)} failed)" if errors else "")]))
    found = spread(runs, lambda run: floor(run, workload))
    if found is not None:
        lines += ["", f"Raw SQLite, one row to a commit: {cell(found)} rows a second."]
    return [*lines, "", note] if note else lines


def own_tables(runs: Sequence[Results], workload: str) -> list[str]:
    """Return what there is of this library by itself: each figure of each run, as median and range."""
    flat = [_flatten(run.get(workload, {}), workload) for run in runs]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    if not keys:
        return ["Not measured."]
    lines = [row(["figure", "median (lowest–highest)"]), "|---|--:|"]
    lines += [row([key, cell(spread(flat, lambda each, key=key: float(each[key])))]) for key in keys]
    return lines


def _flatten(run: dict[str, Any], workload: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for library, figures in run.items():
        before = "" if library == OWN else f"{library}: "
        for name, value in figures.items():
            inner = value if isinstance(value, dict) else {"": value}
            label = f"{before}{name}" if workload != "W11" else f"processes: {name}"
            for last, content in inner.items():
                if isinstance(content, int | float):
                    found[f"{label}{', ' if last else ''}{last}".replace("_", " ")] = content
    return found


def missing_note(runs: Sequence[Results]) -> list[str]:
    """Return why something was not measured, where a workload says so."""
    found = {figures["missing"] for run in runs for figures in run.get("W12", {}).values() if "missing" in figures}
    return [f"Not measured: {reason}." for reason in sorted(found)]


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


def markdown(results: dict[str, Any], plots: Sequence[str]) -> str:
    """Return the whole report."""
    runs, machine = results["runs"], results["machine"]
    names = {library["name"]: library["label"] for library in results["libraries"]}
    lines = [
        "# Results of `make bench`",
        "",
        f"{machine['date']}, {machine['system']}, {machine['cores']} cores, Python {machine['python']}, SQLite "
        f"{machine['sqlite']}. {len(runs)} runs in {number(results['minutes'])} minutes. The medians count; a ratio to "
        "raw SQLite is taken within each run, as the speed of the machine drifts. The text of each run is in "
        "`results.json`. Nothing here passes or fails.",
        "",
        *(["**A trial with small sizes (`--quick`): the figures say little.**", ""] if results["quick"] else []),
        "## What is aimed at",
        "",
        *aims_table(runs),
        "",
    ]
    lines += missing_note(runs)
    for workload in WORKLOADS:
        if not any(workload.name in run for run in runs):
            continue
        lines += ["", f"## {workload.name}. {workload.title}", ""]
        lines += peer_table(runs, workload.name, names) if workload.name in _PEER_TABLES else own_tables(runs, workload.name)
    lines += ["", "## Plots", "", *(f"![{name.removesuffix('.png')}]({name})" for name in plots)]
    lines += ["", "## The libraries", "", row(["library", "Python", "SQLite", "measured"]), "|---|---|---|---|"]
    for library in results["libraries"]:
        cells = [library["label"], library["python"] or "–", library["sqlite"] or "–"]
        lines.append(row([*cells, f"no: {library['missing']}" if library["missing"] else "yes"]))
    lines += ["", "## Durability and caveats", "", DURABILITY]
    errors = errors_of(runs)
    lines += ["## What went wrong", "", *errors] if errors else []
    return "\n".join(lines).rstrip() + "\n"
