"""The recipe's server: private files, a password that is checked, prepared again when a secret or a start is lost."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import psycopg
import pytest

from sutazai.store.opening import read_dsn

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.testing.postgres_server import PostgresServer


def mode(path: Path) -> int:
    """Who may do what."""
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_private_and_needed(own_server: PostgresServer) -> None:
    """Nobody else reads data, password or connection string; without the password neither door opens."""
    state = own_server.state
    assert (mode(state / "dsn"), mode(state / "password"), mode(state / "data")) == (0o600, 0o600, 0o700)
    if os.geteuid() == 0:
        assert (state / "data").stat().st_uid != 0
        assert (state / "dsn").stat().st_uid == 0
    dsn = read_dsn(state / "dsn")
    password = (state / "password").read_text().strip()
    for given in (dsn, dsn.replace(str(state / "run"), "127.0.0.1")):
        psycopg.connect(given).close()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(given.replace(password, "wrong"))


def test_a_lost_password_is_made_anew(own_server: PostgresServer) -> None:
    """The data stays; the new password is set, and the new connection string works."""
    own_server.run("CREATE TABLE kept (n INT)")
    own_server.stop()
    old = read_dsn(own_server.state / "dsn")
    (own_server.state / "password").unlink()
    own_server.start()
    assert own_server.run("SELECT COUNT(*) FROM kept") == [(0,)]
    assert read_dsn(own_server.state / "dsn") != old


def test_a_start_that_was_killed_is_begun_again(own_server: PostgresServer) -> None:
    """Half a data folder is not taken for a whole one."""
    own_server.stop()
    state = own_server.state
    (state / "data").rename(state / "data.new")
    (state / "data.new/PG_VERSION").unlink()
    own_server.start()
    assert own_server.run("SELECT 1") == [(1,)]
    assert not (state / "data.new").exists()
