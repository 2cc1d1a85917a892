"""The Azure Cosmos DB backend: 1.0.2's two containers, for any number of processes and machines.

Everything that a step's commit touches lies in one logical partition of the second container, that of the run's id, so
that a commit is one transactional batch on the condition that the run's document is as it was decided by: a zombie
writes nothing (``_cosmos_store.py``). What has to reach another partition (a child workflow, the end of a child) is
stored as a message with the commit, delivered after it, and delivered by whoever finds it if its sender has died;
delivering it twice does nothing. The first container has what belongs to no run: the orchestrators, the queues' places
(``_cosmos_queues.py``), deduplication keys; and the workflows that 1.0.2 left there, which are taken over when the
store is opened.

What decides is never a read alone, for a read may be old (the service's default is session consistency): it is the
ETag of the write. Leases are counted in signs of life, not in times of the service. Conflicting writes of several
regions could undo a decision afterwards, so an account with one write region is needed.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import ClaimLostError, StorageError
from ..models import (
    ActivityStatus,
    ControlRequest,
    EventRecord,
    Outlook,
    StepOutcome,
    StepRecord,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowRecord,
    WorkflowStatus,
    WorkflowSuspension,
)
from . import _cosmos_documents as cosmos
from . import _cosmos_transitions as transitions
from . import _documents as documents
from ._claims import Claimer, Room
from ._cosmos_client import open_containers
from ._cosmos_queues import Full, Places
from ._cosmos_records import CosmosRecordsManager
from ._cosmos_store import CONFLICT, Document, Operation, Refused, Store
from ._records import refusal

if TYPE_CHECKING:
    from ..queues import Queue

__all__ = ["CosmosDatabaseManager"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_LIMIT = 100
_CANDIDATES = 20
_SWEEP_EVERY_BEATS = 6
_RESERVED_FOR_SECONDS = 60
_MOST_DUES = 10_000

_DUE = """
SELECT TOP {limit} c.id, c.type, c.workflow_id, c.name, c.lane, c.due, c.tells, c.ends_by FROM c
WHERE (c.due >= "" {more}) OR (c.ends_by >= "" AND c.ends_by <= @now) ORDER BY c.due
"""
_READY = """
SELECT TOP {limit} c.workflow_id, c.rank, c.lane, c.updated_at FROM c
WHERE c.type = "run" AND c.status = "processing" AND c.due >= "" AND c.due <= @now
    AND c.lane = @lane AND ARRAY_CONTAINS(@names, c.name)
