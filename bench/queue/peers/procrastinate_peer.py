"""Why it exists: procrastinate on PostgreSQL; the row of a job is its record, it keeps no results."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "procrastinate"
app = App(connector=PsycopgConnector(conninfo=common.POSTGRES, min_size=2, max_size=5))
_loop = asyncio.new_event_loop()
_DONE = "SELECT count(*) FROM procrastinate_jobs WHERE id = ANY(%s) AND status = 'succeeded'"


@app.task(name="work", queue="procrastinate-peer")
async def work(number: int, sleep_ms: int, log: str) -> dict[str, int]:
    """Run one task."""
    if sleep_ms:
        await asyncio.sleep(sleep_ms / 1_000)
    return common.body(number, 0, log)


def worker() -> list[str]:
    """See ``common.Peer``: two processes below one shell, so that they end together."""
    command = (
        f"{sys.prefix}/bin/procrastinate -a procrastinate_peer.app worker -q procrastinate-peer -c {common.THREADS} "
        "--delete-jobs never --fetch-job-polling-interval 0.1 2>/dev/null"
    )
    return ["/bin/sh", "-c", f"cd {HERE}; PYTHONPATH={HERE} {command} & PYTHONPATH={HERE} {command} & wait"]


def open_client() -> None:
    """Connect; the schema is made where it is not there."""

    async def run() -> None:
        await app.open_async()
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()

    _loop.run_until_complete(run())


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    return _loop.run_until_complete(work.defer_async(number=number, sleep_ms=sleep_ms, log=log))


def together(numbers: Sequence[int], clients: int, sleep_ms: int, log: str) -> list[Any]:
    """Enqueue as so many callers."""
    gate = asyncio.Semaphore(clients)

    async def give(number: int) -> Any:
        async with gate:
            return await work.defer_async(number=number, sleep_ms=sleep_ms, log=log)

    async def run() -> list[Any]:
        return await asyncio.gather(*(give(number) for number in numbers))

    return _loop.run_until_complete(run())


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> list[Any]:
    """See ``common.Peer``."""
    arguments = [{"number": number, "sleep_ms": sleep_ms, "log": log} for number in numbers]
    return list(_loop.run_until_complete(work.batch_defer_async(*arguments)))


def results(handles: list[Any], timeout_s: float) -> int:
    """Count jobs that have succeeded until all have."""
    until, found = time.monotonic() + timeout_s, 0
    with psycopg.connect(common.POSTGRES, autocommit=True) as connection:
        while found < len(handles) and time.monotonic() < until:
            row = connection.execute(_DONE, (handles,)).fetchone()
            found = row[0] if row else 0
            if found < len(handles):
                time.sleep(0.005)
    return found


_watch: list[Any] = []


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    if not _watch:
        _watch.append(psycopg_pool.ConnectionPool(common.POSTGRES, min_size=1, max_size=1, kwargs={"autocommit": True}))
    until = time.monotonic() + timeout_s
    with _watch[0].connection() as connection:
        while time.monotonic() < until:
            row = connection.execute("SELECT status FROM procrastinate_jobs WHERE id = %s", (handle,)).fetchone()
            if row and row[0] == "succeeded":
                return True
            time.sleep(0.001)
    return False


def name_of(handle: Any) -> int:
    """What a handle is remembered by."""
    return int(handle)


def handle_of(name: int) -> Any:
    """A handle again."""
    return name


if __name__ == "__main__":
    import procrastinate_peer  # by its own name, as the workers know the task

    common.main(procrastinate_peer)
