"""What a profile's servers need is looked for before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai import spec
from sutazai.control import servers
from sutazai.errors import HostError
from sutazai.services import postgres, rabbitmq, valkey

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _manifest(tmp_path: Path, profile: str) -> spec.Manifest:
    path = tmp_path / "sutazai.yaml"
    path.write_text(f"fleet: a\nprofile: {profile}\n")
    return spec.load(path)


def test_all_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the line of the manifest that asks for it, and with the command that gives it."""

    def nothing(*_: object) -> None:
        raise HostError("it is not here; run: apt-get install it")

    monkeypatch.setattr(postgres, "server", nothing)
    monkeypatch.setattr(rabbitmq, "programs", nothing)
    monkeypatch.setattr(valkey, "program", nothing)
    monkeypatch.setattr(servers, "find_spec", lambda _: None)
    found = servers.missing(_manifest(tmp_path, "standard"), tmp_path / "data")
    assert [(error.problem, error.hint) for error in found] == [
        ("postgres: the Python client psycopg is not installed", "run: scripts/bootstrap base postgres"),
        ("postgres: it is not here", "run: apt-get install it"),
        ("rabbitmq: the Python client aio_pika is not installed", "run: scripts/bootstrap base rabbitmq"),
        ("rabbitmq: it is not here", "run: apt-get install it"),
        ("redis: the Python client valkey is not installed", "run: scripts/bootstrap base valkey"),
        ("redis: it is not here", "run: apt-get install it"),
    ]
    assert {error.line for error in found} == {2}


def test_the_embedded_profile_needs_none(tmp_path: Path) -> None:
    """Nothing is looked for."""
    assert servers.missing(_manifest(tmp_path, "embedded"), tmp_path / "data") == []
