"""The history of one run, as its code goes over it, and what this attempt adds to it.

Each durable call takes the next ordinal here and gets what the history says about it. What a call came to is kept until
the next effect is about to start (another activity's body, a submission, a wait), and is stored then, before it: one
durable write for each activity, and none for the last, which shares the run's end. Meanwhile the workflow's own code
goes on. A failure that the code has been given is settled with the first write of what the code does next: from there
on its way depends on the failure, so no recovery may run that activity again. The background loop stores what has been
kept for long, and marks bodies that run for long as ``running``, so that a slow workflow can be watched and little is
repeated after a crash.

A journal is sealed when the run leaves its worker without having ended, or cannot go on: from then on every durable
call raises, and nothing is recorded, whatever the code does with the signal that it was left with.

Guarantees for threads: everything that is not said otherwise happens on the workflow's thread. ``_keeping`` guards what
is kept, and is held through the write, so that the workflow's next effect waits for a write of the background loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from .._context import Unwind, ended_run_error, foreign_thread_error
from ..db_manager.base import BaseDatabaseManager
from ..errors import ClaimLostError, NonDeterminismError
from ..models import ControlRequest, StepOutcome, StepRecord, WorkflowRecord
from .calls import Call
from .replay import History, Mismatch, is_unsettled, settled

_logger = logging.getLogger(__name__)

_RAISED_REMEMBERED = 1000  # a group may hold as many
_LINKS_FOLLOWED = 2000
_SIGNALS_BEFORE_WARNING = 1000
_SLOWED_SECONDS = 0.05


class JournalHost(Protocol):
    """What a journal needs of the engine around it."""

    database: BaseDatabaseManager

    @property
    def is_leaving(self) -> bool:
        """Whether runs are to end at their next durable call, to be taken up again later."""
        ...

    def persist(self, write: Callable[[], Any]) -> Any:
        """Make the write, again and again while the storage fails.

        Raises:
            Unwind: The claim is lost, or the engine is leaving.
        """
        ...

    def notice_children(self) -> None:
        """Let somebody look for the child workflows that were just stored."""
        ...


class Journal:
    """What is recorded of one run, and what is to be recorded.

    Attributes:
        record: The run, as it was claimed.
        sequence: The ordinal of the next call.
        is_replaying: Whether the code is going over recorded steps.
        is_active: Whether the run's code is still running.
        left: The signal or the fatal error that sealed the journal.
        request: What the run's user wants of it and it has not noticed yet.
        current_activity: The activity that runs now.
    """

    def __init__(self, host: JournalHost, record: WorkflowRecord) -> None:
        self._host = host
        self.record = record
        self.history = History()
        self.sequence = 0
        self.is_replaying = False
        self.is_active = True
        self.left: BaseException | None = None
        self.request = record.request
        self.current_activity = record.current_activity
        self._signals = 0
        self._thread = threading.get_ident()
        self._keeping = threading.Lock()
        self._steps: list[StepRecord] = []
        self._children: dict[str, WorkflowRecord] = {}
        self._running: dict[int, Callable[[], StepRecord]] = {}
        self._published = record.custom_status
        self._to_publish: str | None = None
        self._given: dict[int, StepRecord] = {}  # failures that the code has been given and has not acted on yet
        self._settled: set[int] = set()
        self._seen: set[int] = set()  # calls whose failures the code has been given in this attempt
        self._raised: deque[tuple[BaseException, int, int]] = deque(maxlen=_RAISED_REMEMBERED)

    def load(self) -> None:
        """Read what is recorded."""
        outcomes = self._host.persist(lambda: self._host.database.load_outcomes(self.record.id))
        self.history = History(outcomes)
        self.is_replaying = not self.history.is_empty

    # --- the code goes over it ----------------------------------------------------------------------------------------

    def check_thread(self) -> None:
        """Raise unless this is the workflow's thread.

        Raises:
            DurableCallError: It is not.
        """
        if threading.get_ident() != self._thread:
            raise foreign_thread_error()

    def check(self) -> None:
        """Raise unless a durable call may be made here and now.

        Raises:
            DurableCallError: This is not the workflow's thread, or its run is over.
            Unwind: The run leaves, or has left.
        """
        self.check_thread()
        if not self.is_active:
            raise ended_run_error()
        if self.left is None and self._host.is_leaving:
            self.left = Unwind()
        if self.left is not None:
            self._tell_of_swallowed_signals()
            # An error only once, then a signal: a loop that tries again after any Exception must come to an end.
            raise self.left if isinstance(self.left, Unwind) else Unwind

    def _tell_of_swallowed_signals(self) -> None:
        """Say so, and slow down, where code catches the signal in a loop that has no end: nothing can end that."""
        self._signals += 1
        if self._signals == _SIGNALS_BEFORE_WARNING:
            _logger.error(
                "workflow %r (%s) catches the signal that it is to leave its worker, again and again: let "
                "'except Exception' be the widest clause around durable calls in a loop, or raise again what a wider "
                "one catches",
                self.record.name,
                self.record.id,
            )
        if self._signals >= _SIGNALS_BEFORE_WARNING:
            time.sleep(_SLOWED_SECONDS)

    def next(self, kind: str, name: str) -> tuple[int, StepOutcome | None]:
        """Return the next call's ordinal and what is recorded of it; ``None`` where it is to run.

        Raises:
            NonDeterminismError: Another call is recorded there.
        """
        sequence = self.sequence
        self.sequence += 1
        decision = self.history.decide(sequence, kind, name)
        if isinstance(decision, StepOutcome):
            if not decision.is_final:
                self._catch_up(sequence)
            return sequence, decision
        if isinstance(decision, Mismatch):
            self.fail(non_determinism(decision))
        self._catch_up(sequence)
        return sequence, None

    def _catch_up(self, sequence: int) -> None:
        """Note that a call is not replayed: where steps behind it are recorded, the code has been here before."""
        self.is_replaying = self.is_replaying and sequence < self.history.last

    def seal(self, signal: BaseException) -> None:
        """Let every further call raise; the first reason counts."""
        self.left = self.left or signal

    def unwind(self) -> NoReturn:
        """Seal the journal and let the run leave its thread here, to be taken up again later.

        Raises:
            Unwind: Always.
        """
        self.seal(Unwind())
        raise self.left if isinstance(self.left, Unwind) else Unwind

    def fail(self, error: Exception) -> NoReturn:
        """Seal the journal with an error that ends the run, whatever the code does with it."""
        self.left = error
        raise error

    def raise_failure(self, error: BaseException, sequence: int) -> NoReturn:
        """Raise in the code what a call came to, and remember which call, and how far the code had come by then.

        Raises:
            BaseException: The error.
        """
        self._seen.add(sequence)
        self._raised.append((error, sequence, self.sequence))
        raise error

    def has_raised(self, error: BaseException) -> bool:
        """Return whether a call came to this very error, not long ago."""
        return any(raised is error for raised, _, _ in self._raised)

    def note_failure(self, step: StepRecord) -> None:
        """Note an activity's failure that the code has been given: it stands as soon as the code does anything."""
        if is_unsettled(step) and step.sequence not in self._settled:
            self._given[step.sequence] = step

    def origin_of(self, error: BaseException, failed: Iterable[int]) -> dict[str, Any] | None:
        """Return which step an error came from: its ordinal, and that of the next call when the code saw it.

        Of a group, which comes from several, it is the first step, and the first time that the code saw one. Of steps
        before it that have ``failed`` too, those are named that the code has not seen: another failure was faster.
        """
        places = {id(raised): (sequence, seen_at) for raised, sequence, seen_at in self._raised}
        found = _origins(error, places, set())
        if not found:
            return None
        first = min(sequence for sequence, _ in found)
        unseen = [sequence for sequence in failed if sequence < first and sequence not in self._seen]
        origin = {"sequence": first, "seen_at": min(seen_at for _, seen_at in found)}
        return {**origin, "unseen": unseen} if unseen else origin

    # --- adding to it -------------------------------------------------------------------------------------------------

    def keep(self, step: StepRecord, child: WorkflowRecord | None = None) -> None:
        """Keep what a call came to, and the run that it creates, until the next write."""
        with self._keeping:
            self._running.pop(step.sequence, None)
            self._settle()
            self._steps.append(step)
            if child is not None:
                self._children[child.id] = child

    def is_kept(self, child_id: str) -> bool:
        """Return whether a child workflow is not stored yet, so that it cannot have ended."""
        return child_id in self._children

    def publish(self, custom_status: str) -> None:
        """Keep what the run publishes of itself until the next write."""
        with self._keeping:
            self._settle()
            self._to_publish = None if custom_status == self._published else custom_status

    def mark_running(self, call: Call, record: Callable[[], StepRecord]) -> None:
        """Note that a body runs; on any thread.

        Args:
            call: The call.
            record: Returns its record. It is asked for by the background loop, should the body run for long.
        """
        self.current_activity = call.name
        self._running[call.sequence] = record

    def forget_running(self, sequence: int) -> None:
        """Note that a body has ended, whose record is stored already."""
        with self._keeping:
            self._running.pop(sequence, None)

    def store(self) -> None:
        """Make everything before this point durable, so that the next effect may start.

        Raises:
            Unwind: The claim is lost, or the engine is leaving.
        """
        with self._keeping:
            self._settle()
            if not self._steps and self._to_publish is None:
                return
            try:
                self._host.persist(lambda: self._write(self._steps, self._new_children, to_publish=self._to_publish))
            except Unwind as signal:
                self.seal(signal)
                raise
            self._forget()

    def store_now(self, steps: Sequence[StepRecord]) -> None:
        """Store steps at once, on the thread of a submitted activity.

        Raises:
            Unwind: The claim is lost, or the engine is leaving.
        """
        with self._keeping:
            for step in steps:
                self._running.pop(step.sequence, None)
        self._host.persist(lambda: self._write(steps, ()))

    def store_what_lingers(self) -> None:
        """Store what is kept and mark the bodies that run; called by the background loop, on its thread."""
        if not self._keeping.acquire(blocking=False):
            return  # the run is storing right now
        try:
            if not self.is_active or not (self._steps or self._running or self._to_publish is not None):
                return
            steps = [*self._steps, *(record() for record in list(self._running.values()))]
            activity = self.current_activity if steps else None
            self._write(steps, self._new_children, activity, self._to_publish)
            self._running.clear()  # marked once is enough
            self._forget()
        except ClaimLostError as lost:
            _logger.debug("%s", lost)
            self.seal(Unwind())
        finally:
            self._keeping.release()

    def close(self) -> None:
        """From here on the background loop leaves the run alone, and what is left of its code cannot call."""
        with self._keeping:
            self.is_active = False

    def settle(self) -> None:
        """Let the failures stand that the code has been given: the run leaves its worker, and comes back to them."""
        with self._keeping:
            self._settle()

    def take(self) -> dict[str, Any]:
        """Return what is not stored yet, to be stored with the run's end: steps, children, custom status."""
        return {
            "steps": tuple(self._steps),
            "children": self._new_children,
            "custom_status": self._to_publish,
        }

    def hand_back(self) -> None:
        """Store what is kept and free the run for others; where that fails, the owner's end will free it."""
        try:
            with self._keeping:
                self._settle()
                if self._steps or self._to_publish is not None:
                    self._write(self._steps, self._new_children, to_publish=self._to_publish)
                    self._forget()
            self._host.database.release_workflow(self.record.id, self.record.epoch)
        except ClaimLostError as lost:
            _logger.debug("%s", lost)
        except Exception as error:  # noqa: BLE001 - as above
            _logger.warning("workflow %s could not be handed back: %s", self.record.id, error)

    def _settle(self) -> None:
        """Let the next write settle the failures that the code has been given, and goes on from; under the lock.

        Where a failure is not stored yet, that costs no write of its own.
        """
        if self._given:
            self._steps = [step for step in self._steps if step.sequence not in self._given]
            self._steps += map(settled, self._given.values())
            self._settled.update(self._given)
            self._given.clear()

    def _write(
        self,
        steps: Sequence[StepRecord],
        children: Sequence[WorkflowRecord],
        current_activity: str | None = None,
        to_publish: str | None = None,
    ) -> None:
        options: dict[str, Any] = {"children": children} if children else {}
        if to_publish is not None:
            options["custom_status"] = to_publish
        request = self._host.database.record_steps(
            self.record.id, self.record.epoch, steps, current_activity=current_activity, **options
        )
        if request is ControlRequest.CANCEL or self.request is not ControlRequest.CANCEL:
            self.request = request

    @property
    def _new_children(self) -> tuple[WorkflowRecord, ...]:
        return tuple(self._children.values())

    def _forget(self) -> None:
        self._steps = []
        self._published, self._to_publish = self._to_publish or self._published, None
        if self._children:
            self._children = {}
            self._host.notice_children()


def _origins(
    error: BaseException | None, places: Mapping[int, tuple[int, int]], seen: set[int]
) -> list[tuple[int, int]]:
    """Return the places of the errors that one came from: of what a group holds, else of the first in its chain.

    Args:
        error: The error.
        places: The places of those that calls have raised, by the ``id`` of each.
        seen: What was looked at already: a chain may bite its own tail, be it through a group.
    """
    while error is not None and id(error) not in seen and len(seen) < _LINKS_FOLLOWED:
        seen.add(id(error))
        if id(error) in places:
            return [places[id(error)]]
        if isinstance(error, BaseExceptionGroup):
            found = [place for member in error.exceptions for place in _origins(member, places, seen)]
            if found:
                return found
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return []


def non_determinism(mismatch: Mismatch) -> NonDeterminismError:
    """Return the error for code that does not make the calls that are recorded."""
    return NonDeterminismError(mismatch.message, mismatch.sequence, mismatch.recorded, mismatch.called)
