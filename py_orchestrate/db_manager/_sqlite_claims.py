"""How the SQLite backend finds what an orchestrator may take, and claims it; on an open connection.

What is ready stands in one index, by queue and name: a lane. Its queries step from lane to lane and look at the first
of each, so that their cost grows with the lanes, not with the runs that wait in them. Those that are to be cancelled
are in no queue's lane, for their end waits for no place.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..models import ControlRequest, WorkflowRecord
from ._claims import LONG_WAIT, Candidate, Claimer, Room, Usage, in_turn, mixed, room_of
from ._migrations import LANE, UNWATCHED
from ._sqlite_rows import WORKFLOW_COLUMNS, fetch_readable, readable_records, time_text

if TYPE_CHECKING:
    from ..queues import Queue

_READY = "status = 'processing' AND owner IS NULL AND wake_at IS NULL"

_LANES = f"""
WITH RECURSIVE lane (first, lane_queue, lane_name) AS (
    SELECT position, {LANE}, name FROM workflows
    WHERE position = (SELECT position FROM workflows WHERE {_READY} ORDER BY {LANE}, name LIMIT 1)
    UNION ALL
    SELECT position, {LANE}, name FROM lane JOIN workflows ON position = coalesce(
        (SELECT position FROM workflows
         WHERE {_READY} AND {LANE} = lane_queue AND name > lane_name ORDER BY name LIMIT 1),
        (SELECT position FROM workflows WHERE {_READY} AND {LANE} > lane_queue ORDER BY {LANE}, name LIMIT 1))
)
"""
_READY_LANES = f"{_LANES} SELECT lane_queue, lane_name FROM lane"
_LOOK = f"""
{_LANES}
SELECT 'lane', lane_queue, lane_name FROM lane
UNION ALL SELECT 'wake', min(wake_at), NULL FROM workflows WHERE status = 'processing' AND wake_at IS NOT NULL
UNION ALL SELECT 'limit', min(deadline), NULL FROM workflows WHERE {UNWATCHED}
UNION ALL SELECT 'tick', min(due_at), NULL FROM schedules WHERE due_at IS NOT NULL
UNION ALL SELECT 'owner', id, queues FROM orchestrators
"""

_IN_LANE = f"{_READY} AND {LANE} = :queue AND name = :name AND (epoch > 0) = :begun"
_HEADS = f"""
SELECT * FROM (SELECT FALSE, priority, position FROM workflows
    WHERE {_IN_LANE.replace(":begun", "TRUE")} ORDER BY priority, position LIMIT :limit)
UNION ALL
SELECT * FROM (SELECT TRUE, priority, position FROM workflows
    WHERE {_IN_LANE.replace(":begun", "FALSE")} ORDER BY priority, position LIMIT :limit)
"""
_FIRST_OF_EACH_PRIORITY = f"""
WITH RECURSIVE level (priority) AS (
    SELECT min(priority) FROM workflows WHERE {_IN_LANE}
    UNION ALL
    SELECT (SELECT min(priority) FROM workflows WHERE {_IN_LANE} AND priority > level.priority)
    FROM level WHERE level.priority IS NOT NULL
)
SELECT run.priority, run.position, run.updated_at FROM level JOIN workflows AS run ON run.position = (
    SELECT min(position) FROM workflows WHERE {_IN_LANE} AND priority = level.priority)
"""

# So many at once that waking costs little of what claiming does, and so few that a commit stays short.
_WAKE = """
UPDATE workflows SET wake_at = NULL, waiting_for = NULL WHERE position IN (
    SELECT position FROM workflows WHERE status = 'processing' AND wake_at <= ? ORDER BY wake_at LIMIT 100)
"""
TO_BE_CANCELLED = """
request = 'cancel', status = 'processing', signals = signals + 1, wake_at = NULL, waiting_for = NULL
"""
"""What is set where a run's cancellation is requested: it becomes ready, also if it is paused."""
# Their end waits for no place in a queue, as that of runs that somebody cancels.
_EXPIRE = f"""
UPDATE workflows SET {TO_BE_CANCELLED}
WHERE position IN (SELECT position FROM workflows WHERE {UNWATCHED} AND deadline <= ? ORDER BY deadline LIMIT 100)
"""
IS_READY = f"EXISTS (SELECT 1 FROM workflows WHERE {_READY})"
IS_DUE = "EXISTS (SELECT 1 FROM workflows WHERE status = 'processing' AND wake_at <= ?)"
_STATE = f"SELECT EXISTS (SELECT 1 FROM orchestrators WHERE id = ?), {IS_DUE}, {IS_READY}"

