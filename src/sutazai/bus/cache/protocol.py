"""Why it exists: the broker knows a cache by these verbs alone, so that Valkey can take the file's place."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol


class CacheDriver(Protocol):
    """Keeps values by agent and key.

    Attributes:
        name: as the broker's command line and the metrics say it.
    """

    name: ClassVar[str]

    async def get(self, agent: str, key: str) -> bytes | None:
        """Read a value; None when there is none, it has expired, or it was lost.

        Raises:
            UnavailableError: the cache does not answer.
        """
        ...

    async def set(self, agent: str, key: str, data: bytes, ttl_ms: int) -> None:
        """Keep a value for at most so long.

        Raises:
            UnavailableError: the cache does not answer.
        """

    async def delete(self, agent: str, key: str) -> None:
        """Forget a value; nothing happens when there is none.

        Raises:
            UnavailableError: the cache does not answer.
        """

    def facts(self) -> dict[str, Any]:
        """``{driver, state, why, for_ms}``, the state ``up`` or ``away``; and its size where it is known."""
        ...

    async def close(self) -> None:
        """Let go of it."""
