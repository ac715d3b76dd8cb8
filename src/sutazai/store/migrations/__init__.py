"""Why it exists: a store that was made by an older version is brought up to date, one numbered file after the other.

Files are ``NNNN_what.sql``; each runs in one transaction together with its row in ``schema_migrations``. A store that
is newer than this program is refused, not guessed at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import HostError

if TYPE_CHECKING:
    import sqlite3

_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_wall_ms INTEGER NOT NULL
) STRICT"""


def available() -> list[tuple[int, str, str]]:
    """List the migrations of this program: version, name, SQL."""
    files = sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(path.stem[:4]), path.stem, path.read_text(encoding="utf-8")) for path in files]


def _statements(text: str) -> list[str]:
    lines = [line.partition("--")[0].rstrip() for line in text.splitlines()]
    return [part for part in "\n".join(lines).split(";") if part.strip()]


def migrate(connection: sqlite3.Connection, wall_ms: int) -> int:
    """Bring a database up to this program's version.

    Returns:
        The version it has now.

    Raises:
        HostError: it was written by a newer version of this program.
    """
    connection.execute(_TABLE)
    current: int = connection.execute("SELECT COALESCE(MAX(version), 0) FROM schema_migrations").fetchone()[0]
    known = available()
    if current > known[-1][0]:
        raise HostError(f"the store has schema {current}, this version knows {known[-1][0]}: update sutazai")
    for version, name, text in known:
        if version <= current:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(text):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", (version, name, wall_ms))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        current = version
    return current
