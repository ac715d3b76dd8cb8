"""Why it exists: a fleet's tasks can be taken from one database to another, whole or not at all, while no broker runs.

Both stores are opened as a broker opens them, so nobody else writes, and both have this program's schema. All rows are
copied in one transaction of the target and counted on both sides before it commits. What was in the target before, or
is in the source after, is set aside under another name and never deleted: it is not in use, because the plan in force
says which store is.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sutazai.errors import HostError
from sutazai.store.opening import open_store, read_dsn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sutazai.paths import FleetPaths

_ROWS_AT_ONCE = 1_000
_SKIPPED = ("schema_migrations",)
#: What PostgreSQL's clock has and SQLite's has not: the writer of the last group.
_CLOCK_EXTRA = {"writer": "", "group_number": 0}


@dataclass(frozen=True, slots=True)
class Moved:
    """What was copied.

    Attributes:
        rows: by table.
        open_tasks: tasks that are not over.
        files_missing: results that lie in files whose files are gone; the files themselves stay where they are, both
            stores name the same.
    """

    rows: dict[str, int]
    open_tasks: int
    files_missing: int = 0


class Side(Protocol):
    """A database on one side of a move."""

    def tables(self) -> dict[str, list[str]]:
        """Columns by table, but for those of the schema itself."""
        ...

    def count(self, table: str) -> int:
        """Rows of a table."""
        ...

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Read all rows of a table."""
        ...

    def put(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows into an empty table."""
        ...

    def commit(self) -> None:
        """Make all that was put durable."""
        ...


class Sqlite:
    """A store file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(str(path), isolation_level=None)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("BEGIN IMMEDIATE")

    def tables(self) -> dict[str, list[str]]:
        """See ``Side``."""
        names = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        ).fetchall()
        return {
            name: [row[1] for row in self._connection.execute(f"PRAGMA table_info({name})").fetchall()]
            for (name,) in names
            if name not in _SKIPPED
        }

    def count(self, table: str) -> int:
        """See ``Side``."""
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 of the schema

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """See ``Side``."""
        yield from self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608 of the schema

    def put(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """See ``Side``."""
        marks = ", ".join("?" * len(columns))
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608

    def commit(self) -> None:
        """See ``Side``."""
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of it; what was not committed is forgotten."""
        self._connection.close()


class Postgres:
    """A database of the server."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        self._connection = psycopg.connect(dsn, connect_timeout=5)

    def tables(self) -> dict[str, list[str]]:
        """See ``Side``."""
        found: dict[str, list[str]] = {}
        for table, column in self._connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            " ORDER BY table_name, ordinal_position"
        ).fetchall():
            if table not in _SKIPPED:
                found.setdefault(table, []).append(column)
        return found

    def count(self, table: str) -> int:
        """See ``Side``."""
        row: Any = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(row[0])

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """See ``Side``."""
        with self._connection.cursor(name="move") as cursor:  # at the server: a year of work does not fit memory
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608
            yield from cursor

    def put(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """See ``Side``; numbers that the server gives go on behind the highest."""
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
        for (column,) in self._connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            " AND table_name = %s AND is_identity = 'YES'",
            (table,),
        ).fetchall():
            self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, %s), GREATEST(MAX({column}), 1)) FROM {table}",  # noqa: S608
                (table, column),
            )

    def set_aside(self, name: str) -> None:
        """Give what is there another name, and begin with nothing."""
        self._connection.execute(f"ALTER SCHEMA public RENAME TO {name}")
        self._connection.execute("CREATE SCHEMA public")
        self._connection.commit()

    def commit(self) -> None:
        """See ``Side``."""
        self._connection.commit()

    def close(self) -> None:
        """Let go of it; what was not committed is forgotten."""
        self._connection.close()


def move(paths: FleetPaths, source: str, target: str, wall_ms: int) -> Moved:
    """Copy a fleet's store into the other database.

    Args:
        paths: of the fleet; its broker does not run, and PostgreSQL does.
        source: the driver that has the tasks, ``sqlite`` or ``postgres``.
        target: the other one.
        wall_ms: time, for names of what is set aside.

    Raises:
        HostError: one of them cannot be opened, or what arrived is not what left; then nothing has changed.
    """
    if {source, target} != {"sqlite", "postgres"}:
        raise HostError(f"a store is moved between sqlite and postgres, not from {source} to {target}")
    _make_ready(paths, source, wall_ms)
    if not _is_empty(paths, target):
        set_aside(paths, target, wall_ms)
    _make_ready(paths, target, wall_ms)
    with _side(paths, source) as here, _side(paths, target) as there:
        moved = _copy(here, there)
        missing = sum(not (paths.payloads / name).is_file() for (name,) in there.rows("spilled", ["file"]))
        return replace(moved, files_missing=missing)


def set_aside(paths: FleetPaths, driver: str, wall_ms: int) -> str:
    """Give the store that is not in use another name; gives that name, empty when there was none."""
    name = f"left_{time.strftime('%Y%m%d_%H%M%S', time.gmtime(wall_ms / 1_000))}_{wall_ms % 1_000:03d}"
    if driver == "postgres":
        with closing(Postgres(read_dsn(paths.store_dsn))) as database:
            database.set_aside(name)
        return f"the schema {name}"
    if not paths.store.exists():
        return ""
    left = paths.store.with_name(f"{paths.store.name}.{name}")
    for suffix in ("-wal", "-shm", ""):  # the database last: without it there is no store
        part = paths.store.with_name(paths.store.name + suffix)
        if part.exists():
            part.rename(left.with_name(left.name + suffix))
    return str(left)


def _make_ready(paths: FleetPaths, driver: str, wall_ms: int) -> None:
    """Open a store as its broker would: nobody else has it, it is of this version, and its log is in it."""
    open_store(driver, paths, ballast_bytes=0, wall_ms=wall_ms).close()


def _is_empty(paths: FleetPaths, driver: str) -> bool:
    if driver == "sqlite" and not paths.store.exists():
        return True
    with _side(paths, driver) as side:
        return not any(side.count(table) for table in side.tables())


@contextmanager
def _side(paths: FleetPaths, driver: str) -> Iterator[Side]:
    side = Sqlite(paths.store) if driver == "sqlite" else Postgres(read_dsn(paths.store_dsn))
    with closing(side):
        yield side


def _copy(here: Side, there: Side) -> Moved:
    tables, wanted = here.tables(), there.tables()
    if tables.keys() != wanted.keys():
        raise HostError(f"the two stores have different tables: {sorted(tables.keys() ^ wanted.keys())}")
    rows: dict[str, int] = {}
    for table, columns in tables.items():
        common = [column for column in columns if column in wanted[table]]
        extra = [column for column in wanted[table] if column not in columns]
        if table != "clock" and (extra or len(common) != len(columns)):
            raise HostError(f"the table {table} has different columns in the two stores")
        added = tuple(_CLOCK_EXTRA[column] for column in extra)
        there.put(table, [*common, *extra], ((*row, *added) for row in here.rows(table, common)))
        rows[table] = here.count(table)
        if there.count(table) != rows[table]:
            raise HostError(f"{there.count(table)} of {rows[table]} rows of {table} arrived; nothing was moved")
    status = [row[0] for row in there.rows("tasks", ["status"])]
    there.commit()
    return Moved(rows, sum(number < 3 for number in status))  # noqa: PLR2004 terminal states begin there
