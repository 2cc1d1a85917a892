"""Fresh ids."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

# Not os.urandom: asking the system each time lets other threads have the interpreter, in the middle of every start.
_random = random.Random()  # noqa: S311 - an id is no secret
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def fresh_ids() -> Iterator[str]:
    """Return fresh ids, as many as are asked for."""
    while True:
        yield new_workflow_id()


def new_workflow_id() -> str:
    """Return a fresh id: a UUID of version 7 (RFC 9562), whose text sorts by the time it was made.

    Neighbours in time are then neighbours in a database's index, which keeps inserts cheap in a large file.
    """
    milliseconds = time.time_ns() // 1_000_000
    tail = _random.getrandbits(80)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | tail
    value = value & ~(0xF000 << 64) | 0x7000 << 64
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
