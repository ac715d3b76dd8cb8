"""Why it exists: everybody talks to ``sutazaid`` in one JSON object a line, and nobody can hurt it that way.

Server side of ``sutazaid.sock``: accepts, checks the peer's uid, cuts lines, answers, pushes. All bounds are here:
line length, connections, unsent bytes. A peer that sends garbage is told so once and cut off.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.errors import InternalError, ProtocolError, SutazaiError, UnavailableError
from sutazai.limits import LINE_BYTES_MAX
from sutazai.supervisor.journal import say
from sutazai.supervisor.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS_MAX = 256
ACCEPT_PAUSE_MS = 1_000
UNSENT_BYTES_MAX = 16 * LINE_BYTES_MAX
_PEERCRED = struct.Struct("3i")


@dataclass(slots=True)
class Request:
    """One line that was received, and the way to answer it; the answer may come later.

    Attributes:
        op: what is asked.
        body: the whole object.
        connection: from where.
    """

    op: str
    body: dict[str, Any]
    connection: Connection

    def reply(self, **fields: Any) -> None:
        """Answer with success; at most once."""
        self.connection.send({**self._id(), "ok": True, **fields})

    def refuse(self, code: str, error: str) -> None:
        """Answer that it is not done, and why."""
        self.connection.send({**self._id(), "ok": False, "code": code, "error": error})

    def text(self, name: str) -> str:
        """Take a string field.

        Raises:
            ProtocolError: it is missing or no string.
        """
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise ProtocolError(f"{self.op}: {name!r} must be a string that is not empty")
        return value

    def number(self, name: str, default: int) -> int:
        """Take a whole number field.

        Raises:
            ProtocolError: it is no whole number.
        """
        value = self.body.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ProtocolError(f"{self.op}: {name!r} must be a whole number")
        return value

    def _id(self) -> dict[str, Any]:
        return {"id": self.body["id"]} if "id" in self.body else {}


class Connection:
    """One peer of the socket.

    Attributes:
        pid: of the peer when it connected, as the kernel tells.
        uid: of the peer, the same.
        process: the name it gave with ``hello`` or ``register``, else empty.
    """

    def __init__(self, server: LineServer, peer: socket.socket, pid: int, uid: int) -> None:
        self.pid, self.uid = pid, uid
        self.process = ""
        self._server = server
        self._socket = peer
        self._in = bytearray()
        self._out: deque[tuple[bytes, list[int]]] = deque()
        self._out_bytes = 0
        self._closing = False

    @property
    def open(self) -> bool:
        """Whether it can still be written to."""
        return self._socket.fileno() >= 0 and not self._closing

    def send(self, message: dict[str, Any], fd: int = -1) -> None:
        """Queue one line, with a descriptor if one is given (it is duplicated; the caller keeps its own)."""
        if not self.open:
            return
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self._out.append((data, [os.dup(fd)] if fd >= 0 else []))
        self._out_bytes += len(data)
        self._flush()
        if self._out_bytes > UNSENT_BYTES_MAX:
            self.close()

    def push(self, kind: str, **fields: Any) -> None:
        """Tell the peer something it did not ask for."""
        self.send({"push": kind, **fields})

    def finish(self) -> None:
        """Close once everything is sent."""
        self._closing = True
        if not self._out:
            self.close()

    def close(self) -> None:
        """Close now."""
        fd = self._socket.fileno()
        if fd < 0:
            return
        self._server.loop.unwatch(fd)
        self._socket.close()
        for _, fds in self._out:
            for each in fds:
                os.close(each)
        self._out.clear()
        self._server.forget(self)

    def on_event(self, events: int) -> None:
        """Go on reading or writing."""
        if events & WRITE:
            self._flush()
        if events & READ and self._socket.fileno() >= 0:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        while self.open and (end := self._in.find(b"\n")) >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            if len(line) > LINE_BYTES_MAX:
                self._cut_off("the line is too long")
            elif line.strip():
                self._line(line)
        if self.open and len(self._in) > LINE_BYTES_MAX:
            self._cut_off("the line is too long")

    def _line(self, line: bytes) -> None:
        try:
            body = json.loads(line)
        except (ValueError, RecursionError):
            self._cut_off("not JSON")
            return
        if not isinstance(body, dict) or not isinstance(body.get("op"), str):
            self._cut_off('a request is one JSON object with a string "op"')
            return
        self._server.dispatch(Request(body["op"], body, self))

    def _cut_off(self, reason: str) -> None:
        self.send(
            {"ok": False, "code": ProtocolError.code, "error": f"{reason}; one JSON object a line is spoken here"}
        )
        self._in.clear()
        self.finish()

    def _flush(self) -> None:
        while self._out:
            data, fds = self._out[0]
            try:
                sent = socket.send_fds(self._socket, [data], fds) if fds else self._socket.send(data)
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            self._out_bytes -= sent
            for each in fds:
                os.close(each)
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], [])
        if self._closing and not self._out:
            self.close()
            return
        self._server.loop.watch(self._socket.fileno(), READ | WRITE if self._out else READ, self.on_event)


class LineServer:
    """Accepts peers of the right uid and hands on what they ask.

    Attributes:
        guests: user ids of hosting workers; what they may ask is ``ops``' to say.
    """

    def __init__(
        self,
        loop: Loop,
        listening: socket.socket,
        on_close: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self._listening = listening
        self._on_request: Callable[[Request], None] = _unserved
        self._on_close = on_close
        self._connections: set[Connection] = set()
        self.guests: frozenset[int] = frozenset()

    def serve(self, on_request: Callable[[Request], None]) -> None:
        """Begin to accept; what came before waits in the backlog."""
        self._on_request = on_request
        self._listening.settimeout(0)
        self.loop.watch(self._listening.fileno(), READ, self._accept)

    def named(self, process: str) -> Connection | None:
        """The connection that said ``hello`` under this name."""
        return next((each for each in self._connections if each.process == process and each.open), None)

    def all_named(self) -> list[Connection]:
        """All connections that gave a name."""
        return [each for each in self._connections if each.process and each.open]

    def name(self, connection: Connection, process: str) -> None:
        """Give a connection its name; an older one of that name is replaced."""
        for other in list(self._connections):
            if other.process == process and other is not connection:
                other.process = ""
                other.close()
        connection.process = process

    def dispatch(self, request: Request) -> None:
        """Handle one request; whatever goes wrong becomes an answer."""
        try:
            self._on_request(request)
        except InternalError:
            raise
        except SutazaiError as error:
            request.refuse(error.code, str(error))
        except Exception as error:  # noqa: BLE001 one bad request must not end the process that keeps all others alive
            say(f"{request.op} failed\n{traceback.format_exc()}")
            request.refuse(InternalError.code, f"{type(error).__name__}: {error}")

    def forget(self, connection: Connection) -> None:
        """A connection has closed."""
        self._connections.discard(connection)
        self._on_close(connection)

    def close(self) -> None:
        """Send what can be sent, and stop serving; the listening socket belongs to its maker."""
        self.loop.unwatch(self._listening.fileno())
        for connection in list(self._connections):
            connection.close()

    def _accept(self, _events: int) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors: try again later instead of for ever
                say(f"cannot take a connection: {error.strerror}", "error")
                self.loop.unwatch(self._listening.fileno())
                self.loop.after(ACCEPT_PAUSE_MS, lambda: self.serve(self._on_request))
                return
            peer.settimeout(0)
            pid, uid, _ = _PEERCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
            if uid not in {0, os.geteuid(), *self.guests} or len(self._connections) >= CONNECTIONS_MAX:
                peer.close()
                continue
            connection = Connection(self, peer, pid, uid)
            self._connections.add(connection)
            self.loop.watch(peer.fileno(), READ, connection.on_event)


def _unserved(request: Request) -> None:
    """Nothing is served yet."""
    request.refuse(UnavailableError.code, "sutazaid is starting")
