"""What is handed to the server behind an agent, byte by byte, over real connections on both sides."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
import uvicorn

from sutazai.gateway import forward as forward_module
from sutazai.gateway.app import Gateway, Places
from sutazai.gateway.directory import Door
from sutazai.wire.serving import ImpatientProtocol, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from sutazai.gateway.tasks import Broker

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TOKEN = "secret-of-the-test"
WAIT_S = 30.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class NoBroker:
    """Is never asked."""

    connected = True

    async def connect(self) -> None:
        """Nothing to do."""


class Doors:
    """A gateway whose agent ``web`` is a server of the test.

    Attributes:
        port: the agent's.
        heard: heads of the requests that reached the server.
        lost: set when a connection to the server has ended.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[bytes] = []
        self.lost = asyncio.Event()

    async def ask(self, text: str) -> bytes:
        """Send a request and read the answer to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text.replace("\n", "\r\n").encode())
        answer = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        return answer


@asynccontextmanager
async def doors(folder: Path, serve: Serve | None = None) -> AsyncIterator[Doors]:
    """Open the gateway's door and the server behind it."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.heard.append(await reader.readuntil(b"\r\n\r\n"))
        if serve is None:
            writer.write(OK)
        else:
            await serve(reader, writer)
        while await reader.read(65_536):
            pass
        made.lost.set()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    web = {
        "name": "web",
        "module": "/nowhere",
        "version": "1",
        "pool": "standard",
        "limits": {"memory_bytes": 1 << 28},
        "skills": [],
        "upstream": {"url": url, "skills": {}},
    }
    (folder / "plan.json").write_text(json.dumps({"version": 1, "agents": [web]}))
    (folder / "token").write_text(TOKEN)
    own = listen(0)
    made = Doors(own.getsockname()[1])
    places = Places(folder / "plan.json", folder / "none", folder / "token", folder / "payloads")
    app = Gateway(places, lambda: cast("Broker", NoBroker()), {made.port: Door.of("agent:web")})
    config = uvicorn.Config(app, http=ImpatientProtocol, ws="none", lifespan="off", log_config=None)
    gateway = uvicorn.Server(config)
    serving = asyncio.create_task(gateway.serve(sockets=[own]))
    try:
        yield made
    finally:
        gateway.should_exit = gateway.force_exit = True
        await serving
        server.close()


def test_who_leaves_is_not_served_on(tmp_path: Path) -> None:
    """A stream without an end is cut off at the server when its reader goes; else each one would stay for ever."""

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")

    async def run() -> None:
        async with doors(tmp_path, endless) as web:
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"data: 1" in await asyncio.wait_for(reader.readuntil(b"data: 1"), WAIT_S)
            assert not web.lost.is_set()
            writer.close()
            await asyncio.wait_for(web.lost.wait(), WAIT_S)

    asyncio.run(run())


