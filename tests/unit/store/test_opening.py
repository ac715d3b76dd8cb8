"""Which store is opened, and what is said when it cannot be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import HostError
from sutazai.paths import FleetPaths
from sutazai.store.opening import open_store, read_dsn
from sutazai.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_sqlite_is_opened_where_the_fleet_is(tmp_path: Path) -> None:
    """The file of the fleet's folder."""
    paths = FleetPaths(tmp_path, tmp_path)
    store = open_store("sqlite", paths, ballast_bytes=0, wall_ms=1)
    assert isinstance(store, SqliteStore)
    store.close()
    assert paths.store.exists()


def test_an_unknown_driver_and_one_that_is_not_installed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which there are, and which command installs the other."""
    paths = FleetPaths(tmp_path, tmp_path)
    with pytest.raises(HostError, match="no store 'mysql': it is one of sqlite, postgres"):
        open_store("mysql", paths, ballast_bytes=0, wall_ms=1)
    monkeypatch.setitem(sys.modules, "sutazai.store.postgres", None)
    with pytest.raises(HostError, match="run: scripts/bootstrap base postgres"):
        open_store("postgres", paths, ballast_bytes=0, wall_ms=1)


def test_a_connection_string_is_private_and_not_empty(tmp_path: Path) -> None:
    """It may hold a password."""
    path = tmp_path / "dsn"
    with pytest.raises(HostError, match="should say where the store's database is"):
        read_dsn(path)
    path.write_text("host=somewhere\n", encoding="utf-8")
    path.chmod(0o640)
    with pytest.raises(HostError, match=f"chmod 600 {path}"):
        read_dsn(path)
    path.chmod(0o600)
    assert read_dsn(path) == "host=somewhere"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(HostError, match="is empty"):
        read_dsn(path)
