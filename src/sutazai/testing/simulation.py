"""Why it exists: the broker is proved against thousands of unlucky orders of events, each repeatable by its seed.

The real store (in memory) and the real deciding code run here with a clock that is turned by hand. Around them is a
small world: clients, instances, a supervisor and wires that lose messages, break and reorder between each other. The
broker dies before a commit, between commit and answer, and at any other step; instances die, freeze longer than their
lease and come back, and repeat their commits. After the unlucky part everything is left in peace and must come to rest.

``World(seed).run()`` raises ``SimulationError`` with the seed and the last events when a promise is broken.
"""

from __future__ import annotations

import os
import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.bus.broker import Broker
from sutazai.bus.clock import BrokerClock
from sutazai.bus.directory import Directory
from sutazai.bus.group import Group, run_group, settle
from sutazai.bus.options import Options
from sutazai.store.sqlite import SqliteStore
from sutazai.testing.manual_clock import ManualClock
from sutazai.testing.simulation_checks import Checks, SimulationError
from sutazai.testing.simulation_people import Client, Instance
from sutazai.wire.planfacts import AgentFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sutazai.bus.sessions import Session
    from sutazai.store.protocol import Store

    Query = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]

AGENTS = ("alpha", "beta")
_INTERVALS_US = (0, 0, 7_500, 40_000)
_UNLUCKY_STEPS = 1_000
_PEACEFUL_STEPS_MAX = 60_000
_REST_EVERY_STEPS = 50
_WEIGHTS = (40, 20, 20, 10, 10)
_LOG_LINES = 60
_ROOM = 1_000_000


def _in_memory() -> tuple[Store, Query]:
    """Make a store in memory."""
    store = SqliteStore(None, ballast_bytes=0)
    connection = store._connection  # noqa: SLF001 the judge looks inside
    return store, lambda text, values: connection.execute(text, values).fetchall()


class Wire:
    """A connection between somebody and the broker; messages are really encoded, each direction keeps its order."""

    def __init__(self, world: World, pid: int) -> None:
        self.uid, self.pid = os.geteuid(), pid
        self._world = world
        self.to_broker: deque[dict[str, Any]] = deque()
        self.to_peer: deque[dict[str, Any]] = deque()
        self.session: Session | None = None
        self.broker_closed = self.peer_closed = False

    def send(self, message: dict[str, Any], _: Sequence[bytes] = ()) -> None:
        """The broker sends."""
        if not self.broker_closed:
            self.to_peer.append(msgspec.json.decode(msgspec.json.encode(message)))

    def close(self) -> None:
        """The broker closes after what it sent."""
        self.broker_closed = True

    def say(self, message: dict[str, Any]) -> None:
        """The peer sends."""
        if not self.peer_closed:
            self.to_broker.append(msgspec.json.decode(msgspec.json.encode(message)))

    def hang_up(self) -> None:
        """The peer closes, or dies; some of what it sent last may never arrive."""
        if not self.peer_closed:
            self.peer_closed = True
            for _ in range(self._world.rng.randint(0, len(self.to_broker))):
                self.to_broker.pop()

    def cut(self) -> None:
        """The broker died: what it sent last may never arrive, nothing that was sent to it does."""
        self.broker_closed = True
        self.session = None
        self.to_broker.clear()
        for _ in range(self._world.rng.randint(0, len(self.to_peer))):
            self.to_peer.pop()


