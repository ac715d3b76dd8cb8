"""Why it exists: everybody who asks how the fleet is gets the same answer, made of one look a second.

``Sampler`` reads the kernel once a tick; ``report`` joins that with the states, which are always fresh. Control asks
every second, so an answer must cost nothing but its encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.host.cgroup import Groups, Usage

if TYPE_CHECKING:
    from sutazai.supervisor.alarms import Alarms
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import PlanFile
    from sutazai.supervisor.gate import Gate
    from sutazai.supervisor.instances import Instance, Instances
    from sutazai.supervisor.keeper import Keeper
    from sutazai.supervisor.sample import Sampler
    from sutazai.supervisor.unit import Unit

NOTHING = Usage()
ASLEEP = "asleep"


@dataclass(frozen=True, slots=True)
class Parts:
    """Whom a report is made of."""

    cells: Cells
    gate: Gate
    keeper: Keeper
    instances: Instances
    alarms: Alarms


def fleet_state(parts: Parts, *, stopping: bool, changing: bool) -> str:
    """Say in one word how the fleet is."""
    if stopping:
        return "stopping"
    if changing or not parts.keeper.all_through():
        return "starting"
    units = parts.keeper.units.values()
    usable = all(unit.standing.usable or is_asleep(unit) for unit in units)
    return "up" if usable and parts.alarms.worst() != "critical" else "degraded"


def enforcement(groups: Groups) -> dict[str, Any]:
    """Say which limits the kernel holds."""
    return {
        "version": groups.version,
        "enforced": list(groups.enforced()),
        "missing": [{"limit": each.limit, "why": each.why} for each in groups.missing()],
    }


def is_asleep(unit: Unit) -> bool:
    """Whether it runs on demand and nobody needs it now: nothing is wrong with it."""
    return unit.spec.on_demand and unit.state == "stopped"


def process_row(unit: Unit, usage: Usage, hosted_bytes: int = 0) -> dict[str, Any]:
    """Describe one process; the limits of the instances that it hosts are part of its own."""
    spec = unit.spec
    return {
        "name": spec.name,
        "kind": spec.kind,
        "pool": spec.pool,
        "stage": spec.stage,
        "state": ASLEEP if is_asleep(unit) else unit.state,
        "why": unit.why,
        "pid": unit.pid,
        "started_wall_ms": unit.started_wall_ms,
        "restarts": unit.restarts,
        "memory_bytes": usage.memory_bytes,
        "memory_limit_bytes": spec.limits.memory_bytes and spec.limits.memory_bytes + hosted_bytes,
        "memory_peak_bytes": max(unit.peak_bytes, usage.memory_peak_bytes),
        "cpu_usec": usage.cpu_usec,
        "pids": usage.pids,
        "oom_kills": unit.oom_kills + (usage.oom_kills if unit.pid else 0),  # a group takes its count with it
        "ready": unit.standing.usable or is_asleep(unit),
        "last_exit": unit.last_exit,
        "listen": [{"name": listen.name, "port": listen.port} for listen in spec.listen],
        "probe": unit.health.to_json(),
    }


def instance_row(instance: Instance, usage: Usage) -> dict[str, Any]:
    """Describe one instance."""
    return {
        "ticket": instance.ticket,
        "agent": instance.agent.name,
        "worker": instance.worker,
        "pid": instance.pid,
        "uid": instance.uid,
        "state": instance.state,
        "memory_bytes": usage.memory_bytes,
        "memory_limit_bytes": instance.agent.limits.memory_bytes,
        "memory_peak_bytes": usage.memory_peak_bytes,
        "cpu_usec": usage.cpu_usec,
        "oom_kills": usage.oom_kills,
        "started_wall_ms": instance.started_wall_ms,
    }


def report(plan: PlanFile, parts: Parts, sampler: Sampler) -> dict[str, Any]:
    """Describe enforcement, pools, processes, instances, host and conditions."""
    usages = sampler.usages
    return {
        "enforcement": enforcement(parts.cells.groups),
        "pools": pool_rows(plan, parts, usages),
        "processes": [
            process_row(unit, usages.get(unit.group, NOTHING), parts.instances.hosting.bytes_in(name)[0])
            for name, unit in parts.keeper.units.items()
        ],
        "instances": [
            instance_row(each, parts.cells.groups.usage(each.group)) for each in parts.instances.live.values()
        ],
        "spares": parts.instances.spares.to_json(),
        "host": sampler.host,
        "conditions": parts.alarms.to_json(),
        "planned": [{"name": one.name, "kind": one.kind, "ports": one.ports} for one in plan.planned],
    }


def pool_rows(plan: PlanFile, parts: Parts, usages: dict[str, Usage]) -> list[dict[str, Any]]:
    """Describe the pools: what is used, and what tickets reserve."""
    rows = []
    for pool in plan.pools:
        mine = [each for each in parts.instances.live.values() if each.agent.pool == pool.name]
        books = parts.gate.ledger.pool(pool.name)
        used = usages.get(parts.cells.pool_path(pool.name), NOTHING).memory_bytes
        rows.append(
            {
                "name": pool.name,
                "parent": pool.parent,
                "size_bytes": pool.size_bytes,
                "used_bytes": used or books.used_bytes,
                "reserved_bytes": books.charged_bytes,
                "instances": len(mine),
                "instance_limit": pool.instance_limit,
                "waiting": books.waiting,
            }
        )
    return rows