ORDER BY c.{order}
"""


class _Held:
    """A run that is held through this manager, as it is stored, but for its payloads.

    Attributes:
        lock: Held while it is written, for its own threads would refuse each other's writes.
        document: Its document.
        steps: The status of each of its steps that is known, by ordinal.
    """

    def __init__(self, document: Document) -> None:
        self.lock = threading.RLock()
        self.document = document
        self.steps: dict[int, str] = {}


class CosmosDatabaseManager(CosmosRecordsManager):
    """Workflow persistence in two Cosmos DB containers; needs ``pip install 'py-orchestrate[cosmos]'``.

    Args:
        database_id: The database.
        workflow_container_id: The container partitioned by ``/id``.
        activity_container_id: The container partitioned by ``/workflow_id``.
        connection_string: The account's connection string; or give ``endpoint`` and ``credential``, or ``client``.
        endpoint: The account's address.
        credential: A key, or a credential of ``azure-identity``.
        create: Whether to make the database and the containers where they are not there. A credential of Microsoft
            Entra ID may not: then make them beforehand, and give ``False``.
        client: An ``azure.cosmos.CosmosClient`` of your own.
        consistency: The consistency level for reads, such as ``"Strong"``; the account's by default. Session is enough.
        max_retries: How often a request is repeated that the service was too busy for, after the SDK has done so.
        timeout_seconds: How long one request may take.

    Raises:
        ImportError: ``azure-cosmos`` is not installed.
        ValueError: Neither a connection string, nor an endpoint with a credential, nor a client is given.
        StorageError: The account cannot be reached, or refuses; or a container is missing, or has another partition
            key.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"leases", "waiting", "queues", "schedules"})

    def __init__(
        self,
        database_id: str,
        workflow_container_id: str,
        activity_container_id: str,
        connection_string: str | None = None,
        endpoint: str | None = None,
        credential: Any = None,
        *,
        create: bool = True,
        client: Any = None,
        consistency: str | None = None,
        max_retries: int = 6,
        timeout_seconds: float = 65.0,
    ) -> None:
        self.database_id = database_id
        self.workflow_container_id = workflow_container_id
        self.activity_container_id = activity_container_id
        self.client, self.database, self.workflows_container, self.activity_executions_container = open_containers(
            (database_id, workflow_container_id, activity_container_id),
            (connection_string, endpoint, credential, client),
            create=create,
            consistency=consistency,
            timeout_seconds=timeout_seconds,
        )
        what = f"the Cosmos DB database {database_id!r}"
        super().__init__(
            Store(self.workflows_container, what, max_retries=max_retries, is_by_id=True),
            Store(self.activity_executions_container, what, max_retries=max_retries),
        )
        self._places = Places(self._shared, self._runs)
        self._held: dict[str, _Held] = {}
        self._beats = 0
        self._doubts: dict[str, str] = {}
        """Runs that may have been claimed, for whom; it could not be found out then."""
        self._take_over_legacy()

    # --- ownership ----------------------------------------------------------------------------------------------------

    def register_owner(self, owner: str, *, queues: Sequence[str] = ()) -> None:
        """See the base class."""
        self._owners.register(owner, queues)

    def release_owner(self, owner: str) -> None:
        """See the base class. First it is forgotten, so that it can claim nothing while its runs are freed."""
        self._owners.forget(owner)
        self._free_runs_of(owner, lambda run: transitions.freed(run, owner))

    def beat_owner(self, owner: str) -> dict[str, int]:
        """See the base class. A read and a write, and a query over the orchestrators."""
        self._owners.beat(owner)
        self._beats += 1
        if self._beats % _SWEEP_EVERY_BEATS == 0:
            for gone in self._owners.late_claimers():
                self._free_runs_of(gone, lambda run, gone=gone: transitions.freed(run, gone))  # type: ignore[misc]
        found = self._owners.all()
        for dead in [each["owner"] for each in found if each["is_dead"]]:
            self._bury(dead, datetime.now(UTC))  # whoever had begun to may have died
        return {each["owner"]: each["beats"] for each in found if not each["is_dead"]}

    def expire_owner(self, owner: str, beats: int, *, now: datetime | None = None) -> bool:
        """See the base class."""
        if not self._owners.mark_as_dead(owner, beats):
            return False
        self._bury(owner, datetime.now(UTC) if now is None else now)
        return True

    def _bury(self, owner: str, now: datetime) -> None:
        """Free the runs of an orchestrator that is marked as dead, and forget it."""
        self._free_runs_of(owner, lambda run: transitions.crashed(run, owner, now))
        self._owners.forget(owner)

    def _free_runs_of(self, owner: str, fields_of: Callable[[Document], Document | None]) -> None:
        query = "SELECT c.workflow_id FROM c WHERE c.owner = @owner"
        for found in list(self._runs.query(query, {"owner": owner})):
            self._change(found["workflow_id"], fields_of)
        self._places.forget_checks()
        self._may_be_ready = True

    # --- looking and claiming -----------------------------------------------------------------------------------------

    def look(self, owner: str = "", *, now: datetime | None = None, queues: Sequence[Queue] = ()) -> Outlook:
        """See the base class. One query; one more where there are queues that are not consumed here, or many names."""
        moment = datetime.now(UTC) if now is None else now
        claimer = Claimer.of(owner, (), queues)
        names: set[str] = set()
        lanes: set[str] = set()
        times: list[datetime] = []
        ticks: list[datetime] = []
        rooms: dict[str, Room] = {}
        for found in self._due(moment):
            if found["type"] == cosmos.SCHEDULE:
                ticks.append(datetime.fromisoformat(found["due"]))
            elif found["due"] != cosmos.READY:
                times.append(datetime.fromisoformat(found["due"]))
                if found["type"] == cosmos.MESSAGE or found.get("tells"):
                    self._deliver_late(found, moment)
            elif claimer.takes_from(found["lane"]):
                lane = found["lane"]
                if lane not in rooms:
                    rooms[lane] = self._places.room(claimer, lane, 1, moment)
                    if rooms[lane].runs and not rooms[lane].starts:
                        names.update(self._begun_names(lane))
                        times.extend(filter(None, [rooms[lane].starts_at]))
                if rooms[lane].runs and rooms[lane].starts:
                    names.add(found["name"])
            else:
                lanes.add(found["lane"])
        if lanes:
            lanes -= {queue for document in self._owners.all() for queue in document["queues"]}
        self._may_be_ready = self._may_be_ready or bool(names)
        return Outlook(frozenset(names), min(times, default=None), frozenset(lanes), min(ticks, default=None))

    def _due(self, now: datetime) -> Iterator[Document]:
        """Yield what is ready or comes due, of each lane and name that is ready once at least.

        Runs that are out of their time, and that nobody holds, become ready for their end.
        """
        seen: list[str] = []
        while True:
            more = "AND NOT ARRAY_CONTAINS(@seen, CONCAT(c.lane, '/', c.name))" if seen else ""
            text = _DUE.format(limit=_LOOK_LIMIT, more=more)
            values = {"now": cosmos.time_text(now), **({"seen": seen} if seen else {})}
            found = list(self._runs.query(text, values, page=_LOOK_LIMIT))
            for each in found:
                if each.get("ends_by") and each["ends_by"] <= values["now"]:
                    self._change(each["workflow_id"], lambda run: transitions.expired(run, now))
                    each |= {"lane": "", "due": cosmos.READY}
            yield from found
            ready = {f"{each['lane']}/{each['name']}" for each in found if each["due"] == cosmos.READY}
            if len(found) < _LOOK_LIMIT or not ready:
                return
            seen += ready

    def _begun_names(self, lane: str) -> set[str]:
        query = "SELECT c.name FROM c WHERE c.type = 'run' AND c.due = '' AND c.lane = @lane AND c.epoch > 0"
        return {found["name"] for found in self._runs.query(query, {"lane": lane})}

    def claim_workflows(
        self,
        owner: str,
        names: Iterable[str],
        limit: int,
        *,
        now: datetime | None = None,
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class. One query for each queue; one conditional write for each run."""
        claimer = Claimer.of(owner, names, queues)
        moment = datetime.now(UTC) if now is None else now
        self._may_be_ready = False
        with self._lock:
            while self._dues and self._dues[0] <= cosmos.time_text(moment):
                heapq.heappop(self._dues)
        if limit <= 0 or not claimer.names or not self._owners.is_registered(owner):
            return []
        claimed = self._settled_doubts(claimer, limit)
        lanes = ["", *claimer.queues]
        turns = [self._places.turn(claimer, lane, limit, moment, self._candidates) for lane in lanes]
        candidates = self._places.mixed(turns)
        full: set[str] = set()
        for candidate in candidates:
            if len(claimed) >= limit:
                break
            if candidate["lane"] in full:
                continue
            try:
                record = self._claim(candidate, claimer, moment)
            except Full:
                full.add(candidate["lane"])
                continue
            except StorageError:
                self._doubts[candidate["workflow_id"]] = owner
                if not claimed:
                    raise
                break
            if record is not None:
                claimed.append(record)
        self._may_be_ready = self._may_be_ready or len(claimed) < len(candidates)
        return claimed

    def _settled_doubts(self, claimer: Claimer, limit: int) -> list[WorkflowRecord]:
        """Return the runs that are the claimer's by a claim of which it was not known whether it was stored."""
        found = []
        for workflow_id in [each for each, owner in list(self._doubts.items()) if owner == claimer.owner][:limit]:
            run = self._read_run(workflow_id)
            if self._doubts.pop(workflow_id, None) is None:  # another thread was here
                continue
            if run is not None and run["owner"] == claimer.owner and workflow_id not in self._held:
                self._hold(run)
                found.append(cosmos.record_of(self._runs.whole(run)))
        return found

    def _candidates(self, claimer: Claimer, lane: str, limit: int, now: datetime, order: str) -> list[Document]:
        query = _READY.format(limit=limit + _CANDIDATES, order=order)
        values: dict[str, Any] = {"now": cosmos.time_text(now), "lane": lane, "names": sorted(claimer.names)}
        return list(self._runs.query(query, values, page=limit + _CANDIDATES))

    def _claim(self, candidate: Document, claimer: Claimer, now: datetime) -> WorkflowRecord | None:
        """Claim a run that was found ready; ``None`` if somebody else did, or it has no place, or cannot be read."""
        workflow_id = candidate["workflow_id"]
        run = self._read_run(workflow_id)
        if run is None or not transitions.is_claimable(run, now):
            return None
        if not self._places.take(claimer, run, now):
            return None
        fields = transitions.claimed(run, claimer.owner)
        try:
            record = cosmos.record_of(self._runs.whole({**run, **fields}))
            self._runs.update(workflow_id, run, fields)
        except Refused:
            self._places.give_back(run)
            return None
        except (KeyError, TypeError, ValueError) as error:
            _logger.warning("workflow %s cannot be read and is passed over: %s", workflow_id, error)
            self._places.give_back(run)
            return None
        self._hold(run)
        return record

    def _hold(self, run: Document) -> _Held:
        held = _Held({field: value for field, value in run.items() if field not in ("input", "output", "error")})
        self._held[run["workflow_id"]] = held
        return held

    # --- one run ------------------------------------------------------------------------------------------------------

    def create_workflow(
        self, record: WorkflowRecord, *, steps: Sequence[StepRecord] = (), events: Sequence[EventRecord] = ()
    ) -> WorkflowRecord | None:
        """See the base class. One write; three with a deduplication key."""
        if record.owner is not None and not self._owners.may_be_born_to(record.owner):
            record = record._replace(owner=None)
        run = cosmos.run_document(record, self._next_position())
        key: Document | None = None
        if record.deduplication_key is not None:
            existing, key = self._reserve_key(run)
            if existing is not None:
                return existing
        try:
            existing_run = self._insert_run(run, steps, events)
        except StorageError:
            if record.owner is not None:
                self._doubts[record.id] = record.owner
            raise
        if existing_run is not None and existing_run["position"] != run["position"]:
            return cosmos.record_of(self._runs.whole(existing_run))
        run["_etag"] = (existing_run or run)["_etag"]  # it may be stored by somebody else, who found its key
        if key is not None:
            self._settle_key(key, record.id)
        if record.owner is not None:
            self._hold(run)
        self._expect(run)
        return None

    def _reserve_key(self, run: Document) -> tuple[WorkflowRecord | None, Document]:
        """Give a run its deduplication key; return the run that has it, and the key's document.

        The document has a copy of the run until that is stored. So whoever finds the key meanwhile can store the run
        for its maker, who may have died; and a run that was stored, and deleted since, does not come back.
        """
        document_id = self._places.key_id(run["lane"], run["deduplication_key"])
        while True:
            document = {"id": document_id, "type": cosmos.KEY, "run": run}
            found = self._shared.insert(document_id, document)
            if found is None:
                return None, document
            workflow_id = found["run"]["workflow_id"]
            other = self.read_workflow(workflow_id)
            is_being_stored = "status" in found["run"] and time.time() - found["_ts"] < _RESERVED_FOR_SECONDS
            if other is None and is_being_stored:
                self._insert_run(self._shared.whole(found)["run"])
                other = self.read_workflow(workflow_id)
            if other is not None and not other.status.is_final and other.deduplication_key is not None:
                return other, found
            self._shared.forget_parts(found)
            try:
                self._shared.update(document_id, found, {"run": run})
            except Refused:
                continue
            return None, found

    def _settle_key(self, key: Document, workflow_id: str) -> None:
        """Note that the run that has a key is stored."""
        parts = dict(key)
        try:
            self._shared.update(key["id"], key, {"run": {"workflow_id": workflow_id}})
        except Refused:
            return  # it has another run by now
        self._shared.forget_parts(parts)

    def release_workflow(self, workflow_id: str, epoch: int) -> None:
        """See the base class."""
        self._let_go(self._change(workflow_id, lambda run: transitions.released(run, epoch)))

    def load_outcomes(self, workflow_id: str) -> list[StepOutcome]:
        """See the base class. What is found is what the run's next writes go by."""
        outcomes = super().load_outcomes(workflow_id)
        held = self._held.get(workflow_id)
        if held is not None:
            held.steps = {outcome.sequence: outcome.status for outcome in outcomes}
        return outcomes

    def record_steps(
        self,
        workflow_id: str,
        epoch: int,
        steps: Sequence[StepRecord],
        *,
        current_activity: str | None = None,
        children: Sequence[WorkflowRecord] = (),
        custom_status: str | None = None,
    ) -> ControlRequest | None:
        """See the base class. One write, and two for each child."""
        fields: Document = {}
        if current_activity is not None:
            fields = {"current_activity": current_activity, "updated_at": cosmos.time_text(datetime.now(UTC))}
        if custom_status is not None:
            fields["custom_status"] = custom_status
        is_progress = any(step.status != ActivityStatus.RUNNING for step in steps)

        def fields_of(run: Document) -> Document:
            return {**fields, "crashes": 0} if is_progress and run["crashes"] else fields

        run = self._commit(workflow_id, epoch, fields_of, steps, children)
        return None if run["request"] is None else ControlRequest(run["request"])

    def finish_workflow(self, workflow_id: str, epoch: int, end: WorkflowEnd) -> None:
        """See the base class. One write; three where it has a parent."""
        run = self._commit(workflow_id, epoch, lambda run: transitions.ended(run, end), end.steps, end.children)
        self._let_go(run)
        self._tell_parent(run)

    def finish_and_claim(
        self,
        workflow_id: str,
        epoch: int,
        end: WorkflowEnd,
        *,
        owner: str,
        names: Iterable[str],
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class. It looks for another run only where there may be one: else the next poll does."""
        self.finish_workflow(workflow_id, epoch, end)
        return self._claim_one(owner, names, end.finished_at, queues)

    def _claim_one(
        self, owner: str, names: Iterable[str], now: datetime, queues: Sequence[Queue]
    ) -> list[WorkflowRecord]:
        with self._lock:
            is_due = bool(self._dues) and self._dues[0] <= cosmos.time_text(now)
        if not self._may_be_ready and not is_due:
            return []
        return self.claim_workflows(owner, names, 1, now=now, queues=queues)

    def _commit(
        self,
        workflow_id: str,
        epoch: int,
        fields_of: Callable[[Document], Document],
        steps: Sequence[StepRecord] = (),
        children: Sequence[WorkflowRecord] = (),
    ) -> Document:
        """Store steps, children and fields of a run that is held: one batch, on the condition that it is.

        Returns:
            The run's document as it is now, without its payloads.

        Raises:
            ClaimLostError: The claim is lost; nothing was written.
        """
        held = self._held.get(workflow_id) or self._hold(self._fenced_run(workflow_id, epoch))
        messages = [self._message(workflow_id, child) for child in children]
        with held.lock:
            while True:
                run = held.document
                _check_fence(run, workflow_id, epoch)
                operations = [*self._step_operations(held, steps), *[("upsert", message) for message in messages]]
                try:
                    self._runs.update(workflow_id, run, fields_of(run), operations)
                except Refused as refused:
                    if refused.current is None or not transitions.is_held(refused.current, epoch):
                        self._held.pop(workflow_id, None)
                        raise ClaimLostError(workflow_id, epoch) from refused
                    held.document = refused.current
                    if refused.status == CONFLICT:  # a step is there that was not known
                        held.steps = {each.sequence: each.status for each in super().load_outcomes(workflow_id)}
                    continue
                held.steps.update((step.sequence, step.status) for step in steps if self._may_store(held, step))
                break
        for message in messages:
            self._deliver(message)
        return held.document

    def _fenced_run(self, workflow_id: str, epoch: int) -> Document:
        run = self._read_run(workflow_id)
        if run is None:
            raise ClaimLostError(workflow_id, epoch)
        _check_fence(run, workflow_id, epoch)
        return run

    @staticmethod
    def _may_store(held: _Held, step: StepRecord) -> bool:
        return held.steps.get(step.sequence) not in documents.NEVER_REPLACED

    def _step_operations(self, held: _Held, steps: Sequence[StepRecord]) -> list[Operation]:
        """Return the operations that store steps; one that is not known is created, so that none is replaced by it."""
        run = held.document
        latest: dict[int, StepRecord] = {}
        for step in steps:
            known = latest.get(step.sequence)
            if known is None or known.status not in documents.NEVER_REPLACED:
                latest[step.sequence] = step
        return [
            (
                "upsert" if step.sequence in held.steps else "create",
                cosmos.step_document(run["workflow_id"], run["generation"], step),
            )
            for step in latest.values()
            if self._may_store(held, step)
        ]

    def _let_go(self, run: Document | None) -> None:
        """Forget a run that is held no longer, and give its place in its queue back."""
        if run is not None:
            self._held.pop(run["workflow_id"], None)
            self._places.give_back(run)
            self._expect(run)

    # --- messages to other partitions ---------------------------------------------------------------------------------

    def _tell_parent(self, run: Document) -> None:
        """Tell a run's parent that it has ended, and note that it knows."""
        if run["tells"] is None:
            return
        signal = f"workflow:{run['workflow_id']}"
        parent = self._change(run["tells"], lambda found: transitions.signalled(found, signal))
        if parent is not None:
            self._expect(parent)
        self._change(run["workflow_id"], transitions.told)

    def _deliver_late(self, found: Document, now: datetime) -> None:
        """Deliver what somebody else should have, if it is overdue."""
        if found["due"] > cosmos.time_text(now):
            return
        document = self._runs.read(found["workflow_id"], found["id"])
        if document is None:
            return
        if document["type"] == cosmos.MESSAGE:
            self._deliver(document)
        elif document["type"] == cosmos.RUN:
            self._tell_parent(document)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def suspend_workflow(self, workflow_id: str, epoch: int, suspension: WorkflowSuspension) -> None:
        """See the base class. One write, and two for each child."""
        steps, children = suspension.steps, suspension.children
        self._let_go(
            self._commit(workflow_id, epoch, lambda run: transitions.suspended(run, suspension), steps, children)
        )

    def suspend_and_claim(
        self,
        workflow_id: str,
        epoch: int,
        suspension: WorkflowSuspension,
        *,
        owner: str,
        names: Iterable[str],
        queues: Sequence[Queue] = (),
    ) -> list[WorkflowRecord]:
        """See the base class."""
        self.suspend_workflow(workflow_id, epoch, suspension)
        return self._claim_one(owner, names, suspension.suspended_at, queues)

    def continue_workflow(self, workflow_id: str, epoch: int, continuation: WorkflowContinuation) -> None:
        """See the base class. What is left of the generation before is deleted afterwards; nobody reads it."""
        before: Document = {}

        def fields_of(run: Document) -> Document:
            before.update(run)
            return transitions.continued(run, continuation)

        self._let_go(self._commit(workflow_id, epoch, fields_of, (), continuation.children))
        query = (
            "SELECT c.id, c.type, c.generation, c.name, c.sequence FROM c "
            "WHERE c.workflow_id = @id AND ARRAY_CONTAINS(['step', 'event'], c.type)"
        )
        old = [
            found["id"]
            for found in self._runs.query(query, {"id": workflow_id}, partition=workflow_id)
            if (found["type"] == cosmos.STEP and found["generation"] <= before["generation"])
            or (found["type"] == cosmos.EVENT and found["sequence"] <= before["forgotten"].get(found["name"], 0))
        ]
        self._runs.delete_all(workflow_id, old)

    def add_event(self, workflow_id: str, event: EventRecord) -> None:
        """See the base class. One read and one write."""
        run = self._read_run(workflow_id)
        while run is not None and (fields := transitions.signalled(run, f"event:{event.name}")) is not None:
            position = run["last_event"] + 1
            document = cosmos.event_document(workflow_id, event._replace(position=position))
            try:
                self._runs.update(workflow_id, run, {**fields, "last_event": position}, [("create", document)])
            except Refused as refused:
                if refused.status == CONFLICT:  # the run has the event
                    return
                run = refused.current
                continue
            self._expect(run)
            return
        if run is None or self._runs.read(workflow_id, cosmos.event_document_id(event.id)) is None:
            record = None if run is None else cosmos.record_of(run)
            raise refusal(workflow_id, record, f"an event {event.name!r} cannot reach it")

    # --- control ------------------------------------------------------------------------------------------------------

    def _control(self, workflow_id: str, what: str, fields_of: Callable[[Document], Document | None]) -> None:
        """Change a run, whoever holds it.

        Raises:
            WorkflowNotFoundError: There is no such run.
            WorkflowStateError: ``fields_of`` has returned ``None``.
        """
        seen: list[Document] = []

        def noted(run: Document) -> Document | None:
            seen.append(dict(run))
            return fields_of(run)

        run = self._change(workflow_id, noted)
        if run is None:
            raise refusal(workflow_id, cosmos.record_of(seen[-1]) if seen else None, what)
        self._expect(run)

    def cancel_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        self._control(workflow_id, "it cannot be cancelled", transitions.cancelled)

    def pause_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        self._control(workflow_id, "it cannot be paused", transitions.paused)

    def resume_workflow(self, workflow_id: str) -> None:
        """See the base class."""
        self._control(workflow_id, "it cannot be resumed", transitions.resumed)

    def reopen_workflow(
        self, workflow_id: str, epoch: int, drop: Iterable[int], replace: Sequence[StepRecord] = ()
    ) -> None:
        """See the base class."""
        run = self._read_run(workflow_id)
        stored: dict[str, str] = {}
        if run is not None:
            query = "SELECT c.id, c.status FROM c WHERE c.workflow_id = @id AND c.type = 'step'"
            steps = self._runs.query(query, {"id": workflow_id}, partition=workflow_id)
            stored = {found["id"]: found["status"] for found in steps}
        dropped = list(drop)
        while run is not None and run["status"] == WorkflowStatus.FAILED.value and run["epoch"] == epoch:
            ids = [cosmos.step_document_id(run["generation"], sequence) for sequence in dropped]
            operations: list[Operation] = [("delete", each) for each in ids if each in stored]
            new = [cosmos.step_document(workflow_id, run["generation"], step) for step in replace]
            operations += [
                ("upsert", each)
                for each in new
                if each["id"] in ids or stored.get(each["id"]) not in documents.NEVER_REPLACED
            ]
            try:
                self._runs.update(workflow_id, run, transitions.reopened(run), operations)
            except Refused as refused:
                run = refused.current
                continue
            self._may_be_ready = True
            return
        record = None if run is None else cosmos.record_of(run)
        raise refusal(workflow_id, record, "only one that stands as failed can be rewound")

    def close(self) -> None:
        """See the base class. The client is its own or the program's, and stays open."""


def _check_fence(run: Document, workflow_id: str, epoch: int) -> None:
    if not transitions.is_held(run, epoch):
        raise ClaimLostError(workflow_id, epoch)
