"""A broker with everything around it, for tests: peers that record, a clock that is turned by hand."""

from __future__ import annotations

import os
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.bus.broker import Broker
from sutazai.bus.clock import BrokerClock
from sutazai.bus.directory import Directory
from sutazai.bus.group import run_group, settle
from sutazai.bus.options import Options
from sutazai.store.sqlite import SqliteStore
from sutazai.testing.manual_clock import ManualClock

if TYPE_CHECKING:
    from sutazai.wire.planfacts import AgentFacts


class Peer:
    """One end of a wire: keeps what the broker says."""

    def __init__(self, pid: int = 1, uid: int | None = None) -> None:
        self.pid, self.uid = pid, os.geteuid() if uid is None else uid
        self.heard: deque[dict[str, Any]] = deque()
        self.closed = False

    def send(self, message: dict[str, Any]) -> None:
        self.heard.append(msgspec.json.decode(msgspec.json.encode(message)))

    def close(self) -> None:
        self.closed = True

    def kinds(self) -> list[str]:
        """Types of what was heard; forgets it."""
        found = [message["t"] for message in self.heard]
        self.heard.clear()
        return found


class Rig:
    """A broker with everything around it."""

    def __init__(self, *, is_open: bool = True, agents: dict[str, AgentFacts] | None = None) -> None:
        self.clock = ManualClock()
        self.store = SqliteStore(None)
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.start(is_open=is_open, agents=agents)

    def start(self, *, is_open: bool = True, agents: dict[str, AgentFacts] | None = None) -> None:
        """Start a broker (again)."""
        self.broker_clock = BrokerClock(self.clock, self.store.reading(), "boot")
        self.broker = Broker(
            self.store, self.broker_clock, Directory(agents), Options(open=is_open),
            rng=random.Random(1), supervisor=self.supervise,  # noqa: S311 no secret
        )  # fmt: skip

    def supervise(self, request: dict[str, Any], answered: Any) -> bool:
        """Be ``sutazaid``."""
        self.asked.append(request)
        self.answers.append(answered)
        return True

    def settle(self) -> None:
        """Run groups until nothing is left."""
        while self.broker.journal.pending or self.broker.has_work():
            group = run_group(self.store, self.broker_clock, self.broker.journal.take(), self.broker.hooks)
            self.store.commit(self.broker_clock.reading())
            self.broker.journal.put_back(group.later)
            self.broker.committed(group.done)
            settle(group.done)

    def pass_time(self, milliseconds: int) -> None:
        """Turn the clock, with all its ticks."""
        until_ms = self.broker_clock.now_ms() + milliseconds
        while (left := until_ms - self.broker_clock.now_ms()) > 0:
            self.clock.advance(min(left, max(1, self.broker.next_tick_ms() - self.broker_clock.now_ms())))
            self.broker.tick()
            self.settle()

    def client(self) -> tuple[Peer, Any]:
        """Connect a client."""
        return self.connect({"t": "hello", "v": 1, "role": "client", "name": "c"})

    def instance(self, agent: str, ticket: str, **fields: Any) -> tuple[Peer, Any]:
        """Connect an instance."""
        hello = {"t": "hello", "v": 1, "role": "instance", "agent": agent, "ticket": ticket, "token": "s", "pid": 1}
        return self.connect({**hello, **fields})

    def connect(self, hello: dict[str, Any]) -> tuple[Peer, Any]:
        """Connect somebody."""
        peer = Peer()
        session = self.broker.connected(peer)
        self.broker.received(session, hello)
        self.settle()
        return peer, session

    def say(self, session: Any, message: dict[str, Any]) -> None:
        """Say something and let it be done."""
        self.broker.received(session, message)
        self.settle()

    def submit(self, agent: str = "a", **fields: Any) -> str:
        """Submit a task."""
        peer, session = self.client()
        self.say(session, {"t": "submit", "id": 1, "tasks": [{"agent": agent, "skill": "do", **fields}]})
        answer = peer.heard.pop()
        assert answer["t"] == "accepted", answer
        name: str = answer["tasks"][0]["id"]
        return name

    def status(self, task: str) -> str:
        """Status of a task."""
        row = self.store._connection.execute("SELECT status FROM tasks WHERE id = ?", (task,)).fetchone()
        return ("queued", "leased", "waiting", "succeeded", "failed", "dead", "cancelled", "expired")[row[0]]
