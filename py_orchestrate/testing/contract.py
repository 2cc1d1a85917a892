"""The suite that every database manager must pass, ours and yours.

Subclass it in a test file and give it a ``database``::

    import pytest
    from py_orchestrate.testing.contract import DatabaseManagerContract

    class TestMyManager(DatabaseManagerContract):
        @pytest.fixture
        def database(self, tmp_path):
            manager = MyManager(tmp_path / "store")
            yield manager
            manager.close()

        def reopen(self, database):
            return MyManager(database.path)

To see the values where an assertion fails, call ``pytest.register_assert_rewrite("py_orchestrate.testing")`` in your
``conftest.py``.

There are two suites. ``DatabaseManagerContract`` is for managers with ``"waiting"``, ``"queues"`` and ``"schedules"``
in their ``capabilities``; ``BasicDatabaseManagerContract`` for those without, which have to say so: every method of
runs that wait, of events, of child workflows, of the control of runs, of queues and of schedules raises
``UnsupportedOperationError`` and stores nothing, as the defaults do.

Without ``"leases"`` the base class's defaults stand in, and these promises do not hold and are not asked for: that
another manager sees the claims, that a reader sees all steps of a batch or none, that runs come in their order of
arrival where their ``created_at`` says otherwise, and that a run's failure document, the state of a step that has not
failed, and versions are stored.
"""

from __future__ import annotations

from ._contract_control import Cancelling, Pausing, Refusals, TimeLimits
from ._contract_history import Recording
from ._contract_queues import Deduplicating, Limits, Queueing
from ._contract_reading import Purging, Reading, SevenMethods, Versions
from ._contract_reopening import Reopening
from ._contract_runs import Claiming, Creating, Fencing, Leasing
from ._contract_schedules import Scheduling
from ._contract_signals import Events, Signals
from ._contract_waiting import BeginningAnew, Children, Publishing, Waiting, WithoutWaiting

__all__ = ["BasicDatabaseManagerContract", "DatabaseManagerContract"]


class _Common(Creating, Claiming, Fencing, Recording, Reading, SevenMethods):
    """What every manager promises."""


class BasicDatabaseManagerContract(_Common, WithoutWaiting):
    """For a manager that cannot keep runs that wait, such as one written against 1.0.2.

    Subclass it, and give a fixture ``database``: a manager with an empty store, for each test another. Override
    ``reopen`` where the store can be shared.
    """


class DatabaseManagerContract(
    _Common,
    Leasing,
    Waiting,
    Publishing,
    BeginningAnew,
    Children,
    Purging,
    Versions,
    Events,
    Signals,
    Refusals,
    Cancelling,
    TimeLimits,
    Pausing,
    Reopening,
    Queueing,
    Limits,
    Deduplicating,
    Scheduling,
):
    """For a manager that can do everything; use it as ``BasicDatabaseManagerContract``."""
