"""How an activity is run: its retries and its time limits; and how a workflow is: its id and its time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._identifiers import check_name, check_workflow_id
from ._times import later, seconds_of

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import TypedDict, Unpack

    from .retry import RetryPolicy

    class ActivityChanges(TypedDict, total=False):
        """The options that ``@activity`` and ``activity.options`` take."""

        executor: Executor | Callable[[], Executor] | None
        retry: RetryPolicy | None
        timeout: float | timedelta | None
        total_timeout: float | timedelta | None
        heartbeat_timeout: float | timedelta | None

    class RunFields(TypedDict):
        """The fields of a ``WorkflowRecord`` that options set."""

        queue: str | None
        priority: int
        deduplication_key: str | None
        wake_at: datetime | None
        deadline: datetime | None


_DECLARED = ("transactional", "version")
"""What belongs to an activity, and not to a call of it."""


class ActivityOptions(NamedTuple):
    """The options of an activity; times in seconds.

    Attributes:
        retry: When it is tried again; ``None`` for never.
        timeout: How long one attempt may take; ``None`` for any time, here and below.
        total_timeout: How long all attempts may take, with the waits between them.
        heartbeat_timeout: How long it may go without a heartbeat.
        executor: Where its body runs; ``None`` for a thread of the library's own.
        transactional: Whether it runs in a transaction of the store, which its outcome is part of.
        version: Which version of its code this is; recorded with each call.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    total_timeout: float | None = None
    heartbeat_timeout: float | None = None
    executor: Executor | Callable[[], Executor] | None = None
    transactional: bool = False
    version: str | None = None

    @property
    def limits_time(self) -> bool:
        """Whether a body has to be watched."""
        return self.timeout is not None or self.total_timeout is not None or self.heartbeat_timeout is not None

    @classmethod
    def declared(
        cls, *, transactional: bool = False, version: str | None = None, **options: Unpack[ActivityChanges]
    ) -> ActivityOptions:
        """Return the options of a declaration.

        Raises:
            TypeError: There is no such option, or it has a value of another type.
            ValueError: A time is not positive, or options do not go together.
        """
        if not isinstance(transactional, bool):
            raise TypeError(f"an activity's transactional is a bool, not {type(transactional).__name__}")
        _check_known(options, cls._fields)
        return cls(transactional=transactional, version=checked_version("activity", version)).replaced(**options)

    def replaced(self, **changes: Unpack[ActivityChanges]) -> ActivityOptions:
        """Return these options with some of them changed.

        Raises:
            TypeError: There is no such option, or it has a value of another type.
            ValueError: A time is not positive, or options do not go together.
        """
        checked: dict[str, Any] = {}
        _check_known(changes, [name for name in self._fields if name not in _DECLARED])
        for name, value in changes.items():
            checked[name] = _checked(name, value)
        changed = self._replace(**checked) if checked else self
        _check_together(changed)
        return changed


NO_OPTIONS: Final = ActivityOptions()


class _NotGiven:
    """Stands for ``None`` where a workflow may have a parameter of the option's name, which ``None`` is given to."""

    def __repr__(self) -> str:
        """Return what it comes to, for ``help()``."""
        return "None"


NOT_GIVEN: Final[Any] = _NotGiven()


