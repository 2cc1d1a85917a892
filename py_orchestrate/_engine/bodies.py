"""Running one activity's body: arguments in, a record out.

What goes in and what comes out are decoded copies of what is stored, so neither the workflow nor the activity can
change the other's objects, and a replay hands out the very same value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .._clock import Clock
from .._context import Scope, Unwind, reset_scope, set_scope
from .._failures import NO_FAILURE, Failure, annotated_failure, decode_failure, encode_failure
from .._forks import call_containing_forks
from .._futures import DurableFuture
from .._options import NO_OPTIONS, ActivityOptions
from .._registry import Definition, WorkflowRegistry
from ..errors import SerializationError
from ..models import ActivityStatus, StepOutcome, StepRecord
from ..serialization import Serializer
from .calls import Call
from .time_limits import Limits, Pulse, run_limited

if TYPE_CHECKING:
    from .executors import Leaver


class LimitedScope(Scope, Protocol):
    """The scope of a body that may be run under time limits."""

    pulse: Pulse


class Body(NamedTuple):
    """One call that is to run.

    Attributes:
        sequence: The call's ordinal.
        name: The activity's name.
        args: Its positional arguments, still the workflow's own objects.
        kwargs: Its keyword arguments, likewise.
        options: Options of this call; ``None`` for those that the activity is registered with.
        step: What is recorded of earlier attempts.
    """

    sequence: int
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: ActivityOptions | None = None
    step: StepOutcome | None = None


class Outcome(NamedTuple):
    """What one attempt came to: the record to store, and what the workflow gets.

    Attributes:
        record: The record.
        value: The result, as it was stored.
        error: The exception to raise, as it was stored.
        raised: The exception itself, as the activity raised it.
        first_at: When the first attempt began.
        may_be_retried: Whether another attempt could come to something else.
        is_stored: Whether the record is stored already.
    """

    record: StepRecord
    value: Any
    error: BaseException | None
    raised: BaseException | None
    first_at: datetime
    may_be_retried: bool
    is_stored: bool = False


class PreparedBody(NamedTuple):
    """A body whose arguments are fixed: encoded, and decoded again for the activity.

    Attributes:
        call: The call that it is the body of.
        definition: The activity; ``None`` if the call has failed before it began.
        arguments: The activity's own copy of the arguments.
        error: Why the call has failed before it began.
        options: How it is run.
        attempt: Which attempt it is, from 1.
        first_at: When the first attempt began; ``None`` if this is the first.
        due: When this attempt is due; ``None`` for now.
    """

    call: Call
    definition: Definition | None
    arguments: dict[str, Any]
    error: BaseException | None
    options: ActivityOptions = NO_OPTIONS
    attempt: int = 1
    first_at: datetime | None = None
    due: datetime | None = None

    def record(
        self,
        status: ActivityStatus,
        started_at: datetime,
        completed_at: datetime | None,
        *,
        output: str | None = None,
        failure: Failure = NO_FAILURE,
    ) -> StepRecord:
        """Return the record of what this attempt has come to."""
        state: dict[str, Any] | None = None
        if self.first_at is not None:
            state = {"attempt": self.attempt, "first_at": self.first_at.isoformat()}
        return self.call.step(
            status, self.first_at or started_at, completed_at, output=output, failure=failure, state=state
        )

    def followed_by(self, outcome: Outcome, due: datetime) -> tuple[PreparedBody, StepRecord]:
        """Return the next attempt, and the record that says of this one that it failed and is followed by that."""
        following = self._replace(attempt=self.attempt + 1, first_at=outcome.first_at, due=due)
        state = {"attempt": following.attempt, "first_at": outcome.first_at.isoformat(), "due": due.isoformat()}
        record = outcome.record._replace(
            status=ActivityStatus.RETRYING.value, completed_at=None, state=json.dumps(state)
        )
        return following, record


class BodyRunner:
    """Prepares and runs bodies with the engine's registry, serializer, clock and event loop."""

    def __init__(
        self,
        registry: WorkflowRegistry,
        serializer: Serializer,
        clock: Clock,
        await_coroutine: Callable[..., Any],
        leaver: Leaver,
    ) -> None:
        self._registry = registry
        self._serializer = serializer
        self._clock = clock
        self._await = await_coroutine
        self._leaver = leaver

    def prepare(self, body: Body) -> PreparedBody:
        """Resolve the name and fix the arguments, in the workflow's thread, at the moment of the call."""
        try:
            definition = self._registry.activity_definition(body.name)
            arguments = definition.bind(body.args, body.kwargs)
            text, copy = self._serializer.encode(
                arguments, what=f"argument of activity {body.name!r}", types=definition.types
            )
        except Exception as error:  # noqa: BLE001 - recorded as the call's failure
            return PreparedBody(Call(body.sequence, "activity", body.name, "{}"), None, {}, error)
        options = definition.options if body.options is None else body.options
        call = Call(body.sequence, "activity", body.name, text, definition.options.version)
        prepared = PreparedBody(call, definition, copy, None, options)
        if body.step is None or body.step.state is None:
            return prepared
        state = json.loads(body.step.state)
        due = state.get("due")
        return prepared._replace(
            attempt=state["attempt"],
            first_at=datetime.fromisoformat(state["first_at"]),
            due=None if due is None else datetime.fromisoformat(due),
        )

    def run(self, prepared: PreparedBody, scope: LimitedScope, started_at: datetime, *first: Any) -> Outcome:
        """Run the body once inside ``scope`` and return what it came to; never raises because of the body.

        Args:
            prepared: The body.
            scope: What stands around it.
            started_at: The time.
            first: Arguments that are not stored, before those that are.
        """
        first_at = prepared.first_at or started_at
        if prepared.definition is None:
            assert prepared.error is not None  # noqa: S101 - prepare() sets one of the two
            return self.failed(prepared, first_at, prepared.error, may_be_retried=False)
        returned = False
        try:
            result = self._call(prepared, prepared.definition, scope, first)
            returned = True
            text, value = self._encode(prepared.definition, result)
        except Unwind:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like fail the activity, not the process
            return self.failed(prepared, first_at, error, may_be_retried=not returned)
        record = prepared.record(ActivityStatus.COMPLETED, first_at, self._clock.now(), output=text)
        return Outcome(record, value, None, None, first_at, may_be_retried=False)

    def concluded(self, prepared: PreparedBody, outcome: Outcome) -> Outcome:
        """Return the outcome of the last attempt: under a retry policy, a failure is final then, and says so."""
        if outcome.raised is None or prepared.options.retry is None or prepared.definition is None:
            return outcome
        record, error = outcome.record, outcome.error
        failure = Failure(record.error, record.error_message)
        if prepared.attempt > 1:
            failure = annotated_failure(failure, f"failed after {prepared.attempt} attempts")
            error = decode_failure(failure.document, failure.message, self._serializer)
        state = json.dumps({"attempt": prepared.attempt})
        return outcome._replace(record=record._replace(error=failure.document, state=state), error=error)

    def _call(self, prepared: PreparedBody, definition: Definition, scope: LimitedScope, first: tuple[Any, ...]) -> Any:
        token = set_scope(scope)
        try:
            if not prepared.options.limits_time:
                return self._call_unlimited(prepared, definition, scope, first)
            return self._call_limited(prepared, definition, scope)
        finally:
            reset_scope(token)

    def _call_unlimited(
        self,
        prepared: PreparedBody,
        definition: Definition,
        scope: LimitedScope,
        first: tuple[Any, ...],
        on_start: Callable[[Callable[[], object]], object] | None = None,
    ) -> Any:
        executor = prepared.options.executor
        if executor is not None:
            from .executors import run_on_executor  # with pickle, which others need not load

            return run_on_executor(
                executor,
                definition,
                prepared.arguments,
                scope.info(),
                on_start=on_start or _ignore,
                leaver=self._leaver,
                unwind=scope.unwind,
            )
        result = call_containing_forks(definition.call, prepared.arguments, *first)
        return self._await(result, on_start) if definition.is_async else result

    def _call_limited(self, prepared: PreparedBody, definition: Definition, scope: LimitedScope) -> Any:
        options = prepared.options
        left = options.total_timeout
        if left is not None and prepared.first_at is not None:
            left -= max(0.0, (self._clock.now() - prepared.first_at).total_seconds())
        limits = Limits(options.timeout, options.heartbeat_timeout, options.total_timeout, left)

        def body() -> Any:
            return self._call_unlimited(prepared, definition, scope, (), scope.pulse.can_be_ended_by)

        return run_limited(body, scope.pulse, self._clock, prepared.call.name, limits)

    def _encode(self, definition: Definition, result: Any) -> tuple[str, Any]:
        try:
            return self._serializer.encode(
                result, what=f"result of activity {definition.name!r}", types=definition.types
            )
        except SerializationError as error:
            raise better_error(result, f"activity {definition.name!r}", error) from None

    def failed(
        self, prepared: PreparedBody, first_at: datetime, error: BaseException, *, may_be_retried: bool
    ) -> Outcome:
        """Return the outcome of a body that came to an error."""
        failure = encode_failure(error, self._serializer)
        record = prepared.record(ActivityStatus.FAILED, first_at, self._clock.now(), failure=failure)
        decoded = decode_failure(failure.document, failure.message, self._serializer)
        return Outcome(record, None, decoded, error, first_at, may_be_retried)


def _ignore(_end: Callable[[], object]) -> None:
    """Take no note of what would end a body: it has no limit."""


def better_error(result: Any, what: str, error: SerializationError) -> SerializationError:
    """Return a clearer error where the result is work that was never done, and close it, lest Python warn."""
    import inspect  # takes long to import, and is seldom needed

    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    if isinstance(result, DurableFuture):
        return SerializationError(
            f"{what} returned a future, not what it comes to: return future.result(), or await it in an async workflow"
        )
    if inspect.iscoroutine(result):
        return SerializationError(
            f"{what} returned a coroutine that nobody awaited; declare it with async def, or await it"
        )
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return SerializationError(f"{what} returned a generator, which cannot be stored; return a list instead")
    return error
