"""Child workflows: runs of their own that a run has called.

A child is created in the same write as its parent's step, under an id made of the parent's id and the step's ordinal,
so it is created once. Its end makes the parent ready, in the same write.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._failures import Failure
from .._identifiers import MAX_WORKFLOW_ID_LENGTH
from .._options import RunOptions
from .._payloads import are_equal
from ..errors import WorkflowConflictError, WorkflowFailedError
from ..models import NEVER, ActivityStatus, StepOutcome, WorkflowRecord, WorkflowStatus
from .calls import Call
from .waits import Wait, WaitPart, state_of

if TYPE_CHECKING:
    from .._options import RunFields


class Child(Wait):
    """A wait for a child workflow.

    Attributes:
        workflow_id: The child's id.
    """

    def __init__(self, part: Children, call: Call, workflow_id: str, step: StepOutcome | None = None) -> None:
        super().__init__(part, call, step, {"workflow_id": workflow_id})
        self._is_recorded = True
        self._children = part
        self._ends_with_parent = False
        self.workflow_id = workflow_id

    @property
    def delays_cancellation(self) -> bool:
        """See ``Pending``: it may clean up first, and then it is this run's turn."""
        return self.outcome is None and not self._ends_with_parent

    @property
    def wake(self) -> tuple[datetime, str | None]:
        """See ``Pending``."""
        return NEVER, f"workflow:{self.workflow_id}"

    def settle(self) -> Any:
        """See ``Pending``."""
        self._part.journal.check_thread()
        if self.outcome is None:
            self._part.interrupts.guard()
            if not self.look():
                if self._ends_with_parent:
                    self._part.interrupts.cancel(self.call)
                if self._part.interrupts.is_cancellation_due:
                    self._part.interrupts.cancel_children()
                self._part.interrupts.suspend(*self.wake)
        assert self.outcome is not None  # noqa: S101 - or the run would have left
        return self._part.interrupts.replay(self.outcome, self._children.types_of(self.call.name))

    def _end(self) -> StepOutcome | None:
        record = self._children.ended(self.workflow_id)
        if record is None:
            return None
        self._part.interrupts.children.pop(self.sequence, None)
        if not self._children.is_own(record):
            return self._part.failed(self.call, _conflict(record.id), record.created_at)
        self.call = self.call._replace(arguments=record.input)
        is_cancelled = record.status is WorkflowStatus.CANCELLED
        self._ends_with_parent = is_cancelled and self._part.interrupts.is_cancellation_due
        return None if self._ends_with_parent else self._children.outcome_of(self.call, record)


class Children(WaitPart):
    """The child workflows of one run, on the workflow's thread."""

    def start(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions) -> Child:
        """Start a child workflow."""
        sequence, step = self.next("workflow", name)
        if step is None:
            child = self._new_child(sequence, name, args, kwargs, options)
        else:
            child = Child(self, Call(sequence, "workflow", name), state_of(step).get("workflow_id", ""), step)
        if child.outcome is None and not self.interrupts.is_shielded:
            self.interrupts.children[sequence] = child.workflow_id
        return child

    def _new_child(
        self, sequence: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions
    ) -> Child:
        now = self.host.clock.now()
        try:
            definition = self.host.registry.workflow_definition(name)
            what = f"argument of workflow {name!r}"
            arguments = definition.bind(args, kwargs)
            text, _ = self.host.serializer.encode(arguments, what=what, types=definition.types)
            fields = self._fields_of(options, now)
            child_id, is_there = self._place_of_child(options.workflow_id, sequence, (name, text))
        except Exception as error:  # noqa: BLE001 - recorded as the call's failure
            call = Call(sequence, "workflow", name)
            return Child(self, call, "", self.failed(call, error, now))
        call = Call(sequence, "workflow", name, text)
        self.interrupts.check(call)
        child = Child(self, call, child_id)
        step = call.step(ActivityStatus.WAITING, now, None, state={"workflow_id": child_id})
        if is_there:
            self.journal.keep(step)
            return child
        record = WorkflowRecord(
            id=child_id,
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=text,
            parent_id=self.journal.record.id,
            version=definition.version,
            created_at=now,
            updated_at=now,
            **fields,
        )
        self.journal.keep(step, record)
        return child

    def _fields_of(self, options: RunOptions, now: datetime) -> RunFields:
        if options.deduplication_key is not None:
            raise ValueError("a child workflow cannot have a deduplication_key; give it a workflow_id")
        if options.needs_queues:
            self.host.require("queues", "keep queues and priorities")
        return options.fields(now)

    def _place_of_child(self, own_id: str | None, sequence: int, what: tuple[str, str]) -> tuple[str, bool]:
        """Return the id of a child, and whether it is there already, by a call with the same id of the user's own.

        Raises:
            WorkflowConflictError: Another run has the id.
        """
        run = self.journal.record
        found = own_id or child_id_of(run.stem, sequence)
        existing = self._read(found)
        if existing is None:
            return found, False
        if own_id is None:  # the run was rewound, and what it created at this place before is forgotten
            return child_id_of(f"{run.stem}-r{run.epoch}", sequence), False
        if existing.parent_id != run.id:
            raise _conflict(found)
        if existing.name != what[0] or not (are_equal(existing.input, what[1]) or existing.generation):
            raise _conflict(found)
        return found, True

    def ended(self, workflow_id: str) -> WorkflowRecord | None:
        """Return a child that has ended, or a run that has its id; ``None`` for none."""
        record = None if self.journal.is_kept(workflow_id) else self._read(workflow_id)
        if record is None or (self.is_own(record) and not record.status.is_final):
            return None
        return record

    def is_own(self, record: WorkflowRecord) -> bool:
        """Return whether it is a child of this run."""
        return record.parent_id == self.journal.record.id

    def outcome_of(self, call: Call, record: WorkflowRecord) -> StepOutcome:
        """Return what a child that has ended has come to, and record it."""
        if record.status is WorkflowStatus.CANCELLED:
            error = WorkflowFailedError(record.id, "cancelled", record.error_message or "")
            return self.failed(call, error, record.created_at)
        is_done = record.status is WorkflowStatus.DONE
        step = call.step(
            ActivityStatus.COMPLETED if is_done else ActivityStatus.FAILED,
            record.created_at,
            record.updated_at,
            output=record.output,
            failure=Failure(record.error, record.error_message),
            state={"workflow_id": record.id},
        )
        self.journal.keep(step)
        return step.outcome

    def types_of(self, name: str) -> Any:
        """Return the classes that a workflow's annotations name; ``None`` where it is not registered."""
        if name not in self.host.registry.workflows:
            return None
        return self.host.registry.workflow_definition(name).types

    def _read(self, workflow_id: str) -> WorkflowRecord | None:
        found: WorkflowRecord | None = self.host.persist(lambda: self.host.database.read_workflow(workflow_id))
        return found


def _conflict(workflow_id: str) -> WorkflowConflictError:
    return WorkflowConflictError(f"the id {workflow_id!r} of a child workflow belongs to another run", workflow_id)


def child_id_of(workflow_id: str, sequence: int) -> str:
    """Return the id of what a run creates at a place of its code, the same in every replay."""
    found = f"{workflow_id}-{sequence}"
    if len(found) > MAX_WORKFLOW_ID_LENGTH:
        import hashlib  # takes long to import, and is seldom needed

        found = f"{hashlib.sha256(workflow_id.encode()).hexdigest()}-{sequence}"
    return found
