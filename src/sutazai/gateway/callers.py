"""Why it exists: one caller that asks without end must not take the edge from all others; off unless the manifest asks.

A caller is the address that a request comes from. The rate is GCRA: one number for each caller, the time at which it
would ask next if it never paused. In the standard profile Valkey keeps it, so that it counts over all gateways and
over restarts of this one; while Valkey is away each gateway counts by itself, and nobody waits.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sutazai.errors import UnavailableError
from sutazai.gateway.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from sutazai.wire.valkey import ValkeyLink

#: Callers that one gateway remembers by itself; those that paused for long enough are forgotten first.
CALLERS_MAX = 10_000
#: Answered however often somebody asks: who looks after the fleet must see it.
ALWAYS = frozenset({"/health", "/metrics"})
#: The server's own clock counts, so that gateways on several machines agree. A clock that is set back makes nobody
#: wait for longer than a whole burst.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local next = tonumber(redis.call('GET', KEYS[1]) or now)
if next < now then next = now end
if next > now + interval * burst then next = now + interval * burst end
local wait = next - now - interval * (burst - 1)
if wait > 0 then return wait end
next = next + interval
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', string.format('%.0f', math.ceil((next - now) / 1000) + 1))
return 0
"""


@dataclass(frozen=True, slots=True)
class CallerRate:
    """How often a caller may ask.

    Attributes:
        interval_us: microseconds from one request to the next; 0 for no limit.
        burst: requests at once, after a pause.
    """

    interval_us: int = 0
    burst: int = 1


class Limiter(Protocol):
    """Counts callers."""

    async def wait_us(self, caller: str) -> int:
        """Count a request; 0 when it may be served, else microseconds until one may."""
        ...


class LocalLimiter:
    """Counts in this process.

    Args:
        rate: of each caller; not 0.
        now_us: a clock that never goes back.
    """

    def __init__(self, rate: CallerRate, now_us: Callable[[], int] = lambda: time.monotonic_ns() // 1_000) -> None:
        self._rate, self._now_us = rate, now_us
        self._next_us: dict[str, int] = {}

    async def wait_us(self, caller: str) -> int:
        """See ``Limiter``."""
        now_us, rate = self._now_us(), self._rate
        next_us = max(now_us, self._next_us.get(caller, now_us))
        wait_us = next_us - now_us - rate.interval_us * (rate.burst - 1)
        if wait_us > 0:
            return wait_us
        if caller not in self._next_us and len(self._next_us) >= CALLERS_MAX:
            self._forget(now_us)
        self._next_us[caller] = next_us + rate.interval_us
        return 0

    def _forget(self, now_us: int) -> None:
        """Forget whose number says nothing any more; when there are too many all the same, the longest known."""
        self._next_us = {caller: next_us for caller, next_us in self._next_us.items() if next_us > now_us}
        for caller in list(self._next_us)[: max(0, len(self._next_us) - CALLERS_MAX + 1)]:
            del self._next_us[caller]


class SharedLimiter:
    """Counts in Valkey, one script for each request; by itself while that is away.

    Args:
        rate: of each caller; not 0.
        link: to the server.
        fleet: whose.
    """

    def __init__(self, rate: CallerRate, link: ValkeyLink, fleet: str) -> None:
        self._rate, self._link, self._fleet = rate, link, fleet
        self._local = LocalLimiter(rate)

    async def wait_us(self, caller: str) -> int:
        """See ``Limiter``."""
        key = f"{self._fleet}:callers:{caller}"
        try:
            return int(await self._link.ask("EVAL", _SCRIPT, 1, key, self._rate.interval_us, self._rate.burst))
        except UnavailableError:
            return await self._local.wait_us(caller)


async def admit(limiter: Limiter, request: Request) -> None:
    """Count a request.

    Raises:
        Problem: 429, with the time after which the caller may come again.
    """
    if request.url.path in ALWAYS:
        return
    wait_us = await limiter.wait_us(request.client.host if request.client else "local")
    if wait_us > 0:
        seconds = math.ceil(wait_us / 1_000_000)
        detail = f"this address asks more often than policies.callers allows; come again in {seconds} s"
        raise Problem(429, "too-many-requests", detail, headers={"Retry-After": str(seconds)})
