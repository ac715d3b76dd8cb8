"""Why it exists: an agent is described once, in its own folder; the fleet's manifest only names it and may override.

Built-in agents are found by their name in the installed package (``agents/<name_with_underscores>/``). A user's own
agent is a folder of the same form (``path:``) or a single file (``file:``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sutazai.errors import ConfigErrors
from sutazai.limits import DEADLINE_MS_DEFAULT
from sutazai.outside import OUTSIDE
from sutazai.spec.http_agent import read_http
from sutazai.spec.model import HOME_RUNTIME, Agent, Policies, Pool, Share
from sutazai.spec.places import Mapping, Mistakes, Place, Scalar, Sequence
from sutazai.spec.powers import asked, granted
from sutazai.spec.quantities import DURATION
from sutazai.spec.schedule import read_schedules
from sutazai.spec.section import Section, is_null, name_problem, near, plain
from sutazai.spec.service import PORT_MAX, is_planned, read_share
from sutazai.spec.toml import read_toml
from sutazai.spec.work import read_attempts, read_breaker, read_queue, read_rate, read_result_max, read_retry
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST_NAME = "manifest.toml"
#: Language → the file with an agent's code in its folder. Python's workers are given the folder, others the file.
CODE_NAMES = {HOME_RUNTIME: "agent.py", "node": "agent.mjs", "go": "agent.go"}
NODE_SUFFIXES = (".mjs", ".js")
FOR_EVER = "forever"
INSTANCES_MAX = 10_000
FILE_AGENT_BYTES = 128 * MIB
HTTP_AGENT_BYTES = 64 * MIB  # of an instance that carries requests; the server has its own limit
RUNTIMES = tuple(CODE_NAMES)
AGENT_POOLS = ("critical", "standard")
SETTINGS_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What is needed to read agents.

    Attributes:
        folder: of the fleet's manifest.
        builtin: folder of the built-in agents.
        pools: memory pools, for defaults.
        policies: defaults.
        known: names of the built-in agents, for hints.
    """

    folder: Path
    builtin: Path
    pools: dict[str, Pool]
    policies: Policies
    known: tuple[str, ...] = ()


def builtin_agents_dir() -> Path:
    """Folder of the agents that come with this package."""
    return Path(__file__).resolve().parent.parent / "agents"


def builtin_names(folder: Path) -> list[str]:
    """Names of the agents in a folder of agents."""
    if not folder.is_dir():
        return []
    return sorted(entry.parent.name.replace("_", "-") for entry in folder.glob(f"*/{MANIFEST_NAME}"))


def load_agent_folder(path: Path, *, context: AgentContext | None = None) -> Agent:
    """Read one agent's folder, as it is without a fleet.

    Raises:
        ConfigErrors: all mistakes of its ``manifest.toml``.
    """
    from sutazai.spec.budget import BLUEPRINT_POOLS
    from sutazai.spec.policies import DEFAULT_POLICIES

    context = context or AgentContext(path.parent, builtin_agents_dir(), BLUEPRINT_POOLS, DEFAULT_POLICIES)
    mistakes = Mistakes()
    agent = _read_folder(path, context, mistakes, origin="folder")
    mistakes.raise_if_any(str(path / MANIFEST_NAME))
    return agent


def read_agents(root: Section, context: AgentContext) -> dict[str, Agent]:
    """Read ``agents``: names with overrides, or a list of names."""
    node = root.node("agents")
    if isinstance(node, Sequence):
        names = [
            (item, root.child(Mapping((), item.place), f"agents.{item.text}", named=True))
            for item in root.scalars("agents")
        ]
    else:
        names = root.sections("agents", "agent")
    agents: dict[str, Agent] = {}
    for name, section in names:
        if name.text in agents:
            root.mistakes.add(
                f"agent {name.text} is written twice",
                name.place,
                f"the first is in line {agents[name.text].place.line}",
            )
            continue
        if agent := _agent(name, section, context):
            agents[name.text] = agent
    return agents


def _agent(name: Scalar, section: Section, context: AgentContext) -> Agent | None:
    if name.text in OUTSIDE:
        hint = "choose another name: tasks of this one wait for somebody outside of the fleet"
        section.mistakes.add(f"no agent can be called {name.text}", name.place, hint)
        return None
    if is_planned(section):
        return _planned(name, section, context)
    base = _base(name, section, context)
    if base is None:
        _overrides(section, _nameless(name), context)  # its other mistakes are worth a message too
        return None
    return _overrides(section, replace(base, place=name.place), context)


