"""Why it exists: the plan file is the whole interface between those who decide what runs and the one who runs it.

``control.compile`` writes it, ``sutazaid`` reads it. JSON, one object; a change is a new file: build, check, swap.
Units stand in the names. ``PlanFile.load`` refuses a file that it does not understand, so that a refused plan leaves
the old one running.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sutazai.errors import ConfigError
from sutazai.limits import (
    CRASH_LOOP_COUNT,
    CRASH_LOOP_WINDOW_MS,
    LOG_BYTES_MAX_DEFAULT,
    LOG_FILES_KEPT,
    RESTART_BASE_MS,
    RESTART_CAP_MS,
    STOP_GRACE_MS_DEFAULT,
)

if TYPE_CHECKING:
    from pathlib import Path

PLAN_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listen:
    """A socket that ``sutazaid`` binds and hands on.

    The process finds it by name in ``SUTAZAI_LISTEN``, a JSON object ``{name: [file descriptor, …]}``.

    Attributes:
        name: what the process calls it (``edge``, ``agent:health-monitor``).
        host: address, ``127.0.0.1`` unless the manifest says otherwise.
        port: TCP port, offset already added; 0 for a unix socket.
        path: of a unix socket, else empty.
        mode: permission bits of a unix socket.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    mode: int = 0o600


@dataclass(frozen=True, slots=True)
class Limits:
    """What the kernel is to hold for one group. Zero or empty means: no limit of this kind.

    Attributes:
        memory_bytes: hard limit; beyond it the group's processes are killed.
        cpu_quota_cores: hard ceiling, cores (0.5 is half a core).
        cpu_weight: share under contention, 1–10 000, 100 is the default of the kernel.
        cpuset: list of cores as the kernel writes it (``0-3,8``).
        pids_max: processes and threads.
    """

    memory_bytes: int = 0
    cpu_quota_cores: float = 0.0
    cpu_weight: int = 0
    cpuset: str = ""
    pids_max: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """When a process counts as ready.

    Attributes:
        kind: ``none`` (at once), ``tcp`` (a connection is taken), ``http`` (status 2xx), ``unix`` (a connection to a
            unix socket is taken), ``postgres``, ``redis``, ``amqp`` (the server's protocol says that it
            serves), ``notify`` (the process says so on ``sutazaid``'s socket), ``exit`` (it ends with 0:
            a job).
        host: for tcp and http.
        port: for tcp and http.
        path: HTTP path or unix socket path.
        timeout_ms: after this it counts as failed and is restarted.
        interval_ms: between tries.
    """

    kind: Literal["none", "tcp", "http", "unix", "postgres", "redis", "amqp", "notify", "exit"] = "none"
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    timeout_ms: int = 30_000
    interval_ms: int = 50


