"""The records that the library stores. Plain data: no input or output, no threads, no clock.

They are immutable, and hold payloads as the serializer's text, so that a payload passes through a backend untouched.
They are named tuples, not dataclasses: a replay makes one for each stored step, and a tuple costs a fifth; a class of
them, which every program makes at its start, costs a third. ``WorkflowInstance`` and ``ActivityExecution``, 1.0.2's
records, are in ``_instances.py``.
"""

# No "from __future__ import annotations": NamedTuple would compile each of the strings.

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from ._instances import ActivityExecution, WorkflowInstance

__all__ = [
    "ANY_SIGNAL",
    "HISTORY_FORMAT",
    "NEVER",
    "ActivityExecution",
    "ActivityStatus",
    "ControlRequest",
    "EventRecord",
    "Outlook",
    "QueueRecord",
    "ScheduleRecord",
    "StepOutcome",
    "StepRecord",
    "WorkflowContinuation",
    "WorkflowEnd",
    "WorkflowInstance",
    "WorkflowRecord",
    "WorkflowStatus",
    "WorkflowSuspension",
]

NEVER = datetime.max.replace(tzinfo=UTC)
"""The ``wake_at`` of a run that only a signal wakes."""


ANY_SIGNAL = "any"
"""The ``waiting_for`` of a run that every signal wakes."""


HISTORY_FORMAT = "py_orchestrate.history/1"
"""What says of an exported history how it is read."""


class WorkflowStatus(str, Enum):  # noqa: UP042 - StrEnum would change str(), which 1.0.2's users may print
    """Where a workflow stands; compares equal to its text."""

    PROCESSING = "processing"
    """Stored; waiting for a worker, or running."""
    DONE = "done"
    """Ended with a result. Final."""
    FAILED = "failed"
    """Ended with an error. Final."""
    PAUSED = "paused"
    """Held by its user; no orchestrator claims it."""
    CANCELLED = "cancelled"
    """Ended at its user's wish. Final."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        known = ", ".join(repr(member.value) for member in cls)
        raise ValueError(f"there is no status {value!r}; it is one of {known}")

    @property
    def is_final(self) -> bool:
        """Whether a run with this status can never change again by itself."""
        return self in (WorkflowStatus.DONE, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)


class ActivityStatus(str, Enum):  # noqa: UP042 - as above
    """Where one recorded call stands; compares equal to its text."""

    RUNNING = "running"
    """Its body has started; informative only, a recovery runs it again."""
    COMPLETED = "completed"
    """Its result is stored and is what every replay returns."""
    FAILED = "failed"
    """Its exception is stored."""
    INTERRUPTED = "interrupted"
    """Was running when a 1.0.2 process ended; kept for its reader's information."""
    WAITING = "waiting"
    """A timer, an event or a child workflow that the run waits for; its ``state`` says what for."""
    RETRYING = "retrying"
    """An attempt has failed and another one follows; its ``state`` says which and when."""
    CANCELLED = "cancelled"
    """The workflow's cancellation was raised at this call, which did not run."""


_FINAL_STEPS = (ActivityStatus.COMPLETED.value, ActivityStatus.FAILED.value, ActivityStatus.CANCELLED.value)


class ControlRequest(str, Enum):  # noqa: UP042 - as above
    """What a run's user wants of it, until the run has noticed."""

    CANCEL = "cancel"
    PAUSE = "pause"


class StepOutcome(NamedTuple):
    """What a replay needs of one recorded call; fields as in ``StepRecord``."""

    sequence: int
    kind: str
    name: str
    status: str
    output: str | None
    error: str | None
    state: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the call has come to something: a result, a failure, or the workflow's cancellation."""
        return self.status in _FINAL_STEPS


class StepRecord(NamedTuple):
    """One recorded call of a workflow, whole.

    Attributes:
        sequence: The call's ordinal in its workflow, from 0. Calls that 1.0.2 recorded have negative ordinals.
        kind: What was called: ``activity``, ``timer``, ``event``, ``workflow``, ``choice``, ``value``, ``patch``,
            ``start``, ``send`` or ``anew``.
        name: The registered name that was called; of a timer ``sleep``, of an event its name, of a start the
            workflow's.
        status: One of ``ActivityStatus``, as text.
        input: The arguments, as the serializer's text.
        output: The result, as the serializer's text; ``None`` unless completed.
        error: The failure document, as JSON text; ``None`` unless failed.
        error_message: The failure's text.
        started_at: When its body started; aware, UTC.
        completed_at: When it ended; aware, UTC; ``None`` while running.
        state: What the engine has to know of it beside, as a JSON object: an activity's ``attempt``, when a timer is
            due, a child's id; ``None`` for nothing.
        version: The version of the activity's code; ``None`` where it has none.
    """

    sequence: int
    kind: str
    name: str
    status: str
    input: str
    output: str | None
    error: str | None
    error_message: str | None
    started_at: datetime
    completed_at: datetime | None
    state: str | None = None
    version: str | None = None

    @property
    def outcome(self) -> StepOutcome:
        """What a replay needs of it."""
        return StepOutcome(self.sequence, self.kind, self.name, self.status, self.output, self.error, self.state)


