"""Why it exists: turns the planner's answer into the file that ``sutazaid`` starts from: argv, environment, sockets."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sutazai
from sutazai.control.servers import missing
from sutazai.errors import ConfigError
from sutazai.host.languages import LANGUAGES, unreadable
from sutazai.limits import HOSTING_UIDS_MAX, INSTANCE_UIDS_MAX, LOG_BYTES_MAX_DEFAULT
from sutazai.paths import FleetPaths, models_dir
from sutazai.plan import platform
from sutazai.spec.service import PLACEHOLDER
from sutazai.supervisor.contract import (
    Agent,
    Limits,
    Listen,
    PlanFile,
    Planned,
    Pool,
    Probe,
    Process,
    Ready,
    Restart,
    Worker,
)

if TYPE_CHECKING:
    from sutazai import plan as planner
    from sutazai import spec
    from sutazai.control.upstream import Upstream

HOST = "127.0.0.1"
HTTP_MODULE = Path(sutazai.__file__).parent / "runtime" / "http_agent.py"
PLATFORM_READY_MS = 30_000
LLM_READY_MS = 180_000
#: User ids 60578 to 61183 are used by nobody (systemd's table of user ids; Debian keeps 60000-64999 for itself but
#: gives none in this part). They are below 65536, so they exist in containers too. Each fleet gets a block by its name.
UID_FIRST = 60_600
UID_BLOCK = INSTANCE_UIDS_MAX
UID_BLOCKS = 4
MODULES = {
    "broker": "sutazai.bus",
    "control": "sutazai.control",
    "gateway": "sutazai.gateway",
    "llm": "sutazai.llm",
    "zygote": "sutazai.runtime.zygote",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What a plan file is made from.

    Attributes:
        manifest: what was asked for.
        plan: what the planner decided.
        skills: what the agents' code says, by agent.
        upstreams: what HTTP servers can do, by agent.
        paths: of the fleet.
    """

    manifest: spec.Manifest
    plan: planner.Plan
    skills: dict[str, list[dict[str, Any]]]
    upstreams: dict[str, Upstream]
    paths: FleetPaths


def build(sources: Sources) -> tuple[PlanFile, list[ConfigError]]:
    """Build the plan file.

    Returns:
        The plan, and what this host lacks for it (programs, users), each with its place in the manifest.
    """
    manifest, plan = sources.manifest, sources.plan
    mistakes = missing(manifest, service_state_dir(sources.paths, "postgres") / "data")
    processes = []
    for row in plan.processes:
        if row.planned:
            continue
        if row.kind == "service":
            processes.append(_service(row, sources, mistakes))
        elif row.name in MODULES:
            processes.append(_platform(row, sources))
    policies = manifest.policies
    file = PlanFile(
        fleet=plan.fleet,
        digest=plan.digest,
        state_dir=str(sources.paths.state),
        run_dir=str(sources.paths.run),
        python=sys.executable,
        pools=[_pool(row) for row in plan.pools],
        stages=[stage.name for stage in plan.stages],
        processes=processes,
        workers=_workers(sources, mistakes),
        agents=[_agent(row, sources) for row in plan.agents if not row.planned],
        planned=_planned(sources),
        instance_uid_first=uid_first(plan.fleet) if os.geteuid() == 0 else 0,
        headroom_bytes=next(row.size_bytes for row in plan.pools if row.name == "reserve"),
        manifest=plan.manifest,
        restart=Restart(
            policies.restart_base_ms,
            policies.restart_cap_ms,
            policies.crash_loop_count,
            policies.crash_loop_window_ms,
        ),
    )
    return file, mistakes


def _is_worker(row: planner.ProcessRow) -> bool:
    return row.kind == "worker" and row.name not in MODULES and not row.planned


def _planned(sources: Sources) -> list[Planned]:
    """List what is not started, for those who are asked about it."""
    manifest, plan = sources.manifest, sources.plan
    found = [
        Planned(row.name, "agent", row.pool, row.memory_bytes, [row.port], manifest.agents[row.name].description)
        for row in plan.agents
        if row.planned
    ]
    for row in plan.processes:
        if row.planned:
            service = manifest.services.get(row.name)
            text = service.description if service else ""
            kind = "service" if service else "worker"
            found.append(Planned(row.name, kind, row.pool, row.memory_bytes, list(row.ports), text))
    return found


