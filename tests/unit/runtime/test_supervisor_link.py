"""The zygote's connection to ``sutazaid``: lines with descriptors, and losses that do not matter."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import ProtocolError, UnavailableError
from sutazai.limits import LINE_BYTES_MAX
from sutazai.runtime.supervisor_link import SupervisorLink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SupervisorLink, socket.socket]]:
    """A link and the other side."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        link = SupervisorLink(tmp_path / "s.sock", tmp_path / "guard.pid")
        assert link.connect()
        other, _ = listener.accept()
        with other:
            yield link, other
        link.close()


def order(number: int, descriptor: int, other: socket.socket) -> None:
    """Send an order with a descriptor."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    other.sendmsg([json.dumps({"push": "fork", "n": number}).encode() + b"\n"], rights)


def test_descriptors_come_with_their_orders(pair: tuple[SupervisorLink, socket.socket]) -> None:
    """Orders that arrive together keep their descriptors, each its own."""
    link, other = pair
    pipes = [os.pipe() for _ in range(3)]
    for number, (reader, writer) in enumerate(pipes):
        order(number, reader, other)
        os.write(writer, str(number).encode())
    for number in range(3):
        assert link.receive()["n"] == number
        descriptor = link.take_descriptor()
        assert os.read(descriptor, 1) == str(number).encode()
        os.close(descriptor)
    assert link.take_descriptor() == -1
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)


def test_an_untaken_descriptor_is_closed(pair: tuple[SupervisorLink, socket.socket]) -> None:
    """When the connection is closed, whoever blocks on a descriptor that nobody took reads end-of-file."""
    link, other = pair
    reader, writer = os.pipe()
    order(1, writer, other)
    os.close(writer)
    link.receive()
    link.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_broken_lines(pair: tuple[SupervisorLink, socket.socket]) -> None:
    """A line in pieces is put together; what is no JSON object ends the connection."""
    link, other = pair
    other.sendall(b'{"push":')
    other.sendall(b'"a"}\n[]\n')
    assert link.receive() == {"push": "a"}
    with pytest.raises(ProtocolError):
        link.receive()
    with pytest.raises(UnavailableError):
        link.receive()
    with pytest.raises(UnavailableError):
        link.send({})


def _flood(other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        other.sendall(b"x" * (LINE_BYTES_MAX * 4))


def test_an_endless_line(pair: tuple[SupervisorLink, socket.socket]) -> None:
    """A line without an end is given up at its bound."""
    link, other = pair
    sender = threading.Thread(target=_flood, args=(other,))
    sender.start()
    with pytest.raises(ProtocolError):
        link.receive()
    sender.join()


def test_a_lost_connection(pair: tuple[SupervisorLink, socket.socket]) -> None:
    """An end-of-file is reported, and the link can be connected again."""
    link, other = pair
    other.close()
    with pytest.raises(UnavailableError):
        link.receive()
    assert link.connect()


def test_the_fleet_is_gone(tmp_path: Path) -> None:
    """Without a socket and without a guard the link gives up; with a living guard it would wait."""
    link = SupervisorLink(tmp_path / "none.sock", tmp_path / "guard.pid")
    assert not link.connect(orphan_s=0.0)
