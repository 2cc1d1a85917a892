"""One attempt of one workflow, on the calling thread.

The run is the scope that its workflow's durable calls find. It hands them to its parts: what is recorded to the journal
(``journal.py``), calls of activities to ``activities.py``, waits to ``waits.py``; what stops a call is decided in
``interrupts.py``. When the code has ended, or has to leave, the run stores that, in one commit with its last steps.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .._context import Unwind, set_scope
from .._failures import Failure, encode_failure, user_traceback
from .._forks import call_containing_forks
from .._futures import DurableFuture, Pending
from .._options import ActivityOptions, RunOptions
from .._registry import Definition
from .._signatures import is_coroutine_function
from .._times import later, seconds_of
from ..durable import WorkflowInfo
from ..errors import RecoveryLimitError, SerializationError, WorkflowCancelled
from ..models import (
    NEVER,
    ControlRequest,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)
from .activities import ActivityCalls, ActivityHost
from .bodies import better_error
from .calls import Call
from .children import Children
from .choices import Choices
from .effects import Effects
from .interrupts import Interrupts
from .journal import Journal, non_determinism
from .values import Values
from .waits import WaitHost, Waits

if TYPE_CHECKING:
    from .event_loop import WorkflowLoop

_logger = logging.getLogger(__name__)


class RunHost(ActivityHost, WaitHost, Protocol):
    """What a run needs of the engine around it."""

    max_recoveries: int | None

    def finish(self, record: WorkflowRecord, end: WorkflowEnd) -> WorkflowRecord | None:
        """Store the run's end; return another run to go on with, if one was claimed in the same breath."""
        ...

    def suspend(self, record: WorkflowRecord, suspension: WorkflowSuspension) -> WorkflowRecord | None:
        """Store what the run waits for; return another run to go on with, as above."""
        ...

    def begin_anew(self, record: WorkflowRecord, continuation: WorkflowContinuation) -> WorkflowRecord | None:
        """Store what the run begins anew with; return another run to go on with, as above."""
        ...


