"""Why it exists: an agent's instance has no event loop of its own; it needs a blocking connection that it can wait on.

The connection is not thread-safe: its owner sees to it that one thread uses it at a time.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from sutazai.errors import ProtocolError, UnavailableError
from sutazai.wire.frames import Decoder, encode
from sutazai.wire.messages import error_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_READ_BYTES = 64 * 1024  # small enough that the memory for it is not mapped anew by the kernel for each message
BACKOFF_BASE_S = 0.01
BACKOFF_CAP_S = 1.0

Incoming = tuple[dict[str, Any], list[bytes]]


def backoff_s(base_s: float = BACKOFF_BASE_S, cap_s: float = BACKOFF_CAP_S) -> Iterator[float]:
    """Give waiting times for tries to connect: each about double the last, up to ``cap_s``, with jitter, for ever."""
    wait_s = base_s
    while True:
        yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311 spreads reconnects, is no secret
        wait_s = min(cap_s, wait_s * 2)


class BlockingConnection:
    """A connection to the broker's socket for code that blocks."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.setblocking(True)  # noqa: FBT003 the standard library's signature
        self._poller = select.poll()
        self._poller.register(connected, select.POLLIN)
        self._decoder = Decoder()
        self._arrived: deque[Incoming] = deque()
        self._next_id = 0
        self._closed = False

    @classmethod
    def connect(cls, path: Path | str, timeout_s: float = 5.0) -> BlockingConnection:
        """Connect once.

        Raises:
            UnavailableError: nobody listens there, or the backlog stays full for ``timeout_s``.
        """
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connected.settimeout(timeout_s)
        try:
            connected.connect(str(path))
        except OSError as error:
            connected.close()
            raise UnavailableError(f"cannot connect to {path}: {error.strerror or error}") from error
        return cls(connected)

    @classmethod
    def connect_until(cls, path: Path | str, patience_s: float) -> BlockingConnection:
        """Connect, trying again with growing waits for ``patience_s`` seconds.

        Raises:
            UnavailableError: it did not succeed in time.
        """
        give_up_at = time.monotonic() + patience_s
        for wait_s in backoff_s():
            try:
                return cls.connect(path, timeout_s=max(0.1, give_up_at - time.monotonic()))
            except UnavailableError:
                if time.monotonic() + wait_s > give_up_at:
                    raise
            time.sleep(wait_s)
        raise UnavailableError(f"cannot connect to {path}")

    def fileno(self) -> int:
        """Give the descriptor, for ``select`` and friends; look at ``waiting`` first."""
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether a message has already been read and waits for ``receive``."""
        return bool(self._arrived)

    @property
    def readable(self) -> bool:
        """Whether ``receive`` would not wait."""
        return bool(self._arrived) or self._readable(0)

    @property
    def closed(self) -> bool:
        """Whether this side has closed it, or found the other side gone."""
        return self._closed

    def next_id(self) -> int:
        """Make the next request number of this connection."""
        self._next_id += 1
        return self._next_id

    def send(self, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Send one message.

        Raises:
            ProtocolError: the message cannot be written.
            UnavailableError: the connection is gone.
        """
        data = encode(message, blobs)
        try:
            self._socket.sendall(data)
        except OSError as error:
            self.close()
            raise UnavailableError(f"the connection is gone: {error.strerror or error}") from error

    def receive(self, timeout_s: float | None = None) -> Incoming | None:
        """Wait for the next message.

        Args:
            timeout_s: how long; ``None`` for ever, 0 only looks.

        Returns:
            The message and its raw bytes, or ``None`` when the time is over.

        Raises:
            ProtocolError: the other side does not speak the protocol; the connection is closed.
            UnavailableError: the other side has closed.
        """
        if self._arrived:
            return self._arrived.popleft()
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._arrived:
            if give_up_at is not None and not self._readable(max(0.0, give_up_at - time.monotonic())):
                return None
            self._read()
        return self._arrived.popleft()

    def request(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """Send a message with a fresh ``id`` and wait for its reply; what else arrives waits for ``receive``.

        Raises:
            SutazaiError: the one that an ``error`` reply carries.
            UnavailableError: the connection is gone, or no reply came in ``timeout_s``.
        """
        return self.reply_to(self.ask(message), timeout_s)

    def exchange(
        self, message: dict[str, Any], blobs: Sequence[bytes] = (), timeout_s: float | None = None
    ) -> Incoming:
        """Send a request with raw bytes, and give its reply with those that belong to it; raises as ``request``."""
        return self._reply_to(self.ask(message, blobs), timeout_s)

    def ask(self, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> int:
        """Send a message with a fresh ``id``, to be given to ``reply_to``.

        Raises:
            ProtocolError: the message cannot be written.
            UnavailableError: the connection is gone.
        """
        number = self.next_id()
        self.send({**message, "id": number}, blobs)
        return number

    def reply_to(self, number: int, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for the reply to ``ask``; what else arrives waits for ``receive``.

        Raises:
            SutazaiError: the one that an ``error`` reply carries.
            UnavailableError: the connection is gone, or no reply came in ``timeout_s``.
        """
        return self._reply_to(number, timeout_s)[0]

    def _reply_to(self, number: int, timeout_s: float | None) -> Incoming:
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        others: deque[Incoming] = deque()
        try:
            while True:
                left_s = None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
                incoming = self.receive(left_s)
                if incoming is None:
                    raise UnavailableError(f"no reply to request {number} in {timeout_s} s")
                if incoming[0].get("re") == number:
                    break
                others.append(incoming)
        finally:
            self._arrived.extendleft(reversed(others))
        if incoming[0]["t"] == "error":
            raise error_of(incoming[0])
        return incoming

    def _readable(self, timeout_s: float) -> bool:
        return self._closed or bool(self._poller.poll(timeout_s * 1_000))  # a number that is closed may be another's

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            self.close()
            raise UnavailableError(f"the connection is gone: {error.strerror or error}") from error
        if not data:
            self.close()
            raise UnavailableError("the other side closed the connection")
        try:
            self._arrived.extend(self._decoder.feed(data))
        except ProtocolError:
            self.close()
            raise

    def close(self) -> None:
        """Close this side; doing it twice is harmless."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