class World:
    """Everything.

    Args:
        seed: decides everything that happens.
        clients: how many callers.
        tasks: how many tasks each of them submits.
        base: the database, and how the judge looks into it; None is SQLite in memory.
    """

    def __init__(self, seed: int, *, clients: int = 2, tasks: int = 8, base: tuple[Store, Query] | None = None) -> None:
        self.seed, self.rng = seed, random.Random(seed)  # noqa: S311 a simulation
        self.clock = ManualClock()
        self.store, self.query = base or _in_memory()
        self.options = Options(
            lease_ms=self.rng.choice([800, 3_000]), heartbeat_ms=300, reattach_ms=500, exit_wait_ms=200,
            cancel_grace_ms=400, ticket_wait_ms=1_000,
        )  # fmt: skip
        self.agents = {name: self._agent(name) for name in AGENTS}
        self.broker: Broker | None = None
        self.broker_clock: BrokerClock | None = None
        self.wires: list[Wire] = []
        self.instances: list[Instance] = []
        self.clients = [Client(self, number, tasks) for number in range(clients)]
        self.linked = False
        self.pressure: dict[str, Any] = {}
        self.unlucky = True
        self._broker_death = self.rng.choice([0.0, 0.004, 0.012, 0.03])
        self._group: Group | None = None
        self._is_committed = False
        self._pushes: deque[dict[str, Any]] = deque()
        self._answers: deque[tuple[Callable[[dict[str, Any]], None], dict[str, Any]]] = deque()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._tickets = 0
        self.checks = Checks(self)
        self.start_broker()

    def _agent(self, name: str) -> AgentFacts:
        """Draw what the plan says of an agent."""
        interval_us = self.rng.choice(_INTERVALS_US)
        rate = {"interval_us": interval_us, "burst": self.rng.randint(1, 3)} if interval_us else {}
        retry = {"base_ms": 100, "factor": 1.5, "max_ms": 1_000, "jitter": self.rng.choice(["full", "none"]),
                 "budget": self.rng.choice([0.0, 0.2]), "least_us": self.rng.choice([20_000, 1_000_000])}  # fmt: skip
        breaker = {"enabled": self.chance(0.7), "failures": self.rng.randint(1, 3), "volume": self.rng.randint(2, 10),
                   "window_ms": 2_000, "pause_ms": self.rng.choice([50, 400]), "pause_ms_max": 800,
                   "probes": self.rng.randint(1, 2), "timeout_ms": 100}  # fmt: skip
        return AgentFacts(
            name, "/m", skills=[{"name": "do"}], instances_max=4, rate=rate, retry=retry, breaker=breaker,
            schedules=[self._schedule(number) for number in range(self.rng.randint(0, 2))],
        )  # fmt: skip

    def _schedule(self, number: int) -> dict[str, Any]:
        """Draw a schedule: every second, or every other."""
        cron = self.rng.choice(["* * * * * *", "*/2 * * * * *"])
        catch_up = self.rng.choice(["none", "last"])
        data = {"kind": "ok", "width": 0, "depth": 0}
        return {"name": f"s{number}", "cron": cron, "timezone": "UTC", "skill": "do", "input": data,
                "catch_up": catch_up}  # fmt: skip

    def chance(self, share: float) -> bool:
        """Whether something happens that happens this often."""
        return self.rng.random() < share

    def log(self, text: str) -> None:
        """Remember what happened, for the report of a broken promise."""
        self._log.append(f"{self.clock.monotonic_ms()} {text}")

    def fail(self, what: str) -> None:
        """A promise is broken.

        Raises:
            SimulationError: always.
        """
        lines = "\n".join(self._log)
        raise SimulationError(f"seed {self.seed}: {what}; replay with World({self.seed}).run()\n{lines}")

    # The broker's life

    def start_broker(self) -> None:
        """Start a broker on what is stored."""
        boot = self.rng.choice(["", "boot"])
        self.broker_clock = BrokerClock(self.clock, self.store.reading(), boot)
        self.checks.clock_started(self.broker_clock.now_ms())
        self.broker = Broker(
            self.store, self.broker_clock, Directory(self.agents), self.options,
            rng=random.Random(self.seed), supervisor=self._supervise,  # noqa: S311 a simulation
        )  # fmt: skip

    def kill_broker(self) -> None:
        """``kill -9``: what is not committed is gone, and so is everything in memory."""
        phase = "idle" if self._group is None else "committed, not answered" if self._is_committed else "in a group"
        self.log(f"broker dies ({phase})")
        self.store.rollback()
        self.broker, self._group, self._is_committed = None, None, False
        self.checks.broker_died()
        self.linked = False
        self._pushes.clear()
        self._answers.clear()
        for wire in self.wires:
            wire.cut()

    # The supervisor

    def _supervise(self, request: dict[str, Any], answered: Callable[[dict[str, Any]], None] | None) -> bool:
        if not self.linked:
            return False
        if request["op"] == "wake":
            reply = self._woken(request["agent"], request["want"])
            if answered is not None:
                self._answers.append((answered, reply))
        elif request["op"] == "kill":
            for instance in self.instances:
                if instance.ticket == request["ticket"] and instance.alive:
                    self.kill_instance(instance, own=True)
        return True

    def _woken(self, agent: str, want: int) -> dict[str, Any]:
        if self.unlucky and self.chance(0.2):
            return {"ok": True, "status": self.rng.choice(["wait", "no"]), "why": "no luck"}
        starting = [i for i in self.instances if i.alive and i.agent == agent and not i.ever_connected]
        living = sum(i.alive and i.agent == agent for i in self.instances)
        for _ in range(min(want - len(starting), 4 - living)):
            self._tickets += 1
            instance = Instance(self, agent, f"k{self._tickets}", 1_000 + self._tickets)
            self.instances.append(instance)
            self.push(instance.as_push("ticket"))
            self.log(f"{instance.ticket} of {agent} forked")
        return {"ok": True, "status": "yes", "why": ""}

    def _draw_pressure(self) -> dict[str, Any]:
        """Draw how much the broker may hand out."""
        return {"priority_max": self.rng.choice([9, 9, 3, 0]), "share": self.rng.choice([1.0, 1.0, 0.5, 0.0])}

    def push(self, push: dict[str, Any]) -> None:
        """The supervisor says something, if anybody listens."""
        if self.linked:
            self._pushes.append(push)

    def kill_instance(self, instance: Instance, *, own: bool) -> None:
        """An instance dies."""
        self.log(f"{instance.ticket} dies (own={own}, runs {instance.held()})")
        instance.die()
        self.push({**instance.as_push("exit"), "reason": "signal", "status": 9, "own": own})

    # Steps

    def run(self) -> World:
        """Live through the unlucky part and the peaceful one, then check what is left.

        Raises:
            SimulationError: a promise is broken.
        """
        for _ in range(_UNLUCKY_STEPS):
            self._step()
        self.unlucky = False
        for name, facts in self.agents.items():  # else it would never come to rest
            self.agents[name] = replace(facts, schedules=[])
        for number in range(_PEACEFUL_STEPS_MAX):
            if number % _REST_EVERY_STEPS == 0 and self._is_at_rest():
                break
            self._step()
        else:
            self.fail(f"did not come to rest: {self.checks.open_tasks()}")
        self.checks.at_the_end()
        return self

    def _is_at_rest(self) -> bool:
        return all(client.is_done() for client in self.clients) and self._group is None and not self.checks.open_tasks()

    def _step(self) -> None:
        if self.broker is None:
            self._move_time()
            if not self.unlucky or self.chance(0.3):
                self.start_broker()
        elif self.unlucky and self.rng.random() < self._broker_death:
            self.kill_broker()
            return
        actions = (self._deliver, self._advance_group, self._somebody_acts, self._supervisor_acts, self._move_time)
        self.rng.choices(actions, weights=_WEIGHTS)[0]()

    def _deliver(self) -> None:
        busy = [w for w in self.wires if w.to_broker or w.to_peer or w.broker_closed or w.peer_closed]
        if not busy:
            return
        wire = self.rng.choice(busy)
        if self.broker is not None and wire.session is not None and wire.to_broker:
            self.broker.received(wire.session, wire.to_broker.popleft())
        elif wire.peer_closed or (wire.broker_closed and not wire.to_peer):
            if wire.session is not None and self.broker is not None:
                session, wire.session = wire.session, None
                self.broker.disconnected(session)
            wire.broker_closed = wire.peer_closed = True
            wire.to_peer.clear()
            self.wires.remove(wire)

    def connect(self, pid: int) -> Wire | None:
        """Somebody connects; None while the broker is away."""
        if self.broker is None:
            return None
        wire = Wire(self, pid)
        wire.session = self.broker.connected(wire)
        self.wires.append(wire)
        return wire

    def _advance_group(self) -> None:
        broker, clock = self.broker, self.broker_clock
        if broker is None or clock is None:
            return
        if self._group is None:
            if broker.journal.pending or broker.has_work():
                room = self.rng.choice([_ROOM, 60])
                self._group = run_group(self.store, clock, broker.journal.take(), broker.hooks, room)
                self._is_committed = False
                self.checks.claims(self._group, clock.now_ms())
        elif not self._is_committed:
            self.store.commit(clock.reading())
            self._is_committed = True
            self.checks.after_commit()
        else:
            group, self._group = self._group, None
            broker.journal.put_back(group.later)
            broker.committed(group.done)
            settle(group.done)

    def _somebody_acts(self) -> None:
        living = [instance for instance in self.instances if instance.alive]
        people: list[Client | Instance] = [*self.clients, *living]
        person = self.rng.choice(people)
        if self.unlucky and isinstance(person, Instance):
            if self.chance(0.02):
                self.kill_instance(person, own=self.chance(0.5))
                return
            if self.chance(0.02):
                person.freeze(self.rng.choice([500, 5_000]))
        person.act()

    def _supervisor_acts(self) -> None:
        broker = self.broker
        if broker is None:
            return
        if not self.linked:
            self.linked = True
            broker.linked(up=True)
            living = [instance.as_push("ticket") for instance in self.instances if instance.alive]
            self._pushes.appendleft({"push": "tickets", "tickets": living})
            self._pushes.append({"push": "pressure", **self.pressure})
        elif self.chance(0.02):
            self.pressure = self._draw_pressure() if self.unlucky else {"priority_max": 9, "share": 1.0}
            self.push({"push": "pressure", **self.pressure})
        elif self.unlucky and self.chance(0.05):
            self.linked = False
            self._pushes.clear()
            self._answers.clear()
            broker.linked(up=False)
        elif self._answers:
            answered, reply = self._answers.popleft()
            answered(reply)
        elif self._pushes:
            broker.told(self._pushes.popleft())

    def _move_time(self) -> None:
        step = self.rng.choice([1, 5, 20, 100])
        if self.broker is None or self.broker_clock is None:
            self.clock.advance(step)
            return
        left = self.broker.next_tick_ms() - self.broker_clock.now_ms()
        punctual = self.chance(0.95)
        self.clock.advance(max(0, min(step, left)) if punctual else step)
        if self.unlucky and self.chance(0.02):
            self.clock.jump_wall(self.rng.choice([-5_000, 5_000]))
        if self.broker.next_tick_ms() <= self.broker_clock.now_ms():
            self.broker.tick()
