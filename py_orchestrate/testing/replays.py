"""Checking a saved history against today's code, before that code meets the runs that are under way."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

from .._clock import SystemClock
from .._context import Unwind
from .._engine.bodies import BodyRunner, Outcome
from .._engine.runner import RunHost, WorkflowRun
from .._failures import Failure, decode_failure
from .._registry import WorkflowRegistry
from ..decorators import Workflow, get_registry
from ..errors import NonDeterminismError
from ..models import HISTORY_FORMAT, StepOutcome, WorkflowEnd, WorkflowRecord, WorkflowStatus
from ..serialization import JsonSerializer, Serializer

__all__ = ["check_replay"]


def check_replay(
    workflow: Workflow[..., Any] | Callable[..., Any],
    history: Mapping[str, Any] | str,
    *,
    serializer: Serializer | None = None,
) -> None:
    """Replay a saved history with today's code, and raise if the code does not fit it. Nothing is run or stored.

    Save the histories of some runs, of every kind that there is, and check them in a test of every change::

        Path("order.json").write_text(json.dumps(orchestrator.export_history(run_id)))

        def test_runs_under_way_go_on():
            check_replay(order, Path("order.json").read_text())

    The code may go on behind the end of the history: that is where the run would run on.

    Args:
        workflow: The workflow, or its function.
        history: What ``Orchestrator.export_history`` returned, or that as JSON text.
        serializer: What the run's orchestrator was given, if it was.

    Raises:
        NonDeterminismError: The code makes another call than the history has, or ends before it does.
        SerializationError: A recorded value cannot be read with today's classes.
        Exception: The run ended with a result, and the code ends with this.
        ValueError: It is no history.
        TypeError: The workflow is none.
    """
    function = workflow.fn if isinstance(workflow, Workflow) else workflow
    if not callable(function):
        raise TypeError(f"check_replay takes a workflow or its function, not {type(workflow).__name__}")
    record, status, steps = _read(history)
    registry = copy.copy(get_registry())
    registry.workflows = {**registry.workflows, record.name: function}
    host = _ReplayHost(registry, serializer or JsonSerializer(), steps)
    run = host.run = _Replay(cast("RunHost", host), record, is_new=False)
    run.execute()
    if run.journal.left is not None and not isinstance(run.journal.left, Unwind):
        raise run.journal.left
    if host.end is None:
        return
    error = None
    if host.end.status is WorkflowStatus.FAILED:
        error = decode_failure(host.end.error, host.end.error_message, host.serializer)
    leftover = run.journal.history.leftover(run.journal.sequence)
    if leftover is not None:
        raise NonDeterminismError(leftover.message, leftover.sequence, leftover.recorded, leftover.called) from error
    if error is not None and status is WorkflowStatus.DONE:
        raise error


def _read(history: Mapping[str, Any] | str) -> tuple[WorkflowRecord, WorkflowStatus, list[StepOutcome]]:
    """Return the run as it stood before its code ended, how it has ended, and its steps.

    Raises:
        ValueError: It is no history.
    """
    data = json.loads(history) if isinstance(history, str) else history
    if not isinstance(data, Mapping) or data.get("format") != HISTORY_FORMAT:
        raise ValueError(
            f"the history is none that this version reads: its format is not {HISTORY_FORMAT!r}; save what "
            "Orchestrator.export_history() returns"
        )
    moment = datetime.now(UTC)
    record = WorkflowRecord(
        id=data["id"],
        name=data["name"],
        status=WorkflowStatus.PROCESSING,
        input=data["input"],
        version=data["version"],
        generation=data["generation"],
        created_at=moment,
        updated_at=moment,
    )
    steps = [StepOutcome(**{name: step[name] for name in StepOutcome._fields}) for step in data["steps"]]
    return record, WorkflowStatus(data["status"]), steps


class _Replay(WorkflowRun):
    """A run that is told of by an exception, and by no log."""

    def tell(self, error: BaseException, failure: Failure, *, is_cancelled: bool) -> None:
        """See the base class."""


class _NoBodies(BodyRunner):
    """Lets the run leave where a body would begin."""

    def run(self, *_args: Any) -> Outcome:
        """See the base class.

        Raises:
            Unwind: Always.
        """
        raise Unwind


class _ReplayHost:
    """What a run needs around it, and its store: a history that nothing is added to."""

    can_wait = True
    max_recoveries = None
    max_workers = 1

    def __init__(self, registry: WorkflowRegistry, serializer: Serializer, steps: list[StepOutcome]) -> None:
        self.database = self
        self.registry = registry
        self.serializer = serializer
        self.clock = SystemClock()
        self.bodies = _NoBodies(registry, serializer, self.clock, _refuse, self)
        self.run: WorkflowRun | None = None
        self.end: WorkflowEnd | None = None
        self._steps = steps

    @property
    def is_leaving(self) -> bool:
        """Whether the code has come to the end of the history."""
        if self.run is None:
            return False
        journal = self.run.journal
        return journal.sequence > journal.history.last and not journal.history.has_legacy_left

    def begin_leaving(self) -> None:
        """See ``RunHost``."""

    def persist(self, write: Callable[[], Any]) -> Any:
        """See ``RunHost``."""
        return write()

    def notice_children(self) -> None:
        """See ``RunHost``."""

    def notice_request(self, _workflow_id: str, _request: Any) -> None:
        """See ``RunHost``."""

    def require(self, _capability: str, _what: str) -> None:
        """See ``RunHost``."""

    def require_waiting(self, _what: str) -> None:
        """See ``RunHost``."""

    def in_background(self, work: Callable[[], None]) -> None:
        """See ``RunHost``: there is nothing to run."""
        work()

    def hold(self, _seconds: float) -> None:
        """See ``RunHost``.

        Raises:
            Unwind: Always.
        """
        raise Unwind

    def finish(self, _record: WorkflowRecord, end: WorkflowEnd) -> None:
        """See ``RunHost``."""
        self.end = end

    def suspend(self, *_args: Any) -> None:
        """See ``RunHost``."""

    def begin_anew(self, *_args: Any) -> None:
        """See ``RunHost``."""

    def load_outcomes(self, _workflow_id: str) -> list[StepOutcome]:
        """See ``BaseDatabaseManager``."""
        return self._steps

    def record_steps(self, *_args: Any, **_options: Any) -> None:
        """See ``BaseDatabaseManager``: nothing is recorded."""

    def record_transaction(self, _workflow_id: str, _epoch: int, transaction: Callable[[Any], Any]) -> None:
        """See ``BaseDatabaseManager``: nothing is recorded."""
        transaction(None)

    def load_events(self, *_args: Any, **_options: Any) -> list[Any]:
        """See ``BaseDatabaseManager``: there are none but those that were taken."""
        return []

    def read_workflow(self, _workflow_id: str) -> None:
        """See ``BaseDatabaseManager``: there are no others."""

    def cancel_workflow(self, _workflow_id: str) -> None:
        """See ``BaseDatabaseManager``: there is nothing to cancel."""

    def release_workflow(self, *_args: Any) -> None:
        """See ``BaseDatabaseManager``: nobody holds it."""


def _refuse(*_args: Any) -> NoReturn:
    raise AssertionError("a replay runs no body")  # pragma: no cover
