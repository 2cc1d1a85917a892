"""The server that the tests of the Cosmos backend share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import accounts
from .accounts import Account
from .server import CosmosServer
from .server_fixture import cosmos_server

__all__ = ["cosmos_server"]


@pytest.fixture
def account(cosmos_server: CosmosServer) -> Iterator[Account]:
    """Return where a test has a database: on the server, or on the account that the environment names."""
    endpoint, key = (accounts.ENDPOINT, accounts.KEY) if accounts.IS_REAL else (None, None)
    made = Account(endpoint or cosmos_server.endpoint, key or cosmos_server.key)
    yield made
    cosmos_server.reset()  # a fault must not keep it from being deleted
    made.delete()


@pytest.fixture(autouse=True)
def _no_faults(cosmos_server: CosmosServer) -> Iterator[None]:
    """Let no fault, and no entry of the log, reach the next test; fail if the server itself has failed."""
    yield
    errors = cosmos_server.errors()
    cosmos_server.reset()
    assert not errors
