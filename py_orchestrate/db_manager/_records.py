"""What backends share that keep the engine's records as they are: 1.0.2's reading methods, made of the engine's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import UnsupportedOperationError, WorkflowNotFoundError, WorkflowStateError
from ..models import ControlRequest, QueueRecord, WorkflowRecord, WorkflowStatus
from . import _documents as documents
from .base import BaseDatabaseManager

if TYPE_CHECKING:
    from .._instances import WorkflowInstance


class RecordDatabaseManager(BaseDatabaseManager):
    """A manager that implements the intent-level methods itself, and 1.0.2's reading methods through them."""

    def get_workflow(self, workflow_id: str) -> WorkflowInstance | None:
        """See the base class."""
        record = self.read_workflow(workflow_id)
        return None if record is None else documents.instance_from_record(record)

    def get_workflows_by_name(self, name: str) -> list[WorkflowInstance]:
        """See the base class."""
        return [documents.instance_from_record(record) for record in self.page_workflows(name=name)]

    def list_workflows(self) -> list[WorkflowInstance]:
        """See the base class."""
        return [documents.instance_from_record(record) for record in self.page_workflows()]

    def get_processing_workflows(self) -> list[WorkflowInstance]:
        """See the base class."""
        records = self.page_workflows(status=WorkflowStatus.PROCESSING)
        return [documents.instance_from_record(record) for record in reversed(records)]


def refuse_unfinished(record: WorkflowRecord) -> None:
    """Raise unless the run may be deleted.

    Raises:
        UnsupportedOperationError: It is not finished.
    """
    if not record.status.is_final:
        raise UnsupportedOperationError(
            f"workflow {record.id} is {record.status.value}: only a finished one can be deleted"
        )


def refusal(workflow_id: str, record: WorkflowRecord | None, what: str) -> WorkflowNotFoundError | WorkflowStateError:
    """Return the error for what cannot be done to a run as it stands."""
    if record is None:
        return WorkflowNotFoundError(workflow_id)
    status = record.status.value
    state = "being cancelled" if record.request is ControlRequest.CANCEL else status
    return WorkflowStateError(f"workflow {workflow_id} ({record.name}) is {state}: {what}", workflow_id, status)


def queue_records(counts: Mapping[str, Sequence[int]], consumed: Iterable[Iterable[str]]) -> list[QueueRecord]:
    """Return how each queue stands, by name.

    Args:
        counts: How many runs are ready and how many are held, by queue.
        consumed: The queues that each orchestrator consumes.
    """
    consumers = Counter(queue for queues in consumed for queue in queues)
    found = []
    for name in sorted({*counts, *consumers}):
        ready, running = counts.get(name, (0, 0))
        found.append(QueueRecord(name, ready, running, consumers[name]))
    return found
