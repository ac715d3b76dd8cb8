"""Why it exists: one call decides whether a fleet fits a machine: manifest and facts in, plan out, nothing touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.plan import budget, cpu, ports
from sutazai.plan.model import AgentRow, Finding, LlmRow, Plan, ProcessRow, Stage
from sutazai.plan.platform import (
    FAMILY_BYTES,
    HOSTING_BYTES,
    HOSTING_PIDS_MAX,
    LLM_PIDS_MAX,
    LLM_WEIGHT,
    PORT_LLM,
    PROCESSES,
    STAGES,
    SUPERVISOR_BYTES,
    SUPERVISOR_PEAK_BYTES,
    WORKER_PIDS_MAX,
    WORKER_WEIGHT,
)
from sutazai.spec import HOSTING_POOL, PLATFORM_POOL, Family, Llm, Manifest, RuntimePool, Service, Share
from sutazai.spec.graph import layers
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.plan.facts import HostFacts

_SEVERITIES = ("error", "warning", "note")


def make(manifest: Manifest, facts: HostFacts) -> Plan:
    """Decide whether a fleet fits a host, and how its parts are placed on it.

    Args:
        manifest: checked by ``spec.load``.
        facts: of the host; nothing else is looked at.

    Returns:
        The plan; ``fits`` is False when it has errors, and its tables are filled all the same.
    """
    cores = cpu.place_cores(manifest, facts)
    sizes = budget.size_pools(manifest, facts)
    quota, threads = cpu.llm_quota(manifest, cores)
    workers = _workers(manifest, cores)
    held = [(name, port, False) for name, port, _ in workers]
    held += [(name, port, True) for name, port, _ in _planned_workers(manifest, cores)]
    wanted, agent_ports = ports.wanted_ports(manifest, held)
    offset = manifest.port_offset
    processes = _order(
        [
            *_platform_rows(manifest),
            *_llm_rows(manifest, cores, quota),
            *(_worker_row(name, port + offset, family) for name, port, family in workers if not _hosts(family)),
            *(_hosting_row(name, port + offset, family) for name, port, family in workers if _hosts(family)),
            *_planned_worker_rows(manifest, cores, sizes),
            *_service_rows(manifest, cores, sizes),
        ]
    )
    agents = _agent_rows(manifest, cores, sizes, agent_ports)
    cpusets = {pool: cores.cpusets.get(cores.set_of.get(pool, ""), "") for pool in (*manifest.pools, PLATFORM_POOL)}
    pools = budget.pool_rows(manifest, sizes, processes, agents, cpusets)
    findings = [
        *ports.port_findings(manifest, facts, wanted),
        *budget.memory_findings(manifest, sizes, pools, processes, agents),
        *cores.findings,
        *_host_findings(manifest, facts, cores),
        *_planned_findings(manifest, processes, agents),
    ]
    llm = manifest.llm
    return Plan(
        fleet=manifest.fleet,
        manifest=manifest.path,
        digest=manifest.digest,
        port_offset=offset,
        host=facts,
        budget_bytes=sizes.budget_bytes,
        scaling=cpu.scaling((sizes.written_bytes, min(sizes.written_bytes, sizes.budget_bytes)), cores),
        findings=tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))),
        pools=tuple(pools),
        processes=tuple(processes),
        agents=tuple(agents),
        ports=tuple(ports.port_rows(wanted, offset)),
        stages=_stages(processes),
        llm=_llm_row(llm, threads, quota) if llm else None,
    )


def _llm_row(llm: Llm, threads: int, quota: float) -> LlmRow:
    return LlmRow(
        model=llm.model,
        threads=threads,
        quota_cores=quota,
        slots=llm.slots,
        context=llm.context,
        memory_bytes=llm.memory_bytes,
        driver=llm.driver,
        url=llm.url,
        api_key_file=llm.api_key_file,
    )


def _platform_rows(manifest: Manifest) -> list[ProcessRow]:
    offset = manifest.port_offset
    servers = tuple(name for name, service in manifest.services.items() if service.stage == "store")
    rows = [
        ProcessRow("sutazaid", "supervisor", PLATFORM_POOL, "", SUPERVISOR_BYTES, SUPERVISOR_PEAK_BYTES),
    ]
    rows += [
        ProcessRow(
            name=process.name,
            kind="worker" if process.name == "zygote" else "platform",
            pool=PLATFORM_POOL,
            stage=process.stage,
            memory_bytes=process.memory_bytes,
            envelope_bytes=process.start_peak_bytes,
            cpu_weight=process.cpu_weight,
            pids_max=process.pids_max,
            ports=tuple(number + offset for number in process.ports.values()),
            after=servers if process.name == "broker" else (),
        )
        for process in PROCESSES
    ]
    return rows


def _llm_rows(manifest: Manifest, cores: cpu.CpuPlan, quota: float) -> list[ProcessRow]:
    llm = manifest.llm
    if llm is None:
        return []
    return [
        ProcessRow(
            name="llm",
            kind="llm",
            pool="infrastructure",
            stage="llm",
            memory_bytes=llm.memory_bytes,
            envelope_bytes=llm.start_peak_bytes,
            cpu_quota_cores=quota,
            cpu_weight=cores.weight("llm", llm.cpu, LLM_WEIGHT),
            cpuset=cores.cpuset("llm", llm.cpu),
            pids_max=LLM_PIDS_MAX,
            ports=(PORT_LLM + manifest.port_offset,),
        )
    ]


def _workers(manifest: Manifest, cores: cpu.CpuPlan) -> list[tuple[str, int, Family]]:
    """Name the workers with their ports (before the offset) and families, in turn."""
    found = []
    for pool in manifest.runtime_pools.values():
        if pool.planned:
            continue
        for index in range(cpu.worker_count(pool, cores)):
            family = pool.families[index % len(pool.families)]
            found.append((f"{pool.name}-{index}", pool.port_first + index, family))
    return found


def _worker_row(name: str, port: int, family: Family) -> ProcessRow:
    memory, peak = FAMILY_BYTES[family.name]
    memory = family.memory_bytes or memory
    return ProcessRow(
        name=name,
        kind="worker",
        pool=PLATFORM_POOL,
        stage="workers",
        memory_bytes=memory,
        envelope_bytes=min(family.start_peak_bytes or peak, memory),
        cpu_weight=WORKER_WEIGHT,
        pids_max=WORKER_PIDS_MAX,
        ports=(port,),
        after=("zygote",),
        family=family.name,
        preload=family.preload or (),
    )


def _hosts(family: Family) -> bool:
    return family.name in HOSTING_BYTES


def _hosting_row(name: str, port: int, family: Family) -> ProcessRow:
    """Plan a worker that holds instances inside itself: it starts when one is needed, and grows by each one's limit."""
    memory, peak = HOSTING_BYTES[family.name]
    memory = family.memory_bytes or memory
    return ProcessRow(
        name=name,
        kind="worker",
        pool=HOSTING_POOL,
        stage="workers",
        memory_bytes=memory,
        envelope_bytes=min(family.start_peak_bytes or peak, memory),
        cpu_weight=WORKER_WEIGHT,
        pids_max=HOSTING_PIDS_MAX,
        ports=(port,),
        on_demand=True,
        family=family.name,
    )


