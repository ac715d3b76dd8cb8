"""Why it exists: what agents may count on of a cache is the same, whichever driver keeps it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sutazai.errors import InternalError
from sutazai.testing.store_contract import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sutazai.bus.cache.protocol import CacheDriver

_TTL_MS = 60_000


class CacheContract:
    """Tests for a driver; a driver's tests derive from it."""

    async def make_driver(self) -> CacheDriver:
        """Give a driver with an empty cache.

        Raises:
            InternalError: this class does not.
        """
        raise InternalError(f"{type(self).__name__} does not say how to make its driver")

    async def pass_time(self, milliseconds: int) -> None:
        """Let so much time pass for the driver; by default it really passes."""
        await asyncio.sleep(milliseconds / 1_000)

    def run(self, test: Callable[[CacheDriver], Awaitable[None]]) -> None:
        """Run a test with a driver."""

        async def whole() -> None:
            driver = await self.make_driver()
            try:
                await test(driver)
            finally:
                await driver.close()

        asyncio.run(whole())

    def test_a_value_is_there_until_it_is_replaced_or_deleted(self) -> None:
        """Bytes come back as they were, whatever they are."""

        async def test(driver: CacheDriver) -> None:
            expect(await driver.get("a", "k"), None, "before")
            for data in (b"1", b"", bytes(range(256)), b"x" * 1_000_000):
                await driver.set("a", "k", data, _TTL_MS)
                expect(await driver.get("a", "k"), data, "the value")
            await driver.delete("a", "k")
            expect(await driver.get("a", "k"), None, "when it was deleted")
            await driver.delete("a", "k")

        self.run(test)

    def test_values_of_agents_are_apart(self) -> None:
        """Also when agent and key run into each other, and with keys of any characters."""

        async def test(driver: CacheDriver) -> None:
            cases = [("a", "k"), ("b", "k"), ("a", "b:k"), ("a-b", "k"), ("a", " "), ("a", "ä\n\0:*"), ("a", "k" * 200)]
            for number, (agent, key) in enumerate(cases):
                await driver.set(agent, key, str(number).encode(), _TTL_MS)
            for number, (agent, key) in enumerate(cases):
                expect(await driver.get(agent, key), str(number).encode(), f"{agent} {key!r}")
            await driver.delete("a", "k")
            expect(await driver.get("b", "k"), b"1", "another agent's")

        self.run(test)

    def test_a_value_expires(self) -> None:
        """A new value has a new time."""

        async def test(driver: CacheDriver) -> None:
            await driver.set("a", "short", b"1", 50)
            await driver.set("a", "long", b"2", _TTL_MS)
            await driver.set("a", "again", b"3", 50)
            await driver.set("a", "again", b"4", _TTL_MS)
            await self.pass_time(100)
            found: list[Any] = [await driver.get("a", key) for key in ("short", "long", "again")]
            expect(found, [None, b"2", b"4"], "after the short time")

        self.run(test)

    def test_it_says_how_it_is(self) -> None:
        """Its name, and that it answers."""

        async def test(driver: CacheDriver) -> None:
            await driver.set("a", "k", b"1", _TTL_MS)
            facts = driver.facts()
            expect((facts["driver"], facts["state"], facts["for_ms"]), (driver.name, "up", 0), "its facts")

        self.run(test)
