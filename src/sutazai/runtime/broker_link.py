"""Why it exists: an instance keeps one identity towards the broker over as many connections as it takes.

Each connection begins with the same hello: ticket, token, pid, and the turn that is still held. A broker that was
killed comes back within a second or two; the instance waits for it and goes on.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.errors import ProtocolError, RefusedError, SutazaiError, UnavailableError
from sutazai.limits import HEARTBEAT_MS, LEASE_MS
from sutazai.wire.messages import PROTOCOL_VERSION, check
from sutazai.wire.transport import BlockingConnection, backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HELLO_TIMEOUT_S = 10.0
_BACKOFF_BASE_S = 0.002


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instance is.

    Attributes:
        agent: its agent.
        ticket: its admission.
        token: the secret that belongs to the ticket.
    """

    agent: str
    ticket: str
    token: str


class BrokerLink:
    """The connection to the broker and how to get it back.

    One thread uses it at a time.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._identity = identity
        self._connection: BlockingConnection | None = None
        self._greeted: tuple[BlockingConnection, int] | None = None
        self.heartbeat_s = HEARTBEAT_MS / 1_000
        self.lease_s = LEASE_MS / 1_000

    @property
    def connected(self) -> bool:
        """Whether there is a connection that is not known to be dead."""
        return self._connection is not None and not self._connection.closed

    @property
    def connection(self) -> BlockingConnection:
        """The connection.

        Raises:
            UnavailableError: there is none now.
        """
        if self._connection is None or self._connection.closed:
            raise UnavailableError("the broker is away")
        return self._connection

    def connect(self, held: dict[str, Any] | None) -> None:
        """Try once to connect and to be welcomed.

        Args:
            held: ``{task, fence}`` of the turn that runs, or ``None``.

        Raises:
            UnavailableError: the broker is away.
            RefusedError: it does not take this instance.
            ProtocolError: it does not know the ticket, or speaks another version.
        """
        if held is None and self._greeted is not None:
            connection, number = self._greeted
            self._greeted = None
        else:
            self.drop()
            connection, number = self._hello(held)
        try:
            welcome = connection.reply_to(number, _HELLO_TIMEOUT_S)
            check(welcome, "broker")
        except SutazaiError:
            connection.close()
            raise
        self.heartbeat_s = welcome.get("heartbeat_ms", HEARTBEAT_MS) / 1_000
        self.lease_s = welcome.get("lease_ms", LEASE_MS) / 1_000
        self._connection = connection

    def greet(self) -> None:
        """Connect and say hello; the first ``connect`` takes the answer, or does it again where this failed."""
        with contextlib.suppress(UnavailableError):
            self._greeted = self._hello(None)

    def _hello(self, held: dict[str, Any] | None) -> tuple[BlockingConnection, int]:
        connection = BlockingConnection.connect(self._path)
        hello = {
            "t": "hello",
            "v": PROTOCOL_VERSION,
            "role": "instance",
            "agent": self._identity.agent,
            "ticket": self._identity.ticket,
            "token": self._identity.token,
            "pid": os.getpid(),
            "held": held,
            "files": True,
        }
        try:
            return connection, connection.ask(hello)
        except SutazaiError:
            connection.close()
            raise

    def connect_until(
        self, held: dict[str, Any] | None, give_up_s: float, give_up_early: Callable[[], bool] = lambda: False
    ) -> bool:
        """Try to connect until a time of the monotonic clock.

        Returns:
            Whether it is connected; ``False`` when the time is over or ``give_up_early`` said so. A broker that does
            not know the ticket is asked again too: it may not have heard from ``sutazaid`` yet.
        """
        for wait_s in backoff_s(_BACKOFF_BASE_S, 1.0):
            try:
                self.connect(held)
            except (UnavailableError, RefusedError, ProtocolError):
                if time.monotonic() + wait_s > give_up_s or give_up_early():
                    return False
            else:
                return True
            time.sleep(wait_s)
        return False

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            UnavailableError: the connection is gone.
        """
        self.connection.send(message)

    def receive(self, timeout_s: float | None) -> dict[str, Any] | None:
        """Wait for a message; ``None`` when the time is over.

        Raises:
            UnavailableError: the connection is gone, or the other side no longer speaks the protocol.
        """
        try:
            incoming = self.connection.receive(timeout_s)
            if incoming is None:
                return None
            check(incoming[0], "broker")
        except ProtocolError as error:
            self.drop()
            raise UnavailableError(f"the broker does not speak the protocol: {error}") from error
        return incoming[0]

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            RefusedError: as the broker says.
            ProtocolError: the broker does not take the message; the connection is dropped.
            UnavailableError: the connection is gone, or there was no reply in time (then it is dropped).
        """
        try:
            return self.connection.request(message, timeout_s)
        except (UnavailableError, ProtocolError):
            self.drop()
            raise

    def drop(self) -> None:
        """Close the connection, if there is one."""
        for connection in (self._connection, self._greeted and self._greeted[0]):
            if connection is not None:
                connection.close()
        self._connection = self._greeted = None
