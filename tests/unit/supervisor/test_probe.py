"""One check from outside: every way a server can answer, and every way it can fail to."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sutazai.supervisor.loop import Loop
from sutazai.supervisor.probe import Check, Outcome, Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that gives the signal wake-up back."""
    made = Loop()
    yield made
    made.close()


def check(loop: Loop, target: Target) -> Outcome:
    """Run one check to its end."""
    seen: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        seen.append(outcome)
        loop.stop(0)

    Check(loop, target, done)
    loop.run()
    loop._exit_code = None
    return seen[0]


def answer(text: bytes, *pauses: bytes) -> int:
    """Serve one connection with these bytes; returns the port."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()

    def serve() -> None:
        peer, _ = server.accept()
        with server, peer:
            peer.recv(65_536)
            for part in (text, *pauses):
                peer.sendall(part)

    threading.Thread(target=serve, daemon=True).start()
    port: int = server.getsockname()[1]
    return port


def http(port: int, timeout_ms: int = 60_000) -> Target:
    """An HTTP check of a port."""
    return Target("http", "127.0.0.1", port, "/health", timeout_ms)


def test_http_status_decides(loop: Loop) -> None:
    """2xx passes, all else fails; the status and the path are the evidence."""
    passed = check(loop, http(answer(b"HTTP/1.1 204 No Content\r\n\r\n")))
    assert (passed.ok, passed.status) == (True, 204)
    failed = check(loop, http(answer(b"HTTP/1.1 500 Oh\r\n\r\n")))
    assert (failed.ok, failed.status) == (False, 500)
    assert failed.text.startswith("HTTP 500 from /health in ")
    moved = check(loop, http(answer(b"HTTP/1.1 301 There\r\n\r\n")))
    assert not moved.ok


def test_an_answer_in_pieces_is_put_together(loop: Loop) -> None:
    """The status line may come in two packets."""
    assert check(loop, http(answer(b"HTTP/1.", b"1 200 OK\r\n\r\n"))).ok


def test_what_is_not_http_fails_with_words(loop: Loop) -> None:
    """Garbage, silence at the end of the connection, an endless status line."""
    assert "not HTTP" in check(loop, http(answer(b"SSH-2.0-x\r\n"))).text
    assert "closed without an answer" in check(loop, http(answer(b""))).text
    assert not check(loop, http(answer(b"x" * 10_000))).ok


def test_nobody_there_and_nobody_answering(loop: Loop) -> None:
    """A refused connection says so; a server that never answers is given up after its time."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        refused = check(loop, http(port))
        assert not refused.ok
        assert refused.text == f"127.0.0.1:{port}: connection refused"
        reserved.listen()
        late = check(loop, http(port, timeout_ms=20))
        assert late.text == f"127.0.0.1:{port}: no answer in 20 ms"
        assert check(loop, Target("tcp", "127.0.0.1", port, "", 60_000)).ok


def test_unix_sockets(loop: Loop, tmp_path: Path) -> None:
    """A listening one passes; a missing one fails with the kernel's words."""
    path = tmp_path / "s"
    missing = check(loop, Target("unix", "", 0, str(path), 60_000))
    assert missing.text == f"{path}: no such file or directory"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert check(loop, Target("unix", "", 0, str(path), 60_000)).ok


def test_a_cancelled_check_says_nothing(loop: Loop) -> None:
    """After cancel nobody is called."""
    seen: list[Outcome] = []
    Check(loop, http(answer(b"HTTP/1.1 200 OK\r\n\r\n")), seen.append).cancel()
    loop.after(30, lambda: loop.stop(0))
    loop.run()
    assert seen == []


def dialect(kind: str, port: int) -> Target:
    """A check by a server's own protocol."""
    return Target(kind, "127.0.0.1", port, "", 60_000)


def refusal(code: bytes, text: bytes) -> bytes:
    """An error of PostgreSQL before a session begins."""
    fields = b"SFATAL\0VFATAL\0C" + code + b"\0M" + text + b"\0\0"
    return b"E" + (4 + len(fields)).to_bytes(4, "big") + fields


START = b"\x01\x00\x00\x00\x00\x01\x00\x00\x0a\x00\x0a\x00\x09"


@pytest.mark.parametrize(
    ("kind", "parts", "ok", "text"),
    [
        ("redis", [b"+PONG\r\n"], True, "PONG"),
        ("redis", [b"+PO", b"NG\r\n"], True, "PONG"),
        ("redis", [b"-NOAUTH Authentication required.\r\n"], True, "asks for a password"),
        ("redis", [b"-LOADING Redis is loading the dataset in memory\r\n"], False, "LOADING Redis is loading"),
        ("redis", [b"HTTP/1.1 400 Bad Request\r\n"], False, "not Redis' protocol"),
        ("redis", [b"+PO"], False, "closed in the middle of an answer"),
        ("postgres", [b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"], True, "asks for authentication"),
        ("postgres", [b"R", b"\0\0\0\x17\0\0\0\x0a"], True, "asks for authentication"),
        ("postgres", [refusal(b"57P03", b"the database system is starting up")], False, "system is starting up"),
        ("postgres", [refusal(b"28000", b"no pg_hba.conf entry")], True, "no pg_hba.conf entry"),
        ("postgres", [refusal(b"53300", b"too many clients")[:9]], False, "closed in the middle of an answer"),
        ("postgres", [b"HTTP/1.1 400"], False, "not PostgreSQL's protocol"),
        ("amqp", [START], True, "starts a connection"),
        ("amqp", [START[:4], START[4:]], True, "starts a connection"),
        ("amqp", [b"AMQP\0\0\x09\0"], False, "another version of AMQP"),
        ("amqp", [b"\x01\x00\x00\x00\x00\x01\x00\x00\x0a\x00\x32"], False, "does not start a connection"),
        ("amqp", [b"+PONG\r\n"], False, "not AMQP"),
        ("amqp", [], False, "closed without an answer"),
    ],
)
def test_a_servers_own_protocol_says_whether_it_serves(
    loop: Loop, kind: str, parts: list[bytes], *, ok: bool, text: str
) -> None:
    """One that takes connections and still reads its data is not ready; one that wants a password is."""
    outcome = check(loop, dialect(kind, answer(b"", *parts)))
    assert outcome.ok is ok
    assert text in outcome.text
