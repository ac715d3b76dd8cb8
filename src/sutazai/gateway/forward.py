"""Why it exists: who called an HTTP agent before it was one of a fleet goes on calling it, on the agent's own port.

What the gateway does not answer itself is handed to the server behind the agent, and its answer is handed back as it
comes; nothing is kept. Bodies are bounded, waits are bounded, and a server that is away is told with 503.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import h11
from starlette.requests import ClientDisconnect

from sutazai.gateway.problems import Problem
from sutazai.limits import BODY_WAIT_MS_MAX, FORWARD_BODY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping

    from starlette.requests import Request

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONNECT_S = 5.0
HEAD_S = 300.0
READ_BYTES = 65_536
#: Of one connection only (RFC 9110, 7.6.1); the length is told anew by whoever sends.
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade".split()
)


async def forward(request: Request, url: str, send: Send, *, hide_token: bool = False) -> None:
    """Hand a request to a server and its answer to the client.

    Args:
        request: as it came in.
        url: of the server.
        send: takes the answer's messages.
        hide_token: its ``Authorization`` is for the gateway, and no business of the server.

    Raises:
        Problem: 400 it names no path, 403 another site's page sent it, 413 too large, 408 too slow, 501 it wants to
            change the protocol, 502 the server speaks no HTTP, 503 it is away, 504 it does not answer.
        ClientDisconnect: nobody waits for the answer any more; the server is told by the end of the connection.
    """
    _refuse(request)
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(parts.hostname, parts.port or 80, limit=READ_BYTES), CONNECT_S
        )
    except (OSError, TimeoutError) as error:
        headers = {"Retry-After": "1"}
        raise Problem(503, "unavailable", f"the server behind this agent is away: {error}", headers=headers) from error
    try:
        wire = _Wire(h11.Connection(h11.CLIENT), reader, writer)
        await wire.ask(request, parts.netloc, hide_token=hide_token)
        await _answer_or_leave(wire, request, send)
    except h11.RemoteProtocolError as error:
        raise Problem(502, "bad-gateway", f"the server behind this agent speaks no HTTP: {error}") from error
    except OSError as error:
        raise Problem(502, "bad-gateway", f"the server behind this agent broke the connection: {error}") from error
    finally:
        if writer.transport.get_write_buffer_size():  # the server does not read: closing would wait for it
            writer.transport.abort()
        writer.close()


def _refuse(request: Request) -> None:
    """Refuse what cannot be handed on, and what a page of another site sent without its user's knowledge."""
    if request.headers.get("upgrade"):
        raise Problem(501, "not-implemented", "only plain HTTP is handed on; use the server's own port")
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):  # "null" is any page in a sandboxed frame
        raise Problem(403, "forbidden", f"a page of {origin[:100]} may not use this agent")
    if int(request.headers.get("content-length") or 0) > FORWARD_BODY_BYTES_MAX:
        raise _too_large()


@dataclass(slots=True)
class _Wire:
    """One connection to the server."""

    http: h11.Connection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: Request, host: str, *, hide_token: bool) -> None:
        """Send the request; a server that answers before it has read all is listened to."""
        ours = {b"host", b"expect", b"authorization"} if hide_token else {b"host", b"expect"}
        headers = [(name, value) for name, value in _end_to_end(request.headers.raw) if name not in ours]
        client = request.client.host if request.client else "127.0.0.1"
        headers += [
            (b"host", host.encode()),
            (b"connection", b"close"),
            (b"x-forwarded-for", client.encode()),
        ]
        if "x-forwarded-host" not in request.headers:  # a proxy before us knows better
            headers.append((b"x-forwarded-host", request.headers.get("host", "").encode()))
        if "x-forwarded-proto" not in request.headers:
            headers.append((b"x-forwarded-proto", request.url.scheme.encode()))
        if "content-length" not in request.headers and "transfer-encoding" in request.headers:
            headers.append((b"transfer-encoding", b"chunked"))
        raw = request.scope.get("raw_path") or request.scope["path"].encode()
        if not raw.startswith(b"/"):  # a proxy's form: a server might go where it points
            raise Problem(400, "bad-request", "the request's target must be a path")
        target = raw.split(b"?")[0] + (b"?" + query if (query := request.scope.get("query_string", b"")) else b"")
        with contextlib.suppress(ConnectionError):
            await self._write(h11.Request(method=request.method, target=target, headers=headers))
            async for chunk in _body(request):
                await self._write(h11.Data(data=chunk))
            await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        try:
            data = self.http.send(event)
        except h11.LocalProtocolError as error:
            raise Problem(400, "bad-request", f"this request cannot be handed on: {error}") from error
        if data:
            self.writer.write(data)
        try:
            await asyncio.wait_for(self.writer.drain(), HEAD_S)
        except TimeoutError as error:
            detail = f"the server behind this agent read nothing for {HEAD_S:.0f} s"
            raise Problem(504, "timeout", detail) from error

    async def next(self) -> Any:
        """Wait for the next part of the answer.

        Raises:
            Problem: 504, nothing came.
        """
        while (event := self.http.next_event()) is h11.NEED_DATA:
            try:
                data = await asyncio.wait_for(self.reader.read(READ_BYTES), HEAD_S)
            except TimeoutError as error:
                detail = f"the server behind this agent said nothing for {HEAD_S:.0f} s"
                raise Problem(504, "timeout", detail) from error
            self.http.receive_data(data)
        return event


async def _body(request: Request) -> AsyncIterator[bytes]:
    size = 0
    stream = request.stream().__aiter__()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), BODY_WAIT_MS_MAX / 1_000)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Problem(408, "timeout", f"nothing of the body came for {BODY_WAIT_MS_MAX} ms") from error
        size += len(chunk)
        if size > FORWARD_BODY_BYTES_MAX:
            raise _too_large()
        if chunk:
            yield chunk


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out what belongs to one connection: the known ones, and those that ``Connection`` names."""
    found = list(headers)
    named = {part.strip().lower() for name, value in found if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in found if name not in _HOP and name not in named]


async def _answer_or_leave(wire: _Wire, request: Request, send: Send) -> None:
    """Hand the answer back as long as somebody waits for it: a stream may have no end."""
    answering, leaving = asyncio.ensure_future(_answer(wire, send)), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        await answering
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer(wire: _Wire, send: Send) -> None:
    event = await wire.next()
    while isinstance(event, h11.InformationalResponse):
        event = await wire.next()
    if not isinstance(event, h11.Response):
        raise h11.RemoteProtocolError("it closed the connection without an answer")
    await send({"type": "http.response.start", "status": event.status_code, "headers": _end_to_end(event.headers)})
    while isinstance(event := await wire.next(), h11.Data):
        await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
    if not isinstance(event, h11.EndOfMessage):
        raise h11.RemoteProtocolError("it closed the connection in the middle of its answer")
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _too_large() -> Problem:
    detail = f"the body is larger than {FORWARD_BODY_BYTES_MAX} bytes; use the server's own port"
    return Problem(413, "body-too-large", detail, headers={"Connection": "close"})
