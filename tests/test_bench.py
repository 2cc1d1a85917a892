"""The benchmarks' own parts: the report of whatever was measured, the floor, and libraries that cannot be had."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from .bench.figures import AIMS, Aim, number, spread
from .bench.peers import OWN, Library, make_ready
from .bench.processes import DRIVERS, ROOT
from .bench.report import errors_of, faults_of, markdown, put_into_readme
from .bench.scripts.floors import THREADS, group_commit
from .bench.workloads import FLOOR, WORKLOADS


def results(*runs):
    libraries = [
        {"name": OWN, "label": "py-orchestrate 2", "python": "3.12.1", "sqlite": "3.40.1", "missing": ""},
        {"name": "dura", "label": "dura", "python": "", "sqlite": "", "missing": "it needs Python 3.13"},
    ]
    machine = {"date": "2025-01-01", "system": "Linux", "cores": 2, "python": "3.12.1", "sqlite": "3.40.1"}
    return {"machine": machine, "libraries": libraries, "quick": False, "minutes": 1.0, "runs": list(runs)}


def sequential(seconds, rows_per_second):
    return {
        FLOOR: {"rows_per_second": rows_per_second},
        OWN: {"seconds": seconds, "activities": 1000, "first_seconds": 0.001},
        "dura": {"error": "status 1: it broke"},
    }


def test_a_ratio_is_taken_within_its_run_and_the_median_counts():
    runs = [{"W1": sequential(1.0, 1000.0)}, {"W1": sequential(2.0, 1000.0)}, {"W1": sequential(4.0, 200.0)}]
    found = spread(runs, AIMS[0].figure)
    assert (found.median, found.lowest, found.highest, found.runs) == (1.0, 0.5, 1.25, 3)


def test_a_verdict_says_by_how_much():
    at_least, at_most = Aim("", "", "", float, least=4), Aim("", "", "ms", float, most=2)
    assert (at_least.verdict(4), at_least.verdict(3)) == ("yes", "no: 25% too low")
    assert (at_most.verdict(2), at_most.verdict(3)) == ("yes", "no: 50% too high")
    assert (at_most.wanted(), Aim("", "", "", float, most=0).verdict(3)) == ("at most 2 ms", "no: 3 too many")


def test_numbers_are_short():
    assert [number(value) for value in (0, 0.12345, 1.2345, 12.345, 1234.5)] == ["0", "0.123", "1.23", "12.3", "1,234"]


def test_the_report_is_written_whatever_was_measured():
    nothing = {workload.name: {OWN: {"error": "status 1: it broke"}} for workload in WORKLOADS}
    for runs in ([], [{}], [nothing], [{"W1": sequential(1.0, 1000.0)}, nothing]):
        text = markdown(results(*runs), ["sequential.png"])
        assert "no: it needs Python 3.13" in text
    assert "| W1 | activities per raw commit | at least 0.900 | 1 | 1 | 1 | 1 | yes |" in text
    assert "* W2, py-orchestrate, run 2: status 1: it broke" in text


def test_figures_by_size_and_by_name_are_tables():
    sizes = {"W11": {OWN: {"1": {"workflows_per_second": 800.0}, "2": {"workflows_per_second": 900.0}}}}
    names = {"W13": {OWN: {"alone": {"median": 0.25}, "idle": {"percent": 0.5}}}}
    text = markdown(results(sizes | names), [])
    assert "| 2 | 900 |" in text
    assert "| alone | 0.250 | - |" in text
    assert "| idle | - | 0.500 |" in text


def test_a_peer_that_fails_is_reported_and_is_no_fault():
    runs = [{"W1": sequential(1.0, 1000.0)}]
    assert (errors_of(runs), faults_of(runs)) == (["* W1, dura, run 1: status 1: it broke"], [])
    assert faults_of([{"W2": {OWN: {"wrong": 2}}}]) == ["* W2, run 1: 2 workflows had a wrong result"]


def test_a_library_whose_python_is_not_there_is_left_out(tmp_path):
    library = Library("x", DRIVERS / "dura_driver.py", "x", "x", "bench-dura", minor="3.99")
    make_ready(library, tmp_path)
    assert library.missing == "it needs Python 3.99, which is not here"


def test_the_group_commit_stores_every_row(tmp_path):
    assert group_commit(tmp_path, THREADS * 10) > 0
    with closing(sqlite3.connect(tmp_path / "group-commit.db")) as connection:
        assert connection.execute("SELECT count(*) FROM outcome").fetchone() == (THREADS * 10,)


def test_the_readme_has_the_two_marks():
    run = {"W1": sequential(2.0, 1000.0)}
    readme = put_into_readme((ROOT / "README.md").read_text(encoding="utf-8"), results(run))
    assert "| py-orchestrate 2 | 500 |" in readme
    assert "* W1, activities per raw commit: 0.500, at least 0.900 was aimed at.\n" in readme
    assert put_into_readme(readme, results(run)) == readme
