"""Calls of activities: replayed, or run, in as many attempts as their retry policy allows.

An attempt is one run of the body. A failed one is recorded, with its number, before the next one begins, so no crash
makes it undone; one that a crash interrupts has come to nothing, and runs again under the same number. Between two
attempts the run leaves its worker where the wait is long; a short one is waited out.

A submitted activity runs on a thread of its own, and its outcome is stored from there (``outbox.py``). Where it waits
for another attempt, the background loop starts that, unless the workflow has left its worker by then: then the run is
woken for it.
"""

from __future__ import annotations

import contextvars
import random
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol

from .._clock import Clock
from .._context import Unwind
from .._futures import DurableFuture
from .._ids import fresh_ids
from .._options import ActivityOptions
from .._registry import WorkflowRegistry
from ..durable import ActivityInfo
from ..errors import ActivityCancelledError, TransactionError
from ..models import NEVER, ActivityStatus, ControlRequest, StepOutcome, StepRecord
from .bodies import Body, BodyRunner, Outcome, PreparedBody
from .interrupts import InterruptHost, Interrupts
from .journal import Journal
from .outbox import Outbox
from .rounds import Bell, Round
from .time_limits import Pulse

HELD_SECONDS = 1.0
"""From this long on a wait between two attempts is not waited out on a thread."""


class ActivityHost(InterruptHost, Protocol):
    """What is needed of the engine around."""

    registry: WorkflowRegistry
    bodies: BodyRunner
    clock: Clock

    @property
    def can_wait(self) -> bool:
        """Whether the database can keep runs that wait."""
        ...

    def in_background(self, work: Callable[[], None]) -> None:
        """Run ``work`` on one of the threads for submitted activities."""
        ...

    @property
    def max_workers(self) -> int:
        """How many activities may be running."""
        ...

    def hold(self, seconds: float) -> None:
        """Wait on this thread.

        Raises:
            Unwind: The engine is stopping, and does not wait for that: the run goes on from here at the next start.
        """
        ...


class Later(NamedTuple):
    """An attempt that failed and is followed by another one.

    Attributes:
        body: What is to run then.
        record: The failed attempt, to be stored.
        due: When the next one is.
    """

    body: PreparedBody
    record: StepRecord
    due: datetime


type ComeTo = Outcome | StepOutcome | Later


class Submitted:
    """One submitted activity: what its future waits for; see ``Pending``.

    Attributes:
        sequence: The call's ordinal.
        body: What runs; ``None`` where a recorded outcome is replayed.
        is_shielded: Whether it was submitted under a shield.
        round: What the attempts that run now come to.
    """

    def __init__(
        self, calls: ActivityCalls, sequence: int, body: PreparedBody | None, *, is_shielded: bool = False
    ) -> None:
        self._calls = calls
        self.sequence = sequence
        self.body = body
        self.is_shielded = is_shielded
        self.round: Round[ComeTo] = Round()

    @property
    def journal(self) -> Journal:
        """See ``Pending``."""
        return self._calls.journal

    @property
    def delays_cancellation(self) -> bool:
        """See ``Pending``: what is undone must not be going on."""
        return not self.round.is_over

    @property
    def wake(self) -> tuple[datetime, None] | None:
        """See ``Pending``: of an activity that waits for another attempt."""
        round_ = self.round
        if not round_.is_over:
            return None
        later = _later(round_)
        return (NEVER if later is None else later.due), None

    def look(self) -> bool:
        """See ``Pending``; the outcome is stored by the thread that it ran on."""
        round_ = self.round  # the background loop may begin another one
        if not round_.is_over:
            return False
        error = round_.error()
        if isinstance(error, Unwind):
            self.journal.seal(error)
            raise error
        return _later(round_) is None or self._calls.is_given_up(self)

    def settle(self) -> Any:
        """See ``Pending``."""
        return self._calls.settle(self)

    @property
    def later(self) -> Later | None:
        """The wait for another attempt, if that is what it does."""
        return _later(self.round)


def _later(round_: Round[ComeTo]) -> Later | None:
    """Return the wait for another attempt, if that is what a round has come to."""
    if not round_.is_over or round_.error() is not None:
        return None
    come_to = round_.result()
    return come_to if isinstance(come_to, Later) else None


