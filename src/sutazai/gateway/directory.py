"""Why it exists: which agent a request means is told by the port it came in on, or by its path; this knows all of them.

The facts come from the plan file. A new plan is noticed by its file's time, so that changed schemas need no restart; a
plan that cannot be read leaves the old facts in force.
"""

from __future__ import annotations

import difflib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jsonschema_rs

from sutazai.errors import ConfigError
from sutazai.gateway.problems import Problem, invalid
from sutazai.wire.planfacts import AgentFacts, PlannedFacts, agents_of, load_plan, planned_of

if TYPE_CHECKING:
    from pathlib import Path

LOOK_EVERY_S = 1.0
NEAR_MAX = 3
ERRORS_MAX = 20
DETAIL_CHARACTERS_MAX = 300
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """What a listening socket is for.

    Attributes:
        name: as in ``SUTAZAI_LISTEN``: ``edge``, ``agent:<name>``, ``worker:<name>``.
        kind: which routes it has.
        subject: the agent or worker, empty for the edge.
    """

    name: str
    kind: Literal["edge", "agent", "worker"]
    subject: str = ""

    @classmethod
    def of(cls, name: str) -> Door:
        """Read a socket's name; what is no agent's and no worker's is the edge."""
        kind, _, subject = name.partition(":")
        if kind == "agent" and subject:
            return cls(name, "agent", subject)
        if kind == "worker" and subject:
            return cls(name, "worker", subject)
        return cls(name, "edge")


class Directory:
    """The agents of the fleet and the compiled schemas of their skills.

    Args:
        plan: the plan file.

    Raises:
        ConfigError: the plan cannot be read.
    """

    def __init__(self, plan: Path) -> None:
        self._plan = plan
        self._agents: dict[str, AgentFacts] = {}
        self._planned: dict[str, PlannedFacts] = {}
        self._validators: dict[tuple[str, str], jsonschema_rs.Validator] = {}
        self._stamp = (0, 0)
        self._looked_s = float("-inf")
        self._load()

    def agents(self) -> dict[str, AgentFacts]:
        """All agents by name, in the plan's order."""
        self._look()
        return self._agents

    def agent(self, name: str) -> AgentFacts:
        """Find an agent.

        Raises:
            Problem: 501 for one that is only planned, else 404, with names that are near.
        """
        found = self.agents().get(name)
        if found is None and (planned := self._planned.get(name)):
            what = f": {planned.description}" if planned.description else ""
            detail = f"{name} is planned and not built in this version{what}"
            raise Problem(501, "planned", _short(detail), agent=name, state="planned")
        if found is None:
            raise _unknown(f"this fleet has no agent {name!r}", name, list(self._agents))
        return found

    def planned(self) -> dict[str, PlannedFacts]:
        """Agents that are only planned, by name."""
        self._look()
        return self._planned

    def skill(self, agent: AgentFacts, name: str) -> dict[str, Any]:
        """Find a skill of an agent.

        Raises:
            Problem: 404, with names that are near.
        """
        found = agent.skill(name)
        if found is None:
            names = [str(skill.get("name")) for skill in agent.skills]
            raise _unknown(f"the agent {agent.name} has no skill {name!r}", name, names)
        return found

    def check(self, agent: AgentFacts, skill: dict[str, Any], value: Any) -> None:
        """Check an input against the skill's JSON schema.

        Raises:
            Problem: 422, with a pointer for each mistake.
        """
        validator = self._validator(agent.name, skill)
        if validator.is_valid(value):
            return
        errors = []
        for error in validator.iter_errors(value):
            pointer = "#/input" + "".join(f"/{_escaped(part)}" for part in error.instance_path)
            errors.append({"pointer": pointer, "detail": _short(error.message)})
            if len(errors) == ERRORS_MAX:
                break
        raise invalid(f"the input does not fit the skill {skill['name']} of {agent.name}", errors)

    def _validator(self, agent: str, skill: dict[str, Any]) -> jsonschema_rs.Validator:
        key = (agent, skill["name"])
        found = self._validators.get(key)
        if found is None:
            try:
                found = jsonschema_rs.validator_for(skill.get("input") or {})
            except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
                raise Problem(500, "internal", f"the schema of {agent}.{skill['name']} is broken: {error}") from error
            self._validators[key] = found
        return found

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        try:
            stat = self._plan.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._stamp:
                self._load()
        except (OSError, ConfigError) as error:
            _log.warning("the plan cannot be read, the old one stays in force: %s", error)

    def _load(self) -> None:
        plan = load_plan(self._plan)
        agents = agents_of(plan, str(self._plan))
        stat = self._plan.stat()
        self._agents, self._validators = agents, {}
        self._planned = {name: entry for name, entry in planned_of(plan).items() if entry.kind == "agent"}
        self._stamp = (stat.st_mtime_ns, stat.st_ino)


def _unknown(detail: str, name: str, known: list[str]) -> Problem:
    near = difflib.get_close_matches(name, known, NEAR_MAX)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known) or 'none'}"
    return Problem(404, "not-found", _short(detail + hint), near=near)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _short(text: str) -> str:
    return text if len(text) <= DETAIL_CHARACTERS_MAX else text[: DETAIL_CHARACTERS_MAX - 1] + "…"
