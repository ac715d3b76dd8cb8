"""Why it exists: the kernel is read once a tick and nowhere else; an answer about the fleet costs no reading.

The look becomes the governor's frozen ``Snapshot``: what it decides on and what ``status`` shows is the same picture.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sutazai.governor.snapshot import Host, Member, PoolFacts, Snapshot, held_bytes, look, look_at_host
from sutazai.governor.tickets import RESERVE_POOL
from sutazai.host import disk, procfs

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.host.cgroup import Groups, Usage
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import PlanFile
    from sutazai.supervisor.gate import Gate
    from sutazai.supervisor.instances import Instances
    from sutazai.supervisor.keeper import Keeper


class Sampler:
    """The latest look at groups and host.

    Attributes:
        snapshot: the governor's picture.
        host: as it stands in ``status``.
        disk_free_bytes: where the state is.
    """

    def __init__(self, groups: Groups, state_dir: Path) -> None:
        self.snapshot = Snapshot(0, Host())
        self.host: dict[str, Any] = {}
        self.disk_free_bytes = 0
        self._groups = groups
        self._state_dir = state_dir
        self._missing = groups.missing()

    @property
    def usages(self) -> dict[str, Usage]:
        """Use by path of the group."""
        return dict(self.snapshot.usages)

    def look(self, plan: PlanFile, cells: Cells, gate: Gate, members: list[Member], at_ms: int) -> Snapshot:
        """Read everything once, and tell the ledger what is really used."""
        pools = tuple(PoolFacts(p.name, cells.pool_path(p.name), p.size_bytes, p.parent) for p in plan.pools)
        usages = look(self._groups, [*(pool.path for pool in pools), *(member.path for member in members)])
        for member in members:
            gate.ledger.observe(member.ticket, held_bytes(usages[member.path]) - member.hosted_bytes)
        self.snapshot = Snapshot(
            at_ms=at_ms,
            host=look_at_host(),
            pools=pools,
            members=tuple(members),
            usages=usages,
            headroom_bytes=plan.headroom_bytes,
            reserve_bytes=sum(pool.size_bytes for pool in plan.pools if pool.name == RESERVE_POOL),
            missing=self._missing,
            waiting=gate.ledger.waiting(),
        )
        self.disk_free_bytes = disk.free_bytes(self._state_dir)
        self.host = self._host_row(self.snapshot.host)
        return self.snapshot

    def _host_row(self, host: Host) -> dict[str, Any]:
        pressures = {"memory": host.memory, "cpu": host.cpu}
        return {
            "memory_total_bytes": host.memory_total_bytes,
            "memory_available_bytes": host.memory_available_bytes,
            "disk_free_bytes": self.disk_free_bytes,
            "cores": os.cpu_count() or 1,
            "load1": procfs.load1(),
            "psi": {
                name: {"some_avg10": pressure.some.avg10, "full_avg10": pressure.full.avg10}
                for name, pressure in pressures.items()
                if pressure is not None
            },
        }


def members_of(gate: Gate, keeper: Keeper, instances: Instances, idle_ms: dict[str, int]) -> list[Member]:
    """Describe all that occupies memory, for the governor.

    Args:
        gate: knows what each is charged.
        keeper: processes.
        instances: of agents.
        idle_ms: agents without due or running tasks, and for how long.
    """
    hosting = instances.hosting
    found = [
        Member(
            name=unit.name,
            ticket=unit.ticket,
            kind="process",
            pool=unit.spec.pool,
            path=unit.group,
            limit_bytes=unit.spec.limits.memory_bytes and unit.spec.limits.memory_bytes + hosting.bytes_in(name)[0],
            charge_bytes=_charge(gate, unit.ticket),
            is_protected=True,
            hosted_bytes=hosting.bytes_in(name)[1],
        )
        for name, unit in keeper.units.items()
        if unit.pid
    ]
    found += [
        Member(
            name=instance.agent.name,
            ticket=instance.ticket,
            kind="instance",
            pool=instance.agent.pool,
            path=instance.group,
            limit_bytes=instance.agent.limits.memory_bytes,
            charge_bytes=_charge(gate, instance.ticket),
            is_idle=instance.state == "running" and instance.agent.name in idle_ms,
            idle_ms=idle_ms.get(instance.agent.name, 0),
        )
        for instance in instances.live.values()
        if instance.pid
    ]
    return found


def _charge(gate: Gate, ticket: str) -> int:
    held = gate.ledger.get(ticket)
    return held.charge_bytes if held is not None else 0
