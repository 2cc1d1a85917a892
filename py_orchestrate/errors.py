"""Every exception that the library raises, under one root.

::

    OrchestrateError
    ├── WorkflowNotFoundError      (also ValueError, LookupError)
    ├── ActivityNotFoundError      (also ValueError, LookupError)
    ├── DuplicateNameError         (also ValueError)
    ├── InvalidWorkflowIdError     (also ValueError)
    ├── WorkflowConflictError      (also ValueError)
    ├── ScheduleNotFoundError      (also LookupError)
    ├── SerializationError         (also TypeError)
    ├── NonDeterminismError        (also RuntimeError)
    ├── DurableCallError           (also RuntimeError)
    ├── ActivityError
    ├── ActivityTimeoutError       (also TimeoutError)
    ├── ActivityCancelledError
    ├── TransactionError
    ├── EventTimeoutError          (also TimeoutError)
    ├── WorkflowTimeoutError       (also TimeoutError)
    ├── WorkflowFailedError
    ├── WorkflowStateError         (also RuntimeError)
    ├── CompensationError
    ├── RecoveryLimitError
    ├── OrchestratorStateError     (also RuntimeError)
    ├── UnsupportedOperationError  (also NotImplementedError)
    └── StorageError
        ├── DatabaseVersionError
        └── ClaimLostError

Lookup errors are ``ValueError`` too because 1.0.2 raised ``ValueError`` for them. A wait that takes too long raises
the built-in ``TimeoutError``; wrong arguments of a workflow or an activity raise Python's own ``TypeError``.

Signals that unwind a workflow's thread are not errors: they derive from ``BaseException`` so that ``except Exception``
in user code cannot swallow them. One of them is public, ``WorkflowCancelled``, for code that cleans up after itself;
the other is in ``_context.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ActivityCancelledError",
    "ActivityError",
    "ActivityNotFoundError",
    "ActivityTimeoutError",
    "ClaimLostError",
    "CompensationError",
    "DatabaseVersionError",
    "DuplicateNameError",
    "DurableCallError",
    "EventTimeoutError",
    "InvalidWorkflowIdError",
    "NonDeterminismError",
    "OrchestrateError",
    "OrchestratorStateError",
    "RecoveryLimitError",
    "ScheduleNotFoundError",
    "SerializationError",
    "StorageError",
    "TransactionError",
    "UnsupportedOperationError",
    "WorkflowCancelled",
    "WorkflowConflictError",
    "WorkflowFailedError",
    "WorkflowNotFoundError",
    "WorkflowStateError",
    "WorkflowTimeoutError",
]


class OrchestrateError(Exception):
    """Root of every error that this library raises."""


def _not_found(kind: str, name: str, known: Iterable[str]) -> str:
    """Return 1.0.2's text, followed by close matches where there are any."""
    from difflib import get_close_matches  # nobody needs it who makes no mistake

    matches = get_close_matches(name, list(known), n=3)
    hint = f". Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
    return f"{kind} '{name}' not found{hint}"


class WorkflowNotFoundError(OrchestrateError, ValueError, LookupError):
    """No workflow is registered under the name, or none is stored under the id.

    Attributes:
        name: The name or id that was asked for.
    """

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(_not_found("Workflow", name, known))
        self.name = name


class ActivityNotFoundError(OrchestrateError, ValueError, LookupError):
    """No activity is registered under the name.

    Attributes:
        name: The name that was asked for.
    """

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(_not_found("Activity", name, known))
        self.name = name


class DuplicateNameError(OrchestrateError, ValueError):
    """Two source files claim one workflow or activity name."""


class InvalidWorkflowIdError(OrchestrateError, ValueError):
    """A workflow id is empty, too long, or has a character that some backend cannot store."""


class ScheduleNotFoundError(OrchestrateError, LookupError):
    """No schedule has the id.

    Attributes:
        schedule_id: The id that was asked for.
    """

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"Schedule '{schedule_id}' not found")
        self.schedule_id = schedule_id


