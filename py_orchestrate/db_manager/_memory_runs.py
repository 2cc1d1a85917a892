"""The memory backend's runs: what is kept of each, and where each one stands.

Every run that is ``processing`` stands in one place: with the owner that holds it, among those that are ready, or among
those that sleep until a time. So a claim looks at those that it may take and at no other, however many sleep, and a
look at an owner's runs at those alone. Nothing here locks; the manager does.

The places are lists that are kept sorted. A list is searched in a few steps, and what it costs to insert or delete (its
tail moves in one piece) is, at 100,000 runs, little beside the making of one record. A heap would move less, but keeps
what was taken from its middle, and a run that is woken early every time would fill it.
"""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..models import (
    ANY_SIGNAL,
    NEVER,
    ControlRequest,
    EventRecord,
    StepRecord,
    WorkflowRecord,
    WorkflowStatus,
)
from . import _documents as documents
from ._claims import LONG_WAIT, Candidate, Claimer, Room, Usage, in_turn, mixed, room_of, starts_before

if TYPE_CHECKING:
    from ..queues import Queue

_PROCESSING = WorkflowStatus.PROCESSING


class Lane(NamedTuple):
    """Runs that are ready are kept by their queue (``""`` for none) and their name."""

    queue: str
    name: str


class Run:
    """A workflow, its history and its events.

    Attributes:
        record: The workflow.
        position: Its place in the order of arrival.
        steps: Its steps, by ordinal.
        own_ids: The ids of executions that their caller named, by ordinal.
        events: Its events, by position.
        event_ids: Their ids.
        forgotten_ids: Those of events that were forgotten last, and are known still.
        last_position: The highest position that an event had, be it forgotten since.
        is_due: Whether it stands among those that are ready, although its ``wake_at`` is not cleared yet.
    """

    __slots__ = (
        "event_ids",
        "events",
        "forgotten_ids",
        "is_due",
        "last_position",
        "own_ids",
        "position",
        "record",
        "steps",
    )

    def __init__(self, record: WorkflowRecord, position: int) -> None:
        self.record = record
        self.position = position
        self.steps: dict[int, StepRecord] = {}
        self.own_ids: dict[int, str] = {}
        self.events: list[EventRecord] = []
        self.event_ids: set[str] = set()
        self.is_due = False
        self.last_position = 0
        self.forgotten_ids: set[str] = set()

    @property
    def lane(self) -> Lane:
        """Where it stands when it is ready; the end of one that is to be cancelled waits for no place in a queue."""
        is_cancelled = self.record.request is ControlRequest.CANCEL
        return Lane("" if is_cancelled else self.record.queue or "", self.record.name)

    @property
    def is_unwatched(self) -> bool:
        """Whether nobody would notice that its time limit passes, should it have one."""
        record = self.record
        if record.owner is not None or record.request is ControlRequest.CANCEL:
            return False
        is_ready = record.status is _PROCESSING and (record.wake_at is None or self.is_due)
        return is_ready or record.status is WorkflowStatus.PAUSED

    @property
    def candidate(self) -> Candidate:
        """When it goes, of those that are ready."""
        return Candidate(self.record.epoch == 0, self.record.priority, self.position)

    # --- its history ----------------------------------------------------------------------------------------------

    def store(self, steps: Iterable[StepRecord]) -> None:
        """Store steps, all or none; one that is completed or cancelled is never replaced."""
        accepted: dict[int, StepRecord] = {}
        for step in steps:
            known = accepted.get(step.sequence) or self.steps.get(step.sequence)
            if known is None or known.status not in documents.NEVER_REPLACED:
                accepted[step.sequence] = step
        self.steps.update(accepted)

    def drop(self, sequences: Iterable[int]) -> None:
        """Forget steps, whatever they came to."""
        for sequence in sequences:
            self.steps.pop(sequence, None)
            self.own_ids.pop(sequence, None)

    def by_sequence(self) -> list[StepRecord]:
        """Return the steps in their order."""
        return [self.steps[sequence] for sequence in sorted(self.steps)]

    def place_of(self, execution_id: str, step: StepRecord) -> int:
        """Return the negative ordinal for an execution that its caller named: where it was, else by its time."""
        for sequence, own_id in self.own_ids.items():
            if own_id == execution_id:
                return sequence
        own = [step for step in self.by_sequence() if step.sequence < 0]
        place = min((other.sequence for other in own if other.started_at > step.started_at), default=0) - 1
        for other in own:
            if other.sequence <= place:
                moved = other.sequence - 1
                self.steps[moved] = self.steps.pop(other.sequence)._replace(sequence=moved)
                self.own_ids[moved] = self.own_ids.pop(
                    other.sequence, documents.step_id(self.record.id, other.sequence)
                )
        return place

    # --- its events -----------------------------------------------------------------------------------------------

    def begin_with(self, events: Iterable[EventRecord]) -> None:
        """Store events that have their positions; there need not be one at each place."""
        self.events = sorted(events, key=attrgetter("position"))
        self.event_ids = {event.id for event in self.events}

    def receive(self, event: EventRecord) -> None:
        """Store an event behind the others."""
        position = max(self.last_position, self.events[-1].position if self.events else 0) + 1
        self.last_position = position
        self.events.append(event._replace(position=position))
        self.event_ids.add(event.id)

    def forget_events(self, taken: Mapping[str, int]) -> None:
        """Forget the events of each name up to a position; their ids stay known until the next time."""
        self.event_ids -= self.forgotten_ids
        self.forgotten_ids = {event.id for event in self.events if event.position <= taken.get(event.name, 0)}
        self.events = [event for event in self.events if event.id not in self.forgotten_ids]

    def events_after(self, position: int, name: str | None) -> Iterator[EventRecord]:
        """Yield the events behind a position, of one name or of any."""
        first = bisect_right(self.events, position, key=attrgetter("position"))
        return (event for event in islice(self.events, first, None) if name is None or event.name == name)


