"""Why it exists: servers that several tests share are started once, by the recipe that ships, and end with the session.

A pytest plugin: pyproject.toml names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.errors import HostError
from sutazai.services import rabbitmq
from sutazai.testing.postgres_server import PostgresServer, missing
from sutazai.testing.rabbitmq_process import RabbitMQProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def rabbitmq_session() -> Iterator[RabbitMQProcess]:
    """A RabbitMQ of its own, for all tests of this run."""
    try:
        rabbitmq.programs()
    except HostError as error:
        pytest.skip(f"RabbitMQ was NOT tested: {error}")
    server = RabbitMQProcess()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def rabbitmq_server(rabbitmq_session: RabbitMQProcess) -> RabbitMQProcess:
    """The same, running: a test may have killed it."""
    if not rabbitmq_session.is_ready():
        rabbitmq_session.kill()
        rabbitmq_session.start()
    return rabbitmq_session


@pytest.fixture(scope="session")
def postgres_made() -> Iterator[PostgresServer]:
    """A PostgreSQL that was started once and stopped: others begin with its data, which is faster than making some."""
    if why := missing():
        pytest.skip(f"the store on PostgreSQL was NOT tested: {why}")
    with PostgresServer() as server:
        server.stop()
        yield server


@pytest.fixture
def postgres_server(postgres_made: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL for one test, which may kill it."""
    with PostgresServer(postgres_made) as running:
        yield running
