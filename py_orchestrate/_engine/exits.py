"""What happens to running workflows when the program ends without ``stop()``.

One thread waits for the main thread to end: by falling off the script's end, ``sys.exit``, an exception or Ctrl+C. It
is no daemon, so the interpreter waits for it, and it lets every engine leave in order: no new activity starts, the
activities that are running may end and are recorded, for at most ``GRACE_SECONDS`` in all, and the runs are handed
back. ``atexit`` would be too late for that, and signal handlers belong to the program.

That is so although another thread may go on, which keeps the interpreter waiting: once the main thread has ended,
``concurrent.futures`` takes no more work, and some versions of Python start no more threads, so that activities would
fail for good which only had to wait for the next start. Who waits for a run then is told.

A run whose activity has not ended by then is given up at the very end, when no other thread keeps the process alive: it
would run twice if others could take it up earlier, and count as crashed if it were only left. An interrupt while the
interpreter waits for this thread leads there at once.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from typing import Protocol

from .._forks import watch_forks
from ..errors import OrchestratorStateError

GRACE_SECONDS = 10.0
_GIVING_UP_SECONDS = 3.0


class Leaver(Protocol):
    """An engine, as seen from here."""

    def begin_leaving(self) -> None:
        """Let no new activity start."""
        ...

    def leave(self, timeout: float) -> None:
        """Hand back what runs as soon as its running activities have ended, waiting at most ``timeout`` seconds."""
        ...

    def give_up(self) -> None:
        """Begin to hand back what still runs, which is not recorded from now on: the process is about to end."""
        ...

    def join(self, timeout: float) -> None:
        """Wait until that is done, for at most ``timeout`` seconds."""
        ...


class _ExitGuard:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: weakref.WeakSet[Leaver] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        watch_forks(self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's engines and thread."""
        self._lock = threading.Lock()
        self._engines = weakref.WeakSet()
        self._thread = None

    def watch(self, engine: Leaver) -> None:
        with self._lock:
            self._engines.add(engine)
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="py_orchestrate-exit-guard", daemon=False)
                self._thread.start()
                atexit.register(self._give_up)

    def _main(self) -> None:
        threading.main_thread().join()
        deadline = time.monotonic() + GRACE_SECONDS
        engines = list(self._engines)
        for engine in engines:  # all of them first, so that none goes on while another one is waited for
            engine.begin_leaving()
        for engine in engines:
            engine.leave(max(0.0, deadline - time.monotonic()))
        own = (threading.main_thread(), threading.current_thread())
        if all(thread.daemon or thread in own for thread in threading.enumerate()):
            self._give_up()  # the handlers of ``atexit`` do not run in the processes of ``multiprocessing``

    def _give_up(self) -> None:
        deadline = time.monotonic() + _GIVING_UP_SECONDS
        engines = list(self._engines)
        self._engines.clear()
        for engine in engines:
            engine.give_up()
        for engine in engines:
            engine.join(max(0.0, deadline - time.monotonic()))


_guard = _ExitGuard()


def is_ending() -> bool:
    """Return whether the program ends: the guard has noticed it, or is about to."""
    return not threading.main_thread().is_alive()


def ending_error() -> OrchestratorStateError:
    """Return the error for what an orchestrator no longer does because the program ends."""
    return OrchestratorStateError(
        "the program's main thread has ended, and so its orchestrators hand back their runs, which go on at the next "
        "start: let the main thread wait for the threads that use an orchestrator, for example with thread.join()"
    )


def leave_at_exit(engine: Leaver) -> None:
    """Let the engine leave when the main thread has ended."""
    _guard.watch(engine)