def _planned(name: Scalar, section: Section, context: AgentContext) -> Agent:
    """Read an agent that has no code yet: port, pool and limits, for the plan alone."""
    if name.text in context.known:
        section.add("status", f"{name.text} comes with sutazai, so it is not planned", "remove this line")
    for key in ("path", "file"):
        if section.has(key):
            section.add(key, "a planned agent has no code", f"remove {key}, or remove status: planned")
    pool = section.choice("pool", AGENT_POOLS, "standard")
    base = replace(
        _nameless(name), origin="planned", pool=pool, memory_bytes=context.pools[pool].max_per_agent_bytes,
        description=section.text("description"), runtime=section.choice("runtime", RUNTIMES, HOME_RUNTIME),
    )  # fmt: skip
    return _common(section, replace(base, port=_port(section)), context, unknown_too=True)


def _base(name: Scalar, section: Section, context: AgentContext) -> Agent | None:
    """Find an agent's own description, before the fleet's overrides."""
    if http := read_http(section, context.folder):
        if section.has("path") or section.has("file"):
            section.add("http", "http stands beside path or file", "an agent is code, or a server: write one of them")
        return replace(_nameless(name), origin="http", http=http, keep_ms=context.policies.keep_ms["standard"])
    return _code_base(name, section, context)


def _code_base(name: Scalar, section: Section, context: AgentContext) -> Agent | None:
    folder_text, file_text = section.text("path"), section.text("file")
    if folder_text and file_text:
        section.add(
            "file", "path and file are both written", "a folder with manifest.toml is path, a single file is file"
        )
        return None
    if file_text:
        return _file_agent(name, section, (context.folder / file_text).resolve(), context)
    if folder_text:
        folder, origin = (context.folder / folder_text).resolve(), "folder"
        if not folder.is_dir():
            section.add("path", f"there is no folder {folder}", "it is relative to the manifest")
            return None
    else:
        folder, origin = context.builtin / name.text.replace("-", "_"), "built-in"
        if not (folder / MANIFEST_NAME).is_file():
            if not name_problem(name.text, 10_000):
                section.mistakes.add(
                    f"unknown agent {name.text!r}", name.place, _unknown_hint(name.text, context.known)
                )
            return None
    try:
        agent = _read_folder(folder, context, section.mistakes, origin=origin)  # type: ignore[arg-type]  # one of two
    except ConfigErrors as group:
        section.mistakes.take(group)
        return None
    if agent.name and agent.name != name.text:
        section.mistakes.add(
            f"this agent calls itself {agent.name}, not {name.text}",
            name.place,
            f"write {agent.name} here, or rename it there",
        )
    return agent


def _unknown_hint(name: str, names: tuple[str, ...]) -> str:
    if meant := near(name, names):
        return f"did you mean {meant}?"
    return f"built in are: {', '.join(names) or 'none'}; for your own write path: folder or file: name.py below it"


def _file_agent(name: Scalar, section: Section, path: Path, context: AgentContext) -> Agent | None:
    if not path.is_file():
        what = "is a folder: write path: instead of file:" if path.is_dir() else "there is no such file"
        section.add("file", f"{path}: {what}", "it is relative to the manifest")
        return None
    runtime = "node" if path.suffix in NODE_SUFFIXES else HOME_RUNTIME
    keep_ms = context.policies.keep_ms["standard"]
    return replace(_nameless(name), module=str(path), origin="file", keep_ms=keep_ms, runtime=runtime)


def _nameless(name: Scalar) -> Agent:
    """Make an agent that has nothing but defaults."""
    return Agent(
        name=name.text, module="", origin="file", version="0", description="", port=0, pool="standard", family="base",
        memory_bytes=0, envelope_bytes=0, cpu=Share(), instances_max=1, keep_ms=0, needs=(), settings={},
        attempts_max=0, deadline_ms=0, place=name.place,
    )  # fmt: skip


