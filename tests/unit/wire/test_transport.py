"""Both sides of a connection, over real unix sockets, without a broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import FencedError, ProtocolError, QueueFullError, UnavailableError
from sutazai.wire import aio
from sutazai.wire.aio import AsyncConnection
from sutazai.wire.frames import Decoder, encode
from sutazai.wire.transport import BlockingConnection, backoff_s

if TYPE_CHECKING:
    from pathlib import Path

Handler = Callable[[dict[str, Any], socket.socket], None]


class FakeBroker:
    """Accepts connections and answers each message by a handler, in a thread."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path, self.handler = path, handler
        self.connections: list[socket.socket] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                for message, _ in decoder.feed(data):
                    self.handler(message, connection)

    def drop(self) -> None:
        """Close all connections, as a killed broker does."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.connections.clear()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()


def answer(message: dict[str, Any], connection: socket.socket) -> None:
    """Answer as the tests below expect it."""
    number = message.get("id")
    match message["t"]:
        case "hello":
            connection.sendall(encode({"t": "welcome", "re": number, "v": 1}))
        case "get" if message["task"] == "slow":
            pass
        case "get" if message["task"] == "noise":
            connection.sendall(encode({"t": "drain"}))
            connection.sendall(encode({"t": "task", "re": number, "task": {"id": "noise"}}))
        case "get" if message["task"] == "fenced":
            connection.sendall(encode({"t": "error", "re": number, "code": "fenced", "detail": "too late"}))
        case "get" if message["task"] == "garbage":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        case "get" if message["task"] == "die":
            connection.shutdown(socket.SHUT_RDWR)
        case "get":
            connection.sendall(encode({"t": "task", "re": number, "task": {"id": message["task"]}}))
        case "watch":
            for seq in range(int(message["task"])):
                connection.sendall(encode({"t": "event", "re": number, "event": {"seq": seq}}))
            connection.sendall(encode({"t": "end", "re": number}))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FakeBroker]:
    """A broker that speaks just enough."""
    fake = FakeBroker(tmp_path / "b.sock", answer)
    yield fake
    fake.close()


def test_blocking_request_keeps_what_else_arrives(broker: FakeBroker) -> None:
    """A push that comes before the reply is not lost: the next receive gives it."""
    with BlockingConnection.connect(broker.path) as connection:
        assert connection.request({"t": "get", "task": "noise"})["task"] == {"id": "noise"}
        assert connection.waiting
        assert connection.receive(0) == ({"t": "drain"}, [])
        assert connection.receive(0) is None


def test_blocking_errors(broker: FakeBroker) -> None:
    """An error reply raises its class; silence, garbage and a closed peer each have their own error."""
    with BlockingConnection.connect(broker.path) as connection:
        with pytest.raises(FencedError, match="too late"):
            connection.request({"t": "get", "task": "fenced"})
        with pytest.raises(UnavailableError, match="no reply"):
            connection.request({"t": "get", "task": "slow"}, timeout_s=0.01)
        with pytest.raises(ProtocolError):
            connection.request({"t": "get", "task": "garbage"})
        assert connection.closed
    with BlockingConnection.connect(broker.path) as connection, pytest.raises(UnavailableError):
        connection.request({"t": "get", "task": "die"})


def test_nobody_listens(tmp_path: Path) -> None:
    """Connecting to nothing is UnavailableError, at once or after the patience is over."""
    with pytest.raises(UnavailableError):
        BlockingConnection.connect(tmp_path / "none.sock")
    with pytest.raises(UnavailableError):
        BlockingConnection.connect_until(tmp_path / "none.sock", patience_s=0.02)


def test_connect_until_waits_for_the_broker(tmp_path: Path) -> None:
    """A broker that comes up later is found."""
    fakes: list[FakeBroker] = []
    timer = threading.Timer(0.05, lambda: fakes.append(FakeBroker(tmp_path / "b.sock", answer)))
    timer.start()
    try:
        with BlockingConnection.connect_until(tmp_path / "b.sock", patience_s=30) as connection:
            assert connection.request({"t": "get", "task": "x"})["task"] == {"id": "x"}
    finally:
        timer.join()
        for fake in fakes:
            fake.close()


def test_backoff_grows_to_its_cap() -> None:
    """Waits between tries double up to the cap, with jitter below it."""
    waits = backoff_s(0.1, 1.0)
    values = [next(waits) for _ in range(8)]
    assert 0.05 <= values[0] <= 0.1
    assert all(0.5 <= value <= 1.0 for value in values[5:])


def test_async_many_requests_at_once(broker: FakeBroker) -> None:
    """Hundreds of requests share one connection and each gets its own reply."""

    async def scenario() -> None:
        async with AsyncConnection(broker.path, "test") as connection:
            replies = await asyncio.gather(*(connection.request({"t": "get", "task": f"t{n}"}) for n in range(300)))
        assert [reply["task"]["id"] for reply in replies] == [f"t{n}" for n in range(300)]
        assert len(broker.connections) == 1

    asyncio.run(scenario())


def test_async_reconnects_after_a_loss(broker: FakeBroker) -> None:
    """Requests in flight fail at once when the broker dies; the next request connects again."""

    async def scenario() -> None:
        async with AsyncConnection(broker.path, "test") as connection:
            lost = asyncio.create_task(connection.request({"t": "get", "task": "slow"}))
            await connection.request({"t": "get", "task": "x"})
            broker.drop()
            with pytest.raises(UnavailableError):
                await lost
            assert not connection.connected
            assert (await connection.request({"t": "get", "task": "y"}))["task"] == {"id": "y"}

    asyncio.run(scenario())


def test_async_errors(broker: FakeBroker, tmp_path: Path) -> None:
    """Error replies, silence, garbage and a missing broker raise what they should."""

    async def scenario() -> None:
        async with AsyncConnection(broker.path, "test") as connection:
            with pytest.raises(FencedError):
                await connection.request({"t": "get", "task": "fenced"})
            with pytest.raises(UnavailableError, match="did not answer"):
                await connection.request({"t": "get", "task": "slow"}, timeout_s=0.01)
            with pytest.raises(ProtocolError):
                await connection.request({"t": "get", "task": "garbage"})
        with pytest.raises(UnavailableError):
            await AsyncConnection(tmp_path / "none.sock", "test").request({"t": "get", "task": "x"})

    asyncio.run(scenario())


def test_async_stream(broker: FakeBroker) -> None:
    """A stream gives its events in order and ends; a request runs beside it."""

    async def scenario() -> None:
        async with AsyncConnection(broker.path, "test") as connection:
            events = [item["event"]["seq"] async for item in connection.stream({"t": "watch", "task": "5"})]
            assert events == [0, 1, 2, 3, 4]
            assert (await connection.request({"t": "get", "task": "x"}))["task"] == {"id": "x"}

    asyncio.run(scenario())


def test_async_stream_of_a_slow_reader_ends(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that does not keep up gets an error in place of memory without bound."""
    monkeypatch.setattr(aio, "STREAM_EVENTS_WAITING_MAX", 10)

    async def scenario() -> None:
        async with AsyncConnection(broker.path, "test") as connection:
            stream = connection.stream({"t": "watch", "task": "50"})
            first = await anext(stream)
            assert first["event"]["seq"] == 0
            await connection.request({"t": "get", "task": "x"})
            with pytest.raises(QueueFullError):
                async for _ in stream:
                    pass

    asyncio.run(scenario())
