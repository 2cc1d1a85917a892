"""How a program starts a run: what it is given is checked, and then the run is stored or handed over in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ._clock import Clock
from ._context import current_scope
from ._engine.engine import Engine
from ._ids import fresh_ids
from ._options import NO_RUN_OPTIONS, NOT_GIVEN, RunOptions
from ._payloads import are_equal
from ._registry import WorkflowRegistry
from .errors import SerializationError, WorkflowConflictError
from .models import WorkflowRecord, WorkflowStatus
from .serialization import Serializer


class Starts:
    """Starts the runs of one orchestrator."""

    def __init__(self, engine: Engine, registry: WorkflowRegistry, serializer: Serializer, clock: Clock) -> None:
        self._engine = engine
        self._registry = registry
        self._serializer = serializer
        self._clock = clock

    def start_given(
        self, workflow: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
    ) -> str:
        """See ``Orchestrator.start_workflow``.

        Args:
            workflow: The decorated function or its registered name.
            args: The workflow's positional arguments.
            kwargs: Its keyword arguments.
            given: The options by name, ``NOT_GIVEN`` where one is not given; or the arguments of parameters that have
                their names, of which ``None`` may be one.
        """
        name = name_of(workflow)
        run_options: RunOptions = getattr(workflow, "run_options", NO_RUN_OPTIONS)
        options = {option: value for option, value in given.items() if value is not NOT_GIVEN}
        if options:
            names = self._registry.workflow_definition(name).parameters.names
            for option in options.keys() & set(names):  # never take away what the workflow has a parameter for
                kwargs[option] = options.pop(option)
            run_options = run_options.replaced(**options)
        return self.start(name, args, kwargs, run_options)

    def start(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: RunOptions) -> str:
        """Start a run, or find the one that has the id or the deduplication key; return its id."""
        if not isinstance(name, str):
            raise TypeError(f"a workflow's name is a str, not {type(name).__name__}; start_workflow takes the function")
        definition = self._registry.workflow_definition(name)
        if options.timeout is not None:
            self._engine.require_waiting("keep a workflow's timeout")
        if options.delay:
            self._engine.require_waiting("keep a workflow's delay")
        if options.needs_queues:
            self._engine.require("queues", "keep queues, priorities and deduplication keys")
        now = self._clock.now()
        fields = options.fields(now)
        arguments = definition.bind(args, kwargs)
        text, _ = self._serializer.encode(arguments, what=f"argument of workflow {name!r}", types=definition.types)
        record = WorkflowRecord(
            id="",
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=text,
            version=definition.version,
            created_at=now,
            updated_at=now,
            **fields,
        )

        def create(ids: Iterator[str]) -> str:
            return self._create(record, options, ids)

        scope = current_scope()
        if scope is None:
            return create(fresh_ids())
        found: str = scope.make_effect("start", name, text, create)  # a step also with an id of its own
        return found

    def _create(self, record: WorkflowRecord, options: RunOptions, ids: Iterator[str]) -> str:
        """Create a run under the user's id, or else the first that is free; return the id, or that of the run it is."""
        while True:
            new = record._replace(id=options.workflow_id or next(ids))
            existing = self._engine.create(new)
            if existing is None:
                return new.id
            is_id = existing.id == new.id
            # One that has begun anew has arguments of its own by now.
            is_same = existing.name == new.name and (existing.generation > 0 or self._has_arguments(existing, new))
            if is_id and options.workflow_id is None and (not is_same or existing.parent_id is not None):
                continue  # a workflow that was rewound had something else to do with this id, in what it has forgotten
            if is_same:
                return existing.id
            what = f"workflow id {new.id!r}" if is_id else f"deduplication key {options.deduplication_key!r}"
            raise WorkflowConflictError(
                f"{what} belongs to a run of {existing.name!r} "
                f"{'' if existing.name != new.name else 'with other arguments '}already; "
                f"{'choose another id' if is_id else f'that is {existing.id}, and it has not ended'}",
                existing.id,
            )

    def _has_arguments(self, existing: WorkflowRecord, new: WorkflowRecord) -> bool:
        """Return whether a run has the arguments of another; a class of a script has two names, so texts can differ."""
        if are_equal(existing.input, new.input):
            return True
        types = self._registry.workflow_definition(new.name).types
        try:
            found = self._serializer.decode(existing.input, types=types)
            return are_equal(self._serializer.encode(found, types=types)[0], new.input)
        except SerializationError:
            return False


def name_of(workflow: str | Callable[..., Any]) -> str:
    """Return the name of a workflow that is given as a function or by its name.

    Raises:
        TypeError: It is no workflow.
    """
    name = workflow if isinstance(workflow, str) else getattr(workflow, "_workflow_name", None)
    if name is None:
        shown = getattr(workflow, "__name__", repr(workflow))
        raise TypeError(f"{shown!r} is not a workflow; decorate it with @workflow, or give a registered name")
    return str(name)
