"""The private socket of the model library: what it answers, refuses and fails to say."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from sutazai.errors import UnavailableError
from sutazai.llm.drivers import library
from sutazai.llm.drivers.protocol import BadRequestError
from sutazai.paths import FleetPaths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Library(BaseHTTPRequestHandler):
    """Answers as the test says."""

    status: ClassVar[int] = 200
    reply: ClassVar[bytes] = b"{}"
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers["Authorization"])
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def address_string(self) -> str:
        """A unix socket has no address of a peer."""
        return "unix"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A library on a unix socket."""
    with UnixStreamServer(str(tmp_path / "s"), Library) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tmp_path / "s"
        server.shutdown()
        thread.join()


def test_it_answers_with_the_key(place: Path) -> None:
    """The key is sent and the object is given."""
    Library.status, Library.reply = 200, b'{"tokens": [1, 2]}'
    assert library.post(place, "secret", "/tokenize", {"content": "x"}) == {"tokens": [1, 2]}
    assert Library.keys[-1] == "Bearer secret"


@pytest.mark.parametrize(
    ("status", "reply", "error", "text"),
    [
        (400, b'{"error": "bad"}', BadRequestError, "refused"),
        (500, b'{"error": "sick"}', UnavailableError, "failed"),
        (200, b"[1]", UnavailableError, "failed"),
        (200, b"{", UnavailableError, "does not answer"),
    ],
)
def test_what_goes_wrong(place: Path, status: int, reply: bytes, error: type[Exception], text: str) -> None:
    """A refusal is the caller's, everything else is the library's."""
    Library.status, Library.reply = status, reply
    with pytest.raises(error, match=text):
        library.post(place, "secret", "/tokenize", {"content": "x"})


def test_nobody_listens(tmp_path: Path) -> None:
    """A socket that is not there is unavailable."""
    with pytest.raises(UnavailableError, match="does not answer"):
        library.post(tmp_path / "none", "secret", "/tokenize", {})


def test_each_server_has_a_private_folder_that_a_stop_clears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All stand below the one that sutazaid removes; a new one is empty, its owner's only, and leaves the others."""
    monkeypatch.setenv("SUTAZAI_FLEET", "f")
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(tmp_path))
    chat = library.private_folder("chat")
    (chat / "library.sock").touch()
    embed = library.private_folder("embed")
    assert {chat.parent, embed.parent} == {FleetPaths.of("f").run / "llm"}
    assert [path.name for path in chat.iterdir()] == ["library.sock"]
    assert library.private_folder("chat") == chat
    assert list(chat.iterdir()) == []
    assert {folder.stat().st_mode & 0o777 for folder in (chat, embed)} == {0o700}