@dataclass(frozen=True, slots=True)
class Probe:
    """A liveness check while a process runs; ``fail_after`` failures in a row raise ``Unhealthy``.

    Attributes:
        kind: as ``Ready.kind``, but neither ``notify`` nor ``exit``; ``none`` switches it off.
        host: for tcp and http.
        port: for tcp and http.
        path: HTTP path or unix socket path.
        interval_ms: between checks.
        timeout_ms: of one check.
        fail_after: failures in a row until ``Unhealthy``.
        restart: whether ``Unhealthy`` also restarts the process.
    """

    kind: Literal["none", "tcp", "http", "unix", "postgres", "redis", "amqp"] = "none"
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    interval_ms: int = 1_000
    timeout_ms: int = 1_000
    fail_after: int = 3
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Process:
    """One process that ``sutazaid`` starts by its argument vector.

    Attributes:
        name: unique in the fleet; also the name of its cgroup and its log.
        kind: ``platform`` (ours), ``llm``, ``worker`` (a zygote), ``service`` (the user's).
        argv: program and arguments; the program is an absolute path.
        env: added to a small clean environment.
        cwd: working folder.
        pool: memory pool.
        limits: of its own cgroup.
        envelope_bytes: what its ticket reserves: start peak or steady use, the larger.
        stage: name of its boot stage.
        after: names of processes that must be ready before it starts.
        ready: when it counts as ready.
        probe: liveness check.
        listen: sockets it is handed.
        uid: user id to run as; -1 keeps ``sutazaid``'s.
        stop_signal: sent first.
        stop_grace_ms: then SIGKILL to the whole cgroup.
        log_bytes_max: size at which its log is rotated.
        log_files_kept: rotated files kept.
        oom_score_adj: -1000…1000.
        protected: never a victim of the governor.
        on_demand: it runs only while somebody needs it; no stage waits for it.
    """

    name: str
    kind: Literal["platform", "llm", "worker", "service"]
    argv: list[str]
    pool: str
    stage: str
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    limits: Limits = field(default_factory=Limits)
    envelope_bytes: int = 0
    after: list[str] = field(default_factory=list)
    ready: Ready = field(default_factory=Ready)
    probe: Probe = field(default_factory=Probe)
    listen: list[Listen] = field(default_factory=list)
    uid: int = -1
    stop_signal: int = 15
    stop_grace_ms: int = STOP_GRACE_MS_DEFAULT
    log_bytes_max: int = LOG_BYTES_MAX_DEFAULT
    log_files_kept: int = LOG_FILES_KEPT
    oom_score_adj: int = 0
    protected: bool = False
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Worker:
    """One member of a runtime pool: a zygote that forks instances, or a process that hosts them inside itself.

    The root zygote is a ``Process`` of kind ``worker`` named ``zygote``; it forks the members, which register with
    ``sutazaid`` under their name. A hosting worker (Node, Go) has an argument vector of its own and is started by it
    when the first of its agents is woken.

    Attributes:
        name: ``python-0`` …
        family: what it pre-loads (``base``, ``data`` …).
        pool: memory pool its cgroup is in.
        limits: of its cgroup (the zygote's own, not its instances').
        envelope_bytes: what its ticket reserves.
        preload: modules imported and warmed before the first fork.
        argv: of a hosting worker; empty for one that the root zygote forks.
        env: added for a hosting worker.
        uid: user id that a hosting worker runs as; -1 keeps ``sutazaid``'s.
        unreadable: path for whose sake it keeps ``sutazaid``'s user id, empty when it does not.
        idle_ms: time without instances after which a hosting worker is stopped.
    """

    name: str
    family: str
    pool: str
    limits: Limits
    envelope_bytes: int
    preload: list[str] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    uid: int = -1
    unreadable: str = ""
    idle_ms: int = 60_000

    @property
    def hosts(self) -> bool:
        """Whether its instances live inside itself."""
        return bool(self.argv)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as ``sutazaid`` and the worker need it.

    Attributes:
        name: unique in the fleet.
        module: folder or file with its code, absolute.
        version: from its manifest.
        family: which worker forks it.
        pool: memory pool of its instances.
        limits: of each instance's cgroup.
        envelope_bytes: what an instance's ticket reserves.
        instances_max: concurrent instances.
        keep_ms: idle time after which it hibernates.
        port: TCP port, offset added.
        skills: what ``runtime describe`` found: ``[{name, description, input, output}]`` with JSON schemas.
        settings: what the manifest hands to the agent's code.
        attempts_max: own failures until a task is dead.
        deadline_ms: of a task that names none.
        upstream: the HTTP server behind it: ``{url, service, skills: {name: {method, path, query}}}``; empty for code.
        powers: what its instances may ask ``sutazaid`` to do, see ``powers.POWERS``.
        state_keep_ms: a session's state is forgotten when it had no task for so long; 0: never.
        rate: how many of its turns may start in a time: ``{interval_us, burst}``; empty for no limit.
        retry: pauses between attempts and their budget: ``{base_ms, factor, max_ms, jitter, budget, least_us}``; what
            is missing takes the default.
        schedules: times at which it is given a task: ``[{name, cron, timezone, skill, input, catch_up, priority,
            deadline_ms}]``.
        queue: how much may wait for it: ``{tasks_max, bytes_max}``, each 0 for no bound, and ``per_caller_max``; what
            is missing takes the default.
        breaker: when it is left alone: ``{enabled, failures, ratio, volume, window_ms, pause_ms, pause_ms_max, probes,
            timeout_ms, when_open}``; what is missing takes the default.
        result_bytes_max: largest result of its skills, as JSON.
    """

    name: str
    module: str
    version: str
    family: str
    pool: str
    limits: Limits
    envelope_bytes: int
    instances_max: int
    keep_ms: int
    port: int
    skills: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    attempts_max: int = 4
    deadline_ms: int = 600_000
    upstream: dict[str, Any] = field(default_factory=dict)
    powers: list[str] = field(default_factory=list)
    state_keep_ms: int = 0
    rate: dict[str, int] = field(default_factory=dict)
    retry: dict[str, Any] = field(default_factory=dict)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    queue: dict[str, int] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)
    result_bytes_max: int = 67_108_864


@dataclass(frozen=True, slots=True)
class Pool:
    """A memory pool.

    Attributes:
        name: ``infrastructure``, ``critical``, ``platform``, ``standard``, ``monitoring``, ``reserve``.
        size_bytes: its budget, also the limit of its cgroup.
        parent: the pool it is cut from, else empty.
        instance_limit: instances of agents in it, 0 for no limit.
        cpuset: cores for all of it, empty for all.
    """

    name: str
    size_bytes: int
    parent: str = ""
    instance_limit: int = 0
    cpuset: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """Something that the manifest plans for and that does not exist yet; nothing of it is started.

    Attributes:
        name: unique in the fleet.
        kind: ``agent``, ``service`` or ``worker``.
        pool: memory pool in which it is counted.
        memory_bytes: limit that it would have here.
        ports: TCP ports, offset added; the gateway answers on those of agents.
        description: one line for people, may be empty.
    """

    name: str
    kind: str
    pool: str
    memory_bytes: int
    ports: list[int] = field(default_factory=list)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Restart:
    """How a process that ended is started again.

    Attributes:
        base_ms: wait before the first restart; doubles each time.
        cap_ms: longest wait.
        crash_loop_count: ends within the window that raise ``CrashLoop``.
        crash_loop_window_ms: the window.
    """

    base_ms: int = RESTART_BASE_MS
    cap_ms: int = RESTART_CAP_MS
    crash_loop_count: int = CRASH_LOOP_COUNT
    crash_loop_window_ms: int = CRASH_LOOP_WINDOW_MS


@dataclass(frozen=True, slots=True)
class PlanFile:
    """All that ``sutazaid`` needs to bring a fleet up, also after a reboot.

    Attributes:
        fleet: name.
        digest: of the manifest it was compiled from.
        state_dir: folder that outlives a reboot.
        run_dir: folder of sockets.
        python: interpreter for platform processes.
        pools: memory pools; ``reserve`` among them.
        stages: names of boot stages in order.
        processes: what is started by argv.
        workers: what the root zygote forks.
        agents: what the workers fork.
        instance_uid_first: first of the uids for instance slots; 0 keeps ``sutazaid``'s uid.
        headroom_bytes: ``MemAvailable`` below which nothing new starts.
        manifest: absolute path of the manifest, for messages.
        restart: how processes that ended are started again.
        planned: what is counted and not started.
        version: of this format.
    """

    fleet: str
    digest: str
    state_dir: str
    run_dir: str
    python: str
    pools: list[Pool]
    stages: list[str]
    processes: list[Process]
    workers: list[Worker] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)
    instance_uid_first: int = 0
    headroom_bytes: int = 0
    manifest: str = ""
    restart: Restart = field(default_factory=Restart)
    planned: list[Planned] = field(default_factory=list)
    version: int = PLAN_VERSION

    def dump(self, path: Path) -> None:
        """Write the plan so that a reader sees the old file or the new one, never a half; mode 600, synced to disk."""
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> PlanFile:
        """Read a plan.

        Raises:
            ConfigError: the file is missing, no JSON, or of another version.
        """
        try:
            return cls.parse(json.loads(path.read_text()), str(path))
        except OSError as error:
            raise ConfigError(
                f"cannot read the plan: {error.strerror}", path=str(path), hint="run: sutazai up"
            ) from error
        except ValueError as error:
            raise ConfigError(f"the plan is no JSON: {error}", path=str(path), hint="run: sutazai up") from error

    @classmethod
    def parse(cls, data: dict[str, Any], path: str = "plan") -> PlanFile:
        """Build a plan from decoded JSON.

        Raises:
            ConfigError: a field is missing or unknown, or the version is another.
        """
        if not isinstance(data, dict) or data.get("version") != PLAN_VERSION:
            raise ConfigError("this plan was written by another version", path=path, hint="run: sutazai up")
        try:
            return cls(
                **{
                    **data,
                    "pools": [_build(Pool, entry) for entry in data["pools"]],
                    "processes": [_build_process(entry) for entry in data["processes"]],
                    "workers": [_build(Worker, entry) for entry in data.get("workers", [])],
                    "agents": [_build(Agent, entry) for entry in data.get("agents", [])],
                    "restart": Restart(**data.get("restart", {})),
                    "planned": [Planned(**entry) for entry in data.get("planned", [])],
                }
            )
        except (TypeError, KeyError) as error:
            raise ConfigError(f"the plan has a wrong field: {error}", path=path, hint="run: sutazai up") from error


def _build(kind: type[T], entry: dict[str, Any]) -> T:
    if "limits" in entry:
        entry = {**entry, "limits": Limits(**entry["limits"])}
    return kind(**entry)


def _build_process(entry: dict[str, Any]) -> Process:
    known = {item.name for item in fields(Process)}
    if unknown := set(entry) - known:
        raise KeyError(f"process {entry.get('name')}: {', '.join(sorted(unknown))}")
    entry = {
        **entry,
        "ready": Ready(**entry.get("ready", {})),
        "probe": Probe(**entry.get("probe", {})),
        "listen": [Listen(**item) for item in entry.get("listen", [])],
    }
    return _build(Process, entry)
