"""A server in a process of its own that speaks the protocol of Azure Cosmos DB, for the real client to talk to.

It is the npm package ``@vercel/cosmosdb-server`` with the corrections and the faults of ``tests/cosmos/server``. It is
neither Azure Cosmos DB nor Microsoft's emulator. ``python -m tests.cosmos.server`` installs it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent.parent
SOURCE = Path(__file__).parent / "server"
INSTALLED = ROOT / ".cosmos-server"

_PACKAGE_FILES = ("package.json", "package-lock.json")
_START_SECONDS = 60
_STOP_SECONDS = 10
_INSTALL_SECONDS = 600


class CosmosServer:
    """A running server, empty at first; what it stores is lost when its process ends.

    Attributes:
        endpoint: The address for the client.
        key: The account's key; the server checks the signatures that are made with it.
        connection_string: Both of them, as Azure writes them.
    """

    key = base64.b64encode(b"the key of the account that only the tests know, 64 bytes long. ").decode()

    def __init__(self, *, port: int = 0, protocol: str = "http", raw: bool = False) -> None:
        """Start a server; ``raw`` is the package without corrections, faults and key."""
        self._protocol = protocol
        self._raw = raw
        self._paused = False
        self._ahead = 0.0
        self._control: str | None = None
        self._start(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------------- faults and log

    def fail(self, *faults: dict[str, Any]) -> None:
        """Add faults; a request suffers the first that fits it.

        What happens, one of:
            status: Answer with this status, and with ``substatus`` and ``retryAfterMs`` if they are given.
            kind: "drop-before" closes the connection instead of serving the request, "drop-after" serves it and closes
                the connection instead of answering. "delay" serves it after ``ms`` milliseconds, "delay-after" serves
                it at once and answers after ``ms``. "hold-before" and "hold-after" do the same at ``release()``.

        To which requests, all of them if nothing is given:
            method: "GET", "POST", "PUT", "PATCH" or "DELETE".
            match: A part of the URL's path, unquoted.
            body: A part of the request's body.
            pattern: A regular expression (JavaScript's) that the body matches somewhere.
            headers: Parts of headers, by their names.
            query, batch, crossPartition: Whether it is one.
            after: How many of these requests to let pass first; 0 by default.
            times: How many of these requests to hit; 1 by default, -1 for all.
        """
        self._command("fail", list(faults))

    def clear(self) -> None:
        """Forget the faults and the log, and release what is held."""
        self._command("clear")

    def clear_log(self) -> None:
        """Forget the log only."""
        self._command("clear-log")

    def log(self) -> list[dict[str, Any]]:
        """Return the requests since the start or the last clearing, in the order of their arrival.

        Each has: method, url, query, batch, crossPartition, partitionKey (the header's text or None), body (text),
        status (what the server answered or would have answered; None as long as it has not), fault (its kind or None).
        """
        return self._command("log")

    def held(self) -> int:
        """Return how many requests are held."""
        return self._command("held")

    def release(self) -> int:
        """Let the requests that are held go on; return how many there were."""
        return self._command("release")

    def advance(self, seconds: float) -> None:
        """Set the server's clock forward, until ``reset()``, so that items reach their time to live."""
        self._ahead += seconds
        self._command("clock", self._ahead)

    def refuse(self) -> None:
        """Close all connections, and refuse new ones; the state is kept."""
        self._command("refuse")

    def accept(self) -> None:
        """Accept connections again, at the same address."""
        self._command("accept")

    # ---------------------------------------------------------------------------------------------------- the process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def pause(self) -> None:
        """Stop the process as it stands: connections are taken, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let the process go on."""
        self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def stop(self) -> None:
        """End the process, if it runs."""
        if self.alive:
            self.resume()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._ended()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self._ended()

    def restart(self) -> None:
        """End the process with SIGKILL, and start an empty server at the same address."""
        self.kill()
        self._paused, self._ahead = False, 0.0
        self._start(urlsplit(self.endpoint).port)

    def reset(self) -> None:
        """Undo what a test may have done to the server, so that the next one finds it running, and without faults."""
        if not self.alive:
            self.restart()
        if self._paused:
            self.resume()
        self.accept()
        self.clear()
        self.advance(-self._ahead)

    def errors(self) -> str:
        """Return what the process, or the last one, has written to its standard error."""
        if not self._errors.closed:
            self._errors.seek(0)
            self._written = self._errors.read()
        return self._written

    def _start(self, port: int) -> None:
        node, modules = _find("node"), install()
        options = [f"--modules={modules}", f"--port={port}", f"--protocol={self._protocol}", f"--key={self.key}"]
        self._written = ""
        self._errors = tempfile.TemporaryFile("a+")  # noqa: SIM115 # closed when the process has ended
        self._process = subprocess.Popen(
            [node, SOURCE / "server.js", *options, *(["--raw"] if self._raw else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            announced = self._announced(time.monotonic() + _START_SECONDS)
        except BaseException:
            self.kill()
            raise
        self.endpoint = announced["ready"]
        self.connection_string = f"AccountEndpoint={self.endpoint}/;AccountKey={self.key};"
        self._control = announced.get("control")

    def _announced(self, deadline: float) -> dict[str, str]:
        text = b""
        while b"ready " not in text or not text.endswith(b"\n"):
            readable, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 4096) if readable else b""
            if not chunk:
                raise RuntimeError(f"the Cosmos test server has not started; its errors are:\n{self.errors()}")
            text += chunk
        return dict(line.split(" ", 1) for line in text.decode().splitlines())

    def _ended(self) -> None:
        self._process.wait(_STOP_SECONDS)
        self.errors()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                stream.close()

    def _command(self, name: str, argument: object = None) -> Any:
        address = urlsplit(self._control)
        with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port, timeout=30)) as connection:
            connection.request("POST", f"/{name}", json.dumps(argument))
            response = connection.getresponse()
            result = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise ValueError(result)
        return result


def install() -> Path:
    """Install the server's package unless it is installed as package-lock.json says; return the modules' folder.

    Raises:
        RuntimeError: Node.js or npm is missing, or npm has failed.
    """
    modules, stamp = INSTALLED / "node_modules", INSTALLED / "installed"
    wanted = "".join((SOURCE / name).read_text() for name in _PACKAGE_FILES)
    if modules.is_dir() and _holds(stamp, wanted):
        return modules
    npm = _find("npm")
    INSTALLED.mkdir(exist_ok=True)
    with _alone():
        if not (modules.is_dir() and _holds(stamp, wanted)):  # another process may have done it
            sys.stderr.write("Installing the Cosmos test server\n")
            stamp.unlink(missing_ok=True)
            for name in _PACKAGE_FILES:
                shutil.copyfile(SOURCE / name, INSTALLED / name)
            _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            stamp.write_text(wanted)
    return modules


def _holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time install; the lock ends with the process."""
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise RuntimeError(
            f"{program} is missing: the tests of the Cosmos backend need Node.js 20 or newer, with npm. On Debian or "
            "Ubuntu: apt-get install nodejs npm. Elsewhere: brew install node, or an installer of the Node.js project."
        )
    return found


def _run(command: list[str]) -> None:
    ended = subprocess.run(
        command,
        cwd=INSTALLED,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(
            f"npm could not install the Cosmos test server:\n{ended.stdout[-2000:]}\n"
            "Only a first run needs a package registry: the one that your npm is set up for."
        )


def main() -> int:
    try:
        install()
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
