"""PostgreSQL on a disk that is really full: what was accepted is finished, the rest is refused, room ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import StorageFullError, UnavailableError
from sutazai.testing.broker_load import WAIT_S, Caller
from sutazai.testing.broker_process import BrokerProcess
from sutazai.testing.postgres_server import PostgresServer
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK_MIB, ROOMY_MIB, BALLAST_MIB = 160, 512, 16


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of a few megabytes that the server's user can pass through."""
    with tempfile.TemporaryDirectory(prefix="pd", dir="/tmp") as name:
        folder = Path(name)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=711", "tmpfs", name]
        if (mounted := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
            pytest.skip(f"PostgreSQL on a full disk was NOT tested: {mounted.stderr.strip()}")
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", name], check=True)


@contextlib.contextmanager
def looked_after(server: PostgresServer) -> Iterator[list[float]]:
    """Start the server again whenever it ends, as ``sutazaid`` does; gives when it did."""
    stop, ends = threading.Event(), []

    def look() -> None:
        while not stop.wait(0.1):
            if server.has_ended():
                ends.append(time.monotonic())
                server.start(wait=False)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield ends
    finally:
        stop.set()
        thread.join()


def use_up_the_log(server: PostgresServer) -> None:
    """Write the server's log until it needs a file for which there is no room: it stops itself (PANIC)."""
    write = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))"
    with contextlib.suppress(UnavailableError):
        for _ in range(1_000):
            server.run(write)
    assert "PANIC" in (server.folder / "log").read_text(encoding="utf-8")


def submit(caller: Caller, key: str) -> str:
    """Submit a task of 100 KB under a key, over whatever happens."""
    task = {"agent": "a0", "skill": "echo", "input": {"pad": os.urandom(50_000).hex()}, "idempotency_key": key}
    identifier: str = caller.ask({"t": "submit", "tasks": [task]})["tasks"][0]["id"]
    return identifier


def test_a_full_disk_of_postgresql_refuses_new_tasks_and_keeps_the_accepted(
    small_disk: Path, postgres_made: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks fill the disk; accepted ones are finished in the room set aside; somebody takes that too; then room comes.

    In between the server stops itself, because its log cannot grow either, and starts again only when it can.
    """
    state = small_disk / "t/services/postgres"
    state.parent.mkdir(parents=True)
    broker = BrokerProcess("--store", "postgres", "--ballast-bytes", str(BALLAST_MIB * MIB), folder=small_disk)
    with PostgresServer(postgres_made, state) as server, looked_after(server) as ends, broker:
        caller, accepted = Caller(broker, 0), []
        with pytest.raises(StorageFullError):
            accepted.extend(submit(caller, f"k{number}") for number in range(10_000))
        instance = broker.spawn_instance("a0", "k0")
        first = done(caller, accepted[0])
        assert first["status"] == "succeeded", first
        assert statistics(broker)["full"] is True
        instance.send_signal(signal.SIGSTOP)
        with contextlib.suppress(OSError), (small_disk / "hog").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4_096)
        instance.send_signal(signal.SIGCONT)
        with pytest.raises(StorageFullError):
            submit(caller, "refused")
        use_up_the_log(server)
        subprocess.run(["mount", "-o", f"remount,size={ROOMY_MIB}m", str(small_disk)], check=True)
        give_up_s = time.monotonic() + WAIT_S
        while True:
            try:
                accepted.append(submit(caller, "afterwards"))
                break
            except StorageFullError:
                assert time.monotonic() < give_up_s, "submissions are not taken again"
                time.sleep(0.05)
        ended = {done(caller, task)["status"] for task in accepted}
        assert ended == {"succeeded"}
        assert statistics(broker)["full"] is False
        assert broker.stop() == 0
        rows = server.run("SELECT status, count(*) FROM tasks GROUP BY 1")
        assert [count for _, count in rows] == [len(accepted)]
    with capsys.disabled():
        told = f"{len(accepted)} tasks accepted, 0 lost; the server stopped {len(ends)} times"
        print(f"\nPostgreSQL on a full disk: {told}")  # noqa: T201 read by people


def done(caller: Caller, task: str) -> dict[str, Any]:
    """Wait until a task is over."""
    give_up_s = time.monotonic() + WAIT_S
    while True:
        found: dict[str, Any] = caller.ask({"t": "wait", "task": task, "timeout_ms": 5_000})["task"]
        if found["status"] not in {"queued", "leased"}:
            return found
        assert time.monotonic() < give_up_s, found


def statistics(broker: BrokerProcess) -> dict[str, Any]:
    """What the broker says of its store."""
    with contextlib.suppress(UnavailableError), broker.client() as client:
        found: dict[str, Any] = client.request({"t": "stats"}, WAIT_S)["store"]
        return found
    return {}
