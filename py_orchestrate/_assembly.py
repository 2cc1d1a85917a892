"""Checks what an orchestrator is given, and makes its parts.

This is apart from the orchestrator because of all that it imports: the engine, and SQLite. A program that defines
workflows and then only shows its help, or a web application's process that only looks at its routes, does without.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from ._clock import Clock, SystemClock
from ._control import Control
from ._engine.engine import Engine
from ._engine.retention import checked_retention
from ._options import check_count
from ._payloads import LimitedSerializer
from ._registry import WorkflowRegistry
from ._results import Results
from ._schedules import Schedules
from ._starts import Starts
from ._times import interval_of
from ._views import Views
from .db_manager.base import BaseDatabaseManager
from .db_manager.sqlite import SQLiteDatabaseManager
from .decorators import get_registry
from .serialization import JsonSerializer, Serializer

if TYPE_CHECKING:
    from .queues import Queue


class Parts(NamedTuple):
    """What an orchestrator is made of."""

    database: BaseDatabaseManager
    registry: WorkflowRegistry
    engine: Engine
    starts: Starts
    control: Control
    results: Results
    schedules: Schedules
    views: Views


def assemble(
    db_path: str | os.PathLike[str],
    db_manager: BaseDatabaseManager | None,
    *,
    serializer: Serializer | None,
    max_workers: int,
    poll_interval_seconds: float,
    lease_seconds: float,
    max_recoveries: int | None,
    retention: float | timedelta | Mapping[str, float | timedelta] | None,
    max_payload_bytes: int | None,
    queues: Iterable[Queue],
    clock: Clock | None,
) -> Parts:
    """Make the parts of an orchestrator; see there.

    Raises:
        TypeError: See ``Orchestrator``.
        ValueError: As above.
        UnsupportedOperationError: As above.
        StorageError: As above.
    """
    check_count("max_workers", max_workers, 1)
    poll_interval_seconds = interval_of(poll_interval_seconds, "poll_interval_seconds", may_be_endless=True)
    lease_seconds = interval_of(lease_seconds, "lease_seconds")
    check_count("max_recoveries", max_recoveries, 0, or_none=True)
    check_count("max_payload_bytes", max_payload_bytes, 1, or_none=True)
    if db_manager is not None and not isinstance(db_manager, BaseDatabaseManager):
        raise TypeError(f"db_manager is a BaseDatabaseManager, not {_shown(db_manager)}")
    _check_part("serializer", serializer, ("encode", "decode"))
    _check_part("clock", clock, ("now", "monotonic"))
    consumed = _checked_queues(queues)
    kept_for = checked_retention(retention)
    database = SQLiteDatabaseManager(db_path) if db_manager is None else db_manager
    registry = get_registry()
    clock = clock or SystemClock()
    serializer = serializer or JsonSerializer()
    if max_payload_bytes is not None:
        serializer = LimitedSerializer(serializer, max_payload_bytes)
    engine = Engine(
        database=database,
        registry=registry,
        serializer=serializer,
        clock=clock,
        max_workers=max_workers,
        poll_interval_seconds=poll_interval_seconds,
        lease_seconds=lease_seconds,
        max_recoveries=max_recoveries,
        kept_for=kept_for,
        queues=consumed,
        closes_database=db_manager is None,
    )
    if consumed:
        engine.require("queues", "keep queues")
    return Parts(
        database=database,
        registry=registry,
        engine=engine,
        starts=Starts(engine, registry, serializer, clock),
        control=Control(database, engine, serializer, clock),
        results=Results(database, engine, registry, serializer),
        schedules=Schedules(database, engine, serializer, clock),
        views=Views(database, engine, serializer),
    )


def _check_part(name: str, part: object, methods: tuple[str, ...]) -> None:
    """Raise for what lacks one of the methods, or is the class of what has them."""
    if part is None:
        return
    if isinstance(part, type) or not all(callable(getattr(part, method, None)) for method in methods):
        raise TypeError(f"{name} is an object with {' and '.join(methods)}(), not {_shown(part)}")


def _shown(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _checked_queues(queues: Iterable[Queue]) -> tuple[Queue, ...]:
    """Return the queues; raise for what is none, and for one that is there twice."""
    if not isinstance(queues, Iterable) or isinstance(queues, str):
        raise TypeError(f"queues holds instances of Queue, as in queues=[Queue('mail')], not {queues!r}")
    found = tuple(queues)
    if found:
        from .queues import Queue
    for queue in found:
        if not isinstance(queue, Queue):
            raise TypeError(f"queues holds instances of Queue, as in queues=[Queue('mail')], not {queue!r}")
        if [each.name for each in found].count(queue.name) > 1:
            raise ValueError(f"queue {queue.name!r} is there twice; give it once, with all of its limits")
    return found
