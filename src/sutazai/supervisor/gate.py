"""Why it exists: there is one gate on every path to a process, and no way around it.

The books and the rules are the governor's ``Ledger``; the gate translates: a plan's process, an instance, a re-adopted
one, and how much memory the host has left now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.governor.requests import Ask, Granted, Ticket, Wait
from sutazai.governor.tickets import Ledger
from sutazai.host import facts
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.clock import Clock
    from sutazai.supervisor.contract import Agent, PlanFile, Process

#: A reading of the host's memory is good for so long; what was granted meanwhile the ledger counts by itself.
READING_MS = 250
PRIORITY_PLATFORM = 0
PRIORITY_SERVICE = 3
PRIORITY_SPARE = 9
#: What a child of a worker needs while it waits for its order; its own pages were measured at 4.6 MB.
SPARE_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer.

    Attributes:
        ticket: empty when it has to wait.
        why: it has to wait.
        short: whether memory is the reason (a limit of numbers is not).
        final: whether waiting cannot help as the plan stands.
    """

    ticket: str
    why: str = ""
    short: bool = False
    final: bool = False


class Gate:
    """Gives tickets and takes them back.

    Attributes:
        ledger: the books.
        on_release: called when something became free.
        on_short: called when a process or an instance is told to wait for memory.
    """

    def __init__(self, clock: Clock) -> None:
        self.ledger = Ledger()
        self.on_release: Callable[[], None] = lambda: None
        self.on_short: Callable[[], None] = lambda: None
        self._clock = clock
        self._available_bytes = 0
        self._read_ms = -READING_MS

    def set_plan(self, plan: PlanFile) -> None:
        """Take over pools and headroom."""
        self.ledger.set_pools(plan.pools, plan.headroom_bytes)

    def ask_process(self, spec: Process) -> Admission:
        """Ask for a process of the plan."""
        priority = PRIORITY_SERVICE if spec.kind == "service" else PRIORITY_PLATFORM
        return self._ask(Ask("process", spec.name, spec.pool, spec.envelope_bytes, priority))

    def ask_instance(self, agent: Agent, ticket: str) -> Admission:
        """Ask for an instance, under a ticket's name that its group bears."""
        return self._ask(Ask("instance", agent.name, agent.pool, agent.envelope_bytes, ticket=ticket))

    def ask_spare(self, worker: str, pool: str, ticket: str) -> bool:
        """Ask for a worker's spare; it never waits, so that nobody ever waits for it."""
        granted = self._ask(Ask("spare", worker, pool, SPARE_BYTES, PRIORITY_SPARE, ticket)).ticket
        if not granted:
            self.ledger.give_up("spare", worker, pool)
        return bool(granted)

    def give_up(self, spec: Process) -> None:
        """A process does not want to start any more."""
        self.ledger.give_up("process", spec.name, spec.pool)

    def rebuild_process(self, spec: Process, ticket: str, pid: int) -> None:
        """A process lives already."""
        self._rebuild(Ticket(ticket, "process", spec.name, spec.pool, spec.envelope_bytes, pid=pid))

    def rebuild_instance(self, agent: Agent, ticket: str, pid: int) -> None:
        """An instance lives already."""
        self._rebuild(Ticket(ticket, "instance", agent.name, agent.pool, agent.envelope_bytes, pid=pid))

    def bind(self, ticket: str, pid: int) -> None:
        """The process is in its group."""
        if self.ledger.get(ticket) is not None:
            self.ledger.bind(ticket, pid)

    def resize(self, ticket: str, envelope_bytes: int) -> None:
        """What a ticket reserves has changed."""
        if self.ledger.get(ticket) is not None:
            self.ledger.resize(ticket, envelope_bytes)
            self.on_release()

    def release(self, ticket: str) -> None:
        """The group is gone."""
        if self.ledger.release(ticket):
            self.on_release()

    def take_back(self, ticket: str) -> None:
        """Free a ticket that is asked for again at once: nobody else is told."""
        self.ledger.release(ticket)

    def _rebuild(self, ticket: Ticket) -> None:
        if self.ledger.get(ticket.id) is None:
            self.ledger.rebuild([ticket])

    def _ask(self, ask: Ask) -> Admission:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._read_ms >= READING_MS:
            self._available_bytes = facts.memory_available_bytes()
            self._read_ms = now_ms
        answer = self.ledger.ask(ask, self._available_bytes, now_ms)
        if isinstance(answer, Granted):
            return Admission(answer.ticket.id)
        short = not isinstance(answer, Wait) or answer.reason != "instances"
        if short and ask.kind != "spare":
            self.on_short()
        return Admission("", answer.why, short=short, final=not isinstance(answer, Wait))
