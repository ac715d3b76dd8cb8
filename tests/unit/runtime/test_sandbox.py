"""Handed-in code reaches no network, writes in its folder only, and ends when its time, memory or disk is over."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sutazai.runtime import programs, sandbox
from sutazai.runtime.programs import MissingProgramError
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.runtime.programs import Ran


@pytest.fixture(params=["bubblewrap", "namespaces", "user"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each way of confinement that works on this machine."""
    order = ("bubblewrap", "namespaces", "user")
    best = order.index(sandbox.confinement())
    wanted = order.index(request.param)
    if wanted < best:
        pytest.skip(f"{request.param} does not work here")
    monkeypatch.setattr(sandbox, "confinement", lambda: request.param)
    return request.param


def run(folder: Path, code: str, **bounds: float) -> Ran:
    """Run code in the sandbox."""
    ran, _ = sandbox.run_python(["-c", code], folder, sandbox.Bounds(**bounds))  # type: ignore[arg-type]
    return ran


def test_code_runs_and_writes_in_its_folder(way: str, tmp_path: Path) -> None:
    """Output, exit code and files come back."""
    ran = run(tmp_path, "import sys; open('made','w').write('x'); print(1 + 1); sys.exit(3)")
    assert (ran.status, ran.out) == (3, b"2\n")
    assert (tmp_path / "made").read_text() == "x"


def test_the_network_is_not_there(way: str, tmp_path: Path) -> None:
    """A listener on this machine's loopback cannot be reached; only the weakest way lets it, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=server.accept, daemon=True)
        thread.start()
        ran = run(tmp_path, f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)")
        reached = ran.status == 0
        if not reached:
            socket.create_connection(("127.0.0.1", port)).close()
        thread.join(5)
    assert reached is (way == "user")
    assert ("the network can be reached" in sandbox.TEXTS[way]) is reached  # type: ignore[index]


def test_other_processes_are_not_seen(way: str, tmp_path: Path) -> None:
    """With namespaces, code cannot send a signal to a process outside."""
    if way == "user":
        pytest.skip("the weakest way shares the processes")
    ran = run(tmp_path, "import os; print(os.getpid() < 10)")
    assert ran.out == b"True\n"


def test_limits_of_time_memory_and_disk_hold(way: str, tmp_path: Path) -> None:
    """An endless loop ends, a large list is a MemoryError, a large file cannot be written."""
    ran = run(tmp_path, "while True: pass", timeout_s=1.0)
    assert ran.timed_out
    assert b"MemoryError" in (run(tmp_path, "x = bytearray(10**9)").told.encode())
    ran = run(tmp_path, "open('big','wb').write(b'x' * (40 * 2**20))")
    assert ran.status != 0
    assert (tmp_path / "big").stat().st_size <= 16 * MIB


def test_what_a_program_started_ends_with_it(way: str, tmp_path: Path) -> None:
    """A grandchild that goes on after the time is over is ended too."""
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "while True: pass"
    )
    ran = run(tmp_path, code, timeout_s=1.0)
    assert ran.timed_out  # `run` returns only when the pipes that the grandchild holds are closed


def test_a_program_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """Both a missing name and a missing file say how to go on, and trying again is not offered."""
    with pytest.raises(MissingProgramError, match="run `make it`") as caught:
        programs.find("no-such-program-here", "make it")
    assert (caught.value.code, caught.value.retryable) == ("unavailable", False)
    with pytest.raises(MissingProgramError, match="cannot be started"):
        programs.run(["/no/such/program"], folder=tmp_path, timeout_s=1)


def test_only_few_variables_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the environment does not reach a program."""
    monkeypatch.setenv("MY_SECRET", "x")
    ran = programs.run(["env"], folder=tmp_path, timeout_s=5, env={"MORE": "1"})
    assert b"MY_SECRET" not in ran.out
    assert {line.partition(b"=")[0] for line in ran.out.splitlines()} == {b"PATH", b"LANG", b"HOME", b"TMPDIR", b"MORE"}
