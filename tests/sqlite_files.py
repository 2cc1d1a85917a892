"""What tests ask of a SQLite file behind its manager's back."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

CONNECT = sqlite3.connect

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system has no /proc")


def query(path: Path, sql: str) -> Any:
    with closing(CONNECT(path)) as connection:
        return connection.execute(sql).fetchall()


def descriptors_of(path: Path) -> list[str]:
    """Return what this process has open of the database's files."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found
