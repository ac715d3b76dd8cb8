"""Why it exists: a zygote takes its orders from ``sutazaid``, outlives it, and must not outlive the fleet.

One JSON object a line; an order to fork comes with a descriptor. A closed connection means nothing: the zygote tries
again for ever, unless the fleet's guard is dead too.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from sutazai.errors import ProtocolError, UnavailableError
from sutazai.limits import LINE_BYTES_MAX
from sutazai.runtime.kernel import guard_lives
from sutazai.wire.transport import backoff_s

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES = 64 * 1024
_DESCRIPTORS_MAX = 64
ORPHAN_S = 30.0


class SupervisorLink:
    """A connection to ``sutazaid``'s socket that comes back.

    Args:
        path: of the socket.
        guard_file: tells whether the fleet is still there.
    """

    def __init__(self, path: Path, guard_file: Path) -> None:
        self._path, self._guard_file = path, guard_file
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def connect(self, orphan_s: float = ORPHAN_S) -> bool:
        """Connect, trying again as long as the fleet may come back.

        Args:
            orphan_s: without an answer for so long, and without a guard, the fleet is gone.

        Returns:
            Whether it is connected; ``False`` when the fleet is gone.
        """
        self.close()
        began_s = time.monotonic()
        for wait_s in backoff_s(0.02, 0.5):
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connected.connect(str(self._path))
            except OSError:
                connected.close()
                if time.monotonic() - began_s > orphan_s and not guard_lives(self._guard_file):
                    return False
                time.sleep(wait_s)
            else:
                self._socket = connected
                return True
        return False

    def send(self, message: dict[str, Any]) -> None:
        """Send one line.

        Raises:
            UnavailableError: ``sutazaid`` is away.
        """
        if self._socket is None:
            raise UnavailableError("sutazaid is away")
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            self.close()
            raise UnavailableError(f"sutazaid is away: {error}") from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Wait for the next line.

        Args:
            timeout_s: how long; ``None`` for ever.

        Returns:
            The line's object, or ``None`` when the time is over.

        Raises:
            UnavailableError: ``sutazaid`` has gone.
            ProtocolError: the line is no JSON object, or too long; the connection is closed.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                self.close()
                raise ProtocolError(f"a line of more than {LINE_BYTES_MAX} bytes")
            if timeout_s is not None and self._socket is not None and not _is_readable(self._socket, timeout_s):
                return None
            self._read()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except ValueError as error:
            self.close()
            raise ProtocolError(f"a line is no JSON: {error}") from error
        if not isinstance(message, dict):
            self.close()
            raise ProtocolError("a line is a JSON object")
        return message

    def take_descriptor(self) -> int:
        """Give the descriptor that came with the order that was read last, or -1; they come in the orders' order."""
        return self._descriptors.popleft() if self._descriptors else -1

    def _read(self) -> None:
        if self._socket is None:
            raise UnavailableError("sutazaid is away")
        room = socket.CMSG_SPACE(_DESCRIPTORS_MAX * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            self.close()
            raise UnavailableError(f"sutazaid is away: {error}") from error
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data:
            self.close()
            raise UnavailableError("sutazaid closed the connection")
        self._buffer += data

    def close(self) -> None:
        """Close; descriptors that nobody took are closed too, so that children blocked on them end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer.clear()
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.popleft())


def _is_readable(connected: socket.socket, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(connected, select.POLLIN)
    return bool(poller.poll(timeout_s * 1_000))
