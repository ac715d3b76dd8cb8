"""Why it exists: the peers get real servers, started by the product's own recipes, and ended with the benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY_BYTES = {"rabbitmq": 768 << 20, "valkey": 256 << 20, "postgres": 512 << 20}
#: File in which a recipe writes how a client reaches its server.
ADDRESS = {"rabbitmq": "url", "valkey": "url", "postgres": "dsn"}
READY_S = 60.0


@contextlib.contextmanager
def running(names: set[str], folder: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Start servers; gives environment variables with their addresses, and why one is absent."""
    environment: dict[str, str] = {}
    absent: dict[str, str] = {}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name in sorted(names):
            process, why = _start(name, folder / f"server-{name}")
            if process is None:
                absent[name] = why
                continue
            processes.append(process)
            environment[f"BENCH_{name.upper()}"] = (folder / f"server-{name}" / ADDRESS[name]).read_text().strip()
        yield environment, absent
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            process.kill()
            process.wait()


def _start(name: str, state: Path) -> tuple[subprocess.Popen[bytes] | None, str]:
    state.mkdir(mode=0o755)
    port = _free_port()
    command = [sys.executable, "-m", "sutazai.services", name, "--state", str(state), "--port", str(port)]
    if name == "rabbitmq":
        command += ["--management-port", str(_free_port())]
    log = (state.parent / f"{name}.log").open("wb")
    process = subprocess.Popen(
        [*command, "--memory", str(MEMORY_BYTES[name])], stdout=log, stderr=log, env={**os.environ}
    )
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            if (state / ADDRESS[name]).exists():
                if name == "valkey":
                    _sync_always(port, (state / "password").read_text().strip())
                return process, ""
        time.sleep(0.05)
    process.kill()
    process.wait()
    return None, (state.parent / f"{name}.log").read_text(errors="replace")[-400:].strip()


def _sync_always(port: int, password: str) -> None:
    """Let results be on disk before they count as recorded, and none be evicted."""
    words = [("AUTH", password), ("CONFIG", "SET", "appendfsync", "always"),
             ("CONFIG", "SET", "maxmemory-policy", "noeviction")]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for parts in words:
            coded = "".join(f"${len(part)}\r\n{part}\r\n" for part in parts)
            connection.sendall(f"*{len(parts)}\r\n{coded}".encode())
            answer = connection.recv(1_024)
            if not answer.startswith(b"+OK"):
                raise SystemExit(f"Valkey refused {parts[0]}: {answer!r}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
