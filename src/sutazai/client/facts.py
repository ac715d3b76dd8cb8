"""Why it exists: an agent computes with a fact and cites it, so each fact is typed and carries its source.

The JSON is described in ``docs/reference/control-api.md``. A field that an older or newer control does not give takes
its default here; ``Status.raw`` holds everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Self


class _Fact:
    """Builds itself out of JSON, taking the fields that it knows."""

    __slots__ = ()
    _known: ClassVar[dict[type, frozenset[str]]] = {}

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        """Build from one JSON object; null counts as missing."""
        known = _Fact._known.get(cls)
        if known is None:
            known = frozenset(item.name for item in fields(cls))  # type: ignore[arg-type] # subclasses are dataclasses
            _Fact._known[cls] = known
        return cls(**{key: value for key, value in entry.items() if key in known and value is not None})


@dataclass(frozen=True, slots=True)
class Condition(_Fact):
    """An active condition; kinds stand in ``docs/reference/conditions.md``.

    Attributes:
        name: its kind.
        subject: process, agent, pool or ``host``.
        severity: ``critical``, ``warning`` or ``info``.
        text: the matter with its numbers.
        since_wall_ms: when it began.
        depends_on: active conditions that explain it, as ``Kind/subject``.
        root: whether nothing active explains it.
        meaning: what this kind says about the fleet.
        fix: what a person does.
        source: how to cite it.
    """

    name: str
    subject: str
    severity: str = "warning"
    text: str = ""
    since_wall_ms: int = 0
    depends_on: list[str] = field(default_factory=list)
    root: bool = True
    meaning: str = ""
    fix: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class ConditionSpan(_Fact):
    """A condition from its beginning to its end.

    Attributes:
        name: its kind.
        subject: what it was about.
        severity: ``critical``, ``warning`` or ``info``.
        text: the matter when it began.
        raised_wall_ms: beginning.
        cleared_wall_ms: end, None while it holds.
        source: how to cite it.
    """

    name: str
    subject: str
    severity: str = "warning"
    text: str = ""
    raised_wall_ms: int = 0
    cleared_wall_ms: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Series(_Fact):
    """Points of one metric with one set of labels; metrics stand in ``docs/reference/metrics.md``.

    Attributes:
        name: of the metric.
        labels: its labels.
        type: ``gauge`` or ``counter`` (starts anew with its process).
        unit: ``bytes``, ``seconds``, ``ratio`` or ``count``.
        reduce: ``raw`` or what a bucket shows.
        points: ``[wall_ms, value]`` in order of time.
        source: how to cite it.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    type: str = "gauge"
    unit: str = "count"
    reduce: str = "raw"
    points: list[list[float]] = field(default_factory=list)
    source: str = ""

    @property
    def times_ms(self) -> list[int]:
        """Wall times of the points."""
        return [int(point[0]) for point in self.points]

    @property
    def values(self) -> list[float]:
        """Values of the points."""
        return [point[1] for point in self.points]