def uid_first(fleet: str) -> int:
    """First user id of a fleet's instance slots; fleets of different names seldom share a block."""
    return UID_FIRST + UID_BLOCK * (zlib.crc32(fleet.encode()) % UID_BLOCKS)


def _pool(row: planner.PoolRow) -> Pool:
    return Pool(row.name, row.size_bytes, row.parent, row.instance_limit, row.cpuset)


def _limits(row: planner.ProcessRow) -> Limits:
    return Limits(row.memory_bytes, row.cpu_quota_cores, row.cpu_weight, row.cpuset, row.pids_max)


def _workers(sources: Sources, mistakes: list[ConfigError]) -> list[Worker]:
    rows = [row for row in sources.plan.processes if _is_worker(row)]
    hosting = [row for row in rows if row.on_demand]
    found = [_worker(row) for row in rows if not row.on_demand]
    for runtime in dict.fromkeys(row.family for row in hosting):
        mine = [row for row in hosting if row.family == runtime]
        found += _hosting(runtime, mine, hosting.index(mine[0]), sources, mistakes)
    return found


def _worker(row: planner.ProcessRow) -> Worker:
    return Worker(row.name, row.family, row.pool, _limits(row), row.envelope_bytes, list(row.preload))


def _hosting(
    runtime: str, rows: list[planner.ProcessRow], first: int, sources: Sources, mistakes: list[ConfigError]
) -> list[Worker]:
    """Describe workers that hold instances inside themselves, each with a user of its own where that can read them."""
    pool = sources.manifest.runtime_pools[runtime]
    place = {"path": pool.place.path or sources.plan.manifest, "line": pool.place.line, "column": pool.place.column}
    language = LANGUAGES.get(runtime)
    if language is None:
        hint = f"remove it, or write status: planned; there are {', '.join(LANGUAGES)}"
        mistakes.append(ConfigError(f"the runtime {runtime} is not in this version", **place, hint=hint))  # type: ignore[arg-type]
        return []
    program, why = language.find()
    if not program:
        mistakes.append(ConfigError(f"workers of {runtime} cannot run: {why}", **place, hint=language.hint))  # type: ignore[arg-type]
        return []
    agents = [each for each in sources.manifest.agents.values() if each.runtime == runtime and not each.planned]
    modules = [Path(each.module) for each in agents]
    blocked = unreadable([Path(program), language.folder, *modules]) if os.geteuid() == 0 else ""
    own_uid = os.geteuid() == 0 and not blocked
    env = {
        "SUTAZAI_SOCKET": str(sources.paths.supervisor_socket),
        "SUTAZAI_BROKER": str(sources.paths.broker_socket),
        "TMPDIR": str(sources.paths.state / "scratch"),
    }
    if sources.plan.llm is not None:
        env |= _environment("zygote", sources)
    return [
        Worker(
            name=row.name,
            family=runtime,
            pool=row.pool,
            limits=_limits(row),
            envelope_bytes=row.envelope_bytes,
            argv=[program, *language.worker],
            env=env,
            uid=hosting_uid(sources.plan.fleet, first + index) if own_uid else -1,
            unreadable=blocked,
            idle_ms=pool.idle_ms,
        )
        for index, row in enumerate(rows)
    ]


def hosting_uid(fleet: str, index: int) -> int:
    """User id of a hosting worker, behind all blocks of instance slots."""
    block = zlib.crc32(fleet.encode()) % UID_BLOCKS
    return UID_FIRST + UID_BLOCK * UID_BLOCKS + HOSTING_UIDS_MAX * block + index % HOSTING_UIDS_MAX


def _platform(row: planner.ProcessRow, sources: Sources) -> Process:
    """Describe one of our own processes."""
    own = next((process for process in platform.PROCESSES if process.name == row.name), None)
    is_llm = row.kind == "llm"
    return Process(
        name=row.name,
        kind=row.kind,  # type: ignore[arg-type]  # sutazaid itself, the only other kind, is not in the plan file
        argv=[sys.executable, "-m", MODULES[row.name], *_options(row.name, sources)],
        pool=row.pool,
        stage=row.stage,
        env=_environment(row.name, sources),
        cwd=str(sources.paths.state),
        limits=_limits(row),
        envelope_bytes=row.envelope_bytes,
        after=list(row.after),
        ready=Ready("notify", timeout_ms=LLM_READY_MS if is_llm else PLATFORM_READY_MS),
        listen=_listen(row.name, sources),
        oom_score_adj=own.oom_score_adj if own else platform.LLM_OOM_SCORE_ADJ,
        protected=not is_llm,
    )


