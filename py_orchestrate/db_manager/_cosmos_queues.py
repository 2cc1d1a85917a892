"""Queues in Cosmos DB: a limited queue has a document with the places that are taken and the last starts.

A place is taken in that document, by a conditional write, before the run is claimed, and given back after it has been
let go. Whoever dies in between leaves a place behind that nobody uses; it is found when a place is missed: then the
runs that the document names are looked at.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from . import _cosmos_documents as cosmos
from ._claims import LONG_WAIT, Candidate, Claimer, Room, Usage, in_turn, mixed, room_of, starts_before
from ._cosmos_store import Document, Refused, Store

if TYPE_CHECKING:
    from ..queues import Queue

Turn = list[Document]
Find = Callable[[Claimer, str, int, datetime, str], Turn]

_RESERVED_FOR = timedelta(seconds=30)
"""Whoever takes a place claims its run within this time, or has died."""
_PAGE = 1000
_CHECKED_FOR_SECONDS = 2.0


class Full(Exception):  # noqa: N818 - a signal between two modules
    """A queue has no place for another run."""


class Places:
    """The places of all limited queues, as one manager sees them.

    Args:
        shared: The container of the queues' documents.
        runs: That of the runs.
    """

    def __init__(self, shared: Store, runs: Store) -> None:
        self._shared = shared
        self._runs = runs
        self._taken: dict[str, tuple[str, Document]] = {}
        """By run: its queue, and the place that was taken for it here."""
        self._known: dict[str, Document] = {}
        """The queues' documents, as they were last seen here."""
        self._checked: dict[str, tuple[str, float]] = {}
        """When all places of a full queue were found to be used, and by which document."""

    @staticmethod
    def key_id(queue: str, key: str) -> str:
        """Return the id of a deduplication key's document."""
        return f"{cosmos.KEY}-{_digest(queue, key)}"

    def room(self, claimer: Claimer, queue: str, limit: int, now: datetime) -> Room:
        """Return what a queue has room for; one point read where it is limited, and a query where it is full."""
        limits = claimer.queues.get(queue)
        if limits is None or not limits.is_limited:
            return Room(limit, limit)
        document = self._document(queue)
        room = _room(limits, document, claimer.owner, limit, now)
        return room if room.runs else _room(limits, self._cleaned(document, now), claimer.owner, limit, now)

    def turn(self, claimer: Claimer, queue: str, limit: int, now: datetime, find: Find) -> Turn:
        """Return the runs of a queue whose turn it is, and a few more, should others take some of them."""
        room = self.room(claimer, queue, limit, now)
        if not room.runs:
            return []
        found = {_candidate(run): run for run in find(claimer, queue, limit, now, "rank")}

        def overtaken() -> list[Candidate]:
            before = cosmos.time_text(now - LONG_WAIT)
            late = [run for run in find(claimer, queue, limit, now, "updated_at") if run["updated_at"] < before]
            found.update((_candidate(run), run) for run in late)
            first = {(candidate.is_new, candidate.priority): candidate for candidate in sorted(found, reverse=True)}
            return [candidate for candidate in map(_candidate, late) if candidate in first.values()]

        chosen = in_turn(sorted(found), room, claimer, overtaken)
        spare = [candidate for candidate in found if candidate not in chosen]
        return [found[candidate] for candidate in (*chosen, *spare)]

    @staticmethod
    def mixed(turns: Iterable[Turn]) -> Turn:
        """Return the runs of several queues, one of each in turn."""
        by_candidate = {_candidate(run): run for turn in turns for run in turn}
        order = mixed([[_candidate(run) for run in turn] for turn in turns], len(by_candidate))
        return [by_candidate[candidate] for candidate in order]

    def take(self, claimer: Claimer, run: Document, now: datetime) -> bool:
        """Take a place for a run that is about to be claimed.

        Returns:
            Whether it has one; not if it may not begin yet, or somebody else is about to claim it.

        Raises:
            Full: There is no place for any run of its queue.
        """
        limits = claimer.queues.get(run["lane"])
        if limits is None or not limits.is_limited:
            return True
        known: Document | None = self._known.get(run["lane"])
        document = known or self._document(run["lane"])
        while True:
            was = _starts(document)
            starts = [min(start, now) for start in was]  # a clock that is set back must not close a queue for long
            document = {**document, "starts": [cosmos.time_text(start) for start in starts]}
            room = _room(limits, document, claimer.owner, 1, now)
            has_place = room.runs and not _is_being_claimed(document, run, now)
            if has_place and (room.starts or run["epoch"]):
                place = {"owner": claimer.owner, "epoch": run["epoch"], "at": cosmos.time_text(now)}
                fields: dict[str, Any] = {"held": {**document["held"], run["workflow_id"]: place}}
                if not run["epoch"] and limits.starts_per_period is not None:
                    fields["starts"] = [*document["starts"], cosmos.time_text(now)][-limits.starts_per_period :]
                other = self._set(document, fields)
                if other is None:
                    self._taken[run["workflow_id"]] = (run["lane"], place)
                    return True
                document, known = other, None
            elif known is not None:  # it may be old
                document, known = self._document(run["lane"]), None
            elif not room.runs:
                document = self._cleaned(document, now)
                if not _room(limits, document, claimer.owner, 1, now).runs:
                    raise Full
            else:
                if any(start > now for start in was):
                    self._set(document, {"starts": document["starts"]})
                return False

    def give_back(self, run: Document) -> None:
        """Give back a run's place, if one was taken for it here."""
        taken = self._taken.pop(run["workflow_id"], None)
        if taken is None:
            return
        queue, place = taken
        document: Document | None = self._known.get(queue) or self._document(queue)
        while document is not None:
            held = dict(document["held"])
            if held.pop(run["workflow_id"], None) != place:
                return
            document = self._set(document, {"held": held})

    def forget_checks(self) -> None:
        """Look at the places of a full queue again, because runs were freed."""
        self._checked.clear()

    def _document(self, queue: str) -> Document:
        document_id = f"{cosmos.QUEUE}-{_digest(queue)}"
        found = self._shared.read(document_id, document_id)
        if found is None:
            fresh = {"id": document_id, "type": cosmos.QUEUE, "queue": queue, "held": {}, "starts": []}
            found = self._shared.insert(document_id, fresh) or fresh
        self._known[queue] = found
        return found

    def _set(self, document: Document, fields: Document) -> Document | None:
        """Set fields; return the document as it is, where it is another one by now."""
        changed = dict(document)
        try:
            self._shared.update(document["id"], changed, fields)
        except Refused as refused:
            if refused.current is None:
                return self._document(document["queue"])
            self._known[document["queue"]] = refused.current
            return refused.current
        self._known[document["queue"]] = changed
        return None

    def _cleaned(self, document: Document, now: datetime) -> Document:
        """Return a full queue's document without the places whose runs somebody has let go, or never claimed."""
        queue = document["queue"]
        etag, checked_at = self._checked.get(queue, ("", 0.0))
        if etag == document["_etag"] and time.monotonic() - checked_at < _CHECKED_FOR_SECONDS:
            return document
        query = (
            "SELECT c.workflow_id, c.owner, c.epoch FROM c WHERE c.type = 'run' AND ARRAY_CONTAINS(@ids, c.workflow_id)"
        )
        runs = {run["workflow_id"]: run for run in self._runs.query(query, {"ids": list(document["held"])}, page=_PAGE)}

        def is_used(name: str, place: Document) -> bool:
            run = runs.get(name)
            if run is None:
                return False
            if run["epoch"] == place["epoch"]:  # not claimed yet
                return _is_recent(place, now)
            return bool(run["owner"] == place["owner"])

        held = {name: place for name, place in document["held"].items() if is_used(name, place)}
        if held != document["held"]:
            return self._set(document, {"held": held}) or self._known[queue]
        self._checked[queue] = (document["_etag"], time.monotonic())
        return document


def _is_recent(place: Document, now: datetime) -> bool:
    return bool(place["at"] > cosmos.time_text(now - _RESERVED_FOR))


def _is_being_claimed(document: Document, run: Document, now: datetime) -> bool:
    """Return whether somebody else has taken a place for this very claim."""
    place = document["held"].get(run["workflow_id"])
    return place is not None and place["epoch"] == run["epoch"] and _is_recent(place, now)


def _room(limits: Queue, document: Document, owner: str, limit: int, now: datetime) -> Room:
    owners = [place["owner"] for place in document["held"].values()]
    before = starts_before(_starts(document), limits.starts_per_period, limit)
    return room_of(limits, Usage(len(owners), owners.count(owner), before), limit, now)


def _starts(document: Document) -> list[datetime]:
    return [datetime.fromisoformat(text) for text in document["starts"]]


def _candidate(run: Document) -> Candidate:
    """Return a run's place, which its rank tells."""
    rank = run["rank"]
    return Candidate(rank[0] == "1", int(rank[1:11]), int(rank[11:]))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
