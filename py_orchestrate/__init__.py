"""py_orchestrate: durable workflows in a library.

General layout, from the top down; each layer imports only what is below it:

* ``orchestrator``: what a program starts, stops and asks; ``_control``: what it does to a run; ``_schedules``: how it
  defines schedules; ``_results``: how it waits for a run; ``_views``: what it sees.
* ``_engine/``: runs workflows. ``engine`` hands out work, ``recovery`` is its background loop, with ``retention`` and
  ``scheduler``, and ``leases`` its signs of life; ``runner`` makes one attempt, whose calls go to ``activities``,
  ``waits``, ``children``, ``choices`` and ``values``, unless ``interrupts`` stops them, and into the ``journal``;
  ``event_loop`` is under async workflows; ``replay`` decides, ``bodies`` runs an activity, perhaps on ``executors``;
  ``workers``, ``time_limits`` and ``exits`` are the threads' life.
* ``durable``, ``_sagas``, ``decorators``, ``_futures``: what workflow code uses.
* ``retry``, ``_options``: how an activity is run, and a workflow; ``queues``, ``_cron``: limits and times.
* ``db_manager/``: the storage interface and its backends.
* ``serialization``, ``_payloads``, ``_failures``: values and exceptions as text, and how large they may be.
* ``models``, ``_instances``, ``errors``: plain data, 1.0.2's records, and every exception; ``_signatures``, ``_times``:
  how functions and times are given.

What few programs need is imported when it is used first, here and below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import durable
from .db_manager import (
    BaseDatabaseManager,
    DatabaseManager,
    SQLiteDatabaseManager,
)
from .decorators import activity, workflow
from .errors import WorkflowCancelled
from .models import WorkflowStatus
from .orchestrator import Orchestrator, WorkflowHandle

if TYPE_CHECKING:
    from .db_manager import CosmosDatabaseManager, MemoryDatabaseManager
    from .queues import Queue
    from .retry import RetryPolicy

__all__ = [
    "BaseDatabaseManager",
    "CosmosDatabaseManager",
    "DatabaseManager",
    "MemoryDatabaseManager",
    "Orchestrator",
    "Queue",
    "RetryPolicy",
    "SQLiteDatabaseManager",
    "WorkflowCancelled",
    "WorkflowHandle",
    "WorkflowStatus",
    "activity",
    "durable",
    "workflow",
]


_LATE = {
    "CosmosDatabaseManager": "db_manager",
    "MemoryDatabaseManager": "db_manager",
    "Queue": "queues",
    "RetryPolicy": "retry",
}


def __getattr__(name: str) -> Any:
    """Resolve what is costly to import on first use."""
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("py-orchestrate")
        except PackageNotFoundError:  # run from a folder that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
