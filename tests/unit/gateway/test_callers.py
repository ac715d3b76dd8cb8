"""How often one address may ask the edge: off unless it is said, never for what looks after the fleet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sutazai.errors import UnavailableError
from sutazai.gateway import callers
from sutazai.gateway.callers import CallerRate, LocalLimiter, SharedLimiter
from sutazai.testing.limiter_contract import LimiterContract

if TYPE_CHECKING:
    import pytest

EDGE = 10005


class TestLocal(LimiterContract):
    """In this process."""

    now_us = 0

    async def make_limiter(self, rate: CallerRate) -> LocalLimiter:
        return LocalLimiter(rate, lambda: self.now_us)

    async def pass_time(self, milliseconds: int) -> None:
        self.now_us += milliseconds * 1_000

    def test_it_remembers_no_more_callers_than_its_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who paused is forgotten first; one who asks without end is not let off by many others who did."""
        monkeypatch.setattr(callers, "CALLERS_MAX", 10)

        async def test(limiter: Any) -> None:
            for number in range(9):
                await limiter.wait_us(f"early {number}")
            self.now_us += 2_000_000
            await limiter.wait_us("busy")
            for number in range(9):
                await limiter.wait_us(f"late {number}")
            assert len(limiter._next_us) <= 10
            assert await limiter.wait_us("busy") > 0
            for number in range(50):
                await limiter.wait_us(f"many {number}")
                assert len(limiter._next_us) <= 10

        self.run(CallerRate(1_000_000, 1), test)


class Away:
    """A server that does not answer."""

    async def ask(self, *_: Any) -> Any:
        raise UnavailableError("away")


def test_without_the_server_the_gateway_counts_by_itself() -> None:
    """The same rate, and nobody waits for the server."""
    limiter = SharedLimiter(CallerRate(10_000_000, 2), Away(), "f")  # type: ignore[arg-type]

    async def ask() -> list[int]:
        return [await limiter.wait_us("a") for _ in range(3)]

    found = asyncio.run(ask())
    assert found[:2] == [0, 0]
    assert found[2] > 9_000_000


def test_an_address_that_asks_too_often_is_told_when_to_come_again(fleet: Any) -> None:
    """429 in the form of every refusal; health and metrics are answered always; without a limiter all is."""
    client = fleet.at(EDGE)
    assert [client.get("/agents").status_code for _ in range(5)] == [200] * 5
    fleet.app._limiter = LocalLimiter(CallerRate(30_000_000, 2), lambda: 0)
    assert [client.get("/agents").status_code for _ in range(3)] == [200, 200, 429]
    refused = client.get("/agents")
    assert refused.json()["code"] == "too-many-requests"
    assert "policies.callers" in refused.json()["detail"]
    assert refused.headers["retry-after"] == "30"
    assert client.get("/health").status_code == 200
    assert client.get("/metrics").status_code == 200
