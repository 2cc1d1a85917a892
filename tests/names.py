"""Names of parameters for the ids of tests."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """Return the representation without the address, which would be another one in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
