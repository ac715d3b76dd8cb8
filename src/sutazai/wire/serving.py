"""Why it exists: our HTTP processes serve on sockets that ``sutazaid`` opened, and a slow client must not hold them.

One way to start uvicorn for gateway, llm and control: inherited sockets, no access log, a bound on the time that a
request's head may take, an end that is an exit status and not a signal.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sutazai.errors import ConfigError
from sutazai.limits import HEADER_WAIT_MS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEEP_ALIVE_S = 30
GRACE_S = 3
HEAD_BYTES_MAX = 64 * 1024
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request head is not complete in time.

    uvicorn itself bounds only the idle time between two requests.
    """

    header_wait_s: float = HEADER_WAIT_MS_MAX / 1_000
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Stop waiting when a head is complete, begin when a part of one arrived."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_wait_s, self._too_slow)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


def inherited() -> dict[str, list[socket.socket]]:
    """Take over the sockets that ``SUTAZAI_LISTEN`` names, by name; empty when there are none.

    Raises:
        ConfigError: the variable is no JSON object of lists of descriptors, or a descriptor is no open socket.
    """
    text = os.environ.get("SUTAZAI_LISTEN", "")
    try:
        table = {name: [int(number) for number in numbers] for name, numbers in json.loads(text or "{}").items()}
        return {name: [socket.socket(fileno=number) for number in numbers] for name, numbers in table.items()}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(f"SUTAZAI_LISTEN does not name open sockets: {error}") from error


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Open a socket of one's own, for a process that was started by hand; port 0 takes any."""
    return socket.create_server((host, port), reuse_port=False, backlog=1024)


def serve(app: Any, sockets: Sequence[socket.socket], on_started: Callable[[], None] = lambda: None) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT, then let open requests end for ``GRACE_S`` seconds.

    Args:
        app: the application.
        sockets: bound ones; this process's copies are closed at the end.
        on_started: called when requests are taken.
    """
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        backlog=1024,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ended)  # uvicorn raises the signal again at its end; that is no second death
    asyncio.run(_Server(config, on_started).serve(sockets=list(sockets)))


def _ended(number: int, frame: object) -> None:
    """Nothing left to do: the server has ended because of this signal."""
