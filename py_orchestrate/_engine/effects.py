"""What a workflow's own code does to other runs: it starts one, or sends an event to one.

Each is a step. It is recorded once it is done, with the next write, and a replay returns what is recorded. Where the
process dies before that, it is done again under the same id, which makes it the same start or the same event. So the id
is made of the run's own and the step's ordinal. But a rewind may lead the code another way, to something else at the
same place, whose id must be another one: an event's has its content in it, and a start takes the next id of a row,
until it comes to one that is free, or that is the very run that it is about to start.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from .._failures import encode_failure
from ..errors import WorkflowConflictError, WorkflowNotFoundError, WorkflowStateError
from ..models import ActivityStatus
from .calls import Call
from .children import child_id_of
from .interrupts import InterruptHost, Interrupts
from .journal import Journal

_DIGITS = 16


class Effects:
    """The effects of one run's own code, on the workflow's thread."""

    def __init__(self, host: InterruptHost, journal: Journal, interrupts: Interrupts) -> None:
        self._host = host
        self._journal = journal
        self._interrupts = interrupts

    def make(
        self, kind: str, name: str, arguments: str, make: Callable[[Iterator[str]], Any], content: str | None
    ) -> Any:
        """Have the effect, unless it is recorded; return, or raise, what it came to.

        Args:
            kind: Its kind; see ``StepRecord``.
            name: The name of what is started or sent.
            arguments: What goes with it, as the serializer's text.
            make: Has the effect, under one of the ids that it is given, and returns a value that can be stored.
            content: What makes it another one than another effect at the same place; ``None`` where ``make`` finds out.
        """
        self._interrupts.guard()
        sequence, step = self._journal.next(kind, name)
        if step is not None and step.is_final:
            return self._interrupts.replay(step)
        self._journal.store()
        call = Call(sequence, kind, name, arguments)
        started_at = self._host.clock.now()
        try:
            found = make(self._ids(sequence, content))
        except (WorkflowConflictError, WorkflowNotFoundError, WorkflowStateError) as error:
            failure = encode_failure(error, self._host.serializer)
            record = call.step(ActivityStatus.FAILED, started_at, self._host.clock.now(), failure=failure)
        else:
            output, _ = self._host.serializer.encode(found, what=f"what {kind} {name!r} came to")
            record = call.step(ActivityStatus.COMPLETED, started_at, self._host.clock.now(), output=output)
        self._journal.keep(record)
        return self._interrupts.replay(record.outcome)

    def _ids(self, sequence: int, content: str | None) -> Iterator[str]:
        stem = self._journal.record.stem
        # Where the history goes on without this step, it was had before such steps were recorded: with the plain id.
        if content is not None and sequence >= self._journal.history.last:
            import hashlib  # takes long to import, and is seldom needed

            stem = f"{stem}-{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"
        yield child_id_of(stem, sequence)
        for number in itertools.count(1):
            yield child_id_of(f"{stem}-s{number}", sequence)
