"""What becomes of a run's document: each function returns the fields to set, or ``None`` where nothing may change.

Plain decisions, without input or output. The document that they are given may be old; the write that follows is on the
condition that it is not.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ..models import (
    ANY_SIGNAL,
    ControlRequest,
    WorkflowContinuation,
    WorkflowEnd,
    WorkflowStatus,
    WorkflowSuspension,
)
from ._cosmos_documents import Document, changed, optional_time_text, time_text
from ._crashes import recovery_time

PROCESSING = WorkflowStatus.PROCESSING.value
PAUSED = WorkflowStatus.PAUSED.value
_PAUSE = ControlRequest.PAUSE.value
_MESSAGE_GRACE = timedelta(seconds=5)
_SAVED = ("name", "status", "input", "output", "error_message", "current_activity", "created_at", "updated_at")


def is_final(run: Document) -> bool:
    """Return whether a run has ended."""
    return WorkflowStatus(run["status"]).is_final


def is_held(run: Document, epoch: int) -> bool:
    """Return whether the claim that was made with an epoch holds."""
    return bool(run["status"] == PROCESSING and run["owner"] is not None and run["epoch"] == epoch)


def is_claimable(run: Document, now: datetime) -> bool:
    """Return whether a run may be claimed at a time."""
    return run["status"] == PROCESSING and run["due"] is not None and run["due"] <= time_text(now)


def overdue_from(moment: datetime) -> str:
    """Return from when on somebody else delivers what its sender should have delivered."""
    return time_text(moment + _MESSAGE_GRACE)


# --- by who holds it --------------------------------------------------------------------------------------------------


def claimed(run: Document, owner: str) -> Document:
    """An owner takes it up."""
    return changed(run, owner=owner, epoch=run["epoch"] + 1, wake_at=None, waiting_for=None)


def released(run: Document, epoch: int) -> Document | None:
    """Who holds it gives it back."""
    return changed(run, owner=None) if is_held(run, epoch) else None


def ended(run: Document, end: WorkflowEnd) -> Document:
    """It ends; where it has a parent, that is to be told."""
    fields: Document = {
        "status": end.status.value,
        "output": end.output,
        "error": end.error,
        "error_message": end.error_message,
        "current_activity": end.current_activity,
        "custom_status": _published(run, end.custom_status),
        "updated_at": time_text(end.finished_at),
        "owner": None,
        "request": None,
    }
    if run["parent_id"] is not None:
        fields |= {"tells": run["parent_id"], "due": overdue_from(end.finished_at)}
    return fields


def told(run: Document) -> Document | None:
    """Its parent knows that it has ended."""
    return None if run["tells"] is None else {"tells": None, "due": None}


def suspended(run: Document, suspension: WorkflowSuspension) -> Document:
    """It leaves its worker; more signals than it knew of make it ready at once."""
    is_ready = run["signals"] != suspension.signals
    return changed(
        run,
        **_let_go(run),
        wake_at=None if is_ready else optional_time_text(suspension.wake_at),
        waiting_for=None if is_ready else suspension.waiting_for,
        custom_status=_published(run, suspension.custom_status),
        updated_at=time_text(suspension.suspended_at),
    )


def continued(run: Document, continuation: WorkflowContinuation) -> Document:
    """It begins anew."""
    return changed(
        run,
        **_let_go(run),
        input=continuation.input,
        version=continuation.version,
        generation=run["generation"] + 1,
        forgotten={**run["forgotten"], **continuation.taken},
        custom_status=_published(run, continuation.custom_status),
        updated_at=time_text(continuation.continued_at),
    )


def _let_go(run: Document) -> Document:
    """Nobody holds it any longer; a pause that was requested is fulfilled."""
    is_pausing = run["request"] == _PAUSE
    return {
        "owner": None,
        "crashes": 0,
        "status": PAUSED if is_pausing else PROCESSING,
        "request": None if is_pausing else run["request"],
    }


def _published(run: Document, custom_status: str | None) -> object:
    return run["custom_status"] if custom_status is None else custom_status


# --- by others --------------------------------------------------------------------------------------------------------


def freed(run: Document, owner: str) -> Document | None:
    """Its owner gives up all that it holds."""
    return changed(run, owner=None) if run["owner"] == owner else None


def crashed(run: Document, owner: str, now: datetime) -> Document | None:
    """Its owner has died with it."""
    if run["owner"] != owner:
        return None
    crashes = run["crashes"] + 1
    return changed(run, owner=None, crashes=crashes, wake_at=optional_time_text(recovery_time(crashes, now)))


def signalled(run: Document, signal: str) -> Document | None:
    """A signal reaches it, and makes it ready if it waits for that."""
    if is_final(run):
        return None
    wakes = run["waiting_for"] in (signal, ANY_SIGNAL)
    waking = {"wake_at": None, "waiting_for": None} if wakes else {}
    return changed(run, signals=run["signals"] + 1, **waking)


def cancelled(run: Document) -> Document | None:
    """It is to be cancelled; its end waits for no place in a queue."""
    return None if is_final(run) else _to_be_cancelled(run, deadline=None)


def expired(run: Document, now: datetime) -> Document | None:
    """It is out of its time, and nobody holds it: it is to be cancelled, and keeps its deadline."""
    ends_by = run.get("ends_by")
    return None if ends_by is None or ends_by > time_text(now) else _to_be_cancelled(run)


def _to_be_cancelled(run: Document, **others: object) -> Document:
    return changed(
        run,
        lane="",
        status=PROCESSING,
        request=ControlRequest.CANCEL.value,
        signals=run["signals"] + 1,
        wake_at=None,
        waiting_for=None,
        **others,
    )


def paused(run: Document) -> Document | None:
    """It is to be paused."""
    if is_final(run) or run["request"] == ControlRequest.CANCEL.value:
        return None
    if run["owner"] is None:
        return changed(run, status=PAUSED, request=None)
    return {"request": _PAUSE}


def resumed(run: Document) -> Document | None:
    """It is to go on."""
    if is_final(run):
        return None
    return changed(run, status=PROCESSING, request=None if run["request"] == _PAUSE else run["request"])


def reopened(run: Document) -> Document:
    """It has failed, and goes on."""
    nothing = ("output", "error", "error_message", "current_activity", "deadline", "request", "deduplication_key")
    cleared = dict.fromkeys((*nothing, "wake_at", "waiting_for"))
    return changed(run, **cleared, status=PROCESSING, crashes=0)


def saved(run: Document, new: Document) -> Document:
    """It is saved by 1.0.2's method."""
    fields = {field: new[field] for field in _SAVED}
    if is_final(run) and not is_final(new):
        fields["deduplication_key"] = None  # which another run may have by now
    if is_final(new):
        fields["owner"] = None
    return changed(run, **fields)
