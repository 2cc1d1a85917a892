"""What others import: names, paths and what an import costs. A change here is a change of the interface."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import py_orchestrate
from py_orchestrate import BaseDatabaseManager, Orchestrator, SQLiteDatabaseManager, WorkflowStatus, durable, errors

ROOT = Path(__file__).parent.parent


def in_fresh_process(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_root_offers_these_names_and_no_others():
    assert py_orchestrate.__all__ == [
        "BaseDatabaseManager",
        "CosmosDatabaseManager",
        "DatabaseManager",
        "MemoryDatabaseManager",
        "Orchestrator",
        "Queue",
        "RetryPolicy",
        "SQLiteDatabaseManager",
        "WorkflowCancelled",
        "WorkflowHandle",
        "WorkflowStatus",
        "activity",
        "durable",
        "workflow",
    ]
    assert py_orchestrate.__all__ == sorted(py_orchestrate.__all__)
    assert all(getattr(py_orchestrate, name) is not None for name in py_orchestrate.__all__)


def test_durable_offers_these_names_and_no_others():
    assert durable.__all__ == [
        "ActivityInfo",
        "DurableFuture",
        "Saga",
        "WorkflowCancelled",
        "WorkflowInfo",
        "as_completed",
        "call_activity",
        "call_workflow",
        "continue_as_new",
        "create_timer",
        "expect_event",
        "gather",
        "heartbeat",
        "info",
        "logger",
        "now",
        "patched",
        "random",
        "set_custom_status",
        "shield",
        "sleep",
        "sleep_until",
        "uuid4",
        "wait_any",
        "wait_for_event",
    ]
    assert durable.__all__ == sorted(durable.__all__)
    assert durable.WorkflowCancelled is py_orchestrate.WorkflowCancelled is errors.WorkflowCancelled


def test_every_error_is_exported_and_has_the_one_root():
    defined = [
        name
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, BaseException) and found.__module__ == errors.__name__
    ]
    assert sorted(defined) == errors.__all__
    outside = {name for name in errors.__all__ if not issubclass(getattr(errors, name), errors.OrchestrateError)}
    assert outside == {"WorkflowCancelled"}  # which must pass by what handles errors
    assert not issubclass(errors.WorkflowCancelled, Exception)
    assert all(name in (errors.__doc__ or "") for name in errors.__all__)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("WorkflowNotFoundError", ValueError),
        ("WorkflowNotFoundError", LookupError),
        ("ActivityNotFoundError", ValueError),
        ("ActivityNotFoundError", LookupError),
        ("DuplicateNameError", ValueError),
        ("InvalidWorkflowIdError", ValueError),
        ("WorkflowConflictError", ValueError),
        ("SerializationError", TypeError),
        ("NonDeterminismError", RuntimeError),
        ("DurableCallError", RuntimeError),
        ("ActivityTimeoutError", TimeoutError),
        ("EventTimeoutError", TimeoutError),
        ("WorkflowTimeoutError", TimeoutError),
        ("WorkflowStateError", RuntimeError),
        ("OrchestratorStateError", RuntimeError),
        ("UnsupportedOperationError", NotImplementedError),
    ],
)
def test_an_error_is_also_the_built_in_one_that_fits(name: str, builtin: type[Exception]):
    assert issubclass(getattr(errors, name), builtin)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Workflows'"):
        _ = py_orchestrate.Workflows
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = py_orchestrate.models.Nothing
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = py_orchestrate.db_manager.Nothing


def test_the_version_is_text():
    assert isinstance(py_orchestrate.__version__, str)
    assert py_orchestrate.__version__[0].isdigit()


# --- 1.0.2's import paths ---------------------------------------------------------------------------------------------


def test_what_1_0_2_could_import_can_still_be_imported():
    from py_orchestrate import CosmosDatabaseManager, DatabaseManager, activity, workflow
    from py_orchestrate.db_manager import BaseDatabaseManager as FromFolder
    from py_orchestrate.db_manager import CosmosDatabaseManager as CosmosFromFolder
    from py_orchestrate.db_manager import DatabaseManager as AliasFromFolder
    from py_orchestrate.db_manager.base import BaseDatabaseManager as FromBase
    from py_orchestrate.db_manager.cosmosdb import CosmosDatabaseManager as FromCosmos
    from py_orchestrate.db_manager.sqlite import DatabaseManager as AliasFromSqlite
    from py_orchestrate.db_manager.sqlite import SQLiteDatabaseManager as FromSqlite
    from py_orchestrate.decorators import WorkflowRegistry, get_registry
    from py_orchestrate.decorators import activity as activity_from_module
    from py_orchestrate.decorators import workflow as workflow_from_module
    from py_orchestrate.models import ActivityExecution, WorkflowInstance
    from py_orchestrate.models import DatabaseManager as AliasFromModels
    from py_orchestrate.models import WorkflowStatus as FromModels
    from py_orchestrate.orchestrator import Orchestrator as FromModule

    assert FromFolder is FromBase is BaseDatabaseManager
    assert FromCosmos is CosmosFromFolder is CosmosDatabaseManager
    assert FromSqlite is SQLiteDatabaseManager
    assert DatabaseManager is AliasFromFolder is AliasFromSqlite is AliasFromModels is SQLiteDatabaseManager
    assert (activity_from_module, workflow_from_module) == (activity, workflow)
    assert isinstance(get_registry(), WorkflowRegistry)
    assert FromModels is WorkflowStatus
    assert FromModule is Orchestrator
    assert list(inspect.signature(WorkflowInstance).parameters) == [
        "id",
        "name",
        "status",
        "input_data",
        "output_data",
        "current_activity",
        "error_message",
        "created_at",
        "updated_at",
    ]
    assert list(inspect.signature(ActivityExecution).parameters) == [
        "id",
        "workflow_id",
        "activity_name",
        "input_data",
        "output_data",
        "status",
        "error_message",
        "created_at",
        "completed_at",
    ]


def test_the_registry_is_two_plain_dicts_that_a_test_may_clear():
    from py_orchestrate.decorators import activity, get_registry, workflow

    def first() -> None: ...

    activity("one")(first)
    workflow("two")(first)
    registry = get_registry()
    assert type(registry.activities) is type(registry.workflows) is dict
    assert (registry.activities, registry.workflows) == ({"one": first}, {"two": first})
    assert registry.get_activity("one") is first
    registry.activities.clear()
    registry.workflows.clear()
    with pytest.raises(ValueError, match=r"^Activity 'one' not found$"):
        registry.get_activity("one")
    with pytest.raises(ValueError, match=r"^Workflow 'two' not found$"):
        registry.get_workflow("two")
    registry.register_activity("one", first)
    assert registry.activities == {"one": first}


def test_the_statuses_are_texts():
    assert [status.value for status in WorkflowStatus] == ["processing", "done", "failed", "paused", "cancelled"]
    assert WorkflowStatus.DONE == "done"
    assert str(WorkflowStatus.DONE) == "WorkflowStatus.DONE"  # as in 1.0.2


def positional(function: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds and p.name != "self"]


def test_positional_parameters_are_those_of_1_0_2():
    assert positional(Orchestrator) == ["db_path", "max_workers", "db_manager"]
    assert positional(Orchestrator.invoke_workflow) == ["name"]
    assert positional(Orchestrator.get_workflow_status) == ["workflow_id"]
    assert positional(Orchestrator.list_workflows) == ["name"]
    assert positional(SQLiteDatabaseManager) == ["db_path"]
    assert positional(py_orchestrate.CosmosDatabaseManager) == [
        "database_id",
        "workflow_container_id",
        "activity_container_id",
        "connection_string",
        "endpoint",
        "credential",
    ]


def test_the_storage_interface_asks_for_the_seven_methods_of_1_0_2():
    assert BaseDatabaseManager.__abstractmethods__ == {
        "save_workflow",
        "get_workflow",
        "get_workflows_by_name",
        "list_workflows",
        "get_processing_workflows",
        "save_activity_execution",
        "get_activity_executions",
    }


# --- what an import costs ---------------------------------------------------------------------------------------------


def test_an_import_brings_nothing_optional_and_nothing_slow():
    names = "from py_orchestrate import Orchestrator, activity, durable, workflow"
    script = f"import sys; {names}; Orchestrator(':memory:'); print(*sys.modules)"
    loaded = set(in_fresh_process(script).split())
    unwanted = {
        "asyncio",
        "azure",
        "dataclasses",
        "decimal",
        "hashlib",
        "http.server",
        "inspect",
        "multiprocessing",
        "pathlib",
        "pickle",
        "psycopg",
        "py_orchestrate.testing",
        "ssl",
        "uuid",
        "zoneinfo",
    }
    assert "py_orchestrate._engine.engine" in loaded
    assert not loaded & unwanted
    assert "py_orchestrate.db_manager.cosmosdb" not in loaded


def test_what_runs_activities_only_brings_no_engine():
    loaded = in_fresh_process("import sys; from py_orchestrate import activity, workflow; print(*sys.modules)").split()
    assert not {"py_orchestrate.orchestrator", "py_orchestrate._engine", "py_orchestrate.db_manager", "sqlite3"} & {
        *loaded
    }


def test_the_engine_comes_with_the_first_orchestrator():
    names = "from py_orchestrate import Orchestrator, WorkflowHandle, activity, workflow"
    loaded = {*in_fresh_process(f"import sys; {names}; print(*sys.modules)").split()}
    assert "py_orchestrate.orchestrator" in loaded
    assert not {"py_orchestrate._engine", "py_orchestrate.db_manager", "sqlite3", "json", "logging"} & loaded


def test_every_name_is_there_on_first_use():
    script = """
