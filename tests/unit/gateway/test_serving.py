"""Telling sutazaid that a process is ready, and taking over its sockets."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import ConfigError
from sutazai.wire import notify
from sutazai.wire.notify import Notifier
from sutazai.wire.serving import inherited

if TYPE_CHECKING:
    from pathlib import Path


def heard(connection: socket.socket) -> list[dict[str, Any]]:
    """The first two lines of a connection."""
    with connection.makefile("rb") as lines:
        return [json.loads(next(lines)) for _ in range(2)]


def test_ready_is_said_again_after_the_other_side_was_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new sutazaid hears it too, without the process doing anything."""
    monkeypatch.setattr(notify, "BACKOFF_BASE_S", 0.001)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)
        notifier = Notifier("llm", str(path))
        notifier.ready()
        notifier.ready()
        for _ in range(3):
            connection, _ = listener.accept()
            with connection:
                assert [line["op"] for line in heard(connection)] == ["hello", "ready"]
        notifier.close()
        assert notifier._thread is not None
        assert not notifier._thread.is_alive()


def test_nobody_listens_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sutazaid that comes later is told then."""
    monkeypatch.setattr(notify, "BACKOFF_BASE_S", 0.001)
    notifier = Notifier("llm", str(tmp_path / "s"))
    notifier.ready()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.settimeout(30)
        connection, _ = listener.accept()
        with connection:
            assert heard(connection)[1] == {"id": 2, "op": "ready", "process": "llm"}
        notifier.close()


def test_without_a_fleet_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started by hand tells nobody."""
    monkeypatch.delenv("SUTAZAI_FLEET", raising=False)
    notifier = Notifier("llm")
    notifier.ready()
    assert notifier._thread is None
    notifier.close()


def test_inherited_sockets_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """SUTAZAI_LISTEN names open sockets; none is fine, nonsense is an error."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        monkeypatch.setenv("SUTAZAI_LISTEN", json.dumps({"edge": [os.dup(given.fileno())]}))
        (found,) = inherited()["edge"]
        assert found.getsockname() == given.getsockname()
        found.close()
    monkeypatch.delenv("SUTAZAI_LISTEN")
    assert inherited() == {}
    for text in ("{", "[]", '{"edge": 5}', '{"edge": ["x"]}', '{"edge": [99999]}'):
        monkeypatch.setenv("SUTAZAI_LISTEN", text)
        with pytest.raises(ConfigError, match="SUTAZAI_LISTEN"):
            inherited()
