"""The guarantees of the group commit, over a source that records what happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import Any

import pytest

from py_orchestrate.db_manager import _group_commit
from py_orchestrate.db_manager._group_commit import GroupCommit
from py_orchestrate.testing._samples import in_background, race

from ..children import in_fork
from ..interrupting import interrupted_at
from ..waiting import wait_until


class Source:
    """Transactions over a list; operations append to what ``begin`` returns."""

    def __init__(self, *, merges: bool) -> None:
        self.merges = merges
        self.stored: list[Any] = []
        self.draft: list[Any] | None = None
        self.begun = 0
        self.commits = 0
        self.on_begin: Callable[[], object] = lambda: None
        self.while_busy: Callable[[], object] | None = None
        self.before_commit: Callable[[], object] = lambda: None
        self.after_commit: Callable[[], object] = lambda: None

    def begin(self, join: Callable[[], None]) -> list[Any]:
        self.begun += 1
        assert self.draft is None, "two transactions at once"
        self.on_begin()
        self.be_busy(join)
        self.draft = list(self.stored)
        return self.draft

    def commit(self) -> None:
        self.before_commit()
        assert self.draft is not None
        self.stored, self.draft = self.draft, None
        self.commits += 1
        self.after_commit()

    def be_busy(self, join: Callable[[], None]) -> None:
        """Let another process have the file first, if that is asked for."""
        if self.while_busy is not None:
            self.while_busy()
            join()

    def merge(
        self,
        operations: list[Callable[[list[Any]], Any]],
        settle: Callable[[list[Any]], None],
        join: Callable[[], None],
    ) -> bool:
        if not self.merges:
            return False
        assert self.draft is None, "two transactions at once"
        self.begun += 1
        self.on_begin()
        self.be_busy(join)
        draft = list(self.stored)
        try:
            results = [operation(draft) for operation in operations]
            self.before_commit()
        except Exception:
            return False
        self.stored = draft
        self.commits += 1
        try:
            self.after_commit()
            settle(results)
        except BaseException:
            settle(results)
            raise
        return True

    def rollback(self) -> bool:
        was_open, self.draft = self.draft is not None, None
        return was_open

    def before_fork(self) -> None:
        assert self.draft is None

    after_fork_in_parent = after_fork_in_child = before_fork


@pytest.fixture(params=[False, True], ids=["one-by-one", "merged"])
def source(request: pytest.FixtureRequest) -> Source:
    return Source(merges=request.param)


@pytest.fixture
def group(source: Source) -> GroupCommit:
    return GroupCommit(source)


def put(item: Any) -> Callable[[list[Any]], Any]:
    def operation(draft: list[Any]) -> Any:
        draft.append(item)
        return item

    return operation


def fail(error: BaseException) -> Callable[[list[Any]], Any]:
    def operation(draft: list[Any]) -> Any:
        draft.append("never")
        raise error

    return operation


def raise_once(error: BaseException) -> Callable[[], None]:
    errors = [error]

    def action() -> None:
        if errors:
            raise errors.pop()

    return action


def together(group: GroupCommit, operations: list[Callable[[list[Any]], Any]]) -> list[Future[Any]]:
    """Submit the operations, each in a thread of its own, in order, so that one leader gets them all."""
    submitted = []
    with group.alone():
        for operation in operations:
            submitted.append(in_background(partial(group.submit, operation)))
            wait_until(lambda: len(group._waiting) == len(submitted))
    return submitted


def outcomes(submitted: list[Future[Any]]) -> list[Any]:
    """Return each future's result or exception."""
    return [future.exception(timeout=10) or future.result() for future in submitted]


def test_a_lone_writer_has_a_commit_of_its_own(source: Source, group: GroupCommit) -> None:
    for n in range(3):
        assert group.submit(put(n)) == n
        assert source.stored == list(range(n + 1))
    assert source.commits == 3


def test_waiting_operations_share_a_commit(source: Source, group: GroupCommit) -> None:
    assert outcomes(together(group, [put(n) for n in range(8)])) == list(range(8))
    assert source.stored == list(range(8))
    assert source.commits == 1