class WorkflowRun:
    """One attempt of one workflow; the scope of its code."""

    is_workflow = True

    def __init__(self, host: RunHost, record: WorkflowRecord, *, is_new: bool) -> None:
        """Prepare to run ``record``, which is claimed; ``is_new`` promises that nothing is recorded yet."""
        self._host = host
        self.record = record
        self._is_new = is_new
        self.journal = Journal(host, record)
        self._interrupts = Interrupts(host, self.journal)
        self._activities = ActivityCalls(host, self.journal, self._interrupts)
        self._loop: WorkflowLoop | None = None

    # What few runs need.

    @functools.cached_property
    def _waits(self) -> Waits:
        return Waits(self._host, self.journal, self._interrupts)

    @functools.cached_property
    def _children(self) -> Children:
        return Children(self._host, self.journal, self._interrupts)

    @functools.cached_property
    def _choices(self) -> Choices:
        return Choices(self._host, self.journal, self._interrupts, self._activities.something_ended)

    @functools.cached_property
    def _effects(self) -> Effects:
        return Effects(self._host, self.journal, self._interrupts)

    @functools.cached_property
    def _values(self) -> Values:
        return Values(self._host, self.journal, self._interrupts)

    # --- the attempt ------------------------------------------------------------------------------------------------

    def execute(self) -> WorkflowRecord | None:
        """Run the workflow's code until it ends or has to leave; return the run claimed in its place, if any."""
        try:
            try:
                end = self._attempt()
            finally:
                self.journal.close()
            if isinstance(end, WorkflowSuspension):
                return self._host.suspend(self.record, end)
            if isinstance(end, WorkflowContinuation):
                return self._host.begin_anew(self.record, end)
            return self._host.finish(self.record, end)
        except Unwind:
            self.journal.hand_back()
        except Exception:  # a store or a log handler of the user's that raises what it should not
            self.journal.hand_back()
            _logger.exception("workflow %r (%s) is handed back and tried again", self.record.name, self.record.id)
        return None

    def _attempt(self) -> WorkflowEnd | WorkflowSuspension | WorkflowContinuation:
        if not self._is_new:
            self.journal.load()
        limit, crashes = self._host.max_recoveries, self.record.crashes
        if limit is not None and crashes > limit:
            last = self.journal.history.last_step
            place = None if last is None else (last.sequence, last.name)
            return self._ended(None, RecoveryLimitError(self.record.id, crashes, place))
        has_begun = self.record.generation > 0 or not self.journal.history.is_empty
        if self._interrupts.is_cancellation_wanted and not has_begun:
            self._interrupts.raised = self._interrupts.cancellation()  # there is nothing to undo
            return self._ended(None, None)
        error: BaseException | None = None
        output: str | None = None
        next_attempt: datetime | None = None
        try:
            output = contextvars.copy_context().run(self._run_code)
        except BaseException as raised:  # noqa: BLE001 - SystemExit and the like fail the run, not the process
            error = raised
        finally:
            next_attempt = self._activities.wait_for_submitted()
        if self.journal.left is not None:
            # The code caught the signal or the fatal error that it was left with; what it did after that counts for
            # nothing.
            error = self.journal.left
        begins_anew = isinstance(error, Unwind) and self._interrupts.new_input is not None
        if isinstance(error, Unwind) and not begins_anew:
            if not self._interrupts.waits:
                raise error
            return self._suspension(next_attempt)
        if next_attempt is not None and self._interrupts.raised is None:
            # A submitted activity is still to be tried again: the end is not the end yet.
            if self._interrupts.is_cancellation_wanted:
                self._interrupts.raised = self._interrupts.cancellation()
                return self._ended(output, error)
            self._interrupts.wake_at = NEVER
            return self._suspension(next_attempt)
        return self._continuation() if begins_anew else self._ended(output, error)

    def _continuation(self) -> WorkflowContinuation:
        rest = self.journal.take()
        assert self._interrupts.new_input is not None  # noqa: S101 - or the run would not begin anew
        return WorkflowContinuation(
            input=self._interrupts.new_input,
            taken=self._waits.taken_events(),
            children=rest["children"],
            custom_status=rest["custom_status"],
            version=self._host.registry.workflow_definition(self.record.name).version,
            continued_at=self._host.clock.now(),
        )

    def _run_code(self) -> str:
        set_scope(self)  # in a context of its own, so there is nothing to take back
        definition = self._host.registry.workflow_definition(self.record.name)
        arguments = self._host.serializer.decode(self.record.input, types=definition.types)
        return self._encode_result(definition, call_containing_forks(self._call, definition, arguments))

    def _call(self, definition: Definition, arguments: dict[str, Any]) -> Any:
        result = definition.call(arguments)
        return self._loop_of_its_own().run(result) if definition.is_async else result

    def _loop_of_its_own(self) -> WorkflowLoop:
        from .event_loop import WorkflowLoop  # asyncio is half of this package's import time

        self._loop = WorkflowLoop(self, self._interrupts)  # type: ignore[abstract]  # what it lacks, it refuses
        return self._loop

    def _encode_result(self, definition: Definition, result: Any) -> str:
        what = f"workflow {definition.name!r}"
        try:
            return self._host.serializer.encode(result, what=f"result of {what}", types=definition.types)[0]
        except SerializationError as error:
            raise better_error(result, what, error) from None

    def _suspension(self, next_attempt: datetime | None) -> WorkflowSuspension:
        wake_at = self._interrupts.wake_at
        if wake_at is not None and next_attempt is not None:
            wake_at = min(wake_at, next_attempt)
        self._activities.settle_failures()
        return WorkflowSuspension(
            wake_at=wake_at,
            waiting_for=self._interrupts.waiting_for,
            signals=self.record.signals,
            suspended_at=self._host.clock.now(),
            **self.journal.take(),
        )

    def _ended(self, output: str | None, error: BaseException | None) -> WorkflowEnd:
        error = self._interrupts.verdict(error)
        if error is None and (leftover := self.journal.history.leftover(self.journal.sequence)):
            error = non_determinism(leftover)
        rest = self.journal.take()
        now = self._host.clock.now()
        if error is None:
            return WorkflowEnd(status=WorkflowStatus.DONE, output=output, finished_at=now, **rest)
        failure: Failure = encode_failure(
            error, self._host.serializer, step=self.journal.origin_of(error, self._activities.failed())
        )
        is_cancelled = isinstance(error, WorkflowCancelled) and error is self._interrupts.raised
        self.tell(error, failure, is_cancelled=is_cancelled)
        return WorkflowEnd(
            status=WorkflowStatus.CANCELLED if is_cancelled else WorkflowStatus.FAILED,
            error=failure.document,
            error_message=failure.message,
            current_activity=self.journal.current_activity,
            finished_at=now,
            **rest,
        )

    def tell(self, error: BaseException, failure: Failure, *, is_cancelled: bool) -> None:
        """Log how the run ended that was cancelled or has failed."""
        # A child's failure is its parent's to handle, or to fail with: each is told once, with its traceback.
        is_told_elsewhere = is_cancelled or self.record.parent_id is not None
        _logger.log(
            logging.INFO if is_told_elsewhere else logging.ERROR,
            "workflow %r (%s) %s: %s",
            self.record.name,
            self.record.id,
            "was cancelled" if is_cancelled else "failed",
            failure.message,
            exc_info=None if is_told_elsewhere else (type(error), error, user_traceback(error)),
            extra={
                "workflow_id": self.record.id,
                "workflow_name": self.record.name,
                "workflow_step": self.journal.sequence,
            },
        )

    # --- for the background loop and the engine -----------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """See ``Scope``."""
        return self.journal.is_active

    def abandon(self) -> None:
        """Let no call of this run be made in this process: it is a fork's child, and the run goes on in the parent."""
        self.journal.is_active = False

    @property
    def current_activity(self) -> str | None:
        """The activity that runs now."""
        return self.journal.current_activity

    def lose(self) -> None:
        """Let the run leave at its next durable call, if it makes one: others may go on with it; on any thread."""
        self.journal.seal(Unwind())
        self.rouse()

    def tend(self) -> None:
        """Store what lingers, and start the attempts that are due; called by the background loop, on its thread."""
        self.journal.store_what_lingers()
        self._activities.start_due()

    def notice(self, request: ControlRequest | None) -> None:
        """Take note of what was requested of the run; on any thread."""
        if self.journal.request is not ControlRequest.CANCEL:  # which cannot be withdrawn
            self.journal.request = request
        self.rouse()

    def rouse(self) -> None:
        """Let a run that waits on its thread look at what has changed; on any thread."""
        self._activities.something_ended.ring()

    # --- durable calls, from the workflow's code (see ``WorkflowScope``) ----------------------------------------------

    def call_activity(
        self,
        name: str,
        _function: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
        options: ActivityOptions | None = None,
    ) -> Any:
        """See ``Scope``. The function at hand does not count: the name decides."""
        return self._activities.call(name, args, kwargs, options)

    def submit_activity(
        self,
        name: str,
        _function: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
        options: ActivityOptions | None = None,
    ) -> DurableFuture[Any]:
        """See ``Scope``."""
        return self._activities.submit(name, args, kwargs, options)

    def submit_workflow(
        self, name: str, function: Callable[..., Any] | None, args: Any, kwargs: Any, options: RunOptions
    ) -> DurableFuture[Any]:
        """See ``WorkflowScope``."""
        if self.journal.history.has_legacy or not self._host.can_wait:
            # 1.0.2 recorded a nested workflow's steps as its caller's, and so does a store that has no children.
            function = function or self._host.registry.get_workflow(name)
            if is_coroutine_function(function):
                self._host.require_waiting("run async child workflows")
            return DurableFuture.of_call(function, *args, **kwargs)
        return DurableFuture.of_pending(self._children.start(name, args, kwargs, options))

    def timer(
        self, moment: Callable[[datetime], datetime], arguments: str, *, begin: bool = True
    ) -> DurableFuture[None]:
        """See ``WorkflowScope``."""
        self._host.require_waiting("keep timers")
        timer = self._waits.timer(moment, arguments)
        return DurableFuture.of_pending(timer.begin() if begin or self.is_async else timer)

    def expect_event(
        self, name: str, timeout: float | None, deadline_of: Callable[[datetime], datetime], *, begin: bool = True
    ) -> DurableFuture[Any]:
        """See ``WorkflowScope``."""
        self._host.require_waiting("keep events")
        event = self._waits.expected_event(name, timeout, deadline_of)
        return DurableFuture.of_pending(event.begin() if begin or self.is_async else event)

    def wait_any(self, pendings: Sequence[Pending | None]) -> int:
        """See ``WorkflowScope``."""
        return self._choices.first(pendings)

    @property
    def is_async(self) -> bool:
        """See ``Scope``."""
        return self._loop is not None

    def wait_async(self, pending: Pending) -> Generator[Any, None, Any]:
        """See ``WorkflowScope``."""
        assert self._loop is not None  # noqa: S101 - the caller has asked
        return self._loop.wait(pending)

    def is_outcome(self, error: BaseException) -> bool:
        """See ``WorkflowScope``."""
        return self.journal.has_raised(error)

    def loop_timer(self, seconds: float) -> Pending:
        """See ``LoopHost``."""
        seconds = seconds_of(seconds, "a delay of asyncio's")
        return self.timer(lambda now: later(now, seconds), json.dumps({"seconds": seconds})).pending  # type: ignore[return-value]

    def ended(self, candidates: Sequence[Pending]) -> list[int]:
        """See ``LoopHost``."""
        return self._choices.ended(candidates)

    def record_value(self, name: str, make: Callable[[], Any]) -> Any:
        """See ``WorkflowScope``."""
        return self._values.record(name, make)

    def continue_as_new(self, args: Any, kwargs: Any) -> NoReturn:
        """See ``WorkflowScope``. A step only where the run's cancellation is raised in it."""
        self._host.require_waiting("let runs begin anew")
        self._interrupts.guard()
        definition = self._host.registry.workflow_definition(self.record.name)
        what = f"argument of workflow {self.record.name!r}"
        arguments = definition.bind(args, kwargs)
        text, _ = self._host.serializer.encode(arguments, what=what, types=definition.types)
        sequence, step = self.journal.next("anew", "continue_as_new")
        if step is not None:
            self._interrupts.replay(step)
        self._interrupts.check(Call(sequence, "anew", "continue_as_new", text))
        if (leftover := self.journal.history.leftover(sequence)) is not None:
            self.journal.fail(non_determinism(leftover))
        self._interrupts.begin_anew(text)

    def patched(self, change_id: str, place: str) -> bool:
        """See ``WorkflowScope``."""
        return self._values.patched(change_id, place)

    def publish(self, value: Any) -> None:
        """See ``WorkflowScope``."""
        self._host.require_waiting("publish a custom status")
        self._interrupts.guard()
        text, _ = self._host.serializer.encode(value, what="custom status")
        self.journal.publish(text)

    def now(self) -> datetime:
        """See ``WorkflowScope``."""
        moment: datetime = self._values.record("now", self._host.clock.now)
        return moment

    def shield(self) -> contextlib.AbstractContextManager[None]:
        """See ``WorkflowScope``."""
        return self._interrupts.shield()

    def unwind(self) -> NoReturn:
        """See ``Scope``."""
        self.journal.unwind()

    def make_effect(
        self, kind: str, name: str, arguments: str, make: Callable[[Iterator[str]], Any], content: str | None = None
    ) -> Any:
        """See ``Scope``."""
        return self._effects.make(kind, name, arguments, make, content)

    def info(self) -> WorkflowInfo:
        """See ``Scope``."""
        return WorkflowInfo(
            workflow_id=self.record.id,
            name=self.record.name,
            version=self.record.version,
            attempt=self.record.epoch,
            sequence=self.journal.sequence,
            is_replaying=self.journal.is_replaying,
            scheduled_at=self.record.scheduled_at,
        )
