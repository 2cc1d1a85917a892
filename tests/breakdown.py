"""An orchestrator that dies in the middle of a run, as far as the store can tell, and another one that takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from py_orchestrate import BaseDatabaseManager, Orchestrator, WorkflowHandle


class Breakdown:
    """Code calls ``here()`` where the first orchestrator is to hang; ``recover()`` lets a second one go on.

    The first one is still there, like a process that was taken for dead: when it wakes up, at the end of the test, it
    must not write anything.
    """

    def __init__(self, orchestrator: Callable[..., Orchestrator]) -> None:
        self._orchestrator = orchestrator
        self._reached = threading.Event()
        self._released = threading.Event()
        self._over = False
        self.runners: list[Orchestrator] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wake_up()

    def wake_up(self) -> None:
        """Let the first orchestrator go on."""
        self._released.set()

    def here(self) -> None:
        """Hang until the test ends; do nothing once the breakdown is over."""
        if not self._over:
            self._reached.set()
            assert self._released.wait(60)

    def recover(
        self,
        database: BaseDatabaseManager,
        workflow: str | Callable[..., Any],
        *args: Any,
        change: Callable[[], object] | None = None,
        **kwargs: Any,
    ) -> WorkflowHandle:
        """Run the workflow up to the breakdown, change the code if asked to, and run it again elsewhere."""
        first = self._orchestrator(database)
        self.runners.append(first)
        handle = first.start_workflow(workflow, *args, **kwargs)
        assert self._reached.wait(10), first.get_workflow_status(handle.id)
        self._over = True
        if change is not None:
            change()
        database.release_owner(first._engine.owner)
        second = self._orchestrator(database)
        self.runners.append(second)
        return second.get_handle(handle.id)

    def both(
        self, database: BaseDatabaseManager, workflow: Callable[..., Any], *args: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return how a run ends that suffers the breakdown, and how one ends that does not."""
        recovered = self.recover(database, workflow, *args).wait(10)
        undisturbed = self._orchestrator(database).start_workflow(workflow, *args).wait(10)
        return recovered, undisturbed
