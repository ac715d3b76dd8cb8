"""Why it exists: the store on PostgreSQL: one session, one writer, the same operations, every commit on disk.

A session-level advisory lock stands in for the file lock: the server lets go of it only after the session's last
transaction has ended. So whoever has it sees all that the one before committed, and a broker that lost the answer to a
commit takes the lock anew and reads in the clock's row which group was the last.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any

import psycopg

from sutazai.errors import HostError, InternalError
from sutazai.store.ballast import Ballast
from sutazai.store.driver import SqlStore
from sutazai.store.migrations import migrate
from sutazai.store.pipeline import Pipeline
from sutazai.store.protocol import StoreLostError
from sutazai.store.queries import numbered, queries, sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sutazai.store import model
    from sutazai.store.pipeline import Pending
    from sutazai.store.protocol import ClockReading, StoreStatistics

_DIALECT = "postgres"
_SERVER_VERSION_MIN = 130_000
_CONNECT_S = 5
#: Silence of the server after which the session counts as lost: while an operation waits (nothing else is done then),
#: and at a commit, which may meet a slow disk.
ANSWER_S = 3.0
COMMIT_S = 15.0
#: How long a broker that starts waits for the one before it to let go of the lock.
LOCK_WAIT_S = 15.0
_LOCK_PAUSE_S = 0.1
#: Without room of our own on the server's disk, submissions are tried again after this time.
_FULL_AGAIN_S = 5.0
_MEASURE_EVERY_S = 5.0
_NAME = "sutazai broker "
_SETTINGS = (
    "SET synchronous_commit = on", "SET client_min_messages = error", "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0", "SET lock_timeout = '5s'", "SET jit = off",
    # Every statement is made for an index; statistics of a young table must not talk the planner out of it.
    "SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan",
    # The server lets go of a session, and of its lock, when its client's machine is silent: idle, or with an answer on
    # its way, for which TCP alone would wait 15 minutes. Less than LOCK_WAIT_S.
    "SET tcp_keepalives_idle = 5", "SET tcp_keepalives_interval = 2", "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = '11s'",
)  # fmt: skip
_CLOCK_PUT = sql("clock_put")
_GROUP_NEWEST = sql("group_newest", _DIALECT)
_WRITER_LOCK = sql("writer_lock", _DIALECT)
_WRITER_HOLDER = sql("writer_holder", _DIALECT)
_SESSION_END = sql("session_end", _DIALECT)
_SETTING = sql("setting", _DIALECT)
_DATABASE_BYTES = sql("database_bytes", _DIALECT)


def _statements() -> list[tuple[str, str, str]]:
    """Pair the common text of each statement with its name and PostgreSQL's text."""
    common = queries()
    return [
        (common[name].sql if name in common else query.sql, name, query.sql)
        for name, query in queries(_DIALECT).items()
    ]


