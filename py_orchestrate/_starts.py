"""How a program starts a run: what it is given is checked, and then the run is stored or handed over in one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._clock import Clock
from ._context import current_scope
from ._engine.engine import Engine
from ._ids import new_workflow_id
from ._options import NO_RUN_OPTIONS, NOT_GIVEN, RunOptions
from ._payloads import are_equal
from ._registry import Definition, WorkflowRegistry
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
        scope = current_scope()
        effect_id = new_workflow_id() if scope is None else scope.next_effect_id()  # a step also with an id of its own
        workflow_id = options.workflow_id or effect_id
        record = WorkflowRecord(
            id=workflow_id,
            name=name,
            status=WorkflowStatus.PROCESSING,
            input=text,
            version=definition.version,
            created_at=now,
            updated_at=now,
            **fields,
        )
        existing = self._engine.create(record)
        if existing is None:
            return workflow_id
        # One that has begun anew has arguments of its own by now.
        if existing.name != name or (not existing.generation and not self._is_same(existing, text, definition)):
            is_id = existing.id == workflow_id
            what = f"workflow id {workflow_id!r}" if is_id else f"deduplication key {options.deduplication_key!r}"
            raise WorkflowConflictError(
                f"{what} belongs to a run of {existing.name!r} "
                f"{'' if existing.name != name else 'with other arguments '}already; "
                f"{'choose another id' if is_id else f'that is {existing.id}, and it has not ended'}",
                existing.id,
            )
        return existing.id

    def _is_same(self, existing: WorkflowRecord, text: str, definition: Definition) -> bool:
        """Return whether a run has these arguments; a class of a script has two names, so texts can differ."""
        if are_equal(existing.input, text):
            return True
        try:
            found = self._serializer.decode(existing.input, types=definition.types)
            return are_equal(self._serializer.encode(found, types=definition.types)[0], text)
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
