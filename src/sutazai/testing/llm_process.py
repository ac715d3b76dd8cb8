"""Why it exists: tests of clients need the real model server, as a process with a port of its own, and its real end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from typing import Any

WAIT_S = 120.0


class LlmProcess:
    """``python -m sutazai.llm`` on a port of its own.

    Args:
        port: to listen on; 0 takes any.
        env: what it is told beside our own environment.
    """

    def __init__(self, port: int = 0, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sutazai.llm", "--port", str(port)],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""  # printed when the port is open
        if "127.0.0.1:" not in line:
            self.end()
            raise AssertionError(f"the model server did not start: {line!r}")
        self.port = int(line.split("127.0.0.1:")[1].split(",")[0])
        self.url = f"http://127.0.0.1:{self.port}"

    def health(self) -> dict[str, Any]:
        """What the server says about itself."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=WAIT_S) as response:  # noqa: S310 our own port
            found: dict[str, Any] = json.load(response)
        return found

    def is_free(self) -> bool:
        """Whether it stops working for anybody; asks at most 600 times."""
        return any(self.health()["active"] == 0 for _ in range(600))

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the process; gives its status."""
        self.process.send_signal(number)
        status = self.process.wait(WAIT_S)
        if self.process.stdout:
            self.process.stdout.close()
        return status
