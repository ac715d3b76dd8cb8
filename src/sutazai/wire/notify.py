"""Why it exists: ``sutazaid`` starts the next stage when a process says that it is ready, and asks again after a crash.

The saying happens in a small thread of its own, so that a process of any kind (an event loop, a blocking loop) needs
one line for it. Where there is no fleet (a test, a process started by hand) it does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading

from sutazai.errors import HostError
from sutazai.paths import FleetPaths

BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 2.0
CONNECT_S_MAX = 5.0


class Notifier:
    """Tells ``sutazaid`` that this process is ready, and again each time ``sutazaid`` was restarted.

    Args:
        process: this process's name in the plan.
        path: of ``sutazaid``'s socket; found by ``SUTAZAI_FLEET`` when left out.
    """

    def __init__(self, process: str, path: str = "") -> None:
        self._process = process
        self._path = path or _socket_path()
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def ready(self) -> None:
        """Begin to say it; returns at once. Saying it twice is harmless."""
        if self._path and self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="notify")
            self._thread.start()

    def close(self) -> None:
        """Stop saying it."""
        self._stopped.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(CONNECT_S_MAX)

    def _run(self) -> None:
        wait_s = BACKOFF_BASE_S
        while not self._stopped.is_set():
            if self._say_and_hold():
                wait_s = BACKOFF_BASE_S
            self._stopped.wait(wait_s)
            wait_s = min(BACKOFF_CAP_S, wait_s * 2)

    def _say_and_hold(self) -> bool:
        """Say it over a new connection and hold that until the other side ends; answers whether it was said."""
        lines = ({"id": 1, "op": "hello", "process": self._process}, {"id": 2, "op": "ready", "process": self._process})
        said = False
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_S_MAX)
            connection.connect(self._path)
            self._socket = connection
            connection.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            said = True
            connection.settimeout(None)
            while not self._stopped.is_set() and connection.recv(65_536):
                pass  # replies and pushes are for others; only the end matters here
        self._socket = None
        return said


def _socket_path() -> str:
    fleet = os.environ.get("SUTAZAI_FLEET")
    if not fleet:
        return ""
    with contextlib.suppress(HostError):
        return str(FleetPaths.of(fleet).supervisor_socket)
    return ""
