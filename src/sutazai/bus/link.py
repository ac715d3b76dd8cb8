"""Why it exists: the broker's line to ``sutazaid``: asks for instances, hears of tickets, exits, room and drain.

One JSON object a line. It connects for ever: neither side needs the other to live.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

from sutazai.limits import LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Answered = Callable[[dict[str, Any]], None]

_PAUSE_FIRST_S = 0.05
_PAUSE_S_MAX = 1.0
_REQUESTS_MAX = 4_096
_UNSENT_BYTES_MAX = 8 * LINE_BYTES_MAX

_log = logging.getLogger(__name__)


class Link:
    """Talks to ``sutazaid``.

    Args:
        path: of its socket.
        told: gets what it says on its own.
        linked: is told when the line is there and when it is gone.
    """

    def __init__(self, path: Path, told: Callable[[dict[str, Any]], None], linked: Callable[[bool], None]) -> None:
        self._path, self._told, self._linked = path, told, linked
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, Answered | None] = {}

    def send(self, request: dict[str, Any], answered: Answered | None = None) -> bool:
        """Send a request; ``answered`` gets the reply, or never hears when the line breaks.

        Returns:
            Whether it was sent.
        """
        writer = self._writer
        if writer is None or len(self._asked) >= _REQUESTS_MAX:
            return False
        if writer.transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
            return False
        number = next(self._numbers)
        self._asked[number] = answered
        writer.write(json.dumps({**request, "id": number}, separators=(",", ":")).encode() + b"\n")
        return True

    async def run(self, hello: list[dict[str, Any]]) -> None:
        """Connect, say hello, listen; for ever."""
        pause_s = _PAUSE_FIRST_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LINE_BYTES_MAX)
            except OSError:
                await asyncio.sleep(pause_s)
                pause_s = min(_PAUSE_S_MAX, pause_s * 2)
                continue
            pause_s = _PAUSE_FIRST_S
            self._writer = writer
            try:
                for request in hello:
                    self.send(request)
                self._linked(True)  # noqa: FBT003 a callback
                await self._listen(reader)
            except (OSError, ValueError) as error:
                _log.warning("the line to sutazaid broke: %s", error)
            finally:
                self._writer = None
                self._asked.clear()
                writer.close()
                self._linked(False)  # noqa: FBT003 a callback
            await asyncio.sleep(pause_s)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "push" in message:
                self._hear(message)
                continue
            answered = self._asked.pop(message.get("id"), None)
            if answered is not None:
                answered(message)

    def _hear(self, message: dict[str, Any]) -> None:
        try:
            self._told(message)
        except (KeyError, TypeError, AttributeError) as error:
            _log.warning("sutazaid said %r, which lacks a field: %s", message.get("push"), error)
