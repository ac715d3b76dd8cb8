"""The look at a real machine: real processes that listen, spin on one core and are many of a name; and a real loop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.cli import doctor_live
from sutazai.control import outside
from sutazai.supervisor.contract import Restart
from sutazai.testing.sutazaid import OwnSutazaid
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = "import sys; print('up', flush=True); sys.stdin.read()"
SPIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print('up', flush=True)\nwhile True: pass"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start Python scripts of a name of our own, wait until they say that they are up, and end them."""
    running: list[subprocess.Popen[str]] = []

    def run(name: str, code: str, *words: str) -> int:
        path = tmp_path / name
        path.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process.pid

    yield run
    for process in running:
        process.kill()
        process.communicate()


def test_processes_of_one_name_are_found_with_their_memory(start: Any) -> None:
    """Three processes of a script are one group outside of every fleet; at 400 MB each they are strays."""
    name = f"stray-{os.getpid()}.py"
    pids = {start(name, SCRIPT) for _ in range(3)}
    found = outside.look([], set(), window_s=0.05)
    mine = [process for process in found["processes"] if process["label"].endswith(name)]
    assert {process["pid"] for process in mine} == pids
    assert all(process["memory_bytes"] > 100_000 and process["fleet"] == "" for process in mine)
    found["processes"] = [process | {"memory_bytes": 400 * MIB} for process in mine]
    found["memory_total_bytes"] = 16 * GIB
    (finding,) = doctor_live.stray_processes(found)
    assert f"3 processes of {mine[0]['label']} with 1.17 GB" in finding.text


def test_a_process_bound_to_one_core_is_seen_there(start: Any) -> None:
    """What spins on one core shows with that core alone, and took CPU in the window."""
    core = min(os.sched_getaffinity(0))
    pid = start(f"spin-{os.getpid()}.py", SPIN, str(core))
    found = outside.look([], set(), window_s=0.5)
    (mine,) = [process for process in found["processes"] if process["pid"] == pid]
    assert mine["cores"] == [core]
    assert mine["cpu_cores"] > 0
    assert all(0 <= ratio <= 1 for ratio in found["cores"].values())
    assert found["cores"][str(core)] > 0


def test_a_listener_on_a_port_of_interest() -> None:
    """Who listens is found with its pid and belongs to no fleet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = outside.look([], {port}, window_s=0.0)
    (mine,) = [entry for entry in found["listeners"] if entry["port"] == port]
    assert (mine["pid"], mine["fleet"]) == (os.getpid(), "")
    assert any(str(port) in one.text for one in doctor_live.stray_listeners(found | {"listeners": [mine]}))


def test_a_real_restart_loop_is_named(tmp_path: Path) -> None:
    """A process that ends at once under a real ``sutazaid`` is an error; its healthy neighbour is not named."""
    own = OwnSutazaid(tmp_path)
    try:
        plan = own.plan(
            own.shell("redis", "exit 7"),
            own.shell("fine", "exec sleep 1000"),
            restart=Restart(base_ms=1, cap_ms=50, crash_loop_count=4, crash_loop_window_ms=60_000),
        )
        own.up(plan)
        status = own.until(lambda status: "CrashLoop" in {each["name"] for each in status["conditions"]})
        found = doctor_live.restart_loops(own.fleet, status, time.time_ns() // 1_000_000)
    finally:
        own.close()
    assert [(one.level, "redis is in a restart loop" in one.text) for one in found] == [("error", True)]


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/usr/bin/python3.11", "-m", "http.server", "80"], "python3.11 -m http.server"),
        (["python3", "/opt/agents/main.py", "--x"], "python3 main.py"),
        (["node", "--max-old-space-size=64", "server.js"], "node server.js"),
        (["/usr/bin/python3", "-c", "print(1)"], "python3"),
        (["/usr/sbin/nginx", "-g", "daemon off;"], "nginx"),
        ([], "kworker"),
    ],
)
def test_names_are_those_of_a_person(argv: list[str], name: str) -> None:
    """An interpreter is not a name: what it runs is."""
    assert outside.label(argv, "kworker") == name