_NEXT_OF_LANE = f"""
SELECT position FROM workflows
WHERE {_READY} AND {LANE} = '' AND name = lane_name AND (epoch > 0) = :begun ORDER BY priority, position LIMIT 1
"""
NEXT_IN_TURN = f"""
WITH RECURSIVE lane (lane_name) AS (
    SELECT (SELECT name FROM workflows WHERE {_READY} AND {LANE} = '' ORDER BY name LIMIT 1)
    UNION ALL
    SELECT (SELECT name FROM workflows WHERE {_READY} AND {LANE} = '' AND name > lane_name ORDER BY name LIMIT 1)
    FROM lane WHERE lane_name IS NOT NULL
)
SELECT run.position FROM lane JOIN workflows AS run ON run.position = coalesce(
    ({_NEXT_OF_LANE.replace(":begun", "TRUE")}), ({_NEXT_OF_LANE.replace(":begun", "FALSE")}))
WHERE lane_name IN (SELECT value FROM json_each(:names))
ORDER BY run.epoch = 0, run.priority, run.position LIMIT 1
"""
"""Which run in no queue goes next, to who can run some names: as ``claim`` decides where nobody is overtaken."""
_EDGE = f"SELECT name, epoch > 0, priority FROM workflows WHERE {_READY} AND {LANE} = ''"
CAN_OVERTAKE = f"""
({_EDGE} ORDER BY name, epoch > 0, priority LIMIT 1)
<> ({_EDGE} ORDER BY name DESC, epoch > 0 DESC, priority DESC LIMIT 1)
"""
"""Whether the runs in no queue differ in anything but their age; only then one can overtake another."""
_CLAIM = f"""
UPDATE workflows SET owner = ?, epoch = epoch + 1 WHERE position = ? RETURNING {WORKFLOW_COLUMNS}
"""

_HELD_IN_QUEUE = "SELECT count(*), sum(owner = ?) FROM workflows WHERE owner IS NOT NULL AND queue <> '' AND queue = ?"
_LAST_START = "SELECT coalesce(max(number), 0) FROM queue_starts WHERE queue = ?"


class Found(NamedTuple):
    """What a look finds.

    Attributes:
        names: The names of the runs that the claimer could take.
        wake_at: The earliest time that makes another one ready, and the times when a rate lets one begin.
        limit_at: The earliest time limit of a run that nobody holds and nothing wakes; empty for none.
        tick_at: The earliest time of a schedule; empty for none.
        owners: All orchestrators.
        unconsumed: The queues in which runs are ready, and that no orchestrator consumes.
    """

    names: frozenset[str]
    wake_at: list[datetime]
    limit_at: list[datetime]
    tick_at: list[datetime]
    owners: list[str]
    unconsumed: frozenset[str]


def look(connection: sqlite3.Connection, claimer: Claimer, now: datetime) -> Found:
    """Return what there is to claim: by one query, and some more for each limited queue in which runs are ready."""
    lanes: list[tuple[str, str]] = []
    times: dict[str, list[datetime]] = {"wake": [], "limit": [], "tick": []}
    owners: list[str] = []
    consumed: set[str] = {""}
    for what, first, second in connection.execute(_LOOK):
        if what == "lane":
            lanes.append((first, second))
        elif what == "owner":
            owners.append(first)
            consumed.update(json.loads(second))
        elif first is not None:
            times[what].append(datetime.fromisoformat(first))
    names: set[str] = set()
    rooms: dict[str, Room] = {}
    for lane in filter(lambda lane: claimer.takes_from(lane[0]), lanes):
        queue, name = lane
        if queue not in rooms:
            rooms[queue] = _room(connection, claimer, queue, 1, now)
            if (starts_at := rooms[queue].starts_at) is not None and rooms[queue].runs:
                times["wake"].append(starts_at)
        room = rooms[queue]
        if room.runs and (room.starts or any(not head.is_new for head in _heads(connection, lane, 1))):
            names.add(name)
    unconsumed = frozenset({queue for queue, _ in lanes} - consumed)
    return Found(frozenset(names), times["wake"], times["limit"], times["tick"], owners, unconsumed)


def expire(connection: sqlite3.Connection, now: datetime) -> None:
    """Request the cancellation of runs that are out of their time, and that nobody holds."""
    connection.execute(_EXPIRE, (time_text(now),))


class State(NamedTuple):
    """What decides whether there is anything to claim.

    Attributes:
        is_registered: Whether the claimer is; else nobody would notice its death.
        is_due: Whether the time of a run that waits has come.
        is_ready: Whether a run is ready, whoever may take it.
    """

    is_registered: bool
    is_due: bool
    is_ready: bool

    @property
    def is_anything(self) -> bool:
        """Whether somebody may claim something."""
        return self.is_due or self.is_ready


def state_of(connection: sqlite3.Connection, owner: str, now: datetime) -> State:
    """Return what decides whether there is anything to claim."""
    return State._make(map(bool, connection.execute(_STATE, (owner, time_text(now))).fetchone()))


