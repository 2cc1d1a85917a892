"""Replay in processes that really die, on a real file."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable

import pytest

from py_orchestrate import Orchestrator

from ..programs import Program

MakeOrchestrator = Callable[..., Orchestrator]
MakeProgram = Callable[[str], Program]


# --- processes that really die ----------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize("kill", [False, True], ids=["exit", "kill"])
@pytest.mark.parametrize("place", ["ship", "notify", "refund", "end"])
def test_compensation_over_a_crash(program: MakeProgram, place: str, kill: bool) -> None:
    script = program("""
        @activity
        def ship(order):
            crash("ship")
            mark("ship")
            raise ValueError("no stock")

        @activity
        def notify(order, text):
            crash("notify")
            mark("notify", text)

        @activity
        def refund(order):
            crash("refund")
            mark("refund")

        @activity
        def end():
            crash("end")

        @workflow
        def w():
            try:
                ship("7")
            except Exception as error:
                notify("7", str(error))
                refund("7")
                end()
                return [type(error).__name__, "refunded"]
        """)
    script.crash(place, kill=kill)
    assert script.recover().output == ["ValueError", "refunded"]
    # Each outcome is stored before the next activity begins.
    assert (script.hits("ship"), script.hits("notify"), script.hits("refund")) == (1, 1, 1)
    assert set(script.lines("notify")) == {"no stock"}


@pytest.mark.crash
@pytest.mark.parametrize(
    "body",
    {
        "called": """
            @workflow
            def w():
                try:
                    return ship()
                except ValueError as error:
                    return notify(str(error))
            """,
        "submitted": """
            @workflow
            def w():
                try:
                    return ship.submit().result()
                except ValueError as error:
                    return notify.submit(str(error)).result()
            """,
        "gathered": """
            @workflow
            def w():
                found = durable.gather(ship.submit(), ship.submit(), return_exceptions=True)
                return notify(str(found[0])) if isinstance(found[0], ValueError) else found
            """,
        "async": """
            @workflow
            async def w():
                try:
                    return await ship()
                except ValueError as error:
                    return await notify(str(error))
            """,
        "saga": """
            @workflow
            def w():
                try:
                    with durable.Saga() as saga:
                        saga.add(notify, "no stock")
                        return ship()
                except ValueError as error:
                    return str(error)
            """,
        "timed out": """
            @workflow
            def w():
                try:
                    return hang()
                except TimeoutError:
                    return notify("no stock")
            """,
        "effect": """
            @workflow
            def other():
                notify("no stock")

            @workflow
            def w():
                try:
                    return ship()
                except ValueError as error:
                    orchestrator.start_workflow(other).wait()
                    return str(error)
            """,
        "lingered": """
            @workflow
            def w():
                try:
                    return ship()
                except ValueError as error:
                    while not failed():  # a workflow that goes on computing has its last step stored meanwhile
                        time.sleep(0.01)
                    return notify(str(error))
            """,
    }.items(),
    ids=lambda item: item[0],
)
def test_a_failure_that_was_acted_on_stays_one_over_a_kill_in_what_followed(
    program: MakeProgram, body: tuple[str, str]
) -> None:
    script = program(
        textwrap.dedent("""
            def times(name):
                return len(open(os.path.join(os.environ["FOLDER"], name)).readlines())

            def failed():
                with sqlite3.connect(os.path.join(os.environ["FOLDER"], "runs.db")) as connection:
                    query = "SELECT count(*) FROM activity_executions WHERE status = 'failed'"
                    return connection.execute(query).fetchone()[0]

            @activity
            def ship():
                mark("ship")
                if times("ship") <= 2 and os.environ.get("CRASH"):
                    raise ValueError("no stock")
                return "shipped"

            @activity(timeout=0.05)
            def hang():
                mark("ship")
                while os.environ.get("CRASH"):
                    time.sleep(0.01)
                return "shipped"

            @activity
            def notify(text):
                mark("notify", text)
                crash()
                return text
            """)
        + textwrap.dedent(body[1])
        + textwrap.dedent("""
            orchestrator = Orchestrator(os.path.join(os.environ["FOLDER"], "runs.db"))
            with orchestrator:
                orchestrator.start_workflow(w, workflow_id="run")
                print(json.dumps(orchestrator.wait_for_workflow("run", 20)))
            """)
    )
    script.crash(kill=True)
    assert script.recover().output == "no stock"
    assert script.hits("ship") == (2 if body[0] == "gathered" else 1)
    assert script.lines("notify") == ["no stock"] * 2


@pytest.mark.crash
def test_a_failure_that_nothing_followed_is_tried_again(program: MakeProgram) -> None:
    script = program("""
        @activity
        def ship():
            mark("ship")
            if os.environ.get("CRASH"):
                raise ValueError("no stock")
            return "shipped"

        @workflow
        def w():
            try:
                return ship()
            except ValueError as error:
                crash()
                return str(error)
        """)
    script.crash(kill=True)
    assert script.recover().output == "shipped"
    assert script.hits("ship") == 2


@pytest.mark.crash
def test_falsy_results_over_a_crash(program: MakeProgram) -> None:
    script = program("""
        @activity
        def give(value):
            mark("give")
            return value

        @activity
        def last():
            crash()

        @workflow
        def w():
            seen = [give(value) for value in (None, False, 0, "", [], {})]
            last()
            return None if repr(seen) == "[None, False, 0, '', [], {}]" else repr(seen)
        """)
    script.crash()
    assert script.recover().output is None
    assert script.hits("give") == 6


@pytest.mark.crash
def test_a_crash_in_the_workflow_s_own_code(program: MakeProgram) -> None:
    script = program("""
        @activity
        def poll():
            mark("poll")
            return len(open(os.path.join(os.environ["FOLDER"], "poll")).readlines())

        @workflow
        def w():
            seen = [poll(), poll()]
            if os.environ.get("CRASH"):
                while completed() != 2:  # a workflow that goes on computing has its last step stored meanwhile
                    time.sleep(0.005)
            crash()
            return [*seen, poll()]
        """)
    script.crash(kill=True)
    assert script.recover().output == [1, 2, 3]
    assert script.hits("poll") == 3


@pytest.mark.crash
@pytest.mark.parametrize("round_", range(3))
def test_every_crash_on_the_way(program: MakeProgram, round_: int) -> None:
    """Die in each step of a loop, one after the other; no step that is stored may run twice or be lost."""
    script = program("""
        @activity
        def step(n):
            crash(str(n))
            mark("step", n)
            return n

        @workflow
        def w():
            return [step(n) for n in range(4)] + step.map(range(4, 6))
        """)
    for place in range(round_, 6, 3):
        script.crash(str(place), kill=True)
    assert script.recover().output == list(range(6))
    counts = Counter(script.lines("step"))
    assert set(counts) == {"0", "1", "2", "3", "4", "5"}
    # Of the two that run side by side, the one that did not die may have to run again.
    assert all(counts[str(n)] == 1 for n in range(4)), counts
    assert max(counts.values()) <= 2


@pytest.mark.crash
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("audit(); reserve(); charge()", "step 0: history has 'reserve', code called 'audit'"),
        ("charge()", "step 0: history has 'reserve', code called 'charge'"),
        ("pass", "step 0: history has 'reserve', but the code ended before it"),
    ],
)
def test_a_new_release_over_a_crash(program: MakeProgram, body: str, text: str) -> None:
    source = """
        @activity
        def reserve():
            mark("reserve")

        @activity
        def charge():
            crash()
            mark("charge")

        @activity
        def audit():
            mark("audit")

        @workflow
        def w():
            BODY
        """
    script = program(source.replace("BODY", "reserve(); charge()"))
    script.crash()
    for _ in range(2):  # the second time it has failed already
        status = script.recover(source.replace("BODY", body)).status
        assert status["status"] == "failed"
        assert text in status["error_message"]
    assert (script.hits("reserve"), script.hits("charge"), script.hits("audit")) == (1, 0, 0)


@pytest.mark.crash
def test_a_fan_out_over_a_crash(program: MakeProgram) -> None:
    script = program("""
        @activity
        def act(name):
            if name == "slow" and os.environ.get("CRASH"):
                while completed() != 2:
                    time.sleep(0.005)
                crash()
            mark(name)
            return name.upper()

        @workflow
        def w():
            return act.map(["slow", "fast", "middling"])
        """)
    script.crash()
    assert script.recover().output == ["SLOW", "FAST", "MIDDLING"]
    assert [script.hits(name) for name in ("slow", "fast", "middling")] == [1, 1, 1]
