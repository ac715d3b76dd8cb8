"""User ids and secrets of instances: one owner at a time, and the same secret after a restart."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from sutazai.supervisor.fds import FdStore, channel, receive, send
from sutazai.supervisor.slots import Slots, Tokens

if TYPE_CHECKING:
    from pathlib import Path


def test_the_lowest_free_uid_is_given() -> None:
    """Nobody shares; what is given back or marked is respected; 0 means that none is dropped."""
    slots = Slots(100)
    assert [slots.take(), slots.take()] == [100, 101]
    slots.give_back(100)
    slots.mark(102)
    assert [slots.take(), slots.take()] == [100, 103]
    assert Slots(0).take() == 0


def test_tokens_are_hmacs_and_survive(tmp_path: Path) -> None:
    """The next sutazaid computes the same token from the key file, which only its owner can read."""
    path = tmp_path / "ticket.key"
    token = Tokens(path).of("k_1")
    assert token == hmac.new(path.read_bytes(), b"k_1", "sha256").hexdigest()[:32]
    assert Tokens(path).of("k_1") == token
    assert Tokens(path).of("k_2") != token
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_is_made_anew(tmp_path: Path) -> None:
    """A short key is no key."""
    path = tmp_path / "ticket.key"
    path.write_bytes(b"short")
    Tokens(path)
    assert len(path.read_bytes()) == 32


def test_the_guards_channel_carries_words_and_descriptors() -> None:
    """A socket is put under its name with a copy; dropping it is told; the end is told apart from nothing."""
    import os
    import socket

    guard_end, own_end = channel()
    store = FdStore(own_end, {})
    listening = socket.socket()
    store.put("tcp:x:1", listening)
    words, fd = receive(guard_end) or ([], -1)
    assert words == ["put", "tcp:x:1"]
    assert fd >= 0
    os.close(fd)
    assert store.get("tcp:x:1") is listening
    store.drop("tcp:x:1")
    assert (receive(guard_end) or ([], -1))[0] == ["drop", "tcp:x:1"]
    assert listening.fileno() == -1
    assert send(guard_end, "reaped", 5, 9)
    assert receive(own_end) == (["reaped", "5", "9"], -1)
    own_end.settimeout(0)
    assert receive(own_end) == ([], -1)
    guard_end.close()
    assert receive(own_end) is None
    store.unguarded()
    store.put("tcp:x:2", socket.socket())
    store.drop("tcp:x:2")
