"""How do I wait for whichever comes first?

``durable.wait_any`` returns the future that ended first, and that is recorded: after a crash the workflow goes the same
way, whatever has ended meanwhile. A timer among the futures is a limit; ``durable.as_completed`` goes through all.
"""

import tempfile
import threading
from pathlib import Path

from py_orchestrate import Orchestrator, activity, durable, workflow

quick_one_has_answered = threading.Event()


@activity
def ask(carrier: str) -> tuple[str, int]:
    if carrier == "slow":
        quick_one_has_answered.wait(10)  # plays a service that takes its time
    return carrier, {"slow": 8, "quick": 9}[carrier]


@activity
def tell(text: str) -> None:
    print(text)
    quick_one_has_answered.set()


@workflow
def offers(carriers: list[str]) -> int:
    asked = [ask.submit(carrier) for carrier in carriers]
    prices = []
    for future in durable.as_completed(asked):
        carrier, price = future.result()
        tell(f"the {carrier} one asks for {price}")
        prices.append(price)
    return min(prices)


@workflow
def sign(contract: str) -> str:
    signed, withdrawn = durable.expect_event("signed"), durable.expect_event("withdrawn")
    winner = durable.wait_any(signed, withdrawn, durable.create_timer(0.1))  # none of these needs a thread
    if winner is signed:
        return f"{contract} is signed by {signed.result()}"
    return f"{contract} is withdrawn" if winner is withdrawn else f"nobody has signed {contract}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Orchestrator(Path(folder, "offers.db")) as orchestrator:
        print(orchestrator.start_workflow(offers, ["slow", "quick"]).result())

        run = orchestrator.start_workflow(sign, "the lease")
        run.raise_event("signed", "Ada")
        print(run.result())
        print(orchestrator.start_workflow(sign, "the loan").result())


if __name__ == "__main__":
    main()
