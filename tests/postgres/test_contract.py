"""PostgreSQL passes the very contract that SQLite passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.store.postgres import PostgresStore
from sutazai.testing.store_contract_states import FullStoreContract

if TYPE_CHECKING:
    from sutazai.store.protocol import Store
    from sutazai.testing.postgres_server import PostgresServer


class TestPostgres(FullStoreContract):
    """The contract, each test in a schema of its own."""

    server: PostgresServer

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def served(cls, server: PostgresServer) -> None:
        """Know the server before ``setup_method`` needs it."""
        cls.server = server

    def make_store(self) -> Store:
        """Make one."""
        return PostgresStore(self.server.new_dsn())
