"""One durable call, and the record of what it comes to."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from .._failures import NO_FAILURE, Failure
from ..models import ActivityStatus, StepRecord


class Call(NamedTuple):
    """One durable call.

    Attributes:
        sequence: Its ordinal in the workflow.
        kind: What is called; see ``StepRecord``.
        name: The name that is called.
        arguments: The arguments, as the serializer's text.
        version: The version of the activity's code.
    """

    sequence: int
    kind: str
    name: str
    arguments: str = "null"
    version: str | None = None

    def step(
        self,
        status: ActivityStatus,
        started_at: datetime,
        completed_at: datetime | None,
        *,
        output: str | None = None,
        failure: Failure = NO_FAILURE,
        state: dict[str, Any] | None = None,
    ) -> StepRecord:
        """Return the record of what it has come to."""
        return StepRecord(
            self.sequence,
            self.kind,
            self.name,
            status.value,
            self.arguments,
            output,
            failure.document,
            failure.message,
            started_at,
            completed_at,
            None if state is None else json.dumps(state),
            self.version,
        )
