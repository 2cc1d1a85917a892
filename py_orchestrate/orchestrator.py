"""The orchestrator: the façade that programs use. It checks what it is given and hands it to the engine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ._clock import Clock, SystemClock
from ._context import current_scope
from ._control import Control
from ._engine.engine import Engine
from ._engine.exits import GRACE_SECONDS
from ._engine.retention import checked_retention
from ._identifiers import check_workflow_id, new_workflow_id
from ._options import NO_RUN_OPTIONS, RunOptions
from ._payloads import LimitedSerializer
from ._results import Results
from ._schedules import Schedules
from ._views import exported, status_of, step_of
from .db_manager.base import BaseDatabaseManager
from .db_manager.sqlite import SQLiteDatabaseManager
from .decorators import get_registry
from .errors import WorkflowConflictError, WorkflowNotFoundError
from .models import WorkflowRecord, WorkflowStatus
from .serialization import JsonSerializer, Serializer

if TYPE_CHECKING:
    from .queues import Queue

__all__ = ["Orchestrator", "WorkflowHandle"]


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

    def custom_status(self) -> Any:
        """Return what the run has published of itself; see ``Orchestrator.get_custom_status``."""
        return self._orchestrator.get_custom_status(self.id)

    def raise_event(self, name: str, payload: Any = None, *, event_id: str | None = None) -> None:
        """Send the run an event; see ``Orchestrator.raise_event``."""
        self._orchestrator.raise_event(self.id, name, payload, event_id=event_id)

    def cancel(self) -> None:
        """Cancel the run; see ``Orchestrator.cancel_workflow``."""
        self._orchestrator.cancel_workflow(self.id)

    def pause(self) -> None:
        """Pause the run; see ``Orchestrator.pause_workflow``."""
        self._orchestrator.pause_workflow(self.id)

    def resume(self) -> None:
        """Let the run go on; see ``Orchestrator.resume_workflow``."""
        self._orchestrator.resume_workflow(self.id)

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

    async def result_async(self, timeout: float | None = None) -> Any:
        """Wait for the run to end, without a thread, and return its result; ``await handle`` is the same.

        Args:
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            WorkflowFailedError: It failed or was cancelled.
            DurableCallError: Called in an async workflow, where this would not be durable.
        """
        return await self._orchestrator._result_async(self.id, timeout)  # noqa: SLF001 - as above

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the run to end, and return its result; see ``result_async``."""
        return self.result_async().__await__()

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
        lease_seconds: After how long without a sign of life others go on with the runs of this one: when its machine
            is gone, or it is paused. The crash of a process on the same machine is noticed at the next poll.
        max_recoveries: How often in a row a run may go on after a crash of its orchestrator without one of its steps
            ending; then it fails with ``RecoveryLimitError``, for it may be what takes the process down. From the
            third crash on it waits before it goes on, longer and longer. ``None`` for no limit.
        retention: For how long runs that have ended are kept, in seconds or as a ``timedelta``; then they are deleted,
            with their histories. Or a dictionary of such times by status: ``{"done": 3600}`` keeps the failed and the
            cancelled ones for ever, as ``None`` does all.
        max_payload_bytes: What one argument list, result, event or status may take in the store; more is refused with
            ``SerializationError``. ``None`` for no limit.
        queues: The queues whose runs this orchestrator takes up, beside those in no queue.
        clock: Where the time comes from; for tests.

    Raises:
        TypeError: ``max_workers``, ``max_recoveries`` or ``max_payload_bytes`` is no int, ``db_manager`` is no
            database manager, or one of the queues no ``Queue``.
        ValueError: ``max_workers`` is less than 1, ``poll_interval_seconds`` or ``lease_seconds`` is not positive, or
            ``max_recoveries`` or ``retention`` is negative, ``max_payload_bytes`` is less than 1, or two queues have
            one name.
        UnsupportedOperationError: The database has no queues.
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
        lease_seconds: float = 30.0,
        max_recoveries: int | None = 10,
        retention: float | timedelta | Mapping[str, float | timedelta] | None = None,
        max_payload_bytes: int | None = None,
        queues: Iterable[Queue] = (),
        clock: Clock | None = None,
    ) -> None:
        _check_count("max_workers", max_workers, 1)
        if not poll_interval_seconds > 0:
            raise ValueError(f"poll_interval_seconds must be positive, not {poll_interval_seconds}")
        if not 0 < lease_seconds < math.inf:
            raise ValueError(f"lease_seconds must be positive and finite, not {lease_seconds}")
        _check_count("max_recoveries", max_recoveries, 0, or_none=True)
        _check_count("max_payload_bytes", max_payload_bytes, 1, or_none=True)
        if db_manager is not None and not isinstance(db_manager, BaseDatabaseManager):
            raise TypeError(f"db_manager is a BaseDatabaseManager, not {type(db_manager).__name__}")
        consumed = _checked_queues(queues)
        self.db = SQLiteDatabaseManager(db_path) if db_manager is None else db_manager
        self.registry = get_registry()
        self._serializer = serializer or JsonSerializer()
        if max_payload_bytes is not None:
            self._serializer = LimitedSerializer(self._serializer, max_payload_bytes)
        self._clock = clock or SystemClock()
        self._engine = Engine(
            database=self.db,
            registry=self.registry,
            serializer=self._serializer,
            clock=self._clock,
            max_workers=max_workers,
            poll_interval_seconds=poll_interval_seconds,
            lease_seconds=lease_seconds,
            max_recoveries=max_recoveries,
            kept_for=checked_retention(retention),
            queues=consumed,
            closes_database=db_manager is None,
        )
        if consumed:
            self._engine.require("queues", "keep queues")
        self._results = Results(self.db, self._engine, self.registry, self._serializer)
        self._control = Control(self.db, self._engine, self._serializer, self._clock)
        self._schedules = Schedules(self.db, self._engine, self._serializer, self._clock)

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
        return self._start(name, (), kwargs, NO_RUN_OPTIONS)

    def start_workflow(
        self,
        workflow: str | Callable[..., Any],
        /,
        *args: Any,
        workflow_id: str | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: float | timedelta | None = None,
        deduplication_key: str | None = None,
        **kwargs: Any,
    ) -> WorkflowHandle:
        """Start a workflow, or find the run that has the id or the deduplication key.

        Args:
            workflow: The decorated function or its registered name.
            args: The workflow's positional arguments.
            workflow_id: An id of your own. A second start with it returns the existing run, however that stands. Where
                the workflow has a parameter of this name, the keyword is its argument; then, and for those below, use
                ``workflow.options(workflow_id=...)``.
            timeout: Seconds or a ``timedelta`` that the run may take, from now or the end of its delay, waits for a
                place in its queue included. After that its next durable call raises ``WorkflowCancelled``, and it ends
                as failed with ``WorkflowTimeoutError``. No limit by default.
            queue: The queue that it goes into. An orchestrator with that one among its ``queues`` takes it up, here or
                elsewhere. By default it goes into none, and any orchestrator takes it up.
            priority: An int, 0 by default. Among those that wait in its queue, the lowest number goes first; among
                equal ones, the first that came. One that others have overtaken for more than a minute goes first now
                and then.
            delay: Seconds or a ``timedelta`` after which it may begin; none by default.
            deduplication_key: While a run of the same queue with this key has not ended, a second start with it returns
                that run, if it has the same name and arguments.
            kwargs: The workflow's keyword arguments.

        Returns:
            The run's handle; the run is on disk.

        Raises:
            WorkflowConflictError: The id or the key belongs to a run with another name or other arguments.
            InvalidWorkflowIdError: The id cannot be stored by every backend.
            WorkflowNotFoundError: The name is not registered.
            TypeError: The arguments do not fit, or ``workflow`` is no workflow.
            ValueError: The timeout is not positive, the delay negative, or a name or a key blank.
            UnsupportedOperationError: The database has no queues, or cannot keep runs that wait.
            SerializationError: An argument cannot be stored.
            OrchestratorStateError: The orchestrator is stopped, or was started before a fork.
            StorageError: The database cannot be written.
        """
        name = _name_of(workflow)
        given: dict[str, Any] = {
            "workflow_id": workflow_id,
            "timeout": timeout,
            "queue": queue,
            "priority": priority,
            "delay": delay,
            "deduplication_key": deduplication_key,
        }
        options = {option: value for option, value in given.items() if value is not None}
        run_options: RunOptions = getattr(workflow, "run_options", NO_RUN_OPTIONS)
        if options:
            names = self.registry.workflow_definition(name).parameters.names
            for option in options.keys() & set(names):  # never take away what the workflow has a parameter for
                kwargs[option] = options.pop(option)
            run_options = run_options.replaced(**options)
        return WorkflowHandle(self, self._start(name, args, kwargs, run_options))

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

    def get_custom_status(self, workflow_id: str) -> Any:
        """Return what a run has published of itself with ``durable.set_custom_status``; ``None`` for nothing.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        record = self.db.read_workflow(check_workflow_id(workflow_id))
        if record is None:
            raise WorkflowNotFoundError(workflow_id)
        return None if record.custom_status is None else self._serializer.decode(record.custom_status, lenient=True)

    def list_workflows(
        self,
        name: str | None = None,
        *,
        status: WorkflowStatus | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        version: str | None = None,
        queue: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return how runs stand, newest first.

        Args:
            name: Only runs of this workflow.
            status: Only runs with this status.
            limit: At most so many; ``None`` for all.
            cursor: The ``id`` of the last run of the page before; the page after it is returned.
            version: Only runs that began with this version of their code; see ``workflow``.
            queue: Only runs in this queue.

        Returns:
            Dictionaries as ``get_workflow_status`` returns them.

        Raises:
            ValueError: There is no such status, or the limit is negative.
            LookupError: No run has the cursor's id.
            StorageError: The database cannot be read.
        """
        _check_limit(limit)
        wanted = None if status is None else _known_status(status)
        filters = {"version": version, "queue": queue}  # which a manager of a user's own need not know
        more = {name: value for name, value in filters.items() if value is not None}
        records = self.db.page_workflows(name=name or None, status=wanted, limit=limit, cursor=cursor, **more)
        return [self._status(record) for record in records]

    def get_history(self, workflow_id: str) -> list[dict[str, Any]]:
        """Return the recorded steps of a run, in order.

        Returns:
            A dictionary for each: ``sequence``; ``kind`` (``"activity"``, ``"timer"``, ``"event"``, ``"workflow"``,
            ``"choice"``, ``"value"``, ``"patch"``, ``"anew"``); ``name``; ``status`` (``"running"``, ``"completed"``,
            ``"failed"``, ``"waiting"``, ``"retrying"``, ``"cancelled"``); ``attempt``; ``version`` of the activity's
            code; ``due_at``, when a timer, an event's timeout or the next attempt is due; ``child_id``, a child
            workflow's id; ``input``; ``output``; ``error_message``; ``error_type``; ``traceback``; ``started_at``;
            ``completed_at``. Steps that 1.0.2 recorded have a negative ``sequence``.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        steps = self.db.get_steps(check_workflow_id(workflow_id))
        if not steps and self.db.read_workflow(workflow_id) is None:
            raise WorkflowNotFoundError(workflow_id)
        return [step_of(step, self._serializer) for step in steps]

    def purge_workflows(
        self,
        older_than: float | timedelta | datetime,
        *,
        name: str | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> int:
        """Delete runs that have ended, with their histories. A child workflow stays until its parent has ended.

        Args:
            older_than: Only runs that ended longer ago than so many seconds, or a ``timedelta``; or before a time, with
                a time zone.
            name: Only runs of this name.
            status: Only runs with this status: ``"done"``, ``"failed"`` or ``"cancelled"``.
            limit: At most so many, the oldest; ``None`` for all.

        Returns:
            How many were deleted.

        Raises:
            ValueError: The time is negative or has no time zone, no run that has ended has the status, or the limit is
                negative.
            TypeError: ``older_than`` is neither a number nor a ``timedelta`` nor a ``datetime``.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot delete.
            StorageError: The database cannot be written.
        """
        _check_limit(limit)
        return self._control.purge(older_than, name, None if status is None else _known_status(status), limit)

    def list_queues(self) -> list[dict[str, Any]]:
        """Return how the queues stand that have runs to run, or that an orchestrator consumes, by name.

        Returns:
            A dictionary for each: ``name``; ``ready``, how many runs wait in it for a place; ``running``, how many have
            one; ``consumers``, how many orchestrators consume it. A run that waits for a time, an event or a child
            workflow is in neither number.

        Raises:
            UnsupportedOperationError: The database has no queues.
            StorageError: The database cannot be read.
        """
        return [record._asdict() for record in self.db.list_queues()]

    def schedule_workflow(
        self,
        workflow: str | Callable[..., Any],
        /,
        cron: str,
        timezone: str = "UTC",
        *,
        schedule_id: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        catch_up: str = "last",
        overlap: str = "skip",
        queue: str | None = None,
        priority: int = 0,
    ) -> dict[str, Any]:
        """Start a workflow again and again, at the times of a cron expression: one run for each, in the whole fleet.

        The schedule is stored, and goes on in every process that has an orchestrator on the store, until it is removed.
        A second call with its id changes it; with the same definition it does nothing, so a program may make the call
        at each of its starts. It needs the extra ``schedules``.

        Args:
            workflow: The decorated function or its registered name.
            cron: Five fields, minute, hour, day, month and weekday, such as ``"30 2 * * mon-fri"``; or six, with the
                second in front.
            timezone: The IANA name of the time zone that it is meant in. Where clocks change: what would be due at an
                hour that is left out is due after it, what is due at an hour that comes twice is due the first time
                (the rules of Debian's cron).
            schedule_id: An id, by the rules for workflow ids; the workflow's name by default. A run's id is made of it
                and the time: ``<schedule_id>-20300131T023000Z``, in UTC.
            arguments: The workflow's arguments, by name.
            catch_up: What becomes of times that pass while no orchestrator runs: ``"last"`` starts one run for the last
                of them, ``"all"`` one for each, ``"none"`` none; that passes over a time that is over for a minute.
            overlap: What becomes of a time while the run before has not ended: ``"skip"`` passes over it, ``"queue"``
                starts its run when that has ended, ``"allow"`` starts it at once.
            queue: The queue for its runs; see ``start_workflow``.
            priority: Their priority.

        Returns:
            The schedule, as ``list_schedules`` has it.

        Raises:
            WorkflowNotFoundError: The name is not registered.
            InvalidWorkflowIdError: The id cannot be one, or is too long for the beginning of one.
            ValueError: The expression, the time zone or an option is none; the message says what is wrong.
            TypeError: The arguments do not fit, or ``workflow`` is no workflow.
            SerializationError: An argument cannot be stored.
            ImportError: The extra is not installed.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database has no schedules, or no queues.
            StorageError: The database cannot be written.
        """
        return self._schedules.define(
            _name_of(workflow),
            schedule_id,
            arguments,
            cron=cron,
            timezone=timezone,
            catch_up=catch_up,
            overlap=overlap,
            queue=queue,
            priority=priority,
        )

    def list_schedules(self) -> list[dict[str, Any]]:
        """Return every schedule, by id.

        Returns:
            A dictionary for each: ``id``; ``name``; ``arguments``; ``cron``; ``timezone``; ``catch_up``; ``overlap``;
            ``queue``; ``priority``; ``status``, ``"active"`` or ``"paused"``; ``next_at``, the next time; ``waiting``,
            how many times wait for the run before to end; ``last_at``, the last time that a run was started for;
            ``last_workflow_id``, that run; ``created_at`` and ``updated_at``. Times are in ISO 8601, UTC.

        Raises:
            UnsupportedOperationError: The database has no schedules.
            StorageError: The database cannot be read.
        """
        return self._schedules.list()

    def pause_schedule(self, schedule_id: str) -> None:
        """Let a schedule start nothing until it is resumed; its runs go on. Pausing a paused one does nothing.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database has no schedules.
            StorageError: The database cannot be written.
        """
        self._schedules.pause(schedule_id)

    def resume_schedule(self, schedule_id: str) -> None:
        """Let a paused schedule go on, from its next time on: what passed meanwhile is not made up for.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database has no schedules.
            StorageError: The database cannot be written.
        """
        self._schedules.resume(schedule_id)

    def remove_schedule(self, schedule_id: str) -> None:
        """Forget a schedule; its runs go on.

        Raises:
            ScheduleNotFoundError: There is no such schedule.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database has no schedules.
            StorageError: The database cannot be written.
        """
        self._schedules.remove(schedule_id)

    def export_history(self, workflow_id: str) -> dict[str, Any]:
        """Return a run with its recorded steps, whole and as plain JSON data: to be saved, and checked against code.

        See ``py_orchestrate.testing.check_replay``. It holds the run's arguments and results, as they are stored.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        record = self.db.read_workflow(check_workflow_id(workflow_id))
        if record is None:
            raise WorkflowNotFoundError(workflow_id)
        return exported(record, self.db.get_steps(workflow_id))

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
        return self._status(self._results.wait(workflow_id, timeout))

    async def wait_async(self, workflow_id: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait for a run to end, in a coroutine: as ``wait_for_workflow``, without a thread that waits.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            DurableCallError: Called in an async workflow, where this would not be durable.
            StorageError: The database cannot be read.
        """
        return self._status(await self._results.wait_async(workflow_id, timeout))

    def raise_event(self, workflow_id: str, name: str, payload: Any = None, *, event_id: str | None = None) -> None:
        """Send an event to a run, which gets it from ``durable.wait_for_event``, now or later.

        In a workflow's own code this is a step: a replay does not send it again.

        Args:
            workflow_id: The run.
            name: The event's name.
            payload: Any value that can be stored.
            event_id: An id of your own, by the rules for workflow ids: a second event with it is the same one, and is
                not sent again, even if the run has ended since. So a sender that is not sure may send again.

        Raises:
            WorkflowNotFoundError: No run has the id.
            WorkflowStateError: The run has ended.
            SerializationError: The payload cannot be stored.
            ValueError: The name is blank, or an id cannot be one.
            UnsupportedOperationError: The database cannot keep events.
            StorageError: The database cannot be written.
        """
        self._control.raise_event(workflow_id, name, payload, event_id)

    def cancel_workflow(self, workflow_id: str) -> None:
        """Cancel a run, wherever it runs: its next durable call raises ``durable.WorkflowCancelled``.

        An activity that is running goes on to its end, unless it looks at ``durable.info().cancel_requested``. Child
        workflows are cancelled with it. The run may undo what it did, under ``durable.shield()`` or in a
        ``durable.Saga``, and ends as ``cancelled``; one that has not begun ends so without running.

        Raises:
            WorkflowNotFoundError: No run has the id.
            WorkflowStateError: The run has ended.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot keep requests.
            StorageError: The database cannot be written.
        """
        self._control.cancel(workflow_id)

    def pause_workflow(self, workflow_id: str) -> None:
        """Pause a run: at its next durable call, or at once if it waits, it becomes ``paused``.

        Events for it are kept, and its timers go on. Its child workflows are not paused. Pausing a paused run does
        nothing.

        Raises:
            WorkflowNotFoundError: No run has the id.
            WorkflowStateError: The run has ended, or is being cancelled.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot keep requests.
            StorageError: The database cannot be written.
        """
        self._control.pause(workflow_id)

    def resume_workflow(self, workflow_id: str) -> None:
        """Let a paused run go on. One that is not paused goes on as it is.

        Raises:
            WorkflowNotFoundError: No run has the id.
            WorkflowStateError: The run has ended.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot keep requests.
            StorageError: The database cannot be written.
        """
        self._control.resume(workflow_id)

    def rewind_workflow(self, workflow_id: str) -> None:
        """Let a failed run go on from the step that it failed in, keeping the results of the others.

        The step whose failure ended the run runs again, and so do the failed ones among those that were submitted with
        it. Steps that were made after the failure was seen (a compensation) are forgotten. A child workflow that
        failed is rewound. A run that failed between two steps goes on with all of its steps. Its timeout, if it had
        one, is gone.

        Raises:
            WorkflowNotFoundError: No run has the id.
            WorkflowStateError: The run is not failed.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot do it.
            StorageError: The database cannot be written.
        """
        self._control.rewind(workflow_id)

    def restart_workflow(
        self, workflow_id: str, from_step: int = 0, *, new_workflow_id: str | None = None
    ) -> WorkflowHandle:
        """Start a new run with the name and the arguments of another one, which shares that one's first steps.

        The other run stays as it is, whatever its status. The new one gets the events that the shared steps have not
        taken. A shared step that failed fails again without running.

        Args:
            workflow_id: The other run.
            from_step: The ordinal of the first step that is not shared; 0 shares none.
            new_workflow_id: An id of your own for the new run.

        Returns:
            The new run's handle.

        Raises:
            WorkflowNotFoundError: No run has the id.
            WorkflowConflictError: The new id is taken.
            ValueError: The other run has no such step, or one of the shared steps has not ended.
            TypeError: ``from_step`` is no int.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot do it.
            StorageError: The database cannot be written.
        """
        return WorkflowHandle(self, self._control.restart(workflow_id, from_step, new_workflow_id))

    def _start(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: RunOptions,
    ) -> str:
        if not isinstance(name, str):
            raise TypeError(f"a workflow's name is a str, not {type(name).__name__}; start_workflow takes the function")
        definition = self.registry.workflow_definition(name)
        if options.timeout is not None:
            self._engine.require_waiting("keep a workflow's timeout")
        if options.delay:
            self._engine.require_waiting("keep a workflow's delay")
        if options.needs_queues:
            self._engine.require("queues", "keep queues, priorities and deduplication keys")
        now = self._clock.now()
        fields = options.fields(now)
        arguments = definition.bind(args, kwargs)
        text, _ = self._serializer.encode(arguments, what=f"argument of workflow {name!r}", types=definition.types)
        scope = current_scope()
        effect_id = new_workflow_id() if scope is None else scope.next_effect_id()  # a step also with an id of its own
        workflow_id = options.workflow_id or effect_id
        record = WorkflowRecord(
            id=workflow_id,
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=text,
            version=definition.version,
            created_at=now,
            updated_at=now,
            **fields,
        )
        existing = self._engine.create(record)
        if existing is None:
            return workflow_id
        # One that has begun anew has arguments of its own by now.
        if existing.name != name or (existing.input != text and not existing.generation):
            is_id = existing.id == workflow_id
            what = f"workflow id {workflow_id!r}" if is_id else f"deduplication key {options.deduplication_key!r}"
            raise WorkflowConflictError(
                f"{what} belongs to a run of {existing.name!r} "
                f"{'' if existing.name != name else 'with other arguments '}already; "
                f"{'choose another id' if is_id else f'that is {existing.id}, and it has not ended'}",
                existing.id,
            )
        return existing.id

    def _result(self, workflow_id: str, timeout: float | None) -> Any:
        return self._results.result_of(self._results.wait(workflow_id, timeout))

    async def _result_async(self, workflow_id: str, timeout: float | None) -> Any:
        return self._results.result_of(await self._results.wait_async(workflow_id, timeout))

    def _status(self, record: WorkflowRecord) -> dict[str, Any]:
        return status_of(record, self._serializer, self._results.current_activity(record))


def _name_of(workflow: str | Callable[..., Any]) -> str:
    """Return the name of a workflow that is given as a function or by its name."""
    name = workflow if isinstance(workflow, str) else getattr(workflow, "_workflow_name", None)
    if name is None:
        shown = getattr(workflow, "__name__", repr(workflow))
        raise TypeError(f"{shown!r} is not a workflow; decorate it with @workflow, or give a registered name")
    return str(name)


def _checked_queues(queues: Iterable[Queue]) -> tuple[Queue, ...]:
    """Return the queues; raise for what is none, and for one that is there twice."""
    found = tuple(queues)
    if found:
        from .queues import Queue
    for queue in found:
        if not isinstance(queue, Queue):
            raise TypeError(f"queues holds instances of Queue, as in queues=[Queue('mail')], not {queue!r}")
        if [each.name for each in found].count(queue.name) > 1:
            raise ValueError(f"queue {queue.name!r} is there twice; give it once, with all of its limits")
    return found


def _check_count(name: str, value: object, least: int, *, or_none: bool = False) -> None:
    """Raise unless the value is an int that is large enough, or ``None`` where it may be."""
    if value is None and or_none:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is an int{' or None' if or_none else ''}, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise ValueError(f"limit must not be negative, not {limit}")


def _known_status(status: WorkflowStatus | str) -> WorkflowStatus:
    try:
        return WorkflowStatus(status)
    except ValueError:
        known = ", ".join(repr(member.value) for member in WorkflowStatus)
        raise ValueError(f"there is no status {status!r}; it is one of {known}") from None
