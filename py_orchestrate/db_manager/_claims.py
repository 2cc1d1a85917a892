"""Which of the runs that are ready an orchestrator takes: the rules, which every backend here follows.

Within a queue, and among the runs in none, those that have begun go before those that have not: what is half done is
to be finished, and a rate holds back beginnings only. Then the lowest priority number goes first, then who came first.
So that nobody waits for ever, once in a while one that others have overtaken for long goes before them. Between queues
lots are drawn: a queue with a long backlog does not hold up the others. Chance is what needs no memory that all
processes share.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..queues import Queue

LONG_WAIT = timedelta(minutes=1)
_OVERTAKEN_ONCE_IN = 8


def is_turn_of_overtaken() -> bool:
    """Return, once in a while, that one that others have overtaken for long is to go before them."""
    return random.randrange(_OVERTAKEN_ONCE_IN) == 0  # noqa: S311 - no secret


class Claimer(NamedTuple):
    """Who claims.

    Attributes:
        owner: The orchestrator.
        names: The workflows that it can run.
        queues: The queues that it consumes, by name.
        serves_overtaken: Whether, this time, one that others have overtaken for long goes before them.
    """

    owner: str
    names: frozenset[str]
    queues: Mapping[str, Queue]
    serves_overtaken: bool

    @classmethod
    def of(cls, owner: str, names: Iterable[str], queues: Sequence[Queue]) -> Claimer:
        """Return who claims; for one claim, as lots are drawn for it."""
        return cls(owner, frozenset(names), {queue.name: queue for queue in queues}, is_turn_of_overtaken())

    def takes_from(self, queue: str) -> bool:
        """Return whether it takes runs from a queue; ``""`` stands for those in none."""
        return not queue or queue in self.queues


class Candidate(NamedTuple):
    """A run that is ready; the order of candidates is the order in which they go."""

    is_new: bool
    priority: int
    position: int


class Room(NamedTuple):
    """What a queue has room for.

    Attributes:
        runs: How many runs may be taken from it.
        starts: How many of them may be new.
        starts_at: When one more may be, where none may now.
    """

    runs: int
    starts: int
    starts_at: datetime | None = None


class Usage(NamedTuple):
    """What runs of a queue.

    Attributes:
        running: How many of its runs are held in all.
        own: How many of them the claimer holds.
        before: For each of the next starts, the one that has to be a period ago by then; ``None`` where there was none.
    """

    running: int
    own: int
    before: Sequence[datetime | None]


def room_of(queue: Queue, usage: Usage, limit: int, now: datetime) -> Room:
    """Return what a queue has room for, up to a limit."""
    runs = limit
    if queue.concurrency is not None:
        runs = min(runs, queue.concurrency - usage.running)
    if queue.per_process is not None:
        runs = min(runs, queue.per_process - usage.own)
    if queue.starts_per_period is None:
        return Room(max(0, runs), limit)
    starts = 0
    for start in usage.before:
        if start is not None and now - queue.period < start <= now:  # one in the future is mended by the claim
            return Room(max(0, runs), starts, start + queue.period if not starts else None)
        starts += 1
    return Room(max(0, runs), starts)


def starts_before(starts: Sequence[datetime], starts_per_period: int | None, limit: int) -> list[datetime | None]:
    """Return ``Usage.before`` for up to so many starts.

    Args:
        starts: The last starts, oldest first.
        starts_per_period: How many may begin in a period; ``None`` for no limit.
        limit: For how many.
    """
    if starts_per_period is None:
        return []
    last = starts[-starts_per_period:]
    return [*[None] * (starts_per_period - len(last)), *last][:limit]


def admitted(candidates: Iterable[Candidate], room: Room) -> list[Candidate]:
    """Return the candidates that there is room for, in their order."""
    chosen: list[Candidate] = []
    starts = room.starts
    for candidate in candidates:
        if len(chosen) >= room.runs:
            break
        if candidate.is_new:
            if starts <= 0:
                continue
            starts -= 1
        chosen.append(candidate)
    return chosen


def in_turn(
    candidates: Iterable[Candidate], room: Room, claimer: Claimer, overtaken: Callable[[], Sequence[Candidate]]
) -> list[Candidate]:
    """Return the candidates that go next.

    Args:
        candidates: Those that are ready, in their order.
        room: What there is room for.
        claimer: Who claims.
        overtaken: Returns those that have waited for long and are the first of their priority.
    """
    chosen = admitted(candidates, room)
    if chosen and claimer.serves_overtaken:
        others = [candidate for candidate in overtaken() if candidate not in chosen]
        if others:
            return admitted([random.choice(others), *chosen], room)  # noqa: S311 - no secret
    return chosen


def mixed(queues: Iterable[Sequence[Candidate]], limit: int) -> list[Candidate]:
    """Return up to so many candidates, one of each queue in turn, in an order that is drawn by lot."""
    waiting = [list(candidates) for candidates in queues if candidates]
    random.shuffle(waiting)
    chosen: list[Candidate] = []
    while waiting and len(chosen) < limit:
        chosen.extend(candidates.pop(0) for candidates in waiting)
        waiting = [candidates for candidates in waiting if candidates]
    return chosen[:limit]
