"""The recipe for PostgreSQL: what it is given, which server it takes, and what it says when there is none."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import HostError
from sutazai.services import postgres
from sutazai.services.__main__ import main
from sutazai.services.postgres import CHOICE, MEMORY_BYTES_MIN, Owner, Settings, candidates, server
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, version: str, status: int = 0) -> Path:
    """Make a program that tells a version as the server does."""
    folder.mkdir(parents=True)
    path = folder / "postgres"
    path.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\nexit {status}\n")
    path.chmod(0o755)
    return folder


def myself() -> Owner:
    """Run programs as this user, also as root."""
    owner = Owner("")
    owner.changes = False
    return owner


def test_a_server_named_by_hand_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong choice is not silently replaced by another server."""
    monkeypatch.setenv(CHOICE, str(tmp_path / "none"))
    assert candidates() == [tmp_path / "none"]
    with pytest.raises(HostError, match=rf"no PostgreSQL was found; run: .*{CHOICE}"):
        server(myself(), tmp_path / "data")


def test_installed_servers_come_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels before what the system has, 15 before 9."""
    monkeypatch.delenv(CHOICE, raising=False)
    monkeypatch.setattr(postgres, "INSTALLED", tmp_path)
    monkeypatch.setattr(postgres, "WHEELS", ())
    for version in ("9", "15", "common"):
        (tmp_path / version).mkdir()
    assert candidates() == [tmp_path / "15/bin", tmp_path / "9/bin"]


def test_the_server_that_made_the_data_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer server cannot read older data; when only others are there, they are named with their versions."""
    data = tmp_path / "data"
    data.mkdir()
    old, new = program(tmp_path / "15/bin", "15.9 (Debian 15.9-1)"), program(tmp_path / "18/bin", "18.6")
    broken = program(tmp_path / "19/bin", "19.1", 1)
    monkeypatch.setattr(postgres, "candidates", lambda: [broken, tmp_path / "none", new, old])
    assert server(myself(), data) == new
    (data / "PG_VERSION").write_text("18\n")
    assert server(myself(), data) == new
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(HostError, match=r"19/bin/postgres does not run.*18/bin/postgres has version 18, the data"):
        server(myself(), data)


def test_a_server_that_its_user_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The condition is said, not hidden behind a missing server."""
    hidden = program(tmp_path / "18/bin", "18.6")
    (hidden / "postgres").chmod(0o600)
    monkeypatch.setattr(postgres, "candidates", lambda: [hidden])
    with pytest.raises(HostError, match=r"18/bin/postgres cannot be read by user \d+"):
        server(myself(), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--state", "d", "--port", "0", "--memory", str(MEMORY_BYTES_MIN)], "--port 0 is no port"),
        (["--state", "d", "--port", "65536", "--memory", str(MEMORY_BYTES_MIN)], "--port 65536 is no port"),
        (["--state", "d", "--port", "5432", "--memory", "1000"], "too little for PostgreSQL"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what to give instead."""
    assert main(["postgres", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_an_unknown_user_and_root_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root hands the server to somebody else, who must exist."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(HostError, match="no user nobody-here"):
        Owner("nobody-here")
    with pytest.raises(HostError, match="refuses to run as root"):
        Owner("root")


def test_who_owns_the_data_stays_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that was added to the machine later does not take the data over."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "_owner_of", lambda data: ["daemon"] if data == tmp_path else [])
    daemon = pwd.getpwnam("daemon")
    assert Owner("", tmp_path).uid == daemon.pw_uid
    assert Owner("nobody", tmp_path).uid == pwd.getpwnam("nobody").pw_uid


def test_settings_follow_the_limit(tmp_path: Path) -> None:
    """A quarter of the limit is shared; commits are on disk whatever a file says; a long path has no socket."""
    options = postgres._options(Settings(tmp_path, 5432, 256 * MIB))
    assert {"shared_buffers=64MB", "fsync=on", "synchronous_commit=on", "listen_addresses=127.0.0.1"} <= set(options)
    assert Settings(tmp_path / ("x" * 100), 5432, 256 * MIB).socket_folder is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="give another one with --state"):
        postgres.prepare(Settings(tmp_path / "file", 5432, 256 * MIB))