def _options(name: str, sources: Sources) -> list[str]:
    """Say which servers our own processes work with."""
    if name == "broker" and sources.manifest.profile == "standard":
        return ["--store", "postgres", "--dispatch", "rabbitmq", "--cache", "valkey"]
    callers = sources.manifest.policies.callers
    if name == "gateway" and callers.interval_us:
        options = ["--caller-interval-us", str(callers.interval_us), "--caller-burst", str(callers.burst)]
        return options + (["--shared-limits"] if sources.manifest.profile == "standard" else [])
    return []


def _listen(name: str, sources: Sources) -> list[Listen]:
    paths, plan = sources.paths, sources.plan
    listen = [Listen(row.name, HOST, row.number) for row in plan.ports if row.held_by == name]
    if name == "broker":
        listen.append(Listen("broker", path=str(paths.broker_socket), mode=0o666))
    if name == "control":
        listen.append(Listen("control", path=str(paths.control_socket), mode=0o666))
    return listen


def _environment(name: str, sources: Sources) -> dict[str, str]:
    """Build what a process is told besides ``sutazaid``'s own variables."""
    llm = sources.plan.llm
    if llm is None:
        return {}
    if name == "llm":
        return {
            "SUTAZAI_MODELS": str(models_dir()),
            "SUTAZAI_LLM_MODEL": llm.model,
            "SUTAZAI_LLM_THREADS": str(llm.threads),
            "SUTAZAI_LLM_SLOTS": str(llm.slots),
            "SUTAZAI_LLM_CONTEXT_TOKENS": str(llm.context),
            "SUTAZAI_LLM_MEMORY_BYTES": str(llm.memory_bytes),
            **_elsewhere(llm),
        }
    port = platform.PORT_LLM + sources.plan.port_offset
    return {"SUTAZAI_LLM_URL": f"http://{HOST}:{port}/v1/chat/completions"} if name in {"zygote", "gateway"} else {}


def _elsewhere(llm: planner.LlmRow) -> dict[str, str]:
    """Where the model runs, when it does not run here; its key stays in its file."""
    if not llm.url:
        return {}
    words = {"SUTAZAI_LLM_DRIVER": llm.driver, "SUTAZAI_LLM_UPSTREAM_URL": llm.url}
    return words | ({"SUTAZAI_LLM_API_KEY_FILE": llm.api_key_file} if llm.api_key_file else {})


def _agent(row: planner.AgentRow, sources: Sources) -> Agent:
    agent = sources.manifest.agents[row.name]
    upstream = sources.upstreams.get(row.name)
    return Agent(
        name=row.name,
        module=str(HTTP_MODULE) if upstream else agent.module,
        version=agent.version,
        family=row.family,
        pool=row.pool,
        limits=Limits(row.memory_bytes, row.cpu_quota_cores, row.cpu_weight, row.cpuset, platform.INSTANCE_PIDS_MAX),
        envelope_bytes=row.envelope_bytes,
        instances_max=row.instances_max,
        keep_ms=row.keep_ms,
        port=row.port,
        skills=upstream.skills if upstream else sources.skills.get(row.name, []),
        settings=agent.settings,
        attempts_max=agent.attempts_max,
        deadline_ms=agent.deadline_ms,
        upstream=_upstream(agent, upstream, sources) if upstream else {},
        powers=list(agent.powers),
        state_keep_ms=agent.state_keep_ms,
        rate=asdict(agent.rate) if agent.rate.interval_us else {},
        retry=asdict(agent.retry),
        queue=asdict(agent.queue),
        breaker=asdict(agent.breaker),
        result_bytes_max=agent.result_bytes_max,
        schedules=[_schedule(schedule) for schedule in agent.schedules],
    )


def _schedule(schedule: spec.Schedule) -> dict[str, Any]:
    """Write a schedule without its place in the manifest."""
    return {name: value for name, value in asdict(schedule).items() if name != "place"}


def _upstream(agent: spec.Agent, found: Upstream, sources: Sources) -> dict[str, Any]:
    """Describe the server behind an agent: where it is now, and what it is asked."""
    http = agent.http
    if http is None:
        return {}
    url = http.url
    if http.service:
        port = sources.manifest.services[http.service].ports[0].number + sources.plan.port_offset
        url = f"http://{HOST}:{port}"
    return {"url": url, "service": http.service, "skills": found.calls}