@dataclass(frozen=True, slots=True)
class LogLine(_Fact):
    """One line of a log.

    Attributes:
        at_wall_ms: when it was written, as good as ``time`` says.
        time: ``line`` (stands in it), ``observed`` (within 2 s) or ``file`` (not later than this).
        process: whose log.
        level: ``debug``, ``info``, ``warning`` or ``error``; guessed for a plain line.
        text: the line, or the text of a JSON line.
        fields: further keys of a JSON line.
        source: how to cite it.
    """

    at_wall_ms: int
    process: str
    text: str
    time: Literal["line", "observed", "file"] = "file"
    level: str = "info"
    fields: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class MemoryOwner(_Fact):
    """Memory of one process, as the kernel's ``smaps_rollup`` says.

    Attributes:
        name: process, or agent for an instance.
        kind: ``platform``, ``llm``, ``worker``, ``service`` or ``instance``.
        pool: memory pool.
        pid: process id.
        pss_bytes: its private memory and its fair part of what it shares.
        rss_bytes: all that is mapped.
        private_bytes: what would come back if it ended.
        shared_bytes: ``pss_bytes`` without the private part.
        anon_bytes: fair part without files behind it (heap, stack).
        file_bytes: fair part with files behind it (programs, libraries).
        limit_bytes: limit of its group, 0 for none.
        source: how to cite it.
    """

    name: str
    kind: str = ""
    pool: str = ""
    pid: int = 0
    pss_bytes: int = 0
    rss_bytes: int = 0
    private_bytes: int = 0
    shared_bytes: int = 0
    anon_bytes: int = 0
    file_bytes: int = 0
    limit_bytes: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Event(_Fact):
    """One thing that happened; kinds stand in ``docs/reference/control-api.md``.

    Attributes:
        at_wall_ms: when control saw it.
        kind: like ``process-restarted``.
        subject: process, agent or fleet.
        text: for a person.
        data: its numbers.
        source: how to cite it.
    """

    at_wall_ms: int
    kind: str
    subject: str = ""
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class AgentCard(_Fact):
    """An agent and what it can do.

    Attributes:
        name: unique in the fleet.
        port: its own TCP port.
        version: from its manifest.
        pool: memory pool.
        description: one sentence.
        instances_max: concurrent instances.
        skills: ``[{name, description, input, output}]``, JSON schemas.
        source: how to cite it.
    """

    name: str
    port: int = 0
    version: str = ""
    pool: str = ""
    description: str = ""
    instances_max: int = 1
    skills: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Process(_Fact):
    """A process of the fleet, from ``sutazaid``'s snapshot; units stand in the names."""

    name: str
    kind: str = ""
    pool: str = ""
    stage: str = ""
    state: str = ""
    pid: int = 0
    started_wall_ms: int = 0
    restarts: int = 0
    ready: bool = False
    last_exit: Any = ""
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_usec: int = 0
    pids: int = 0
    oom_kills: int = 0
    listen: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Instance(_Fact):
    """An agent in memory, from ``sutazaid``'s snapshot; units stand in the names."""

    ticket: str
    agent: str = ""
    worker: str = ""
    pid: int = 0
    uid: int = 0
    state: str = ""
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_usec: int = 0
    oom_kills: int = 0
    started_wall_ms: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Pool(_Fact):
    """A memory pool; units stand in the names."""

    name: str
    parent: str = ""
    size_bytes: int = 0
    used_bytes: int = 0
    reserved_bytes: int = 0
    instances: int = 0
    instance_limit: int = 0
    waiting: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Host(_Fact):
    """The machine; ``psi`` as the kernel gives it."""

    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    cores: int = 0
    load1: float = 0.0
    psi: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Queue(_Fact):
    """Open tasks of one agent, and its dead letters where the broker says so."""

    queued: int = 0
    leased: int = 0
    waiting: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Status(_Fact):
    """The fleet at one moment.

    Attributes:
        fleet: its name.
        state: ``starting``, ``up``, ``stopping`` or ``degraded``.
        since_wall_ms: when it came up.
        at_wall_ms: of the snapshot.
        digest: of its manifest.
        manifest: path of its manifest.
        enforcement: which limits the kernel holds.
        pools: memory pools.
        processes: processes.
        instances: agents in memory.
        host: the machine.
        queues: open tasks by agent.
        broker: the broker's own numbers, None while it does not answer.
        source: how to cite it.
        raw: everything, as JSON.
    """

    fleet: str
    state: str = ""
    since_wall_ms: int = 0
    at_wall_ms: int = 0
    digest: str = ""
    manifest: str = ""
    enforcement: dict[str, Any] = field(default_factory=dict)
    pools: list[Pool] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    host: Host = field(default_factory=Host)
    queues: dict[str, Queue] = field(default_factory=dict)
    broker: dict[str, Any] | None = None
    source: str = ""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Status:
        """Build from the JSON of ``/v1/status``."""
        return cls.of(
            {
                **data,
                "pools": [Pool.of(entry) for entry in data.get("pools") or ()],
                "processes": [Process.of(entry) for entry in data.get("processes") or ()],
                "instances": [Instance.of(entry) for entry in data.get("instances") or ()],
                "host": Host.of(data.get("host") or {}),
                "queues": {agent: Queue.of(entry) for agent, entry in (data.get("queues") or {}).items()},
                "raw": data,
            }
        )

    def process(self, name: str) -> Process | None:
        """The process of this name."""
        return next((entry for entry in self.processes if entry.name == name), None)

    def pool(self, name: str) -> Pool | None:
        """The pool of this name."""
        return next((entry for entry in self.pools if entry.name == name), None)
