"""Why it exists: the benchmarks measure memory, percentiles and peers in the same way, and print one kind of table."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: A bare agent as a team writes it today: one FastAPI process with a health page and one skill.
FASTAPI_AGENT = """
import sys, time
{imports}
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
app = FastAPI()
started = time.time()
class Work(BaseModel):
    seconds: float = 0.0
@app.get("/health")
def health():
    return {{"status": "healthy", "uptime": time.time() - started}}
@app.post("/work")
def work(request: Work):
    time.sleep(request.seconds)
    return {{"done": True}}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured here, at the alternative, and the promise."""

    what: str
    ours: str
    other: str
    ratio: str
    target: str
    met: bool | None


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table that pastes into Markdown."""
    print(f"\n### {title}\n")
    print("| what | here | alternative | ratio | target | met |")
    print("| --- | --- | --- | --- | --- | --- |")
    marks = {True: "yes", False: "**no**", None: "–"}
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.other} | {row.ratio} | {row.target} | {marks[row.met]} |")
    sys.stdout.flush()


def percentile(values: Sequence[float], share: float) -> float:
    """Pick the value below which a share of all lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def pss_bytes(pids: Sequence[int]) -> int:
    """Add up the proportional set sizes of processes; one that has gone counts nothing."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def cpu_s(pids: Sequence[int]) -> float:
    """Add up the CPU seconds that processes have used."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def fastapi_agents(count: int, imports: Sequence[str] = ()) -> Iterator[list[tuple[int, int]]]:
    """Run bare FastAPI agents; gives (pid, port) of each once all answer, and ends them.

    Args:
        count: how many processes.
        imports: statement that each one runs first (what its work needs), by position; missing ones import nothing.
    """
    processes: list[subprocess.Popen[bytes]] = []
    ports = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for index in range(count):
                script = Path(folder, f"agent{index}.py")
                script.write_text(FASTAPI_AGENT.format(imports=imports[index] if index < len(imports) else ""))
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    ports.append(probe.getsockname()[1])
                processes.append(subprocess.Popen([sys.executable, str(script), str(ports[-1])]))
            for port in ports:
                wait_http(port, "/health")
            yield [(process.pid, port) for process, port in zip(processes, ports, strict=True)]
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(timeout=20)


def wait_http(port: int, path: str, timeout_s: float = 60.0) -> None:
    """Wait until a server answers.

    Raises:
        TimeoutError: it does not in time.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing answers on port {port}")
