"""Runs the suite, in three processes at once: most of it; the tests that kill processes; those on servers, and others.

With arguments it is pytest with these arguments.
"""

from __future__ import annotations

import compileall
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

_PYTEST = [sys.executable, "-m", "pytest"]
_APART = ["tests/crash", "tests/test_docs.py", "tests/test_main.py"]
_ON_SERVERS_AND_OTHERS = ["tests/cosmos", "tests/lifecycle", "tests/compat", "tests/threads", "tests/typing"]
_SHOWN = [f"--ignore={path}" for path in (*_APART, *_ON_SERVERS_AND_OTHERS)]


def main() -> int:
    """Run what is asked for; return the exit code."""
    if sys.argv[1:]:
        return subprocess.run([*_PYTEST, *sys.argv[1:]], check=False).returncode
    began = time.monotonic()
    # Else every child process does it, where Python may not keep what it compiles.
    for folder in ("py_orchestrate", "tests"):
        compileall.compile_dir(folder, quiet=1)
    with contextlib.ExitStack() as stack:
        beside = [stack.enter_context(_silent(part)) for part in (_APART, _ON_SERVERS_AND_OTHERS)]
        codes = [subprocess.run([*_PYTEST, *_SHOWN], stdin=subprocess.DEVNULL, check=False).returncode]
        for process, output in beside:
            codes.append(process.wait())
            output.seek(0)
            print(output.read(), end="")
    print(f"the suite took {time.monotonic() - began:.0f} s: {'FAILED' if any(codes) else 'passed'}")
    return max(codes)


@contextlib.contextmanager
def _silent(part: list[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Run a part of the suite as long as the context lasts; what it prints is in the file."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*_PYTEST, *part], stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True)
        try:
            yield process, output
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
