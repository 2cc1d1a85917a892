"""1.0.2's records: what its seven storage methods take and return.

They stay dataclasses, mutable, with their nine fields in their order, because a database manager written against 1.0.2
builds, changes and reads them so. ``models`` hands them out under their old path, when somebody asks for them: no
program needs them whose database manager is one of ours, and ``dataclasses`` takes half as long to import as all of
this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .models import WorkflowStatus


@dataclass
class WorkflowInstance:
    """A workflow as 1.0.2's seven storage methods see it.

    ``input_data`` and ``output_data`` are plain JSON data; values that JSON lacks stand in their tagged form.
    """

    id: str
    name: str
    status: WorkflowStatus
    input_data: dict[str, Any]
    output_data: Any
    current_activity: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime


@dataclass
class ActivityExecution:
    """One activity's run as 1.0.2's seven storage methods see it."""

    id: str
    workflow_id: str
    activity_name: str
    input_data: dict[str, Any]
    output_data: Any
    status: str
    error_message: str | None
    created_at: datetime
    completed_at: datetime | None
