"""One attempt of one workflow, on the calling thread.

The run is the scope that its workflow's durable calls find. Each call gets the next ordinal, asks the history, and is
replayed or run. What a call came to is kept until the next effect is about to start (another activity's body, a
submission), and is stored then, before it: one durable write for each activity, and none for the last, which shares the
run's end. Meanwhile the workflow's own code goes on. The background loop stores what has been kept for long, and marks
bodies that run for long as ``running``, so that a slow workflow can be watched and little is repeated after a crash.

Guarantees for threads: everything that is not said otherwise happens on the workflow's thread. ``_keeping`` guards what
is kept, and is held through the write, so that the workflow's next effect waits for a write of the background loop.
"""

from __future__ import annotations

import contextvars
import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NoReturn, Protocol

from .._clock import Clock
from .._context import Unwind, ended_run_error, foreign_thread_error, set_scope
from .._failures import Failure, decode_failure, encode_failure
from .._futures import DurableFuture
from .._identifiers import MAX_WORKFLOW_ID_LENGTH, new_workflow_id
from .._registry import Definition, WorkflowRegistry
from ..db_manager.base import BaseDatabaseManager
from ..durable import ActivityInfo, WorkflowInfo
from ..errors import ClaimLostError, NonDeterminismError, SerializationError
from ..models import ActivityStatus, StepOutcome, StepRecord, WorkflowEnd, WorkflowRecord, WorkflowStatus
from ..serialization import Serializer
from .bodies import Body, BodyRunner, Outcome, PreparedBody, better_error
from .replay import History, Mismatch

_logger = logging.getLogger(__name__)

_COMPLETED = ActivityStatus.COMPLETED.value
_RUNNING = ActivityStatus.RUNNING.value


class RunHost(Protocol):
    """What a run needs of the engine around it."""

    database: BaseDatabaseManager
    registry: WorkflowRegistry
    serializer: Serializer
    clock: Clock
    bodies: BodyRunner

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

    def in_background(self, work: Callable[[], None]) -> None:
        """Run ``work`` on one of the threads for submitted activities."""
        ...

    def finish(self, record: WorkflowRecord, end: WorkflowEnd) -> WorkflowRecord | None:
        """Store the run's end; return another run to go on with, if one was claimed in the same breath."""
        ...


