"""Why it exists: what a broker promises across kills shows only on a real process with a real socket and a real disk.

``BrokerProcess`` is a broker on its own in a folder of its own, open to instances without tickets. ``python -m
sutazai.testing.broker_process SOCKET AGENT TICKET LOG`` is an instance that echoes and appends to its session's
journal; its log says what it was told.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sutazai.errors import ProtocolError, RefusedError, StorageFullError, UnavailableError
from sutazai.testing.running import Running
from sutazai.wire.transport import BlockingConnection

_START_WAIT_S = 30.0
_ANSWER_S = 30.0
_PAUSE_S = 0.01


class BrokerProcess(Running):
    """A real broker.

    Args:
        *arguments: further ones for its command line.
        folder: where its store lies; a temporary one when none is given.
        tickets: it wants tickets, as in a fleet.

    Attributes:
        command: that is the broker.
    """

    def __init__(self, *arguments: str, folder: Path | None = None, tickets: bool = False) -> None:
        self.run_root = Path(tempfile.mkdtemp(prefix="bk", dir="/tmp"))
        self.state_root = folder or self.run_root
        self.fleet = "t"
        self.command = [sys.executable, "-m", "sutazai.bus"]
        self._arguments = [*arguments, *([] if tickets else ["--open"])]
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []
        self.log = self.run_root / "broker.log"

    @property
    def socket(self) -> Path:
        """Its socket."""
        return self.run_root / self.fleet / "broker.sock"

    @property
    def store(self) -> Path:
        """Its database."""
        return self.state_root / self.fleet / "store.sqlite"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its process.

        Raises:
            UnavailableError: it does not run.
        """
        if self._process is None:
            raise UnavailableError("this broker does not run")
        return self._process

    @property
    def pid(self) -> int:
        """Its process."""
        return 0 if self._process is None else self._process.pid

    def environment(self) -> dict[str, str]:
        """What its processes get."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
        return {**kept, "SUTAZAI_STATE_ROOT": str(self.state_root), "SUTAZAI_RUN_ROOT": str(self.run_root)}

    def start(self, *, wait: bool = True) -> BrokerProcess:
        """Start it, and wait until it takes connections.

        Raises:
            UnavailableError: it does not come up; its log is in the message.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, "--fleet", self.fleet, *self._arguments],
                env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it takes connections.

        Raises:
            UnavailableError: it does not come up; its log is in the message.
        """
        give_up_s = time.monotonic() + _START_WAIT_S
        while time.monotonic() < give_up_s and self._process is not None and self._process.poll() is None:
            try:
                self.client().close()
            except (UnavailableError, ProtocolError, RefusedError):
                time.sleep(_PAUSE_S)
            else:
                return
        raise UnavailableError(f"the broker does not come up: {self.log.read_text(encoding='utf-8')}")

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """SIGTERM; gives its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            code = self._process.wait(_START_WAIT_S)
        finally:
            self._process.kill()
        self._process = None
        return code

    def client(self) -> BlockingConnection:
        """Connect as a client."""
        connection = BlockingConnection.connect(self.socket)
        try:
            connection.request({"t": "hello", "v": 1, "role": "client", "name": "test"}, _ANSWER_S)
        except BaseException:
            connection.close()
            raise
        return connection

    def instance(self, agent: str, ticket: str = "", held: dict[str, Any] | None = None) -> BlockingConnection:
        """Connect as an instance of this process."""
        connection = BlockingConnection.connect(self.socket)
        connection.request(_hello(agent, ticket, held), _ANSWER_S)
        return connection

    def spawn_instance(self, agent: str, ticket: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start an instance as a process; its log is ``<ticket>.log`` in the run folder."""
        command = [sys.executable, "-m", "sutazai.testing.broker_process", str(self.socket), agent, ticket]
        process = subprocess.Popen(
            [*command, str(self.run_root / f"{ticket}.log"), *arguments], env=self.environment()
        )  # fmt: skip
        self._helpers.append(process)
        return process

    def close(self) -> None:
        """End all processes and remove the folder."""
        for helper in self._helpers:
            helper.kill()
            helper.send_signal(signal.SIGCONT)
            helper.wait()
        self.kill()
        shutil.rmtree(self.run_root, ignore_errors=True)


def _hello(agent: str, ticket: str, held: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "t": "hello", "v": 1, "role": "instance", "agent": agent, "ticket": ticket, "token": "", "pid": os.getpid(),
        "held": held,
    }  # fmt: skip


class EchoInstance:
    """Echoes inputs, appends each task to the journal of its session, and repeats a commit until it is answered.

    Args:
        socket: of the broker.
        agent: whose instance.
        ticket: its name.
        log: file that says ``begin``, ``committed`` or ``refused``, with task, token and status.
        work_ms: how long a turn takes.
    """

    def __init__(self, socket: Path, agent: str, ticket: str, log: Path, *, work_ms: int = 0) -> None:
        self._socket, self._agent, self._ticket, self._work_ms = socket, agent, ticket, work_ms
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._connection: BlockingConnection | None = None

    def _say(self, *words: object) -> None:
        os.write(self._log, (" ".join(map(str, words)) + "\n").encode())

    def run(self) -> None:
        """Work for ever."""
        while True:
            try:
                connection = self._connected(None)
                connection.send({"t": "pull"})
                while True:
                    incoming = connection.receive()
                    if incoming is not None and incoming[0]["t"] == "turn":
                        self._turn(incoming[0])
                        connection = self._connected(None)
            except (UnavailableError, ProtocolError):
                self._connection = None

    def _connected(self, held: dict[str, Any] | None) -> BlockingConnection:
        while self._connection is None or self._connection.closed:
            try:
                connection = BlockingConnection.connect(self._socket)
                connection.request(_hello(self._agent, self._ticket, held), _ANSWER_S)
                self._connection = connection
            except (UnavailableError, ProtocolError, RefusedError):
                time.sleep(_PAUSE_S)
        return self._connection

    def _turn(self, turn: dict[str, Any]) -> None:
        task, fence = turn["task"], turn["fence"]
        self._say("begin", task["id"], fence)
        if self._work_ms:
            time.sleep(self._work_ms / 1_000)
        commit = {
            "t": "commit", "task": task["id"], "fence": fence, "outcome": "result", "result": task["input"],
            "state_version": turn["state_version"], "pull": True,
        }  # fmt: skip
        if task["session"] is not None:
            commit["state"] = {"journal": [*(turn["state"] or {"journal": []})["journal"], task["id"]]}
        while True:
            try:
                reply = self._connected({"task": task["id"], "fence": fence}).request(dict(commit), _ANSWER_S)
            except StorageFullError:
                time.sleep(_PAUSE_S)
                continue
            except RefusedError as error:
                self._say("refused", task["id"], fence, error.code)
                self._connected(None).send({"t": "pull"})
                return
            except (UnavailableError, ProtocolError):
                self._connection = None
                continue
            self._say("committed", task["id"], fence, reply["status"])
            return


def main() -> None:
    """Run an echoing instance until it is killed."""
    socket, agent, ticket, log, *rest = sys.argv[1:]
    EchoInstance(Path(socket), agent, ticket, Path(log), work_ms=int(rest[0]) if rest else 0).run()


if __name__ == "__main__":
    main()
