"""Why it exists: the command line, demos and tests steer processes by asking ``sutazaid``, one JSON line at a time."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any, Self

from sutazai.client import where
from sutazai.errors import BY_CODE, ProtocolError, RefusedError, SutazaiError, UnavailableError
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

TIMEOUT_S_DEFAULT = 10.0
STOP_TIMEOUT_S_DEFAULT = 180.0
ANSWER_BYTES_MAX = 16 * MIB
_HELLO_ID = 0


class SupervisorClient:
    """Talks to ``sutazaid``; connects when it is first asked and again when the connection has gone.

    Only the fleet's own user and root are answered. Every method raises ``UnavailableError`` when nobody answers.
    """

    def __init__(self, fleet: str | None = None, *, timeout_s: float = TIMEOUT_S_DEFAULT, name: str = "") -> None:
        """Name the fleet; connects to nothing.

        Args:
            fleet: its name; without it ``SUTAZAI_FLEET``, else the only one that is up.
            timeout_s: longest wait for one answer.
            name: what ``sutazaid`` is to call this connection; an older one of that name is closed by it.
        """
        self._fleet, self._timeout_s, self._name = fleet, timeout_s, name
        #: Process id of ``sutazaid``, when this connection has a name; 0 without a connection.
        self.pid = 0
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._next_id = 0

    def __enter__(self) -> Self:
        """Give itself; nothing is opened yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.pid = 0
        self._buffer.clear()

    def status(self) -> dict[str, Any]:
        """The fleet's snapshot, as ``/v1/status`` gives it but without the broker's numbers and sources."""
        return self.request("status")

    def conditions(self) -> list[dict[str, Any]]:
        """What holds now."""
        found: list[dict[str, Any]] = self.request("conditions")["conditions"]
        return found

    def condition(self, name: str, subject: str, *, active: bool, text: str = "") -> None:
        """Raise or clear a condition that this process knows of."""
        self.request("condition", name=name, subject=subject, active=active, text=text)

    def restart(self, process: str) -> dict[str, Any]:
        """End a process and start it again.

        Raises:
            NotFoundError: there is no such process.
        """
        return self.request("restart", process=process)

    def plan(self, path: Path | str) -> dict[str, Any]:
        """Swap the plan; a refused one changes nothing.

        Raises:
            RefusedError: it cannot be read or does not fit.
        """
        return self.request("plan", path=str(path))

    def stop(self, timeout_s: float = STOP_TIMEOUT_S_DEFAULT) -> None:
        """Drain and end the fleet; returns when all its processes are gone.

        Raises:
            UnavailableError: it did not end in time.
        """
        self.request("stop", _timeout_s=timeout_s)

    def request(self, op: str, *, _timeout_s: float = 0.0, **arguments: Any) -> dict[str, Any]:
        """Ask and wait for the answer; pushes in between are dropped.

        Raises:
            UnavailableError: nobody answers, or not in time.
            SutazaiError: ``sutazaid`` refused; the class follows from its code.
        """
        timeout_s = _timeout_s or self._timeout_s
        self._next_id += 1
        line = json.dumps({"id": self._next_id, "op": op, **arguments}).encode() + b"\n"
        paths = where.find(self._fleet)
        try:
            reply = self._exchange(paths.supervisor_socket, line, time.monotonic() + timeout_s)
        except OSError as error:
            self.close()
            where.not_answering(paths, "sutazaid", error)
        if reply.get("ok"):
            return reply
        raise _error(str(reply.get("code", "")), str(reply.get("error", "")) or f"sutazaid refused {op}")

    def _exchange(self, path: Path, line: bytes, give_up_at: float) -> dict[str, Any]:
        fresh = self._socket is None
        try:
            self._send(path, line, give_up_at)
            return self._receive(self._next_id, give_up_at)
        except (BrokenPipeError, ConnectionResetError):
            # sutazaid was restarted since the last request: the old connection is dead, a new one is not.
            self.close()
            if fresh:
                raise
            self._send(path, line, give_up_at)
            return self._receive(self._next_id, give_up_at)

    def _send(self, path: Path, line: bytes, give_up_at: float) -> None:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            with contextlib.ExitStack() as undo:
                undo.callback(connection.close)
                connection.settimeout(_left_s(give_up_at))
                connection.connect(str(path))
                undo.pop_all()
            self._socket = connection
            if self._name:
                hello = {"id": _HELLO_ID, "op": "hello", "process": self._name}
                self._socket.sendall(json.dumps(hello).encode() + b"\n")
                self.pid = int(self._receive(_HELLO_ID, give_up_at).get("pid") or 0)
        self._socket.settimeout(_left_s(give_up_at))
        self._socket.sendall(line)

    def _receive(self, number: int, give_up_at: float) -> dict[str, Any]:
        while True:
            while (end := self._buffer.find(b"\n")) >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                message = _decode(line)
                if message.get("id") == number or ("ok" in message and "id" not in message):
                    return message
            if self._socket is None or len(self._buffer) > ANSWER_BYTES_MAX:
                raise ProtocolError("sutazaid's answer is too long")
            self._socket.settimeout(_left_s(give_up_at))
            data = self._socket.recv(256 * 1024)
            if not data:
                raise ConnectionResetError(104, "the connection was closed before an answer")
            self._buffer += data


def _left_s(give_up_at: float) -> float:
    left = give_up_at - time.monotonic()
    if left <= 0:
        raise TimeoutError(110, "no answer in time")
    return left


def _decode(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ProtocolError("sutazaid's answer is no JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("sutazaid's answer is no JSON object")
    return message


def _error(code: str, detail: str) -> SutazaiError:
    if code == UnavailableError.code:
        return UnavailableError(detail)
    if code == ProtocolError.code:
        return ProtocolError(detail)
    return BY_CODE.get(code, RefusedError)(detail)
