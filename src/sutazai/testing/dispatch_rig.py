"""Why it exists: a dispatch driver is proved with the broker's own code around it and instances that really claim.

The store is in memory and the instances are objects; the deciding code, its groups and its ticks are those that ship.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING, Any, Self

from sutazai.bus.broker import Broker
from sutazai.bus.clock import BrokerClock
from sutazai.bus.directory import Directory
from sutazai.bus.group import run_group, settle
from sutazai.bus.options import Options
from sutazai.clock import SystemClock
from sutazai.errors import NotFoundError
from sutazai.store.model import Get
from sutazai.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from sutazai.bus.dispatch.protocol import Driver
    from sutazai.bus.sessions import Session

WAIT_S = 30.0
_TICK_S = 0.05


class Caller:
    """A client; keeps what it is told."""

    def __init__(self) -> None:
        self.uid, self.pid = os.geteuid(), os.getpid()
        self.heard: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any], _: Sequence[bytes] = ()) -> None:
        """The broker says something."""
        self.heard.append(message)

    def close(self) -> None:
        """The broker hangs up."""


class Echo(Caller):
    """An instance that commits each turn with its input as the result, in the next round of the loop.

    Args:
        rig: it works in.
        agent: whose.
        holds: it takes a turn and does not end it.
    """

    def __init__(self, rig: DispatchRig, agent: str, *, holds: bool = False) -> None:
        super().__init__()
        self._rig, self.agent, self._holds = rig, agent, holds
        self.turns: list[str] = []
        self.session: Session | None = None

    def send(self, message: dict[str, Any], _: Sequence[bytes] = ()) -> None:
        """A turn is answered."""
        super().send(message)
        if message["t"] != "turn":
            return
        task = message["task"]
        self.turns.append(task["id"])
        if not self._holds:
            commit = {
                "t": "commit", "id": 1, "task": task["id"], "fence": message["fence"], "outcome": "result",
                "result": task["input"], "state_version": message["state_version"], "pull": True,
            }  # fmt: skip
            asyncio.get_running_loop().call_soon(self.say, commit)

    def say(self, message: dict[str, Any]) -> None:
        """Tell the broker."""
        if self.session is not None:
            self._rig.broker.received(self.session, message)


class DispatchRig:
    """A broker that dispatches by a driver.

    Args:
        driver: to be proved.
        store: what was there before; an empty one when none is given.
    """

    def __init__(self, driver: Driver, store: SqliteStore | None = None) -> None:
        self.driver = driver
        self.store = store or SqliteStore(None, ballast_bytes=0)
        self.clock = BrokerClock(SystemClock(), self.store.reading(), "boot")
        self.broker = Broker(
            self.store, self.clock, Directory(None), Options(open=True), rng=random.Random(1)  # noqa: S311 no secret
        )  # fmt: skip
        self.broker.dispatch_by(driver)
        self.groups = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._planned = False

    async def __aenter__(self) -> Self:
        """Start."""
        loop = asyncio.get_running_loop()
        self.broker.journal.wake = self._wake
        self._tasks = [loop.create_task(self._tick()), loop.create_task(self.driver.run())]
        self._wake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the driver and the broker; the store stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop_driver(self) -> None:
        """Cancel what keeps the driver connected."""
        self._tasks[1].cancel()
        await asyncio.gather(self._tasks[1], return_exceptions=True)

    def _wake(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._group)

    def _group(self) -> None:
        self._planned = False
        if not self.broker.journal.pending and not self.broker.has_work():
            return
        self.groups += 1
        group = run_group(self.store, self.clock, self.broker.journal.take(), self.broker.hooks)
        self.store.commit(self.clock.reading())
        self.broker.journal.put_back(group.later)
        self.broker.committed(group.done)
        settle(group.done)
        self._wake()

    async def _tick(self) -> None:
        while True:
            self.broker.tick()
            await asyncio.sleep(_TICK_S)

    # People

    def submit(self, agent: str, number: int = 1, **fields: Any) -> list[str]:
        """Submit tasks as one request; gives their identifiers."""
        names = [f"{agent}-{random.getrandbits(64):016x}" for _ in range(number)]
        tasks = [{"agent": agent, "skill": "echo", "input": {"n": 1}, "id": name, **fields} for name in names]
        self.ask({"t": "submit", "id": 1, "tasks": tasks})
        return names

    def ask(self, message: dict[str, Any]) -> Caller:
        """Ask as a client of its own."""
        caller = Caller()
        session = self.broker.connected(caller)
        self.broker.received(session, {"t": "hello", "v": 1, "role": "client", "name": "rig"})
        self.broker.received(session, message)
        return caller

    def instance(self, agent: str, *, holds: bool = False) -> Echo:
        """Connect an instance that asks for work."""
        echo = Echo(self, agent, holds=holds)
        echo.session = self.broker.connected(echo)
        echo.say({"t": "hello", "v": 1, "role": "instance", "agent": agent, "ticket": "", "token": "", "pid": echo.pid})
        echo.say({"t": "pull"})
        return echo

    def leave(self, echo: Echo) -> None:
        """An instance's connection ends."""
        if echo.session is not None:
            self.broker.disconnected(echo.session)

    def status(self, task: str) -> str:
        """State of a task in the store, outside of any group; empty while it is not stored."""
        self.store.begin()
        try:
            return str(self.store.apply(Get(task), self.clock.now_ms(), 0).reply["status"])
        except NotFoundError:
            return ""
        finally:
            self.store.rollback()

    def are(self, tasks: list[str], status: str) -> bool:
        """Whether all of these are in a state."""
        return all(self.status(task) == status for task in tasks)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: it does not within ``WAIT_S``.
        """
        give_up_s = time.monotonic() + WAIT_S
        while not holds():
            if time.monotonic() > give_up_s:
                raise AssertionError(f"{what}: not within {WAIT_S:.0f} s; the driver says {self.driver.facts()}")
            await asyncio.sleep(0.005)
