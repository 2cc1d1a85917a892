"""The server that a run of the tests shares, for those who ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import CosmosServer


@pytest.fixture(scope="session")
def cosmos_server() -> Iterator[CosmosServer]:
    """Return the server of this run. Each test works in a database of its own on it."""
    with CosmosServer() as server:
        yield server
