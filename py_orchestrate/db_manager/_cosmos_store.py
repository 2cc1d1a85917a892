"""What the Cosmos DB backend asks of the service: reads, queries, and writes of one logical partition.

Whatever must hold together is one transactional batch, whose first operation carries the ETag that it was decided by.
A write whose answer is lost may have been applied. So each one leaves a mark of its own in a document, among the last
few in ``marks``, and after a doubtful answer that document is read: nothing is repeated blindly, or done twice.

This is the only module that imports ``azure``, and it does so when a store is opened.

Sources: "Transactional batch operations", "Optimistic concurrency control" and "Designing resilient applications with
Azure Cosmos DB SDKs" in Microsoft's documentation.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from ..errors import StorageError

_logger = logging.getLogger(__name__)

T = TypeVar("T")
Document = dict[str, Any]
Operation = tuple[Any, ...]

MOST_OPERATIONS = 90
"""In one batch; the service takes 100."""
_PATCHES_AT_ONCE = 10
LARGE = 100_000
_CHUNK = 250_000
"""In characters; each of them takes 6 bytes at most, and the service takes 2 MB at once."""
_MOST_IN_BATCH = 1_000_000
_PARTS = "$parts"
_MARKS_KEPT = 8
"""So many others may write between a write and the look at what has become of it."""

CONFLICT = 409
_NOT_FOUND, _PRECONDITION_FAILED = 404, 412
_NOT_APPLIED = (429, 449)
_DOUBTFUL = (408, 410, 500, 502, 503, 504)
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 5.0
_FORBIDDEN = 403

_INDEXED = (
    "type",
    "workflow_id",
    "status",
    "owner",
    "request",
    "name",
    "queue",
    "lane",
    "due",
    "rank",
    "position",
    "ends_by",
)
_ALSO_INDEXED = ("updated_at", "created_at", "sequence", "generation", "version", "id")

INDEXING_POLICY = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": f"/{field}/?"} for field in (*_INDEXED, *_ALSO_INDEXED)],
    "excludedPaths": [{"path": "/*"}],
}
"""For the container of the runs: payloads are not indexed, for that costs a write more than the write itself."""


class Refused(Exception):  # noqa: N818 - a signal between two modules, which never reaches a user
    """A write was refused, and changed nothing.

    Attributes:
        status: 404, 409 or 412.
        current: The document that the write's first operation is about, as it is; ``None`` where there is none.
    """

    def __init__(self, status: int, current: Document | None) -> None:
        super().__init__(status)
        self.status = status
        self.current = current


class Store:
    """One container of the service.

    Args:
        container: The SDK's client of it.
        what: What it is, for messages.
        max_retries: How often a request is repeated where that is safe.
        is_by_id: Whether each document is a partition of its own.
    """

    def __init__(self, container: Any, what: str, *, max_retries: int, is_by_id: bool = False) -> None:
        from azure.core import MatchConditions, exceptions

        self.container = container
        self._what = what
        self._max_retries = max_retries
        self._is_by_id = is_by_id
        self._if_match = MatchConditions.IfNotModified
        self._http_error = exceptions.HttpResponseError
        self._not_sent = exceptions.ServiceRequestError
        # Threads share the headers of the last response in azure-cosmos (4.17 at least), and where one changes them
        # while another goes over them, that is Python's RuntimeError, after the request was served.
        self._troubles = (exceptions.AzureError, RuntimeError)

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, partition: str, document_id: str) -> Document | None:
        """Return the document, or ``None`` if there is none; one point read."""

        def read() -> Document | None:
            try:
                found: Document = dict(self.container.read_item(item=document_id, partition_key=partition))
            except self._http_error as error:
                if error.status_code == _NOT_FOUND:
                    return None
                raise
            return found

        return self._repeated("read", read)

    def query(
        self,
        text: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        partition: str | None = None,
        page: int = 100,
    ) -> Iterator[Document]:
        """Yield what a query finds, page by page.

        Args:
            text: The query; its parameters as ``@name``. The partition stands in it too.
            parameters: Their values, by name.
            partition: The partition to look in; ``None`` for all.
            page: How many a page has.
        """
        scope: dict[str, Any] = {"enable_cross_partition_query": True}
        if partition is not None:
            scope = {"partition_key": partition}
        pages = self.container.query_items(
            query=text,
            parameters=[{"name": f"@{name}", "value": value} for name, value in (parameters or {}).items()],
            max_item_count=page,
            **scope,
        ).by_page()
        while (found := self._repeated("read", lambda: _next_page(pages))) is not None:
            yield from found

    # --- writing ------------------------------------------------------------------------------------------------------

    def insert(self, partition: str, document: Document) -> Document | None:
        """Store a document if its id is free.

        Returns:
            ``None`` if it was stored, now with its ``_etag``; else the document that has the id.
        """
        mark = _new_mark()
        document["marks"] = [mark]
        small = self._with_parts(partition, document)

        def create() -> Document:
            created: Document = self.container.create_item(small)
            return created

        try:
            created = self._written(partition, document["id"], mark, create)
        except Refused as refused:
            self.forget_parts(small)
            if refused.current is None:  # deleted again meanwhile
                return self.insert(partition, document)
            return refused.current
        document |= {**small, "_etag": created["_etag"]}
        return None

    def update(
        self, partition: str, document: Document, sets: Mapping[str, Any], operations: Sequence[Operation] = ()
    ) -> None:
        """Set fields of a document, and do other operations in its partition, in one batch; all or nothing.

        Args:
            partition: The partition.
            document: The document, as it was decided by; it is changed as the stored one is.
            sets: The fields to set.
            operations: ``("create", document)``, ``("upsert", document)``, ``("delete", id)``. Where there are
                more than a batch takes, they are done in several, each under the same condition, and the fields are set
                with the last.

        Raises:
            Refused: The document has been changed meanwhile, or one that is to be created is there; then nothing
                was done, or, where it takes several batches, the first of them.
        """
        batches = _in_batches([
            (kind, what if isinstance(what, str) else self._with_parts(partition, what)) for kind, what in operations
        ])  # fmt: skip
        for part in batches[:-1]:
            self._update(partition, document, {}, part)
        self._update(partition, document, sets, batches[-1])

    def _update(
        self, partition: str, document: Document, sets: Mapping[str, Any], operations: Sequence[Operation]
    ) -> None:
        mark = _new_mark()
        marks = [*document.get("marks", ())[1 - _MARKS_KEPT :], mark]
        changes = self._with_parts(partition, {**sets, "marks": marks})
        patches = [{"op": "set", "path": f"/{field}", "value": value} for field, value in changes.items()]
        parts = [patches[first : first + _PATCHES_AT_ONCE] for first in range(0, len(patches), _PATCHES_AT_ONCE)]

        def commit() -> Document:
            # Made anew for each attempt: the SDK takes the conditions out of what it is handed.
            batch: list[Operation] = [("patch", (document["id"], part), {}) for part in parts]
            batch[0] = (*batch[0][:2], {"if_match_etag": document["_etag"]})
            batch += [(kind, (what,)) for kind, what in operations]
            results = self.container.execute_item_batch(batch, partition_key=partition)
            return {"_etag": results[len(parts) - 1]["eTag"]}

        try:
            written = self._written(partition, document["id"], mark, commit)
        except Refused:
            self.forget_parts(changes)
            raise
        document.update(changes)
        document["_etag"] = written["_etag"]

    def delete(self, partition: str, document: Document) -> bool:
        """Delete a document if it is as it was; return whether it was deleted."""
        tries = 0

        def delete() -> bool:
            nonlocal tries
            tries += 1
            try:
                self.container.delete_item(
                    document["id"],
                    partition_key=partition,
                    etag=document["_etag"],
                    match_condition=self._if_match,
                )
            except self._http_error as error:
                if error.status_code == _NOT_FOUND:
                    return tries > 1  # by an attempt whose answer was lost
                if error.status_code == _PRECONDITION_FAILED:
                    return False
                raise
            return True

        return self._repeated("write", delete)

    def delete_all(self, partition: str, ids: Sequence[str]) -> None:
        """Delete documents of a partition, whatever they are like; those that are gone are fine."""
        for first in range(0, len(ids), MOST_OPERATIONS):
            part = ids[first : first + MOST_OPERATIONS]

            def delete(part: Sequence[str] = part) -> None:
                try:
                    self.container.execute_item_batch([("delete", (each,)) for each in part], partition_key=partition)
                except self._http_error as error:
                    if error.status_code != _NOT_FOUND:
                        raise
                    for each in part:
                        self._delete_one(partition, each)

            self._repeated("write", delete)

    def _delete_one(self, partition: str, document_id: str) -> None:
        try:
            self.container.delete_item(document_id, partition_key=partition)
        except self._http_error as error:
            if error.status_code != _NOT_FOUND:
                raise

    # --- what may go wrong --------------------------------------------------------------------------------------------

    def _written(self, partition: str, document_id: str, mark: str, write: Callable[[], Document]) -> Document:
        """Make a write that leaves its mark in a document; return what is known of that document afterwards.

        Raises:
            Refused: It was refused, and this is not because it had been applied before.
            StorageError: It could not be made, or it is not known whether it was, again and again.
        """
        attempt = 0
        while True:
            try:
                return write()
            except self._troubles as error:
                status = getattr(error, "status_code", None)
                if status in (_NOT_FOUND, CONFLICT, _PRECONDITION_FAILED):
                    current = self.read(partition, document_id)
                    if _bears(current, mark):
                        return current  # by an attempt whose answer was lost
                    raise Refused(status, current) from error
                delay = self._delay(error, attempt, "write")
                if not self._was_not_applied(error):
                    current = self.read(partition, document_id)
                    if _bears(current, mark):
                        return current
                time.sleep(delay)
                attempt += 1

    def _repeated(self, verb: str, action: Callable[[], T]) -> T:
        attempt = 0
        while True:
            try:
                return action()
            except self._troubles as error:
                delay = self._delay(error, attempt, verb)
                time.sleep(delay)
                attempt += 1

    def _was_not_applied(self, error: Exception) -> bool:
        return isinstance(error, self._not_sent) or getattr(error, "status_code", None) in _NOT_APPLIED

    def _delay(self, error: Any, attempt: int, verb: str) -> float:
        """Return in how many seconds a request may be repeated; raise if it is not to be.

        Raises:
            StorageError: It is not.
        """
        status = getattr(error, "status_code", None)
        if (status is not None and status not in (*_NOT_APPLIED, *_DOUBTFUL)) or attempt >= self._max_retries:
            raise self.error(verb, error) from error
        asked = (getattr(error, "headers", None) or {}).get("x-ms-retry-after-ms")
        longest = min(_FIRST_DELAY_SECONDS * 2.0**attempt, _LONGEST_DELAY_SECONDS)
        return max(float(asked or 0) / 1000, random.uniform(longest / 2, longest))  # noqa: S311 - no secret

    def error(self, verb: str, error: Any) -> StorageError:
        """Return the error for what the service has answered; without the payload, which may be in its text."""
        status = getattr(error, "status_code", None)
        reason = str(getattr(error, "reason", None) or getattr(error, "message", None) or error).partition("\n")[0]
        hint = ""
        if status == _FORBIDDEN:
            hint = "; the credential lacks a role for data, such as Cosmos DB Built-in Data Contributor"
        answer = f"it answered {status}: " if status is not None else f"{type(error).__name__}: "
        return StorageError(f"cannot {verb} {self._what}: {answer}{reason[:300]}{hint}")

    # --- large texts --------------------------------------------------------------------------------------------------

    def whole(self, document: Document) -> Document:
        """Return a document with its large texts, which are stored in parts; a point read for each part."""
        found = dict(document)
        for field, value in document.items():
            if isinstance(value, dict) and _PARTS in value:
                found[field] = "".join(self._part(value["partition"] or part, part) for part in value[_PARTS])
            elif field == "run":
                found[field] = self.whole(value)
        return found

    def _part(self, partition: str, document_id: str) -> str:
        document = self.read(partition, document_id)
        if document is None:
            raise StorageError(f"a part of a large value is missing in {self._what}: {document_id} of {partition}")
        text: str = document["text"]
        return text

    def _with_parts(self, partition: str, document: Mapping[str, Any]) -> Document:
        """Return a document whose large texts are documents of their own in its partition, which are stored now.

        The service takes 2 MB at once, and each change of a document costs what the whole of it does. What is stored
        here is not referred to before the document is; if that is never stored, the parts go with the partition.
        """
        found = dict(document)
        for field, value in document.items():
            if isinstance(value, str) and len(value) > LARGE:
                parts = [value[first : first + _CHUNK] for first in range(0, len(value), _CHUNK)]
                ids = [self._store_part(partition, part) for part in parts]
                found[field] = {"partition": None if self._is_by_id else partition, _PARTS: ids}
            elif field == "run":
                found[field] = self._with_parts(partition, value)
        return found

    def _store_part(self, partition: str, text: str) -> str:
        mark = _new_mark()
        document_id = f"part-{mark}"
        document = {"id": document_id, "type": "part", "workflow_id": partition, "text": text, "marks": [mark]}
        own = document_id if self._is_by_id else partition
        self._written(own, document_id, mark, lambda: self.container.create_item(document))
        return document_id

    def forget_parts(self, document: Document) -> None:
        """Delete what a document's large texts are stored in, where it is a partition of its own."""
        for field, value in document.items():
            if isinstance(value, dict) and _PARTS in value and value["partition"] is None:
                for part in value[_PARTS]:
                    self.delete_all(part, [part])
            elif field == "run":
                self.forget_parts(value)


def _new_mark() -> str:
    return uuid.uuid4().hex


def _bears(document: Document | None, mark: str) -> TypeGuard[Document]:
    """Return whether a write has left its mark in a document."""
    return document is not None and mark in document.get("marks", ())


def _next_page(pages: Any) -> list[Document] | None:
    page = next(pages, None)
    return None if page is None else list(page)


def _in_batches(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Return the operations in parts that a batch takes, by number and by size; one part at least."""
    parts: list[list[Operation]] = [[]]
    size = 0
    for operation in operations:
        bytes_of = len(json.dumps(operation[1])) if isinstance(operation[1], Mapping) else 0
        if len(parts[-1]) >= MOST_OPERATIONS or (parts[-1] and size + bytes_of > _MOST_IN_BATCH):
            parts.append([])
            size = 0
        parts[-1].append(operation)
        size += bytes_of
    return parts
