"""Why it exists: decides which process runs on which cores, with what weight, and how many threads the model gets.

On the blueprint's host the sets are used as written. On a smaller one they are shrunk by the same share, and under four
cores they become weights, because one core for one group would waste the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.plan.model import Finding, Scaling
from sutazai.plan.platform import BLUEPRINT_CORES, BLUEPRINT_WORKERS, CPU_SETS_CORES_MIN, WEIGHT_DEFAULT

if TYPE_CHECKING:
    from sutazai.plan.facts import HostFacts
    from sutazai.spec import CpuSet, Llm, Manifest, RuntimePool, Share

LLM_SHARE = 3  # the blueprint gives its model server 4 of 12 cores


@dataclass(slots=True)
class CpuPlan:
    """How cores are given out.

    Attributes:
        usable: whole cores.
        written: cores that the manifest was written for.
        mode: what became of the sets.
        cpusets: set → cores as the kernel writes them; empty in weights mode.
        weights: set → weight; only in weights mode.
        set_of: member → set.
        findings: what to tell.
    """

    usable: int
    written: int
    mode: str = "none"
    cpusets: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    set_of: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def factor(self) -> float:
        """Share of the written cores that are there."""
        return min(1.0, self.usable / self.written)

    def cpuset(self, name: str, share: Share) -> str:
        """Cores of a process, empty for all."""
        return self.cpusets.get(share.cpu_set or self.set_of.get(name, ""), "")

    def weight(self, name: str, share: Share, default: int = WEIGHT_DEFAULT) -> int:
        """Weight of a process: as written, else of its set, else the default."""
        return share.weight or self.weights.get(share.cpu_set or self.set_of.get(name, ""), default)


def place_cores(manifest: Manifest, facts: HostFacts) -> CpuPlan:
    """Fit the manifest's sets to the cores that are there."""
    sets = manifest.cpu_sets
    highest = max((core for entry in sets.values() for core in entry.cores), default=-1) + 1
    usable = min(facts.usable_cores, manifest.host.cores or facts.usable_cores)
    plan = CpuPlan(usable, max(manifest.host.cores or 0, highest) or usable)
    plan.set_of = {member: entry.name for entry in sets.values() for member in entry.members}
    if manifest.host.cores and manifest.host.cores > facts.usable_cores:
        plan.findings.append(
            Finding(
                "note",
                "cores-scaled",
                f"the manifest is written for {manifest.host.cores} cores, {facts.label} has {facts.usable_cores}",
                "cores, sets and the model's quota are scaled by the same share",
                str(manifest.host.place),
            )
        )
    if not sets:
        return plan
    if usable < CPU_SETS_CORES_MIN:
        plan.mode = "weights"
        plan.weights = _weights(sets)
        plan.findings.append(
            Finding("note", "cpu-weights", f"cpu sets become weights: {usable} of {plan.written} cores are there")
        )
        return plan
    plan.mode = "as written" if usable >= plan.written else "scaled"
    plan.cpusets = {name: core_list(_shrink(entry.cores, plan, facts)) for name, entry in sets.items()}
    return plan


def _weights(sets: dict[str, CpuSet]) -> dict[str, int]:
    """Turn sizes of sets into weights around the kernel's default."""
    total = sum(len(entry.cores) for entry in sets.values()) or 1
    return {name: max(1, round(WEIGHT_DEFAULT * len(entry.cores) * len(sets) / total)) for name, entry in sets.items()}


def _shrink(cores: tuple[int, ...], plan: CpuPlan, facts: HostFacts) -> list[int]:
    """Map the written core numbers to those that are there."""
    there = facts.cores[: plan.usable] or (0,)
    if plan.usable >= plan.written:
        return [there[core] for core in cores if core < len(there)]
    return sorted({there[min(core * plan.usable // plan.written, len(there) - 1)] for core in cores})


def core_list(cores: list[int]) -> str:
    """Write cores as the kernel does: ``0-3,8``."""
    parts: list[str] = []
    begin = previous = -2
    for core in [*sorted(cores), -1]:
        if core == previous + 1 and core > 0:
            previous = core
            continue
        if begin >= 0:
            parts.append(str(begin) if begin == previous else f"{begin}-{previous}")
        begin = previous = core
    return ",".join(parts)


def llm_quota(manifest: Manifest, plan: CpuPlan) -> tuple[float, int]:
    """Decide the model server's CPU quota and its threads: ``floor(quota)``, at least one.

    More threads than quota make a model many times slower, because threads wait for one that is not allowed to run.
    """
    llm = manifest.llm
    if llm is None:
        return 0.0, 0
    wanted = plan.usable // LLM_SHARE if llm.cpu_cores is None else llm.cpu_cores * plan.factor
    quota = max(1.0, float(wanted))
    if quota > plan.usable:
        plan.findings.append(
            Finding(
                "error",
                "llm-quota",
                f"llm asks for {quota:g} cores, there are {plan.usable}",
                "write cpu: auto, or less",
                str(llm.place),
            )
        )
        quota = float(plan.usable)
    return quota, _threads(llm, plan, quota)


def _threads(llm: Llm, plan: CpuPlan, quota: float) -> int:
    """Give the model as many threads as its quota has whole cores, or fewer where fewer are written."""
    most = max(1, math.floor(quota))
    written_quota = quota if llm.cpu_cores is None else llm.cpu_cores
    if llm.threads is not None and llm.threads > written_quota:
        plan.findings.append(
            Finding(
                "error",
                "llm-threads",
                f"llm has {llm.threads} threads, but may use {written_quota:g} cores: they would wait for each other, "
                "and the model becomes many times slower",
                f"write threads: {max(1, math.floor(written_quota))}, or remove it: the quota decides",
                str(llm.place),
            )
        )
    return most if llm.threads is None else min(llm.threads, most)


def worker_count(pool: RuntimePool, plan: CpuPlan) -> int:
    """Decide how many workers of a language there are: as written, scaled, or the blueprint's eight for twelve."""
    if pool.workers:
        wanted = math.ceil(pool.workers * plan.factor)
    else:
        wanted = round(BLUEPRINT_WORKERS * min(1.0, plan.usable / BLUEPRINT_CORES))
    ports = pool.port_last - pool.port_first + 1
    return min(max(wanted, len(pool.families)), ports)


def scaling(memory: tuple[int, int], plan: CpuPlan) -> Scaling:
    """Say what was scaled."""
    return Scaling(*memory, plan.written, min(plan.usable, plan.written), plan.mode)  # type: ignore[arg-type]
