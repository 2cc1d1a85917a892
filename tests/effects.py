"""Side effects that outlive the process that has them: lines in a file, each appended by one write.

A kill can cut a write in two, where it crosses a page. So a line begins and ends with a mark of its own, and one that
was cut does not count: the process died before it had told.
"""

from __future__ import annotations

import os
from pathlib import Path

_END = " ;"


class Effects:
    """A file that any number of threads and processes append to; its lines are in the order in which they happened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def note(self, *words: object) -> None:
        """Append a line; it is there even if the process is killed the moment after."""
        os.write(self._descriptor, f"\n{' '.join(map(str, words))}{_END}".encode())

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return os.fstat(self._descriptor).st_size

    def lines(self) -> list[list[str]]:
        """Return the words of each line."""
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [line.removesuffix(_END).split() for line in lines if line.endswith(_END)]

    def count(self, *words: object) -> int:
        """Return how many lines begin with these words."""
        wanted = [str(word) for word in words]
        return sum(line[: len(wanted)] == wanted for line in self.lines())
