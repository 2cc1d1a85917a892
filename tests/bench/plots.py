"""The plots: what the peers were compared in as bars, and what grows as curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from .figures import Results, floor, import_ms, microseconds, number, rate, spread
from .peers import OWN
from .workloads import GROWTH

_OWN_COLORS, _PEER_COLORS, _LINE_COLOR = ("#1f6fb4", "#7fb2dd"), ("#9aa3ad", "#ced3d9"), "#c0392b"
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}

Names = Mapping[str, str]
"""The names of the libraries, with their versions."""


def draw(folder: Path, runs: Sequence[Results], names: Names) -> list[str]:
    """Draw what was measured, and return the names of the files."""
    mpl.use("Agg")
    with mpl.rc_context(_STYLE):
        return [f"{name}.png" for name, plot in PLOTS.items() if _save(folder / f"{name}.png", plot(runs, names))]


def _save(path: Path, figure: Figure | None) -> bool:
    if figure is None:
        return False
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    return True


def _bars(
    title: str,
    unit: str,
    groups: Mapping[str, Mapping[str, float]],
    names: Names,
    line: tuple[str, float] | None = None,
) -> Figure | None:
    """Draw a bar for each library, or several that are named, and a line for the floor.

    Where there are several bars the axis is logarithmic, as they are seconds of all sizes.
    """
    libraries = [library for library in names if any(library in values for values in groups.values())]
    if len(libraries) < 2:
        return None
    height = 0.7 / len(groups)
    figure, axes = plt.subplots(figsize=(8, 1.1 + (0.3 + 0.16 * len(groups)) * len(libraries)))
    for place, (name, values) in enumerate(groups.items()):
        across = [values.get(library, 0) for library in libraries]
        down = [row + (place - (len(groups) - 1) / 2) * height for row in range(len(libraries))]
        colors = [(_OWN_COLORS if library == OWN else _PEER_COLORS)[place] for library in libraries]
        bars = axes.barh(down, across, color=colors, height=height * 0.92)
        labels = [f"{number(value)}  {name}".strip() if value else "" for value in across]
        axes.bar_label(bars, labels, padding=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.set_yticks(range(len(libraries)), [names[library] for library in libraries])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    shown = [value for values in groups.values() for value in values.values()] + ([line[1]] if line else [])
    if len(groups) > 1:
        axes.set_xscale("log")
        axes.set_xlim(min(shown) / 2, max(shown) * 20)  # the labels are long
    else:
        axes.set_xlim(0, max(shown) * 1.15)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    if line:
        axes.axvline(line[1], color=_LINE_COLOR, linestyle="--", linewidth=1.4, label=f"{line[0]}: {number(line[1])}")
        axes.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    axes.set_title(title)
    axes.set_xlabel(unit)
    return figure


def _medians(runs: Sequence[Results], names: Names, figure: Callable[[Results, str], float | None]) -> dict[str, float]:
    found = {library: spread(runs, lambda run, library=library: figure(run, library)) for library in names}
    return {library: value.median for library, value in found.items() if value is not None}


def _line(runs: Sequence[Results], workload: str, text: str) -> tuple[str, float] | None:
    found = spread(runs, lambda run: floor(run, workload))
    return (text, found.median) if found else None


def _sequential(runs: Sequence[Results], names: Names) -> Figure | None:
    values = _medians(runs, names, lambda run, library: rate(run, "W1", library, "activities"))
    line = _line(runs, "W1", "raw SQLite, one row to a commit")
    title = "One workflow, 1,000 activities one after the other"
    return _bars(title, "activities a second (more is better)", {"": values}, names, line)


def _many(runs: Sequence[Results], names: Names) -> Figure | None:
    values = _medians(runs, names, lambda run, library: rate(run, "W2", library, "workflows"))
    line = _line(runs, "W2", "raw SQLite, rows a second, one to a commit")
    title = "500 workflows of five activities, eight workers"
    return _bars(title, "workflows a second (more is better)", {"": values}, names, line)


def _recovery(runs: Sequence[Results], names: Names) -> Figure | None:
    first = _medians(runs, names, lambda run, library: run["W3"][library]["first_seconds"])
    last = _medians(runs, names, lambda run, library: run["W3"][library]["all_seconds"])
    title = "200 workflows of 20 activities, killed half-way: from the start of the new process"
    groups = {"to the first step": first, "to the last step": last}
    return _bars(title, "seconds, logarithmic (less is better)", groups, names)


def _latency(runs: Sequence[Results], names: Names) -> Figure | None:
    median = _medians(runs, names, lambda run, library: run["W4"][library]["median_seconds"] * 1e3)
    mean = _medians(runs, names, lambda run, library: run["W4"][library]["mean_seconds"] * 1e3)
    found = spread(runs, lambda run: 1e3 / floor(run, "W4"))
    line = ("one raw SQLite commit", found.median) if found else None
    title = "From the start of a workflow of one activity to its result"
    unit = "milliseconds, logarithmic (less is better)"
    return _bars(title, unit, {"median": median, "mean": mean}, names, line)


def _import(runs: Sequence[Results], names: Names) -> Figure | None:
    values = _medians(runs, names, import_ms)
    return _bars("What the import adds to bare Python", "milliseconds (less is better)", {"": values}, names)


def _replay(runs: Sequence[Results], names: Names) -> Figure | None:
    values = _medians(runs, names, microseconds)
    title = "Replay of 5,000 steps, with the start of the library"
    return _bars(title, "microseconds a step (less is better)", {"": values}, names)


def _curve(axes: Axes, runs: Sequence[Results], label: str, figures: Callable[[Results], Mapping[str, Any]]) -> bool:
    """Draw the medians over the sizes that the figures name, with the range of the runs."""
    sizes = sorted({int(size) for run in runs for size in _sizes(run, figures)})
    found = [(size, spread(runs, lambda run, size=size: float(figures(run)[str(size)]))) for size in sizes]
    points = [(size, value) for size, value in found if value is not None]
    if len(points) < 2:
        return False
    across = [size for size, _ in points]
    axes.plot(across, [value.median for _, value in points], marker="o", markersize=4, label=label)
    axes.fill_between(across, [v.lowest for _, v in points], [v.highest for _, v in points], alpha=0.15)
    return True


def _sizes(run: Results, figures: Callable[[Results], Mapping[str, Any]]) -> list[str]:
    try:
        return [name for name in figures(run) if name.isdigit()]
    except (KeyError, TypeError):
        return []


def _growth(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(8, 3.6))
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_xscale("log")
    return figure, axes


def _finish(figure: Figure, axes: Axes, *, is_drawn: bool) -> Figure | None:
    if not is_drawn:
        plt.close(figure)
        return None
    axes.legend(frameon=False)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.2)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    return figure


def _plain(value: float, _place: int) -> str:
    """Return the number of a tick without powers of ten."""
    return f"{value:,.10g}"


def _replay_growth(runs: Sequence[Results], _names: Names) -> Figure | None:
    figure, axes = _growth("Replay over the length of the history", "recorded steps", "seconds to the result")

    def without_start(run: Results) -> dict[str, float]:
        figures = run["W7"][GROWTH]
        return {steps: seconds - figures["start"] for steps, seconds in figures.items()}

    is_drawn = _curve(axes, runs, "with the start of the library", lambda run: run["W7"][GROWTH])
    is_drawn = _curve(axes, runs, "without it", without_start) or is_drawn
    ends = axes.get_xlim()
    axes.plot(ends, [end * 5e-6 for end in ends], color=_LINE_COLOR, linestyle="--", linewidth=1.2, label="5 us a step")
    axes.set_xlim(ends)
    axes.set_yscale("log")
    return _finish(figure, axes, is_drawn=is_drawn)


def _memory_growth(runs: Sequence[Results], _names: Names) -> Figure | None:
    figure, axes = _growth("Memory over the size of the store", "workflows in the store", "peak of memory, MB")

    def by_size(run: Results, kind: str) -> dict[str, float]:
        figures = run["W5"][OWN]
        return {name.split()[1]: value for name, value in figures.items() if name.startswith(f"{kind} ")}

    is_drawn = _curve(axes, runs, "all pending", lambda run: by_size(run, "pending"))
    is_drawn = _curve(axes, runs, "all ended", lambda run: by_size(run, "ended")) or is_drawn
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    return _finish(figure, axes, is_drawn=is_drawn)


def _listing_growth(runs: Sequence[Results], _names: Names) -> Figure | None:
    figure, axes = _growth("Listing over the size of the store", "workflows in the store", "milliseconds")
    is_drawn = False
    for name, label in (
        ("first_page_ms", "first page of 100"),
        ("middle_page_ms", "page of 100 from the middle"),
        ("status_ms", "status by id"),
    ):

        def by_size(run: Results, name: str = name) -> dict[str, float]:
            return {size: figures[name] for size, figures in run["W9"][OWN].items()}

        is_drawn = _curve(axes, runs, label, by_size) or is_drawn
    axes.set_yscale("log")
    return _finish(figure, axes, is_drawn=is_drawn)


PLOTS: dict[str, Callable[[Sequence[Results], Names], Figure | None]] = {
    "sequential": _sequential,
    "many": _many,
    "recovery": _recovery,
    "latency": _latency,
    "import": _import,
    "replay": _replay,
    "replay-growth": _replay_growth,
    "memory-growth": _memory_growth,
    "listing-growth": _listing_growth,
}
