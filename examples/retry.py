"""How do I try an activity again when it fails?

Give it a ``RetryPolicy``: how often, after how long, and after which exceptions. Each failed attempt is stored before
the next one begins, so after a crash the count goes on where it was. The workflow sees the result, or the last failure.
"""

import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, RetryPolicy, activity, durable, workflow

QUICKLY = RetryPolicy(max_attempts=4, initial_interval=0.05, backoff=2.0, give_up_on=LookupError)


@activity(retry=QUICKLY)
def fetch_price(product: str) -> int:
    attempt = durable.info().attempt
    print(f"attempt {attempt}: asking for the price of {product}")
    if product == "unicorn":
        raise LookupError("there is no such product")  # asking again would not help
    if product == "coal" or attempt < 3:  # plays a service that is down at first, or for good
        raise ConnectionError("the price service does not answer")
    return 42


@workflow
def buy(product: str) -> str:
    try:
        return f"bought {product} for {fetch_price(product)}"
    except LookupError as error:
        return f"did not buy {product}: {error}"


@workflow
def buy_impatiently(product: str) -> str:
    fetch_twice = fetch_price.options(retry=RetryPolicy(max_attempts=2, initial_interval=0.05))
    try:
        return f"bought {product} for {fetch_twice(product)}"
    except ConnectionError as error:
        return f"did not buy {product}: {error} ({error.__notes__[0]})"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "retry.db")) as orchestrator,
    ):
        run = orchestrator.start_workflow(buy, "tea")
        print(run.result())
        for step in orchestrator.get_history(run.id):
            print(step["name"], step["status"], "at attempt", step["attempt"])

        print(orchestrator.start_workflow(buy, "unicorn").result())
        print(orchestrator.start_workflow(buy_impatiently, "coal").result())


if __name__ == "__main__":
    main()
