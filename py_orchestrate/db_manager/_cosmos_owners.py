"""The orchestrators on a Cosmos DB database: a document for each, with its signs of life.

One that has been silent for too long is first marked as dead, on the condition that it still is silent; then its runs
are freed, then its document is deleted. If who does that dies in between, whoever finds the mark goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from ._cosmos_documents import OWNER, Document
from ._cosmos_store import Refused, Store

_logger = logging.getLogger(__name__)


class Owners:
    """The registered orchestrators.

    Args:
        shared: The container of their documents.
        runs: That of the runs, which say who holds them.
    """

    def __init__(self, shared: Store, runs: Store) -> None:
        self._shared = shared
        self._runs = runs
        self._own: set[str] = set()
        self._suspects: set[str] = set()

    def register(self, owner: str, queues: Sequence[str]) -> None:
        """Add an orchestrator."""
        document: Document = {"id": _id(owner), "type": OWNER, "owner": owner, "beats": 0, "is_dead": False}
        self._shared.insert(document["id"], {**document, "queues": list(queues)})
        self._own.add(owner)

    def forget(self, owner: str) -> None:
        """Remove an orchestrator."""
        self._own.discard(owner)
        self._shared.delete_all(_id(owner), [_id(owner)])

    def is_registered(self, owner: str) -> bool:
        """Return whether an orchestrator may hold runs; one point read."""
        document = self._shared.read(_id(owner), _id(owner))
        return document is not None and not document["is_dead"]

    def may_be_born_to(self, owner: str) -> bool:
        """Return whether a new run may be held by an orchestrator; no read for one that was registered here."""
        return owner in self._own or self.is_registered(owner)

    def beat(self, owner: str) -> None:
        """Count a sign of life, unless the orchestrator is gone."""
        document = self._shared.read(_id(owner), _id(owner))
        if document is None or document["is_dead"]:
            return
        try:
            self._shared.update(document["id"], document, {"beats": document["beats"] + 1})
        except Refused:
            _logger.debug("orchestrator %s was found silent while it gave a sign of life", owner)

    def all(self) -> list[Document]:
        """Return every orchestrator's document; one query in a small container."""
        return list(self._shared.query("SELECT * FROM c WHERE c.type = @type", {"type": OWNER}))

    def mark_as_dead(self, owner: str, beats: int) -> bool:
        """Mark an orchestrator that has given no other sign of life; return whether this was done here."""
        document = self._shared.read(_id(owner), _id(owner))
        if document is None or document["is_dead"] or document["beats"] != beats:
            return False
        try:
            self._shared.update(document["id"], document, {"is_dead": True})
        except Refused:
            return False
        return True

    def late_claimers(self) -> Iterator[str]:
        """Yield who holds runs and is not registered, found so twice: one that was expired has claimed since."""
        held = {run["owner"] for run in self._runs.query("SELECT c.owner FROM c WHERE c.owner > ''")}
        # Afterwards, because whoever holds one was registered before.
        unknown = {owner for owner in held - {each["owner"] for each in self.all()} if not self.is_registered(owner)}
        suspects, self._suspects = self._suspects, unknown
        yield from unknown & suspects


def _id(owner: str) -> str:
    return f"{OWNER}-{owner}"
