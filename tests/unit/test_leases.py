"""When an orchestrator counts as silent, without threads and without time."""

from __future__ import annotations

from datetime import datetime

import pytest

from py_orchestrate import MemoryDatabaseManager
from py_orchestrate._engine.leases import Leases
from py_orchestrate.testing._samples import run_record
from py_orchestrate.testing.clock import FakeClock

LEASE = 30.0
PAUSE = 5.0


class Host:
    """An engine that only counts what it is asked for."""

    def __init__(self, database: MemoryDatabaseManager, owner: str) -> None:
        self.database = database
        self.clock = FakeClock()
        self.owner = owner
        self.woken = 0
        self.renewed = 0
        database.register_owner(owner)

    def wake(self) -> None:
        self.woken += 1

    def renew_owner(self) -> None:
        self.renewed += 1
        self.owner += "'"
        self.database.register_owner(self.owner)

    def sign_off(self) -> None:
        self.database.release_owner(self.owner)


@pytest.fixture
def database() -> MemoryDatabaseManager:
    return MemoryDatabaseManager()


def observer(database: MemoryDatabaseManager, owner: str = "observer") -> tuple[Host, Leases]:
    host = Host(database, owner)
    return host, Leases(host, lease_seconds=LEASE)


def held(database: MemoryDatabaseManager, owner: str) -> None:
    database.register_owner(owner)
    database.create_workflow(run_record("run"))
    assert database.claim_workflows(owner, ["greet"], 1)


def owner_of_run(database: MemoryDatabaseManager) -> str | None:
    record = database.read_workflow("run")
    assert record is not None
    return record.owner


def test_a_silent_owner_is_let_go_within_its_lease(database: MemoryDatabaseManager) -> None:
    host, leases = observer(database)
    held(database, "silent")
    leases.beat(0.1)
    for n in range(1, 4):
        leases.beat(0.1 + n * PAUSE)
        assert owner_of_run(database) == "silent"
    leases.beat(0.1 + 4 * PAUSE)  # a beat before the lease is over: its last one may have come just before the first
    assert (owner_of_run(database), host.woken, host.renewed) == (None, 1, 0)
    leases.beat(0.1 + 5 * PAUSE)
    assert host.woken == 1
    assert set(database.beat_owner("observer")) == {"observer"}


def test_one_that_beats_is_not(database: MemoryDatabaseManager) -> None:
    host, leases = observer(database)
    held(database, "slow")
    for n in range(40):
        leases.beat(n * PAUSE)
        if n % 3 == 0:
            database.beat_owner("slow")
    assert (owner_of_run(database), host.woken) == ("slow", 0)


def test_an_observer_that_was_asleep_blames_nobody(database: MemoryDatabaseManager) -> None:
    host, leases = observer(database)
    held(database, "other")
    leases.beat(0)
    leases.beat(PAUSE)
    for n in range(1, 4):  # it sleeps for an hour, as the other one did
        leases.beat(n * 3600)
        database.beat_owner("other")
    assert (owner_of_run(database), host.woken) == ("other", 0)


def test_a_new_observer_looks_for_as_long_as_any(database: MemoryDatabaseManager) -> None:
    held(database, "silent")
    _, leases = observer(database)
    leases.beat(1000)
    assert owner_of_run(database) == "silent"
    for n in range(1, 4):
        leases.beat(1000 + n * PAUSE)
        assert owner_of_run(database) == "silent"
    leases.beat(1000 + 4 * PAUSE)
    assert owner_of_run(database) is None


def test_a_sign_of_life_at_the_last_moment_counts(database: MemoryDatabaseManager) -> None:
    class LastMoment(MemoryDatabaseManager):
        def expire_owner(self, owner: str, beats: int, *, now: datetime | None = None) -> bool:
            self.beat_owner(owner)  # between the look and the write
            return super().expire_owner(owner, beats, now=now)

    late = LastMoment()
    host, leases = observer(late)
    held(late, "other")
    for n in range(10):
        leases.beat(n * PAUSE)
    assert (owner_of_run(late), host.woken) == ("other", 0)


def test_one_whose_own_lease_has_ended_is_told(database: MemoryDatabaseManager) -> None:
    host, leases = observer(database)
    leases.beat(0)
    database.release_owner("observer")
    leases.beat(PAUSE)
    assert (host.renewed, host.owner) == (1, "observer'")
    leases.beat(2 * PAUSE)
    assert host.renewed == 1
    assert set(database.beat_owner("observer'")) == {"observer'"}


def test_signing_off_gives_the_claims_back(database: MemoryDatabaseManager) -> None:
    _, leases = observer(database, "leaver")
    database.create_workflow(run_record("run"))
    assert database.claim_workflows("leaver", ["greet"], 1)
    leases.start()
    leases.sign_off()
    leases.join(20)
    assert owner_of_run(database) is None
    assert "leaver" not in database.beat_owner("another")
