"""Why it exists: connects the broker to its socket: bytes in, frames out, nobody may make it hold more than a bound.

A reader that does not read is cut off when its unsent bytes reach the limit; nothing is dropped silently.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

from sutazai.bus.watch import error_message
from sutazai.errors import ProtocolError, RefusedError, UnavailableError
from sutazai.limits import (
    BROKER_UNHANDLED_BYTES_MAX,
    CONNECTIONS_MAX,
    FRAMES_UNSENT_BYTES_MAX,
    GROUP_COMMIT_OPERATIONS_MAX,
    HELLO_BYTES_MAX,
    OPERATIONS_PENDING_MAX,
)
from sutazai.wire import frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sutazai.bus.broker import Broker
    from sutazai.bus.sessions import Session

_CREDENTIALS = struct.Struct("3i")
_BACKLOG = 1_024

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """One peer.

    Args:
        server: it belongs to.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._decoder = frames.Decoder()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._closing = False
        self._unknown_bytes = 0
        self.uid = self.pid = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read the peer's credentials from the kernel and take it in."""
        self._transport = transport  # type: ignore[assignment]
        peer: socket.socket = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, _ = _CREDENTIALS.unpack(raw)
        if len(self._server.connections) >= CONNECTIONS_MAX:
            self.send(error_message(UnavailableError(f"the broker has {CONNECTIONS_MAX} connections, the bound")))
            self.close()
            return
        self._server.connections.add(self)
        self._session = self._server.broker.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's signature
        """The peer is gone."""
        self._transport = None
        self._server.connections.discard(self)
        session, self._session = self._session, None
        if session is not None:
            self._server.broker.disconnected(session)

    def data_received(self, data: bytes) -> None:
        """Cut messages out and hand them to the broker."""
        broker = self._server.broker
        if self._session is not None and not self._session.role:
            self._unknown_bytes += len(data)
        try:
            if self._unknown_bytes > HELLO_BYTES_MAX:
                raise ProtocolError(f"more than {HELLO_BYTES_MAX} bytes and no hello")  # noqa: TRY301 one way out
            for message, blobs in self._decoder.feed(data):
                if self._closing or self._session is None:
                    return
                broker.received(self._session, message, blobs)
        except ProtocolError as error:
            self.send(error_message(error))
            self.close()
        self._server.flush()
        self._server.hold(self, len(data))

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    def send(self, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Send a message with the next flush; several to one peer leave together."""
        if self._transport is None or self._closing:
            return
        try:
            data = frames.encode(message, blobs)
        except ProtocolError as error:
            refused = RefusedError(f"the answer cannot be sent: {error}")
            data = frames.encode({**error_message(refused), "re": message.get("re")})
        if not self._out:
            self._server.dirty.append(self)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > FRAMES_UNSENT_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what was sent."""
        transport, out = self._transport, self._out
        if transport is None or not out:
            out.clear()
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()
        self._out_bytes = 0
        if transport.get_write_buffer_size() > FRAMES_UNSENT_BYTES_MAX:
            _log.warning("process %d does not read what it asked for: its connection is cut", self.pid)
            transport.abort()

    def close(self) -> None:
        """Close after what was sent."""
        if self._closing:
            return
        self.flush()
        self._closing = True
        if self._transport is not None:
            self._transport.close()


class Server:
    """Takes connections.

    Args:
        broker: that serves them.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.connections: set[Connection] = set()
        self.dirty: list[Connection] = []
        self._paused: list[Connection] = []
        self._unhandled_bytes = 0
        self._server: asyncio.AbstractServer | None = None

    def flush(self) -> None:
        """Write what was sent to anybody."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                connection.flush()
        self._resume()

    def hold(self, connection: Connection, size: int) -> None:
        """Count what was read; a peer that sends faster than the disk takes it waits in its own socket."""
        pending = self.broker.journal.pending
        self._unhandled_bytes = self._unhandled_bytes + size if pending else 0
        if self._unhandled_bytes > BROKER_UNHANDLED_BYTES_MAX or len(pending) > OPERATIONS_PENDING_MAX:
            connection.pause()
            self._paused.append(connection)

    def _resume(self) -> None:
        if self._paused and len(self.broker.journal.pending) < GROUP_COMMIT_OPERATIONS_MAX:
            self._unhandled_bytes = 0
            paused, self._paused = self._paused, []
            for connection in paused:
                connection.resume()

    async def start(self, listening: socket.socket) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listening, backlog=_BACKLOG)

    async def close(self) -> None:
        """Take no more, and close those that are open."""
        if self._server is not None:
            self._server.close()
        self.flush()
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)


def bind(path: Path) -> socket.socket:
    """Listen on a unix socket that all uids may connect to; guarded by tickets and peer credentials.

    Only for a broker that nobody handed a socket.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o666)
    listening.listen(_BACKLOG)
    return listening
