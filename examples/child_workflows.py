"""How does a workflow call other workflows?

A call of a workflow inside a workflow starts a child: a run with an id, a history and a status of its own. The parent
waits for it without a thread, so one worker is enough for all. ``submit`` starts a child and goes on, ``map`` and
``durable.gather`` wait for several. A child's failure is raised in the parent, as its own class.
"""

import tempfile
from pathlib import Path

from py_orchestrate import Orchestrator, activity, durable, workflow


@activity
def fetch_pages(book: str) -> int:
    if book == "lost":
        raise LookupError("the library has no book 'lost'")
    return len(book)


@activity
def print_invoice(pages: int) -> str:
    return f"invoice for {pages} pages"


@workflow
def copy_book(book: str) -> int:
    return fetch_pages(book)


@workflow
def copy_books(books: list[str]) -> str:
    first = copy_book(books[0])  # waits for it
    others = [copy_book.submit(book) for book in books[1:]]  # all at once
    counts = durable.gather(*others, return_exceptions=True)
    pages = [count for count in counts if isinstance(count, int)]
    return print_invoice(first + sum(pages))


@workflow
def copy_carefully(book: str) -> str:
    try:
        return f"{copy_book(book)} pages"
    except LookupError as error:
        return f"not copied: {error}"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "books.db"), max_workers=1) as orchestrator,
    ):
        run = orchestrator.start_workflow(copy_books, ["Emma", "Ulysses", "lost"], workflow_id="order-1")
        print(run.result())
        for step in orchestrator.get_history(run.id):
            print(step["sequence"], step["kind"], step["name"], step["status"])
        for child in sorted(orchestrator.list_workflows("copy_book"), key=lambda child: str(child["id"])):
            print(child["id"], child["status"], child["output"])

        print(orchestrator.start_workflow(copy_carefully, "lost").result())


if __name__ == "__main__":
    main()
