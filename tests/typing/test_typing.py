"""The files of this folder pass mypy as strictly as it can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def check(path: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir", "/dev/null", str(path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert process.stderr == ""
    return process.stdout


@pytest.mark.slow
def test_decorators_keep_signatures(tmp_path: Path) -> None:
    assert "Success: no issues found" in check(Path(__file__).with_name("signatures.py"))