def claim(
    connection: sqlite3.Connection, claimer: Claimer, limit: int, now: datetime, state: State
) -> list[WorkflowRecord]:
    """Wake what is due, and claim the runs whose turn it is."""
    if not (state.is_registered and state.is_anything):
        return []
    if state.is_due:
        connection.execute(_WAKE, (time_text(now),))
    lanes: dict[str, list[tuple[str, str]]] = {}
    for queue, name in connection.execute(_READY_LANES).fetchall():
        if name in claimer.names and claimer.takes_from(queue):
            lanes.setdefault(queue, []).append((queue, name))
    turns = [_turn(connection, claimer, of_queue, limit, now) for of_queue in lanes.values()]
    rows = [
        row
        for candidate in mixed(turns, limit)
        for row in fetch_readable(connection.execute(_CLAIM, (claimer.owner, candidate.position)))
    ]
    claimed = list(readable_records(rows))
    _note_starts(connection, claimer, claimed, now)
    return claimed


def _turn(
    connection: sqlite3.Connection, claimer: Claimer, lanes: list[tuple[str, str]], limit: int, now: datetime
) -> list[Candidate]:
    """Return the runs of a queue's lanes whose turn it is."""
    queue = lanes[0][0]
    if queue in claimer.queues:
        _mend_starts(connection, queue, now)
    room = _room(connection, claimer, queue, limit, now)
    if not room.runs:
        return []
    candidates = heapq.merge(*[_heads(connection, lane, room.runs) for lane in lanes])
    return in_turn(candidates, room, claimer, lambda: _overtaken(connection, lanes, now))


def _room(connection: sqlite3.Connection, claimer: Claimer, queue: str, limit: int, now: datetime) -> Room:
    limits = claimer.queues.get(queue)
    if limits is None or not limits.is_limited:
        return Room(limit, limit)
    running, own = connection.execute(_HELD_IN_QUEUE, (claimer.owner, queue)).fetchone()
    return room_of(limits, Usage(running, own or 0, _starts_before(connection, limits, limit)), limit, now)


def _starts_before(connection: sqlite3.Connection, queue: Queue, limit: int) -> list[datetime | None]:
    """Return ``Usage.before`` for so many starts."""
    if queue.starts_per_period is None:
        return []
    last: int = connection.execute(_LAST_START, (queue.name,)).fetchone()[0]
    first = last - queue.starts_per_period + 1
    rows = connection.execute(
        "SELECT number, started_at FROM queue_starts WHERE queue = ? AND number BETWEEN ? AND ?",
        (queue.name, first, first + limit - 1),
    )
    found = {number: datetime.fromisoformat(text) for number, text in rows}
    # More than a period may begin: those in front of them are starts of this same turn.
    return [found.get(number) for number in range(first, first + min(limit, queue.starts_per_period))]


def _mend_starts(connection: sqlite3.Connection, queue: str, now: datetime) -> None:
    """Let no start be in the future: a clock that is set back must not close a queue for longer than a period."""
    query = (
        "SELECT max(started_at) FROM (SELECT started_at FROM queue_starts WHERE queue = ? ORDER BY number DESC LIMIT 1)"
    )
    last = connection.execute(query, (queue,)).fetchone()[0]
    if last is not None and last > time_text(now):
        connection.execute(
            "UPDATE queue_starts SET started_at = :now WHERE queue = :queue AND started_at > :now",
            {"queue": queue, "now": time_text(now)},
        )


def _note_starts(
    connection: sqlite3.Connection, claimer: Claimer, claimed: Iterable[WorkflowRecord], now: datetime
) -> None:
    """Keep the starts that a rate has to go by, and forget those that it no longer has to."""
    for record in claimed:
        queue = claimer.queues.get(record.queue or "")
        is_start = record.epoch == 1 and record.request is not ControlRequest.CANCEL
        if queue is None or queue.starts_per_period is None or not is_start:
            continue
        number = connection.execute(_LAST_START, (queue.name,)).fetchone()[0] + 1
        connection.execute("INSERT INTO queue_starts VALUES (?, ?, ?)", (queue.name, number, time_text(now)))
        connection.execute(
            "DELETE FROM queue_starts WHERE queue = ? AND number <= ?", (queue.name, number - queue.starts_per_period)
        )


def _heads(connection: sqlite3.Connection, lane: tuple[str, str], limit: int) -> list[Candidate]:
    """Return the first of a lane: those that have begun before those that have not."""
    rows = connection.execute(_HEADS, {"queue": lane[0], "name": lane[1], "limit": limit})
    return [Candidate(bool(is_new), priority, position) for is_new, priority, position in rows]


def _overtaken(connection: sqlite3.Connection, lanes: Iterable[tuple[str, str]], now: datetime) -> list[Candidate]:
    """Return the first of each priority, of those that have waited for long."""
    before = time_text(now - LONG_WAIT)
    found = []
    for queue, name in lanes:
        for begun in (True, False):
            values = {"queue": queue, "name": name, "begun": begun}
            for priority, position, since in connection.execute(_FIRST_OF_EACH_PRIORITY, values):
                if since < before:
                    found.append(Candidate(not begun, priority, position))
    return found