def _planned_workers(manifest: Manifest, cores: cpu.CpuPlan) -> list[tuple[str, int, RuntimePool]]:
    """Name the workers of languages that are only planned for, with their ports before the offset."""
    return [
        (f"{pool.name}-{index}", pool.port_first + index, pool)
        for pool in manifest.runtime_pools.values()
        if pool.planned
        for index in range(cpu.worker_count(pool, cores))
    ]


def _planned_worker_rows(manifest: Manifest, cores: cpu.CpuPlan, sizes: budget.Sizes) -> list[ProcessRow]:
    rows = []
    for name, port, pool in _planned_workers(manifest, cores):
        memory = planned_bytes(pool.memory_bytes, sizes)
        rows.append(
            ProcessRow(
                name=name,
                kind="worker",
                pool=PLATFORM_POOL,
                stage="workers",
                memory_bytes=memory,
                envelope_bytes=memory,
                cpu_weight=WORKER_WEIGHT,
                pids_max=WORKER_PIDS_MAX,
                ports=(port + manifest.port_offset,),
                planned=True,
            )
        )
    return rows


def planned_bytes(size: int, sizes: budget.Sizes) -> int:
    """Shrink what is only planned for by the pools' factor: it is a share of a pool, not a measured need."""
    return int(size * sizes.factor) // MIB * MIB


