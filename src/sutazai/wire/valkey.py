"""Why it exists: Valkey may be away at any time, and nobody may wait for it: what it holds can be done without.

``ValkeyLink`` answers, or says within a quarter of a second that the server does not. After that it says so at once,
and looks by itself, in the background, until the server is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from sutazai.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 0.25
LOOK_EVERY_S = 0.5
PING_EVERY_S = 2.0
CONNECTIONS_MAX = 8
_log = logging.getLogger(__name__)


class ValkeyLink:
    """A few connections to one server, made when they are needed.

    Args:
        url_file: holds ``redis://:PASSWORD@HOST:PORT/DATABASE``, mode 600; read again for each new connection.
        timeout_s: for one answer.
    """

    def __init__(self, url_file: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._url_file, self._timeout_s = url_file, timeout_s
        self._client: Any = None
        self._why = ""
        self._since_s = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def away(self) -> bool:
        """Whether the server did not answer when it was last asked."""
        return bool(self._why)

    async def ask(self, *words: Any) -> Any:
        """Run a command.

        Raises:
            UnavailableError: the server is away, or says that it cannot.
        """
        if self._why:
            raise UnavailableError(f"Valkey is away: {self._why}")
        return await self._ask(words)

    async def _ask(self, words: tuple[Any, ...]) -> Any:
        try:
            from valkey.exceptions import ResponseError, ValkeyError
        except ImportError as error:
            await self._lost(f"its Python client is not installed: {error}; run: scripts/bootstrap base valkey")
            raise UnavailableError(f"Valkey is away: {self._why}") from error
        try:
            async with asyncio.timeout(self._timeout_s * 2):
                return await self._connected().execute_command(*words)
        except ResponseError as error:  # the server answers: it is not away
            raise UnavailableError(f"Valkey says {error}") from error
        except (ValkeyError, OSError, TimeoutError, ValueError) as error:
            await self._lost(str(error) or "no answer in time")
            raise UnavailableError(f"Valkey is away: {self._why}") from error

    def _connected(self) -> Any:
        if self._client is None:
            from valkey.asyncio import BlockingConnectionPool, Valkey

            url = self._url_file.read_text(encoding="utf-8").strip()
            pool = BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS_MAX, timeout=self._timeout_s, socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
            )  # fmt: skip
            self._client = Valkey(connection_pool=pool)
        return self._client

    async def _lost(self, why: str) -> None:
        if not self._why:
            _log.warning("Valkey is away, it is done without: %s", why)
            self._since_s = time.monotonic()
        self._why = why
        await self._drop()
        if self._looking is None and not self._closed:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="valkey")

    async def _look(self) -> None:
        """Ask until it answers."""
        while not self._closed:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(UnavailableError):
                await self._ask(("PING",))
                _log.warning("Valkey is back after %.1f s", time.monotonic() - self._since_s)
                self._why, self._looking = "", None
                return

    async def watch(self) -> None:
        """Look now and then whether it answers, also when nobody asks for anything; runs until it is cancelled."""
        while True:
            if not self._why:
                with contextlib.suppress(UnavailableError):
                    await self.ask("PING")
            await asyncio.sleep(PING_EVERY_S)

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose(close_connection_pool=True)

    def facts(self) -> dict[str, Any]:
        """``{state, why, for_ms}``."""
        if not self._why:
            return {"state": "up", "why": "", "for_ms": 0}
        return {"state": "away", "why": self._why, "for_ms": round((time.monotonic() - self._since_s) * 1_000)}

    async def close(self) -> None:
        """Let go of it."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        await self._drop()
