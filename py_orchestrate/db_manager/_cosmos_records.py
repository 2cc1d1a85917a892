"""The records of the Cosmos DB backend: reading and deleting them, schedules, and what 1.0.2 knows of runs.

What happens to a run that an orchestrator holds is in ``cosmosdb.py``, on top of this.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import StorageError
from ..models import (
    ControlRequest,
    EventRecord,
    QueueRecord,
    ScheduleRecord,
    StepOutcome,
    StepRecord,
    WorkflowRecord,
    WorkflowStatus,
)
from . import _cosmos_documents as cosmos
from . import _cosmos_transitions as transitions
from . import _documents as documents
from ._cosmos_owners import Owners
from ._cosmos_store import Document, Operation, Refused, Store
from ._records import RecordDatabaseManager, queue_records, refuse_unfinished

if TYPE_CHECKING:
    from .._instances import ActivityExecution, WorkflowInstance

_logger = logging.getLogger(__name__)

_MOST_DUES = 10_000
_DRAFT = "draft"
_DRAFTED_WITHIN_SECONDS = 60


class CosmosRecordsManager(RecordDatabaseManager):
    """A manager of the documents in two containers.

    Args:
        shared: The container of what belongs to no run.
        runs: That of the runs and the schedules.
    """

    def __init__(self, shared: Store, runs: Store) -> None:
        self._shared = shared
        self._runs = runs
        self._owners = Owners(shared, runs)
        self._lock = threading.Lock()
        self._last_position = 0
        self._may_be_ready = True
        """Whether a run may be ready that no look has found yet."""
        self._dues: list[str] = []
        """When runs become ready, of which that is known here."""

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """See the base class. One point read."""
        run = self._read_run(workflow_id)
        return None if run is None else self._readable(run)

    def _read_run(self, workflow_id: str) -> Document | None:
        """Return a run's document, if it is whole."""
        run = self._runs.read(workflow_id, cosmos.RUN)
        return None if run is None or run.get("type") != cosmos.RUN else run

    def _readable(self, run: Document) -> WorkflowRecord | None:
        """Return the run that a document is; ``None`` for one that somebody damaged."""
        try:
            return cosmos.record_of(self._runs.whole(run))
        except (KeyError, TypeError, ValueError) as error:
            _logger.warning("workflow %s cannot be read: %s; it is passed over", run.get("workflow_id"), error)
            return None

    def get_steps(self, workflow_id: str) -> list[StepRecord]:
        """See the base class. One query in one partition."""
        found = self._documents_of(workflow_id)
        steps = [cosmos.step_of(self._runs.whole(each)) for each in found if each.get("type") == cosmos.STEP]
        return sorted([*self._foreign_steps(workflow_id, found), *steps])

    def load_outcomes(self, workflow_id: str) -> list[StepOutcome]:
        """See the base class. One query in one partition, for what a replay needs of each step and no more."""
        found = self._documents_of(workflow_id, ", ".join(f"c.{field}" for field in cosmos.OUTCOME_FIELDS))
        outcomes = [cosmos.outcome_of(self._runs.whole(each)) for each in found if each.get("type") == cosmos.STEP]
        return sorted([*(step.outcome for step in self._foreign_steps(workflow_id, found)), *outcomes])

    @staticmethod
    def _foreign_steps(workflow_id: str, found: Iterable[Document]) -> list[StepRecord]:
        """Return the steps that have an id of 1.0.2's, or of their caller's own."""
        foreign = [cosmos.execution_of(each) for each in found if each.get("type") in (None, cosmos.EXECUTION)]
        foreign.sort(key=lambda execution: execution.created_at)
        return documents.steps_from_executions(workflow_id, foreign)

    def _documents_of(self, workflow_id: str, fields: str = "*") -> list[Document]:
        """Return what a run has recorded, of its current generation."""
        query = (
            f"SELECT {fields} FROM c WHERE c.workflow_id = @id "
            "AND (NOT IS_DEFINED(c.type) OR ARRAY_CONTAINS(['step', 'execution', 'run'], c.type))"
        )
        found = list(self._runs.query(query, {"id": workflow_id}, partition=workflow_id, page=1000))
        generation = next((each["generation"] for each in found if each.get("type") == cosmos.RUN), 0)
        return [
            each
            for each in found
            if each.get("type") != cosmos.RUN and (each.get("type") != cosmos.STEP or each["generation"] == generation)
        ]

    def load_events(
        self, workflow_id: str, *, name: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventRecord]:
        """See the base class. One query in one partition, and a point read."""
        run = self._read_run(workflow_id)
        forgotten = {} if run is None else run["forgotten"]
        query = (
            "SELECT * FROM c WHERE c.workflow_id = @id AND c.type = 'event' AND c.sequence > @after "
            f"{'' if name is None else 'AND c.name = @name '}ORDER BY c.sequence"
        )
        named = {} if name is None else {"name": name}
        found = self._runs.query(query, {"id": workflow_id, "after": after, **named}, partition=workflow_id)
        events = (
            cosmos.event_of(self._runs.whole(document))
            for document in found
            if document["sequence"] > forgotten.get(document["name"], 0)
        )
        return list(itertools.islice(events, limit))

    def page_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        version: str | None = None,
        queue: str | None = None,
    ) -> list[WorkflowRecord]:
        """See the base class. One query over all partitions."""
        values: dict[str, Any] = {"name": name, "version": version, "queue": queue}
        values["status"] = None if status is None else status.value
        conditions = [f"c.{field} = @{field}" for field, value in values.items() if value is not None]
        if cursor is not None:
            last = self._read_run(cursor)
            if last is None:
                raise LookupError(f"no workflow has the cursor's id {cursor!r}")
            conditions.append("c.position < @position")
            values["position"] = last["position"]
        given = {field: value for field, value in values.items() if value is not None}
        query = f"SELECT * FROM c WHERE {' AND '.join(["c.type = 'run'", *conditions])} ORDER BY c.position DESC"
        records = (self._readable(found) for found in self._runs.query(query, given, page=limit or 100))
        return list(itertools.islice((record for record in records if record is not None), limit))

    def pending_requests(self, owner: str) -> dict[str, ControlRequest]:
        """See the base class."""
        query = "SELECT c.workflow_id, c.request FROM c WHERE c.owner = @owner AND c.request > ''"
        return {
            found["workflow_id"]: ControlRequest(found["request"])
            for found in self._runs.query(query, {"owner": owner})
        }

    def list_queues(self) -> list[QueueRecord]:
        """See the base class."""
        query = (
            "SELECT c.lane, c.owner FROM c WHERE c.type = 'run' AND c.status = 'processing' AND c.lane > '' "
            "AND (c.due = '' OR c.owner > '')"
        )
        counts: dict[str, list[int]] = {}
        for found in self._runs.query(query):
            counts.setdefault(found["lane"], [0, 0])[found["owner"] is not None] += 1
        return queue_records(counts, [document["queues"] for document in self._owners.all()])

    # --- deleting -----------------------------------------------------------------------------------------------------

    def delete_workflow(self, workflow_id: str) -> bool:
        """See the base class."""
        run = self._read_run(workflow_id)
        if run is None:
            return False
        refuse_unfinished(cosmos.record_of(run))
        return self._delete_run(run)

    def _delete_run(self, run: Document) -> bool:
        """Delete a run that has ended: first what says that it is there, then the rest."""
        partition = run["workflow_id"]
        if not self._runs.delete(partition, run):
            return False
        query = "SELECT c.id FROM c WHERE c.workflow_id = @id"
        self._runs.delete_all(
            partition, [found["id"] for found in self._runs.query(query, {"id": partition}, partition=partition)]
        )
        return True

    def purge_workflows(
        self,
        ended_before: datetime,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        limit: int = 100,
    ) -> int:
        """See the base class."""
        wanted = [each.value for each in WorkflowStatus if each.is_final] if status is None else [status.value]
        named = "" if name is None else "AND c.name = @name"
        values: dict[str, Any] = {"before": cosmos.time_text(ended_before), "wanted": wanted}
        values |= {} if name is None else {"name": name}
        query = (
            "SELECT c.id, c.workflow_id, c.parent_id, c._etag FROM c WHERE c.type = 'run' AND c.updated_at < @before "
            f"AND ARRAY_CONTAINS(@wanted, c.status) {named} ORDER BY c.updated_at"
        )
        purged = 0
        for run in self._runs.query(query, values):
            if purged >= limit:
                break
            parent = None if run["parent_id"] is None else self.read_workflow(run["parent_id"])
            if parent is None or parent.status.is_final:
                purged += self._delete_run(run)
        return purged

    # --- storing ------------------------------------------------------------------------------------------------------

    def _insert_run(
        self, run: Document, steps: Sequence[StepRecord] = (), events: Sequence[EventRecord] = ()
    ) -> Document | None:
        """Store a run with its history; return the one that has its id."""
        workflow_id = run["workflow_id"]
        history = [cosmos.step_document(workflow_id, run["generation"], step) for step in steps]
        history += [cosmos.event_document(workflow_id, event) for event in events]
        # With a history it is not ready, and is seen by nobody as a run, until that is there.
        document = run | {"type": _DRAFT, "due": None} if history else run
        existing = self._runs.insert(workflow_id, document)
        if existing is not None and self._is_abandoned(existing):
            self._delete_run(existing)
            return self._insert_run(run, steps, events)
        if existing is None and history:
            last = max((event.position for event in events), default=0)
            whole = {"type": cosmos.RUN, "due": run["due"], "last_event": last}
            self._runs.update(workflow_id, document, whole, [("upsert", each) for each in history])
            run["_etag"] = document["_etag"]
        return existing

    @staticmethod
    def _is_abandoned(existing: Document) -> bool:
        """Return whether somebody has begun to store a run with its history, and died before it was whole."""
        return bool(existing["type"] == _DRAFT and time.time() - existing["_ts"] > _DRAFTED_WITHIN_SECONDS)

    def _next_position(self) -> str:
        with self._lock:
            self._last_position = max(time.time_ns(), self._last_position + 1)
            return f"{self._last_position:020d}"

    def _change(
        self,
        workflow_id: str,
        fields_of: Callable[[Document], Document | None],
        operations: Sequence[Operation] = (),
    ) -> Document | None:
        """Change a run, whoever holds it, by what it is when it is changed; the operations create nothing.

        Returns:
            The run as it is now; ``None`` where there is none, or ``fields_of`` returned ``None``.
        """
        run = self._read_run(workflow_id)
        while run is not None and run.get("type") == cosmos.RUN:
            fields = fields_of(run)
            if fields is None:
                return None
            try:
                self._runs.update(workflow_id, run, fields, operations)
            except Refused as refused:
                run = refused.current
                continue
            return run
        return None

    def _expect(self, run: Document) -> None:
        """Note that a run is, or will be, ready, for who ends another one and looks for what is next."""
        if run["due"] == cosmos.READY:
            self._may_be_ready = True
        elif run["due"] is not None:
            with self._lock:
                if len(self._dues) < _MOST_DUES:
                    heapq.heappush(self._dues, run["due"])

    # --- messages to other partitions ---------------------------------------------------------------------------------

    def _message(self, partition: str, record: WorkflowRecord) -> Document:
        run = cosmos.run_document(record, self._next_position())
        return cosmos.message_document(partition, run, transitions.overdue_from(datetime.now(UTC)))

    def _deliver(self, message: Document) -> None:
        """Create the run that a message carries, unless its id is taken, and forget the message."""
        run = self._runs.whole(message["run"])
        self._runs.insert(run["workflow_id"], run)
        self._runs.delete_all(message["workflow_id"], [message["id"]])
        self._may_be_ready = True

    # --- schedules ----------------------------------------------------------------------------------------------------

    def store_schedule(self, record: ScheduleRecord, *, runs: Sequence[WorkflowRecord] = ()) -> bool:
        """See the base class. One write, and two for each run."""
        document = cosmos.schedule_document(record)
        partition = document["workflow_id"]
        messages = [self._message(partition, run) for run in runs]
        if record.revision == 1:
            if self._runs.insert(partition, document) is not None:
                return False
            stored: Document | None = document
            fields: Document = {}
        else:
            stored = self._runs.read(partition, cosmos.SCHEDULE)
            fields = {field: value for field, value in document.items() if field not in ("id", "workflow_id")}
        if stored is None or (fields and stored["revision"] != record.revision - 1):
            return False
        if fields or messages:
            try:
                self._runs.update(partition, stored, fields, [("upsert", message) for message in messages])
            except Refused:
                return False
        for message in messages:
            self._deliver(message)
        return True

    def read_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """See the base class."""
        document = self._runs.read(cosmos.schedule_partition(schedule_id), cosmos.SCHEDULE)
        return None if document is None else cosmos.schedule_of(self._runs.whole(document))

    def list_schedules(self, *, due_at: datetime | None = None) -> list[ScheduleRecord]:
        """See the base class."""
        due = "" if due_at is None else "AND c.due <= @due"
        values = {} if due_at is None else {"due": cosmos.time_text(due_at)}
        found = self._runs.query(f"SELECT * FROM c WHERE c.type = 'schedule' {due}", values)
        return sorted((cosmos.schedule_of(self._runs.whole(each)) for each in found), key=lambda record: record.id)

    def delete_schedule(self, schedule_id: str) -> bool:
        """See the base class."""
        partition = cosmos.schedule_partition(schedule_id)
        while (document := self._runs.read(partition, cosmos.SCHEDULE)) is not None:
            if self._runs.delete(partition, document):
                return True
        return False

    # --- 1.0.2's methods, and what it left ----------------------------------------------------------------------------

    def save_workflow(self, workflow: WorkflowInstance) -> None:
        """See the base class."""
        record = documents.record_from_instance(workflow)
        if self._insert_run(run := cosmos.run_document(record, self._next_position())) is None:
            return

        self._change(workflow.id, lambda stored: transitions.saved(stored, run))

    def save_activity_execution(self, execution: ActivityExecution) -> None:
        """See the base class."""
        run = self._read_run(execution.workflow_id)
        if run is None:
            raise StorageError(f"no workflow has the id {execution.workflow_id!r} of the execution {execution.id!r}")
        (step,) = documents.steps_from_executions(execution.workflow_id, [execution])
        if step.sequence < 0:  # an id of the caller's own
            document = cosmos.execution_document(execution)
        else:
            document = cosmos.step_document(execution.workflow_id, run["generation"], step)
        self._change(execution.workflow_id, lambda _: {}, [("upsert", document)])

    def get_activity_executions(self, workflow_id: str) -> list[ActivityExecution]:
        """See the base class."""
        executions = []
        for found in self._documents_of(workflow_id):
            if found.get("type") != cosmos.STEP:
                executions.append(cosmos.execution_of(found))
            elif found["kind"] == "activity":
                executions.append(documents.execution_from_step(workflow_id, cosmos.step_of(self._runs.whole(found))))
        return sorted(executions, key=lambda execution: execution.created_at)

    def _take_over_legacy(self) -> None:
        """Store a run for each workflow that 1.0.2 left, and mark its document; what 1.0.2 wrote stays as it is."""
        from .._instances import WorkflowInstance

        query = "SELECT * FROM c WHERE NOT IS_DEFINED(c.type) ORDER BY c.created_at"
        count = 0
        for found in list(self._shared.query(query)):
            instance = WorkflowInstance(
                id=found["id"],
                name=found["name"],
                status=WorkflowStatus(found["status"]),
                input_data=found.get("input_data") or {},
                output_data=found.get("output_data"),
                current_activity=found.get("current_activity"),
                error_message=found.get("error_message"),
                created_at=datetime.fromisoformat(found["created_at"]),
                updated_at=datetime.fromisoformat(found["updated_at"]),
            )
            self._insert_run(cosmos.run_document(documents.record_from_instance(instance), self._next_position()))
            try:
                self._shared.update(found["id"], found, {"type": "taken over"})
            except Refused:
                continue  # by another process
            count += 1
        if count:
            _logger.info("took over %d workflows of py-orchestrate 1.0.2", count)
