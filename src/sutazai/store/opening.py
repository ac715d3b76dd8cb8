"""Why it exists: which database a fleet's tasks are in is one word, and its password is in a file of its own.

Drivers are imported when they are asked for: a fleet on SQLite has no PostgreSQL driver installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.errors import HostError

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.paths import FleetPaths
    from sutazai.store.protocol import Store

DRIVERS = ("sqlite", "postgres")
INSTALL = "scripts/bootstrap base postgres"


def open_store(
    driver: str, paths: FleetPaths, *, ballast_bytes: int, wall_ms: int, dsn_file: Path | None = None
) -> Store:
    """Open the store of a fleet; there is one that is open at a time.

    Args:
        driver: one of ``DRIVERS``.
        paths: of the fleet.
        ballast_bytes: room set aside for a full disk. Beside a PostgreSQL that is not the fleet's own there is none.
        wall_ms: time, for the table of migrations.
        dsn_file: mode 600, with libpq's connection string; the default is what the fleet's own server wrote.

    Raises:
        HostError: it cannot be opened; the message says what to do.
    """
    if driver == "sqlite":
        from sutazai.store.sqlite import SqliteStore

        return SqliteStore(paths.store, ballast_bytes=ballast_bytes, wall_ms=wall_ms)
    if driver != "postgres":
        raise HostError(f"there is no store {driver!r}: it is one of {', '.join(DRIVERS)}")
    try:
        from sutazai.store.postgres import PostgresStore
    except ImportError as error:
        raise HostError(f"the driver for PostgreSQL is not installed; run: {INSTALL}") from error
    dsn = read_dsn(dsn_file or paths.store_dsn)
    ballast = paths.store.with_suffix(".ballast") if dsn_file is None else None
    return PostgresStore(dsn, ballast=ballast, ballast_bytes=ballast_bytes if ballast else 0, wall_ms=wall_ms)


def read_dsn(path: Path) -> str:
    """Read a connection string, which may hold a password.

    Raises:
        HostError: it is not there, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise HostError(f"{path} should say where the store's database is: {error.strerror}") from error
    if mode & 0o077:
        raise HostError(f"{path} may hold a password and others may read it: chmod 600 {path}")
    if not text:
        raise HostError(f"{path} is empty: write libpq's connection string into it (host=… port=… user=… dbname=…)")
    return text
