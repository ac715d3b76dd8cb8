"""Why it exists: how often a caller may ask is the same, wherever it is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sutazai.errors import InternalError
from sutazai.testing.store_contract import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sutazai.gateway.callers import CallerRate, Limiter

_US = 1_000_000


class LimiterContract:
    """Tests for a limiter; a limiter's tests derive from it."""

    async def make_limiter(self, rate: CallerRate) -> Limiter:
        """Give a limiter that has counted nobody.

        Raises:
            InternalError: this class does not.
        """
        raise InternalError(f"{type(self).__name__} does not say how to make its limiter for {rate}")

    async def pass_time(self, milliseconds: int) -> None:
        """Let so much time pass for the limiter; by default it really passes."""
        await asyncio.sleep(milliseconds / 1_000)

    def run(self, rate: CallerRate, test: Callable[[Limiter], Awaitable[None]]) -> None:
        """Run a test with a limiter."""

        async def whole() -> None:
            await test(await self.make_limiter(rate))

        asyncio.run(whole())

    def test_a_burst_then_the_rate(self) -> None:
        """So many at once, then nobody before the time that is named; what is refused is not counted."""
        from sutazai.gateway.callers import CallerRate

        async def test(limiter: Limiter) -> None:
            expect([await limiter.wait_us("a") for _ in range(3)], [0, 0, 0], "the burst")
            waits = [await limiter.wait_us("a") for _ in range(5)]
            expect(all(500 * _US < wait <= 1_000 * _US for wait in waits), True, f"the waits {waits}")  # noqa: FBT003

        self.run(CallerRate(1_000 * _US, 3), test)

    def test_callers_are_counted_apart(self) -> None:
        """Of any names."""
        from sutazai.gateway.callers import CallerRate

        async def test(limiter: Limiter) -> None:
            for caller in ("127.0.0.1", "::1", "a:b", ""):
                expect(await limiter.wait_us(caller), 0, caller)
                expect(await limiter.wait_us(caller) > 0, wanted=True, what=f"{caller} again")

        self.run(CallerRate(1_000 * _US, 1), test)

    def test_time_gives_back(self) -> None:
        """One for each interval, a burst after a pause."""
        from sutazai.gateway.callers import CallerRate

        async def test(limiter: Limiter) -> None:
            for _ in range(2):
                expect(await limiter.wait_us("a"), 0, "the burst")
            wait_us = await limiter.wait_us("a")
            await self.pass_time(wait_us // 1_000 + 1)
            expect(await limiter.wait_us("a"), 0, "when it said")
            await self.pass_time(1_000)
            expect([await limiter.wait_us("a") for _ in range(2)], [0, 0], "after a long pause")

        self.run(CallerRate(300_000, 2), test)