class WorkflowRun:
    """One attempt of one workflow; the scope of its code."""

    is_workflow = True

    def __init__(self, host: RunHost, record: WorkflowRecord, *, is_new: bool) -> None:
        """Prepare to run ``record``, which is claimed; ``is_new`` promises that nothing is recorded yet."""
        self._host = host
        self.record = record
        self._is_new = is_new
        self._history = History()
        self._replaying = False
        self._sequence = 0
        self._thread = threading.get_ident()
        self._left: BaseException | None = None
        self._pending: list[Future[Any]] = []
        self._keeping = threading.Lock()
        self._kept: list[StepRecord] = []
        self._started: dict[int, StepRecord] = {}
        self.is_active = True
        self.current_activity: str | None = record.current_activity

    # --- the attempt ------------------------------------------------------------------------------------------------

    def execute(self) -> WorkflowRecord | None:
        """Run the workflow's code until it ends or has to leave; return the run claimed in its place, if any."""
        try:
            try:
                end = self._attempt()
            finally:
                with self._keeping:  # from here on the background loop leaves the run alone
                    self.is_active = False
            return self._host.finish(self.record, end)
        except Unwind:
            self._give_up()
        except Exception:  # a store or a log handler of the user's that raises what it should not
            self._give_up()
            _logger.exception("workflow %r (%s) is handed back and tried again", self.record.name, self.record.id)
        return None

    def _attempt(self) -> WorkflowEnd:
        if not self._is_new:
            outcomes = self._host.persist(lambda: self._host.database.load_outcomes(self.record.id))
            self._history = History(outcomes)
            self._replaying = not self._history.is_empty
        error: BaseException | None = None
        output: str | None = None
        try:
            output = contextvars.copy_context().run(self._run_code)
        except BaseException as raised:  # noqa: BLE001 - SystemExit and the like fail the run, not the process
            error = raised
        finally:
            self._await_submitted()
        if self._left is not None:
            # The code caught the signal or the fatal error that it was left with; what it did after that counts for
            # nothing.
            error = self._left
        if isinstance(error, Unwind):
            raise error
        if error is None and (leftover := self._history.leftover(self._sequence)):
            error = _non_determinism(leftover)
        return self._done(output) if error is None else self._failed(error)

    def _await_submitted(self) -> None:
        """Wait for what was submitted: nothing of this run may be running, or be missing, when its end is stored."""
        for future in self._pending:
            error = future.exception()
            if isinstance(error, Unwind):  # it could not be run or recorded, and the code need not have looked at it
                self._left = self._left or error

    def _run_code(self) -> str:
        set_scope(self)  # in a context of its own, so there is nothing to take back
        definition = self._host.registry.workflow_definition(self.record.name)
        arguments = self._host.serializer.decode(self.record.input, types=definition.types)
        return self._encode_result(definition, definition.call(arguments))

    def _encode_result(self, definition: Definition, result: Any) -> str:
        what = f"workflow {definition.name!r}"
        try:
            return self._host.serializer.encode(result, what=f"result of {what}", types=definition.types)[0]
        except SerializationError as error:
            raise better_error(result, what, error) from None

    def _done(self, output: str | None) -> WorkflowEnd:
        return WorkflowEnd(
            status=WorkflowStatus.DONE,
            output=output,
            steps=tuple(self._kept),
            finished_at=self._host.clock.now(),
        )

    def _failed(self, error: BaseException) -> WorkflowEnd:
        failure: Failure = encode_failure(error, self._host.serializer)
        _logger.error(
            "workflow %r (%s) failed: %s",
            self.record.name,
            self.record.id,
            failure.message,
            exc_info=error,
            extra={
                "workflow_id": self.record.id,
                "workflow_name": self.record.name,
                "workflow_step": self._sequence,
            },
        )
        return WorkflowEnd(
            status=WorkflowStatus.FAILED,
            error=failure.document,
            error_message=failure.message,
            current_activity=self.current_activity,
            steps=tuple(self._kept),
            finished_at=self._host.clock.now(),
        )

    def _give_up(self) -> None:
        """Store what is kept and free the run for others; where that fails, the owner's end will free it."""
        try:
            with self._keeping:
                if self._kept:
                    self._host.database.record_steps(self.record.id, self.record.epoch, self._kept)
                    self._kept = []
            self._host.database.release_workflow(self.record.id, self.record.epoch)
        except ClaimLostError as lost:
            _logger.debug("%s", lost)
        except Exception as error:  # noqa: BLE001 - as above
            _logger.warning("workflow %s could not be handed back: %s", self.record.id, error)

    # --- durable calls, from the workflow's code --------------------------------------------------------------------

    def call_activity(self, name: str, _function: Callable[..., Any] | None, args: Any, kwargs: Any) -> Any:
        """See ``Scope``. The function at hand does not count: the name decides."""
        sequence, step = self._next("activity", name)
        if step is not None:
            return self._replayed(step)
        prepared = self._host.bodies.prepare(Body(sequence, name, args, kwargs))
        self._store_kept()
        outcome = self._run_body(prepared)
        with self._keeping:
            self._started.pop(sequence, None)
            self._kept.append(outcome.record)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def submit_activity(
        self, name: str, _function: Callable[..., Any] | None, args: Any, kwargs: Any
    ) -> DurableFuture[Any]:
        """See ``Scope``."""
        sequence, step = self._next("activity", name)
        future: Future[Any] = Future()
        if step is not None:
            try:
                future.set_result(self._replayed(step))
            except BaseException as error:  # noqa: BLE001 - raised by result()
                future.set_exception(error)
        else:
            prepared = self._host.bodies.prepare(Body(sequence, name, args, kwargs))
            self._store_kept()
            self._pending.append(future)
            context = contextvars.copy_context()  # what the workflow set is seen there; what is set there ends there
            self._host.in_background(lambda: context.run(self._run_submitted, prepared, future))
        return DurableFuture(future, self._wait_for)

    def unwind(self) -> NoReturn:
        """See ``Scope``."""
        self._left = self._left or Unwind()
        raise self._left

    def next_effect_id(self) -> str:
        """Return an id for an effect at this place of the code, the same in every replay, and store what is kept."""
        sequence, _ = self._next("effect", "effect")
        self._store_kept()
        found = f"{self.record.id}-{sequence}"
        if len(found) > MAX_WORKFLOW_ID_LENGTH:
            found = f"{hashlib.sha256(self.record.id.encode()).hexdigest()}-{sequence}"
        return found

    def info(self) -> WorkflowInfo:
        """See ``Scope``."""
        return WorkflowInfo(
            workflow_id=self.record.id,
            name=self.record.name,
            sequence=self._sequence,
            is_replaying=self._replaying,
        )

    def _next(self, kind: str, name: str) -> tuple[int, StepOutcome | None]:
        """Return the next call's ordinal and its recorded outcome, if there is one to replay."""
        if threading.get_ident() != self._thread:
            raise foreign_thread_error()
        if not self.is_active:
            raise ended_run_error()
        if self._left is None and self._host.is_leaving:
            self._left = Unwind()
        if self._left is not None:
            # An error only once, then a signal: a loop that tries again after any Exception must come to an end.
            raise self._left if isinstance(self._left, Unwind) else Unwind
        sequence = self._sequence
        self._sequence += 1
        decision = self._history.decide(sequence, kind, name)
        if isinstance(decision, StepOutcome):
            return sequence, decision
        if isinstance(decision, Mismatch):
            self._left = _non_determinism(decision)
            raise self._left
        # An effect is never recorded itself, so it tells nothing unless the history ends before it.
        self._replaying = self._replaying and kind == "effect" and sequence < self._history.last
        return sequence, None

    def _replayed(self, step: StepOutcome) -> Any:
        if step.status != _COMPLETED:
            raise decode_failure(step.error, None, self._host.serializer)
        function = self._host.registry.activities.get(step.name)
        types = None if function is None else self._host.registry.activity_definition(step.name).types
        try:
            return self._host.serializer.decode(step.output or "null", types=types)
        except SerializationError as error:  # no failure of the activity's, which the code might handle
            self._left = error
            raise

    def _wait_for(self, future: Future[Any]) -> Any:
        if threading.get_ident() != self._thread:
            raise foreign_thread_error()
        try:
            return future.result()
        except Unwind as signal:
            self._left = self._left or signal
            raise

    # --- bodies -----------------------------------------------------------------------------------------------------

    def _run_body(self, prepared: PreparedBody) -> Outcome:
        self.current_activity = prepared.name
        # Only the background loop looks at this, should the body run for long.
        self._started[prepared.sequence] = prepared.record(_RUNNING, self._host.clock.now(), None)
        return self._host.bodies.run(prepared, ActivityScope(self, prepared))

    def _run_submitted(self, prepared: PreparedBody, future: Future[Any]) -> None:
        """Run a submitted body and store its outcome; on a thread for submitted activities."""
        try:
            if self._host.is_leaving:
                raise Unwind  # noqa: TRY301 - the future carries it to the workflow's thread
            outcome = self._run_body(prepared)
            with self._keeping:
                self._started.pop(prepared.sequence, None)
            self._host.persist(
                lambda: self._host.database.record_steps(self.record.id, self.record.epoch, [outcome.record])
            )
        except BaseException as error:  # noqa: BLE001 - raised where the future is waited for
            future.set_exception(error)
            return
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def _store_kept(self) -> None:
        """Make everything before this point durable, so that the next effect may start."""
        with self._keeping:
            if not self._kept:
                return
            try:
                self._host.persist(
                    lambda: self._host.database.record_steps(self.record.id, self.record.epoch, self._kept)
                )
            except Unwind as signal:
                self._left = signal
                raise
            self._kept = []

    def store_what_lingers(self) -> None:
        """Store what is kept and mark the bodies that run; called by the background loop, on its thread."""
        if not self._keeping.acquire(blocking=False):
            return  # the run is storing right now
        try:
            if not self.is_active or not (self._kept or self._started):
                return
            steps = [*self._kept, *self._started.values()]
            self._host.database.record_steps(
                self.record.id, self.record.epoch, steps, current_activity=self.current_activity
            )
            self._kept = []
            self._started.clear()  # marked once is enough
        except ClaimLostError as lost:
            _logger.debug("%s", lost)
            self._left = self._left or Unwind()
        finally:
            self._keeping.release()


