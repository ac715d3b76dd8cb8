"""A real gateway and a real broker as processes, with sockets that were opened for them, and a stand-in for sutazaid.

Everything is event-driven: the stand-in hears who says ready.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

import httpx

from sutazai.paths import FleetPaths
from sutazai.wire.transport import BlockingConnection

WAIT_S = 90.0
TOKEN = "token-of-the-test"
GREET = {
    "name": "greet",
    "description": "Greet somebody.",
    "input": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "output": {"type": "string"},
}
DOORS = ("edge", "agent:hello", "agent:adder", "worker:python-0")


class ReadySocket:
    """The part of sutazaid's socket that hears ``ready``."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.ready = {name: threading.Semaphore(0) for name in ("gateway", "broker", "llm")}
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if message.get("op") == "ready" and message.get("process") in self.ready:
                    self.ready[message["process"]].release()
                connection.sendall(json.dumps({"id": message.get("id"), "ok": True, "status": "yes"}).encode() + b"\n")

    def wait_for(self, process: str) -> None:
        """Wait until a process says that it is ready."""
        if not self.ready[process].acquire(timeout=WAIT_S):
            raise TimeoutError(f"{process} did not say that it is ready")

    def close(self) -> None:
        """Hang up on everybody."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class Rig:
    """Starts and ends the processes of one test fleet."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="gw", dir="/tmp"))
        self.fleet = f"t{os.getpid()}g"
        self.env = {
            **os.environ,
            "SUTAZAI_FLEET": self.fleet,
            "SUTAZAI_STATE_ROOT": str(self.root / "s"),
            "SUTAZAI_RUN_ROOT": str(self.root / "r"),
            "PYTHONUNBUFFERED": "1",
        }
        self.paths = FleetPaths(self.root / "s" / self.fleet, self.root / "r" / self.fleet)
        self.paths.state.mkdir(parents=True)
        self.paths.run.mkdir(parents=True)
        self.paths.token.write_text(TOKEN)
        self.sockets = {name: socket.create_server(("127.0.0.1", 0), backlog=128) for name in DOORS}
        self.ports = {name: entry.getsockname()[1] for name, entry in self.sockets.items()}
        self.paths.plan.write_text(json.dumps(self._plan()))
        self.ready = ReadySocket(self.paths.supervisor_socket)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.http = httpx.Client(timeout=WAIT_S, headers={"Authorization": f"Bearer {TOKEN}"})

    def _plan(self) -> dict[str, Any]:
        agent = {"module": "/nowhere", "version": "1.0", "skills": [GREET]}
        return {
            "version": 1,
            "agents": [{**agent, "name": name, "port": self.ports[f"agent:{name}"]} for name in ("hello", "adder")],
        }

    def __enter__(self) -> Self:
        """Start broker and gateway, wait until both are ready."""
        try:
            self.start("broker")
            self.start("gateway")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all."""
        self.close()

    def start(self, name: str) -> None:
        """Start ``broker`` or ``gateway`` and wait until it is ready."""
        module = {"broker": ["sutazai.bus", "--open"], "gateway": ["sutazai.gateway"]}[name]
        listen = {door: [entry.fileno()] for door, entry in self.sockets.items()} if name == "gateway" else {}
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**self.env, "SUTAZAI_PROCESS": name, "SUTAZAI_LISTEN": json.dumps(listen)},
            pass_fds=[number for numbers in listen.values() for number in numbers],
        )
        self.ready.wait_for(name)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """End a process and wait for it; gives its exit status."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(WAIT_S)

    def url(self, door: str, path: str) -> str:
        """Address of a path behind a door."""
        return f"http://127.0.0.1:{self.ports[door]}{path}"

    def instance(self, agent: str = "hello") -> BlockingConnection:
        """Connect as an instance of an agent; the open broker takes it without a ticket."""
        connection = BlockingConnection.connect_until(self.paths.broker_socket, WAIT_S)
        hello = {"t": "hello", "v": 1, "role": "instance", "agent": agent, "ticket": f"k_{agent}", "token": ""}
        connection.request({**hello, "pid": os.getpid(), "held": None}, WAIT_S)
        return connection

    def close(self) -> None:
        """End all processes, close all sockets, remove all files."""
        self.http.close()
        for name in list(self.processes):
            self.kill(name)
        self.ready.close()
        for entry in self.sockets.values():
            entry.close()
        shutil.rmtree(self.root, ignore_errors=True)


def turn(connection: BlockingConnection) -> dict[str, Any]:
    """Pull one turn."""
    connection.send({"t": "pull", "id": connection.next_id()})
    while True:
        incoming = connection.receive(WAIT_S)
        if incoming is None:
            raise TimeoutError("no turn came")
        if incoming[0]["t"] == "turn":
            return incoming[0]


def commit(connection: BlockingConnection, taken: dict[str, Any], result: Any) -> dict[str, Any]:
    """Commit a turn with a result."""
    message = {"t": "commit", "task": taken["task"]["id"], "fence": taken["fence"], "outcome": "result"}
    return connection.request({**message, "result": result, "emits": [], "effects": [], "pull": False}, WAIT_S)
