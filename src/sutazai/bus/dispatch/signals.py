"""Why it exists: what is known of the signals on their way is a few numbers for each agent, decided on without any I/O.

For each agent with work there is one *lane*: how many signals were sent and not delivered, which were delivered and
wait for an idle instance, and which looks the sweep granted. A message carries the signals of one group: an identifier
each. Everything is count-based: a signal means "look once", its identifier names a task that was ready, for people to
read. So a lost one is missing from a number, a doubled one is one look too many, and an order does not exist.

``rabbitmq`` is the wire below it; the tests put a scripted one there that loses, doubles and reorders.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sutazai.bus.dispatch.protocol import ALWAYS, Signal
from sutazai.limits import DISPATCH_SIGNALS_MAX, DISPATCH_SIGNALS_PER_MESSAGE_MAX, DISPATCH_SWEEP_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.bus.dispatch.protocol import Site
    from sutazai.store.model import Event

AWAY, UP, BLOCKED = "away", "up", "blocked"


class Wire(Protocol):
    """Carries signals. None of these waits; answers come as calls of ``Signals``."""

    def prepare(self, agent: str) -> None:
        """Have a queue and a consumer for an agent, then call ``prepared``; again when they exist: look after them."""

    def publish(self, agent: str, tasks: Sequence[str]) -> None:
        """Send signals as one message; ``failed`` is called when it was not taken."""

    def acknowledge(self, tag: int) -> None:
        """None of a delivered message's signals is needed any more."""


@dataclass(slots=True)
class Lane:
    """The signals of one agent.

    Attributes:
        sent: published and not delivered.
        held: of those that were delivered and not used, the number of their message each.
        granted: looks that the sweep gave for signals that did not come.
        prepared: the queue is there and is consumed; until then the broker looks by itself.
        asking: identifiers are being read from the store.
    """

    sent: int = 0
    held: deque[int] = field(default_factory=deque)
    granted: int = 0
    prepared: bool = False
    asking: bool = False

    @property
    def in_flight(self) -> int:
        """Looks that are still to come or at hand."""
        return self.sent + len(self.held)


@dataclass(slots=True)
class Totals:
    """Counters since the broker started.

    Attributes:
        published: signals given to the wire.
        failed: signals that the other side refused, returned or never confirmed.
        delivered: signals that came.
        used: signals that led to a claim.
        surplus: signals that came and had nothing to look for (their tasks were claimed otherwise, or ended).
        direct: claims made without a signal, because the other side was away, blocked or not yet prepared.
        swept: looks granted because a signal did not come.
        lost: how often the connection was lost.
    """

    published: int = 0
    failed: int = 0
    delivered: int = 0
    used: int = 0
    surplus: int = 0
    direct: int = 0
    swept: int = 0
    lost: int = 0


