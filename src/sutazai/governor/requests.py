"""Why it exists: what is asked of the gate and what it answers are plain frozen data, apart from the deciding.

Sizes are bytes, times are monotonic milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from sutazai.limits import PRIORITY_AGING_MS, PRIORITY_DEFAULT

Kind = Literal["process", "instance", "spare"]
Reason = Literal["pool", "host", "instances", "turn"]


class PoolLike(Protocol):
    """A memory pool, like ``supervisor.contract.Pool``."""

    @property
    def name(self) -> str:
        """Unique name."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its budget."""
        ...

    @property
    def parent(self) -> str:
        """The pool that it is cut from, else empty."""
        ...

    @property
    def instance_limit(self) -> int:
        """Instances in it and in pools cut from it; 0 is no limit."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to occupy memory.

    Attributes:
        kind: ``process`` of the plan, ``instance`` of an agent, or a worker's ``spare``.
        name: of the process or the agent.
        pool: memory pool.
        envelope_bytes: what it needs at its worst moment.
        priority: 0 is the most urgent.
        ticket: name for the ticket; empty makes a new one.
    """

    kind: Kind
    name: str
    pool: str
    envelope_bytes: int
    priority: int = PRIORITY_DEFAULT
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to occupy memory.

    Attributes:
        id: unique name.
        kind: as asked.
        name: as asked.
        pool: as asked.
        envelope_bytes: what it reserves.
        used_bytes: real use, as last observed.
        pid: bound process, 0 before the fork.
    """

    id: str
    kind: Kind
    name: str
    pool: str
    envelope_bytes: int
    used_bytes: int = 0
    pid: int = 0

    @property
    def charge_bytes(self) -> int:
        """What its pool is charged."""
        return max(self.envelope_bytes, self.used_bytes)

    @property
    def unseen_bytes(self) -> int:
        """Reserved, and not yet visible as use: ``MemAvailable`` still counts it as free."""
        return max(0, self.envelope_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class Granted:
    """Yes."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now; ask again.

    Attributes:
        why: for a person.
        need_bytes: memory that is short; 0 when memory is not the reason.
        reason: ``pool`` (full), ``host`` (short of memory), ``instances`` (limit of the pool), ``turn`` (others first).
    """

    why: str
    need_bytes: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class No:
    """Never, as the plan stands."""

    why: str


@dataclass(frozen=True, slots=True)
class Waiter:
    """Somebody who was told to wait.

    Attributes:
        ask: the request.
        since_ms: first asked.
        seen_ms: last asked.
        answer: what it was told last.
    """

    ask: Ask
    since_ms: int
    seen_ms: int
    answer: Wait

    @property
    def rank(self) -> tuple[int, int, str]:
        """Place in the queue; lower is sooner. It is fixed, so every newcomer is overtaken in the end."""
        return self.ask.priority * PRIORITY_AGING_MS + self.since_ms, self.since_ms, self.ask.name


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One pool.

    Attributes:
        name: of the pool.
        size_bytes: its budget.
        charged_bytes: by its own tickets.
        cut_bytes: taken out by pools cut from it.
        reserved_bytes: envelopes of its own tickets.
        used_bytes: real use of its own tickets.
        instances: in it and below it.
        waiting: requests that wait for it.
    """

    name: str
    size_bytes: int
    charged_bytes: int
    cut_bytes: int
    reserved_bytes: int
    used_bytes: int
    instances: int
    waiting: int

    @property
    def free_bytes(self) -> int:
        """What can still be granted; negative when real use went above the envelopes."""
        return self.size_bytes - self.charged_bytes - self.cut_bytes


@dataclass(frozen=True, slots=True)
class Statistics:
    """The ledger.

    Attributes:
        pools: in the plan's order.
        tickets: held now.
        granted: since the start of this process.
        told_to_wait: requests, each counted once until it is granted or given up.
        refused: since the start.
        released: since the start.
    """

    pools: tuple[PoolStatistics, ...]
    tickets: int
    granted: int
    told_to_wait: int
    refused: int
    released: int
