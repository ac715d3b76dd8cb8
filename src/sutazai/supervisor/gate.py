"""Why it exists: there is one gate on every path to a process, and no way around it.

The books are the governor's ``Ledger``; the gate translates: a plan's process, an instance, a re-adopted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.host import procfs
from sutazai.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.contract import Agent, PlanFile, Pool, Process


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer.

    Attributes:
        ticket: empty when it has to wait.
        why: it has to wait.
        short: whether memory is the reason (a limit of numbers is not).
    """

    ticket: str
    why: str = ""
    short: bool = False


class Gate:
    """Gives tickets and takes them back."""

    def __init__(self) -> None:
        self.on_release: Callable[[], None] = lambda: None
        self._pools: dict[str, Pool] = {}
        self._headroom_bytes = 0
        self._held: dict[str, tuple[str, int, bool]] = {}

    def set_plan(self, plan: PlanFile) -> None:
        """Take over pools and headroom."""
        self._pools = {pool.name: pool for pool in plan.pools}
        self._headroom_bytes = plan.headroom_bytes

    def ask_process(self, spec: Process, group: str) -> Admission:
        """Ask for a process of the plan."""
        return self._ask(new_id("k"), spec.pool, spec.envelope_bytes, False)

    def ask_instance(self, agent: Agent, ticket: str, group: str) -> Admission:
        """Ask for an instance."""
        return self._ask(ticket, agent.pool, agent.envelope_bytes, True)

    def _ask(self, ticket: str, pool: str, size: int, instance: bool) -> Admission:
        if procfs.meminfo().available_bytes < self._headroom_bytes:
            return Admission("", "the host is short of memory", short=True)
        used = sum(b for p, b, _ in self._held.values() if p == pool)
        if used + size > self._pools[pool].size_bytes:
            return Admission("", f"pool {pool} is full", short=True)
        count = sum(i for p, _, i in self._held.values() if p == pool)
        limit = self._pools[pool].instance_limit
        if instance and limit and count >= limit:
            return Admission("", f"pool {pool} has its {limit} instances")
        self._held[ticket] = (pool, size, instance)
        return Admission(ticket)

    def bind(self, ticket: str, group: str) -> None:
        """The process is in its group."""

    def rebuild_process(self, spec: Process, ticket: str, group: str) -> None:
        """A process lives already."""
        self._held[ticket] = (spec.pool, spec.envelope_bytes, False)

    def rebuild_instance(self, agent: Agent, ticket: str, group: str) -> None:
        """An instance lives already."""
        self._held[ticket] = (agent.pool, agent.envelope_bytes, True)

    def reserved_bytes(self, pool: str) -> int:
        """What tickets reserve in a pool."""
        return sum(b for p, b, _ in self._held.values() if p == pool)

    def release(self, ticket: str) -> None:
        """The group is gone."""
        self._held.pop(ticket, None)
        self.on_release()