def test_a_server_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as long as for an answer, not for ever, and its connection is given up."""
    monkeypatch.setattr(forward_module, "HEAD_S", 0.2)
    told = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await told.wait()

    async def run() -> None:
        async with doors(tmp_path, deaf) as web:
            size = 60 << 20  # more than the kernel keeps on the way
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(f"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
            writer.write(b"x" * size)
            assert b" 504 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), WAIT_S)
            writer.transport.abort()
            told.set()
            await asyncio.wait_for(web.lost.wait(), WAIT_S)

    asyncio.run(run())


def test_the_fleets_token_stays_here(tmp_path: Path) -> None:
    """What opens the whole fleet is not handed to one server; its own credentials are."""

    async def run() -> None:
        async with doors(tmp_path) as web:
            for kind in (f"Bearer {TOKEN}", "Bearer of-the-server"):
                await web.ask(f"GET /a HTTP/1.1\nHost: localhost\nConnection: close\nAuthorization: {kind}\n\n")
            assert [b"authorization" in head.lower() for head in web.heard] == [False, True]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Host: localhost\nOrigin: null\n", b"403"),
        ("Host: localhost\nOrigin: http://evil.example\n", b"403"),
        ("Host: localhost:1\nOrigin: http://localhost:1\n", b"200"),
        ("Host: evil.example:1\nOrigin: http://evil.example:1\n", b"401"),
        ("Host: evil.example\n", b"401"),
        (f"Host: fleet.example\nAuthorization: Bearer {TOKEN}\n", b"200"),
        ("Host: 127.0.0.1:80\n", b"200"),
        ("Host: [::1]:80\n", b"200"),
        ("Host: box.local\n", b"200"),
    ],
)
def test_pages_of_other_sites(tmp_path: Path, head: str, status: bytes) -> None:
    """Neither a sandboxed frame nor a name that was pointed here is this machine's; a machine's own names are."""

    async def run() -> None:
        async with doors(tmp_path) as web:
            answer = await web.ask(f"POST /a HTTP/1.1\n{head}Connection: close\nContent-Length: 0\n\n")
            assert answer.split(b" ")[1] == status, answer
            assert len(web.heard) == (status == b"200")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "framing"),
    [
        ("Content-Length: 3\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n", b""),
        ("Content-Length: 3\nContent-Length: 4\n\nabcd", b""),
        ("Transfer-Encoding: chunked\n\n3\nabc\n0\nX-Trailer: 1\n\n", b"transfer-encoding: chunked"),
        ("Connection: close, content-length\nContent-Length: 3\n\nabc", b""),
        ("Content-Length: 3\n\nabc", b"content-length: 3"),
    ],
)
def test_one_request_stays_one(tmp_path: Path, text: str, framing: bytes) -> None:
    """Whatever a request says of its length, the server hears one meaning of it, or nothing of its body."""

    async def run() -> None:
        async with doors(tmp_path) as web:
            answer = await web.ask(f"POST /a HTTP/1.1\nHost: localhost\nConnection: close\n{text}")
            heads = [head.lower() for head in web.heard]
            if framing:
                assert answer.startswith(b"HTTP/1.1 200")
                assert framing in heads[0]
            for head in heads:
                assert head.count(b"content-length") + head.count(b"transfer-encoding") <= 1
                assert b"trailer" not in head

    asyncio.run(run())


def test_a_target_is_a_path(tmp_path: Path) -> None:
    """The form that a proxy gets is refused: the server might go where it points."""

    async def run() -> None:
        async with doors(tmp_path) as web:
            answer = await web.ask("GET http://10.0.0.1/secret HTTP/1.1\nHost: localhost\nConnection: close\n\n")
            assert answer.startswith(b"HTTP/1.1 400"), answer
            assert web.heard == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("head", "host", "scheme"),
    [("", b"localhost", b"http"), ("X-Forwarded-Host: a.example\nX-Forwarded-Proto: https\n", b"a.example", b"https")],
    ids=["asked directly", "behind a proxy"],
)
def test_who_was_asked_is_told_once(tmp_path: Path, head: str, host: bytes, scheme: bytes) -> None:
    """A proxy before the gateway knows the name and the scheme that the client used; each is told once."""

    async def run() -> None:
        async with doors(tmp_path) as web:
            await web.ask(f"GET /a HTTP/1.1\nHost: localhost\nConnection: close\n{head}\n")
            lines = web.heard[0].lower().split(b"\r\n")
            told = [line for line in lines if line.startswith((b"x-forwarded-host", b"x-forwarded-proto"))]
            assert sorted(told) == [b"x-forwarded-host: " + host, b"x-forwarded-proto: " + scheme]

    asyncio.run(run())


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_answers_without_a_body(tmp_path: Path, method: str) -> None:
    """HEAD and 304 have none, whatever length they tell; an interim answer is no answer."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        status = b"200 OK" if method == "HEAD" else b"304 Not Modified"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 9\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n")

    async def run() -> None:
        async with doors(tmp_path, serve) as web:
            answer = await web.ask(f"{method} /a HTTP/1.1\nHost: localhost\nConnection: close\n\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.split(b" ")[1] == (b"200" if method == "HEAD" else b"304")
            assert body == b""
            assert b"x-own" not in head.lower()

    asyncio.run(run())
