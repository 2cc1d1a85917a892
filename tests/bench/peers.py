"""The libraries that are measured, and the virtual environment of each.

This project runs in the environment of the checkout. Each of the others gets one of its own in the scratch folder, from
the pinned and hashed ``requirements/bench-<name>.txt``. A library that cannot be installed, or whose Python is not
there, is left out, with the reason; the benchmarks go on without it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .processes import DRIVERS, ROOT, environment


@dataclass
class Library:
    """One library with its driver, as it can be run here.

    Attributes:
        name: What the tables call it.
        driver: Its driver's file.
        module: What a program imports.
        distribution: Its name in the package index; empty for this project.
        requirements: The name of the requirements file; empty for this project.
        version: Its version.
        minor: The Python that it needs, if not the one that runs the benchmarks.
        missing: Why it is not measured, if it is not.
        python: The interpreter of its environment.
        python_version: Of that interpreter.
        sqlite_version: Of that interpreter.
    """

    name: str
    driver: Path
    module: str
    distribution: str = ""
    requirements: str = ""
    version: str = ""
    minor: str = ""
    missing: str = ""
    python: str = sys.executable
    python_version: str = field(default="")
    sqlite_version: str = field(default="")

    def command(self, workload: str, folder: Path, *options: object) -> list[str]:
        """Return the command that runs a workload of the driver."""
        return [self.python, str(self.driver), workload, str(folder), *map(str, options)]


OWN = "py-orchestrate"


def known_libraries() -> list[Library]:
    """Return this project and the libraries that it is compared with."""
    return [
        Library(OWN, DRIVERS / "py_orchestrate_driver.py", "py_orchestrate"),
        Library(
            "py-orchestrate 1.0.2",
            DRIVERS / "py_orchestrate_1_0_2.py",
            "py_orchestrate",
            "py-orchestrate",
            "bench-py-orchestrate",
        ),
        Library("dbos", DRIVERS / "dbos_driver.py", "dbos", "dbos", "bench-dbos"),
        Library("dura", DRIVERS / "dura_driver.py", "dura", "dura", "bench-dura", minor="3.13"),
        Library("kairo-sdk", DRIVERS / "kairo_driver.py", "kairo_sdk", "kairo-sdk", "bench-kairo"),
    ]


def make_ready(library: Library, scratch: Path) -> None:
    """Make the library's environment, unless it is there; where that cannot be, say why in ``missing``."""
    try:
        if library.requirements:
            _make_environment(library, scratch)
        _describe(library)
    except (OSError, subprocess.SubprocessError) as error:
        library.missing = library.missing or _reason(error)


def find_interpreter(name: str) -> str | None:
    """Return an interpreter such as ``python3.13`` or ``python3.14t``: from PATH, or from pyenv's folder.

    A name on PATH proves nothing: a pyenv shim may only say that its version is not active. What counts is whether the
    program runs.
    """
    version = name.removeprefix("python").removesuffix("t")
    folder = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(name), *sorted(folder.glob(f"{version}*/bin/{name}"))]
    return next((str(candidate) for candidate in candidates if candidate and _runs(str(candidate))), None)


def _runs(python: str) -> bool:
    done = subprocess.run([python, "-c", "import venv, ensurepip, sqlite3"], capture_output=True, check=False)
    return done.returncode == 0


def make_venv(python: str, folder: Path, requirements: Path | None = None) -> str:
    """Make a virtual environment with what the file says, unless it is there, and return its interpreter."""
    made = folder / "bin" / "python"
    stamp = folder / "made-of"
    content = f"{python}\n{requirements.read_text(encoding='utf-8') if requirements else ''}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == content:
        return str(made)
    shutil.rmtree(folder, ignore_errors=True)
    _call(python, "-m", "venv", str(folder))
    if requirements:
        options = ("--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes")
        _call(str(made), "-m", "pip", "install", *options, "-r", str(requirements))
    stamp.write_text(content, encoding="utf-8")
    return str(made)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment())


def _make_environment(library: Library, scratch: Path) -> None:
    base = getattr(sys, "_base_executable", sys.executable)
    if library.minor and not sys.version.startswith(library.minor + "."):
        base = find_interpreter(f"python{library.minor}")
        if base is None:
            library.missing = f"it needs Python {library.minor}, which is not here"
            raise FileNotFoundError(library.missing)
    requirements = ROOT / "requirements" / f"{library.requirements}.txt"
    library.python = make_venv(base, scratch / "environments" / library.requirements, requirements)


_DESCRIBE = """
import importlib.metadata, platform, sqlite3, sys
print(importlib.metadata.version(sys.argv[1]), platform.python_version(), sqlite3.sqlite_version)
"""


def _describe(library: Library) -> None:
    command = [library.python, "-c", _DESCRIBE, library.distribution or "py-orchestrate"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout
    library.version, library.python_version, library.sqlite_version = output.split()


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error).encode()
    lines = (said if isinstance(said, str) else said.decode(errors="replace")).strip().splitlines() or ["no reason"]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
    return "it could not be installed: " + re.sub(r"\w+://\S+|(/[\w.@+-]+){2,}", "...", last)[:200]
