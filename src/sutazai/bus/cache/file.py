"""Why it exists: the embedded profile has no server, so its cache is a file of bounded size, the broker's.

An SQLite database with a write-ahead log that is not synced with each write: a kill loses nothing, a power cut the
last moments, and never leaves half a value. A file that is damaged all the same is thrown away: it is a cache. Its
work is done in a thread of its own, so the broker never waits for this disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sutazai.errors import UnavailableError
from sutazai.limits import CACHE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
_SCHEMA = """CREATE TABLE IF NOT EXISTS entries (
    agent TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL, expires_ms INTEGER NOT NULL, used_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, key)
) STRICT"""
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS entries_used ON entries (used_ms)",
    "CREATE INDEX IF NOT EXISTS entries_expires ON entries (expires_ms)",
)
_GET = "SELECT data, used_ms FROM entries WHERE agent = ? AND key = ? AND expires_ms > ?"
_USED = "UPDATE entries SET used_ms = ? WHERE agent = ? AND key = ?"
_SIZE = "SELECT COALESCE(SUM(LENGTH(data) + LENGTH(key) + LENGTH(agent) + 100), 0) FROM entries"
_DELETE = "DELETE FROM entries WHERE agent = ? AND key = ? RETURNING LENGTH(data) + LENGTH(key) + LENGTH(agent) + 100"
_PUT = "INSERT INTO entries (agent, key, data, expires_ms, used_ms) VALUES (?, ?, ?, ?, ?)"
_EXPIRED = "DELETE FROM entries WHERE expires_ms <= ? RETURNING LENGTH(data) + LENGTH(key) + LENGTH(agent) + 100"
_OLDEST = "SELECT rowid, LENGTH(data) + LENGTH(key) + LENGTH(agent) + 100 FROM entries ORDER BY used_ms LIMIT 256"
_DROP = "DELETE FROM entries WHERE rowid = ?"
#: Of a clock that began anew, with a new store: nobody can tell when these expire.
_FUTURE = "DELETE FROM entries WHERE used_ms > ?"
_ENTRY_BYTES = 100
_USED_EVERY_MS = 60_000  # a read writes nothing more often than this
_KEEP_SHARE = 0.9  # of the bound that stays when it is reached
_CLOSED = "the cache is closed"
_log = logging.getLogger(__name__)


class FileCache:
    """A cache in one file.

    Args:
        path: of the database.
        now_ms: the broker's clock, which goes on over restarts: a wall clock that jumps makes nothing live longer.
        bytes_max: of all entries.
    """

    name: ClassVar[str] = "file"

    def __init__(self, path: Path, now_ms: Callable[[], int], bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._path, self._now_ms, self._bytes_max = path, now_ms, bytes_max
        self._pool = ThreadPoolExecutor(1, "cache")
        self._database: sqlite3.Connection | None = None
        self._bytes = self._evicted = 0
        self._why = ""
        self._since_ms = 0

    async def _run(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """Do a step in the thread; a damaged file is thrown away, and what the step asked for is not there.

        Raises:
            UnavailableError: the disk does not take it.
        """

        def work() -> T:
            try:
                return step(self._opened())
            except sqlite3.DatabaseError as error:
                self._close()
                if isinstance(error, sqlite3.OperationalError):  # a full disk, an error of the disk
                    raise
                _log.warning("the cache's file is damaged and thrown away: %s", error)
                self._throw_away()
                return step(self._opened())

        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except (sqlite3.Error, OSError) as error:
            self._since_ms = self._since_ms or self._now_ms()
            self._why = str(error)
            raise UnavailableError(f"the cache's file does not take it: {error}") from error
        except RuntimeError as error:
            raise UnavailableError(_CLOSED) from error
        self._why, self._since_ms = "", 0
        return found

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            database = sqlite3.connect(str(self._path), isolation_level=None, check_same_thread=False)
            self._database = database
            self._path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA cache_size = -1024")
            database.execute(_SCHEMA)
            for index in _INDEXES:
                database.execute(index)
            database.execute(_FUTURE, (self._now_ms(),))
            self._bytes = database.execute(_SIZE).fetchone()[0]
        return self._database

    def _throw_away(self) -> None:
        for suffix in ("-wal", "-shm", ""):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._bytes = 0

    async def get(self, agent: str, key: str) -> bytes | None:
        """See ``CacheDriver``."""
        now_ms = self._now_ms()

        def step(database: sqlite3.Connection) -> bytes | None:
            found = database.execute(_GET, (agent, key, now_ms)).fetchone()
            if found is None:
                return None
            if now_ms - found[1] > _USED_EVERY_MS:
                database.execute(_USED, (now_ms, agent, key))
            data: bytes = found[0]
            return data

        return await self._run(step)

    async def set(self, agent: str, key: str, data: bytes, ttl_ms: int) -> None:
        """See ``CacheDriver``."""
        now_ms = self._now_ms()

        def step(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            try:
                self._forget(database.execute(_DELETE, (agent, key)))
                size = len(data) + len(key) + len(agent) + _ENTRY_BYTES
                if size <= self._bytes_max * _KEEP_SHARE:
                    self._make_room(database, size, now_ms)
                    database.execute(_PUT, (agent, key, data, now_ms + ttl_ms, now_ms))
                    self._bytes += size
                database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                self._bytes = database.execute(_SIZE).fetchone()[0]
                raise

        await self._run(step)

    def _make_room(self, database: sqlite3.Connection, size: int, now_ms: int) -> None:
        """At the bound what has expired goes, then what was not used for the longest time."""
        if self._bytes + size <= self._bytes_max:
            return
        self._forget(database.execute(_EXPIRED, (now_ms,)))
        if self._bytes + size <= self._bytes_max:
            return
        while rows := database.execute(_OLDEST).fetchall():
            for row, freed in rows:
                if self._bytes + size <= self._bytes_max * _KEEP_SHARE:
                    return
                database.execute(_DROP, (row,))
                self._bytes -= freed
                self._evicted += 1

    def _forget(self, cursor: sqlite3.Cursor) -> None:
        self._bytes -= sum(size for (size,) in cursor.fetchall())

    async def delete(self, agent: str, key: str) -> None:
        """See ``CacheDriver``."""
        await self._run(lambda database: self._forget(database.execute(_DELETE, (agent, key))))

    def facts(self) -> dict[str, Any]:
        """See ``CacheDriver``."""
        state = "away" if self._why else "up"
        for_ms = self._now_ms() - self._since_ms if self._why else 0
        return {"driver": self.name, "state": state, "why": self._why, "for_ms": for_ms,
                "bytes": self._bytes, "evicted": self._evicted}  # fmt: skip

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    async def close(self) -> None:
        """See ``CacheDriver``."""
        with contextlib.suppress(RuntimeError):  # closed before
            self._pool.submit(self._close)
        self._pool.shutdown(wait=True)
