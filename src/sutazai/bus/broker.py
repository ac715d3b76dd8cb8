"""Why it exists: the whole of the broker's decisions, without a socket, a thread or a clock of its own.

Messages, closed connections, words of ``sutazaid`` and ticks come in; operations go into the journal, messages go to
peers. The caller runs groups (``group.run_group``), commits them, tells ``committed`` and settles them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sutazai.bus import messages
from sutazai.bus.bulkhead import Bulkhead
from sutazai.bus.caching import CacheDesk
from sutazai.bus.clients import ClientDesk
from sutazai.bus.demand import Demand
from sutazai.bus.dispatch.match import Dispatcher
from sutazai.bus.dispatch.protocol import Site
from sutazai.bus.each import EachDesk
from sutazai.bus.group import Entry, GroupHooks, Journal
from sutazai.bus.instances import InstanceDesk, Ticket
from sutazai.bus.leases import LeaseBook
from sutazai.bus.pressure import Pressure, Valve
from sutazai.bus.resilience import Guards, may_be_failure
from sutazai.bus.schedules import Scheduler
from sutazai.bus.sessions import Session
from sutazai.bus.spill import SpillDesk
from sutazai.bus.statistics import Meters, Statistics
from sutazai.bus.watch import Watches, error_message, is_end
from sutazai.errors import InvalidInputError, ProtocolError, RefusedError
from sutazai.outside import HUMAN, OUTSIDE, SIGNAL
from sutazai.store.model import Event, Expire, Outcome, Promote, Purge, PurgeStates, Ready
from sutazai.units import format_duration_ms

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

    from sutazai.bus.clock import BrokerClock
    from sutazai.bus.directory import Directory
    from sutazai.bus.dispatch.protocol import Driver
    from sutazai.bus.options import Options
    from sutazai.bus.sessions import Peer
    from sutazai.store.protocol import Store
    from sutazai.wire.planfacts import AgentFacts

    Send = Callable[[dict[str, Any], Callable[[dict[str, Any]], None] | None], bool]

TICK_MS = 250
_HELLO_WAIT_MS = 10_000
_RELIEVE_EVERY_MS = 1_000
_PURGE_EVERY_MS = 5_000
_PAUSE_NOTICED_MS = 500

_log = logging.getLogger(__name__)


def _nobody(_: dict[str, Any], __: Callable[[dict[str, Any]], None] | None) -> bool:
    """There is no ``sutazaid``."""
    return False


class Broker:
    """Decides.

    Args:
        store: the truth.
        clock: the broker's.
        directory: the agents of the plan.
        options: times and modes.
        rng: for jitter; a test seeds it.
        supervisor: sends a request to ``sutazaid``; gives False when it is not there.
    """

    def __init__(
        self, store: Store, clock: BrokerClock, directory: Directory, options: Options, *,
        rng: random.Random, supervisor: Send = _nobody,
    ) -> None:  # fmt: skip
        self.store, self.clock, self.directory, self.options, self.rng = store, clock, directory, options, rng
        self._supervisor = supervisor
        self.journal = Journal()
        self.meters = Meters()
        self.watches = Watches(self.journal)
        self.each = EachDesk(self.journal)
        self.guards = Guards(directory, clock, rng)
        self.bulkhead = Bulkhead(store.calls(), directory.calls_max)
        self.leases = LeaseBook(self.journal, options, rng, self.end_instance, self.guards)
        self.valve = Valve(self.journal, directory, self._eased)
        self.spill, self.cache = SpillDesk(self), CacheDesk(self)
        self.instances = InstanceDesk(self)
        self.guards.serve(self.leases.started_ms, self.instances.claiming)
        self.clients = ClientDesk(self)
        self.dispatcher = Dispatcher(self.instances.deliver, directory, self.valve, self.let_start)
        self.demand = Demand(supervisor, directory, self._startable)
        self.schedules = Scheduler(self)
        self.hooks = GroupHooks(self._extend, self._undone)
        self.sessions: dict[Session, None] = {}  # in order: the simulation is repeatable
        now_ms = clock.now_ms()
        self._started_wall_ms = clock.wall_ms()
        self._due_ms, self._deadline_ms = store.timers()
        self._tick_ms = now_ms
        self._relieve_ms = self._purge_ms = now_ms
        self._timers_running = 0
        self.leases.restore(store.leases(), now_ms)

    def dispatch_by(self, driver: Driver) -> None:
        """Let a driver say where to look; to be called before anything else. Without it the broker looks everywhere."""
        counts = self.store.counts

        def ids(agent: str, limit: int, found: Callable[[list[str]], None]) -> None:
            self.journal.enqueue(
                Ready(agent, limit), lambda result: found(result.reply if isinstance(result, Outcome) else [])
            )

        def wake() -> None:
            if self.has_work():
                self.journal.wake()

        self.dispatcher.driver = driver
        driver.serve(
            Site(
                ready=lambda agent: counts.of(agent).ready,
                agents=lambda: [agent for agent, entry in counts.agents.items() if entry.ready > 0],
                instances_max=lambda agent: 0 if agent in OUTSIDE else self.directory.instances_max(agent),
                ids=ids, wake=wake,
            )
        )  # fmt: skip

    # Connections

    def connected(self, peer: Peer) -> Session:
        """A connection was taken."""
        session = Session(peer, self.clock.now_ms())
        self.sessions[session] = None
        return session

    def disconnected(self, session: Session) -> None:
        """A connection is gone."""
        session.closed = True
        self.sessions.pop(session, None)
        self.watches.closed(session)
        self.each.closed(session)
        self.instances.closed(session)

    def received(self, session: Session, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """A message came in. What is no protocol is answered with an error, and the connection is closed."""
        try:
            self._route(session, message["t"], message, blobs)
        except RefusedError as error:
            self.meters.totals.refused += 1
            session.reply(_request_of(message), error_message(error))
        except ProtocolError as error:
            session.reply(_request_of(message), error_message(error))
            session.peer.close()

    def _route(self, session: Session, kind: str, message: dict[str, Any], blobs: Sequence[bytes]) -> None:
        if kind in {"upload", "cache"} and len(blobs) == 1:
            message = {**message, "raw": blobs[0]}
        elif blobs:
            raise InvalidInputError(f"a message {kind!r} has no raw parts, or one")
        if kind == "hello" and not session.role:
            self._hello(session, message)
        elif session.role == "client" and kind in messages.CLIENT_MESSAGES:
            self.clients.serve(session, kind, message)
        elif session.role == "instance" and kind in messages.INSTANCE_MESSAGES:
            self.instances.serve(session, kind, message)
        else:
            raise ProtocolError(f"a message {kind!r} has no place in a connection of role {session.role or 'none'}")

    def _hello(self, session: Session, message: dict[str, Any]) -> None:
        if message.get("v") != messages.PROTOCOL_VERSION:
            raise ProtocolError(f"this broker speaks version {messages.PROTOCOL_VERSION}, not {message.get('v')!r}")
        try:
            hello: messages.Hello = messages.read(messages.Hello, message)
        except InvalidInputError as error:
            raise ProtocolError(error.detail) from error
        if hello.role == "instance":
            self.instances.hello(session, message)
            return
        session.role, session.name = "client", hello.name
        if not self._is_trusted(session.peer):
            session.role = ""
            raise ProtocolError(f"uid {session.peer.uid} may not be a client of this broker")
        session.reply(
            hello.id,
            {"t": "welcome", "v": messages.PROTOCOL_VERSION, "lease_ms": self.options.lease_ms,
             "heartbeat_ms": self.options.heartbeat_ms},
        )  # fmt: skip

    @staticmethod
    def _is_trusted(peer: Peer) -> bool:
        import os

        return peer.uid in {0, os.geteuid()}

    # Groups

    def has_work(self) -> bool:
        """Whether a group without any operation of its own would do something."""
        return self.dispatcher.can_match(self.store.counts)

    def _extend(self, entries: list[Entry]) -> list[Entry]:
        """Add the claims that have become possible, and reads for those who wait for what has just ended."""
        events = _events_of(entries)
        ended = [event for event in events if is_end(event)]
        judged = frozenset(event.agent for event in events if may_be_failure(event))
        claims = self.dispatcher.matches(self.store.counts, judged)
        return claims + self.watches.reads_for(ended) + self.each.reads_for(ended) if ended else claims

    def _undone(self) -> None:
        self.dispatcher.undone()

    def committed(self, entries: list[Entry]) -> None:
        """A group is on disk; to be called before it is settled."""
        self.meters.totals.groups += 1
        self.meters.totals.operations += len(entries)
        self.dispatcher.settled()
        now_ms = self.clock.now_ms()
        for entry in entries:
            if not isinstance(entry.result, Outcome):
                continue
            outcome = entry.result
            if outcome.due_ms and (not self._due_ms or outcome.due_ms < self._due_ms):
                self._due_ms = outcome.due_ms
            if outcome.deadline_ms and (not self._deadline_ms or outcome.deadline_ms < self._deadline_ms):
                self._deadline_ms = outcome.deadline_ms
            for event in outcome.events:
                self._happened(event)
            for task, fence in outcome.revoked:
                self.leases.revoke(task, fence, now_ms)
            if outcome.files:
                self.spill.remove(outcome.files)
        if self.dispatcher.driver.carries:
            self.dispatcher.driver.committed(_events_of(entries))
        self.look_for_demand()

    def _happened(self, event: Event) -> None:
        self.bulkhead.happened(event)
        if self.guards.happened(event):
            self.guards.fall_back(self.journal, event.agent)
        self.meters.totals.fallbacks += event.kind == "fallback" or "fallback" in event.data
        if is_end(event):
            self.meters.ended(event.kind, event.agent)
        elif event.kind == "retry":
            self.meters.totals.retries += 1
            self.meters.totals.lost += event.data["error"]["code"] in {"lost", "interrupted"}
        self.watches.announce(event)

    # Time

    def next_tick_ms(self) -> int:
        """When ``tick`` wants to be called at the latest, broker's time."""
        times = [self._tick_ms + TICK_MS]
        times += [time for time in (self.dispatcher.next_ms(), self.guards.next_ms()) if time]
        if not self._timers_running:
            times += [time for time in (self._due_ms, self._deadline_ms) if time]
        return min(times)

    def tick(self) -> None:
        """Look at everything that depends on time."""
        now_ms = self.clock.now_ms()
        self._timers(now_ms)
        probed = self.guards.tick()
        for agent in probed:
            self.demand.room(agent)
        if self.dispatcher.let_go(now_ms) or probed:
            self._eased()
        if now_ms < self._tick_ms + TICK_MS:
            return
        late_ms = now_ms - self._tick_ms - TICK_MS
        self._tick_ms = now_ms
        self.leases.tick(now_ms, late_ms if late_ms > _PAUSE_NOTICED_MS else 0)
        self.watches.tick(now_ms)
        self.each.tick(now_ms)
        self.instances.tick(now_ms)
        self.spill.tick(now_ms)
        self.cache.tick(now_ms)
        self.meters.tick(now_ms)
        self.dispatcher.look_again()
        self.dispatcher.tick(now_ms, self.store.counts)
        self.schedules.tick()
        self.valve.tick(now_ms, self.store.counts)
        for session in [s for s in self.sessions if not s.role and now_ms - s.opened_ms > _HELLO_WAIT_MS]:
            session.peer.close()
        if now_ms >= self._relieve_ms:
            self._relieve_ms = now_ms + _RELIEVE_EVERY_MS
            self.store.relieve()
        if now_ms >= self._purge_ms:
            self._purge_ms = now_ms + _PURGE_EVERY_MS
            self._purge()
            self._purge_states()
        self.look_for_demand()
        if self.has_work():
            self.journal.wake()

    def _purge(self) -> None:
        """Forget old tasks, a few in each group, until there are no more to forget."""
        operation = Purge(self.options.tasks_kept)

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, Outcome) and result.reply >= operation.limit:
                self._purge()

        self.journal.enqueue(operation, done)

    def _purge_states(self) -> None:
        """Forget states that nobody used for as long as their agent keeps them, a few in each group."""
        operation = PurgeStates(self.directory.state_keep())

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, Outcome) and result.reply >= operation.limit:
                self._purge_states()

        if operation.keep:
            self.journal.enqueue(operation, done)

    def _timers(self, now_ms: int) -> None:
        """Enqueue what is due; the store's answer says when to look again."""
        if self._timers_running:
            return

        def done(result: Outcome | RefusedError) -> None:
            self._timers_running -= 1
            self.dispatcher.look_again()
            if isinstance(result, RefusedError):  # a full disk: look again soon
                self._due_ms = self._deadline_ms = self.clock.now_ms() + TICK_MS

        if self._due_ms and now_ms >= self._due_ms:
            self._due_ms = 0
            self._timers_running += 1
            self.journal.enqueue(Promote(), done)
        if self._deadline_ms and now_ms >= self._deadline_ms:
            self._deadline_ms = 0
            self._timers_running += 1
            self.journal.enqueue(Expire(), done)

    # sutazaid

    def linked(self, *, up: bool) -> None:
        """The connection to ``sutazaid`` is there, or gone."""
        self.leases.supervised = up
        if up:
            self.demand.linked()
            self.look_for_demand()
        else:
            self.instances.acts.lost()

    def told(self, push: dict[str, Any]) -> None:
        """``sutazaid`` says something."""
        kind = push.get("push")
        if kind in {"ticket", "tickets"}:
            tickets = push["tickets"] if kind == "tickets" else [push]
            if kind == "tickets":
                self._only(entry["ticket"] for entry in tickets)
            for entry in tickets:
                self.instances.add_ticket(
                    entry["ticket"], Ticket(entry["agent"], entry["token"], entry["uid"], entry["pid"])
                )
        elif kind == "exit":
            self.instances.drop_ticket(push["ticket"])
            reason = f"the instance ended: {push.get('reason', 'unknown')} (status {push.get('status')})"
            self.leases.exited(push["ticket"], own=bool(push.get("own", True)), reason=reason)
            self.demand.room(push["agent"])
            self.look_for_demand()
        elif kind == "room":
            self.demand.room(push["agent"])
            self.look_for_demand()
        elif kind == "rest":
            self.instances.rest(list(push["tickets"]))
        elif kind == "drain":
            self.drain()
        elif kind == "pressure":
            self.valve.set(Pressure.read(push))

    def _only(self, tickets: Iterable[str]) -> None:
        """These instances live, and no others: what the others ran is not waited for."""
        living = set(tickets)
        for ticket in [ticket for ticket in self.instances.tickets if ticket not in living]:
            self.instances.drop_ticket(ticket)
        self.leases.only(living)

    def drain(self) -> None:
        """Lease nothing more, let turns finish, send instances home."""
        self.dispatcher.stopped = self.demand.stopped = self.leases.draining = True
        for instance in self.instances.by_ticket.values():
            instance.push({"t": "drain"})

    def _eased(self) -> None:
        """Something may have become claimable."""
        self.dispatcher.look_again()
        self.look_for_demand()
        if self.has_work():
            self.journal.wake()

    def _startable(self, agent: str, now_ms: int) -> int | None:
        """How many turns of an agent may start now, by its rate and by the pressure; None for any number."""
        bounds = (self.dispatcher.startable(agent, now_ms), self.let_start(agent, self.store.counts.of(agent).leased))
        return min((bound for bound in bounds if bound is not None), default=None)

    def let_start(self, agent: str, leased: int) -> int | None:
        """How many more turns of an agent pressure and breaker let start while so many run; None for any number."""
        bounds = (self.valve.room(agent, leased), self.guards.room(agent))
        return min((bound for bound in bounds if bound is not None), default=None)

    def look_for_demand(self) -> None:
        """Ask for instances where tasks are due and nobody is there."""
        if not self.leases.supervised:
            return
        self.demand.look(self.store.counts, self.instances.free, self.clock.now_ms())

    def replan(self, agents: dict[str, AgentFacts] | None) -> None:
        """The plan has changed: these are the agents now."""
        self.directory.agents = agents
        self.dispatcher.replanned()
        self.guards.replanned()
        self._eased()

    def ask(self, request: dict[str, Any], answered: Callable[[dict[str, Any]], None]) -> bool:
        """Ask ``sutazaid``; whether it was there to be asked."""
        return self._supervisor(request, answered)

    def end_instance(self, ticket: str, reason: str) -> None:
        """Ask ``sutazaid`` to kill an instance."""
        self._supervisor({"op": "kill", "ticket": ticket, "reason": reason}, None)

    # Facts

    def with_progress(self, task: dict[str, Any]) -> dict[str, Any]:
        """Add what the running turn said last, and why a queued one waits."""
        lease = self.leases.by_task.get(task["id"])
        task["progress"] = lease.progress or None if lease is not None else None
        task["why"] = self._why(task) if task["status"] == "queued" else ""
        return task

    def _why(self, task: dict[str, Any]) -> str:
        """Why a queued task waits: for somebody outside, for the rate of its agent, or as ``sutazaid`` said last."""
        if task["agent"] == HUMAN:
            return "it waits for a person: sutazai task approve, or deny"
        if task["agent"] == SIGNAL:
            return f"it waits for the signal {task['skill']}: sutazai task signal"
        now_ms = self.clock.now_ms()
        if shut := self.guards.why(task["agent"]):
            return shut
        if task["due_in_ms"] and task["error"] and (later := self.guards.why_later(task["agent"])):
            return f"{later}: next attempt in {format_duration_ms(task['due_in_ms'])}"
        left_ms = self.dispatcher.limited_ms(task["agent"], now_ms)
        if left_ms and not task["behind_session"] and not task["due_in_ms"]:
            return f"rate limit, next in {format_duration_ms(left_ms)}"
        if held := self.valve.why(task["agent"], task["priority"], self.store.counts.of(task["agent"]).leased):
            return held
        return self.demand.why(task["agent"])

    def retry_after_s(self, agent: str = "") -> int:
        """When a refused caller should come back, by how fast tasks end: those of an agent, or all."""
        counts = self.store.counts
        return self.meters.retry_after_s(counts.of(agent).open if agent else counts.open, agent)

    def statistics(self) -> Statistics:
        """One picture of the broker."""
        from dataclasses import asdict

        now_ms = self.clock.now_ms()
        instances: dict[str, int] = {}
        for instance in self.instances.by_ticket.values():
            instances[instance.agent] = instances.get(instance.agent, 0) + 1
        return Statistics(
            queues={agent: asdict(entry) for agent, entry in self.store.counts.agents.items()},
            totals=asdict(self.meters.totals),
            outcomes={agent: dict(counts) for agent, counts in self.meters.outcomes.items()},
            latency={name: histogram.summary() for name, histogram in self.meters.latency.items()},
            store=asdict(self.store.statistics()),
            instances=instances,
            connections=len(self.sessions),
            open_tasks=self.store.counts.open,
            open_bytes=self.store.counts.bytes,
            dispatch=self.dispatcher.driver.facts(),
            cache=self.cache.facts(),
            supervised=self.leases.supervised,
            draining=self.dispatcher.stopped,
            limited={agent: max(0, until_ms - now_ms) for agent, until_ms in self.dispatcher.limited().items()},
            pressure=asdict(self.valve.pressure),
            breakers=self.guards.breakers(),
            budgets=self.guards.budgets(),
            started_wall_ms=self._started_wall_ms,
        )


def _events_of(entries: Iterable[Entry]) -> list[Event]:
    return [event for entry in entries if isinstance(entry.result, Outcome) for event in entry.result.events]


def _request_of(message: dict[str, Any]) -> int | str | None:
    identifier = message.get("id")
    return identifier if isinstance(identifier, int | str) and not isinstance(identifier, bool) else None
