"""The orchestrator: the façade that programs use. It checks what it is given and hands it to the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ._clock import Clock, SystemClock
from ._context import current_scope
from ._engine.engine import Engine
from ._engine.exits import GRACE_SECONDS
from ._failures import decode_failure, summarize_failure
from ._identifiers import check_workflow_id, new_workflow_id
from .db_manager.base import BaseDatabaseManager
from .db_manager.sqlite import SQLiteDatabaseManager
from .decorators import get_registry
from .errors import WorkflowConflictError, WorkflowFailedError, WorkflowNotFoundError
from .models import StepRecord, WorkflowRecord, WorkflowStatus
from .serialization import JsonSerializer, Serializer

__all__ = ["Orchestrator", "WorkflowHandle"]

_FIRST_WAIT_SECONDS = 0.005
_LONGEST_WAIT_SECONDS = 0.5


class WorkflowHandle:
    """One run, as returned by ``Orchestrator.start_workflow``.

    Attributes:
        id: The run's id.
    """

    def __init__(self, orchestrator: Orchestrator, workflow_id: str) -> None:
        self._orchestrator = orchestrator
        self.id = workflow_id

    def status(self) -> dict[str, Any]:
        """Return the run's status; see ``Orchestrator.get_workflow_status``.

        Raises:
            WorkflowNotFoundError: The run has been deleted.
        """
        found = self._orchestrator.get_workflow_status(self.id)
        if found is None:
            raise WorkflowNotFoundError(self.id)
        return found

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the run to end; see ``Orchestrator.wait_for_workflow``."""
        return self._orchestrator.wait_for_workflow(self.id, timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the run to end and return its result.

        Args:
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            WorkflowFailedError: It failed or was cancelled.
        """
        return self._orchestrator._result(self.id, timeout)  # noqa: SLF001 - one module's two classes

    def __repr__(self) -> str:
        """Return the id."""
        return f"WorkflowHandle({self.id!r})"


class Orchestrator:
    """Runs workflows durably.

    Args:
        db_path: The SQLite file, used when ``db_manager`` is not given; made if it is not there.
        max_workers: How many workflows run at the same time; as many activities that were submitted run beside them.
        db_manager: Where to store instead.
        serializer: How values become text; ``JsonSerializer`` by default.
        poll_interval_seconds: How often to look for runs that nobody holds. Runs started here never wait for that.
        clock: Where the time comes from; for tests.

    Raises:
        TypeError: ``max_workers`` is no int, or ``db_manager`` is no database manager.
        ValueError: ``max_workers`` is less than 1, or ``poll_interval_seconds`` is not positive.
        StorageError: The database cannot be opened.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] = "py_orchestrate.db",
        max_workers: int = 5,
        db_manager: BaseDatabaseManager | None = None,
        *,
        serializer: Serializer | None = None,
        poll_interval_seconds: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(max_workers, int) or isinstance(max_workers, bool):
            raise TypeError(f"max_workers is an int, not {type(max_workers).__name__}")
        if max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {max_workers}")
        if not poll_interval_seconds > 0:
            raise ValueError(f"poll_interval_seconds must be positive, not {poll_interval_seconds}")
        if db_manager is not None and not isinstance(db_manager, BaseDatabaseManager):
            raise TypeError(f"db_manager is a BaseDatabaseManager, not {type(db_manager).__name__}")
        self.db = SQLiteDatabaseManager(db_path) if db_manager is None else db_manager
        self.registry = get_registry()
        self._serializer = serializer or JsonSerializer()
        self._clock = clock or SystemClock()
        self._engine = Engine(
            database=self.db,
            registry=self.registry,
            serializer=self._serializer,
            clock=self._clock,
            max_workers=max_workers,
            poll_interval_seconds=poll_interval_seconds,
            closes_database=db_manager is None,
        )

    def start(self) -> None:
        """Start running workflows: new ones, and those that a process left unfinished. Does nothing when started.

        Raises:
            OrchestratorStateError: Workflows are still running since the last ``stop``.
            StorageError: The database cannot be written.
        """
        self._engine.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop taking up workflows and wait for those that are running. Does nothing when stopped.

        What is stored but has not begun stays stored, for the next start or another process.

        Args:
            timeout: Seconds to wait at most; ``None`` waits for ever. What still runs then is named in a warning, ends
                at its next step, and goes on from there at the next start.

        Returns:
            Whether everything that was running has ended.
        """
        return self._engine.stop(timeout)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and wait for what is running; after an interrupt only for the activities that are running."""
        if kind is not None and not issubclass(kind, Exception):
            self._engine.leave(GRACE_SECONDS)
        else:
            self.stop()

    def invoke_workflow(self, name: str, /, **kwargs: Any) -> str:
        """Start a workflow by name.

        Args:
            name: The registered name. Positional only, so that a workflow may have a parameter ``name``.
            kwargs: The workflow's arguments.

        Returns:
            The run's id; the run is on disk.

        Raises:
            WorkflowNotFoundError: The name is not registered.
            TypeError: The arguments do not fit.
            SerializationError: An argument cannot be stored.
            OrchestratorStateError: The orchestrator is stopped, or was started before a fork.
            StorageError: The database cannot be written.
        """
        return self._start(name, (), kwargs, None)

    def start_workflow(
        self, workflow: str | Callable[..., Any], /, *args: Any, workflow_id: str | None = None, **kwargs: Any
    ) -> WorkflowHandle:
        """Start a workflow, or find the run that has the id.

        Args:
            workflow: The decorated function or its registered name.
            args: The workflow's positional arguments.
            workflow_id: An id of your own. A second start with it returns the existing run, however that stands.
            kwargs: The workflow's keyword arguments.

        Returns:
            The run's handle; the run is on disk.

        Raises:
            WorkflowConflictError: The id belongs to a run with another name or other arguments.
            InvalidWorkflowIdError: The id cannot be stored by every backend.
            WorkflowNotFoundError: The name is not registered.
            TypeError: The arguments do not fit, or ``workflow`` is no workflow.
            SerializationError: An argument cannot be stored.
            OrchestratorStateError: The orchestrator is stopped, or was started before a fork.
            StorageError: The database cannot be written.
        """
        name = workflow if isinstance(workflow, str) else getattr(workflow, "_workflow_name", None)
        if name is None:
            shown = getattr(workflow, "__name__", repr(workflow))
            raise TypeError(f"{shown!r} is not a workflow; decorate it with @workflow, or give a registered name")
        return WorkflowHandle(self, self._start(name, args, kwargs, workflow_id))

    def get_handle(self, workflow_id: str) -> WorkflowHandle:
        """Return the handle of a run that was started before, here or elsewhere.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
        """
        if self.db.read_workflow(check_workflow_id(workflow_id)) is None:
            raise WorkflowNotFoundError(workflow_id)
        return WorkflowHandle(self, workflow_id)

    def get_workflow_status(self, workflow_id: str) -> dict[str, Any] | None:
        """Return how a run stands.

        Returns:
            ``None`` if no run has the id, else a dictionary: ``id``; ``name``; ``status`` (``"processing"``,
            ``"done"``, ``"failed"``, ``"paused"``, ``"cancelled"``); ``current_activity``; ``error_message``;
            ``output``, the result; ``created_at`` and ``updated_at``, in ISO 8601, UTC.

        Raises:
            InvalidWorkflowIdError: No run can have the id.
            TypeError: The id is no string.
            StorageError: The database cannot be read.
        """
        record = self.db.read_workflow(check_workflow_id(workflow_id))
        return None if record is None else self._status(record)

    def list_workflows(
        self,
        name: str | None = None,
        *,
        status: WorkflowStatus | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return how runs stand, newest first.

        Args:
            name: Only runs of this workflow.
            status: Only runs with this status.
            limit: At most so many; ``None`` for all.
            cursor: The ``id`` of the last run of the page before; the page after it is returned.

        Returns:
            Dictionaries as ``get_workflow_status`` returns them.

        Raises:
            ValueError: There is no such status, or the limit is negative.
            LookupError: No run has the cursor's id.
            StorageError: The database cannot be read.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, not {limit}")
        wanted = None if status is None else _known_status(status)
        records = self.db.page_workflows(name=name or None, status=wanted, limit=limit, cursor=cursor)
        return [self._status(record) for record in records]

    def get_history(self, workflow_id: str) -> list[dict[str, Any]]:
        """Return the recorded steps of a run, in order.

        Returns:
            A dictionary for each: ``sequence``, ``kind``, ``name``, ``status``, ``input``, ``output``,
            ``error_message``, ``error_type``, ``traceback``, ``started_at``, ``completed_at``. Steps that 1.0.2
            recorded have a negative ``sequence``.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        steps = self.db.get_steps(check_workflow_id(workflow_id))
        if not steps and self.db.read_workflow(workflow_id) is None:
            raise WorkflowNotFoundError(workflow_id)
        return [self._step(step) for step in steps]

    def wait_for_workflow(self, workflow_id: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait for a run to end, wherever it runs.

        Args:
            workflow_id: The run.
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Returns:
            Its status, as ``get_workflow_status`` returns it.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        return self._status(self._wait(workflow_id, timeout))

    def _start(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], workflow_id: str | None) -> str:
        if not isinstance(name, str):
            raise TypeError(f"a workflow's name is a str, not {type(name).__name__}; start_workflow takes the function")
        definition = self.registry.workflow_definition(name)
        if workflow_id is not None:
            check_workflow_id(workflow_id)
        arguments = definition.bind(args, kwargs)
        text, _ = self._serializer.encode(arguments, what=f"argument of workflow {name!r}", types=definition.types)
        scope = current_scope()
        effect_id = new_workflow_id() if scope is None else scope.next_effect_id()  # a step also with an id of its own
        workflow_id = effect_id if workflow_id is None else workflow_id
        now = self._clock.now()
        record = WorkflowRecord(
            id=workflow_id,
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=text,
            created_at=now,
            updated_at=now,
        )
        existing = self._engine.create(record)
        if existing is not None and (existing.name != name or existing.input != text):
            raise WorkflowConflictError(
                f"workflow id {workflow_id!r} belongs to a run of {existing.name!r} "
                f"{'' if existing.name != name else 'with other arguments '}already; choose another id",
                workflow_id,
            )
        return workflow_id

    def _wait(self, workflow_id: str, timeout: float | None) -> WorkflowRecord:
        check_workflow_id(workflow_id)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_WAIT_SECONDS
        with self._engine.waiting_for(workflow_id) as ended_here:
            while True:
                ended_here.clear()
                record = self.db.read_workflow(workflow_id)
                if record is None:
                    raise WorkflowNotFoundError(workflow_id)
                if record.status.is_final:
                    return record
                self._engine.unwind_if_hopeless(workflow_id)
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise TimeoutError(
                        f"workflow {workflow_id} ({record.name}) has not ended within {timeout} s; it is "
                        f"{record.status.value}, in {self._current_activity(record)}"
                    )
                # A run of this process sets the event; one of another process is looked for again and again.
                ended_here.wait(pause if remaining is None else min(pause, remaining))
                pause = min(pause * 2, _LONGEST_WAIT_SECONDS)

    def _result(self, workflow_id: str, timeout: float | None) -> Any:
        record = self._wait(workflow_id, timeout)
        if record.status is WorkflowStatus.DONE:
            types = None
            if record.name in self.registry.workflows:
                types = self.registry.workflow_definition(record.name).types
            return self._serializer.decode(record.output or "null", types=types)
        summary = summarize_failure(record.error, record.error_message)
        cause = decode_failure(record.error, record.error_message, self._serializer)
        raise WorkflowFailedError(
            workflow_id, record.status.value, record.error_message or "", summary.type_name, summary.traceback_text
        ) from cause

    def _status(self, record: WorkflowRecord) -> dict[str, Any]:
        return {
            "id": record.id,
            "name": record.name,
            "status": record.status.value,
            "current_activity": self._current_activity(record),
            "error_message": record.error_message,
            "output": self._shown(record.output),
            "created_at": _iso(record.created_at),
            "updated_at": _iso(record.updated_at),
        }

    def _step(self, step: StepRecord) -> dict[str, Any]:
        summary = summarize_failure(step.error, step.error_message)
        failed = step.error is not None
        return {
            "sequence": step.sequence,
            "kind": step.kind,
            "name": step.name,
            "status": step.status,
            "input": self._shown(step.input),
            "output": self._shown(step.output),
            "error_message": step.error_message,
            "error_type": summary.type_name if failed else None,
            "traceback": summary.traceback_text if failed else None,
            "started_at": _iso(step.started_at),
            "completed_at": None if step.completed_at is None else _iso(step.completed_at),
        }

    def _current_activity(self, record: WorkflowRecord) -> str | None:
        if record.status is not WorkflowStatus.PROCESSING:
            return record.current_activity
        return self._engine.current_activity(record.id) or record.current_activity

    def _shown(self, text: str | None) -> Any:
        # Looking must never fail: where a class is not imported here, its plain parts are shown.
        return None if text is None else self._serializer.decode(text, lenient=True)


def _known_status(status: WorkflowStatus | str) -> WorkflowStatus:
    try:
        return WorkflowStatus(status)
    except ValueError:
        known = ", ".join(repr(member.value) for member in WorkflowStatus)
        raise ValueError(f"there is no status {status!r}; it is one of {known}") from None


def _iso(moment: Any) -> str:
    return str(moment.isoformat(timespec="microseconds"))