class WorkflowRecord(NamedTuple):
    """A workflow as the engine stores it.

    Attributes:
        id: The run's id.
        name: The workflow's registered name.
        status: Where it stands.
        input: The arguments, as the serializer's text.
        created_at: When it was stored; aware, UTC.
        updated_at: When it last changed; aware, UTC.
        output: The result, as the serializer's text; ``None`` until done.
        error: The failure document, as JSON text; ``None`` unless failed.
        error_message: The failure's text, as 1.0.2 shows it.
        current_activity: The name of the activity last seen running.
        owner: The orchestrator that claimed it; ``None`` when nobody has.
        epoch: How often it has been claimed: the fencing token of every write.
        parent_id: The run that called this one as a child workflow; ``None`` for one that a program started.
        wake_at: Not to be claimed before this time; ``NEVER`` where only a signal wakes it, ``None`` where it is ready.
        waiting_for: The signal that makes it ready: ``event:<name>``, ``workflow:<id>``, or ``ANY_SIGNAL``;
            ``None`` for none.
        signals: How many signals (events, ends of children, requests) have reached it; tells a run that is about to
            wait whether one came meanwhile.
        request: What its user wants of it and it has not noticed yet.
        deadline: When it is timed out; aware, UTC; ``None`` for never.
        custom_status: What the workflow has published of itself, as the serializer's text; ``None`` for nothing.
        generation: How often it has begun anew, with ``continue_as_new``.
        version: The version of the code that it began with, or began anew with; ``None`` where that has none.
        crashes: How often in a row an orchestrator has died with it, without a step of it having ended in between.
        queue: The queue that it is in; ``None`` for none.
        priority: Among those that are ready in its queue, the lowest goes first.
        deduplication_key: What no other run of its queue may have until this one has ended; ``None`` for nothing.
        scheduled_at: The time of its schedule that it was started for; ``None`` where no schedule started it.
    """

    id: str
    name: str
    status: WorkflowStatus
    input: str
    created_at: datetime
    updated_at: datetime
    output: str | None = None
    error: str | None = None
    error_message: str | None = None
    current_activity: str | None = None
    owner: str | None = None
    epoch: int = 0
    parent_id: str | None = None
    wake_at: datetime | None = None
    waiting_for: str | None = None
    signals: int = 0
    request: ControlRequest | None = None
    deadline: datetime | None = None
    custom_status: str | None = None
    generation: int = 0
    version: str | None = None
    crashes: int = 0
    queue: str | None = None
    priority: int = 0
    deduplication_key: str | None = None
    scheduled_at: datetime | None = None

    @property
    def stem(self) -> str:
        """What the ids of all that it creates begin with; another one in each generation."""
        return self.id if self.generation == 0 else f"{self.id}-g{self.generation}"


class EventRecord(NamedTuple):
    """One event that was sent to a run.

    Attributes:
        id: What makes it unique within the run: a second event with it is the same one.
        name: What the workflow waits for.
        payload: Its value, as the serializer's text.
        sent_at: When it was sent; aware, UTC.
        position: Its place among the run's events, from 1, in the order of arrival; 0 until it is stored.
    """

    id: str
    name: str
    payload: str
    sent_at: datetime
    position: int = 0


class WorkflowSuspension(NamedTuple):
    """How a run leaves its worker without having ended, with its last steps: what one commit stores.

    Attributes:
        signals: How many signals the run knew of when it decided to wait; where more have come, it is ready at once.
        suspended_at: When it left; aware, UTC.
        wake_at: When it is to go on: ``NEVER`` where only a signal wakes it, ``None`` where it may go on at once.
        waiting_for: The signal that makes it ready before that; see ``WorkflowRecord``.
        steps: The steps that were not stored yet.
        children: Runs to create with them.
        custom_status: What it publishes of itself; ``None`` leaves what is stored.
    """

    signals: int
    suspended_at: datetime
    wake_at: datetime | None = None
    waiting_for: str | None = None
    steps: tuple[StepRecord, ...] = ()
    children: tuple[WorkflowRecord, ...] = ()
    custom_status: str | None = None