def _service_rows(manifest: Manifest, cores: cpu.CpuPlan, sizes: budget.Sizes) -> list[ProcessRow]:
    def here(service: Service, size: int) -> int:
        return planned_bytes(size, sizes) if service.planned else size

    return [
        ProcessRow(
            name=name,
            kind="service",
            pool=service.pool,
            stage=service.stage,
            memory_bytes=here(service, service.memory_bytes),
            envelope_bytes=here(service, service.start_peak_bytes),
            cpu_quota_cores=service.cpu.quota_cores,
            cpu_weight=cores.weight(name, service.cpu),
            cpuset=cores.cpuset(name, service.cpu),
            pids_max=service.pids_max,
            ports=tuple(port.number + manifest.port_offset for port in service.ports),
            after=service.after,
            planned=service.planned,
            on_demand=service.on_demand,
        )
        for name, service in manifest.services.items()
    ]


def _agent_rows(
    manifest: Manifest, cores: cpu.CpuPlan, sizes: budget.Sizes, agent_ports: dict[str, int]
) -> list[AgentRow]:
    rows = []
    for name, agent in manifest.agents.items():
        port = agent_ports[name]
        share: Share = agent.cpu
        rows.append(
            AgentRow(
                name=name,
                pool=agent.pool,
                family=agent.family if agent.runtime == "py" else agent.runtime,
                port=port + manifest.port_offset if port else 0,
                memory_bytes=planned_bytes(agent.memory_bytes, sizes) if agent.planned else agent.memory_bytes,
                envelope_bytes=planned_bytes(agent.envelope_bytes, sizes) if agent.planned else agent.envelope_bytes,
                instances_max=agent.instances_max,
                keep_ms=agent.keep_ms,
                cpu_quota_cores=share.quota_cores,
                cpu_weight=cores.weight(name, share),
                cpuset=cores.cpuset(name, share),
                planned=agent.planned,
            )
        )
    return rows


def _order(processes: list[ProcessRow]) -> list[ProcessRow]:
    """Sort by start: ``sutazaid``, then stage by stage, step by step."""
    rank = {
        name: position
        for position, name in enumerate(name for stage in _stages(processes) for step in stage.steps for name in step)
    }
    return sorted(processes, key=lambda process: rank.get(process.name, len(rank) if process.on_demand else -1))


def _stages(processes: list[ProcessRow]) -> tuple[Stage, ...]:
    """Put the processes of each stage into steps; a cycle was refused by ``spec``."""
    stages = []
    for stage in STAGES:
        members = [process for process in processes if process.stage == stage and not process.on_demand]
        if members:
            steps = layers([member.name for member in members], {member.name: member.after for member in members})
            stages.append(Stage(stage, tuple(tuple(step) for step in steps)))
    return tuple(stages)


def _planned_findings(manifest: Manifest, processes: list[ProcessRow], agents: list[AgentRow]) -> Iterable[Finding]:
    counts = {
        "agent": sum(row.planned for row in agents),
        "service": sum(row.planned and row.kind == "service" for row in processes),
        "worker": sum(row.planned and row.kind == "worker" for row in processes),
    }
    named = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count]
    if named:
        hint = "their ports, memory and cores are part of this proof; each is listed as planned"
        yield Finding("note", "planned", f"planned, not started: {', '.join(named)}", hint)
    planned = {row.name for row in agents if row.planned} | {row.name for row in processes if row.planned}
    for name, agent in manifest.agents.items():
        if not agent.planned and (lacking := [need for need in agent.needs if need in planned]):
            text = f"{name} needs {', '.join(lacking)}, which is only planned"
            yield Finding("warning", "needs-planned", text, "what it asks of it will fail", str(agent.place))


def _host_findings(manifest: Manifest, facts: HostFacts, cores: cpu.CpuPlan) -> list[Finding]:
    found = []
    if facts.cgroup == "none":
        found.append(
            Finding(
                "warning",
                "limits-not-enforced",
                f"{facts.label} has no cgroups that we may use: limits are watched, not held by the kernel",
                "run as root, or in a delegated systemd scope; sutazai doctor says more",
            )
        )
    found += [Finding("warning", "limit-not-enforced", entry, "sutazai doctor says more") for entry in facts.unenforced]
    for name, service in manifest.services.items():
        if service.cpu.quota_cores > cores.usable:
            found.append(
                Finding(
                    "warning",
                    "quota-above-cores",
                    f"{name} may use {service.cpu.quota_cores:g} cores, there are {cores.usable}",
                    "the quota will never be reached",
                    str(service.place),
                )
            )
    return found
