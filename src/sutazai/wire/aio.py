"""Why it exists: the gateway has thousands of requests in flight over one connection to the broker.

``AsyncConnection`` connects when it is first used and again after a loss; a request made while the broker is down
fails at once with ``UnavailableError``, which the edge turns into 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Self

from sutazai.errors import ProtocolError, QueueFullError, SutazaiError, UnavailableError
from sutazai.limits import FRAMES_UNSENT_BYTES_MAX
from sutazai.wire.frames import Decoder, encode
from sutazai.wire.messages import PROTOCOL_VERSION, check, error_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_READ_BYTES = 256 * 1024
_CONNECT_TIMEOUT_S = 5.0
#: Events of one stream that its reader has not taken; beyond it the stream ends with an error.
STREAM_EVENTS_WAITING_MAX = 1_000

_Waiter = asyncio.Future[dict[str, Any]]
_Stream = asyncio.Queue["dict[str, Any] | SutazaiError"]


class AsyncConnection:
    """A client's connection to the broker, shared by all coroutines of one event loop.

    Args:
        path: the broker's socket.
        name: who connects, for the broker's log.
    """

    def __init__(self, path: Path | str, name: str) -> None:
        self._path, self._name = str(path), name
        self._lock = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._waiters: dict[int, _Waiter] = {}
        self._streams: dict[int, _Stream] = {}
        self._next_id = 0

    @property
    def connected(self) -> bool:
        """Whether the connection is up now; a request connects anyway."""
        return self._writer is not None

    async def connect(self) -> None:
        """Connect and say hello, unless it is connected.

        Raises:
            UnavailableError: the broker does not answer.
            ProtocolError: it speaks another version.
        """
        async with self._lock:
            if self._writer is None:
                await self._open()

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
        except (OSError, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer at {self._path}: {error}") from error
        self._writer = writer
        self._reader_task = asyncio.create_task(self._read(reader, writer), name=f"wire-{self._name}")
        hello = {"t": "hello", "v": PROTOCOL_VERSION, "role": "client", "name": self._name, "pid": os.getpid()}
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self._roundtrip(writer, hello)
        except TimeoutError as error:
            self._lose(writer, UnavailableError("the broker took the connection and does not answer"))
            raise UnavailableError("the broker took the connection and does not answer") from error
        except SutazaiError as error:
            self._lose(writer, UnavailableError(str(error)))
            raise

    async def request(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Args:
            message: without ``id``.
            timeout_s: how long; ``None`` waits as long as the connection lives.

        Raises:
            SutazaiError: the one that an ``error`` reply carries.
            UnavailableError: the broker is down, went down before it replied, or took longer than ``timeout_s``.
        """
        await self.connect()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._roundtrip(self._live(), message)
        except TimeoutError as error:
            raise UnavailableError(f"the broker did not answer {message['t']!r} in {timeout_s} s") from error

    async def stream(self, message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send a request whose replies go on until ``end``; gives each reply before it.

        Raises:
            SutazaiError: the one that an ``error`` reply carries.
            UnavailableError: the broker is down or went down.
            QueueFullError: the reader is too slow; ask again from where it stopped.
        """
        await self.connect()
        number = self._number()
        queue: _Stream = asyncio.Queue()
        self._streams[number] = queue
        try:
            await self._send(self._live(), {**message, "id": number})
            while True:
                item = await queue.get()
                if isinstance(item, SutazaiError):
                    raise item
                if item["t"] == "end":
                    return
                yield item
        finally:
            self._streams.pop(number, None)

    async def close(self) -> None:
        """Close; requests in flight fail with ``UnavailableError``."""
        task, writer = self._reader_task, self._writer
        if writer is not None:
            self._lose(writer, UnavailableError("this side closed the connection"))
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id

    def _live(self) -> asyncio.StreamWriter:
        if self._writer is None:
            raise UnavailableError("the connection to the broker was lost")
        return self._writer

    async def _roundtrip(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> dict[str, Any]:
        number = self._number()
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiters[number] = waiter
        try:
            await self._send(writer, {**message, "id": number})
            return await waiter
        finally:
            self._waiters.pop(number, None)

    async def _send(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        data = encode(message)
        if writer.transport.get_write_buffer_size() + len(data) > FRAMES_UNSENT_BYTES_MAX:
            raise UnavailableError("the broker does not read: too much is unsent")
        try:
            writer.write(data)
            await writer.drain()
        except OSError as error:
            self._lose(writer, UnavailableError(f"the connection to the broker was lost: {error}"))
            raise UnavailableError(f"the connection to the broker was lost: {error}") from error

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder()
        reason: SutazaiError = UnavailableError("the broker closed the connection")
        try:
            while data := await reader.read(_READ_BYTES):
                for message, _ in decoder.feed(data):
                    check(message, "broker")
                    self._deliver(message)
        except OSError as error:
            reason = UnavailableError(f"the connection to the broker was lost: {error}")
        except ProtocolError as error:
            reason = error
        finally:
            self._lose(writer, reason)

    def _deliver(self, message: dict[str, Any]) -> None:
        number = message.get("re")
        if (waiter := self._waiters.get(number or 0)) is not None and not waiter.done():
            if message["t"] == "error":
                waiter.set_exception(error_of(message))
            else:
                waiter.set_result(message)
        elif (queue := self._streams.get(number or 0)) is not None:
            if queue.qsize() >= STREAM_EVENTS_WAITING_MAX:
                self._streams.pop(number or 0, None)
                queue.put_nowait(QueueFullError("events come faster than they are read"))
            else:
                queue.put_nowait(error_of(message) if message["t"] == "error" else message)

    def _lose(self, writer: asyncio.StreamWriter, reason: SutazaiError) -> None:
        """Forget a connection and tell everybody who waits; a newer connection is left alone."""
        if self._writer is not writer:
            return
        self._writer = None
        writer.close()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(reason)
        for queue in self._streams.values():
            queue.put_nowait(reason)