class Runs:
    """Every run. What changes a record goes through here, so that the run moves to where it then stands."""

    def __init__(self) -> None:
        self._by_id: dict[str, Run] = {}
        """In the order of arrival."""
        self._by_position: dict[int, Run] = {}
        self._held: dict[str, dict[str, Run]] = {}
        """By owner, for every registered one, and by id."""
        self.beats: dict[str, int] = {}
        """How often each registered owner has given a sign of life."""
        self._ready: dict[Lane, list[tuple[Candidate, Run]]] = {}
        """By queue and name; each list in the order in which they go, and none empty."""
        self.consumed: dict[str, tuple[str, ...]] = {}
        """The queues that each registered owner consumes."""
        self._starts: dict[str, deque[datetime]] = {}
        """The last starts in each queue that has a rate; as many as may begin in its period."""
        self._deduplicated: dict[tuple[str | None, str], Run] = {}
        """Those that have not ended and have a deduplication key, by queue and key."""
        self._asleep: list[tuple[datetime, int, Run]] = []
        """By the time that wakes them; those that only a signal wakes are not here."""
        self._unwatched: list[tuple[datetime, int, Run]] = []
        """By their time limits, those that nobody holds and nothing wakes then: they are ready, or paused."""
        self._arrived = 0

    # --- one run --------------------------------------------------------------------------------------------------

    def find(self, workflow_id: str | None) -> Run | None:
        """Return the run, or ``None`` if there is none."""
        return None if workflow_id is None else self._by_id.get(workflow_id)

    def insert(
        self, record: WorkflowRecord, steps: Iterable[StepRecord] = (), events: Iterable[EventRecord] = ()
    ) -> Run | None:
        """Add a run with its history, unless its id is taken; return the run that has it."""
        existing = self._by_id.get(record.id) or self._deduplicated.get(_key(record))
        if existing is not None:
            return existing
        if record.owner is not None and (record.owner not in self._held or record.status is not _PROCESSING):
            record = record._replace(owner=None)
        run = Run(record, self._arrived)
        run.store(steps)
        run.begin_with(events)
        self._arrived += 1
        self._by_id[record.id] = run
        self._by_position[run.position] = run
        self._put_in(run)
        return None

    def insert_new(self, records: Iterable[WorkflowRecord]) -> None:
        """Add the runs whose ids are free."""
        for record in records:
            self.insert(record)

    def change(self, run: Run, **fields: Any) -> None:
        """Change some fields of a run's record."""
        record = run.record._replace(**fields)
        self._take_out(run)
        run.record = record
        self._put_in(run)

    def signal(self, run: Run, signal: str) -> None:
        """Count a signal, unless the run has ended; it makes the run ready if that waits for it."""
        record = run.record
        if record.status.is_final:
            return
        if record.waiting_for in (signal, ANY_SIGNAL):
            self.change(run, signals=record.signals + 1, wake_at=None, waiting_for=None)
        else:
            self.change(run, signals=record.signals + 1)

    def cancel(self, run: Run, **changes: Any) -> None:
        """Request a run's cancellation, and change more of it."""
        self.change(
            run,
            status=_PROCESSING,
            request=ControlRequest.CANCEL,
            signals=run.record.signals + 1,
            wake_at=None,
            waiting_for=None,
            **changes,
        )

    def delete(self, run: Run) -> None:
        """Forget a run."""
        self._take_out(run)
        del self._by_id[run.record.id]
        del self._by_position[run.position]

    def newest_first(self) -> Iterator[WorkflowRecord]:
        """Yield every run's record."""
        return (run.record for run in reversed(self._by_id.values()))

    # --- those that an owner holds ----------------------------------------------------------------------------------

    def register_owner(self, owner: str, queues: Iterable[str]) -> None:
        """Let the owner hold runs."""
        self._held.setdefault(owner, {})
        self.consumed[owner] = tuple(queues)
        self.beats.setdefault(owner, 0)

    def release_owner(self, owner: str) -> None:
        """Free an owner's runs, and let it hold none."""
        for run in self.held_by(owner):
            self.change(run, owner=None)
        self._held.pop(owner, None)
        self.beats.pop(owner, None)
        self.consumed.pop(owner, None)

    def held_by(self, owner: str) -> Collection[Run]:
        """Return the runs that an owner holds."""
        return tuple(self._held.get(owner, {}).values())

    # --- those that nobody holds ------------------------------------------------------------------------------------

    def claim(self, claimer: Claimer, limit: int, now: datetime) -> list[WorkflowRecord]:
        """Let a registered owner hold the runs whose turn it is."""
        if claimer.owner not in self._held or limit <= 0:
            return []
        self._wake(now)
        lanes: dict[str, list[Lane]] = {}
        for lane in self._ready:
            if lane.name in claimer.names and claimer.takes_from(lane.queue):
                lanes.setdefault(lane.queue, []).append(lane)
        turns = [self._turn(claimer, queue, found, limit, now) for queue, found in lanes.items()]
        claimed = [self._by_position[candidate.position] for candidate in mixed(turns, limit)]
        for run in claimed:
            self.change(run, owner=claimer.owner, epoch=run.record.epoch + 1, wake_at=None, waiting_for=None)
            self._note_start(claimer.queues.get(run.record.queue or ""), run.record, now)
        return [run.record for run in claimed]

    def ready_names(self, claimer: Claimer, now: datetime) -> tuple[set[str], list[datetime]]:
        """Return the names of those that could be claimed, and when rates let others begin."""
        names, times = set(), []
        for lane, ready in self._ready.items():
            if claimer.takes_from(lane.queue):
                room = self._room(claimer, lane.queue, 1, now)
                if room.runs and (room.starts or not ready[0][0].is_new):
                    names.add(lane.name)
                if room.runs and room.starts_at is not None:
                    times.append(room.starts_at)
        return names, times

    def ready_by_queue(self) -> dict[str, int]:
        """Return how many are ready, by queue."""
        counts: Counter[str] = Counter()
        for lane, ready in self._ready.items():
            counts[lane.queue] += len(ready)
        return counts

    def held_by_queue(self) -> dict[str, int]:
        """Return how many are held, by queue."""
        return Counter(run.record.queue or "" for held in self._held.values() for run in held.values())

    def _turn(self, claimer: Claimer, queue: str, lanes: list[Lane], limit: int, now: datetime) -> list[Candidate]:
        """Return the runs of a queue whose turn it is."""
        starts = self._starts.get(queue)
        if starts and starts[-1] > now:  # a clock that is set back must not close a queue for longer than a period
            self._starts[queue] = deque((min(start, now) for start in starts), starts.maxlen)
        room = self._room(claimer, queue, limit, now)
        ready = [self._ready[lane] for lane in lanes]
        candidates = map(itemgetter(0), heapq.merge(*ready))
        before = now - LONG_WAIT

        def overtaken() -> list[Candidate]:
            heads = [head for lane in ready for head in _first_of_each_priority(lane)]
            return [candidate for candidate, run in heads if run.record.updated_at < before]

        return in_turn(candidates, room, claimer, overtaken)

    def _room(self, claimer: Claimer, queue: str, limit: int, now: datetime) -> Room:
        limits = claimer.queues.get(queue)
        if limits is None or not limits.is_limited:
            return Room(limit, limit)
        held = [owner for owner, runs in self._held.items() for run in runs.values() if run.record.queue == queue]
        before = starts_before(list(self._starts.get(queue, ())), limits.starts_per_period, limit)
        return room_of(limits, Usage(len(held), held.count(claimer.owner), before), limit, now)

    def _note_start(self, queue: Queue | None, record: WorkflowRecord, now: datetime) -> None:
        is_start = record.epoch == 1 and record.request is not ControlRequest.CANCEL
        if queue is None or queue.starts_per_period is None or not is_start:
            return
        starts = self._starts.get(queue.name, ())
        self._starts[queue.name] = deque([*starts, now], queue.starts_per_period)

    def expire(self, now: datetime) -> None:
        """Request the cancellation of those that are out of their time, and that nobody holds."""
        while self._unwatched and self._unwatched[0][0] <= now:
            self.cancel(self._unwatched[0][2])

    def next_limits(self) -> list[datetime]:
        """Return the earliest time limit of one that nobody holds and nothing wakes; empty for none."""
        return [deadline for deadline, _, _ in self._unwatched[:1]]

    def next_wake(self) -> datetime | None:
        """Return the earliest time that wakes one."""
        return self._asleep[0][0] if self._asleep else None

    def _wake(self, now: datetime) -> None:
        """Move those that are due to those that are ready, all at once: many may be due at the same time."""
        count = bisect_right(self._asleep, now, key=itemgetter(0))
        lanes = set()
        for _, _, run in self._asleep[:count]:
            run.is_due = True
            self._watch(run)
            lanes.add(run.lane)
            self._ready.setdefault(run.lane, []).append((run.candidate, run))
        for lane in lanes:
            self._ready[lane].sort()
        del self._asleep[:count]

    # --- where a run stands -----------------------------------------------------------------------------------------

    def _put_in(self, run: Run) -> None:
        record = run.record
        run.is_due = False
        if record.deduplication_key is not None and not record.status.is_final:
            self._deduplicated[_key(record)] = run
        self._watch(run)
        if record.status is not _PROCESSING:
            return
        if record.owner is not None:
            self._held[record.owner][record.id] = run
        elif record.wake_at is None:
            insort(self._ready.setdefault(run.lane, []), (run.candidate, run))
        elif record.wake_at != NEVER:
            insort(self._asleep, (record.wake_at, run.position, run))

    def _watch(self, run: Run) -> None:
        if run.record.deadline is not None and run.is_unwatched:
            insort(self._unwatched, (run.record.deadline, run.position, run))

    def _take_out(self, run: Run) -> None:
        record = run.record
        if self._deduplicated.get(_key(record)) is run:
            del self._deduplicated[_key(record)]
        if record.deadline is not None and run.is_unwatched:
            _remove(self._unwatched, (record.deadline, run.position, run))
        if record.status is not _PROCESSING:
            return
        if record.owner is not None:
            del self._held[record.owner][record.id]
        elif record.wake_at is None or run.is_due:
            ready = self._ready[run.lane]
            _remove(ready, (run.candidate, run))
            if not ready:
                del self._ready[run.lane]
        elif record.wake_at != NEVER:
            _remove(self._asleep, (record.wake_at, run.position, run))


def _first_of_each_priority(ready: list[tuple[Candidate, Run]]) -> Iterator[tuple[Candidate, Run]]:
    index = 0
    while index < len(ready):
        yield ready[index]
        last = ready[index][0]._replace(position=sys.maxsize)
        index = bisect_right(ready, last, key=itemgetter(0))


def _key(record: WorkflowRecord) -> tuple[str | None, str]:
    return record.queue, record.deduplication_key or ""


def _remove[T: tuple[Any, ...]](entries: list[T], entry: T) -> None:
    del entries[bisect_left(entries, entry)]
