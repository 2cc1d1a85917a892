"""Who is alive, as the kernel knows it, and what that means for the runs of a dead owner."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from py_orchestrate import SQLiteDatabaseManager
from py_orchestrate.db_manager._owner_locks import OwnerLocks
from py_orchestrate.errors import ClaimLostError
from py_orchestrate.testing._samples import race, run_record, step_record

from ..children import Child, child, forked, in_fork
from ..waiting import wait_until

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

HOLDER = """
import sys
from py_orchestrate.db_manager._owner_locks import OwnerLocks
locks = OwnerLocks(sys.argv[1])
locks.hold("other")
print("held", flush=True)
sys.stdin.readline()
locks.release("other")
print("released", flush=True)
sys.stdin.readline()
"""

ORCHESTRATOR = """
import sys
from py_orchestrate.db_manager import SQLiteDatabaseManager
from py_orchestrate.testing._samples import step_record
manager = SQLiteDatabaseManager(sys.argv[1])
manager.register_owner("other")
claimed = manager.claim_workflows("other", ["greet"], 2)
print(*(run.id for run in claimed), flush=True)
sys.stdin.readline()
manager.record_steps(claimed[0].id, claimed[0].epoch, [step_record(0)])
print("recorded", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orchestrate.db"


@pytest.fixture
def folder(path: Path) -> Path:
    return path.with_name(path.name + "-owners")


@pytest.fixture
def locks(path: Path) -> OwnerLocks:
    return OwnerLocks(str(path))


@pytest.fixture
def holder(path: Path) -> Iterator[Child]:
    """Another process that holds the lock of ``other``."""
    with child(HOLDER, path) as holder:
        assert holder.hear() == "held"
        yield holder


def test_an_owner_lives_until_it_is_released(path: Path, locks: OwnerLocks, folder: Path) -> None:
    assert not locks.is_alive("me")
    locks.hold("me")
    elsewhere = OwnerLocks(str(path))
    assert locks.is_alive("me")
    assert elsewhere.is_alive("me")
    assert not locks.is_alive("you")
    locks.release("me")
    assert not locks.is_alive("me")
    assert not elsewhere.is_alive("me")
    assert not folder.exists()


def test_releasing_an_owner_of_nobody_is_fine(locks: OwnerLocks) -> None:
    locks.release("nobody")
    locks.forget("nobody")


def test_an_owner_is_held_once(path: Path, locks: OwnerLocks) -> None:
    locks.hold("me")
    with pytest.raises(RuntimeError, match="me"):
        OwnerLocks(str(path)).hold("me")
    assert locks.is_alive("me")
    locks.release("me")


def test_another_process_lives_until_it_lets_go(locks: OwnerLocks, holder: Child, folder: Path) -> None:
    assert locks.is_alive("other")
    holder.tell()
    assert holder.hear() == "released"
    assert not locks.is_alive("other")
    assert not folder.exists()


def test_a_killed_process_is_dead_at_once(locks: OwnerLocks, holder: Child, folder: Path) -> None:
    assert locks.is_alive("other")
    holder.kill()
    assert not locks.is_alive("other")
    assert os.listdir(folder) == ["other.lock"]
    locks.forget("other")
    assert not folder.exists()


def test_asking_does_not_take_the_lock(path: Path, locks: OwnerLocks, folder: Path) -> None:
    folder.mkdir()
    (folder / "dead.lock").touch()
    for _ in range(3):
        assert not locks.is_alive("dead")
    OwnerLocks(str(path)).hold("dead")


def test_what_cannot_be_asked_counts_as_alive(
    locks: OwnerLocks, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "strange.lock").mkdir(parents=True)
    assert locks.is_alive("strange")
    assert "cannot tell whether orchestrator strange lives" in caplog.text


def test_the_folder_may_come_and_go(path: Path) -> None:
    def come_and_go(n: int) -> None:
        locks = OwnerLocks(str(path))
        for each in range(200):
            locks.hold(f"{n}-{each}")
            assert locks.is_alive(f"{n}-{each}")
            locks.release(f"{n}-{each}")

    race([partial(come_and_go, n) for n in range(4)])


@needs_fork
def test_a_forked_child_holds_no_lock(path: Path, locks: OwnerLocks) -> None:
    locks.hold("me")
    to_child, to_parent = os.pipe(), os.pipe()

    def use() -> None:
        assert locks.is_alive("me")  # the parent lives
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        assert not locks.is_alive("me")
        locks.hold("child")
        locks.release("child")

    with forked(use):
        os.read(to_parent[0], 1)
        locks.release("me")
        assert not OwnerLocks(str(path)).is_alive("me")
        os.write(to_child[1], b"x")
    for descriptor in (*to_child, *to_parent):
        os.close(descriptor)


@needs_fork
def test_a_child_of_a_killed_process_does_not_keep_its_lock(path: Path, locks: OwnerLocks) -> None:
    script = """
    import os, sys
    from py_orchestrate.db_manager._owner_locks import OwnerLocks
    locks = OwnerLocks(sys.argv[1])
    locks.hold("other")
    pid = os.fork()
    if pid == 0:
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        os._exit(0)
    os.waitpid(pid, 0)
    """
    with child(script, path) as parent:
        grandchild = int(parent.hear())
        assert locks.is_alive("other")
        parent.kill()
        assert not locks.is_alive("other")
        os.kill(grandchild, 0)  # lives
        os.kill(grandchild, signal.SIGKILL)


# --- runs of dead owners ----------------------------------------------------------------------------------------------


def test_runs_of_a_killed_process_are_claimed_at_once(path: Path, folder: Path) -> None:
    with closing(SQLiteDatabaseManager(path)) as manager:
        for n in range(3):
            manager.create_workflow(run_record(str(n)))
        manager.register_owner("me")
        with child(ORCHESTRATOR, path) as other:
            assert other.hear() == "0 1"
            other.tell()
            assert other.hear() == "recorded"
            (mine,) = manager.claim_workflows("me", ["greet"], 9)
            assert mine.id == "2"
            assert manager.claim_workflows("me", ["greet"], 9) == []
            other.kill()
            claimed = manager.claim_workflows("me", ["greet"], 9)
        assert [(run.id, run.epoch) for run in claimed] == [("0", 2), ("1", 2)]
        assert len(manager.get_steps("0")) == 1
        assert os.listdir(folder) == ["me.lock"]
        with pytest.raises(ClaimLostError):
            manager.record_steps("0", 1, [step_record(1)])
        manager.release_owner("me")
        assert not folder.exists()


def test_runs_of_a_stopped_process_stay_its_own(path: Path) -> None:
    with closing(SQLiteDatabaseManager(path)) as manager:
        manager.create_workflow(run_record("run"))
        manager.register_owner("me")
        with child(ORCHESTRATOR, path) as other:
            assert other.hear() == "run"
            os.kill(other.pid, signal.SIGSTOP)
            wait_until(lambda: Path(f"/proc/{other.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
            assert manager.claim_workflows("me", ["greet"], 9) == []
            os.kill(other.pid, signal.SIGCONT)
            other.tell()
            assert other.hear() == "recorded"


def test_claimers_may_find_a_dead_owner_at_once(path: Path) -> None:
    with closing(SQLiteDatabaseManager(path)) as manager, child(ORCHESTRATOR, path) as other:
        for n in range(2):
            manager.create_workflow(run_record(str(n)))
        other.kill()

        def claimer(n: int) -> list[str]:
            with closing(SQLiteDatabaseManager(path)) as own:
                own.register_owner(f"owner-{n}")
                return [run.id for run in own.claim_workflows(f"owner-{n}", ["greet"], 1)]

        assert sorted(chain.from_iterable(race([partial(claimer, n) for n in range(2)]))) == ["0", "1"]


@needs_fork
def test_a_forked_child_leaves_its_parents_runs_alone(path: Path) -> None:
    with closing(SQLiteDatabaseManager(path)) as manager:
        manager.create_workflow(run_record("run"))
        manager.register_owner("me")
        (run,) = manager.claim_workflows("me", ["greet"], 1)

        def use() -> None:
            manager.register_owner("child")
            assert manager.claim_workflows("child", ["greet"], 9) == []
            manager.release_owner("child")

        in_fork(use)
        manager.record_steps("run", run.epoch, [step_record(0)])
