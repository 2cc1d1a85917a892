"""What a run has recorded, in short."""

from __future__ import annotations

from py_orchestrate import Orchestrator


def outline(orchestrator: Orchestrator, workflow_id: str) -> list[tuple[int, str, str]]:
    """Return place, name and status of each recorded step."""
    return [(step["sequence"], step["name"], step["status"]) for step in orchestrator.get_history(workflow_id)]