class _Plain:
    """A connection outside of the pipeline, for what is done once when it is made."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = (), /) -> psycopg.Cursor[Any]:
        text, _ = numbered(statement)
        cursor = psycopg.RawCursor(self._connection)
        return cursor.execute(text.encode(), values or None)


class PostgresStore(SqlStore):
    """A store in a PostgreSQL database of its own.

    Args:
        dsn: libpq's connection string or URL; it may hold the password, so it is never shown.
        ballast: file for the room set aside, on the disk of the server; None when that is another machine.
        ballast_bytes: how much.
        wall_ms: time of opening, for the table of migrations.
        wait_s: silence of the server after which it counts as lost.

    Raises:
        HostError: the server is not there, does not sync its commits, takes no writes, or has another writer.
    """

    in_process = False

    def __init__(
        self, dsn: str, *, ballast: Path | None = None, ballast_bytes: int = 0, wall_ms: int = 0,
        wait_s: float = ANSWER_S,
    ) -> None:  # fmt: skip
        self._dsn, self._wall_ms, self._wait_s = dsn, wall_ms, wait_s
        self._writer = secrets.token_hex(8)
        self._number = 0
        self._asked = self._grouped = False
        self._full_until_s = 0.0
        self._bytes = 0
        self._measured_s = 0.0
        self._session: psycopg.Connection[Any] | None = None
        self._pipeline: Pipeline | None = None
        self._has_ballast = ballast is not None and ballast_bytes > 0
        self._ballast = Ballast(ballast, ballast_bytes)
        self._ballast.prepare()
        try:
            self._connect()
            self._known = self._newest()
            super().__init__(self)
        except StoreLostError as error:
            self._disconnect()
            raise HostError(f"the database of the store is not there: {error}") from error
        except BaseException:
            self._disconnect()
            raise

    # The session

    def _connect(self) -> None:
        """Make a session, see that it keeps what it is told, take the lock, bring the schema up to date.

        Raises:
            StoreLostError: it cannot be reached now. HostError: it must not be used.
        """
        try:
            self._session = session = psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=_CONNECT_S, application_name=_NAME + self._writer,
                client_encoding="UTF8", keepalives_idle=5, keepalives_interval=2, keepalives_count=3,
                tcp_user_timeout=int(COMMIT_S * 1_000),
            )  # fmt: skip
            plain = _Plain(session)
            for setting in _SETTINGS:
                plain.execute(setting)
            _check_server(session, plain)
            self._take_lock(plain)
            migrate(plain, self._wall_ms, _DIALECT)
            self._pipeline = Pipeline(session.pgconn, _statements(), self._wait_s)
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError) or (self._session is not None and self._session.closed):
                raise StoreLostError(_one_line(error)) from error
            raise HostError(f"the database of the store cannot be used: {_one_line(error)}") from error

    def _take_lock(self, plain: _Plain) -> None:
        """Become the only writer; a session of ours that was left behind is ended first."""
        schema = plain.execute("SELECT CURRENT_SCHEMA()").fetchone()
        key = int.from_bytes(hashlib.blake2b(f"sutazai {schema}".encode(), digest_size=8).digest()) >> 1
        give_up_s = time.monotonic() + LOCK_WAIT_S
        while plain.execute(_WRITER_LOCK, (key,)).fetchone() != (1,):
            holder = plain.execute(_WRITER_HOLDER, (key,)).fetchone()
            if holder is not None and holder[1] == _NAME + self._writer:
                plain.execute(_SESSION_END, (holder[0],))
            elif time.monotonic() > give_up_s:
                who = f"session {holder[0]} ({holder[1]})" if holder else "another session"
                raise HostError(f"the store is open in {who}: is this fleet's broker running already?")
            time.sleep(_LOCK_PAUSE_S)

    def _newest(self) -> tuple[str, int] | None:
        found: tuple[str, int] | None = self.execute(_GROUP_NEWEST).fetchone()
        return found

    def _disconnect(self) -> None:
        session, self._session, self._pipeline = self._session, None, None
        if session is not None:
            with contextlib.suppress(psycopg.Error):
                session.close()

    def recover(self) -> bool:
        """Reach the database again; see ``Store.recover``."""
        self._disconnect()
        self._grouped = False
        self._connect()
        newest = self._newest()
        asked = (self._writer, self._number)
        if newest not in {self._known, asked}:
            raise HostError(f"the database is at group {newest}, this broker left it at {self._known}: it starts anew")
        done = self._asked and newest == asked
        self._asked = False
        if done:
            self._known = asked
        else:
            self._recount()
        return done

    # Groups

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = (), /) -> Pending:
        """Send a statement; outside of a group it is a transaction of its own."""
        line = self._line()
        pending = line.execute(statement, values)
        if not self._grouped:
            line.sync()
        return pending

    def _line(self) -> Pipeline:
        if self._pipeline is None:
            raise StoreLostError("the database of the store is away")
        return self._pipeline

    def begin(self) -> None:
        """Start a group of operations."""
        line = self._line()
        line.wrote = False
        line.wait_s = self._wait_s
        line.control("BEGIN")
        self.counts.begin()
        self._grouped = True

    def apply(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        """Do one operation inside the group; see ``Store.apply``."""
        return self._apply(operation, now_ms, wall_ms)

    def _savepoint(self) -> None:
        self._line().operation_begins()

    def _undo(self) -> None:
        self._line().operation_ends(undo=True)

    def _keep(self) -> None:
        self._line().operation_ends(undo=False)

    def wrote(self) -> bool:
        """Whether the group has changed anything, so that its commit must reach the disk."""
        return self._line().wrote

    def commit(self, reading: ClockReading) -> None:
        """Make the group durable; see ``Store.commit``."""
        line = self._line()
        if not line.wrote:
            line.control("COMMIT")
            line.sync()
            self._grouped = False
            return
        self._number += 1
        values = (reading.broker_ms, reading.monotonic_ms, reading.wall_ms, reading.boot, self._writer, self._number)
        line.execute(_CLOCK_PUT, values)
        started = time.perf_counter()
        self._asked = True
        ended = line.control("COMMIT")
        line.wait_s = max(COMMIT_S, self._wait_s)
        line.sync()
        if ended.tag != b"COMMIT":
            raise InternalError(f"the commit of the store came to {ended.tag.decode() or 'nothing'}")
        self._asked = self._grouped = False
        self._known = (self._writer, self._number)
        self._times.add(started)
        self._measure()

    def rollback(self) -> None:
        """Forget the group."""
        self._asked = self._grouped = False
        with contextlib.suppress(StoreLostError):  # then there is none any more, and the next group finds out
            self._line().reset()
            self._recount()

    # Room

    def _is_full(self) -> bool:
        return self._ballast.full or time.monotonic() < self._full_until_s

    def relieve(self) -> bool:
        """Look after a full disk.

        Returns:
            Whether new submissions may be taken.
        """
        return self._ballast.check() and not self._is_full()

    def give_room(self) -> None:
        """A write met a full disk: free what was set aside; without any, take no submissions for a time."""
        if self._has_ballast:
            self._ballast.release()
        else:
            self._full_until_s = time.monotonic() + _FULL_AGAIN_S

    def _measure(self) -> None:
        """Read the size of the database now and then, where its commit is waited for anyway."""
        now_s = time.monotonic()
        if now_s - self._measured_s > _MEASURE_EVERY_S:
            self._measured_s = now_s
            self._bytes = self.execute(_DATABASE_BYTES).fetchone()[0]

    def statistics(self) -> StoreStatistics:
        """Sizes and times."""
        line = self._pipeline
        return self._statistics(self._bytes, away=line is None or line.lost)

    def close(self) -> None:
        """Let go of it; a group that is open is forgotten."""
        self._disconnect()


def _check_server(session: psycopg.Connection[Any], plain: _Plain) -> None:
    """See that a commit that is answered is on disk, and that every text can be kept.

    Raises:
        HostError: it is not so; the message says what to set.
    """
    if session.info.server_version < _SERVER_VERSION_MIN:
        raise HostError(f"the server has version {session.info.server_version}: PostgreSQL 13 or newer is needed")
    wrong = [
        f"{name} is {value} ({hint})"
        for name, allowed, hint in (
            ("fsync", {"on"}, "set fsync = on: without it a power cut loses accepted tasks"),
            ("synchronous_commit", {"on", "remote_apply"}, "it must be on for this session"),
            ("server_encoding", {"UTF8"}, "make the database with ENCODING 'UTF8'"),
            ("transaction_read_only", {"off"}, "is this a standby? connect to the primary"),
        )
        if (value := (plain.execute(_SETTING, (name,)).fetchone() or ("unknown",))[0]) not in allowed
    ]
    if wrong:
        raise HostError(f"the database of the store must not be used: {'; '.join(wrong)}")


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
