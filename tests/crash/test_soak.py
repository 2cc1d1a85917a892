"""A short form of the endurance test."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.children import ROOT


def test_it_endures(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--workflows", "150", "--processes", "3", "--interval", "0.4"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr
