"""Why it exists: what a supervisor promises shows only on real processes: a test gets a ``sutazaid`` of its own.

A throw-away fleet with its own name, folders, sockets and groups: it never meets a running fleet, and ``close`` leaves
nothing behind, whatever the test has killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.host import procfs
from sutazai.host.cgroup import detect_groups
from sutazai.supervisor.contract import Agent, PlanFile, Pool, Process, Ready, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0
_numbers = itertools.count(1)


class Peer:
    """One connection to ``sutazaid.sock`` that speaks its protocol."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(os.fspath(path))
        self.pushes: list[dict[str, Any]] = []
        self.fds: list[int] = []
        self._buffer = b""
        self._ids = itertools.count(1)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request and take its answer; pushes in between are kept."""
        number = next(self._ids)
        self.send({"op": op, "id": number, **fields})
        while True:
            message = self._receive()
            if message.get("id") == number:
                return message
            self.pushes.append(message)

    def send(self, message: dict[str, Any]) -> None:
        """Send one line."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def push(self, kind: str) -> dict[str, Any]:
        """Take the next push of a kind, kept or to come."""
        for index, message in enumerate(self.pushes):
            if message.get("push") == kind:
                return self.pushes.pop(index)
        while True:
            message = self._receive()
            if message.get("push") == kind:
                return message
            self.pushes.append(message)

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data, fds, _, _ = socket.recv_fds(self.socket, 65_536, 8)
            self.fds += fds
            if not data:
                raise ConnectionError("sutazaid has closed the connection")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)


class OwnSutazaid:
    """A fleet under test.

    Attributes:
        fleet: its name, unique on this machine.
        state: its state folder.
        run: its folder of sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.fleet = f"t{os.getpid()}x{next(_numbers)}"
        self._run_root = Path(tempfile.mkdtemp(prefix="su", dir="/tmp"))
        self._run_root.chmod(0o755)
        self.state = folder / "state" / self.fleet
        self.run = self._run_root / self.fleet
        self.plan_path = self.state / "plan.json"
        self.seen_pids: set[int] = set()

    def service(self, name: str, code: str, **fields: Any) -> Process:
        """Describe a process that runs a few lines of Python."""
        values: dict[str, Any] = {"kind": "service", "pool": "standard", "stage": "services", **fields}
        return Process(name=name, argv=[sys.executable, "-S", "-c", code], **values)

    def shell(self, name: str, script: str, **fields: Any) -> Process:
        """Describe a process that runs a few lines of shell."""
        values: dict[str, Any] = {"kind": "service", "pool": "standard", "stage": "services", **fields}
        return Process(name=name, argv=["/bin/sh", "-c", script], **values)

    def plan(
        self, *processes: Process, workers: list[Worker] | None = None, agents: list[Agent] | None = None, **fields: Any
    ) -> PlanFile:
        """Compose a plan with two pools and three stages."""
        values: dict[str, Any] = {
            "pools": [Pool("standard", 1 << 30), Pool("platform", 512 << 20)],
            "stages": ["store", "services", "edge"],
            **fields,
        }
        return PlanFile(
            fleet=self.fleet,
            digest=values.pop("digest", "d1"),
            state_dir=str(self.state),
            run_dir=str(self.run),
            python=sys.executable,
            processes=list(processes),
            workers=workers or [],
            agents=agents or [],
            **values,
        )

    def start(self, plan: PlanFile, *options: str, uid: int = -1) -> subprocess.CompletedProcess[str]:
        """Write the plan and start ``sutazaid`` with it; it goes to the background by itself."""
        self.state.mkdir(parents=True, exist_ok=True)
        plan.dump(self.plan_path)
        if uid >= 0:
            for path in (self._run_root, self.state, self.plan_path):
                os.chown(path, uid, uid)
        return self.start_again(*options, uid=uid)

    def start_again(self, *options: str, uid: int = -1) -> subprocess.CompletedProcess[str]:
        """Start ``sutazaid`` with the plan file as it is."""
        return subprocess.run(
            [sys.executable, "-m", "sutazai.supervisor", "--plan", str(self.plan_path), *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
            user=uid if uid >= 0 else None,
            group=uid if uid >= 0 else None,
            extra_groups=[] if uid >= 0 else None,
            cwd="/",
        )

    def up(self, plan: PlanFile, *, uid: int = -1) -> dict[str, Any]:
        """Start, and wait until every stage is through."""
        done = self.start(plan, uid=uid)
        if done.returncode:
            raise RuntimeError(f"sutazaid did not start: {done.stderr}\n{self.log()}")
        return self.until(lambda status: status["state"] in {"up", "degraded"})

    def peer(self) -> Peer:
        """Connect to the socket."""
        return Peer(self.run / "sutazaid.sock")

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask one thing over a connection of its own."""
        peer = self.peer()
        try:
            return peer.ask(op, **fields)
        finally:
            peer.close()

    def status(self) -> dict[str, Any]:
        """Ask for the whole picture."""
        status = self.ask("status")
        self.seen_pids |= {row["pid"] for row in status["processes"] + status["instances"] if row["pid"]}
        return status

    def until(self, holds: Callable[[dict[str, Any]], bool], wait_s: float = WAIT_S) -> dict[str, Any]:
        """Ask for the status again and again until something holds; survives a ``sutazaid`` that is being restarted."""
        end_s = time.monotonic() + wait_s
        status: dict[str, Any] = {}
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                status = self.status()
                if holds(status):
                    return status
            time.sleep(0.05)
        raise TimeoutError(f"did not come true in {wait_s} s: {json.dumps(status, indent=1)}\n{self.log()}")

    def process(self, name: str) -> dict[str, Any]:
        """One process' row of the status."""
        return row(self.status(), name)

    def guard_pid(self) -> int:
        """Pid of the guard; 0 when there is none."""
        try:
            return int((self.run / "guard.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    def sutazaid_pid(self) -> int:
        """Pid of ``sutazaid`` itself."""
        return int(self.ask("hello", process="test")["pid"])

    def log(self, name: str = "sutazaid") -> str:
        """What a process has printed."""
        try:
            return (self.state / "logs" / f"{name}.log").read_text(errors="replace")
        except OSError:
            return ""

    def stop(self) -> dict[str, Any]:
        """Stop the fleet, and wait until the guard has ended, too."""
        guard = self.guard_pid()
        answer = self.ask("stop")
        self.gone([guard])
        return answer

    def gone(self, pids: list[int], wait_s: float = WAIT_S) -> None:
        """Wait until processes have ended."""
        end_s = time.monotonic() + wait_s
        while left := [pid for pid in pids if pid and procfs.identity(pid) is not None]:
            if time.monotonic() > end_s:
                raise TimeoutError(f"still there: {left}\n{self.log()}")
            time.sleep(0.02)

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        own = [self.guard_pid()]
        with contextlib.suppress(OSError, ConnectionError, TimeoutError, KeyError):
            own.append(self.sutazaid_pid())
        with contextlib.suppress(OSError, ConnectionError, TimeoutError, KeyError):
            for pid in [instance["pid"] for instance in self.status()["instances"]]:
                if pid > 0 and procfs.identity(pid) is not None:  # a stop would wait its whole grace for it
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError, ConnectionError, TimeoutError):
            self.stop()
        for pid in own:
            if pid and procfs.identity(pid) is not None:
                os.kill(pid, signal.SIGKILL)
        self.gone(own)
        if self.state.exists():
            detect_groups(self.fleet, self.state).destroy()
        shutil.rmtree(self._run_root, ignore_errors=True)


def row(status: dict[str, Any], name: str) -> dict[str, Any]:
    """One process' row of a status."""
    found: dict[str, Any] = next(each for each in status["processes"] if each["name"] == name)
    return found


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now, outside the range of outgoing connections."""
    for port in range(20_000 + os.getpid() % 8_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


def http_ready(port: int, path: str = "/", timeout_ms: int = 20_000) -> Ready:
    """Ready when an HTTP server answers 2xx."""
    return Ready("http", port=port, path=path, timeout_ms=timeout_ms)
