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
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any

from ..models import ANY_SIGNAL, NEVER, ActivityStatus, EventRecord, StepRecord, WorkflowRecord, WorkflowStatus
from . import _documents as documents

_PROCESSING = WorkflowStatus.PROCESSING
_FINAL_STEPS = (ActivityStatus.COMPLETED.value, ActivityStatus.CANCELLED.value)


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

    # --- its history ----------------------------------------------------------------------------------------------

    def store(self, steps: Iterable[StepRecord]) -> None:
        """Store steps, all or none; one that is completed or cancelled is never replaced."""
        accepted: dict[int, StepRecord] = {}
        for step in steps:
            known = accepted.get(step.sequence) or self.steps.get(step.sequence)
            if known is None or known.status not in _FINAL_STEPS:
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
        self.events.append(replace(event, position=position))
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
        self._held: dict[str, dict[str, Run]] = {}
        """By owner, for every registered one, and by id."""
        self.beats: dict[str, int] = {}
        """How often each registered owner has given a sign of life."""
        self._ready: dict[str, list[tuple[int, Run]]] = {}
        """By name; each list in the order of arrival, and none empty."""
        self._asleep: list[tuple[datetime, int, Run]] = []
        """By the time that wakes them; those that only a signal wakes are not here."""
        self._arrived = 0

    # --- one run --------------------------------------------------------------------------------------------------

    def find(self, workflow_id: str | None) -> Run | None:
        """Return the run, or ``None`` if there is none."""
        return None if workflow_id is None else self._by_id.get(workflow_id)

    def insert(
        self, record: WorkflowRecord, steps: Iterable[StepRecord] = (), events: Iterable[EventRecord] = ()
    ) -> Run | None:
        """Add a run with its history, unless its id is taken; return the run that has it."""
        existing = self._by_id.get(record.id)
        if existing is not None:
            return existing
        if record.owner is not None and (record.owner not in self._held or record.status is not _PROCESSING):
            record = replace(record, owner=None)
        run = Run(record, self._arrived)
        run.store(steps)
        run.begin_with(events)
        self._arrived += 1
        self._by_id[record.id] = run
        self._put_in(run)
        return None

    def insert_new(self, records: Iterable[WorkflowRecord]) -> None:
        """Add the runs whose ids are free."""
        for record in records:
            self.insert(record)

    def change(self, run: Run, **fields: Any) -> None:
        """Change some fields of a run's record."""
        record = replace(run.record, **fields)
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

    def delete(self, run: Run) -> None:
        """Forget a run."""
        self._take_out(run)
        del self._by_id[run.record.id]

    def newest_first(self) -> Iterator[WorkflowRecord]:
        """Yield every run's record."""
        return (run.record for run in reversed(self._by_id.values()))

    # --- those that an owner holds ----------------------------------------------------------------------------------

    def register_owner(self, owner: str) -> None:
        """Let the owner hold runs."""
        self._held.setdefault(owner, {})
        self.beats.setdefault(owner, 0)

    def release_owner(self, owner: str) -> None:
        """Free an owner's runs, and let it hold none."""
        for run in self.held_by(owner):
            self.change(run, owner=None)
        self._held.pop(owner, None)
        self.beats.pop(owner, None)

    def held_by(self, owner: str) -> Collection[Run]:
        """Return the runs that an owner holds."""
        return tuple(self._held.get(owner, {}).values())

    # --- those that nobody holds ------------------------------------------------------------------------------------

    def claim(self, owner: str, names: frozenset[str], limit: int, now: datetime) -> list[WorkflowRecord]:
        """Let a registered owner hold the oldest runs that are ready."""
        if owner not in self._held or limit <= 0:
            return []
        self._wake(now)
        ready = heapq.merge(*[self._ready[name] for name in names & self._ready.keys()])
        oldest = [run for _, run in islice(ready, limit)]
        for run in oldest:
            self.change(run, owner=owner, epoch=run.record.epoch + 1, wake_at=None, waiting_for=None)
        return [run.record for run in oldest]

    def ready_names(self) -> set[str]:
        """Return the names of those that are ready."""
        return set(self._ready)

    def next_wake(self) -> datetime | None:
        """Return the earliest time that wakes one."""
        return self._asleep[0][0] if self._asleep else None

    def _wake(self, now: datetime) -> None:
        """Move those that are due to those that are ready, all at once: many may be due at the same time."""
        count = bisect_right(self._asleep, now, key=itemgetter(0))
        names = set()
        for _, position, run in self._asleep[:count]:
            run.is_due = True
            names.add(run.record.name)
            self._ready.setdefault(run.record.name, []).append((position, run))
        for name in names:
            self._ready[name].sort()
        del self._asleep[:count]

    # --- where a run stands -----------------------------------------------------------------------------------------

    def _put_in(self, run: Run) -> None:
        record = run.record
        run.is_due = False
        if record.status is not _PROCESSING:
            return
        if record.owner is not None:
            self._held[record.owner][record.id] = run
        elif record.wake_at is None:
            insort(self._ready.setdefault(record.name, []), (run.position, run))
        elif record.wake_at != NEVER:
            insort(self._asleep, (record.wake_at, run.position, run))

    def _take_out(self, run: Run) -> None:
        record = run.record
        if record.status is not _PROCESSING:
            return
        if record.owner is not None:
            del self._held[record.owner][record.id]
        elif record.wake_at is None or run.is_due:
            ready = self._ready[record.name]
            _remove(ready, (run.position, run))
            if not ready:
                del self._ready[record.name]
        elif record.wake_at != NEVER:
            _remove(self._asleep, (record.wake_at, run.position, run))


def _remove[T: tuple[Any, ...]](entries: list[T], entry: T) -> None:
    del entries[bisect_left(entries, entry)]