class Signals:
    """Lanes, and whether they may be trusted.

    Args:
        wire: below.
        site: above.
    """

    def __init__(self, wire: Wire, site: Site) -> None:
        self._wire, self._site = wire, site
        self.lanes: dict[str, Lane] = {}
        self.totals = Totals()
        self.state, self.why = AWAY, "not connected yet"
        self.epoch = 0
        self._stuck: dict[str, int] = {}
        self._left: dict[int, int] = {}  # by message: signals that are not settled

    # The broker asks

    def looks(self, agent: str) -> int:
        """Claims that may be made now; no bound while there are no signals to trust."""
        lane = self.lanes.get(agent)
        if self.state != UP or lane is None or not lane.prepared:
            return ALWAYS
        return len(lane.held) + lane.granted

    def take(self, agent: str) -> Signal:
        """Use one look: a delivered signal if there is one."""
        lane = self.lanes.get(agent)
        if lane is not None and lane.held:
            return Signal(agent, self.epoch, lane.held.popleft())
        if lane is not None and lane.granted:
            lane.granted -= 1
        return Signal(agent)

    def used(self, signal: Signal) -> None:
        """The claim is on disk."""
        if not signal.tag:
            self.totals.direct += 1
            return
        self.totals.used += 1
        if signal.epoch == self.epoch:
            self._settle(signal.tag)

    def unused(self, signal: Signal) -> None:
        """The claim came to nothing: the signal stands for the next one."""
        lane = self.lanes.get(signal.agent)
        if signal.tag and signal.epoch == self.epoch and lane is not None:
            lane.held.appendleft(signal.tag)

    def committed(self, events: Sequence[Event]) -> None:
        """Send signals for what has become ready and is not claimed yet."""
        if self.state != UP:
            return
        touched: dict[str, list[str]] = {}
        for event in events:
            tasks = touched.setdefault(event.agent, [])
            if event.kind == "queued" or (event.kind == "retry" and not event.data.get("in_ms")):
                tasks.append(event.task)
        for agent, tasks in touched.items():
            self._balance(agent, tasks)

    def tick(self, now_ms: int, waiting: Sequence[tuple[str, int]]) -> None:
        """Grant looks to agents that have been waiting for a signal for too long, and look after their queues."""
        if self.state != UP:
            self._stuck.clear()
            return
        self._stuck = {agent: self._stuck.get(agent, now_ms) for agent, _ in waiting}
        for agent, number in waiting:
            lane = self.lanes.get(agent)
            if lane is None or now_ms - self._stuck[agent] < DISPATCH_SWEEP_MS:
                continue
            self._stuck[agent] = now_ms
            lane.granted += number
            self.totals.swept += number
            self._wire.prepare(agent)

    def facts(self) -> dict[str, Any]:
        """State and counters."""
        return {
            "state": self.state,
            "why": self.why,
            "lanes": len(self.lanes),
            "in_flight": sum(lane.in_flight for lane in self.lanes.values()),
            **asdict(self.totals),
        }

    # The wire tells

    def connected(self) -> None:
        """A connection is there: nothing is known of what an older one left behind, so everything is looked at anew."""
        self._forget()
        self.state, self.why = UP, ""
        known = dict.fromkeys([*self.lanes, *self._site.agents()])
        agents = [agent for agent in known if self._site.instances_max(agent) > 0]
        self.lanes = {agent: Lane() for agent in agents}
        for agent in agents:
            self._wire.prepare(agent)

    def lost(self, why: str) -> None:
        """The connection is gone, or could not be made."""
        if self.state != AWAY:
            self.totals.lost += 1
        self._forget()
        self.state, self.why = AWAY, why
        for agent in self.lanes:
            self.lanes[agent] = Lane()
        self._site.wake()

    def _forget(self) -> None:
        """What came over a connection that is gone will come again."""
        self.epoch += 1
        self._left.clear()

    def blocked(self, why: str) -> None:
        """The other side takes no signals; what it holds still comes."""
        self.state, self.why = BLOCKED, why
        self._site.wake()

    def unblocked(self) -> None:
        """It takes signals again: send those that were not sent meanwhile."""
        self.state, self.why = UP, ""
        for agent in list(self.lanes):
            self._balance(agent, [])

    def prepared(self, agent: str, waiting: int) -> None:
        """The queue of an agent is there and consumed; so many signals were in it."""
        lane = self.lanes.get(agent)
        if lane is None:
            return
        lane.prepared, lane.sent = True, waiting
        if self.state == UP:
            self._balance(agent, [])

    def unprepared(self, agent: str) -> None:
        """The consumer of an agent was taken away: look directly until there is another one."""
        if (lane := self.lanes.get(agent)) is not None:
            lane.prepared = False
            self._wire.prepare(agent)
            self._site.wake()

    def dropped(self, agent: str) -> None:
        """The agent is in the plan no more: nobody is there to look for."""
        lane = self.lanes.pop(agent, None)
        for tag in lane.held if lane is not None else ():
            self._settle(tag)

    def delivered(self, agent: str, tag: int, number: int) -> None:
        """A message with so many signals came."""
        self.totals.delivered += number
        self._left[tag] = number
        lane = self.lanes.get(agent) or Lane()  # what still comes for an agent without a lane is let go
        lane.sent = max(0, lane.sent - number)
        lane.held.extend([tag] * number)
        if agent not in self.lanes:
            self._trim(lane, 0)
            return
        self._trim(lane, self._site.ready(agent))
        if lane.held:
            self._site.wake()

    def failed(self, agent: str, number: int) -> None:
        """So many signals were not taken; the sweep looks in their place."""
        self.totals.failed += number
        lane = self.lanes.get(agent)
        if lane is not None:
            lane.sent = max(0, lane.sent - number)

    # Balance

    def _balance(self, agent: str, tasks: list[str]) -> None:
        """Have as many signals in flight as there are tasks to claim, up to the bound.

        Args:
            agent: whose.
            tasks: identifiers that became ready; what is missing beyond them is read from the store.
        """
        lane = self.lanes.get(agent)
        if lane is None:
            if self._site.instances_max(agent) > 0:
                self.lanes[agent] = Lane()
                self._wire.prepare(agent)
            return
        if not lane.prepared:
            return
        ready = self._site.ready(agent)
        missing = min(ready, DISPATCH_SIGNALS_MAX) - lane.in_flight
        if missing <= 0:
            self._trim(lane, ready)
            return
        self._send(agent, lane, tasks[:missing])
        missing -= min(missing, len(tasks))
        # Far behind a long queue, the store is read once for half of the bound, not for each signal that was used.
        is_worth_it = ready <= DISPATCH_SIGNALS_MAX or lane.in_flight <= DISPATCH_SIGNALS_MAX // 2
        if missing and is_worth_it and not lane.asking:
            lane.asking = True
            self._site.ids(agent, missing, lambda found: self._found(agent, lane, found))

    def _found(self, agent: str, lane: Lane, tasks: list[str]) -> None:
        lane.asking = False
        if self.state == UP and lane.prepared and self.lanes.get(agent) is lane:
            missing = min(self._site.ready(agent), DISPATCH_SIGNALS_MAX) - lane.in_flight
            self._send(agent, lane, tasks[: max(0, missing)])

    def _send(self, agent: str, lane: Lane, tasks: list[str]) -> None:
        lane.sent += len(tasks)
        self.totals.published += len(tasks)
        for first in range(0, len(tasks), DISPATCH_SIGNALS_PER_MESSAGE_MAX):
            self._wire.publish(agent, tasks[first : first + DISPATCH_SIGNALS_PER_MESSAGE_MAX])

    def _trim(self, lane: Lane, ready: int) -> None:
        """Let go of delivered signals that no task is left for."""
        while lane.held and len(lane.held) > max(0, ready):
            self._settle(lane.held.pop())
            self.totals.surplus += 1

    def _settle(self, tag: int) -> None:
        """One signal of a message is done with."""
        left = self._left.get(tag, 0) - 1
        if left > 0:
            self._left[tag] = left
        else:
            self._left.pop(tag, None)
            self._wire.acknowledge(tag)