import py_orchestrate
assert {*py_orchestrate.__all__} <= {*dir(py_orchestrate)}
for name in py_orchestrate.__all__:
    if name != "CosmosDatabaseManager":
        assert getattr(py_orchestrate, name) is getattr(py_orchestrate, name)
from py_orchestrate import *
print(workflow.__module__, durable.__name__)
"""
    assert in_fresh_process(script).split() == ["py_orchestrate.decorators", "py_orchestrate.durable"]


def test_a_plain_workflow_brings_nothing_slow_either():
    script = """
import sys
from py_orchestrate import Orchestrator, activity, workflow
@activity
def add(total: int, number: int = 1) -> int: return total + number
@workflow
def job(count: int, *, first: int = 0) -> int: return add(add(first, number=count))
with Orchestrator(":memory:") as orchestrator:
    assert orchestrator.start_workflow(job, 2, first=3).result() == 6
    assert orchestrator.invoke_workflow("job", count=2)
print(*sys.modules)
"""
    assert not set(in_fresh_process(script).split()) & {"asyncio", "dataclasses", "decimal", "inspect", "pathlib"}


def test_an_import_needs_the_standard_library_only():
    command = [sys.executable, "-S", "-E", "-c", "import py_orchestrate.example"]  # without site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_import_starts_no_thread_and_writes_no_file(tmp_path: Path):
    script = f"""
import os, sys, threading
sys.path.insert(0, {str(ROOT)!r})
os.chdir({str(tmp_path)!r})
import py_orchestrate.example, py_orchestrate.db_manager.cosmosdb
print(threading.active_count(), os.listdir("."))
"""
    assert in_fresh_process(script) == "1 []"


def test_without_azure_the_cosmos_manager_says_what_to_install():
    script = """
import sys
sys.modules["azure"] = sys.modules["azure.cosmos"] = None  # as if it were not installed
from py_orchestrate import CosmosDatabaseManager
try:
    CosmosDatabaseManager("database", "workflows", "activities", endpoint="https://example.com", credential="key")
except ImportError as error:
    print(error)
"""
    assert in_fresh_process(script) == (
        "Cosmos DB support requires the optional dependency 'azure-cosmos'. "
        "Install it with 'pip install py-orchestrate[cosmos]'."
    )