class ActivityCalls:
    """The activity calls of one run.

    Attributes:
        something_ended: Rings whenever a submitted activity has ended.
    """

    def __init__(self, host: ActivityHost, journal: Journal, interrupts: Interrupts) -> None:
        self._host = host
        self._journal = journal
        self._interrupts = interrupts
        self._submitted: list[Submitted] = []
        self._failed_before: list[int] = []  # submitted, and replayed as failures
        self._delayed: set[Submitted] = set()  # those that wait for another attempt
        self._outbox = Outbox(journal.store_now, host.max_workers)
        self.something_ended = Bell()
        self._starting = threading.Lock()
        self._is_closed = False

    # --- calls, on the workflow's thread ------------------------------------------------------------------------------

    def call(self, name: str, args: Any, kwargs: Any, options: ActivityOptions | None) -> Any:
        """Run the activity here, or replay it; return its result."""
        self._interrupts.guard()
        sequence, step = self._journal.next("activity", name)
        if step is not None and step.is_final:
            return self._replayed(step)
        body = self._host.bodies.prepare(Body(sequence, name, args, kwargs, options, step))
        while True:
            if body.due is not None:
                self._wait_for_attempt(body, body.due)
            self._journal.store()
            self._interrupts.check(body.call)
            outcome = self._attempts(body, self._keep_and_store, is_shielded=self._interrupts.is_shielded)
            if isinstance(outcome, Outcome):
                break
            self._journal.keep(outcome.record)
            body = outcome.body
        self._refuse_cancelled(body, outcome)
        if outcome.is_stored:
            self._journal.forget_running(sequence)
        else:
            self._journal.keep(outcome.record)
        if outcome.error is not None:
            self._journal.note_failure(outcome.record)
            self._journal.raise_failure(outcome.error, sequence)
        return outcome.value

    def submit(self, name: str, args: Any, kwargs: Any, options: ActivityOptions | None) -> DurableFuture[Any]:
        """Start the activity on another thread, or replay it; return its future."""
        self._interrupts.guard()
        sequence, step = self._journal.next("activity", name)
        if step is not None and step.is_final:
            submitted = Submitted(self, sequence, None)
            submitted.round.end(step)
            if step.status == ActivityStatus.FAILED.value:
                self._failed_before.append(sequence)
        else:
            body = self._host.bodies.prepare(Body(sequence, name, args, kwargs, options, step))
            self._journal.store()
            self._interrupts.check(body.call)
            submitted = Submitted(self, sequence, body, is_shielded=self._interrupts.is_shielded)
            self._submitted.append(submitted)
            if body.due is not None and (self._host.clock.now() < body.due or self.is_given_up(submitted)):
                submitted.round.end(Later(body, body.record(ActivityStatus.RUNNING, body.due, None), body.due))
                self._delayed.add(submitted)
            else:
                self._start(submitted, body)
        return DurableFuture.of_pending(submitted)

    def settle(self, submitted: Submitted) -> Any:
        """Wait for the activity's end, and return or raise what it came to."""
        self._journal.check_thread()
        while True:
            round_ = submitted.round
            try:
                outcome = round_.result()
            except Unwind as signal:
                self._journal.seal(signal)
                raise
            if isinstance(outcome, StepOutcome):
                return self._replayed(outcome)
            if isinstance(outcome, Outcome):
                break
            with self._starting:  # the background loop may have started the next attempt by now
                if submitted.round is not round_:
                    continue
            self._interrupts.guard()
            self._interrupts.check_wait(outcome.body.call)
            if self.is_given_up(submitted):  # under a shield, whose code must not wait for ever
                self._interrupts.cancel(outcome.body.call)
            self._interrupts.suspend(outcome.due)
        if submitted.body is not None:
            self._refuse_cancelled(submitted.body, outcome)
        if outcome.error is not None:
            self._journal.note_failure(outcome.record)
            self._journal.raise_failure(outcome.error, outcome.record.sequence)
        return outcome.value

    def _replayed(self, step: StepOutcome) -> Any:
        return self._interrupts.replay(step, self._host.registry.types_of_activity(step.name))

    def _wait_for_attempt(self, body: PreparedBody, due: datetime) -> None:
        """Return when the next attempt is due, if that is soon; else leave the worker until then."""
        remaining = (due - self._host.clock.now()).total_seconds()
        if remaining <= 0:
            return
        self._interrupts.check(body.call)
        if remaining >= HELD_SECONDS and self._host.can_wait:
            self._interrupts.suspend(due)
        self._hold(remaining)

    def _hold(self, seconds: float) -> None:
        try:
            self._host.hold(seconds)
        except Unwind as signal:
            self._journal.seal(signal)
            raise

    def _keep_and_store(self, step: StepRecord) -> None:
        self._journal.keep(step)
        self._journal.store()

    def _refuse_cancelled(self, body: PreparedBody, outcome: Outcome) -> None:
        """Raise the cancellation where the activity has ended early because of it."""
        if isinstance(outcome.raised, ActivityCancelledError) and self._interrupts.is_cancellation_due:
            self._interrupts.cancel(body.call)

    # --- attempts, on any thread --------------------------------------------------------------------------------------

    def _attempts(
        self, body: PreparedBody, store: Callable[[StepRecord], None], *, is_shielded: bool
    ) -> Outcome | Later:
        """Run the body until it succeeds, fails for good, or waits for another attempt: for long, or interrupted.

        The interrupt is raised by the workflow's thread, so that it does not look like the activity's failure.
        """
        while True:
            scope = ActivityScope(self, body, is_shielded=is_shielded)
            now = self._host.clock.now()
            self._journal.mark_running(body.call, partial(body.record, ActivityStatus.RUNNING, now, None))
            if body.options.transactional:
                outcome = self._transact(body, scope)
            else:
                outcome = self._host.bodies.run(body, scope, now)
            delay = None if outcome.raised is None else self._delay(body, outcome, outcome.raised)
            if delay is None:
                return self._host.bodies.concluded(body, outcome)
            due = self._host.clock.now() + timedelta(seconds=delay)
            later = Later(*body.followed_by(outcome, due), due)
            if (delay >= HELD_SECONDS and self._host.can_wait) or scope.is_to_leave:
                return later
            store(later.record)
            self._hold(delay)
            if scope.is_to_leave:
                return later
            body = later.body

    def _transact(self, body: PreparedBody, scope: ActivityScope) -> Outcome:
        """Run a body in a transaction of the store, and its record with it, if it succeeds."""
        outcomes: list[Outcome] = []

        def transaction(connection: Any) -> StepRecord | None:
            outcomes.append(self._host.bodies.run(body, scope, self._host.clock.now(), connection))
            return outcomes[-1].record if outcomes[-1].error is None else None

        record = self._journal.record
        try:
            self._host.persist(lambda: self._host.database.record_transaction(record.id, record.epoch, transaction))
        except TransactionError as error:
            # It would come to the same in another attempt.
            return self._host.bodies.failed(body, outcomes[-1].first_at, error, may_be_retried=False)
        return outcomes[-1]._replace(is_stored=outcomes[-1].error is None)

    def _delay(self, body: PreparedBody, outcome: Outcome, error: BaseException) -> float | None:
        """Return how many seconds to wait before another attempt; ``None`` if there is none."""
        retry = body.options.retry
        if retry is None or not outcome.may_be_retried:
            return None
        elapsed = max(0.0, (self._host.clock.now() - outcome.first_at).total_seconds())
        delay = retry.next_delay(body.attempt, error, elapsed, random.random())  # noqa: S311 - it spreads load
        total = body.options.total_timeout
        return None if delay is None or (total is not None and elapsed + delay >= total) else delay

    # --- submitted activities -----------------------------------------------------------------------------------------

    def _start(self, submitted: Submitted, body: PreparedBody) -> None:
        context = contextvars.copy_context()  # what the workflow set is seen there; what is set there ends there
        round_ = submitted.round
        self._host.in_background(lambda: context.run(self._run_submitted, submitted, body, round_))

    def _run_submitted(self, submitted: Submitted, body: PreparedBody, round_: Round[ComeTo]) -> None:
        """Run a submitted body and have its outcome stored; on a thread for submitted activities."""
        try:
            if self._host.is_leaving:
                raise Unwind  # noqa: TRY301 - the round carries it to the workflow's thread
            outcome = self._attempts(body, self._store_attempt, is_shielded=submitted.is_shielded)
        except BaseException as error:  # noqa: BLE001 - raised where the future is waited for
            round_.fail(error)
            self.something_ended.ring()
            return
        conclude = partial(self._conclude, submitted, round_, outcome)
        if isinstance(outcome, Outcome) and outcome.is_stored:
            conclude(None)
        else:
            self._outbox.put(outcome.record, conclude)

    def _conclude(
        self, submitted: Submitted, round_: Round[ComeTo], outcome: Outcome | Later, error: BaseException | None
    ) -> None:
        """Let a round be over, once its outcome is stored, or could not be."""
        if error is not None:
            round_.fail(error)
        else:
            round_.end(outcome)
            if isinstance(outcome, Later):
                self._delayed.add(submitted)
        self.something_ended.ring()

    def _store_attempt(self, step: StepRecord) -> None:
        self._journal.store_now([step])

    def start_due(self) -> None:
        """Start the attempts that are due; called by the background loop, on its thread."""
        if not self._delayed:
            return
        now = self._host.clock.now()
        for submitted in list(self._delayed):
            later = submitted.later
            if later is not None and later.due <= now and not self.is_given_up(submitted):
                with self._starting:
                    if self._is_closed:
                        return
                    self._delayed.discard(submitted)
                    submitted.round = Round()
                    self._start(submitted, later.body)

    def is_given_up(self, submitted: Submitted) -> bool:
        """Return whether no other attempt may begin: its run is cancelled, and may be undoing what it did."""
        return not submitted.is_shielded and self._interrupts.is_cancellation_wanted

    def wait_for_submitted(self) -> datetime | None:
        """Wait for what runs: nothing of this run may be running, or be missing, when its end is stored.

        Returns:
            When the next attempt is due, if one is waited for.
        """
        with self._starting:
            self._is_closed = True
        for submitted in self._submitted:
            error = submitted.round.error()
            if isinstance(error, Unwind):  # it could not be run or recorded, and the code need not have looked at it
                self._journal.seal(error)
        return min((later.due for each in self._submitted if (later := each.later) is not None), default=None)

    def settle_failures(self) -> None:
        """Let all failures stand: the run leaves its worker in an orderly way, and nothing has come to nothing.

        Those too that the code has not looked at: another attempt each time that the run comes back would be as many
        as it happens to wait. What the run's cancellation has ended is not one of them: that is raised in its place.
        """
        for outcome in self._failures():
            self._journal.note_failure(outcome.record)
        self._journal.settle()

    def failed(self) -> list[int]:
        """Return the ordinals of the submitted activities that have failed, whether the code has seen that or not."""
        return [*self._failed_before, *(outcome.record.sequence for outcome in self._failures())]

    def _failures(self) -> Iterator[Outcome]:
        for submitted in self._submitted:
            if submitted.round.error() is None:
                outcome = submitted.round.result()
                if (
                    isinstance(outcome, Outcome)
                    and outcome.error is not None
                    and not isinstance(outcome.raised, ActivityCancelledError)
                ):
                    yield outcome

    # --- for the activities' scope ------------------------------------------------------------------------------------

    @property
    def host(self) -> ActivityHost:
        """The engine around."""
        return self._host

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self._journal

    @property
    def is_cancellation_wanted(self) -> bool:
        """Whether the run is to be cancelled."""
        return self._interrupts.is_cancellation_wanted


