"""Full task cycles a second through the real broker: submit, claim, commit, each on disk, many instances.

``python bench/queue_core.py [--instances 24] [--clients 8] [--seconds 10] [--rate 0]``; the broker is a process of its
own, instances and clients share one other process. With ``--rate`` the load is paced, which shows latencies without a
queue in front. ``--store postgres`` starts a PostgreSQL of its own for the tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sutazai.wire import frames


class Wire(asyncio.Protocol):
    """A connection whose messages go to a function."""

    def __init__(self, hear: Any) -> None:
        self.hear = hear
        self.decoder = frames.Decoder()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Hand messages on."""
        for message, _ in self.decoder.feed(data):
            self.hear(self, message)

    def send(self, message: dict[str, Any]) -> None:
        """Send one."""
        if self.transport is not None:
            self.transport.write(frames.encode(message))


class Load:
    """Clients that keep a number of tasks under way, and instances that echo."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.started: dict[str, float] = {}
        self.accept_ms: list[float] = []
        self.cycle_ms: list[float] = []
        self.done = self.number = 0
        self.running = True
        self.asked: dict[int, float] = {}

    def instance(self, wire: Wire, message: dict[str, Any]) -> None:
        """Echo."""
        if message["t"] == "welcome":
            wire.send({"t": "pull"})
        elif message["t"] == "turn":
            task = message["task"]
            wire.send(
                {
                    "t": "commit",
                    "id": message["fence"],
                    "task": task["id"],
                    "fence": message["fence"],
                    "outcome": "result",
                    "result": {"echo": task["input"]},
                    "state": None,
                    "state_version": 0,
                    "emits": [],
                    "effects": [],
                    "pull": True,
                }
            )

    def client(self, wire: Wire, message: dict[str, Any]) -> None:
        """Wait for each accepted task; a finished one makes room for the next."""
        now = time.perf_counter()
        if message["t"] == "welcome":
            if not self.arguments.rate:
                for _ in range(self.arguments.window):
                    self.submit(wire)
        elif message["t"] == "accepted":
            self.accept_ms.append((now - self.asked[message["re"]]) * 1_000)
            for task in message["tasks"]:
                self.started[task["id"]] = self.asked.pop(message["re"])
                self.number += 1
                wire.send({"t": "wait", "id": self.number, "task": task["id"], "timeout_ms": 60_000})
        elif message["t"] == "task":
            self.cycle_ms.append((now - self.started.pop(message["task"]["id"])) * 1_000)
            self.done += 1
            if self.running and not self.arguments.rate:
                self.submit(wire)
        else:
            print("unexpected", message)

    def submit(self, wire: Wire) -> None:
        """Submit one."""
        self.number += 1
        agent = f"agent{self.number % self.arguments.agents}"
        self.asked[self.number] = time.perf_counter()
        task = {"agent": agent, "skill": "echo", "input": {"text": "x" * 100, "number": self.number}}
        wire.send({"t": "submit", "id": self.number, "tasks": [task]})

    async def run(self, path: str) -> None:
        """Make the load."""
        loop = asyncio.get_running_loop()
        for number in range(self.arguments.instances):
            _, wire = await loop.create_unix_connection(lambda: Wire(self.instance), path)
            wire.send(
                {
                    "t": "hello",
                    "v": 1,
                    "role": "instance",
                    "agent": f"agent{number % self.arguments.agents}",
                    "ticket": f"k{number}",
                    "token": "",
                    "pid": os.getpid(),
                    "held": None,
                    "id": 0,
                }
            )
        clients = []
        for _ in range(self.arguments.clients):
            _, wire = await loop.create_unix_connection(lambda: Wire(self.client), path)
            wire.send({"t": "hello", "v": 1, "role": "client", "name": "bench", "id": 0})
            clients.append(wire)
        await asyncio.sleep(1)
        self.done, self.accept_ms, self.cycle_ms = 0, [], []
        started = time.perf_counter()
        if self.arguments.rate:
            count = 0
            while (passed := time.perf_counter() - started) < self.arguments.seconds:
                while count < passed * self.arguments.rate:
                    self.submit(clients[count % len(clients)])
                    count += 1
                await asyncio.sleep(0.001)
        else:
            await asyncio.sleep(self.arguments.seconds)
        passed = time.perf_counter() - started
        self.running = False
        print(
            f"{self.done / passed:8.0f} full cycles/s over {passed:.1f} s "
            f"({self.arguments.instances} instances, {self.arguments.agents} agents, {self.arguments.clients} clients)"
        )
        for name, times in (("submit to accepted", self.accept_ms), ("submit to result", self.cycle_ms)):
            times.sort()
            picks = [times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99, 0.999)]
            print(f"{name:20} p50 {picks[0]:7.2f}  p99 {picks[1]:7.2f}  p99.9 {picks[2]:7.2f} ms")


def pss_mb(pid: int) -> float:
    """Proportional memory of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Start a broker, load it, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=24)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--window", type=int, default=16, help="tasks under way for each client")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=0, help="tasks a second; 0 is as many as possible")
    parser.add_argument("--profile", default="", help="write the broker's profile to this file")
    parser.add_argument("--folder", default="", help="where the store lies; default: a temporary folder")
    parser.add_argument("--dispatch-url-file", default="", help="dispatch over the RabbitMQ that this file names")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="database of the tasks")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        store = ["--store", "sqlite"]
        if arguments.store == "postgres":
            from sutazai.testing.postgres_server import PostgresServer

            server = stack.enter_context(PostgresServer())
            store = ["--store", "postgres", "--store-dsn-file", str(server.new_dsn_file())]
        measure(arguments, store)


def measure(arguments: argparse.Namespace, store: list[str]) -> None:
    """Load a broker on a store."""
    folder = Path(tempfile.mkdtemp(prefix="qc", dir=arguments.folder or None))
    environment = {**os.environ, "SUTAZAI_STATE_ROOT": str(folder), "SUTAZAI_RUN_ROOT": str(folder)}
    environment.pop("SUTAZAI_LISTEN", None)
    profile = ["-m", "cProfile", "-o", arguments.profile] if arguments.profile else []
    dispatch = ["--dispatch", "rabbitmq", "--dispatch-url-file", arguments.dispatch_url_file]
    broker = subprocess.Popen(
        [sys.executable, *profile, "-m", "sutazai.bus", "--fleet", "bench", "--open", *store,
         *(dispatch if arguments.dispatch_url_file else [])], env=environment
    )  # fmt: skip
    try:
        socket = folder / "bench" / "broker.sock"
        while not socket.exists():
            time.sleep(0.02)
        time.sleep(0.5)
        print(f"broker idle: {pss_mb(broker.pid):.1f} MB PSS")
        asyncio.run(Load(arguments).run(str(socket)))
        ticks = [int(n) for n in Path(f"/proc/{broker.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]]
        print(f"broker loaded: {pss_mb(broker.pid):.1f} MB PSS, {sum(ticks) / os.sysconf('SC_CLK_TCK'):.1f} s of CPU")
        print(json.dumps(statistics(str(socket)), indent=None))
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.wait()
        shutil.rmtree(folder)


def statistics(path: str) -> dict[str, Any]:
    """Ask the broker for its own numbers."""
    from sutazai.wire.transport import BlockingConnection

    connection = BlockingConnection.connect(Path(path))
    connection.request({"t": "hello", "v": 1, "role": "client", "name": "bench"})
    answer = connection.request({"t": "stats"})
    return {key: answer[key] for key in ("totals", "latency", "store", "dispatch")}


if __name__ == "__main__":
    main()
