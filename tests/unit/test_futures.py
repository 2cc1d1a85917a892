"""Futures of submitted activities, without an engine."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from py_orchestrate._context import Unwind
from py_orchestrate._futures import DurableFuture


def ready(value: Any = None, error: BaseException | None = None, asked: list[Any] | None = None) -> DurableFuture[Any]:
    future: Future[Any] = Future()
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)

    def settle() -> Any:
        if asked is not None:
            asked.append(value if error is None else error)
        return future.result()

    return DurableFuture(settle)


def test_a_result_and_a_failure() -> None:
    assert ready(5).result() == 5
    for error in (ValueError("x"), SystemExit(3), Unwind()):
        with pytest.raises(type(error)) as caught:
            ready(error=error).result()
        assert caught.value is error


def test_a_call_made_here_and_now() -> None:
    assert DurableFuture.of_call(divmod, 7, 2).result() == (3, 1)
    assert DurableFuture.of_call(dict, function=1, cls=2).result() == {"function": 1, "cls": 2}
    future = DurableFuture.of_call(int, "x")
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            future.result()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_call_made_here_does_not_keep_an_interrupt_for_later(error: type[BaseException]) -> None:
    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        DurableFuture.of_call(interrupted)


def test_results_come_in_order() -> None:
    assert DurableFuture.results([]) == []
    assert DurableFuture.results(ready(n) for n in (3, 1, 2)) == [3, 1, 2]


@pytest.mark.parametrize("error", [ValueError("first"), SystemExit(3)], ids=repr)
def test_the_first_failure_by_order_is_raised_when_all_have_ended(error: BaseException) -> None:
    asked: list[Any] = []
    futures = [
        ready(1, asked=asked),
        ready(error=error, asked=asked),
        ready(error=KeyError("second"), asked=asked),
        ready(2, asked=asked),
    ]
    with pytest.raises(type(error)) as caught:
        DurableFuture.results(futures)
    assert caught.value is error
    assert len(asked) == 4


def test_failures_among_the_results() -> None:
    first, second = ValueError("x"), SystemExit(3)
    futures = [ready(1), ready(error=first), ready(error=second)]
    assert DurableFuture.results(futures, return_exceptions=True) == [1, first, second]


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_signal_is_no_failure(return_exceptions: bool) -> None:
    asked: list[Any] = []
    futures = [ready(error=ValueError("x")), ready(error=Unwind()), ready(1, asked=asked)]
    with pytest.raises(Unwind):
        DurableFuture.results(futures, return_exceptions=return_exceptions)
    assert asked == []


def test_a_result_of_another_exception_is_a_result() -> None:
    error = ValueError("a value, returned")
    assert DurableFuture.results([ready(error)]) == [error]


def test_there_is_no_way_to_peek() -> None:
    """Whether a call has ended differs between a first run and a replay."""
    for name in ("done", "running", "cancel", "cancelled", "add_done_callback", "exception"):
        assert not hasattr(ready(1), name)