class ActivityScope:
    """What stands around an activity's body: calls in here are plain calls."""

    __slots__ = ("_prepared", "_run")

    is_workflow = False

    def __init__(self, run: WorkflowRun, prepared: PreparedBody) -> None:
        self._run = run
        self._prepared = prepared

    @property
    def is_active(self) -> bool:
        """See ``Scope``."""
        return self._run.is_active

    def call_activity(self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any) -> Any:
        """See ``Scope``: a plain call."""
        if function is None:
            function = self._run._host.registry.get_activity(name)  # noqa: SLF001 - one module's two classes
        return function(*args, **kwargs)

    def submit_activity(
        self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any
    ) -> DurableFuture[Any]:
        """See ``Scope``: a plain call, made at once."""
        return DurableFuture.of_call(self.call_activity, name, function, args, kwargs)

    def unwind(self) -> NoReturn:
        """See ``Scope``."""
        self._run.unwind()

    def next_effect_id(self) -> str:
        """See ``Scope``: an activity's effects are not replayed, so any fresh id will do."""
        return new_workflow_id()

    def info(self) -> ActivityInfo:
        """See ``Scope``."""
        record = self._run.record
        return ActivityInfo(
            workflow_id=record.id,
            workflow_name=record.name,
            name=self._prepared.name,
            sequence=self._prepared.sequence,
            idempotency_key=f"{record.id}:{self._prepared.sequence}",
        )


def _non_determinism(mismatch: Mismatch) -> NonDeterminismError:
    return NonDeterminismError(mismatch.message, mismatch.sequence, mismatch.recorded, mismatch.called)
