"""Becoming the guard: what is handed to it, and that a failure changes nothing."""

from __future__ import annotations

import os
import resource
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from sutazai.supervisor import guarding, spawn
from sutazai.supervisor.fds import FdStore, read_kept
from sutazai.supervisor.guard import ENDS
from sutazai.supervisor.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop; signals are as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in ENDS}
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = Loop()
    yield made
    made.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_what_the_guard_gets_and_what_a_failure_leaves(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets, lock, no signal that ends it; without an interpreter all is as it was, and signals are still heard."""
    seen: list[str] = []
    soft = spawn.DESCRIPTORS[0] - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, spawn.DESCRIPTORS[1]))
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "lock").open("w") as lock:
        store = FdStore(None, {"own:x": os.dup(listening.fileno())})

        def refuse(_: str, arguments: list[str]) -> None:
            seen.append("exec")
            (kept,) = read_kept(arguments[-1]).values()
            assert os.get_inheritable(kept)
            assert os.get_inheritable(lock.fileno())
            assert set(ENDS) <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == spawn.DESCRIPTORS
            raise FileNotFoundError("no interpreter")

        monkeypatch.setattr(os, "execv", refuse)
        loop.on_signal(signal.SIGTERM, lambda: seen.append("term"))
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(FileNotFoundError):
            guarding.replace_guard(tmp_path / "plan", tmp_path / "pid", lock.fileno(), store, loop.take_signals)
        assert seen == ["term", "exec"], "what had come is acted on before it could be lost"
        (kept,) = store.inheritable(on=False).values()
        assert not os.get_inheritable(kept)
        assert not os.get_inheritable(lock.fileno())
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft
        assert not set(ENDS) & signal.pthread_sigmask(signal.SIG_BLOCK, [])
        os.kill(os.getpid(), signal.SIGTERM)
        loop.turn()
        assert seen == ["term", "exec", "term"], "the loop is not deaf"
        store.drop("own:x")