def test_a_batch_has_a_limit(source: Source) -> None:
    group = GroupCommit(source, batch_limit=3)
    assert outcomes(together(group, [put(n) for n in range(8)])) == list(range(8))
    assert source.stored == list(range(8))
    assert source.commits == 3


def arrive_while_busy(source: Source, group: GroupCommit, operations: list[Callable[[list[Any]], Any]]) -> list[Any]:
    """Submit one operation, and the others while another process has the file; return what they come to."""
    submitted: list[Future[Any]] = []

    def arrive() -> None:
        source.while_busy = None
        for operation in operations[1:]:
            submitted.append(in_background(partial(group.submit, operation)))
            wait_until(lambda: len(group._waiting) == len(submitted))

    source.while_busy = arrive
    first = in_background(partial(group.submit, operations[0]))
    return [*outcomes([first]), *outcomes(submitted)]


def test_what_arrives_while_another_process_writes_shares_the_commit(source: Source, group: GroupCommit) -> None:
    assert arrive_while_busy(source, group, [put(n) for n in range(5)]) == list(range(5))
    assert source.stored == list(range(5))
    assert source.commits == 1


def test_a_batch_that_grows_has_a_limit(source: Source) -> None:
    group = GroupCommit(source, batch_limit=3)
    assert arrive_while_busy(source, group, [put(n) for n in range(5)]) == list(range(5))
    assert source.stored == list(range(5))
    assert source.commits == 2


@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_that_arrives_and_raises_does_not_harm_its_neighbours(
    source: Source, group: GroupCommit, place: int
) -> None:
    operations = [put(n) for n in range(5)]
    operations[place] = fail(error := ValueError("mine"))
    results = arrive_while_busy(source, group, operations)
    assert results[place] is error
    assert source.stored == [n for n in range(5) if n != place]


def test_who_joins_a_batch_waits_for_the_file_as_long_as_any(source: Source, group: GroupCommit) -> None:
    """Those whom the batch began with have waited for long enough; who has joined has not."""
    join = source.be_busy

    def give_up(add: Callable[[], None]) -> None:
        join(add)
        if source.be_busy is not join:
            source.be_busy = join  # type: ignore[method-assign]
            raise OSError("locked")

    source.be_busy = give_up  # type: ignore[method-assign]
    error, *rest = arrive_while_busy(source, group, [put(n) for n in range(5)])
    assert str(error) == "locked"
    assert rest == source.stored == [1, 2, 3, 4]


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_an_interrupted_leader_leaves_those_who_arrived_to_the_next(
    source: Source, group: GroupCommit, moment: str
) -> None:
    setattr(source, moment, raise_once(KeyboardInterrupt()))
    results = arrive_while_busy(source, group, [put(n) for n in range(5)])
    assert isinstance(results[0], KeyboardInterrupt)
    assert results[1:] == [1, 2, 3, 4]
    assert source.stored == ([0, 1, 2, 3, 4] if moment == "after_commit" else [1, 2, 3, 4])


def test_what_is_returned_is_stored(source: Source, group: GroupCommit) -> None:
    def writer(n: int) -> None:
        for each in range(50):
            assert group.submit(put((n, each))) == (n, each)
            assert (n, each) in source.stored

    race([partial(writer, n) for n in range(8)])
    assert len(source.stored) == len(set(source.stored)) == 400
    assert [item for item in source.stored if item[0] == 3] == [(3, each) for each in range(50)]


@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_operation_that_raises_does_not_harm_its_neighbours(source: Source, group: GroupCommit, place: int) -> None:
    operations = [put(n) for n in range(5)]
    error = ValueError("mine")
    operations[place] = fail(error)
    results = outcomes(together(group, operations))
    assert results[place] is error
    rest = [n for n in range(5) if n != place]
    assert [result for result in results if result is not error] == source.stored == rest


