"""Why it exists: what is promised of a Valkey that goes away and comes back shows only on a real one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import UnavailableError
from sutazai.services.ports import free_ports
from sutazai.units import MIB

if TYPE_CHECKING:
    import signal

_MEMORY_BYTES = 64 * MIB
_START_WAIT_S = 30.0
_PAUSE_S = 0.02


class ValkeyProcess:
    """A Valkey by the recipe that ships, in a temporary folder, on a free port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vk", dir="/tmp"))
        self.url_file = self.folder / "state/url"
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ValkeyProcess:
        """Start it and wait until it takes connections.

        Raises:
            UnavailableError: it does not come up; its log is in the message.
        """
        command = [
            sys.executable, "-m", "sutazai.services", "valkey", "--state", str(self.folder / "state"),
            "--port", str(self.port), "--memory", str(_MEMORY_BYTES),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        give_up_s = time.monotonic() + _START_WAIT_S
        while time.monotonic() < give_up_s and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(_PAUSE_S)
            else:
                return self
        raise UnavailableError(f"Valkey does not come up: {(self.folder / 'log').read_text(encoding='utf-8')[-2_000:]}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
