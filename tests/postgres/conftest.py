"""One real PostgreSQL for all tests of this folder; each has a schema of its own in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.testing.postgres_server import PostgresServer, missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def made() -> Iterator[PostgresServer]:
    """A server that was started once and stopped; it ends with the session, also when tests fail."""
    if why := missing():
        pytest.skip(f"the store on PostgreSQL was NOT tested: {why}")
    with PostgresServer() as server:
        server.stop()
        yield server


@pytest.fixture(scope="session")
def server(made: PostgresServer) -> Iterator[PostgresServer]:
    """A server for the whole session."""
    with PostgresServer(made) as running:
        yield running


@pytest.fixture
def own_server(made: PostgresServer) -> Iterator[PostgresServer]:
    """A server for one test, which may kill it."""
    with PostgresServer(made) as running:
        yield running
