"""Why it exists: what the store promises on PostgreSQL shows only on a real server, which can be killed and cut off.

``PostgresServer`` is one in a folder and on a port of its own, made by the same recipe that a fleet uses. Each test
gets a schema of its own in it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.errors import HostError, UnavailableError
from sutazai.services import postgres
from sutazai.services.ports import free_ports
from sutazai.store.opening import read_dsn
from sutazai.testing.running import Running

if TYPE_CHECKING:
    from sutazai.testing.broker_load import Query

_START_WAIT_S = 60.0
_PAUSE_S = 0.02
_MEMORY_BYTES = 128 * 1024 * 1024


def missing() -> str:
    """Say why there can be no server here, and the command that gives one; empty when there can."""
    try:
        import psycopg  # noqa: F401 only whether it is there

        postgres.server(postgres.Owner(""), Path("/nonexistent"))
    except ImportError:
        return f"psycopg is not installed; run: {postgres.INSTALL}"
    except HostError as error:
        return str(error)
    return ""


class PostgresServer(Running):
    """A real server.

    Args:
        like: a server that is stopped, whose state it begins with: faster than making one.
        state: its folder; the default is a temporary one.
    """

    def __init__(self, like: PostgresServer | None = None, state: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self.folder.chmod(0o711)
        self.state = state or self.folder / "state"
        if like is not None:
            subprocess.run(["cp", "-a", str(like.state), str(self.state)], check=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._schemas = itertools.count(1)
        (self.port,) = free_ports(1)

    @property
    def pid(self) -> int:
        """Its first process."""
        return 0 if self._process is None else self._process.pid

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self, *, wait: bool = True) -> PostgresServer:
        """Start it, and wait until it takes connections.

        Raises:
            UnavailableError: it does not come up; its log is in the message.
        """
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "sutazai.services", "postgres", "--state", str(self.state), "--port",
                    str(self.port), "--memory", str(_MEMORY_BYTES),
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it takes connections.

        Raises:
            UnavailableError: it does not come up; its log is in the message.
        """
        give_up_s = time.monotonic() + _START_WAIT_S
        while time.monotonic() < give_up_s and self._process is not None and self._process.poll() is None:
            try:
                self.run("SELECT 1")
            except (UnavailableError, HostError):
                time.sleep(_PAUSE_S)
            else:
                return
        raise UnavailableError(f"PostgreSQL does not come up: {(self.folder / 'log').read_text(encoding='utf-8')}")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as its owner; gives its rows.

        Raises:
            UnavailableError: it does not answer.
        """
        import psycopg

        try:
            with psycopg.connect(read_dsn(self.state / "dsn"), autocommit=True, connect_timeout=5) as connection:
                cursor = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError as error:
            raise UnavailableError(f"PostgreSQL does not answer: {error}") from error

    def new_dsn(self) -> str:
        """Make an empty schema; gives the connection string of a store in it."""
        schema = f"s{next(self._schemas)}"
        self.run(f"CREATE SCHEMA {schema}")
        return f"{read_dsn(self.state / 'dsn')} options='-csearch_path={schema}'"

    def new_dsn_file(self) -> Path:
        """Make an empty schema; gives the file for a broker's ``--store-dsn-file``."""
        dsn = self.new_dsn()
        path = self.folder / f"dsn-{next(self._schemas)}"
        path.touch(mode=0o600)
        path.write_text(dsn, encoding="utf-8")
        return path

    def cut(self) -> int:
        """End all sessions of brokers (``pg_terminate_backend``); gives how many."""
        where = "application_name LIKE 'sutazai broker %'"
        return len(self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}"))  # noqa: S608 a constant

    def kill(self) -> None:
        """``kill -9`` of the first process; its others notice, and end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as a fleet does."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait()

    def freeze(self, *, thaw: bool = False) -> None:
        """Stop all its processes where they stand (SIGSTOP), or let them go on."""
        for pid in [self.pid, *_children(self.pid)]:
            os.kill(pid, signal.SIGCONT if thaw else signal.SIGSTOP)

    def close(self) -> None:
        """End it at once and remove its folder."""
        if self._process is not None:
            children = _children(self.pid)
            self._end(signal.SIGKILL)
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def in_database(dsn: str) -> Query:
    """Give what runs a statement in a store's schema and gives its rows."""
    import psycopg

    def query(statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn) as connection:
            return connection.execute(statement.encode()).fetchall()

    return query


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]
