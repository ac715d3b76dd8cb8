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
from collections import deque
from typing import TYPE_CHECKING, Any

from sutazai.errors import HostError, InternalError, InvalidInputError, RefusedError, StorageFullError
from sutazai.limits import STORE_BALLAST_BYTES
from sutazai.store import claim, commit, ending, model, read, submit
from sutazai.store.ballast import Ballast
from sutazai.store.counts import Counts
from sutazai.store.migrations import migrate
from sutazai.store.protocol import ClockReading, DiskFullError, StoreStatistics
from sutazai.store.queries import sql
from sutazai.store.txn import Txn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The log is copied into the database when it has grown to this size: 1 to 2 ms of work.
CHECKPOINT_BYTES = 16 * 1024 * 1024
_COMMITS_MEASURED = 1_000
_PAGE_BYTES = 4_096
_MAX_FRAME_OFFSET = 16

_WRITES: dict[type, Callable[[Txn, Any], Any]] = {
    model.Submit: submit.submit,
    model.Claim: claim.claim,
    model.Commit: commit.commit,
    model.Lose: ending.lose,
    model.Progress: commit.progress,
    model.Cancel: ending.cancel,
    model.Expire: ending.expire,
    model.Promote: ending.promote,
    model.Purge: ending.purge,
    model.PurgeStates: ending.purge_states,
}
_READS: dict[type, Callable[[Txn, Any], Any]] = {
    model.Get: read.get,
    model.Events: read.events,
    model.Tree: read.tree,
    model.List: read.list_tasks,
    model.ReadState: read.read_state,
}
_FULL_CODES = {sqlite3.SQLITE_FULL}
_FULL_TEXT = "the disk of the store is full: accepted tasks go on, new ones are refused; free some room"
_COUNTS = sql("counts")
_CLOCK_GET = sql("clock_get")
_CLOCK_PUT = sql("clock_put")


class SqliteStore:
    """A store in one SQLite file, or in memory.

    Args:
        path: of the file; None for a store in memory (tests and the simulation).
        ballast_bytes: room set aside for a full disk.
        wall_ms: time of opening, for the table of migrations.

    Raises:
        HostError: another process has it open, or a newer version made it.
    """

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
        self.counts = Counts()
        self._changes = 0
        self._commit_ms: deque[float] = deque(maxlen=_COMMITS_MEASURED)
        self._commits = self._checkpoints = 0
        self._recount()

    def _recount(self) -> None:
        self.counts.load(self._connection.execute(_COUNTS).fetchall())

    def begin(self) -> None:
        """Start a group of operations."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._changes = self._connection.total_changes

    def apply(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        """Do one operation inside the group.

        Raises:
            RefusedError: it changes nothing; the group goes on.
            DiskFullError: the whole group must be rolled back.
        """
        txn = Txn(self._connection, self.counts, now_ms, wall_ms)
        kind = type(operation)
        try:
            if kind in _READS:
                return self._apply_read(txn, operation)
            if kind is model.Submit and self._ballast.full:
                raise StorageFullError(_FULL_TEXT)
            return self._apply_write(txn, operation)
        except sqlite3.Error as error:
            raise self._explain(error) from error

    @staticmethod
    def _apply_read(txn: Txn, operation: model.Operation) -> model.Outcome:
        try:
            txn.outcome.reply = _READS[type(operation)](txn, operation)
        except (OverflowError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidInputError(f"this cannot be read: {type(error).__name__}: {error}") from error
        return txn.outcome

    def _apply_write(self, txn: Txn, operation: model.Operation) -> model.Outcome:
        self._connection.execute("SAVEPOINT operation")
        try:
            txn.outcome.reply = _WRITES[type(operation)](txn, operation)
        except (RefusedError, OverflowError, ValueError, TypeError, KeyError, RecursionError) as error:
            self._connection.execute("ROLLBACK TO operation")
            self.counts.undo()
            self._connection.execute("RELEASE operation")
            if isinstance(error, RefusedError):
                raise
            # One request that nobody foresaw must not take the whole group with it.
            raise InvalidInputError(f"this cannot be done: {type(error).__name__}: {error}") from error
        self.counts.keep()
        self._connection.execute("RELEASE operation")
        return txn.outcome

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
            self._commit_ms.append((time.perf_counter() - started) * 1_000)
            self._commits += 1
        except sqlite3.Error as error:
            raise self._explain(error) from error
        if self._path is not None and self._commits % 16 == 0 and self._wal_bytes_used() >= self._log_bytes_max:
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

    def leases(self) -> list[model.Lease]:
        """Turns that were running when the store was opened."""
        rows = self._connection.execute(sql("leases")).fetchall()
        return [model.Lease(name, agent, fence, ticket or "", pid or 0) for name, agent, fence, ticket, pid in rows]

    def timers(self) -> tuple[int, int]:
        """Earliest due time and earliest deadline, 0 for none."""
        due = self._connection.execute(sql("due_next")).fetchone()[0]
        deadline = self._connection.execute(sql("deadline_next")).fetchone()[0]
        return due or 0, deadline or 0

    def reading(self) -> ClockReading | None:
        """The last reading of the clock; None in a new store."""
        found = self._connection.execute(_CLOCK_GET).fetchone()
        return None if found is None else ClockReading(*found)

    def statistics(self) -> StoreStatistics:
        """Sizes and times."""
        times = sorted(self._commit_ms) or [0.0]
        return StoreStatistics(
            bytes=0 if self._path is None else _size(self._path),
            wal_bytes=self._wal_bytes(),
            commits=self._commits,
            commit_ms_p50=round(times[len(times) // 2], 3),
            commit_ms_p99=round(times[len(times) * 99 // 100], 3),
            checkpoints=self._checkpoints,
            full=self._ballast.full,
        )

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
            return DiskFullError(_FULL_TEXT)
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