class WorkflowContinuation(NamedTuple):
    """How a run begins anew, with other arguments and without its history: what one commit stores.

    Attributes:
        input: The new arguments, as the serializer's text.
        taken: The position of the last event that was taken, by the event's name; they are forgotten up to there.
        continued_at: When; aware, UTC.
        children: Runs to create with it.
        custom_status: What it publishes of itself; ``None`` leaves what is stored.
        version: The version of the code that it begins anew with.
    """

    input: str
    taken: Mapping[str, int]
    continued_at: datetime
    children: tuple[WorkflowRecord, ...] = ()
    custom_status: str | None = None
    version: str | None = None


class WorkflowEnd(NamedTuple):
    """How a run ended, with its last steps: what one commit stores.

    Attributes:
        status: A final status.
        finished_at: When it ended; aware, UTC.
        output: The result, as the serializer's text; ``None`` unless done.
        error: The failure document, as JSON text; ``None`` unless failed.
        error_message: The failure's text.
        current_activity: The activity that it failed in; ``None`` when done.
        steps: The steps that were not stored yet.
        children: Runs to create with them: child workflows that were started and not waited for.
        custom_status: What it publishes of itself; ``None`` leaves what is stored.
    """

    status: WorkflowStatus
    finished_at: datetime
    output: str | None = None
    error: str | None = None
    error_message: str | None = None
    current_activity: str | None = None
    steps: tuple[StepRecord, ...] = ()
    children: tuple[WorkflowRecord, ...] = ()
    custom_status: str | None = None


class Outlook(NamedTuple):
    """What an orchestrator that looks for work has to know.

    Attributes:
        ready: The names of the runs that are ready and nobody holds, in no queue or in one that has a place for it.
        wake_at: The earliest time that makes another one so; ``None`` where none does.
        unconsumed: The queues in which runs are ready, and that no orchestrator consumes.
        tick_at: The earliest time of a schedule; ``None`` where there is none.
    """

    ready: frozenset[str]
    wake_at: datetime | None
    unconsumed: frozenset[str] = frozenset()
    tick_at: datetime | None = None


class QueueRecord(NamedTuple):
    """How a queue stands.

    Attributes:
        name: Its name.
        ready: How many of its runs are ready and wait for a worker.
        running: How many a worker holds.
        consumers: How many orchestrators consume it.
    """

    name: str
    ready: int
    running: int
    consumers: int


class ScheduleRecord(NamedTuple):
    """A schedule as it is stored.

    Attributes:
        id: Its id.
        name: The workflow's registered name.
        input: The arguments, as the serializer's text.
        cron: The times, as a cron expression.
        timezone: The time zone that the expression is meant in; an IANA name.
        catch_up: What becomes of times that have passed while nobody looked: ``"none"``, ``"last"`` or ``"all"``.
        overlap: What becomes of a time while the run before has not ended: ``"skip"``, ``"queue"`` or ``"allow"``.
        created_at: When it was made; aware, UTC.
        updated_at: When its definition was changed or it was paused or resumed; aware, UTC.
        queue: The queue for its runs; ``None`` for none.
        priority: The priority of its runs.
        version: The version of the workflow's code; ``None`` where that has none.
        is_paused: Whether it stands still.
        next_at: The next time that has not been dealt with; aware, UTC; ``None`` where there will be none.
        waiting: Times that wait for the run before to end, in order.
        last_at: The last time that a run was started for.
        last_run_id: That run.
        revision: How often it was stored; each store names the revision before, so of several one succeeds.
    """

    id: str
    name: str
    input: str
    cron: str
    timezone: str
    catch_up: str
    overlap: str
    created_at: datetime
    updated_at: datetime
    queue: str | None = None
    priority: int = 0
    version: str | None = None
    is_paused: bool = False
    next_at: datetime | None = None
    waiting: tuple[datetime, ...] = ()
    last_at: datetime | None = None
    last_run_id: str | None = None
    revision: int = 1

    @property
    def due_at(self) -> datetime | None:
        """When somebody has to look at it; ``None`` for never."""
        if self.is_paused:
            return None
        return self.waiting[0] if self.waiting else self.next_at


_ELSEWHERE = {
    "ActivityExecution": "_instances.ActivityExecution",
    "DatabaseManager": "db_manager.sqlite.SQLiteDatabaseManager",  # 1.0.2's alias
    "WorkflowInstance": "_instances.WorkflowInstance",
}


def __getattr__(name: str) -> Any:
    """Resolve 1.0.2's names, the only imports upwards, late and by name."""
    if name in _ELSEWHERE:
        from importlib import import_module

        module, _, attribute = _ELSEWHERE[name].rpartition(".")
        return getattr(import_module(f"py_orchestrate.{module}"), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
