"""Waiting for runs to end, wherever they run, and what they come to.

A run of this process tells when it has ended; one of another process is looked for again and again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from ._context import current_scope, is_workflow_code, recorded
from ._engine.engine import Engine
from ._engine.exits import ending_error, is_ending
from ._engine.rounds import Bell
from ._failures import decode_failure, summarize_failure
from ._identifiers import check_workflow_id
from ._registry import WorkflowRegistry
from ._times import timeout_of
from .db_manager.base import BaseDatabaseManager
from .errors import DurableCallError, WorkflowFailedError, WorkflowNotFoundError
from .models import WorkflowRecord, WorkflowStatus
from .serialization import Serializer

_FIRST_WAIT_SECONDS = 0.005
_LONGEST_WAIT_SECONDS = 0.5


class Results:
    """Waits for the runs of one orchestrator's store."""

    def __init__(
        self, database: BaseDatabaseManager, engine: Engine, registry: WorkflowRegistry, serializer: Serializer
    ) -> None:
        self._database = database
        self._engine = engine
        self._registry = registry
        self._serializer = serializer

    def wait(self, workflow_id: str, timeout: float | timedelta | None) -> WorkflowRecord:
        """See ``Orchestrator.wait_for_workflow``.

        A run that has ended stays so. Whether it has ended in time is another matter in a replay, and is a step.
        """
        check_workflow_id(workflow_id)
        seconds = timeout_of(timeout, "the timeout of a wait")
        if seconds is not None and is_workflow_code():
            message = recorded("wait_for_workflow", partial(self._missed, workflow_id, seconds))
            if message is not None:
                raise TimeoutError(message)
            seconds = None
        return self._wait(workflow_id, seconds)

    def _missed(self, workflow_id: str, seconds: float) -> str | None:
        """Wait, and return what is wrong if the run does not end in time."""
        try:
            self._wait(workflow_id, seconds)
        except TimeoutError as error:
            return str(error)
        return None

    def _wait(self, workflow_id: str, seconds: float | None) -> WorkflowRecord:
        ended_here = Bell()
        pauses = _pauses(seconds)
        with self._engine.waiting_for(workflow_id, ended_here.ring) as waiter:
            if self._engine.is_under_way(workflow_id):  # no need to look: it tells, as those do that end very soon
                ended_here.wait(next(pauses, 0.0))
            while waiter.record is None:
                ended_here.clear()
                record = self._database.read_workflow(workflow_id)
                if (found := self._ended(workflow_id, record)) is not None:
                    return found
                ended_here.wait(self._next(pauses, record, seconds))
            return waiter.record

    async def wait_async(self, workflow_id: str, timeout: float | timedelta | None) -> WorkflowRecord:
        """See ``Orchestrator.wait_async``."""
        import asyncio  # it is imported where somebody awaits

        check_workflow_id(workflow_id)
        seconds = timeout_of(timeout, "the timeout of a wait")
        scope = current_scope()
        if scope is not None and scope.is_async:
            raise DurableCallError(
                "an async workflow cannot await another run's handle, which is not durable: await a child workflow"
            )
        loop = asyncio.get_running_loop()
        ended_here = asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(ended_here.set)

        pauses = _pauses(seconds)
        with self._engine.waiting_for(workflow_id, notify) as waiter:
            while waiter.record is None:
                ended_here.clear()
                try:
                    record = await asyncio.to_thread(self._database.read_workflow, workflow_id)
                except RuntimeError as error:
                    if not is_ending():
                        raise
                    raise ending_error() from error  # Python starts no more work on threads, and so this cannot look
                if (found := self._ended(workflow_id, record)) is not None:
                    return found
                pause = self._next(pauses, record, seconds)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended_here.wait(), pause)
            return waiter.record

    def result_of(self, record: WorkflowRecord) -> Any:
        """Return what a run that has ended has come to.

        Raises:
            WorkflowFailedError: It failed or was cancelled.
        """
        if record.status is WorkflowStatus.DONE:
            types = None
            if record.name in self._registry.workflows:
                types = self._registry.workflow_definition(record.name).types
            return self._serializer.decode(record.output or "null", types=types)
        summary = summarize_failure(record.error, record.error_message)
        cause = decode_failure(record.error, record.error_message, self._serializer)
        raise WorkflowFailedError(
            record.id, record.status.value, record.error_message or "", summary.type_name, summary.traceback_text
        ) from cause

    def _ended(self, workflow_id: str, record: WorkflowRecord | None) -> WorkflowRecord | None:
        """Return the run if it has ended.

        Raises:
            WorkflowNotFoundError: It is not there.
            Unwind: The calling run waits in vain, and so leaves.
            OrchestratorStateError: The program ends before the run does.
        """
        if record is None:
            raise WorkflowNotFoundError(workflow_id)
        if record.status.is_final:
            return record
        self._engine.check_hope(record)
        return None

    def _next(self, pauses: Iterator[float], record: WorkflowRecord | None, timeout: float | None) -> float:
        """Return how long to wait before the next look.

        Raises:
            TimeoutError: There is none.
        """
        pause = next(pauses, None)
        if pause is None:
            assert record is not None  # noqa: S101 - it was looked at
            raise TimeoutError(
                f"workflow {record.id} ({record.name}) has not ended within {timeout:g} s; "
                f"it is {record.status.value}, in {self._engine.current_activity(record)}"
            )
        return pause


def _pauses(timeout: float | None) -> Iterator[float]:
    """Yield how long to wait before each next look, longer and longer, until the time is over."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST_WAIT_SECONDS
    while True:
        remaining = pause if deadline is None else deadline - time.monotonic()
        if remaining <= 0:
            return
        yield min(pause, remaining)
        pause = min(pause * 2, _LONGEST_WAIT_SECONDS)
