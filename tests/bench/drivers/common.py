"""What the drivers share: the workloads, the command line, the line with the figures, and the file of effects.

It needs the standard library only, as each driver runs in the virtual environment of the library that it measures.

A driver prints one line of JSON and ends with status 0, or says on stderr what went wrong and ends with status 1.
Whatever the library prints goes to stderr. The process ends without stopping the library: what a library still does, or
waits for, when it stops is not part of any figure.

======================  ==============================================================================================
``sequential``          one workflow of N activities (1,000), one after the other, after a warm-up of three;
                        ``first_seconds`` is the part until the first activity ran, which is long where workers poll
``many``                N workflows (500) of five activities, from the first start to the last result; ``wrong`` counts
                        those that failed or had another result than their sum, 0 where all is well;
                        ``first_seconds`` as above
``latency``             N times (100) the start of a workflow of one activity to its result, after one warm-up; the mean
                        and the greatest are there besides the median, as a library that polls has two humps
``recovery-first``      starts 200 workflows of 20 activities that leave a line in ``effects``; it is to be killed
``recovery-second``     takes them up in another process; gives up after ``--limit`` seconds (120)
``replay-prepare``      one workflow of N activities (1,000) whose last one kills the process
``replay``              takes it up in another process; ``executed`` counts the activities that ran, 1 where all is well
======================  ==============================================================================================

The activities of ``recovery-first`` wait until all 200 workflows have been started, so that none is missing afterwards
because it never began. ``replay-prepare`` makes the file ``armed`` and ``replay`` removes it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod

WORKERS = 8
WARM_UP = 3
MANY_ACTIVITIES = 5
RECOVERY_WORKFLOWS = 200
RECOVERY_STEPS = 20
COUNTS = {"sequential": 1000, "many": 500, "latency": 100, "replay-prepare": 1000, "replay": 1000}
LOOK_SECONDS = 0.25  # how often recovery-second asks how many are done; the effects file is what has the times


class Effects:
    """The file in which an activity leaves a line each time it runs: one write each, as a kill may come at any time."""

    def __init__(self):
        self._file = -1
        self._all_started = threading.Event()

    def open(self, folder):
        self._file = os.open(os.path.join(folder, "effects"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def let_go(self):
        self._all_started.set()

    def append(self, workflow, step):
        self._all_started.wait()
        os.write(self._file, f"{workflow} {step}\n".encode())


class Executions:
    """How many activities have run in this process, and when the first did."""

    def __init__(self):
        self._armed = ""
        self.reset()

    def reset(self):
        self.count = 0
        self.first = None

    def add(self):
        self.count += 1
        if self.first is None:
            self.first = time.perf_counter()

    def arm(self, folder, *, armed):
        """Make the file that makes the last activity of the replay kill the process, or remove it."""
        self._armed = os.path.join(folder, "armed")
        if armed:
            os.close(os.open(self._armed, os.O_CREAT | os.O_WRONLY, 0o644))
        elif os.path.exists(self._armed):
            os.remove(self._armed)

    def add_last(self):
        if os.path.exists(self._armed):
            os.kill(os.getpid(), signal.SIGKILL)
        self.add()


effects = Effects()
executions = Executions()


class Driver(ABC):
    """A library whose calls block, as the workloads below use it."""

    replays = True  # False if the library cannot take up the workflow of the replay
    poll_seconds = 0.02  # for a library that must be asked whether a workflow has ended

    @abstractmethod
    def start(self, folder):
        """Start the library on its file in the folder, so that it also takes up what was left there."""

    def start_to_be_killed(self, folder):
        """Start the library for ``replay-prepare``."""
        self.start(folder)

    @abstractmethod
    def start_sum(self, count):
        """Start a workflow that adds up ``range(count)``, one activity for each number, and return a handle."""

    @abstractmethod
    def start_lines(self, workflow, steps):
        """Start a workflow whose activities append to the effects."""

    def start_replayed(self, count):
        """Start the workflow of the replay: ``count - 1`` additions and the last activity. Return a handle."""
        raise NotImplementedError

    def find_replayed(self):
        """Return a handle of the workflow of the replay, which another process started."""
        raise NotImplementedError

    @abstractmethod
    def result(self, handle):
        """Wait for the workflow and return its result, or raise if it failed."""

    @abstractmethod
    def done(self):
        """Return how many workflows have been completed, as the library says."""

    def settle(self):
        """Wait until a workflow that has just ended disturbs no other; not part of any time."""

    def check_recorded(self, activities):
        """Raise if fewer activities are stored than have run: such a time would say nothing."""


def sequential(driver, options):
    driver.start(options.folder)
    driver.result(driver.start_sum(WARM_UP))
    driver.settle()
    executions.reset()
    started = time.perf_counter()
    result = driver.result(driver.start_sum(options.count))
    figures = figures_of_sequential(started, result, options.count)
    driver.check_recorded(WARM_UP + options.count)
    return figures


def figures_of_sequential(started, result, count):
    seconds = time.perf_counter() - started
    check(result, sum(range(count)))
    return {"seconds": seconds, "activities": count, "first_seconds": executions.first - started}


def many(driver, options):
    driver.start(options.folder)
    started = time.perf_counter()
    handles = [driver.start_sum(MANY_ACTIVITIES) for _ in range(options.count)]
    results = [_result_or_error(driver, handle) for handle in handles]
    return figures_of_many(started, results)


def figures_of_many(started, results):
    seconds = time.perf_counter() - started
    first_seconds = executions.first - started
    wrong = [result for result in results if result != sum(range(MANY_ACTIVITIES))]
    if wrong:
        print(f"{len(wrong)} workflows without the right result, the first: {wrong[0]!r}", file=sys.stderr)
    figures = {"seconds": seconds, "workflows": len(results), "peak_mb": peak_mb()}
    return figures | {"first_seconds": first_seconds, "wrong": len(wrong)}


def latency(driver, options):
    driver.poll_seconds = 0.001  # a long workflow must not be slowed by questions, a short one not seem long
    driver.start(options.folder)
    times = []
    for _ in range(1 + options.count):
        started = time.perf_counter()
        result = driver.result(driver.start_sum(1))
        times.append(time.perf_counter() - started)
        check(result, 0)
        driver.settle()
    driver.check_recorded(1 + options.count)
    return figures_of_latency(times[1:])


def figures_of_latency(times):
    return {
        "median_seconds": statistics.median(times),
        "mean_seconds": statistics.mean(times),
        "max_seconds": max(times),
    }


def recovery_first(driver, options):
    effects.open(options.folder)
    driver.start(options.folder)
    for workflow in range(RECOVERY_WORKFLOWS):
        driver.start_lines(workflow, RECOVERY_STEPS)
    effects.let_go()
    time.sleep(options.limit)
    raise TimeoutError("nobody killed this process")


def recovery_second(driver, options):
    effects.open(options.folder)
    effects.let_go()
    give_up = time.monotonic() + options.limit
    driver.start(options.folder)
    while (done := driver.done()) < RECOVERY_WORKFLOWS and time.monotonic() < give_up:
        time.sleep(LOOK_SECONDS)
    return {"done": done}


def replay_prepare(driver, options):
    executions.arm(options.folder, armed=True)
    driver.start_to_be_killed(options.folder)
    driver.result(driver.start_replayed(options.count))
    raise RuntimeError("the last activity has not killed this process")


def replay(driver, options):
    executions.arm(options.folder, armed=False)
    started = time.perf_counter()
    driver.start(options.folder)
    result = driver.result(driver.find_replayed())
    seconds = time.perf_counter() - started
    check(result, sum(range(options.count - 1)))
    return {"seconds": seconds, "executed": executions.count}


WORKLOADS = {
    "sequential": sequential,
    "many": many,
    "latency": latency,
    "recovery-first": recovery_first,
    "recovery-second": recovery_second,
    "replay-prepare": replay_prepare,
    "replay": replay,
}


def measure(driver):
    """Run the workload that the command line names, and end the process."""
    names = [name for name in WORKLOADS if driver.replays or "replay" not in name]
    run({name: lambda options, workload=WORKLOADS[name]: workload(driver, options) for name in names})


def run(workloads):
    """Run the one of these functions that the command line names, print what it returns, and end the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=list(workloads))
    parser.add_argument("folder", help="a fresh one, but for the second part of a workload of two")
    parser.add_argument("--count", type=int, help="how many activities, workflows or times")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which the recovery gives up (120)")
    options = parser.parse_args()
    options.count = options.count or COUNTS.get(options.workload)
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints does not print into the figures
    try:
        figures = workloads[options.workload](options)
        os.write(output, (json.dumps(figures) + "\n").encode())
        status = 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread of the library that goes on must not keep the process


def check(result, expected):
    if result != expected:
        raise AssertionError(f"the result is {result!r}, not {expected!r}")


def peak_mb():
    """Return the most memory that this process has had; both sources count in KiB.

    On Linux ``getrusage`` knows of a new process what its parent had at the moment of the start, if that was more. What
    ``/proc`` says begins with the program.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def wait_until_ended(look, poll_seconds):
    """Ask until the answer is not None, and return it: for a library in which nothing can be waited for."""
    while (answer := look()) is None:
        time.sleep(poll_seconds)
    return answer


def _result_or_error(driver, handle):
    try:
        return driver.result(handle)
    except Exception as error:
        return error
