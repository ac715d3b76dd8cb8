"""One real PostgreSQL for all tests of this folder; each has a schema of its own in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.testing.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(postgres_made: PostgresServer) -> Iterator[PostgresServer]:
    """A server for the whole session."""
    with PostgresServer(postgres_made) as running:
        yield running


@pytest.fixture
def own_server(postgres_server: PostgresServer) -> PostgresServer:
    """A server for one test, which may kill it."""
    return postgres_server
