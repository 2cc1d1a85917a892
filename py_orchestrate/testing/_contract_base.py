"""What the parts of the contract share: the hooks that a subclass overrides, and shortcuts."""

# ruff: noqa: S101 - this is a test suite

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from ..db_manager.base import BaseDatabaseManager
from ..errors import WorkflowStateError
from ..models import StepRecord, WorkflowRecord
from ._samples import at, run_record, suspension


class Contract:
    """The hooks, and what the tests share."""

    def reopen(self, database: BaseDatabaseManager) -> BaseDatabaseManager | None:  # noqa: ARG002 - a hook
        """Return another manager on the same store, or ``None`` (the default) where the store cannot be shared."""
        return None

    @contextlib.contextmanager
    def another(self, database: BaseDatabaseManager) -> Iterator[BaseDatabaseManager]:
        """Lend another manager on the same store, or the same one where there can be no other."""
        other = self.reopen(database)
        try:
            yield database if other is None else other
        finally:
            if other is not None:
                other.close()

    @contextlib.contextmanager
    def another_with_claims(self, database: BaseDatabaseManager) -> Iterator[BaseDatabaseManager]:
        """Lend a manager that sees the claims: another one, if it has leases."""
        if has_leases(database):
            with self.another(database) as other:
                yield other
        else:
            yield database


class WaitingContract(Contract):
    """For the parts that only managers with ``"waiting"`` must pass."""

    @pytest.fixture
    def waits(self, database: BaseDatabaseManager) -> BaseDatabaseManager:
        """Return the manager, with ``owner-a`` registered."""
        assert can_wait(database), 'a manager without the capability "waiting" has BasicDatabaseManagerContract to pass'
        register(database)
        return database


def has_leases(database: BaseDatabaseManager) -> bool:
    return "leases" in database.capabilities


def can_wait(database: BaseDatabaseManager) -> bool:
    return "waiting" in database.capabilities


def register(database: BaseDatabaseManager, name: str = "owner-a") -> str:
    database.register_owner(name)
    return name


def claim_run(database: BaseDatabaseManager, workflow_id: str = "run", owner: str = "owner-a") -> int:
    """Store a run, claim it, and return the epoch."""
    assert database.create_workflow(run_record(workflow_id)) is None
    register(database, owner)
    (record,) = database.claim_workflows(owner, ["greet"], 1)
    assert record.id == workflow_id
    return record.epoch


def read(database: BaseDatabaseManager, workflow_id: str = "run") -> WorkflowRecord:
    record = database.read_workflow(workflow_id)
    assert record is not None
    return record


def ids_of(records: list[WorkflowRecord]) -> list[str]:
    return [record.id for record in records]


def assert_utc(*records: WorkflowRecord | StepRecord) -> None:
    names = ("created_at", "updated_at", "started_at", "completed_at")
    moments = [getattr(record, name, None) for record in records for name in names]
    assert all(moment.utcoffset() == timedelta(0) for moment in moments if moment is not None)


def claim_new(database: BaseDatabaseManager, record: WorkflowRecord) -> int:
    database.create_workflow(record)
    (claimed,) = database.claim_workflows(register(database), [record.name], 1)
    return claimed.epoch


def begin(database: BaseDatabaseManager, workflow_id: str = "run", **fields: Any) -> int:
    """Store a run, let ``owner-a`` claim it, and return the epoch; no other run may be ready."""
    assert database.create_workflow(run_record(workflow_id, **fields)) is None
    (claimed,) = database.claim_workflows("owner-a", ["greet"], 9, now=at(0))
    assert claimed.id == workflow_id
    return claimed.epoch


def begin_and_wait(database: BaseDatabaseManager, workflow_id: str = "run", **fields: Any) -> int:
    """Store a run, claim it, suspend it with the fields, and return the epoch; no other run may be ready."""
    epoch = begin(database, workflow_id)
    database.suspend_workflow(workflow_id, epoch, suspension(**fields))
    return epoch


def take(database: BaseDatabaseManager, *, now: datetime | None = None, limit: int = 9) -> list[str]:
    """Let ``owner-a`` claim what is ready, by default before any time has passed; return the ids."""
    return ids_of(database.claim_workflows("owner-a", ["greet"], limit, now=at(0) if now is None else now))


def assert_refused(
    database: BaseDatabaseManager, error: type[Exception], ask: Callable[[], None], status: str = ""
) -> None:
    """Assert that the run ``run`` cannot be asked for this, and that nothing changes."""
    before = database.page_workflows()
    with pytest.raises(error) as caught:
        ask()
    assert database.page_workflows() == before
    if isinstance(caught.value, WorkflowStateError):
        assert (caught.value.workflow_id, caught.value.status) == ("run", status)
