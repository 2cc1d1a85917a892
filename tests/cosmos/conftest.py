"""The server that the tests of the Cosmos backend share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import CosmosServer


@pytest.fixture(scope="session")
def cosmos_server() -> Iterator[CosmosServer]:
    """Return the server of this run. Each test works in a database of its own on it."""
    with CosmosServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_faults(cosmos_server: CosmosServer) -> Iterator[None]:
    """Let no fault, and no entry of the log, reach the next test; fail if the server itself has failed."""
    yield
    errors = cosmos_server.errors()
    cosmos_server.reset()
    assert not errors
