"""Make a manifest of a folder: the size, the type and the SHA-256 of every file.

    python main.py [FOLDER]

Kill it, with Ctrl+C or with kill -9, and start it again with the same folder: it goes on, and no file is hashed twice
but the few that it was just at. When a manifest is finished, the next start makes a new one.

What it writes goes into the folder "manifest" in the current directory: for each folder that it was given the manifest,
one JSON line for each file, and the database. In one place they are easy to leave out, to ignore and to delete.
"""

import argparse
import contextlib
import hashlib
import json
import mimetypes
import os
import stat
import sys
from pathlib import Path
from typing import Any

from py_orchestrate import Orchestrator, activity, durable, workflow
from py_orchestrate.errors import StorageError, WorkflowFailedError

OUTPUT = Path("manifest")
SKIPPED = {".git", ".hypothesis", ".tox", ".venv", "__pycache__", "node_modules"}
BATCH_FILES, BATCH_BYTES = 64, 32 * 1024 * 1024


class Progress:
    """What the terminal shows. It ends with this process, so the workflow may tell it things, but must not ask it."""

    def __init__(self) -> None:
        self.total = self.before = 0
        self.now: list[str] = []

    def __str__(self) -> str:
        return f"{self.before + len(self.now)} of {self.total} files hashed"


progress = Progress()


@workflow
def make_manifest(folder: str, report: str) -> dict[str, int]:
    """List, hash, report. After a crash this runs again from the top; what had finished then returns what is stored."""
    batches = list_files(folder)
    progress.total = sum(len(batch) for batch in batches)
    hashing = [describe_files.submit(folder, batch) for batch in batches]
    files = [file for batch in durable.gather(*hashing) for file in batch]
    return write_report(report, files)


@activity
def list_files(folder: str) -> list[list[str]]:
    """Return the paths of all files, in batches that are worth a step: many small files, or one large one."""
    own = OUTPUT.resolve()
    found: list[str] = []
    # A folder that cannot be listed stands among the files, and is reported as one that cannot be read.
    for parent, folders, files in os.walk(folder, onerror=lambda error: found.append(error.filename)):
        kept = [name for name in folders if name not in SKIPPED and not name.endswith("_cache")]
        folders[:] = [name for name in kept if Path(parent, name) != own]
        found.extend(os.path.join(parent, name) for name in files)
    batches: list[list[str]] = []
    size = room = 0
    for path in sorted(found):
        with contextlib.suppress(OSError):  # gone already: the report will say so
            size = os.lstat(path).st_size
        if not batches or len(batches[-1]) == BATCH_FILES or size > room:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append(os.path.relpath(path, folder))
        room -= size
    return batches


@activity
def describe_files(folder: str, paths: list[str]) -> list[dict[str, Any]]:
    """Describe a batch of files. It is stored as a whole: if the process dies in here, the batch is done again."""
    return [{"path": path, **describe(Path(folder, path))} for path in paths]


def describe(file: Path) -> dict[str, Any]:
    """Return a file's size, type and hash, or why there are none: one that cannot be read does not stop the others."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for ever
            return {"error": "cannot be listed" if file.is_dir() else "not a regular file"}
        with file.open("rb") as content:
            guess = "application/octet-stream" if b"\0" in content.read(1024) else "text/plain"
            content.seek(0)
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
    except OSError as error:
        return {"error": error.strerror or str(error)}
    progress.now.append(digest)
    return {"size": size, "type": mimetypes.guess_type(file.name)[0] or guess, "sha256": digest}


@activity
def write_report(report: str, files: list[dict[str, Any]]) -> dict[str, int]:
    """Write the manifest and return its totals. It appears whole or not at all, so writing it twice does no harm."""
    unfinished = Path(report).with_suffix(".part")
    unfinished.write_text("".join(json.dumps(file) + "\n" for file in files), encoding="utf-8")
    unfinished.replace(report)
    hashed = sum("sha256" in file for file in files)
    return {"hashed": hashed, "unreadable": len(files) - hashed}


def make(folder: Path) -> None:
    """Make the folder's manifest, or go on with the one that was begun."""
    OUTPUT.mkdir(exist_ok=True)
    name = f"{folder.name[:40]}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
    report = OUTPUT / f"{name}.jsonl"
    orchestrator = Orchestrator(OUTPUT / f"{name}.db", max_workers=os.cpu_count() or 4)
    runs = orchestrator.list_workflows("make_manifest")  # newest first
    if runs and runs[0]["status"] == "processing":
        number = len(runs)
        steps = [step for step in orchestrator.get_history(runs[0]["id"]) if step["name"] == "describe_files"]
        progress.before = sum("sha256" in file for step in steps for file in step["output"] or ())
        print(f"Going on with manifest {number} of {folder}: {progress.before} files were hashed before", flush=True)
    else:
        number = len(runs) + 1
        print(f"Making manifest {number} of {folder}", flush=True)
    pause, end = (0.1, "\r") if sys.stdout.isatty() else (2.0, "\n")
    with orchestrator:
        # An id that exists finds its run, finished or not; a new one starts a new run.
        run = orchestrator.start_workflow(make_manifest, str(folder), str(report), workflow_id=f"manifest-{number}")
        totals = None
        while totals is None:
            with contextlib.suppress(TimeoutError):
                totals = run.result(timeout=pause)
            print(progress, end=end, flush=True)
    before, unreadable = totals["hashed"] - len(progress.now), totals["unreadable"]
    print(f"{report}: {before} files were hashed before, {len(progress.now)} now; {unreadable} could not be read")


def main() -> int:
    """Return the exit code: 0, or 1 for an error, 2 for a wrong folder, 130 when interrupted."""
    parser = argparse.ArgumentParser(description="Make a manifest of a folder, or go on with the one that was begun.")
    here = Path(__file__).parent
    parser.add_argument("folder", nargs="?", type=Path, default=here, help="by default the folder of this program")
    folder = parser.parse_args().folder.resolve()
    try:
        os.scandir(folder).close()
    except OSError as error:
        parser.error(f"cannot read the folder {folder}: {error.strerror}")
    try:
        make(folder)
    except KeyboardInterrupt:
        print("\nInterrupted. Start it again with the same folder to go on.", file=sys.stderr)
        return 130
    except (OSError, StorageError, WorkflowFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