def test_an_interrupted_leader_leaves_the_others_to_the_next(source: Source, group: GroupCommit) -> None:
    interrupt = raise_once(KeyboardInterrupt())

    def interrupted(draft: list[Any]) -> str:
        draft.append("interrupted")
        interrupt()
        return "interrupted"

    operations = [put(0), put(1), interrupted, put(3), put(4)]
    names = [0, 1, "interrupted", 3, 4]
    results = outcomes(together(group, operations))
    # Whoever led was interrupted, and its own operation dropped; all others are done, once, in order.
    (leader,) = (place for place, result in enumerate(results) if isinstance(result, KeyboardInterrupt))
    del names[leader]
    assert [result for result in results if not isinstance(result, KeyboardInterrupt)] == names
    assert source.stored == names


@pytest.mark.parametrize("moment", ["on_begin", "before_commit", "after_commit"])
def test_an_interrupt_at_any_moment_stores_nothing_twice(source: Source, group: GroupCommit, moment: str) -> None:
    setattr(source, moment, raise_once(KeyboardInterrupt()))
    results = outcomes(together(group, [put(n) for n in range(5)]))
    (leader,) = (place for place, result in enumerate(results) if isinstance(result, KeyboardInterrupt))
    rest = [n for n in range(5) if n != leader]
    assert [result for result in results if not isinstance(result, KeyboardInterrupt)] == rest
    assert source.stored == ([0, 1, 2, 3, 4] if moment == "after_commit" else rest)


