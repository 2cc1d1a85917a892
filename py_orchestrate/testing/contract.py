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

The suite reads ``capabilities`` and asks for no more than what they promise. Without ``"leases"`` the base class's
defaults stand in, and these promises do not hold: that another manager sees the claims, that a reader sees all steps of
a batch or none, that runs come in their order of arrival where their ``created_at`` says otherwise, and that a run's
failure document, a step's kind and the state of a step that has not failed are stored. Without ``"waiting"`` the tests
of runs that wait, of events, of child workflows and of the control of runs are skipped; what is asked then is that
every method of these raises ``UnsupportedOperationError`` and stores nothing, as the defaults do.
"""

from __future__ import annotations

from ._contract_control import Cancelling, Pausing, Refusals
from ._contract_history import Recording
from ._contract_reading import Reading, SevenMethods
from ._contract_reopening import Reopening
from ._contract_runs import Claiming, Creating, Fencing
from ._contract_signals import Events, Signals
from ._contract_waiting import Children, Waiting, WithoutWaiting

__all__ = ["DatabaseManagerContract"]


class DatabaseManagerContract(
    Creating,
    Claiming,
    Fencing,
    Recording,
    Reading,
    SevenMethods,
    Waiting,
    Children,
    WithoutWaiting,
    Events,
    Signals,
    Refusals,
    Cancelling,
    Pausing,
    Reopening,
):
    """Subclass it, and give a fixture ``database``: a manager with an empty store, for each test another.

    Override ``reopen`` where the store can be shared.
    """
