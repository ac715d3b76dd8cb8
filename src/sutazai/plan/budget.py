"""Why it exists: proves that memory is enough at the worst moment, the start, and not only afterwards.

The fleet's budget is the host's memory minus what others use. Pools that are together larger are scaled by one factor.
In each pool the *start peaks* of all processes that always run must fit, and then the largest instance of its agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.plan.model import AgentRow, Finding, PoolRow, ProcessRow
from sutazai.spec import PLATFORM_POOL, Manifest
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sutazai.plan.facts import HostFacts

PARENT = "critical"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Pool sizes on this host.

    Attributes:
        budget_bytes: what the fleet may use.
        written_bytes: all pools as written.
        sizes: pool → bytes here.
    """

    budget_bytes: int
    written_bytes: int
    sizes: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """All pools here."""
        return sum(self.sizes.values())

    @property
    def factor(self) -> float:
        """What the pools were multiplied with."""
        return min(1.0, self.budget_bytes / self.written_bytes) if self.written_bytes else 1.0

    @property
    def scaled(self) -> bool:
        """Whether they were made smaller."""
        return self.budget_bytes < self.written_bytes


def size_pools(manifest: Manifest, facts: HostFacts) -> Sizes:
    """Fit the pools into the host's free memory."""
    budget = facts.memory_free_bytes
    if manifest.host.memory_bytes is not None:
        budget = min(budget, manifest.host.memory_bytes)
    written = sum(pool.size_bytes for pool in manifest.pools.values())
    if written <= budget:
        return Sizes(budget, written, {name: pool.size_bytes for name, pool in manifest.pools.items()})
    sizes = {name: pool.size_bytes * budget // written // MIB * MIB for name, pool in manifest.pools.items()}
    return Sizes(budget, written, sizes)


def pool_rows(
    manifest: Manifest,
    sizes: Sizes,
    processes: Sequence[ProcessRow],
    agents: Sequence[AgentRow],
    cpusets: dict[str, str],
) -> list[PoolRow]:
    """Add up each pool."""
    own = [process for process in processes if process.pool == PLATFORM_POOL]
    platform_bytes = manifest.platform_bytes or _round_up(sum(process.memory_bytes for process in own))
    rows = []
    by_pool: dict[str, list[AgentRow]] = {}
    for agent in agents:
        by_pool.setdefault(agent.pool, []).append(agent)
    for name, pool in manifest.pools.items():
        mine = [process for process in processes if process.pool == name]
        members = [process for process in mine if not process.on_demand]
        sub_bytes = platform_bytes if name == PARENT else 0
        peaks = sum(process.envelope_bytes for process in members) + sub_bytes
        limits = sum(process.memory_bytes for process in members) + sub_bytes
        sleepers = by_pool.get(name, [])
        row = PoolRow(
            name=name,
            parent="",
            written_bytes=pool.size_bytes,
            size_bytes=sizes.sizes[name],
            processes_bytes=peaks,
            limits_bytes=limits,
            processes=len(members),
            agents=len(sleepers),
            largest_instance_bytes=max((agent.envelope_bytes for agent in sleepers), default=0),
            agents_bytes=sum(agent.envelope_bytes for agent in sleepers),
            awake_max=_awake(sleepers, sizes.sizes[name] - peaks, pool.instance_limit),
            instance_limit=pool.instance_limit,
            cpuset=cpusets.get(name, ""),
            on_demand=len(mine) - len(members),
        )
        rows.append(row)
        if name == PARENT:
            rows.append(_platform_row(manifest, platform_bytes, own, cpusets.get(PLATFORM_POOL, "")))
    return rows


def _platform_row(manifest: Manifest, size: int, own: list[ProcessRow], cpuset: str) -> PoolRow:
    return PoolRow(
        name=PLATFORM_POOL,
        parent=PARENT,
        written_bytes=manifest.platform_bytes or size,
        size_bytes=size,
        processes_bytes=sum(process.envelope_bytes for process in own),
        limits_bytes=sum(process.memory_bytes for process in own),
        processes=len(own),
        agents=0,
        largest_instance_bytes=0,
        agents_bytes=0,
        awake_max=0,
        instance_limit=0,
        cpuset=cpuset,
    )


def _awake(agents: Iterable[AgentRow], room_bytes: int, instance_limit: int) -> int:
    """Count how many instances fit at once for sure: the largest ones first."""
    count = 0
    for envelope in sorted(
        (agent.envelope_bytes for agent in agents for _ in range(agent.instances_max)), reverse=True
    ):
        if envelope > room_bytes or (instance_limit and count >= instance_limit):
            break
        room_bytes -= envelope
        count += 1
    return count


def _round_up(size: int) -> int:
    return -(-size // MIB) * MIB


def memory_findings(
    manifest: Manifest,
    sizes: Sizes,
    rows: Sequence[PoolRow],
    processes: Sequence[ProcessRow],
    agents: Sequence[AgentRow],
) -> list[Finding]:
    """Say what does not fit, and what was changed."""
    found: list[Finding] = [*_written_findings(manifest, sizes)]
    where = str(manifest.places.get("memory_pools", ""))
    if sizes.scaled:
        found.append(
            Finding(
                "note",
                "memory-scaled",
                f"memory pools are scaled from {format_bytes(sizes.written_bytes)} "
                f"to {format_bytes(sizes.budget_bytes)}",
                _scaling_hint(processes, agents),
                where,
            )
        )
    for row in rows:
        found.extend(_pool_findings(manifest, sizes, row, processes))
        found.extend(_instance_findings(manifest, row, agents))
        found.extend(_on_demand_findings(manifest, row, processes))
    return found


def _scaling_hint(processes: Sequence[ProcessRow], agents: Sequence[AgentRow]) -> str:
    stay = "each pool keeps its share; limits of single processes and instance_limit stay as written"
    if not (any(row.planned for row in processes) or any(row.planned for row in agents)):
        return stay
    return f"{stay}; those of planned ones shrink with their pool: nobody has measured them yet"


def _written_findings(manifest: Manifest, sizes: Sizes) -> Iterable[Finding]:
    """Say what is wrong on every machine: no limit at all, and pools above the host that they are written for."""
    for name, service in manifest.services.items():
        if not service.memory_bytes:
            yield Finding(
                "error",
                "no-memory-limit",
                f"services.{name} has no memory limit",
                "write memory: 256MB; every process has one",
                str(service.place),
            )
    host = manifest.host
    # Pools that nobody wrote are the blueprint's: they are scaled to what the fleet may take.
    written = any(pool.place.path for pool in manifest.pools.values())
    if host.memory_bytes is None or not written or sizes.written_bytes <= host.memory_bytes:
        return
    parts = " + ".join(format_bytes(pool.size_bytes) for pool in manifest.pools.values())
    yield Finding(
        "error",
        "pools-above-host",
        f"the pools are {format_bytes(sizes.written_bytes)} together, the host has {format_bytes(host.memory_bytes)}",
        f"{parts}; make them {format_bytes(sizes.written_bytes - host.memory_bytes)} smaller",
        str(manifest.places.get("memory_pools", host.place)),
    )


def _pool_findings(
    manifest: Manifest, sizes: Sizes, row: PoolRow, processes: Sequence[ProcessRow]
) -> Iterable[Finding]:
    if row.processes_bytes <= row.size_bytes:
        for process in processes:
            if process.pool == row.name and process.memory_bytes > row.size_bytes:
                yield Finding(
                    "warning",
                    "limit-above-pool",
                    f"{process.name} may use {format_bytes(process.memory_bytes)}, but its pool {row.name} has only "
                    f"{format_bytes(row.size_bytes)} here: the pool's limit holds first",
                    "lower its memory, or use a larger host",
                    where_of(manifest, process.name),
                )
        return
    members = sorted(
        (process for process in processes if process.pool == row.name and not process.on_demand),
        key=lambda one: one.envelope_bytes,
        reverse=True,
    )
    parts = [f"{process.name} {format_bytes(process.envelope_bytes)}" for process in members[:4]]
    if row.name == PARENT:
        parts.insert(0, "the platform's own processes")
    if len(members) > len(parts):
        parts.append(f"{len(members) - len(parts)} more")
    short = row.processes_bytes - row.size_bytes
    scaled = f" (scaled from {format_bytes(row.written_bytes)})" if row.size_bytes < row.written_bytes else ""
    hint = f"raise memory_pools.{row.parent + '.' if row.parent else ''}{row.name}"
    if sizes.scaled:
        hint = (
            f"the host would need {format_bytes(_host_need(row, sizes))} free for the fleet; "
            f"or {hint} at the cost of the others, or run less in it"
        )
    yield Finding(
        "error",
        "pool-too-small",
        f"pool {row.name} is {format_bytes(short)} short: its processes need {format_bytes(row.processes_bytes)} "
        f"when they start ({', '.join(parts)}), it has {format_bytes(row.size_bytes)}{scaled}",
        hint,
        str(manifest.pools[row.parent or row.name].place),
    )


def _host_need(row: PoolRow, sizes: Sizes) -> int:
    """Estimate the budget at which this pool would be large enough."""
    if row.parent or not row.written_bytes:
        return row.processes_bytes
    return sizes.written_bytes * max(row.processes_bytes, row.size_bytes) // row.written_bytes


def _instance_findings(manifest: Manifest, row: PoolRow, agents: Sequence[AgentRow]) -> Iterable[Finding]:
    if not row.agents or row.processes_bytes > row.size_bytes:
        return
    for agent in agents:
        if agent.pool == row.name and agent.envelope_bytes > row.room_bytes:
            yield Finding(
                "error",
                "agent-never-wakes",
                f"{agent.name} could never wake: an instance takes {format_bytes(agent.envelope_bytes)}, "
                f"pool {row.name} has {format_bytes(row.room_bytes)} left for instances",
                f"raise memory_pools.{row.name}.size, or lower the agent's envelope",
                where_of(manifest, agent.name),
            )
    if row.awake_max < row.agents and not (row.instance_limit and row.awake_max >= row.instance_limit):
        yield Finding(
            "note",
            "agents-take-turns",
            f"{row.awake_max} of the {row.agents} agents of pool {row.name} fit into memory at once; "
            "the others wait in their queues and wake in turn",
        )


def _on_demand_findings(manifest: Manifest, row: PoolRow, processes: Sequence[ProcessRow]) -> Iterable[Finding]:
    if row.processes_bytes > row.size_bytes:
        return
    for process in processes:
        if process.pool == row.name and process.on_demand and process.envelope_bytes > row.room_bytes:
            yield Finding(
                "error",
                "service-never-starts",
                f"{process.name} could never start: it takes {format_bytes(process.envelope_bytes)}, "
                f"pool {row.name} has {format_bytes(row.room_bytes)} left for what starts on demand",
                f"raise memory_pools.{row.name}.size, or lower its memory",
                where_of(manifest, process.name),
            )


def where_of(manifest: Manifest, name: str) -> str:
    """Place of a process or agent in the manifest."""
    if name == "llm" and manifest.llm:
        return str(manifest.llm.place)
    entry = manifest.services.get(name) or manifest.agents.get(name)
    return str(entry.place) if entry else ""