class ActivityScope:
    """What stands around an activity's body: calls in here are plain calls."""

    __slots__ = ("_body", "_calls", "_is_shielded", "pulse")

    is_workflow = False
    is_async = False

    def __init__(self, calls: ActivityCalls, body: PreparedBody, *, is_shielded: bool) -> None:
        self._calls = calls
        self._body = body
        self._is_shielded = is_shielded
        self.pulse = Pulse(calls.host.clock)

    @property
    def is_active(self) -> bool:
        """See ``Scope``."""
        return self._calls.journal.is_active

    def call_activity(
        self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any, _options: Any = None
    ) -> Any:
        """See ``Scope``: a plain call."""
        if function is None:
            function = self._calls.host.registry.get_activity(name)
        return function(*args, **kwargs)

    def submit_activity(
        self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any, _options: Any = None
    ) -> DurableFuture[Any]:
        """See ``Scope``: a plain call, made at once."""
        return DurableFuture.of_call(self.call_activity, name, function, args, kwargs)

    def unwind(self) -> NoReturn:
        """See ``Scope``."""
        self._calls.journal.unwind()

    def make_effect(
        self, _kind: str, _name: str, _arguments: str, make: Callable[[Iterator[str]], Any], _content: str | None = None
    ) -> Any:
        """See ``Scope``: an activity's effects are not replayed, so any fresh id will do."""
        return make(fresh_ids())

    def heartbeat(self) -> None:
        """Give a sign of life.

        Raises:
            ActivityCancelledError: The activity is to end.
        """
        self.pulse.beat()
        if self.pulse.abandoned:
            raise ActivityCancelledError(
                f"activity {self._body.call.name!r} has been timed out; its result no longer counts"
            )
        if self.cancel_requested:
            raise ActivityCancelledError(f"the workflow of activity {self._body.call.name!r} is cancelled")

    @property
    def cancel_requested(self) -> bool:
        """Whether the activity had better end."""
        return self.pulse.abandoned or self.is_workflow_cancelled

    @property
    def is_workflow_cancelled(self) -> bool:
        """Whether the workflow is to be cancelled, and the activity is no part of its cleaning up."""
        return not self._is_shielded and self._calls.is_cancellation_wanted

    @property
    def is_to_leave(self) -> bool:
        """Whether the workflow is to be paused or cancelled rather than to wait here for another attempt."""
        return self.is_workflow_cancelled or self._calls.journal.request is ControlRequest.PAUSE

    def info(self) -> ActivityInfo:
        """See ``Scope``."""
        record = self._calls.journal.record
        return ActivityInfo(
            workflow_id=record.id,
            workflow_name=record.name,
            name=self._body.call.name,
            sequence=self._body.call.sequence,
            idempotency_key=f"{record.stem}:{self._body.call.sequence}",
            attempt=self._body.attempt,
            cancel_requested=self.cancel_requested,
        )
