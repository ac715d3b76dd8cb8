"""Why it exists: broker, gateway and workers need facts about the agents, and may not import the supervisor.

It reads the plan file as plain JSON and takes only what they need. The file's own format is
``supervisor.contract.PlanFile``; a field that is missing here takes that format's default.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.errors import ConfigError
from sutazai.limits import ATTEMPTS_MAX_DEFAULT, DEADLINE_MS_DEFAULT, RESULT_BYTES_MAX_DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What a process of the fleet knows of an agent.

    Attributes:
        name: unique in the fleet.
        module: folder or file with its code, absolute.
        version: from its manifest.
        family: the pre-load that fits it.
        pool: memory pool of its instances.
        memory_bytes: hard limit of an instance, 0 for none.
        instances_max: concurrent instances.
        keep_ms: idle time after which an instance hibernates.
        port: TCP port, offset added.
        skills: ``[{name, description, input, output}]`` with JSON schemas.
        settings: what the manifest hands to the agent's code.
        attempts_max: own failures until a task is dead.
        deadline_ms: of a task that names none.
        upstream: the HTTP server behind it: ``{url, service, skills: {name: {method, path, query}}}``; empty for code.
        powers: what its instances may ask for with ``act``.
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
        result_bytes_max: largest result of its skills, as JSON; above ``TASK_RESULT_BYTES_MAX`` it lies in a file.
    """

    name: str
    module: str
    version: str = "0"
    family: str = "base"
    pool: str = "standard"
    memory_bytes: int = 0
    instances_max: int = 1
    keep_ms: int = 30_000
    port: int = 0
    skills: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    attempts_max: int = ATTEMPTS_MAX_DEFAULT
    deadline_ms: int = DEADLINE_MS_DEFAULT
    upstream: dict[str, Any] = field(default_factory=dict)
    powers: list[str] = field(default_factory=list)
    state_keep_ms: int = 0
    rate: dict[str, int] = field(default_factory=dict)
    retry: dict[str, Any] = field(default_factory=dict)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    queue: dict[str, int] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)
    result_bytes_max: int = RESULT_BYTES_MAX_DEFAULT

    def skill(self, name: str) -> dict[str, Any] | None:
        """Find a skill's description and schemas by its name."""
        return next((skill for skill in self.skills if skill.get("name") == name), None)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a zygote knows of a worker that it is to fork.

    Attributes:
        name: ``python-0`` …
        family: what it pre-loads.
        preload: modules beyond the family's own.
    """

    name: str
    family: str = "base"
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedFacts:
    """What is known of something that does not exist yet.

    Attributes:
        name: unique in the fleet.
        kind: ``agent``, ``service`` or ``worker``.
        ports: TCP ports, offset added.
        description: one line for people, may be empty.
    """

    name: str
    kind: str
    ports: tuple[int, ...] = ()
    description: str = ""


_AGENT_FIELDS = tuple(AgentFacts.__dataclass_fields__)


def load_plan(path: Path) -> dict[str, Any]:
    """Read the plan as it stands in its file.

    Raises:
        ConfigError: the file is missing, no JSON object, or of another version.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the plan: {error.strerror}", path=str(path), hint="run: sutazai up") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the plan is no JSON: {error}", path=str(path), hint="run: sutazai up") from error
    if not isinstance(data, dict) or data.get("version") != PLAN_VERSION:
        raise ConfigError("this plan was written by another version", path=str(path), hint="run: sutazai up")
    return data


def load_agents(path: Path) -> dict[str, AgentFacts]:
    """Read the agents of a plan, by name, in the plan's order.

    Raises:
        ConfigError: as ``load_plan``, or an agent lacks its name or module.
    """
    return agents_of(load_plan(path), str(path))


def agents_of(plan: dict[str, Any], path: str = "plan") -> dict[str, AgentFacts]:
    """Take the agents out of a plan that was read.

    Raises:
        ConfigError: an agent lacks its name or module, or is no object.
    """
    found: dict[str, AgentFacts] = {}
    try:
        for entry in plan.get("agents", []):
            known = {name: entry[name] for name in _AGENT_FIELDS if name in entry}
            known.setdefault("memory_bytes", entry.get("limits", {}).get("memory_bytes", 0))
            found[entry["name"]] = AgentFacts(**known)
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"the plan has a wrong agent: {error}", path=path, hint="run: sutazai up") from error
    return found


def planned_of(plan: dict[str, Any]) -> dict[str, PlannedFacts]:
    """Take what is only planned out of a plan that was read, by name."""
    return {
        entry["name"]: PlannedFacts(
            entry["name"], entry.get("kind", "agent"), tuple(entry.get("ports", ())), entry.get("description", "")
        )
        for entry in plan.get("planned", [])
    }


def workers_of(plan: dict[str, Any]) -> dict[str, WorkerFacts]:
    """Take the workers out of a plan that was read, by name."""
    return {
        entry["name"]: WorkerFacts(
            name=entry["name"], family=entry.get("family", "base"), preload=tuple(entry.get("preload", ()))
        )
        for entry in plan.get("workers", [])
    }
