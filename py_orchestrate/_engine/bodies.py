"""Running one activity's body: arguments in, a record out.

What goes in and what comes out are decoded copies of what is stored, so neither the workflow nor the activity can
change the other's objects, and a replay hands out the very same value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from .._clock import Clock
from .._context import Scope, Unwind, reset_scope, set_scope
from .._failures import Failure, decode_failure, encode_failure
from .._registry import Definition, WorkflowRegistry
from ..errors import SerializationError
from ..models import ActivityStatus, StepRecord
from ..serialization import Serializer

_COMPLETED = ActivityStatus.COMPLETED.value
_FAILED = ActivityStatus.FAILED.value


class Body(NamedTuple):
    """One call that is to run.

    Attributes:
        sequence: The call's ordinal.
        name: The activity's name.
        args: Its positional arguments, still the workflow's own objects.
        kwargs: Its keyword arguments, likewise.
    """

    sequence: int
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Outcome(NamedTuple):
    """What a body came to: the record to store, and what the workflow gets."""

    record: StepRecord
    value: Any
    error: BaseException | None


class PreparedBody(NamedTuple):
    """A body whose arguments are fixed: encoded, and decoded again for the activity."""

    sequence: int
    name: str
    definition: Definition | None
    input: str
    arguments: dict[str, Any]
    error: BaseException | None

    def record(
        self,
        status: str,
        started_at: datetime,
        completed_at: datetime | None,
        output: str | None = None,
        failure: Failure | None = None,
    ) -> StepRecord:
        """Return the record of this body with what it has come to."""
        document, message = (None, None) if failure is None else failure
        return StepRecord(
            self.sequence,
            "activity",
            self.name,
            status,
            self.input,
            output,
            document,
            message,
            started_at,
            completed_at,
        )


class BodyRunner:
    """Prepares and runs bodies with the engine's registry, serializer, clock and event loop."""

    def __init__(
        self,
        registry: WorkflowRegistry,
        serializer: Serializer,
        clock: Clock,
        await_coroutine: Callable[[Any], Any],
    ) -> None:
        self._registry = registry
        self._serializer = serializer
        self._clock = clock
        self._await = await_coroutine

    def prepare(self, body: Body) -> PreparedBody:
        """Resolve the name and fix the arguments, in the workflow's thread, at the moment of the call."""
        try:
            definition = self._registry.activity_definition(body.name)
            arguments = definition.bind(body.args, body.kwargs)
            text, copy = self._serializer.encode(
                arguments, what=f"argument of activity {body.name!r}", types=definition.types
            )
        except Exception as error:  # noqa: BLE001 - recorded as the call's failure
            return PreparedBody(body.sequence, body.name, None, "{}", {}, error)
        return PreparedBody(body.sequence, body.name, definition, text, copy, None)

    def run(self, prepared: PreparedBody, scope: Scope) -> Outcome:
        """Run the body inside ``scope`` and return what it came to; never raises because of the body."""
        started_at = self._clock.now()
        if prepared.definition is None:
            assert prepared.error is not None  # noqa: S101 - prepare() sets one of the two
            return self._failed(prepared, started_at, prepared.error)
        try:
            result = self._call(prepared.definition, prepared.arguments, scope)
            text, value = self._encode(prepared.definition, result)
        except Unwind:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like fail the activity, not the process
            return self._failed(prepared, started_at, error)
        return Outcome(prepared.record(_COMPLETED, started_at, self._clock.now(), output=text), value, None)

    def _call(self, definition: Definition, arguments: dict[str, Any], scope: Scope) -> Any:
        token = set_scope(scope)
        try:
            result = definition.call(arguments)
            return self._await(result) if definition.is_async else result
        finally:
            reset_scope(token)

    def _encode(self, definition: Definition, result: Any) -> tuple[str, Any]:
        try:
            return self._serializer.encode(
                result, what=f"result of activity {definition.name!r}", types=definition.types
            )
        except SerializationError as error:
            raise better_error(result, f"activity {definition.name!r}", error) from None

    def _failed(self, prepared: PreparedBody, started_at: datetime, error: BaseException) -> Outcome:
        failure = encode_failure(error, self._serializer)
        record = prepared.record(_FAILED, started_at, self._clock.now(), failure=failure)
        return Outcome(record, None, decode_failure(failure.document, failure.message, self._serializer))


def better_error(result: Any, what: str, error: SerializationError) -> SerializationError:
    """Return a clearer error where the result is work that was never done, and close it, lest Python warn."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    if inspect.isawaitable(result):
        return SerializationError(
            f"{what} returned a coroutine that nobody awaited; declare it with async def, or await it"
        )
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return SerializationError(f"{what} returned a generator, which cannot be stored; return a list instead")
    return error
