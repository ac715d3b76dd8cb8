"""Why it exists: instances may not reach the cache themselves, so the broker, who knows which agent asks, does it.

Whatever is the matter with the cache, the answer is the same as for a value that is not there: a skill that works
without a cache works then too. Only a wrong question is refused.

Single flight: who asks for a value to make it is alone in that. Others who would make it too wait until it is set, or
until the turn that makes it is over, and never for long. It is kept in memory only: after a restart both may make it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.errors import FencedError, InvalidInputError, UnavailableError
from sutazai.limits import CACHE_MAKE_MS, CACHE_MAKERS_MAX, CACHE_PENDING_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sutazai.bus import messages
    from sutazai.bus.broker import Broker
    from sutazai.bus.cache.protocol import CacheDriver
    from sutazai.bus.sessions import HeldLease, Instance, Session

    Run = Callable[[Coroutine[Any, Any, None]], None]

_log = logging.getLogger(__name__)


def _in_place(work: Coroutine[Any, Any, None]) -> None:
    """Without a loop: tests and the simulation."""
    asyncio.run(work)


@dataclass(slots=True)
class _Waiter:
    """Who would make a value that another turn makes.

    Attributes:
        session: of its instance.
        instance: that runs it.
        request: what it asked.
        until_ms: then it makes the value too.
    """

    session: Session
    instance: Instance
    request: messages.Cache
    until_ms: int

    @property
    def turn(self) -> tuple[str, int, str]:
        """Task, fence and ticket of its turn."""
        return self.request.task, self.request.fence, self.instance.ticket


@dataclass(slots=True)
class _Making:
    """A value that a turn makes.

    Attributes:
        maker: task, fence and ticket of that turn.
        waiters: in the order in which they came.
    """

    maker: tuple[str, int, str]
    waiters: list[_Waiter] = field(default_factory=list)


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
        self._making: dict[tuple[str, str], _Making] = {}
        self._counts = {"hit": 0, "miss": 0, "set": 0, "deleted": 0, "failed": 0}

    def cache(self, session: Session, instance: Instance, request: messages.Cache) -> None:
        """Answer with a value, or that there is none.

        Raises:
            FencedError: the turn belongs to somebody else now.
            InvalidInputError: a value to keep is missing, or one comes with a question.
        """
        broker = self._broker
        lease = self._lease((request.task, request.fence, instance.ticket))
        if lease is None:
            raise FencedError("only a turn that holds may ask")
        broker.leases.renew(lease, broker.clock.now_ms())
        if (request.do == "set") != (request.raw is not None):
            raise InvalidInputError("a value is one raw part behind a 'set', and behind nothing else")
        if self.driver is None or self._pending >= CACHE_PENDING_MAX:
            self._counts["failed"] += 1
            session.reply(request.id, {"t": "cached", "found": False})
            return
        self._pending += 1
        self.run(self._serve(self.driver, session, instance, request))

    async def _serve(self, driver: CacheDriver, session: Session, instance: Instance, request: messages.Cache) -> None:
        found: bytes | None = None
        agent = instance.agent
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
            if request.do == "get" and found is None and request.make and self._waits(session, instance, request):
                return
            done = request.do != "get" or found is not None
            session.reply(request.id, {"t": "cached", "found": done}, () if found is None else (found,))
        finally:
            self._pending -= 1
            if request.raw is not None:  # kept or not: it is made
                self._made(agent, request.key, request.raw)

    def _waits(self, session: Session, instance: Instance, request: messages.Cache) -> bool:
        """Whether another turn makes this value, so that this one waits; else it is the one that does."""
        place = instance.agent, request.key
        making = self._making.get(place)
        maker = request.task, request.fence, instance.ticket
        if making is None or making.maker == maker or self._lease(making.maker) is None:
            if making is not None:
                making.maker = maker
            elif len(self._making) < CACHE_MAKERS_MAX:
                self._making[place] = _Making(maker)
            return False
        if any(waiter.turn == maker for waiter in making.waiters):
            return False  # a turn asks one question at a time
        making.waiters.append(_Waiter(session, instance, request, self._broker.clock.now_ms() + CACHE_MAKE_MS))
        return True

    def _made(self, agent: str, key: str, data: bytes) -> None:
        """Give a value to all who wait for it."""
        making = self._making.pop((agent, key), None)
        for waiter in making.waiters if making is not None else ():
            self._counts["hit"] += 1
            waiter.session.reply(waiter.request.id, {"t": "cached", "found": True}, (data,))

    def tick(self, now_ms: int) -> None:
        """Let nobody wait for a turn that is over, or for long; who waits is not silent."""
        for place, making in list(self._making.items()):
            over = self._lease(making.maker) is None
            left: list[_Waiter] = []
            for waiter in making.waiters:
                lease = self._lease(waiter.turn)
                if lease is not None and not over and now_ms < waiter.until_ms:
                    self._broker.leases.renew(lease, now_ms)
                    left.append(waiter)
                    continue
                if lease is not None and over:
                    making.maker, over = waiter.turn, False
                waiter.session.reply(waiter.request.id, {"t": "cached", "found": False})
            making.waiters = left
            if over:
                del self._making[place]

    def _lease(self, turn: tuple[str, int, str]) -> HeldLease | None:
        """The lease of a turn that holds."""
        lease = self._broker.leases.find(*turn)
        return None if lease is None or lease.ending else lease

    def facts(self) -> dict[str, Any]:
        """The driver's state, and counts of answers."""
        facts = {"driver": "none", "state": "up"} if self.driver is None else self.driver.facts()
        return {**facts, **self._counts}
