"""Why it exists: what is costly to make and may be lost is kept for the next turn, of whichever instance of the agent.

A cache is never needed: when it is away, full or restarted, ``get`` finds nothing and ``set`` keeps nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from pydantic_core import to_jsonable_python

from sutazai.errors import NonRetryableError
from sutazai.limits import CACHE_TTL_MS_DEFAULT, CACHE_TTL_MS_MAX, CACHE_VALUE_BYTES_MAX, KEY_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[dict[str, Any], tuple[bytes, ...]], tuple[dict[str, Any], list[bytes]] | None]

T = TypeVar("T")
TTL_S_DEFAULT = CACHE_TTL_MS_DEFAULT / 1_000


class Cache:
    """Values of this agent, by key; of no other.

    Only in the thread that runs the skill. Values are JSON of up to ``CACHE_VALUE_BYTES_MAX`` bytes, keys have up to
    ``KEY_CHARACTERS_MAX`` characters.

    Args:
        ask: asks the broker; gives None when it does not answer. None: there is no broker, nothing is kept.
    """

    def __init__(self, ask: Ask | None) -> None:
        self._ask = ask

    def get(self, key: str, default: Any = None) -> Any:
        """Read a value.

        Args:
            key: under which it was set.
            default: what is given when there is none.

        Raises:
            NonRetryableError: the key is empty or too long.
        """
        data = self._read(key)
        return default if data is None else msgspec.json.decode(data)

    def set(self, key: str, value: Any, *, ttl_s: float = TTL_S_DEFAULT) -> bool:
        """Keep a value.

        Args:
            key: a value that has it already is replaced.
            value: JSON.
            ttl_s: for at most so long, above 0, at most 30 days.

        Returns:
            Whether it was kept.

        Raises:
            NonRetryableError: the value is no JSON or too large, the key or the time is out of bounds.
        """
        try:
            data = msgspec.json.encode(to_jsonable_python(value))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NonRetryableError(f"the value {key[:80]!r} for the cache is no JSON: {error}") from error
        if len(data) > CACHE_VALUE_BYTES_MAX:
            raise NonRetryableError(
                f"the value {key[:80]!r} for the cache has {len(data)} bytes; the limit is {CACHE_VALUE_BYTES_MAX}"
            )
        ttl_ms = round(ttl_s * 1_000)
        if not 1 <= ttl_ms <= CACHE_TTL_MS_MAX:
            raise NonRetryableError(f"ttl_s is above 0 and at most {CACHE_TTL_MS_MAX // 1_000}, not {ttl_s!r}")
        return self._do({"do": "set", "ttl_ms": ttl_ms}, key, (data,)) is not None

    def delete(self, key: str) -> None:
        """Forget a value; when the cache is away it may still be there afterwards, until its time is over.

        Raises:
            NonRetryableError: the key is empty or too long.
        """
        self._do({"do": "delete"}, key)

    def get_or(self, key: str, make: Callable[[], T], *, ttl_s: float = TTL_S_DEFAULT) -> T:
        """Read a value; make and keep it when there is none.

        Args:
            key: as for ``get``.
            make: gives the value; it is what is returned then. While one turn makes it, others wait for it, at most
                ``CACHE_MAKE_MS``; then, and after a restart of the broker, two may make it at once.
            ttl_s: as for ``set``.

        Raises:
            NonRetryableError: as ``set``.
        """
        data = self._read(key, make=True)
        if data is not None:
            found: T = msgspec.json.decode(data)
            return found
        value = make()
        self.set(key, value, ttl_s=ttl_s)
        return value

    def _read(self, key: str, *, make: bool = False) -> bytes | None:
        parts = self._do({"do": "get", "make": make}, key)
        return parts[0] if parts else None

    def _do(self, fields: dict[str, Any], key: str, blobs: tuple[bytes, ...] = ()) -> list[bytes] | None:
        """Ask; None when it was not done, or there is nothing."""
        if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            raise NonRetryableError(f"a key of the cache has 1 to {KEY_CHARACTERS_MAX} characters, not {len(key)}")
        answer = self._ask({"t": "cache", "key": key, **fields}, blobs) if self._ask is not None else None
        return answer[1] if answer is not None and answer[0]["found"] else None
