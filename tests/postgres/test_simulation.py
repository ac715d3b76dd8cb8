"""The seeded worlds hold their promises on PostgreSQL too; a few seeds, because each group is really synced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from sutazai.store.postgres import PostgresStore
from sutazai.store.queries import numbered
from sutazai.testing.simulation import World

if TYPE_CHECKING:
    from sutazai.testing.postgres_server import PostgresServer

SEEDS = int(os.environ.get("SUTAZAI_POSTGRES_SEEDS", "2"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_promises_hold_on_postgres(seed: int, server: PostgresServer) -> None:
    """The same world by the same seed; the judge looks from another session, so at what is committed only."""
    dsn = server.new_dsn()
    store = PostgresStore(dsn)
    with psycopg.connect(dsn, autocommit=True) as judge:

        def query(text: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
            return psycopg.RawCursor(judge).execute(numbered(text)[0].encode(), values).fetchall()

        try:
            World(seed, base=(store, query)).run()
        finally:
            store.close()
