"""The records that the library stores. Plain data: no input or output, no threads, no clock.

Two families live here. ``WorkflowInstance`` and ``ActivityExecution`` are 1.0.2's records; a database manager written
against 1.0.2 builds and reads them, so they stay mutable, with their nine fields in their order, and hold values as
plain JSON data. ``WorkflowRecord``, ``StepRecord`` and ``StepOutcome`` are what the engine works with: immutable, and
with payloads as the serializer's text, so that a payload passes through a backend untouched. The two step records are
named tuples, not dataclasses: a replay makes one for each stored step, and a tuple costs a fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

__all__ = [
    "ActivityExecution",
    "ActivityStatus",
    "StepOutcome",
    "StepRecord",
    "WorkflowEnd",
    "WorkflowInstance",
    "WorkflowRecord",
    "WorkflowStatus",
]


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


@dataclass
class WorkflowInstance:
    """A workflow as 1.0.2's seven storage methods see it.

    ``input_data`` and ``output_data`` are plain JSON data; values that JSON lacks stand in their tagged form.
    """

    id: str
    name: str
    status: WorkflowStatus
    input_data: dict[str, Any]
    output_data: Any
    current_activity: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime


@dataclass
class ActivityExecution:
    """One activity's run as 1.0.2's seven storage methods see it."""

    id: str
    workflow_id: str
    activity_name: str
    input_data: dict[str, Any]
    output_data: Any
    status: str
    error_message: str | None
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """A workflow as the engine stores it.

    Attributes:
        id: The run's id.
        name: The workflow's registered name.
        status: Where it stands.
        input: The arguments, as the serializer's text.
        output: The result, as the serializer's text; ``None`` until done.
        error: The failure document, as JSON text; ``None`` unless failed.
        error_message: The failure's text, as 1.0.2 shows it.
        current_activity: The name of the activity last seen running.
        owner: The orchestrator that claimed it; ``None`` when nobody has.
        epoch: How often it has been claimed: the fencing token of every write.
        created_at: When it was stored; aware, UTC.
        updated_at: When it last changed; aware, UTC.
    """

    id: str
    name: str
    status: WorkflowStatus
    input: str
    output: str | None = None
    error: str | None = None
    error_message: str | None = None
    current_activity: str | None = None
    owner: str | None = None
    epoch: int = 0
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowEnd:
    """How a run ended, with its last steps: what one commit stores.

    Attributes:
        status: A final status.
        output: The result, as the serializer's text; ``None`` unless done.
        error: The failure document, as JSON text; ``None`` unless failed.
        error_message: The failure's text.
        current_activity: The activity that it failed in; ``None`` when done.
        steps: The steps that were not stored yet.
        finished_at: When it ended; aware, UTC.
    """

    status: WorkflowStatus
    output: str | None = None
    error: str | None = None
    error_message: str | None = None
    current_activity: str | None = None
    steps: tuple[StepRecord, ...] = ()
    finished_at: datetime


class StepOutcome(NamedTuple):
    """What a replay needs of one recorded call; fields as in ``StepRecord``."""

    sequence: int
    kind: str
    name: str
    status: str
    output: str | None
    error: str | None


class StepRecord(NamedTuple):
    """One recorded call of a workflow, whole.

    Attributes:
        sequence: The call's ordinal in its workflow, from 0. Calls that 1.0.2 recorded have negative ordinals.
        kind: What was called: ``activity``.
        name: The registered name that was called.
        status: One of ``ActivityStatus``, as text.
        input: The arguments, as the serializer's text.
        output: The result, as the serializer's text; ``None`` unless completed.
        error: The failure document, as JSON text; ``None`` unless failed.
        error_message: The failure's text.
        started_at: When its body started; aware, UTC.
        completed_at: When it ended; aware, UTC; ``None`` while running.
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

    @property
    def outcome(self) -> StepOutcome:
        """What a replay needs of it."""
        return StepOutcome(self.sequence, self.kind, self.name, self.status, self.output, self.error)


def __getattr__(name: str) -> Any:
    """Resolve 1.0.2's alias ``models.DatabaseManager``, the one import upwards, late and by name."""
    if name == "DatabaseManager":
        from importlib import import_module

        return import_module("py_orchestrate.db_manager.sqlite").SQLiteDatabaseManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
