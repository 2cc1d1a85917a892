"""How do I undo what was done when a later step fails?

In a ``durable.Saga`` each step says how it is undone. If the block raises, or the workflow is cancelled in it, the
compensations run in reverse order, each as a recorded step with its own retries. Then the exception goes on. A crash in
the middle of the undoing does not matter: what was undone is not undone twice, and the rest follows.
"""

import logging
import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, RetryPolicy, activity, durable, workflow
from py_orchestrate.errors import WorkflowFailedError

PATIENTLY = RetryPolicy(max_attempts=10, initial_interval=0.05)


@activity
def book_flight(to: str) -> str:
    print(f"booking a flight to {to}")
    return f"flight to {to}"


@activity(retry=PATIENTLY)
def cancel_flight(flight: str) -> None:
    print(f"cancelling the {flight}")


@activity
def book_hotel(trip: str, to: str) -> str:
    print(f"booking a hotel in {to} for {trip}")
    if to == "Atlantis":
        raise LookupError("no hotel above water")
    return f"hotel in {to}"


@activity(retry=PATIENTLY)
def cancel_hotel_of(trip: str) -> None:
    print(f"cancelling whatever hotel there is for {trip}")


@workflow
def book_trip(trip: str, to: str) -> list[str]:
    with durable.Saga() as saga:
        flight = book_flight(to)
        saga.add(cancel_flight, flight)  # after the step: undoing it needs its result
        saga.add(cancel_hotel_of, trip)  # before the step: it may fail and have booked something
        hotel = book_hotel(trip, to)
    return [flight, hotel]


def main() -> None:
    logging.getLogger("py_orchestrate").setLevel(logging.CRITICAL)  # it would log failed runs, with their tracebacks
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "trips.db")) as orchestrator,
    ):
        print(orchestrator.start_workflow(book_trip, "trip-1", "Oslo").result())
        try:
            orchestrator.start_workflow(book_trip, "trip-2", "Atlantis").result()
        except WorkflowFailedError as error:
            print(f"not booked: {error.__cause__}")


if __name__ == "__main__":
    main()
