"""Why it exists: in the standard profile the cache is Valkey, shared by all that may reach it.

Keys begin with the fleet and the agent, whose names hold no colon, so no key of one is ever another's. The server
evicts at its own limit and forgets what expires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from sutazai.wire.valkey import ValkeyLink


class ServerCache:
    """A cache in Valkey.

    Args:
        link: to the server; not closed here.
        fleet: whose.
    """

    name: ClassVar[str] = "valkey"

    def __init__(self, link: ValkeyLink, fleet: str) -> None:
        self._link, self._fleet = link, fleet

    def _key(self, agent: str, key: str) -> str:
        return f"{self._fleet}:cache:{agent}:{key}"

    async def get(self, agent: str, key: str) -> bytes | None:
        """See ``CacheDriver``."""
        found: bytes | None = await self._link.ask("GET", self._key(agent, key))
        return found

    async def set(self, agent: str, key: str, data: bytes, ttl_ms: int) -> None:
        """See ``CacheDriver``."""
        await self._link.ask("SET", self._key(agent, key), data, "PX", ttl_ms)

    async def delete(self, agent: str, key: str) -> None:
        """See ``CacheDriver``."""
        await self._link.ask("DEL", self._key(agent, key))

    def facts(self) -> dict[str, Any]:
        """See ``CacheDriver``."""
        return {"driver": self.name, **self._link.facts()}

    async def close(self) -> None:
        """See ``CacheDriver``."""
        await self._link.close()
