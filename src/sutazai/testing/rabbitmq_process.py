"""Why it exists: what is promised across kills, cuts and alarms of RabbitMQ shows only on a real one.

``RabbitMQProcess`` is a RabbitMQ of its own, started by the recipe that ships, in a temporary folder and on free ports.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from sutazai.errors import UnavailableError
from sutazai.services.ports import free_ports
from sutazai.units import MIB

MEMORY_BYTES = 384 * MIB
_START_WAIT_S = 90.0
_STOP_WAIT_S = 30.0
_PAUSE_S = 0.05
_HEADER = b"AMQP\x00\x00\x09\x01"


class RabbitMQProcess:
    """A real RabbitMQ."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rq", dir="/tmp"))
        self.state = self.folder / "state"
        self.log = self.folder / "log"
        self.port, self.management_port, self._mapper_port, self._distribution_port = free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> Path:
        """File with its URL."""
        return self.state / "url"

    @property
    def pid(self) -> int:
        """Of the server."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> RabbitMQProcess:
        """Start it and wait until it takes connections.

        Raises:
            UnavailableError: it does not come up; the end of its log is in the message.
        """
        command = [
            sys.executable, "-m", "sutazai.services", "rabbitmq", "--state", str(self.state), "--port", str(self.port),
            "--management-port", str(self.management_port), "--memory", str(MEMORY_BYTES),
            "--mapper-port", str(self._mapper_port), "--distribution-port", str(self._distribution_port),
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        give_up_s = time.monotonic() + _START_WAIT_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                raise UnavailableError(f"RabbitMQ does not come up: {self.log.read_text(encoding='utf-8')[-3_000:]}")
            time.sleep(_PAUSE_S)
        return self

    def is_ready(self) -> bool:
        """Whether it answers an AMQP header with a method frame."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as wire:
                wire.sendall(_HEADER)
                return wire.recv(1) == b"\x01"
        except OSError:
            return False

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """SIGTERM; gives its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        code = self._process.wait(_STOP_WAIT_S)
        self._process = None
        return code

    def control(self, *words: str) -> str:
        """Run ``rabbitmqctl``."""
        command = [sys.executable, "-m", "sutazai.services", "rabbitmqctl", "--state", str(self.state), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_STOP_WAIT_S, check=False)
        if done.returncode:
            raise UnavailableError(f"rabbitmqctl {' '.join(words)}: {done.stdout[-500:]} {done.stderr[-500:]}")
        return done.stdout

    def api(self, path: str, *, method: str = "GET", body: Any = None) -> Any:
        """Ask the management API; gives what it answers, None for nothing."""
        address = urllib.parse.urlsplit((self.state / "management-url").read_text(encoding="utf-8").strip())
        words = base64.b64encode(f"{address.username}:{address.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}/api/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {words}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=_STOP_WAIT_S) as answer:  # noqa: S310 the same
            text = answer.read()
        return json.loads(text) if text else None

    def cut_connections(self) -> int:
        """Close all client connections from the server's side, at least one; gives how many there were."""
        give_up_s = time.monotonic() + _STOP_WAIT_S
        while not (found := self.api("connections")) and time.monotonic() < give_up_s:
            time.sleep(_PAUSE_S)
        for each in found:
            self.api(f"connections/{urllib.parse.quote(each['name'], safe='')}", method="DELETE")
        return len(found)

    def queue(self, name: str) -> dict[str, Any] | None:
        """What the management API says of a queue, None when there is none."""
        try:
            found: dict[str, Any] = self.api(f"queues/%2F/{urllib.parse.quote(name, safe='')}")
        except urllib.error.HTTPError:
            return None
        return found

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
