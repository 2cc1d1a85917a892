"""main.py: it does what it says, and goes on after a kill without doing it twice.

What a process really hashed is not taken from its own words: an audit hook notes every file that it opens.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from py_orchestrate import Orchestrator

from .waiting import wait_until

MAIN = Path(__file__).parent.parent / "main.py"
FILES = 500
BATCH = 64
THREADS = 2

# Runs main.py in two threads and notes each file of the folder. After HOLD of them it stands still, until
# the pipe GATE is opened.
SPY = """
import os, runpy, sys
main, folder, log, hold, gate = sys.argv[1:]
sys.argv[:] = [main, folder]
os.cpu_count = lambda: THREADS
sys.path.insert(0, os.path.dirname(main))
noting = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
left = list(range(int(hold)))

def note(event, args):
    if event == "open" and str(args[0]).startswith(folder):
        try:
            left.pop()
        except IndexError:
            open(gate).close()
            left.extend(range(10**6))
        os.write(noting, os.path.relpath(args[0], folder).encode() + b"\\n")

sys.addaudithook(note)
runpy.run_path(main, run_name="__main__")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files, and with things that a manifest leaves out."""
    made = tmp_path / "input"
    for number in range(FILES):
        path = made / f"{number // 100}" / f"file-{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text {number}\n")
    for name in (".git", ".venv", "__pycache__", ".mypy_cache"):
        (made / name).mkdir()
        (made / name / "left-out").write_text("x")
    return made


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def run(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MAIN), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


class Spied:
    """main.py in a process that can be held in the middle of its work."""

    def __init__(self, cwd: Path, folder: Path, hold: int = 10**6) -> None:
        self.hold = hold
        self.log = cwd / f"log-{hold}"
        self.gate = cwd / "gate"
        if not self.gate.exists():
            os.mkfifo(self.gate)
        command = [
            sys.executable,
            "-c",
            f"THREADS = {THREADS}{SPY}",
            *map(str, (MAIN, folder, self.log, hold, self.gate)),
        ]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, process_group=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def opened(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_until_held(self, cwd: Path) -> None:
        """Wait until it stands still, and all that is not under way is stored."""
        wait_until(lambda: len(self.opened()) == self.hold, timeout=30)
        wait_until(lambda: len(stored(cwd)) > self.hold - THREADS * BATCH, timeout=30)


def stored(cwd: Path) -> set[str]:
    """Return the files whose hashes the database holds."""
    (path,) = (cwd / "manifest").glob("*.db")
    orchestrator = Orchestrator(path)
    (workflow,) = orchestrator.list_workflows("make_manifest")
    steps = orchestrator.get_history(workflow["id"])
    orchestrator.db.close()
    return {file["path"] for step in steps if step["name"] == "describe_files" for file in step["output"] or ()}


def entries(cwd: Path) -> dict[str, dict[str, object]]:
    """Return the one manifest, by path."""
    (path,) = (cwd / "manifest").glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["path"] for line in lines}) == len(lines)
    return {line["path"]: line for line in lines}


def counts(output: str) -> tuple[int, int, int]:
    """Return the numbers of the last line: hashed before, hashed now, unreadable."""
    found = re.search(r": (\d+) files were hashed before, (\d+) now; (\d+) could not be read\n$", output)
    assert found, output
    before, now, unreadable = map(int, found.groups())
    return before, now, unreadable


def test_the_manifest_names_every_file_with_its_size_type_and_hash(cwd: Path, folder: Path):
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "README").write_text("plain")
    (folder / "data").write_bytes(b"a\0b")
    done = run(cwd, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert counts(done.stdout) == (0, FILES + 3, 0)
    found = entries(cwd)
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found.keys() == {path for path in on_disk if "left-out" not in path}
    for path, entry in found.items():
        content = (folder / path).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    kinds = {name: found[name]["type"] for name in ("picture.png", "README", "data", "0/file-000.txt")}
    assert kinds == {
        "picture.png": "image/png",
        "README": "text/plain",
        "data": "application/octet-stream",
        "0/file-000.txt": "text/plain",
    }


def test_by_default_it_makes_the_manifest_of_its_own_project(cwd: Path):
    done = run(cwd)
    assert done.returncode == 0, done.stderr
    assert {"main.py", "pyproject.toml", "py_orchestrate/__init__.py"} <= entries(cwd).keys()


def test_its_own_output_is_left_out(folder: Path):
    assert run(folder, ".").returncode == 0
    assert run(folder, ".").returncode == 0
    assert not [path for path in entries(folder) if path.startswith("manifest")]


@pytest.mark.crash
def test_killed_and_started_again_it_hashes_no_finished_file_twice(cwd: Path, folder: Path):
    with Spied(cwd, folder, hold=FILES // 2) as first:
        first.wait_until_held(cwd)
    finished = stored(cwd)
    assert 0 < len(finished) < FILES // 2

    with Spied(cwd, folder) as second:
        output, errors = second.process.communicate(timeout=60)
    assert (second.process.returncode, errors) == (0, "")
    before, now = first.opened(), second.opened()
    assert len(set(now)) == len(now)
    assert not finished & set(now)
    assert finished | set(now) == finished ^ set(now) == entries(cwd).keys()
    assert set(before) & set(now) == set(before) - finished  # twice only what was under way
    assert output.startswith(f"Going on with manifest 1 of {folder}: {len(finished)} files were hashed before\n")
    assert counts(output) == (len(finished), FILES - len(finished), 0)


@pytest.mark.crash
def test_interrupted_it_finishes_what_is_under_way_and_the_next_start_goes_on(cwd: Path, folder: Path):
    with Spied(cwd, folder, hold=FILES // 2) as first:
        first.wait_until_held(cwd)
        finished = stored(cwd)
        first.process.send_signal(signal.SIGINT)
        assert first.process.stderr is not None
        wait_until(lambda: first.process.stderr.readline().startswith("Interrupted. Start it again"), timeout=30)
        first.gate.write_text("")
        assert first.process.wait(timeout=30) == 130
    assert finished < stored(cwd) == set(first.opened())

    with Spied(cwd, folder) as second:
        output, errors = second.process.communicate(timeout=60)
    assert (second.process.returncode, errors) == (0, "")
    assert sorted(first.opened() + second.opened()) == sorted(entries(cwd))  # each once
    assert counts(output) == (len(first.opened()), FILES - len(first.opened()), 0)


def test_a_finished_manifest_is_made_anew(cwd: Path, folder: Path):
    assert counts(run(cwd, folder).stdout) == (0, FILES, 0)
    (folder / "0" / "file-000.txt").write_text("changed")
    done = run(cwd, folder)
    assert f"Making manifest 2 of {folder}\n" in done.stdout
    assert counts(done.stdout) == (0, FILES, 0)
    assert entries(cwd)["0/file-000.txt"]["sha256"] == hashlib.sha256(b"changed").hexdigest()


def test_two_folders_do_not_mix(cwd: Path, folder: Path, tmp_path: Path):
    other = tmp_path / "other" / "input"  # the same name in another place
    other.mkdir(parents=True)
    (other / "one").write_text("1")
    assert counts(run(cwd, folder).stdout) == (0, FILES, 0)
    assert counts(run(cwd, other).stdout) == (0, 1, 0)
    assert len(list((cwd / "manifest").glob("input-*.jsonl"))) == 2


def test_what_cannot_be_read_is_listed_and_does_no_harm(cwd: Path, folder: Path):
    (folder / "broken-link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    unreadable = ["broken-link", "pipe"]
    if os.geteuid() != 0:  # root may read everything
        (folder / "secret").write_text("x")
        (folder / "secret").chmod(0)
        (folder / "4").chmod(0)
        unreadable += ["secret", "4"]
    try:
        done = run(cwd, folder)
    finally:
        (folder / "4").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert counts(done.stdout)[2] == len(unreadable)
    found = entries(cwd)
    assert found["broken-link"] == {"path": "broken-link", "error": "No such file or directory"}
    assert found["pipe"] == {"path": "pipe", "error": "not a regular file"}
    assert all("error" in found[path] for path in unreadable)


def test_names_that_are_no_text_are_kept(cwd: Path, folder: Path):
    try:
        (folder / "caf\udce9\n.txt").write_text("latin-1")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (folder / "zoë.txt").write_text("utf-8")
    assert counts(run(cwd, folder).stdout) == (0, FILES + 2, 0)
    assert {"caf\udce9\n.txt", "zoë.txt"} <= entries(cwd).keys()


def test_an_empty_folder_has_an_empty_manifest(cwd: Path, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert counts(run(cwd, empty).stdout) == (0, 0, 0)
    assert entries(cwd) == {}


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "No such file or directory"), ("a-file", "Not a directory")])
def test_a_wrong_folder_is_a_clear_error(cwd: Path, tmp_path: Path, name: str, reason: str):
    (tmp_path / "a-file").write_text("x")
    done = run(cwd, tmp_path / name)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: cannot read the folder {tmp_path / name}: {reason}\n")
    assert not list(cwd.iterdir())


def test_a_place_that_cannot_be_written_is_a_clear_error(cwd: Path, folder: Path):
    (cwd / "manifest").write_text("a file is in the way")
    done = run(cwd, folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_damaged_database_is_a_clear_error(cwd: Path, folder: Path):
    assert run(cwd, folder).returncode == 0
    (path,) = (cwd / "manifest").glob("*.db")
    path.write_text("no database at all" * 1000)
    done = run(cwd, folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot open the database")
    assert "Traceback" not in done.stderr


def test_a_terminal_shows_one_line_that_is_redrawn(cwd: Path, folder: Path):
    leader, follower = pty.openpty()
    command = [sys.executable, str(MAIN), str(folder)]
    with subprocess.Popen(command, cwd=cwd, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while select.select([leader], [], [], 30)[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
        assert process.wait(timeout=30) == 0
    os.close(leader)
    text = shown.decode().replace("\r\n", "\n")
    assert f"\n{FILES} of {FILES} files hashed\r" in re.sub(r"\d+ of \d+ files hashed\r(?=\d)", "", text)
    assert counts(text) == (0, FILES, 0)
