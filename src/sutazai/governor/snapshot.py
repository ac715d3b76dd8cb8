"""Why it exists: a decision must be made on one picture of the machine, not on files that change while it is made.

``look`` and ``look_at_host`` read the kernel once; a frozen ``Snapshot`` joins that with what the supervisor knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.host import facts, psi
from sutazai.host.cgroup import SYSTEM_ROOT, Missing, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sutazai.governor.tickets import Waiter
    from sutazai.host.cgroup import Groups

NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Member:
    """A process or an instance, as the supervisor knows it.

    Attributes:
        name: of the process or the agent.
        ticket: its ticket.
        kind: ``process`` or ``instance``.
        pool: memory pool.
        path: of its group.
        limit_bytes: memory limit of its group, 0 for none.
        charge_bytes: what its pool is charged for it.
        is_protected: never a victim.
        is_idle: an instance without a turn and without a due task.
        idle_ms: for how long.
        priority: 0 is the most urgent.
        hosted_bytes: of what it holds, charged to the tickets of instances that live inside it.
    """

    name: str
    ticket: str
    kind: str
    pool: str
    path: str
    limit_bytes: int = 0
    charge_bytes: int = 0
    is_protected: bool = False
    is_idle: bool = False
    idle_ms: int = 0
    priority: int = 5
    hosted_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """A pool, and its group.

    Attributes:
        name: of the pool.
        path: of its group.
        size_bytes: its budget.
        parent: the pool it is cut from.
    """

    name: str
    path: str
    size_bytes: int
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine.

    Attributes:
        memory_total_bytes: that we may use.
        memory_available_bytes: that is left of it.
        memory: pressure; None when the kernel does not say.
        cpu: pressure.
    """

    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    memory: psi.Pressure | None = None
    cpu: psi.Pressure | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One picture of the fleet.

    Attributes:
        at_ms: monotonic time of the look.
        host: the machine.
        pools: with their groups' use in ``usages``.
        members: processes and instances.
        usages: by path of the group.
        headroom_bytes: available memory below which nothing new starts.
        reserve_bytes: size of the emergency reserve.
        missing: limits that this host does not hold.
        waiting: who waits for a ticket, in order.
    """

    at_ms: int
    host: Host
    pools: tuple[PoolFacts, ...] = ()
    members: tuple[Member, ...] = ()
    usages: Mapping[str, Usage] = field(default_factory=dict)
    headroom_bytes: int = 0
    reserve_bytes: int = 0
    missing: tuple[Missing, ...] = ()
    waiting: tuple[Waiter, ...] = ()

    def usage(self, path: str) -> Usage:
        """Use of a group; all zero when it was not read."""
        return self.usages.get(path, NOTHING)

    def pool_used_bytes(self, pool: PoolFacts) -> int:
        """Memory of a pool that the kernel cannot drop; of its members where the pool has no group."""
        used = held_bytes(self.usage(pool.path))
        return used or sum(held_bytes(self.usage(member.path)) for member in self.members if member.pool == pool.name)


def held_bytes(usage: Usage) -> int:
    """Memory of a group that cannot be had back by dropping page cache: what a budget is about."""
    return max(usage.anon_bytes, usage.memory_bytes - usage.file_bytes)


def look(groups: Groups, paths: Iterable[str]) -> dict[str, Usage]:
    """Read groups."""
    return {path: groups.usage(path) for path in paths}


def look_at_host(system: Path = SYSTEM_ROOT) -> Host:
    """Read the machine."""
    return Host(
        memory_total_bytes=facts.memory_total_bytes(system),
        memory_available_bytes=facts.memory_available_bytes(system),
        memory=psi.read("memory", system / "proc"),
        cpu=psi.read("cpu", system / "proc"),
    )


def idle_order(member: Member) -> tuple[int, int, str]:
    """Sort key of victims: the least urgent first, then the longest idle."""
    return -member.priority, -member.idle_ms, member.ticket
