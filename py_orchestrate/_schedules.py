"""Schedules, as programs define and see them; what starts their runs is ``_engine/scheduler.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._clock import Clock
from ._context import recorded, refuse_in_workflow
from ._cron import check_cron, next_tick
from ._engine.engine import Engine
from ._engine.scheduler import run_id
from ._identifiers import check_name, check_workflow_id
from ._options import check_priority
from ._starts import name_of
from ._views import schedule_of
from .db_manager.base import BaseDatabaseManager
from .errors import InvalidWorkflowIdError, ScheduleNotFoundError
from .models import ScheduleRecord
from .serialization import Serializer

CATCH_UP = ("none", "last", "all")
OVERLAP = ("skip", "queue", "allow")
# What a schedule is, beside what becomes of it.
_DEFINITION = ("name", "input", "cron", "timezone", "catch_up", "overlap", "queue", "priority", "version")


class Schedules:
    """The schedules of one orchestrator's store."""

    def __init__(self, database: BaseDatabaseManager, engine: Engine, serializer: Serializer, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._serializer = serializer
        self._clock = clock

    def define(
        self,
        scheduled: str | Callable[..., Any],
        schedule_id: str | None,
        arguments: Mapping[str, Any] | None,
        **definition: Any,
    ) -> dict[str, Any]:
        """See ``Orchestrator.schedule_workflow``."""
        name = name_of(scheduled)
        refuse_in_workflow("schedule_workflow")
        self._engine.require("schedules", "keep schedules")
        if definition["queue"] is not None or definition["priority"]:
            self._engine.require("queues", "keep queues and priorities")
        found = name if schedule_id is None else schedule_id
        workflow = self._engine.registry.workflow_definition(name)
        _check(definition)
        if arguments is not None and not isinstance(arguments, Mapping):
            raise TypeError(f"the arguments of a scheduled workflow are a dict by name, not {type(arguments).__name__}")
        now = self._clock.now()
        try:
            check_workflow_id(run_id(check_workflow_id(found, "schedule id"), now))
        except InvalidWorkflowIdError as error:
            raise InvalidWorkflowIdError(f"the id of a schedule is the beginning of its runs' ids: {error}") from error
        bound = workflow.bind((), dict(arguments or {}))
        text, _ = self._serializer.encode(bound, what=f"argument of workflow {name!r}", types=workflow.types)
        fresh = ScheduleRecord(
            id=found,
            name=name,
            input=text,
            version=workflow.version,
            next_at=next_tick(definition["cron"], definition["timezone"], now),
            created_at=now,
            updated_at=now,
            **definition,
        )
        return self._view(self._store(found, lambda stored: _redefined(stored, fresh)))

    def list(self) -> list[dict[str, Any]]:
        """See ``Orchestrator.list_schedules``."""
        self._engine.require("schedules", "keep schedules")
        found: list[dict[str, Any]] = recorded(
            "list_schedules", lambda: [self._view(record) for record in self._database.list_schedules()]
        )
        return found

    def pause(self, schedule_id: str) -> None:
        """See ``Orchestrator.pause_schedule``."""
        refuse_in_workflow("pause_schedule")
        now = self._clock.now()

        def paused(stored: ScheduleRecord | None) -> ScheduleRecord:
            record = _existing(stored, schedule_id)
            return record if record.is_paused else record._replace(is_paused=True, updated_at=now)

        self._store(schedule_id, paused)

    def resume(self, schedule_id: str) -> None:
        """See ``Orchestrator.resume_schedule``."""
        refuse_in_workflow("resume_schedule")
        now = self._clock.now()

        def resumed(stored: ScheduleRecord | None) -> ScheduleRecord:
            record = _existing(stored, schedule_id)
            if not record.is_paused:
                return record
            next_at = next_tick(record.cron, record.timezone, now)
            return record._replace(is_paused=False, next_at=next_at, updated_at=now)

        self._store(schedule_id, resumed)

    def remove(self, schedule_id: str) -> None:
        """See ``Orchestrator.remove_schedule``."""
        refuse_in_workflow("remove_schedule")
        self._engine.require("schedules", "keep schedules")
        if not self._database.delete_schedule(check_workflow_id(schedule_id, "schedule id")):
            raise ScheduleNotFoundError(schedule_id)

    def _store(self, schedule_id: str, change: Callable[[ScheduleRecord | None], ScheduleRecord]) -> ScheduleRecord:
        """Store a change to the schedule as it stands, be it that somebody else changes it meanwhile."""
        self._engine.require("schedules", "keep schedules")
        check_workflow_id(schedule_id, "schedule id")
        while True:
            stored = self._database.read_schedule(schedule_id)
            changed = change(stored)
            if changed == stored:
                return stored
            record = changed._replace(revision=1 if stored is None else stored.revision + 1)
            if self._database.store_schedule(record):
                self._engine.wake()
                return record

    def _view(self, record: ScheduleRecord) -> dict[str, Any]:
        return schedule_of(record, self._serializer)


def _redefined(stored: ScheduleRecord | None, fresh: ScheduleRecord) -> ScheduleRecord:
    """Return the schedule with its new definition; what becomes of it goes on where only the definition is new."""
    if stored is None:
        return fresh
    if all(getattr(stored, field) == getattr(fresh, field) for field in _DEFINITION):
        return stored
    moved = (stored.cron, stored.timezone) != (fresh.cron, fresh.timezone)
    return fresh._replace(
        is_paused=stored.is_paused,
        next_at=fresh.next_at if moved else stored.next_at,
        waiting=stored.waiting if fresh.overlap == "queue" else (),
        last_at=stored.last_at,
        last_run_id=stored.last_run_id,
        created_at=stored.created_at,
    )


def _existing(stored: ScheduleRecord | None, schedule_id: str) -> ScheduleRecord:
    if stored is None:
        raise ScheduleNotFoundError(schedule_id)
    return stored


def _check(definition: Mapping[str, Any]) -> None:
    check_cron(definition["cron"], definition["timezone"])
    for option, allowed in (("catch_up", CATCH_UP), ("overlap", OVERLAP)):
        if definition[option] not in allowed:
            known = ", ".join(map(repr, allowed))
            raise ValueError(f"{option} of a schedule is one of {known}, not {definition[option]!r}")
    if definition["queue"] is not None:
        check_name("queue", definition["queue"])
    check_priority(definition["priority"])
