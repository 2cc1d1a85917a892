"""The orchestrator: the façade that programs use. It checks what it is given and hands it to the engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from ._options import NO_RUN_OPTIONS, NOT_GIVEN
from ._times import timeout_of
from .errors import WorkflowNotFoundError

if TYPE_CHECKING:
    import os
    from datetime import datetime, timedelta
    from types import TracebackType

    from ._clock import Clock
    from .db_manager.base import BaseDatabaseManager
    from .models import WorkflowStatus
    from .queues import Queue
    from .serialization import Serializer

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

    def wait(self, timeout: float | timedelta | None = None) -> dict[str, Any]:
        """Wait for the run to end; see ``Orchestrator.wait_for_workflow``."""
        return self._orchestrator.wait_for_workflow(self.id, timeout)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the run to end and return its result.

        Args:
            timeout: Seconds or a ``timedelta`` to wait at most; ``None`` waits for ever.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            TypeError: The timeout is no time.
            ValueError: The timeout is not a number.
            OrchestratorStateError: The program's main thread has ended, and the run is handed back.
            WorkflowFailedError: It failed or was cancelled.
        """
        return self._orchestrator._result(self.id, timeout)  # noqa: SLF001 - one module's two classes

    async def result_async(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the run to end, without a thread, and return its result; ``await handle`` is the same.

        Args:
            timeout: Seconds or a ``timedelta`` to wait at most; ``None`` waits for ever.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            TypeError: The timeout is no time.
            ValueError: The timeout is not a number.
            OrchestratorStateError: The program's main thread has ended, and the run is handed back.
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
            ``math.inf`` for only once.
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
        TypeError: ``max_workers``, ``max_recoveries`` or ``max_payload_bytes`` is no int, an interval no number, or one
            of the others not what it is to be.
        ValueError: ``max_workers`` is less than 1, ``poll_interval_seconds`` or ``lease_seconds`` is not positive, or
            ``max_recoveries`` or ``retention`` is negative, ``max_payload_bytes`` is less than 1, or two queues have
            one name; or a time is longer than a hundred years.
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
        from ._assembly import assemble  # with the engine and SQLite, which a program that only looks does without

        parts = assemble(
            db_path,
            db_manager,
            serializer=serializer,
            max_workers=max_workers,
            poll_interval_seconds=poll_interval_seconds,
            lease_seconds=lease_seconds,
            max_recoveries=max_recoveries,
            retention=retention,
            max_payload_bytes=max_payload_bytes,
            queues=queues,
            clock=clock,
        )
        self.db = parts.database
        self.registry = parts.registry
        self._engine = parts.engine
        self._starts = parts.starts
        self._control = parts.control
        self._results = parts.results
        self._schedules = parts.schedules
        self._views = parts.views

    def start(self) -> None:
        """Start running workflows: new ones, and those that a process left unfinished. Does nothing when started.

        Raises:
            OrchestratorStateError: Workflows are still running since the last ``stop``.
            StorageError: The database cannot be written.
        """
        self._engine.start()

    def stop(self, timeout: float | timedelta | None = None) -> bool:
        """Stop taking up workflows and wait for those that are running. Does nothing when stopped.

        What is stored but has not begun stays stored, for the next start or another process.

        Args:
            timeout: Seconds or a ``timedelta`` to wait at most; ``None`` waits for ever. What still runs then is named
                in a warning, ends at its next step, and goes on from there at the next start.

        Returns:
            Whether everything that was running has ended.

        Raises:
            TypeError: The timeout is no time; it has not begun to stop.
            ValueError: The timeout is not a number; as above.
        """
        return self._engine.stop(timeout_of(timeout, "the timeout of stop()"))

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and wait for what is running; after an interrupt only for the activities that are running."""
        if kind is not None and not issubclass(kind, Exception):
            self._engine.leave()
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
        return self._starts.start(name, (), kwargs, NO_RUN_OPTIONS)

    def start_workflow(
        self,
        workflow: str | Callable[..., Any],
        /,
        *args: Any,
        workflow_id: str | None = NOT_GIVEN,
        timeout: float | timedelta | None = NOT_GIVEN,
        queue: str | None = NOT_GIVEN,
        priority: int | None = NOT_GIVEN,
        delay: float | timedelta | None = NOT_GIVEN,
        deduplication_key: str | None = NOT_GIVEN,
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
        options: dict[str, Any] = {
            "workflow_id": workflow_id,
            "timeout": timeout,
            "queue": queue,
            "priority": priority,
            "delay": delay,
            "deduplication_key": deduplication_key,
        }
        return WorkflowHandle(self, self._starts.start_given(workflow, args, kwargs, options))

    def get_handle(self, workflow_id: str) -> WorkflowHandle:
        """Return the handle of a run that was started before, here or elsewhere.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
        """
        self._views.existing(workflow_id)
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
        return self._views.status(workflow_id)

    def get_custom_status(self, workflow_id: str) -> Any:
        """Return what a run has published of itself with ``durable.set_custom_status``; ``None`` for nothing.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        return self._views.custom_status(workflow_id)

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
            TypeError: The name, the cursor, the version or the queue is no str, or the limit no int.
            LookupError: No run has the cursor's id.
            StorageError: The database cannot be read.
        """
        return self._views.page(name, status, limit, cursor, version=version, queue=queue)

    def get_history(self, workflow_id: str) -> list[dict[str, Any]]:
        """Return the recorded steps of a run, in order.

        Returns:
            A dictionary for each: ``sequence``; ``kind`` (``"activity"``, ``"timer"``, ``"event"``, ``"workflow"``,
            ``"choice"``, ``"value"``, ``"patch"``, ``"start"``, ``"send"``, ``"anew"``); ``name``; ``status``
            (``"running"``, ``"completed"``, ``"failed"``, ``"waiting"``, ``"retrying"``, ``"cancelled"``);
            ``attempt``; ``version`` of the activity's code; ``due_at``, when a timer, an event's timeout or the next
            attempt is due; ``child_id``, a child workflow's id; ``input``; ``output``; ``error_message``;
            ``error_type``; ``traceback``; ``started_at``; ``completed_at``. Steps that 1.0.2 recorded have a
            negative ``sequence``.

        Raises:
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        return self._views.history(workflow_id)

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
            TypeError: ``older_than`` is neither a number nor a ``timedelta`` nor a ``datetime``, or the name no str.
            DurableCallError: Called in a workflow's own code.
            UnsupportedOperationError: The database cannot delete.
            StorageError: The database cannot be written.
        """
        return self._control.purge(older_than, name, status, limit)

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
        return self._views.queues()

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
                With ``overlap="skip"``, ``"all"`` starts one, too.
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
            workflow,
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
        return self._views.export(workflow_id)

    def wait_for_workflow(self, workflow_id: str, timeout: float | timedelta | None = None) -> dict[str, Any]:
        """Wait for a run to end, wherever it runs.

        Args:
            workflow_id: The run.
            timeout: Seconds or a ``timedelta`` to wait at most; ``None`` waits for ever.

        Returns:
            Its status, as ``get_workflow_status`` returns it.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            TypeError: The timeout is no time.
            ValueError: The timeout is not a number.
            OrchestratorStateError: The program's main thread has ended, and the run is handed back.
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            StorageError: The database cannot be read.
        """
        return self._views.status_of(self._results.wait(workflow_id, timeout))

    async def wait_async(self, workflow_id: str, timeout: float | timedelta | None = None) -> dict[str, Any]:
        """Wait for a run to end, in a coroutine: as ``wait_for_workflow``, without a thread that waits.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            TypeError: The timeout is no time.
            ValueError: The timeout is not a number.
            OrchestratorStateError: The program's main thread has ended, and the run is handed back.
            WorkflowNotFoundError: No run has the id.
            InvalidWorkflowIdError: No run can have the id.
            DurableCallError: Called in an async workflow, where this would not be durable.
            StorageError: The database cannot be read.
        """
        return self._views.status_of(await self._results.wait_async(workflow_id, timeout))

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

    def _result(self, workflow_id: str, timeout: float | timedelta | None) -> Any:
        return self._results.result_of(self._results.wait(workflow_id, timeout))

    async def _result_async(self, workflow_id: str, timeout: float | timedelta | None) -> Any:
        return self._results.result_of(await self._results.wait_async(workflow_id, timeout))
