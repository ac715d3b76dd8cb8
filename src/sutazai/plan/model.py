"""Why it exists: the planner's answer as frozen data: what was found, and the tables behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sutazai.plan.facts import HostFacts


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the reader must know.

    Attributes:
        severity: ``error`` (it does not fit), ``warning`` (it fits, but), ``note`` (what the planner changed).
        code: stable name of the kind.
        text: what is the case.
        hint: what to do; may be empty.
        where: ``file:line:column`` in the manifest, or empty.
    """

    severity: Literal["error", "warning", "note"]
    code: str
    text: str
    hint: str = ""
    where: str = ""

    def __str__(self) -> str:
        """Write it in one line."""
        return f"{self.where + ': ' if self.where else ''}{self.text}{f' ({self.hint})' if self.hint else ''}"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the manifest was fitted to a smaller host; ``from`` equals ``to`` where nothing was changed."""

    memory_from_bytes: int
    memory_to_bytes: int
    cores_from: int
    cores_to: int
    cpu_sets: Literal["none", "as written", "scaled", "weights"]

    @property
    def memory_factor(self) -> float:
        """What the pools were multiplied with."""
        return self.memory_to_bytes / self.memory_from_bytes if self.memory_from_bytes else 1.0

    @property
    def cores_factor(self) -> float:
        """What the sets and the LLM's quota were multiplied with."""
        return self.cores_to / self.cores_from if self.cores_from else 1.0


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A memory pool on this host.

    Attributes:
        name: of the pool.
        parent: ``critical`` for ``platform``, else empty.
        written_bytes: size in the manifest.
        size_bytes: size on this host.
        processes_bytes: start peaks of the processes that always run in it, a sub-pool counted whole.
        limits_bytes: their limits together.
        processes: how many always run.
        agents: how many agents have it.
        on_demand: how many services start in it only when they are asked for.
        largest_instance_bytes: largest envelope of its agents.
        agents_bytes: envelopes of its agents, one instance of each.
        awake_max: how many instances fit at once for sure.
        instance_limit: 0 for none; never scaled.
        cpuset: cores for all of it, empty for all.
    """

    name: str
    parent: str
    written_bytes: int
    size_bytes: int
    processes_bytes: int
    limits_bytes: int
    processes: int
    agents: int
    largest_instance_bytes: int
    agents_bytes: int
    awake_max: int
    instance_limit: int
    cpuset: str = ""
    on_demand: int = 0

    @property
    def room_bytes(self) -> int:
        """What is left for instances."""
        return max(0, self.size_bytes - self.processes_bytes)


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process that always runs.

    Attributes:
        name: unique.
        kind: ``supervisor``, ``platform``, ``llm``, ``worker``, ``service``.
        pool: memory pool.
        stage: of boot.
        memory_bytes: limit.
        envelope_bytes: start peak.
        cpu_quota_cores: 0 for none.
        cpu_weight: share under contention.
        cpuset: cores, empty for all.
        pids_max: processes and threads.
        ports: numbers, offset added.
        after: what must be ready before.
        family: of a worker.
        preload: of a worker, modules beyond its family's own.
        planned: whether it is only counted, and not started.
        on_demand: whether it starts only when asked for; then it is no part of the start peak.
    """

    name: str
    kind: Literal["supervisor", "platform", "llm", "worker", "service"]
    pool: str
    stage: str
    memory_bytes: int
    envelope_bytes: int
    cpu_quota_cores: float = 0.0
    cpu_weight: int = 100
    cpuset: str = ""
    pids_max: int = 0
    ports: tuple[int, ...] = ()
    after: tuple[str, ...] = ()
    family: str = ""
    preload: tuple[str, ...] = ()
    planned: bool = False
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent, awake or not; a planned one has no code yet."""

    name: str
    pool: str
    family: str
    port: int
    memory_bytes: int
    envelope_bytes: int
    instances_max: int
    keep_ms: int
    cpu_quota_cores: float = 0.0
    cpu_weight: int = 100
    cpuset: str = ""
    planned: bool = False


@dataclass(frozen=True, slots=True)
class PortRow:
    """A TCP port.

    Attributes:
        number: offset added.
        owner: process or agent.
        name: what the owner calls it.
        held_by: process that listens.
        service: what the manifest calls it, where one of our own processes is a service of the manifest.
        planned: whether nobody listens yet.
    """

    number: int
    owner: str
    name: str
    held_by: str
    service: str = ""
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of boot: its steps one after the other, the names of a step together."""

    name: str
    steps: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class LlmRow:
    """The model server's numbers."""

    model: str
    threads: int
    quota_cores: float
    slots: int
    context: int
    memory_bytes: int
    driver: str = "llamacpp"
    url: str = ""
    api_key_file: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer.

    Attributes:
        fleet: name.
        manifest: path.
        digest: of the manifest.
        port_offset: added to all ports.
        host: the facts it was made from.
        budget_bytes: what the fleet may use of the host's memory.
        scaling: what was changed for a smaller host.
        findings: errors first.
        pools: in the blueprint's order, ``platform`` behind ``critical``.
        processes: in start order.
        agents: in the manifest's order.
        ports: by number.
        stages: in order, without empty ones.
        llm: the model server, if there is one.
    """

    fleet: str
    manifest: str
    digest: str
    port_offset: int
    host: HostFacts
    budget_bytes: int
    scaling: Scaling
    findings: tuple[Finding, ...]
    pools: tuple[PoolRow, ...]
    processes: tuple[ProcessRow, ...]
    agents: tuple[AgentRow, ...]
    ports: tuple[PortRow, ...]
    stages: tuple[Stage, ...]
    llm: LlmRow | None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Why it does not fit."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What fits, but should be known."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What the planner changed."""
        return tuple(finding for finding in self.findings if finding.severity == "note")

    @property
    def fits(self) -> bool:
        """Whether it may be started."""
        return not self.errors
