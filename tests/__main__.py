"""Runs the suite, in two processes at once: most of it, and beside that the tests that kill or start processes.

With arguments it is pytest with these arguments.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

_PYTEST = [sys.executable, "-m", "pytest"]
_PARTS = (
    ["--ignore=tests/crash", "--ignore=tests/test_docs.py", "--ignore=tests/test_main.py"],
    ["tests/crash", "tests/test_docs.py", "tests/test_main.py"],
)


def main() -> int:
    """Run what is asked for; return the exit code."""
    if sys.argv[1:]:
        return subprocess.run([*_PYTEST, *sys.argv[1:]], check=False).returncode
    began = time.monotonic()
    shown, silent = _PARTS
    with tempfile.TemporaryFile("w+") as output:
        beside = subprocess.Popen([*_PYTEST, *silent], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            code = subprocess.run([*_PYTEST, *shown], stdin=subprocess.DEVNULL, check=False).returncode
            beside_code = beside.wait()
        finally:
            beside.terminate()
            beside.wait()
        output.seek(0)
        print(output.read(), end="")
    print(f"the suite took {time.monotonic() - began:.0f} s: {'passed' if code == beside_code == 0 else 'FAILED'}")
    return code or beside_code


if __name__ == "__main__":
    sys.exit(main())
