"""The figures that are aimed at, and how they come from the runs.

Each is computed run by run; the median over the runs is what counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .peers import OWN
from .workloads import FLOOR, GROWTH, MANY_STEPS, OWN_IMPORTS, STEPS

Results = dict[str, Any]
"""One run: workload, then library, then figures."""


@dataclass(frozen=True)
class Spread:
    """The median, the lowest and the highest of some runs."""

    median: float
    lowest: float
    highest: float
    runs: int


def spread(runs: Sequence[Results], figure: Callable[[Results], float]) -> Spread | None:
    """Return the spread of a figure over the runs that have it."""
    values = []
    for run in runs:
        try:
            values.append(float(figure(run)))
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # this run did not measure it, or it went wrong
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Aim:
    """A figure of this library, and what it is to be.

    Attributes:
        workload: The workload's name.
        title: What it is.
        unit: Its unit; empty for a ratio.
        figure: How it comes from a run.
        least: It is to be at least this.
        most: It is to be at most this.
    """

    workload: str
    title: str
    unit: str
    figure: Callable[[Results], float]
    least: float | None = None
    most: float | None = None

    def wanted(self) -> str:
        """Return the aim as text."""
        unit = f" {self.unit}" if self.unit else ""
        if self.least is not None:
            return f"at least {number(self.least)}{unit}"
        if self.most is not None:
            return f"at most {number(self.most)}{unit}" if self.most else "0"
        return "-"

    def verdict(self, median: float) -> str:
        """Return whether the median is what is wanted, and if not, by how much it is not."""
        if self.least is not None:
            return "yes" if median >= self.least else f"no: {_percent(1 - median / self.least)} too low"
        if self.most is not None:
            if median <= self.most:
                return "yes"
            return f"no: {_percent(median / self.most - 1)} too high" if self.most else f"no: {number(median)} too many"
        return "-"


def _percent(part: float) -> str:
    return f"{part:.0%}" if part >= 0.01 else f"{part:.1%}"


def number(value: float) -> str:
    """Return a number with three significant digits, and no decimals where it is large."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def floor(run: Results, workload: str) -> float:
    """Return the rows a second of the floor beside a workload."""
    return float(run[workload][FLOOR]["rows_per_second"])


def import_ms(run: Results, name: str) -> float:
    """Return what the import of a library takes; of this one, of the names that a program needs."""
    values: dict[str, float] = run["W6"][name]
    return values[OWN_IMPORTS[1]] if name == OWN else max(values.values())


def own(run: Results, workload: str, *path: str) -> Any:
    """Return a figure of this library."""
    found = run[workload][OWN]
    for name in path:
        found = found[name]
    return found


def rate(run: Results, workload: str, library: str, what: str) -> float:
    """Return how many of something a library did in a second."""
    figures = run[workload][library]
    return float(figures[what] / figures["seconds"])


def microseconds(run: Results, library: str) -> float:
    """Return how long a library took for a step of the history that it has recorded itself."""
    figures = run["W7"][library]
    return float(figures["seconds"] / figures["steps"] * 1e6)


def _microseconds(run: Results, steps: int) -> float:
    """Return how long this library takes for a step, without its start, which a replay of one step shows."""
    figures = run["W7"][GROWTH]
    seconds = own(run, "W7", "seconds") if steps == own(run, "W7", "steps") else figures[str(steps)]
    return float((seconds - figures["start"]) / steps * 1e6)


def _speed_up(run: Results, number_of_processes: int) -> float:
    rates = [own(run, "W11", str(n), "workflows_per_second") for n in (1, number_of_processes)]
    return float(rates[1] / rates[0])


def _fairness(run: Results, number_of_processes: int) -> float:
    figures = own(run, "W11", str(number_of_processes))
    return float(figures["least"] / figures["most"])


_MILLION = "1000000"
_IMPORT, _IMPORT_NAMES, _FIRST_ORCHESTRATOR = OWN_IMPORTS

AIMS = [
    Aim(
        "W1",
        "activities per raw commit",
        "",
        lambda run: rate(run, "W1", OWN, "activities") / floor(run, "W1"),
        least=0.9,
    ),
    Aim(
        "W2",
        "times dura's rate",
        "",
        lambda run: rate(run, "W2", OWN, "workflows") / rate(run, "W2", "dura", "workflows"),
        least=4,
    ),
    Aim(
        "W2",
        "workflows per raw commit",
        "",
        lambda run: rate(run, "W2", OWN, "workflows") / floor(run, "W2"),
        least=0.25,
    ),
    Aim(
        "W3",
        "first resumed step after the new process's start",
        "s",
        lambda run: own(run, "W3", "first_seconds"),
        most=0.3,
    ),
    Aim("W3", "all done", "s", lambda run: own(run, "W3", "all_seconds")),
    Aim("W3", "activities missing", "", lambda run: own(run, "W3", "missing"), most=0),
    Aim("W3", "activities repeated", "", lambda run: own(run, "W3", "repeated"), most=8),
    Aim("W4", "raw commits", "", lambda run: own(run, "W4", "median_seconds") * floor(run, "W4"), most=3),
    Aim("W5", "peak in W2", "MB", lambda run: own(run, "W2", "peak_mb"), most=35),
    Aim("W5", "peak beside 100,000 pending workflows", "MB", lambda run: own(run, "W5", "pending 100000"), most=60),
    Aim(
        "W5",
        "peak beside 1,000,000 ended workflows, over that with an empty store",
        "MB",
        lambda run: own(run, "W5", "ended 1000000") - own(run, "W5", "empty"),
        most=1,
    ),
    Aim("W6", f"`{_IMPORT}`", "ms", lambda run: own(run, "W6", _IMPORT), most=30),
    Aim("W6", f"`{_IMPORT_NAMES}`", "ms", lambda run: own(run, "W6", _IMPORT_NAMES), most=30),
    Aim("W6", "the same, and the first orchestrator", "ms", lambda run: own(run, "W6", _FIRST_ORCHESTRATOR)),
    Aim("W7", "a step of 5,000, without the start", "us", lambda run: _microseconds(run, STEPS), most=5),
    Aim("W7", "a step of 50,000, without the start", "us", lambda run: _microseconds(run, MANY_STEPS), most=5),
    Aim(
        "W7",
        "a step of 50,000 to one of 5,000, without the start",
        "",
        lambda run: _microseconds(run, MANY_STEPS) / _microseconds(run, STEPS),
        most=1.1,
    ),
    Aim(
        "W8",
        "activities per row of the group commit",
        "",
        lambda run: rate(run, "W8", OWN, "activities") / floor(run, "W8"),
        least=0.7,
    ),
    Aim("W9", "first page of 100", "ms", lambda run: own(run, "W9", _MILLION, "first_page_ms"), most=2),
    Aim("W9", "page of 100 from the middle", "ms", lambda run: own(run, "W9", _MILLION, "middle_page_ms"), most=2),
    Aim("W9", "status by id", "ms", lambda run: own(run, "W9", _MILLION, "status_ms"), most=2),
    Aim("W10", "not woken", "", lambda run: own(run, "W10", "workflows") - own(run, "W10", "woken"), most=0),
    Aim("W10", "latest", "ms", lambda run: own(run, "W10", "latest_ms"), most=1000),
    Aim("W10", "late by, median", "ms", lambda run: own(run, "W10", "median_late_ms")),
    Aim("W10", "processor time", "s", lambda run: own(run, "W10", "cpu_seconds")),
    Aim("W10", "peak of memory", "MB", lambda run: own(run, "W10", "peak_mb")),
    Aim("W11", "one process, workflows a second", "", lambda run: own(run, "W11", "1", "workflows_per_second")),
    Aim("W11", "two processes to one", "", lambda run: _speed_up(run, 2), least=1),
    Aim("W11", "four processes to one", "", lambda run: _speed_up(run, 4), least=1),
    Aim("W11", "the least to the most that one of two did", "", lambda run: _fairness(run, 2)),
    Aim("W11", "the least to the most that one of four did", "", lambda run: _fairness(run, 4)),
    Aim(
        "W12",
        "rate without the global lock to that with it",
        "",
        lambda run: own(run, "W12", "with_lock") / own(run, "W12", "without_lock"),
    ),
    Aim("W13", "small step, median", "ms", lambda run: own(run, "W13", "alone", "median")),
    Aim("W13", "small step beside texts of 2 MB, median", "ms", lambda run: own(run, "W13", "text", "median")),
    Aim("W13", "small step beside texts of 2 MB, 95 %", "ms", lambda run: own(run, "W13", "text", "p95")),
    Aim("W13", "small step beside 2 MB in 20,000 rows, median", "ms", lambda run: own(run, "W13", "rows", "median")),
    Aim("W13", "processor of an idle orchestrator", "%", lambda run: own(run, "W13", "idle", "percent"), most=1),
]
