"""On a real Valkey: the cache and the callers' rates keep their contracts, and nobody waits for one that is away."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.bus.cache import ServerCache
from sutazai.errors import HostError, UnavailableError
from sutazai.gateway.callers import CallerRate, SharedLimiter
from sutazai.services import valkey
from sutazai.testing.cache_contract import CacheContract
from sutazai.testing.limiter_contract import LimiterContract
from sutazai.testing.valkey_process import ValkeyProcess
from sutazai.wire.valkey import ValkeyLink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    """A Valkey for the tests of this file."""
    try:
        valkey.program()
        __import__("valkey")
    except (HostError, ImportError) as error:
        pytest.skip(f"Valkey was NOT tested: {error}")
    process = ValkeyProcess()
    try:
        process.start()
        yield process
    finally:
        process.close()


async def emptied(server: ValkeyProcess) -> ValkeyLink:
    """Connect to the server and let it forget everything."""
    link = ValkeyLink(server.url_file, timeout_s=5)
    await link.ask("FLUSHALL")
    return link


class TestCache(CacheContract):
    """The driver of the standard profile."""

    @pytest.fixture(autouse=True)
    def its_server(self, server: ValkeyProcess) -> None:
        """Give it a server."""
        self.server = server

    async def make_driver(self) -> ServerCache:
        return ServerCache(await emptied(self.server), "f")

    def test_fleets_are_apart(self) -> None:
        """On one server."""

        async def test(driver: Any) -> None:
            await driver.set("a", "k", b"1", 60_000)
            assert await ServerCache(driver._link, "g").get("a", "k") is None

        self.run(test)


class TestCallers(LimiterContract):
    """Counted by the server."""

    @pytest.fixture(autouse=True)
    def its_server(self, server: ValkeyProcess) -> None:
        """Give it a server."""
        self.server = server

    async def make_limiter(self, rate: CallerRate) -> SharedLimiter:
        return SharedLimiter(rate, await emptied(self.server), "f")

    def test_two_gateways_count_together(self) -> None:
        """Many requests at once through both: exactly a burst is let in."""

        async def test(limiter: Any) -> None:
            link = ValkeyLink(self.server.url_file, timeout_s=5)
            other = SharedLimiter(CallerRate(60_000_000, 5), link, "f")
            found = await asyncio.gather(*(each.wait_us("a") for each in (limiter, other) * 10))
            assert sorted(wait > 0 for wait in found) == [False] * 5 + [True] * 15
            await link.close()

        self.run(CallerRate(60_000_000, 5), test)

    def test_what_it_keeps_expires(self) -> None:
        """A caller that paused costs the server nothing."""

        async def test(limiter: Any) -> None:
            await limiter.wait_us("a")
            left_ms = await limiter._link.ask("PTTL", "f:callers:a")
            assert 0 < left_ms <= 1_002

        self.run(CallerRate(1_000_000, 5), test)


@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_a_server_that_is_away_costs_nothing(server: ValkeyProcess, how: str) -> None:
    """The first who asks is told in time, the next at once; it is used again by itself when it is back."""

    async def test() -> None:
        link = ValkeyLink(server.url_file)
        await link.ask("SET", "k", b"1")
        if how == "killed":
            server.kill()
        else:
            server.send(signal.SIGSTOP)
        with pytest.raises(UnavailableError, match="Valkey is away"):
            await link.ask("GET", "k")
        assert link.facts()["state"] == "away"
        for _ in range(1_000):  # at once: a server that is asked a thousand times would need minutes
            with pytest.raises(UnavailableError):
                await link.ask("GET", "k")
        if how == "killed":
            server.start()
        else:
            server.send(signal.SIGCONT)
        give_up_s = time.monotonic() + WAIT_S
        while link.away:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.02)
        assert await link.ask("PING") is not None
        assert link.facts() == {"state": "up", "why": "", "for_ms": 0}
        await link.close()

    asyncio.run(test())


def test_a_watch_sees_that_it_is_away(server: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nobody asks for anything."""
    monkeypatch.setattr("sutazai.wire.valkey.PING_EVERY_S", 0.02)

    async def test() -> None:
        link = ValkeyLink(server.url_file)
        watch = asyncio.create_task(link.watch())
        await link.ask("PING")
        server.kill()
        give_up_s = time.monotonic() + WAIT_S
        while not link.away:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.02)
        watch.cancel()
        await link.close()

    try:
        asyncio.run(test())
    finally:
        server.start()


def test_a_wrong_password_or_no_file_is_away_too(server: ValkeyProcess, tmp_path: Path) -> None:
    """With the reason; an answer that is an error is not."""
    wrong = tmp_path / "url"
    wrong.write_text(f"redis://:wrong@127.0.0.1:{server.port}/0\n")

    async def test() -> None:
        for file in (wrong, tmp_path / "none"):
            link = ValkeyLink(file)
            with pytest.raises(UnavailableError):
                await link.ask("PING")
            assert link.facts()["why"]
            await link.close()
        link = ValkeyLink(server.url_file)
        with pytest.raises(UnavailableError, match="Valkey says"):
            await link.ask("NOSUCH")
        assert not link.away
        await link.close()

    asyncio.run(test())


def test_without_the_client_it_is_away(server: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "valkey.exceptions", None)

    async def test() -> None:
        link = ValkeyLink(server.url_file)
        with pytest.raises(UnavailableError, match="scripts/bootstrap base valkey"):
            await link.ask("PING")
        await link.close()

    asyncio.run(test())