def _service(row: planner.ProcessRow, sources: Sources, mistakes: list[ConfigError]) -> Process:
    service = sources.manifest.services[row.name]
    offset = sources.plan.port_offset
    words = _words(service, sources)
    env: dict[str, str] = {}
    if service.ports:
        env["PORT"] = str(service.ports[0].number + offset)
    env |= {name: fill(text, words) for name, text in service.env.items()}
    argv = [fill(text, words) for text in service.argv]
    return Process(
        name=row.name,
        kind="service",
        argv=[_program(argv[0], service, env, mistakes), *argv[1:]],
        pool=row.pool,
        stage=row.stage,
        env=env,
        cwd=service.cwd,
        limits=_limits(row),
        envelope_bytes=row.envelope_bytes,
        after=list(row.after),
        ready=Ready(
            service.ready.kind,
            HOST,
            service.ready.port + offset if service.ready.port else 0,
            service.ready.path,
            service.ready.timeout_ms,
            service.ready.interval_ms,
        ),
        probe=_probe(service, offset),
        uid=_uid(service, mistakes),
        stop_grace_ms=service.stop_grace_ms,
        log_bytes_max=service.log_bytes_max or LOG_BYTES_MAX_DEFAULT,
    )


def _probe(service: spec.Service, offset: int) -> Probe:
    check = service.probe
    return Probe(
        check.kind,  # type: ignore[arg-type]  # the kinds of a probe are checked by spec
        HOST,
        check.port + offset if check.port else 0,
        check.path,
        check.interval_ms,
        check.timeout_ms,
        check.fail_after,
        restart=service.restart_when_unhealthy,
    )


def _words(service: spec.Service, sources: Sources) -> dict[str, str]:
    """List what the placeholders of a service stand for."""
    offset = sources.plan.port_offset
    words = {
        "python": sys.executable,
        "state": str(service_state_dir(sources.paths, service.name)),
        "fleet": sources.plan.fleet,
        "folder": str(Path(sources.plan.manifest).parent),
        **{f"port.{port.name}": str(port.number + offset) for port in service.ports},
    }
    if service.ports:
        words["port"] = str(service.ports[0].number + offset)
    if sources.plan.llm:
        words["port_of.llm"] = str(platform.PORT_LLM + offset)
    for other in sources.manifest.services.values():
        words |= {f"port_of.{other.name}.{port.name}": str(port.number + offset) for port in other.ports}
        if other.ports:
            words[f"port_of.{other.name}"] = str(other.ports[0].number + offset)
    return words


def service_state_dir(paths: FleetPaths, name: str) -> Path:
    """Folder that a service may keep its files in: ``{state}``."""
    return paths.state / "services" / name


def fill(text: str, words: dict[str, str]) -> str:
    """Replace placeholders; ``{{`` and ``}}`` are braces."""

    def word(match: Any) -> str:
        if match[1] is None:
            return str(match[0][0])
        return words[".".join(part for part in match.groups() if part)]

    return PLACEHOLDER.sub(word, text)


def _program(name: str, service: spec.Service, env: dict[str, str], mistakes: list[ConfigError]) -> str:
    """Find a program as a shell would, relative to the service's folder."""
    if "/" in name:
        path = Path(service.cwd) / name
        found = str(path) if os.access(path, os.X_OK) and path.is_file() else None
    else:
        found = shutil.which(name, path=env.get("PATH"))
    if found is None:
        hint = "install it, or write the path of the program"
        mistakes.append(_at(service, f"{service.name}: there is no program {name}", hint))
        return name
    return os.path.abspath(found)  # noqa: PTH100 a symbolic link to an interpreter must stay one


def _uid(service: spec.Service, mistakes: list[ConfigError]) -> int:
    if not service.user:
        return -1
    try:
        uid = int(service.user) if service.user.isdigit() else pwd.getpwnam(service.user).pw_uid
    except KeyError:
        mistakes.append(_at(service, f"{service.name}: there is no user {service.user}", "see: getent passwd"))
        return -1
    if os.geteuid() not in {0, uid}:
        mistakes.append(
            _at(service, f"{service.name}: only root can run it as {service.user}", "remove user, or be root")
        )
    return uid


def _at(service: spec.Service, problem: str, hint: str) -> ConfigError:
    place = service.place
    return ConfigError(problem, path=place.path, line=place.line, column=place.column, hint=hint)
