"""Why it exists: the store on SQLite: one connection, one writer, a write-ahead log, every commit on disk.

``synchronous=FULL`` syncs the log with every commit; the broker shares one commit among many operations. The log is
copied into the database here, at a size of our choosing, not inside somebody's commit at random. Only one process
opens the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING

from sutazai.errors import HostError, InternalError, RefusedError
from sutazai.limits import STORE_BALLAST_BYTES
from sutazai.store.ballast import Ballast
from sutazai.store.driver import FULL_TEXT, SqlStore
from sutazai.store.migrations import migrate
from sutazai.store.protocol import DiskFullError
from sutazai.store.queries import sql

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.store import model
    from sutazai.store.protocol import ClockReading, StoreStatistics

#: The log is copied into the database when it has grown to this size: 1 to 2 ms of work.
CHECKPOINT_BYTES = 16 * 1024 * 1024
_PAGE_BYTES = 4_096
_MAX_FRAME_OFFSET = 16

_FULL_CODES = {sqlite3.SQLITE_FULL}
_CLOCK_PUT = sql("clock_put")


class SqliteStore(SqlStore):
    """A store in one SQLite file, or in memory.

    Args:
        path: of the file; None for a store in memory (tests and the simulation).
        ballast_bytes: room set aside for a full disk.
        wall_ms: time of opening, for the table of migrations.

    Raises:
        HostError: another process has it open, or a newer version made it.
    """

    in_process = True

    def __init__(self, path: Path | None, *, ballast_bytes: int = STORE_BALLAST_BYTES, wall_ms: int = 0) -> None:
        self._path = path
        self._lock = -1 if path is None else _lock(path)
        if path is not None:
            _only_ours(path)
        self._connection = sqlite3.connect(
            ":memory:" if path is None else str(path), isolation_level=None, check_same_thread=False,
            cached_statements=256,
        )  # fmt: skip
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA wal_autocheckpoint = 0")
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA cache_size = -4096")
        migrate(self._connection, wall_ms)
        self._ballast = Ballast(path.with_suffix(".ballast") if path else None, ballast_bytes)
        self._ballast.prepare()
        # The log can always be copied in the room that is set aside.
        self._log_bytes_max = min(CHECKPOINT_BYTES, ballast_bytes // 2) if ballast_bytes else CHECKPOINT_BYTES
        self._changes = self._before = self._checkpoints = 0
        self._done: list[tuple[model.Operation, int, int]] = []
        self._careful = False
        super().__init__(self._connection)

    def _is_full(self) -> bool:
        return self._ballast.full

    def begin(self) -> None:
        """Start a group of operations."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._changes = self._connection.total_changes
        self.counts.begin()
        self._done.clear()
        self._careful = False

    def apply(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        """Do one operation inside the group.

        Raises:
            RefusedError: it changes nothing; the group goes on.
            DiskFullError: the whole group must be rolled back.
        """
        try:
            outcome = self._apply(operation, now_ms, wall_ms)
        except sqlite3.Error as error:
            raise self._explain(error) from error
        if not self._careful and self._connection.total_changes != self._before:
            self._done.append((operation, now_ms, wall_ms))
        return outcome

    def _savepoint(self) -> None:
        self._before = self._connection.total_changes
        if self._careful:
            self._connection.execute("SAVEPOINT operation")

    def _undo(self) -> None:
        """Take the operation back: by its savepoint, or by doing the group's others again.

        A savepoint copies every page that is written after it. Operations that are refused when they have written
        already are rare, so only the group in which one was met pays for it, and uses savepoints from there on.
        """
        if self._careful:
            self._connection.execute("ROLLBACK TO operation")
            self._connection.execute("RELEASE operation")
        elif self._connection.total_changes != self._before:
            self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            self._changes = self._connection.total_changes
            self.counts.rewind()
            self._careful = True
            self._do_again()

    def _do_again(self) -> None:
        """Repeat what the group has done: the same operations on the same rows at the same times."""
        for done in self._done:
            try:
                self._run(*done)
            except RefusedError as error:
                raise InternalError(f"the store refused what it had done before: {error}") from error
            self.counts.keep()

    def _keep(self) -> None:
        if self._careful:
            self._connection.execute("RELEASE operation")

    def wrote(self) -> bool:
        """Whether the group has changed anything, so that its commit must reach the disk."""
        return self._connection.total_changes != self._changes

    def commit(self, reading: ClockReading) -> None:
        """Make the group durable, with the clock's reading; copy the log when it has grown.

        Raises:
            DiskFullError: the group must be rolled back.
        """
        try:
            if not self.wrote():
                self._connection.execute("COMMIT")
                return
            values = (reading.broker_ms, reading.monotonic_ms, reading.wall_ms, reading.boot)
            self._connection.execute(_CLOCK_PUT, values)
            started = time.perf_counter()
            self._connection.execute("COMMIT")
            self._times.add(started)
        except sqlite3.Error as error:
            raise self._explain(error) from error
        if self._path is not None and self._times.count % 16 == 0 and self._wal_bytes_used() >= self._log_bytes_max:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Copy the log into the database; the next commit starts it from its beginning. A full disk is no harm."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            self._checkpoints += 1
        except sqlite3.OperationalError:
            self._ballast.release()

    def rollback(self) -> None:
        """Forget the group."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._recount()

    def recover(self) -> bool:
        """See ``Store.recover``: a file does not go away.

        Raises:
            InternalError: always.
        """
        raise InternalError("a store in a file is never lost and found again")

    def relieve(self) -> bool:
        """Look after a full disk.

        Returns:
            Whether new submissions may be taken.
        """
        return self._ballast.check()

    def give_room(self) -> None:
        """A write met a full disk: free what was set aside, and the log, by copying it into that room."""
        self._ballast.release()
        with contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def statistics(self) -> StoreStatistics:
        """Sizes and times."""
        size_bytes = 0 if self._path is None else _size(self._path)
        return self._statistics(size_bytes, self._wal_bytes(), self._checkpoints)

    def close(self) -> None:
        """Let go of it; a group that is open is forgotten."""
        self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _wal_bytes(self) -> int:
        return 0 if self._path is None else _size(self._path.with_name(self._path.name + "-wal"))

    def _wal_bytes_used(self) -> int:
        """How much of the log is in use; its file keeps its size when the log starts anew.

        The number of valid frames stands in the wal-index (``mxFrame``, https://www.sqlite.org/walformat.html).
        """
        if self._path is None:
            return 0
        try:
            with self._path.with_name(self._path.name + "-shm").open("rb") as index:
                index.seek(_MAX_FRAME_OFFSET)
                return int.from_bytes(index.read(4), sys.byteorder) * _PAGE_BYTES
        except OSError:
            return self._wal_bytes()

    def _explain(self, error: sqlite3.Error) -> Exception:
        """Tell a full disk from a broken store."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _FULL_CODES or (code & 0xFF == sqlite3.SQLITE_IOERR and self._is_tight()):
            return DiskFullError(FULL_TEXT)
        return InternalError(f"the store failed: {error} ({getattr(error, 'sqlite_errorname', '')})")

    def _is_tight(self) -> bool:
        if self._path is None:
            return False
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize < 64 * _PAGE_BYTES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _only_ours(path: Path) -> None:
    """Let the broker's user alone read the store; agents run on the same machine under other users' ids."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with contextlib.suppress(FileNotFoundError):
            each.chmod(0o600)  # those of an older version; new ones copy the database's mode


def _lock(path: Path) -> int:
    """Keep a second broker away from the file; the lock ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise HostError(f"{path} is open in another process: is this fleet's broker running already?") from error
    return descriptor
