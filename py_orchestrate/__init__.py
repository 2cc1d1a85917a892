"""py_orchestrate: durable workflows in a library.

General layout, from the top down; each layer imports only what is below it:

* ``orchestrator``: what a program starts, stops and asks, of parts that ``_assembly`` makes. ``_starts``: how it starts
  a run; ``_control``: what it does to one; ``_schedules``: how it defines schedules; ``_results``: how it waits for a
  run; ``_views``: what it sees.
* ``_engine/``: runs workflows. ``engine`` hands out work, ``recovery`` is its background loop, with ``retention`` and
  ``scheduler``, and ``leases`` its signs of life; ``runner`` makes one attempt, whose calls go to ``activities``,
  ``waits``, ``children``, ``choices``, ``effects`` and ``values``, unless ``interrupts`` stops them, and into the
  ``journal``; ``event_loop`` is under async workflows; ``replay`` decides, ``bodies`` runs an activity, perhaps on
  ``executors``; submitted ones hand their outcomes to the ``outbox``, and end a future of ``rounds``; ``workers``,
  ``time_limits`` and ``exits`` are the threads' life, ``waiters`` those who wait for runs.
* ``durable``, ``_sagas``, ``decorators``, ``_futures``: what workflow code uses.
* ``retry``, ``_options``: how an activity is run, and a workflow; ``queues``, ``_cron``: limits and times.
* ``db_manager/``: the storage interface and its backends.
* ``serialization``, ``_payloads``, ``_failures``: values and exceptions as text, and how large they may be.
* ``models``, ``_instances``, ``errors``: plain data, 1.0.2's records, and every exception; ``_identifiers``, ``_ids``,
  ``_signatures``, ``_times``: how ids, functions and times are given and made.

What few programs need is imported when it is used first, here and below.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; importing it from typing takes ten times as long as all of this
if TYPE_CHECKING:
    from typing import Any

    from . import durable
    from .db_manager import (
        BaseDatabaseManager,
        CosmosDatabaseManager,
        DatabaseManager,
        MemoryDatabaseManager,
        SQLiteDatabaseManager,
    )
    from .decorators import activity, workflow
    from .errors import WorkflowCancelled
    from .models import WorkflowStatus
    from .orchestrator import Orchestrator, WorkflowHandle
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


_PLACES = {
    "BaseDatabaseManager": "db_manager",
    "CosmosDatabaseManager": "db_manager",
    "DatabaseManager": "db_manager",
    "MemoryDatabaseManager": "db_manager",
    "Orchestrator": "orchestrator",
    "Queue": "queues",
    "RetryPolicy": "retry",
    "SQLiteDatabaseManager": "db_manager",
    "WorkflowCancelled": "errors",
    "WorkflowHandle": "orchestrator",
    "WorkflowStatus": "models",
    "activity": "decorators",
    "workflow": "decorators",
}


def __getattr__(name: str) -> Any:
    """Import what a name stands for when it is used first.

    So a process that only runs activities, such as one of a process pool, does without the engine and SQLite.
    """
    if name in _PLACES or name == "durable":
        from importlib import import_module

        module = import_module(f"{__name__}.{_PLACES.get(name, name)}")
        found = globals()[name] = module if name == "durable" else getattr(module, name)
        return found
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("py-orchestrate")
        except PackageNotFoundError:  # run from a folder that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, be it that they are not imported yet."""
    return sorted({*globals(), *__all__})
