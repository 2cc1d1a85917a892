"""A kill at every durable boundary: before and after every commit, and right after every side effect.

A script with workflows runs in a process of its own, which is killed with SIGKILL at the n-th boundary, and is started
again until it ends by itself; for every n, until there is no n-th boundary; or, where the environment does not say
``KILLS=every``, as ``make soak`` does, for every second n, from the first or the second on by lot. It must come to what
it comes to undisturbed. Its side effects are counted in a file, outside the database: each happened, and none happened
again after the kill, but for those whose outcome was not stored yet when the process died.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ..effects import Effects
from . import zygote

BOUNDARIES = ("before a commit", "after a commit", "after an effect")

_MANY = 500  # more boundaries than any script has: the kills have come to no end
_AT_ONCE = 2

_PRELUDE = """
import json, os, signal, sys, threading, time
from py_orchestrate import *
from py_orchestrate import durable
from py_orchestrate._engine import activities
from py_orchestrate.db_manager._connections import Connections
from py_orchestrate.errors import *
from tests.effects import Effects
from tests.waiting import wait_until

folder, boundary, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
effects = Effects(folder + "/effects")
passed = 0
passing = threading.Lock()
commit, commit_merged, commit_lent = Connections.commit, Connections.commit_merged, Connections.commit_lent

def reach(place):
    global passed
    if place == boundary:
        with passing:
            passed += 1
            if passed == at:
                os.kill(os.getpid(), signal.SIGKILL)

def dying_commit(self):
    reach("before a commit")
    commit(self)
    reach("after a commit")

def dying_commit_merged(writer, statement):
    reach("before a commit")
    commit_merged(writer, statement)
    reach("after a commit")

def dying_commit_lent(connection):
    reach("before a commit")
    commit_lent(connection)
    reach("after a commit")

Connections.commit = dying_commit
Connections.commit_merged = staticmethod(dying_commit_merged)
Connections.commit_lent = staticmethod(dying_commit_lent)

def watched(open_connection):
    def opened(self):
        connection = open_connection(self)
        connection.set_trace_callback(lambda statement: reach("before a statement"))
        return connection

    return opened

if boundary == "before a statement":
    Connections._open_writer = watched(Connections._open_writer)
    Connections._open_lender = watched(Connections._open_lender)

def note(*words):
    found = durable.info()
    effects.note(found.workflow_id, found.sequence, found.attempt, found.name, *words)
    reach("after an effect")

def during(orchestrator):
    pass
"""

_ENDING = """
orchestrator = Orchestrator(folder + "/runs.db", max_workers=2, poll_interval_seconds=0.05)
with orchestrator:  # named before: a run that is taken up uses it at once
    orchestrator.start_workflow(main, workflow_id="run")
    during(orchestrator)
    status = orchestrator.wait_for_workflow("run", 20)
