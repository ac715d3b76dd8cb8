"""Readings of control: arranged by subject, shared by all who ask in a second, given up when they are too old."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sutazai.errors import UnavailableError
from sutazai.gateway import status as module
from sutazai.gateway.directory import Door
from sutazai.gateway.status import Reading, StatusCache, arrange, get_json


def instance(cpu_usec: int) -> dict[str, Any]:
    """One instance with a CPU counter."""
    return {"ticket": "k_1", "agent": "hello", "cpu_usec": cpu_usec, "memory_bytes": 1, "started_wall_ms": 1_000}


def test_cpu_is_the_share_since_the_reading_before() -> None:
    """The first reading averages since the start, the next since the one before; a counter that fell begins anew."""
    first = arrange({"at_wall_ms": 3_000, "instances": [instance(1_000_000)]}, Reading())
    assert first.agent("hello").cpu_percent == 50.0
    second = arrange({"at_wall_ms": 4_000, "instances": [instance(1_100_000)]}, first)
    assert second.agent("hello").cpu_percent == 10.0
    third = arrange({"at_wall_ms": 5_000, "instances": [instance(400_000)]}, second)
    assert third.agent("hello").cpu_percent == 10.0


def test_usage_is_unknown_only_without_a_reading() -> None:
    """An agent without an instance uses nothing and that is known; without a reading it is not."""
    assert arrange({"at_wall_ms": 1}, Reading()).agent("adder").known
    assert not Reading().agent("adder").known


def test_many_askers_share_one_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty health pages in one second ask control once."""
    fetched = []

    async def fake(socket: Path, path: str) -> dict[str, Any]:
        fetched.append(path)
        await asyncio.sleep(0)
        return {"at_wall_ms": 5}

    async def ask() -> None:
        cache = StatusCache(Path("/nowhere"))
        readings = await asyncio.gather(*(cache.read() for _ in range(50)))
        assert all(reading.known for reading in readings)

    monkeypatch.setattr(module, "get_json", fake)
    asyncio.run(ask())
    assert fetched == ["/v1/status"]


@pytest.mark.parametrize("broken", [{"instances": [{}]}, {"processes": [{"x": 1}]}, {"instances": 5}])
def test_an_answer_of_another_form_is_as_none(monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any]) -> None:
    """What control's next version might send must not break a health page."""

    async def fake(socket: Path, path: str) -> dict[str, Any]:
        return broken

    monkeypatch.setattr(module, "get_json", fake)
    assert not asyncio.run(StatusCache(Path("/nowhere")).read()).known


def test_an_old_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When control stays away, the last reading serves for a while and then counts as unknown."""
    answers: list[dict[str, Any]] = [{"at_wall_ms": 5}]

    async def fake(socket: Path, path: str) -> dict[str, Any]:
        if not answers:
            raise UnavailableError("down")
        return answers.pop()

    async def ask() -> None:
        cache = StatusCache(Path("/nowhere"))
        assert (await cache.read()).known
        cache._read_s -= module.FRESH_S + 1
        cache._tried_s = float("-inf")
        assert (await cache.read()).known
        cache._read_s -= module.STALE_S_MAX
        assert not (await cache.read()).known

    monkeypatch.setattr(module, "get_json", fake)
    asyncio.run(ask())


def serve_once(socket: Path, answer: bytes) -> Any:
    """Run ``get_json`` against a server that sends these bytes."""

    async def talk() -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(handle, str(socket)):
            return await get_json(socket, "/v1/status")

    return asyncio.run(talk())


def test_json_over_a_unix_socket(tmp_path: Path) -> None:
    """A plain answer is read whole."""
    body = json.dumps({"a": ["x" * 200_000]}).encode()
    assert serve_once(tmp_path / "s", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + body) == json.loads(body)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 503 no\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"junk\r\n\r\n{}"]
)
def test_a_bad_answer_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    """Every way of not answering is the same to the caller."""
    with pytest.raises(UnavailableError):
        serve_once(tmp_path / "s", answer)


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    """A missing socket is no crash."""
    with pytest.raises(UnavailableError):
        asyncio.run(get_json(tmp_path / "none", "/v1/status"))


@pytest.mark.parametrize(
    ("name", "kind", "subject"),
    [
        ("edge", "edge", ""),
        ("agent:health-monitor", "agent", "health-monitor"),
        ("worker:python-0", "worker", "python-0"),
        ("agent:", "edge", ""),
        ("ui", "edge", ""),
    ],
)
def test_names_of_sockets(name: str, kind: str, subject: str) -> None:
    """A socket's name tells what it is for; what is unknown is the edge."""
    door = Door.of(name)
    assert (door.kind, door.subject) == (kind, subject)
