"""Why it exists: instances may not reach the cache themselves, so the broker, who knows which agent asks, does it.

Whatever is the matter with the cache, the answer is the same as for a value that is not there: a skill that works
without a cache works then too. Only a wrong question is refused.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from sutazai.errors import FencedError, InvalidInputError, UnavailableError
from sutazai.limits import CACHE_PENDING_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sutazai.bus import messages
    from sutazai.bus.broker import Broker
    from sutazai.bus.cache.protocol import CacheDriver
    from sutazai.bus.sessions import Instance, Session

    Run = Callable[[Coroutine[Any, Any, None]], None]

_log = logging.getLogger(__name__)


def _in_place(work: Coroutine[Any, Any, None]) -> None:
    """Without a loop: tests and the simulation."""
    asyncio.run(work)


class CacheDesk:
    """Serves ``cache``.

    Args:
        broker: the whole.

    Attributes:
        driver: None: there is no cache, everything is a miss.
        run: how work is run that waits for the driver.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.driver: CacheDriver | None = None
        self.run: Run = _in_place
        self._pending = 0
        self._counts = {"hit": 0, "miss": 0, "set": 0, "deleted": 0, "failed": 0}

    def cache(self, session: Session, instance: Instance, request: messages.Cache) -> None:
        """Answer with a value, or that there is none.

        Raises:
            FencedError: the turn belongs to somebody else now.
            InvalidInputError: a value to keep is missing, or one comes with a question.
        """
        broker = self._broker
        lease = broker.leases.find(request.task, request.fence, instance.ticket)
        if lease is None or lease.ending:
            raise FencedError("only a turn that holds may ask")
        broker.leases.renew(lease, broker.clock.now_ms())
        if (request.do == "set") != (request.raw is not None):
            raise InvalidInputError("a value is one raw part behind a 'set', and behind nothing else")
        if self.driver is None or self._pending >= CACHE_PENDING_MAX:
            self._counts["failed"] += 1
            session.reply(request.id, {"t": "cached", "found": False})
            return
        self._pending += 1
        self.run(self._serve(self.driver, session, instance.agent, request))

    async def _serve(self, driver: CacheDriver, session: Session, agent: str, request: messages.Cache) -> None:
        found: bytes | None = None
        try:
            if request.do == "get":
                found = await driver.get(agent, request.key)
                self._counts["miss" if found is None else "hit"] += 1
            elif request.raw is not None:  # a set, as was checked
                await driver.set(agent, request.key, request.raw, request.ttl_ms)
                self._counts["set"] += 1
            else:
                await driver.delete(agent, request.key)
                self._counts["deleted"] += 1
        except UnavailableError as error:
            self._counts["failed"] += 1
            _log.debug("the cache does not answer: %s", error)
            session.reply(request.id, {"t": "cached", "found": False})
        except Exception as error:  # noqa: BLE001 a cache is never why a turn fails, whatever its driver does
            self._counts["failed"] += 1
            _log.error("the cache failed: %r", error)
            session.reply(request.id, {"t": "cached", "found": False})
        else:
            done = request.do != "get" or found is not None
            session.reply(request.id, {"t": "cached", "found": done}, () if found is None else (found,))
        finally:
            self._pending -= 1

    def facts(self) -> dict[str, Any]:
        """The driver's state, and counts of answers."""
        facts = {"driver": "none", "state": "up"} if self.driver is None else self.driver.facts()
        return {**facts, **self._counts}
