"""Why it exists: what the kernel shows once a tick becomes conditions that a person understands.

Memory close to a limit, a disk that fills up, limits that nobody holds, agents that keep our own uid.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sutazai.supervisor.status import NOTHING, Parts
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from sutazai.supervisor.contract import PlanFile
    from sutazai.supervisor.sample import Sampler

DISK_LOW_BYTES = 256 * MIB
#: Hysteresis: raised above the first share of the limit, cleared below the second.
PRESSURE_ON, PRESSURE_OFF = 0.9, 0.8
HOST = "host"


class Watch:
    """Looks once a tick."""

    def __init__(self, parts: Parts, sampler: Sampler) -> None:
        self._parts = parts
        self._sampler = sampler

    def look(self, plan: PlanFile) -> None:
        """Read the kernel, and raise or clear what follows from it."""
        parts = self._parts
        paths = [parts.cells.pool_path(pool.name) for pool in plan.pools]
        paths += [unit.group for unit in parts.keeper.units.values() if unit.pid]
        paths += [instance.group for instance in parts.instances.live.values()]
        self._sampler.look(paths)
        self._host(plan)
        self._memory()
        self._privileges(plan)

    def enforcement(self, fleet: str) -> None:
        """Say once what this host cannot hold at all."""
        missing = self._parts.cells.groups.missing()
        if missing:
            text = "; ".join(f"{each.limit}: {each.why}" for each in missing)
            self._parts.alarms.raise_("LimitNotEnforced", fleet, text)
        else:
            self._parts.alarms.clear("LimitNotEnforced", fleet)

    def _host(self, plan: PlanFile) -> None:
        alarms = self._parts.alarms
        free = self._sampler.disk_free_bytes
        if free < DISK_LOW_BYTES:
            alarms.raise_("DiskLow", HOST, f"{format_bytes(free)} are free where {plan.state_dir} is")
        elif free > DISK_LOW_BYTES * 1.1:
            alarms.clear("DiskLow", HOST)
        available = self._sampler.host["memory_available_bytes"]
        if available < plan.headroom_bytes:
            text = f"{format_bytes(available)} are available, below the headroom of {format_bytes(plan.headroom_bytes)}"
            alarms.raise_("HostMemoryLow", HOST, text)
        elif available > plan.headroom_bytes * 1.1:
            alarms.clear("HostMemoryLow", HOST)

    def _memory(self) -> None:
        alarms = self._parts.alarms
        for unit in self._parts.keeper.units.values():
            limit = unit.spec.limits.memory_bytes
            usage = self._sampler.usages.get(unit.group, NOTHING)
            held = max(usage.anon_bytes, usage.memory_bytes - usage.file_bytes)
            if limit and held > limit * PRESSURE_ON:
                share = 100 * held // limit
                text = f"uses {format_bytes(held)} of {format_bytes(limit)} ({share} %)"
                alarms.raise_("MemoryPressure", unit.name, text)
            elif not limit or held < limit * PRESSURE_OFF:
                alarms.clear("MemoryPressure", unit.name)

    def _privileges(self, plan: PlanFile) -> None:
        if plan.agents and (plan.instance_uid_first == 0 or os.geteuid() != 0):
            text = f"agents run with uid {os.geteuid()}, which is sutazaid's own"
            self._parts.alarms.raise_("PrivilegesNotDropped", plan.fleet, text)
        else:
            self._parts.alarms.clear("PrivilegesNotDropped", plan.fleet)