def _read_folder(
    folder: Path, context: AgentContext, mistakes: Mistakes, *, origin: Literal["built-in", "folder"]
) -> Agent:
    """Read ``manifest.toml`` of an agent's folder."""
    path = folder / MANIFEST_NAME
    node, _ = read_toml(path)
    section = Section(node, "", mistakes, Place(str(path), 1, 1))
    runtime = section.choice("runtime", RUNTIMES, HOME_RUNTIME)
    code = folder / CODE_NAMES[runtime]
    if not code.is_file():
        mistakes.add(f"there is no {code.name} beside {MANIFEST_NAME}", Place(str(path)), f"write {code}")
    pool = section.choice("pool", AGENT_POOLS, "standard")
    name = Scalar(section.identifier("name", required=True), Place(str(path)))
    module = folder if runtime == HOME_RUNTIME else code
    draft = replace(
        _nameless(name), module=str(module), origin=origin, version=section.text("version", "0"), runtime=runtime,
        description=section.text("description"), port=_port(section), pool=pool, powers=asked(section),
    )  # fmt: skip
    agent = _common(section, draft, context, unknown_too=True)
    if not agent.description:
        mistakes.add("the manifest has no description", Place(str(path)), 'write description = "One line for people."')
    return agent


def _overrides(section: Section, base: Agent, context: AgentContext) -> Agent:
    """Apply what the fleet's manifest says about an agent."""
    section.has("path")
    section.has("file")
    section.has("http")
    pool = section.choice("pool", AGENT_POOLS, base.pool)
    port = _port(section) or base.port
    draft = replace(base, pool=pool, port=port, powers=granted(section, base))
    return _common(section, draft, context, unknown_too=True)


def _common(section: Section, base: Agent, context: AgentContext, *, unknown_too: bool) -> Agent:
    """Read the keys that an agent's own manifest and the fleet's overrides share."""
    pool, policies = context.pools[base.pool], context.policies
    usual_bytes = HTTP_AGENT_BYTES if base.http else FILE_AGENT_BYTES
    default_bytes = base.memory_bytes or min(pool.max_per_agent_bytes, usual_bytes)
    memory = section.size("memory", default_bytes)
    envelope = section.size("envelope", min(base.envelope_bytes, memory) or memory)
    if envelope > memory:
        section.add("envelope", "is larger than memory, the limit of an instance", "write the peak that was measured")
        envelope = memory
    share = read_share(section)
    agent = replace(
        base,
        family=section.identifier("family", base.family),
        memory_bytes=memory,
        envelope_bytes=envelope,
        cpu=Share(
            share.quota_cores or base.cpu.quota_cores,
            share.weight or base.cpu.weight,
            share.cpu_set or base.cpu.cpu_set,
        ),
        instances_max=section.count("instances", base.instances_max, most=INSTANCES_MAX),
        keep_ms=section.duration_ms("keep", base.keep_ms or policies.keep_ms[base.pool]),
        state_keep_ms=_state_keep(section, base.state_keep_ms),
        needs=tuple(item.text for item in section.scalars("needs")) or base.needs,
        settings={**base.settings, **_settings(section)},
        attempts_max=read_attempts(section, base.attempts_max or policies.attempts_max),
        rate=read_rate(section, base.rate),
        retry=read_retry(section, base.retry),
        schedules=read_schedules(section, base.schedules),
        queue=read_queue(section, base.queue),
        breaker=read_breaker(section, base.breaker),
        result_bytes_max=read_result_max(section, base.result_bytes_max),
        deadline_ms=section.duration_ms("deadline", base.deadline_ms or policies.deadline_ms or DEADLINE_MS_DEFAULT),
    )
    if unknown_too:
        section.finish()
    return agent


def _state_keep(section: Section, default: int) -> int:
    """Read how long the state of a session is kept that has no tasks; 0 for ever."""
    keep_ms = section.auto_or("state_keep", DURATION, FOR_EVER)
    return (keep_ms or 0) if section.has("state_keep") else default


def _settings(section: Section) -> dict[str, Any]:
    node = section.node("settings")
    if node is None or is_null(node):
        return {}
    if not isinstance(node, Mapping):
        section.add("settings", "here are keys with values meant", "write them below settings, indented")
        return {}
    settings: dict[str, Any] = plain(node)
    if len(json.dumps(settings)) > SETTINGS_BYTES_MAX:
        section.add("settings", f"are longer than {SETTINGS_BYTES_MAX // 1024} KB", "put them into a file of the agent")
    return settings


def _port(section: Section) -> int:
    return section.count("port", 0, least=1, most=PORT_MAX, what="a port") if section.has("port") else 0


def modules_of(agents: Iterable[Agent]) -> list[Path]:
    """Name the files that describe agents, for the digest of a manifest."""
    folders = [folder_of(agent) for agent in agents if agent.origin in {"built-in", "folder"}]
    return [folder / MANIFEST_NAME for folder in folders]


def folder_of(agent: Agent) -> Path:
    """Find the folder of an agent that has one."""
    return Path(agent.module) if agent.runtime == HOME_RUNTIME else Path(agent.module).parent