class RunOptions(NamedTuple):
    """The options of one run.

    Attributes:
        workflow_id: An id of the user's own; ``None`` for one that is made.
        timeout: How many seconds it may take, from when it may begin; ``None`` for any time.
        queue: The queue that it goes into; ``None`` for none.
        priority: Among those that are ready in its queue, the lowest goes first; ``None`` for 0.
        delay: In how many seconds it may begin; ``None`` for at once.
        deduplication_key: What no other run of its queue may have until it has ended; ``None`` for nothing.
    """

    workflow_id: str | None = None
    timeout: float | None = None
    queue: str | None = None
    priority: int | None = None
    delay: float | None = None
    deduplication_key: str | None = None

    def replaced(
        self,
        *,
        workflow_id: str | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: float | timedelta | None = None,
        deduplication_key: str | None = None,
    ) -> RunOptions:
        """Return these options with those changed that are not ``None``.

        Raises:
            InvalidWorkflowIdError: No run can have the id.
            ValueError: The timeout is not positive, the delay negative, or a name or a key blank.
            TypeError: A value has another type.
        """
        if timeout is not None:
            timeout = seconds_of(timeout, "a workflow's timeout")
            if timeout == 0:
                raise ValueError("a workflow's timeout must be positive, not 0; leave it out for no limit")
        if workflow_id is not None:
            check_workflow_id(workflow_id)
        if queue is not None:
            check_name("queue", queue)
        if priority is not None:
            check_priority(priority)
        if deduplication_key is not None:
            check_name("deduplication key", deduplication_key)
        changes: dict[str, Any] = {
            "workflow_id": workflow_id,
            "timeout": timeout,
            "queue": queue,
            "priority": priority,
            "delay": None if delay is None else seconds_of(delay, "a workflow's delay"),
            "deduplication_key": deduplication_key,
        }
        return self._replace(**{name: value for name, value in changes.items() if value is not None})

    @property
    def needs_queues(self) -> bool:
        """Whether the store has to have queues for it."""
        return self.queue is not None or self.priority is not None or self.deduplication_key is not None

    def fields(self, now: datetime) -> RunFields:
        """Return what they make of the record of a run that is started now.

        Raises:
            ValueError: It would begin or be timed out after the year 9999.
        """
        begins_at = later(now, self.delay) if self.delay else now
        return {
            "queue": self.queue,
            "priority": self.priority or 0,
            "deduplication_key": self.deduplication_key,
            "wake_at": begins_at if self.delay else None,
            "deadline": None if self.timeout is None else later(begins_at, self.timeout),
        }


NO_RUN_OPTIONS: Final = RunOptions()


def check_priority(priority: object) -> None:
    """Raise unless a run may have the priority.

    Raises:
        TypeError: It is no int.
        ValueError: It has more than 32 bits.
    """
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"a workflow's priority is an int, not {type(priority).__name__}")
    if not -(2**31) <= priority < 2**31:
        raise ValueError(f"a workflow's priority is between -2147483648 and 2147483647, not {priority}")


def _check_known(options: Iterable[str], known: Sequence[str]) -> None:
    for name in options:
        if name in _DECLARED and name not in known:
            raise TypeError(f"a call of an activity has no option {name!r}; it is given where the activity is declared")
        if name not in known:
            raise TypeError(f"an activity has no option {name!r}; there are {', '.join(known)}")


def _check_together(options: ActivityOptions) -> None:
    if options.transactional and options.limits_time:
        raise ValueError(
            "a transactional activity cannot have a time limit: its transaction could not be ended from outside"
        )
    if options.transactional and options.executor is not None:
        raise ValueError("a transactional activity cannot have an executor: its connection stays in this thread")
    if options.heartbeat_timeout is not None and options.executor is not None:
        raise ValueError(
            "an activity on an executor cannot have a heartbeat_timeout: its heartbeats would not get here; use a "
            "timeout"
        )


def check_count(name: str, value: object, least: int, *, or_none: bool = False) -> None:
    """Raise unless the value is an int that is large enough, or ``None`` where it may be.

    Raises:
        TypeError: It is no int.
        ValueError: It is too small.
    """
    if value is None and or_none:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is an int{' or None' if or_none else ''}, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must {f'be at least {least}' if least else 'not be negative'}, not {value}")


def checked_version(kind: str, version: object) -> str | None:
    """Return the version of a workflow's or an activity's code.

    Raises:
        TypeError: It is no string.
        ValueError: It is blank, or has a character that cannot be shown.
    """
    if version is None:
        return None
    if not isinstance(version, str):
        raise TypeError(f"the version of a {kind}'s code is a str, not {type(version).__name__}")
    return check_name("version", version)


def _checked(name: str, value: object) -> object:
    if value is None:
        return None
    if name == "retry":
        from .retry import RetryPolicy

        if not isinstance(value, RetryPolicy):
            raise TypeError(f"an activity's retry is a RetryPolicy, not {type(value).__name__}")
        return value
    if name == "executor":
        if not callable(getattr(value, "submit", value)):
            raise TypeError(
                f"an activity's executor is a concurrent.futures.Executor or a function that returns one, not "
                f"{type(value).__name__}"
            )
        return value
    seconds = seconds_of(value, f"an activity's {name}")
    if seconds == 0:
        raise ValueError(f"an activity's {name} must be positive, not 0; leave it out for no limit")
    return seconds