print(json.dumps([status["status"], status["output"], status["error_message"]]), flush=True)
"""


class Undisturbed(NamedTuple):
    """What a script comes to when nobody kills it.

    Attributes:
        result: Status, output and error message of the run ``run``.
        effects: How often each effect happened: run, ordinal, attempt, name and further words.
        steps: Every recorded step: run, ordinal, kind, name, status, output, error message.
    """

    result: list[Any]
    effects: Counter[str]
    steps: list[Any]


def undisturbed(folder: Path, script: str) -> Undisturbed:
    """Run the script once, without a kill."""
    folder.mkdir()
    result = _run(folder, script)
    assert result is not None, "the script does not end by itself"
    effects, _ = _effects(folder)
    return Undisturbed(result, effects, _steps(folder))


def survives_every_kill(
    folder: Path,
    script: str,
    boundary: str,
    expected: Undisturbed,
    *,
    is_rewound: bool = False,
    races: bool = False,
    every: bool = os.environ.get("KILLS") == "every",
) -> int:
    """Kill the script at every boundary of a kind, and demand that nothing is lost, changed or done again.

    Args:
        folder: An empty folder.
        script: Defines the workflow ``main``, and may define ``during(orchestrator)``, which is called in each process
            and has to bear that.
        boundary: One of ``BOUNDARIES``.
        expected: What the script comes to undisturbed.
        is_rewound: Whether the script lets failed steps run again; then only a result is the last word.
        races: Whether tasks of the script overtake each other, so that their calls have other ordinals each time.
        every: Whether to kill at every boundary, not only at every second one.

    Returns:
        How many boundaries there are, give or take the last one.
    """
    step = 1 if every else 2
    first = random.SystemRandom().randrange(1, step + 1)
    print(f"kills {boundary}: every {step}, from {first} on")

    def killed_at(n: int) -> bool:
        place = folder / str(n)
        place.mkdir()
        died = _run(place, script, boundary, n) is None
        if died:
            stored = _stored(place, is_rewound)
            _survives(place, script, expected, stored, f"killed {boundary}, at {n}", races=races)
        return died

    died: list[bool] = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for n in itertools.count(first, step * _AT_ONCE):
            died += threads.map(killed_at, range(n, n + step * _AT_ONCE, step))
            assert len(died) < _MANY
            if not died[-1]:
                break
    return first - 1 + sum(died) * step


def _survives(
    folder: Path, script: str, expected: Undisturbed, stored: set[tuple[str, ...]], when: str, *, races: bool
) -> None:
    with closing(Effects(folder / "effects")) as effects:
        effects.note("kill")
    result = _run(folder, script)
    story = f"{when}\n{(folder / 'effects').read_text(encoding='utf-8')}"
    assert result == expected.result, story
    found = expected._replace(steps=_steps(folder))
    before, after = _effects(folder)
    for effect in after:
        assert tuple(effect.split()[:4]) not in stored, f"{effect} happened again although it was stored; {story}"
    if races:
        expected, found = _without_ordinals(expected), _without_ordinals(found)
        before, after = map(_effects_without_ordinals, (before, after))
    assert found.steps == expected.steps, story
    assert _query(folder, "SELECT DISTINCT owner FROM workflows") == [(None,)], story
    assert set(before | after) == set(expected.effects), story
    for effect, count in expected.effects.items():
        assert before[effect] <= count and after[effect] <= count, story  # noqa: PT018 - one story for both


def _without_ordinals(found: Undisturbed) -> Undisturbed:
    """Return what is the same each time where tasks overtake each other; nothing of which was how fast, then."""
    steps = sorted((step[0], *step[2:]) for step in found.steps if step[2] != "choice")
    return Undisturbed(found.result, _effects_without_ordinals(found.effects), steps)


def _effects_without_ordinals(effects: Counter[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for effect, count in effects.items():
        run, _, *rest = effect.split()
        counts[" ".join([run, *rest])] += count
    return counts


def _run(folder: Path, script: str, boundary: str = "never", at: int = 0) -> list[Any] | None:
    """Run the script; return its result, or ``None`` if it was killed."""
    code, said = zygote.run(_PRELUDE + script + _ENDING, [str(folder), boundary, str(at)], folder / "out")
    assert code in (0, -9), f"the script ended with {code}"
    result: list[Any] | None = json.loads(said) if said else None
    assert (result is None) == (code == -9)
    return result


def _query(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "runs.db", timeout=60)) as connection:
        return connection.execute(sql).fetchall()


def _steps(folder: Path) -> list[Any]:
    assert _query(folder, "SELECT id FROM workflows WHERE status NOT IN ('done', 'failed', 'cancelled')") == []
    return _query(
        folder,
        "SELECT workflow_id, sequence, kind, activity_name, status, "
        "CASE kind WHEN 'value' THEN NULL ELSE output_data END, error_message "  # a time is another one each time
        "FROM activity_executions ORDER BY workflow_id, sequence",
    )


def _stored(folder: Path, is_rewound: bool) -> set[tuple[str, ...]]:
    """Return the attempts whose outcome is in the file, once it is found sound: run, ordinal, attempt, name."""
    if not (folder / "runs.db").exists():
        return set()
    assert _query(folder, "PRAGMA integrity_check") == [("ok",)]
    assert _query(folder, "PRAGMA foreign_key_check") == []
    if not _query(folder, "SELECT 1 FROM sqlite_master WHERE name = 'activity_executions'"):
        return set()
    found = set()
    query = """
        SELECT workflow_id, sequence, activity_name, steps.status, state_data,
               sequence = (SELECT max(sequence) FROM activity_executions WHERE workflow_id = workflows.id),
               workflows.status
        FROM activity_executions AS steps JOIN workflows ON workflows.id = workflow_id WHERE kind = 'activity'
    """
    for run, sequence, name, status, state, is_last, run_status in _query(folder, query):
        attempt = 1 if state is None else json.loads(state).get("attempt", 1)
        # A failure at the very end of a history is run again, unless it is a policy's last.
        is_over = status == "completed" or (
            status == "failed" and (not is_last or state is not None or run_status != "processing")
        )
        last = attempt + 1 if is_over else attempt
        numbers = range(1, last) if not is_rewound else [attempt] if status == "completed" else []
        found |= {(run, str(sequence), str(number), name) for number in numbers}
    return found


def _effects(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how often each effect happened before the kill, and after it."""
    with closing(Effects(folder / "effects")) as effects:
        lines = [" ".join(line) for line in effects.lines()]
    at = lines.index("kill") if "kill" in lines else len(lines)
    return Counter(lines[:at]), Counter(lines[at + 1 :])