def test_an_interrupt_while_results_are_given_out_stores_nothing_twice(
    source: Source, group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, interrupt = GroupCommit._settle, raise_once(KeyboardInterrupt())

    def interrupted(self: GroupCommit, batch: list[Any], results: list[Any]) -> None:
        settle(self, batch[:2], results[:2])
        interrupt()
        settle(self, batch, results)

    monkeypatch.setattr(GroupCommit, "_settle", interrupted)
    results = outcomes(together(group, [put(n) for n in range(5)]))
    assert sum(isinstance(result, KeyboardInterrupt) for result in results) == 1
    assert source.stored == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("waits", [False, True], ids=["leads", "waits"])
@pytest.mark.parametrize("source", [False, True], ids=["one-by-one", "merged"], indirect=True)
def test_an_interrupt_at_any_line_leaves_nobody_waiting(source: Source, waits: bool) -> None:
    group = GroupCommit(source)
    for line in count(1):
        source.stored.clear()
        others: list[Future[Any]] = []

        def arrive(others: list[Future[Any]] = others) -> None:
            for n in range(3):
                others.append(in_background(partial(group.submit, put(n))))
                wait_until(lambda: len(group._waiting) == len(others) + waits)

        def submit(line: int = line) -> None:
            interrupted_at(line, [_group_commit.__file__], partial(group.submit, put("interrupted")))

        if waits:
            with group.alone():
                future = in_background(submit)
                wait_until(lambda future=future: group._waiting or future.done())
                if group._waiting:
                    arrive()
        else:
            source.on_begin = lambda: (setattr(source, "on_begin", lambda: None), arrive())
            future = in_background(submit)
        error = future.exception(timeout=10)
        source.on_begin = lambda: None
        assert outcomes(others) == list(range(len(others)))
        assert group.submit(put("last")) == "last"
        stored = [item for item in source.stored if item != "interrupted"]
        assert sorted(map(str, stored)) == [*map(str, range(len(others))), "last"]
        assert source.stored.count("interrupted") <= 1
        assert (group._leader, len(group._waiting)) == (None, 0)
        if error is None:
            assert line > 30
            return
        assert isinstance(error, KeyboardInterrupt)


def test_an_error_in_the_commit_reaches_every_caller(source: Source, group: GroupCommit) -> None:
    def broken() -> None:
        raise OSError("the disk is full")

    source.before_commit = broken
    results = outcomes(together(group, [put(n) for n in range(5)]))
    assert [str(result) for result in results] == ["the disk is full"] * 5
    assert source.stored == []
    source.before_commit = lambda: None
    assert group.submit(put("later")) == "later"
    assert source.stored == ["later"]


def test_a_passing_error_in_the_commit_is_tried_again(source: Source, group: GroupCommit) -> None:
    source.before_commit = raise_once(OSError("once"))
    assert outcomes(together(group, [put(n) for n in range(5)])) == source.stored == list(range(5))


def test_a_transaction_that_cannot_begin_is_tried_once_for_all(source: Source, group: GroupCommit) -> None:
    source.on_begin = raise_once(OSError("locked"))
    results = outcomes(together(group, [put(n) for n in range(5)]))
    assert [str(result) for result in results] == ["locked"] * 5
    assert (source.begun, source.stored) == (1, [])


def test_alone_keeps_transactions_out(source: Source, group: GroupCommit) -> None:
    with group.alone():
        future = in_background(partial(group.submit, put(1)))
        wait_until(lambda: group._waiting)
        assert source.begun == 0
    assert future.result(timeout=10) == 1


def test_who_wants_to_be_alone_may_ask_again_before_the_leader_has_looked_away(
    source: Source, group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done in somebody's transaction, it asks again; that one still looks at what it has done."""
    wake = GroupCommit._wake

    def wake_and_wait(self: GroupCommit, batch: list[Any]) -> None:
        wake(self, batch)
        if batch[-1].operation is _group_commit._nothing:
            wait_until(lambda: group._waiting)

    def be_alone() -> str:
        with group.alone():
            return "alone"

    monkeypatch.setattr(GroupCommit, "_wake", wake_and_wait)
    with group.alone():
        first = in_background(partial(group.submit, put(1)))
        wait_until(lambda: len(group._waiting) == 1)
        second = in_background(be_alone)
        wait_until(lambda: len(group._waiting) == 2)
    assert (first.result(timeout=10), second.result(timeout=10)) == (1, "alone")
    assert in_background(partial(group.submit, put(2))).result(timeout=10) == 2
    assert source.stored == [1, 2]


def three_and_one_that_is_gone(group: GroupCommit) -> tuple[list[Future[Any]], Any]:
    """Let three threads wait for the leader, and, before the last, a request whose caller does not."""
    gone = _group_commit._Request(put("gone"))
    gone.turn = threading.Lock()
    gone.turn.acquire()
    submitted = []
    for n in range(3):
        if n == 2:
            group._waiting.append(gone)
        submitted.append(in_background(partial(group.submit, put(n))))
        wait_until(lambda n=n: len(group._waiting) == n + 1 + (gone in group._waiting))
    return submitted, gone


def test_who_no_longer_waits_keeps_nobody_asleep(source: Source, group: GroupCommit) -> None:
    """Callers are woken by one another: one whose wait was interrupted during the commit is passed over."""
    with group.alone():
        submitted, gone = three_and_one_that_is_gone(group)
        source.before_commit = lambda: group._leave(gone)
    assert outcomes(submitted) == [0, 1, 2]


def test_who_gives_up_while_it_is_being_woken_wakes_the_next(
    group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = _group_commit._release
    with group.alone():
        submitted, gone = three_and_one_that_is_gone(group)
        monkeypatch.setattr(
            _group_commit,
            "_release",
            lambda request: group._leave(gone) if request is gone else release(request),
        )
    assert outcomes(submitted) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_write_what_its_parent_waits_for(source: Source, group: GroupCommit) -> None:
    committing, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        committing.set()
        go_on.wait(10)

    source.before_commit = hold
    first = in_background(partial(group.submit, put(1)))
    committing.wait(10)
    source.before_commit = lambda: None
    second = in_background(partial(group.submit, put(2)))
    wait_until(lambda: group._waiting)
    go_on.set()

    def use() -> None:
        known = list(source.stored)
        assert group.submit(put(3)) == 3
        assert source.stored == [*known, 3]

    in_fork(use)
    assert (first.result(timeout=10), second.result(timeout=10), source.stored) == (1, 2, [1, 2])
