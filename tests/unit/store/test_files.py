"""The store's files are the broker's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_nobody_else_reads_the_store(tmp_path: Path) -> None:
    """Database, log and index have mode 600, also where an older version left them open to all."""
    path = tmp_path / "store.sqlite"
    path.touch(mode=0o644)
    path.chmod(0o644)
    store = SqliteStore(path, ballast_bytes=0)
    try:
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in tmp_path.glob("store.sqlite*")}
        assert set(modes.values()) == {0o600}
        assert len(modes) >= 2
    finally:
        store.close()
