"""Why it exists: what a manifest says, checked and with units resolved, as frozen data that nobody can misread.

Units stand in the names. Each part remembers its place in the file, so that the planner's findings can point there too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sutazai.limits import (
    PRIORITY_DEFAULT,
    RESULT_BYTES_MAX_DEFAULT,
    STATE_KEEP_MS_DEFAULT,
    WORKER_IDLE_MS_DEFAULT,
)
from sutazai.spec.pace import BREAKER_DEFAULT, QUEUE_DEFAULT, RATE_DEFAULT, RETRY_DEFAULT, Breaker, Queue, Rate, Retry
from sutazai.spec.places import NOWHERE, Place

if TYPE_CHECKING:
    from sutazai.spec.http_agent import HttpAgent

#: Memory pools of the blueprint (§2.2), in its order; ``platform`` is cut from ``critical``.
POOL_NAMES = ("infrastructure", "critical", "standard", "monitoring", "reserve")
PLATFORM_POOL = "platform"
#: Where workers stand that hold their instances inside themselves: what those take is charged to the worker's group.
HOSTING_POOL = "standard"
HOME_RUNTIME = "py"


@dataclass(frozen=True, slots=True)
class Host:
    """What the fleet may take of the machine. ``None`` means: whatever the machine has."""

    memory_bytes: int | None = None
    cores: int | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Pool:
    """A memory pool as it was written.

    Attributes:
        name: one of ``POOL_NAMES``.
        size_bytes: its budget on a host that is large enough.
        max_per_agent_bytes: largest limit of one instance.
        instance_limit: instances awake at once, 0 for no limit.
        place: in the file; an empty path means: not written, the blueprint's value.
    """

    name: str
    size_bytes: int
    max_per_agent_bytes: int
    instance_limit: int = 0
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class CpuSet:
    """Some cores with a name, and who runs on them (services, agents, ``llm``, or a whole pool by its name)."""

    name: str
    cores: tuple[int, ...]
    members: tuple[str, ...] = ()
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class PortRange:
    """A range of ports for one purpose, both ends included, before the offset."""

    name: str
    first: int
    last: int
    place: Place = NOWHERE

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class Family:
    """What a worker pre-loads before it forks.

    Attributes:
        name: ``base``, ``data`` …
        preload: modules; ``None`` means: the built-in list of this family.
        memory_bytes: limit of a worker of this family, 0 for the built-in value.
        start_peak_bytes: what it takes while it starts, 0 for the built-in value.
        place: in the file.
    """

    name: str
    preload: tuple[str, ...] | None = None
    memory_bytes: int = 0
    start_peak_bytes: int = 0
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class RuntimePool:
    """Workers of one language, and the ports that answer for them.

    Attributes:
        name: of the language.
        workers: how many, 0 means: the planner chooses by the host's cores.
        families: what they pre-load, at least one.
        port_first: of the first worker, before the offset.
        port_last: of the last one there may be.
        place: in the file.
        planned: whether they are only planned for.
        memory_bytes: limit of a worker that is only planned for; the others' are their family's.
        hosts: whether its workers hold their instances inside themselves; then they start when they are needed.
        idle_ms: time without instances after which such a worker is stopped.
    """

    name: str
    workers: int
    families: tuple[Family, ...]
    port_first: int
    port_last: int
    place: Place = NOWHERE
    planned: bool = False
    memory_bytes: int = 0
    hosts: bool = False
    idle_ms: int = WORKER_IDLE_MS_DEFAULT


@dataclass(frozen=True, slots=True)
class Check:
    """How a service is asked whether it is ready, or whether it still lives.

    Attributes:
        kind: ``none``, ``tcp``, ``http``, ``unix``, ``postgres``, ``redis``, ``amqp``, ``exit``, ``notify``.
        port: the port before the offset, 0 where there is none.
        path: HTTP path or unix socket path.
        timeout_ms: of all tries (ready) or of one (probe).
        interval_ms: between two tries.
        fail_after: failures in a row (probe only).
        place: in the file.
    """

    kind: Literal["none", "tcp", "http", "unix", "postgres", "redis", "amqp", "exit", "notify"] = "none"
    port: int = 0
    path: str = ""
    timeout_ms: int = 30_000
    interval_ms: int = 50
    fail_after: int = 3
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port that a service listens on, before the offset."""

    name: str
    number: int
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Share:
    """CPU of a process or of an instance.

    Attributes:
        quota_cores: hard ceiling, 0 for none.
        weight: share under contention, 0 for the default.
        cpu_set: name of a set, empty for all cores.
    """

    quota_cores: float = 0.0
    weight: int = 0
    cpu_set: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A backing process of the user's.

    Attributes:
        name: unique in the fleet.
        argv: program and arguments with placeholders (``{python}``, ``{port}``, ``{state}`` …) still in them.
        ports: what it listens on.
        memory_bytes: hard limit; 0 when none is written, which the planner refuses.
        start_peak_bytes: what its ticket reserves.
        cpu: CPU.
        pids_max: processes and threads.
        pool: memory pool.
        after: names of what must be ready before.
        ready: when it counts as ready.
        probe: how its life is checked.
        restart_when_unhealthy: whether a failed probe restarts it.
        env: its environment.
        cwd: working folder, absolute.
        log_bytes_max: size at which its log is rotated.
        stop_grace_ms: time to end by itself.
        user: user name or number to run as, empty for ``sutazaid``'s own.
        place: of its name.
        planned: whether it is only planned for: counted in the proof, never started.
        on_demand: whether it would start only when asked for; only planned ones can, in this version.
        description: one line for people.
        stage: of boot: ``services``, or ``store`` for what the broker needs before it starts.
    """

    name: str
    argv: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    memory_bytes: int
    start_peak_bytes: int
    cpu: Share
    pids_max: int
    pool: str
    after: tuple[str, ...]
    ready: Check
    probe: Check
    restart_when_unhealthy: bool
    env: dict[str, str]
    cwd: str
    log_bytes_max: int
    stop_grace_ms: int
    user: str = ""
    place: Place = NOWHERE
    planned: bool = False
    on_demand: bool = False
    description: str = ""
    stage: Literal["services", "store"] = "services"


@dataclass(frozen=True, slots=True)
class Provided:
    """A service that one of our own processes is: it has a name and ports, but no process of its own.

    Attributes:
        name: unique in the fleet.
        by: ``gateway``, ``control``, ``llm`` …
        ports: the process' ports that are this service.
        place: of its name.
    """

    name: str
    by: str
    ports: tuple[ServicePort, ...]
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times at which an agent is given a task.

    Attributes:
        name: unique for the agent.
        cron: expression.
        timezone: of the expression.
        skill: that is asked for.
        input: JSON.
        catch_up: ``none``: times that passed while the fleet was down are left out; ``last``: the last of them is done.
        priority: of its tasks.
        deadline_ms: of its tasks, 0 for the agent's.
        place: of its name.
    """

    name: str
    cron: str
    timezone: str
    skill: str
    input: Any
    catch_up: str = "none"
    priority: int = PRIORITY_DEFAULT
    deadline_ms: int = 0
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: its own folder's manifest with the fleet's overrides applied.

    Attributes:
        name: unique in the fleet.
        module: folder or file with its code, absolute.
        origin: ``built-in``, ``folder``, ``file``, ``http``, or ``planned``: it has no code yet.
        version: of its code.
        description: one line for people.
        port: before the offset; 0 means: the planner finds one.
        pool: memory pool of its instances.
        family: the worker family that forks it.
        memory_bytes: hard limit of an instance.
        envelope_bytes: what an instance's ticket reserves.
        cpu: CPU of an instance.
        instances_max: instances awake at once.
        keep_ms: idle time after which an instance hibernates.
        needs: agents, services or ``llm`` that it calls.
        settings: handed to its code.
        attempts_max: own failures until a task is dead.
        deadline_ms: of a task that names none.
        powers: names out of ``powers.POWERS`` that it asked for and was granted.
        state_keep_ms: a session's state is forgotten when it had no task for so long; 0: never.
        rate: how many of its turns may start in a time.
        retry: pauses between attempts.
        schedules: times at which it is given a task.
        queue: how much may wait for it.
        breaker: when it is left alone.
        result_bytes_max: largest result of its skills.
        place: of its name in the fleet's manifest.
        http: the server behind it, for one that is no Python module.
        runtime: ``py``, ``node`` or ``go``.
    """

    name: str
    module: str
    origin: Literal["built-in", "folder", "file", "http", "planned"]
    version: str
    description: str
    port: int
    pool: str
    family: str
    memory_bytes: int
    envelope_bytes: int
    cpu: Share
    instances_max: int
    keep_ms: int
    needs: tuple[str, ...]
    settings: dict[str, Any]
    attempts_max: int
    deadline_ms: int
    powers: tuple[str, ...] = ()
    state_keep_ms: int = STATE_KEEP_MS_DEFAULT
    rate: Rate = RATE_DEFAULT
    retry: Retry = RETRY_DEFAULT
    schedules: tuple[Schedule, ...] = ()
    queue: Queue = QUEUE_DEFAULT
    breaker: Breaker = BREAKER_DEFAULT
    result_bytes_max: int = RESULT_BYTES_MAX_DEFAULT
    place: Place = NOWHERE
    http: HttpAgent | None = None
    runtime: str = "py"

    @property
    def planned(self) -> bool:
        """Whether it is only planned for: counted in the proof, answered for by the gateway, never started."""
        return self.origin == "planned"


@dataclass(frozen=True, slots=True)
class Llm:
    """The shared language model server.

    Attributes:
        model: name in the model registry, or the absolute path of a GGUF file.
        memory_bytes: hard limit.
        start_peak_bytes: what its ticket reserves.
        cpu_cores: quota; ``None`` means: a third of the host, at least one core.
        cpu: weight and set.
        slots: requests answered at the same time.
        context: tokens of one slot.
        threads: as written; ``None`` means: as many as the quota has whole cores.
        driver: ``llamacpp`` runs the model here; ``ollama`` and ``openai`` ask a server for it.
        url: of that server; empty for ``llamacpp``.
        api_key_file: absolute path of the file with the key for it; empty for none.
        place: in the file.
    """

    model: str
    memory_bytes: int
    start_peak_bytes: int
    cpu_cores: float | None
    cpu: Share
    slots: int
    context: int
    threads: int | None = None
    driver: str = "llamacpp"
    url: str = ""
    api_key_file: str = ""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Policies:
    """Defaults for what the manifest does not say one by one.

    Attributes:
        restart_base_ms: wait before the first restart; doubles each time.
        restart_cap_ms: longest wait.
        crash_loop_count: ends within the window that raise ``CrashLoop``.
        crash_loop_window_ms: the window.
        attempts_max: own failures until a task is dead.
        deadline_ms: of a task that names none.
        keep_ms: idle time until an instance hibernates, by pool.
        callers: how often one address may ask the gateway.
    """

    restart_base_ms: int
    restart_cap_ms: int
    crash_loop_count: int
    crash_loop_window_ms: int
    attempts_max: int
    deadline_ms: int
    keep_ms: dict[str, int]
    callers: Rate = RATE_DEFAULT


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that ``sutazai.yaml`` says.

    Attributes:
        fleet: name.
        path: of the file, absolute.
        digest: SHA-256 of the file and of the agents' own manifests.
        port_offset: added to every port.
        profile: ``embedded`` (all in our own processes) or ``standard`` (tasks in PostgreSQL, dispatch by RabbitMQ).
        host: what the fleet may take.
        pools: by name, all of ``POOL_NAMES``.
        platform_bytes: size of the ``platform`` sub-pool; ``None`` means: what its processes need.
        cpu_sets: by name.
        port_ranges: by name.
        runtime_pools: by language.
        services: by name.
        provided: services that our own processes are, by name.
        agents: by name.
        llm: the model server, if there is one.
        policies: defaults.
    """

    fleet: str
    path: str
    digest: str
    port_offset: int
    profile: str
    host: Host
    pools: dict[str, Pool]
    platform_bytes: int | None
    cpu_sets: dict[str, CpuSet]
    port_ranges: dict[str, PortRange]
    runtime_pools: dict[str, RuntimePool]
    services: dict[str, Service]
    agents: dict[str, Agent]
    llm: Llm | None
    policies: Policies
    provided: dict[str, Provided] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