class WorkflowConflictError(OrchestrateError, ValueError):
    """The id or the deduplication key belongs to a run with another name or other arguments.

    Attributes:
        workflow_id: The id of that run.
    """

    def __init__(self, message: str, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


class SerializationError(OrchestrateError, TypeError):
    """A value cannot be stored faithfully, or a stored value cannot be read.

    The message names what the value was, where inside it the fault lies, and the type found there; it never holds the
    value itself.

    Attributes:
        path: Where inside the value, for example ``$.items[3]``; ``$`` is the value itself.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class NonDeterminismError(OrchestrateError, RuntimeError):
    """The workflow's code no longer makes the calls that its history recorded.

    Attributes:
        sequence: The call's ordinal in the workflow, from 0.
        recorded: What the history holds there, or ``None``.
        called: What the code called there, or ``None``.
    """

    def __init__(
        self, message: str, sequence: int = -1, recorded: str | None = None, called: str | None = None
    ) -> None:
        super().__init__(message)
        self.sequence = sequence
        self.recorded = recorded
        self.called = called


class DurableCallError(OrchestrateError, RuntimeError):
    """A durable call was made where it cannot be recorded, such as in a thread that a workflow started."""


class ActivityError(OrchestrateError):
    """An activity failed and its own exception class cannot be rebuilt here.

    Attributes:
        type_name: The class of the original exception, ``module:qualname``.
        message: Its text.
        traceback_text: Its formatted traceback, shortened in the middle where long.
    """

    def __init__(self, message: str, type_name: str = "", traceback_text: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.type_name = type_name
        self.traceback_text = traceback_text


class ActivityTimeoutError(OrchestrateError, TimeoutError):
    """An attempt of an activity took too long, or gave no sign of life for too long.

    Its thread cannot be ended from outside; whatever it still returns or raises is not recorded.
    """


class ActivityCancelledError(OrchestrateError):
    """Raised by ``durable.heartbeat()`` in an activity that is to end: it timed out, or its workflow is cancelled."""


class TransactionError(OrchestrateError):
    """A transactional activity has returned, but what it wrote cannot be committed; nothing of it is stored.

    Either SQLite had rolled it back meanwhile, or it breaks a rule that is checked at the end, as foreign keys may be.
    """


class EventTimeoutError(OrchestrateError, TimeoutError):
    """No event of the name was sent before the wait for it was over."""


class WorkflowTimeoutError(OrchestrateError, TimeoutError):
    """The workflow was not done within the time that it was started with."""


class CompensationError(OrchestrateError):
    """A saga was undone, but not wholly: some of its compensations failed.

    The failure for which it was undone is the ``__cause__``.

    Attributes:
        failures: The failed compensations, in the order in which they ran, as ``name: error`` texts.
    """

    def __init__(self, message: str, failures: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.failures = list(failures)


class WorkflowStateError(OrchestrateError, RuntimeError):
    """The run's status does not allow what was asked; nothing was changed.

    Attributes:
        workflow_id: The run.
        status: Its status.
    """

    def __init__(self, message: str, workflow_id: str, status: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.status = status


class WorkflowCancelled(BaseException):
    """Raised by a workflow's next durable call after it was cancelled, or ran out of its time.

    From then on every durable call raises it again, but for those in a ``durable.shield()`` block, where the workflow
    may undo what it did. Derives from ``BaseException``, as ``asyncio.CancelledError`` does, so that ``except
    Exception`` does not take it for a failure. A workflow that catches it still ends as cancelled.

    Attributes:
        reason: ``"request"`` if somebody cancelled the workflow, ``"timeout"`` if it ran out of its time.
    """

    def __init__(self, message: str = "the workflow is cancelled", reason: str = "request") -> None:
        super().__init__(message)
        self.reason = reason


class WorkflowFailedError(OrchestrateError):
    """A workflow that was waited for did not end as ``done``.

    Where the original exception can be rebuilt, it is the ``__cause__``.

    Attributes:
        workflow_id: The run.
        status: How it ended: ``failed``, ``cancelled``.
        type_name: The class of the exception that ended it, ``module:qualname``; empty where unknown.
        message: Its text.
        traceback_text: Its formatted traceback; empty where unknown.
    """

    def __init__(
        self, workflow_id: str, status: str, message: str, type_name: str = "", traceback_text: str = ""
    ) -> None:
        super().__init__(f"workflow {workflow_id} ended as {status}: {message}")
        self.workflow_id = workflow_id
        self.status = status
        self.message = message
        self.type_name = type_name
        self.traceback_text = traceback_text


class OrchestratorStateError(OrchestrateError, RuntimeError):
    """The orchestrator is stopped, the program is ending, or it was started before a fork and used in the child."""


class UnsupportedOperationError(OrchestrateError, NotImplementedError):
    """The database manager cannot do what was asked."""


class StorageError(OrchestrateError):
    """The database could not be opened, read or written."""


class DatabaseVersionError(StorageError):
    """The database was written by a newer version, or is no database of this library."""


class RecoveryLimitError(OrchestrateError):
    """What a run fails with whose orchestrator died with it, time and again.

    Attributes:
        workflow_id: The run.
        crashes: How often, without a step of it having ended in between.
    """

    def __init__(self, workflow_id: str, crashes: int, last_step: tuple[int, str] | None) -> None:
        where = "before its first step" if last_step is None else f"in or after step {last_step[0]} ({last_step[1]})"
        super().__init__(
            f"the process that ran workflow {workflow_id} has died {crashes} times in a row, {where}: the run is set "
            "aside; rewind_workflow() lets it try again"
        )
        self.workflow_id = workflow_id
        self.crashes = crashes


class ClaimLostError(StorageError):
    """A write of history was refused because the run is no longer claimed with this epoch.

    Attributes:
        workflow_id: The run.
        epoch: The epoch under which the write was tried.
    """

    def __init__(self, workflow_id: str, epoch: int) -> None:
        super().__init__(
            f"the claim on workflow {workflow_id} with epoch {epoch} is no longer held; nothing was written"
        )
        self.workflow_id = workflow_id
        self.epoch = epoch
