"""Why it exists: a schedule's skill and input are checked when the plan is made, not at three in the morning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema_rs

from sutazai.errors import ConfigError
from sutazai.spec.section import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sutazai import spec


def schedule_mistakes(manifest: spec.Manifest, skills: Mapping[str, list[dict[str, Any]]]) -> list[ConfigError]:
    """Find schedules whose skill their agent does not have, or whose input that skill does not take.

    Args:
        manifest: what was asked for.
        skills: of the agents that could be described, by name; others are left out, they have mistakes already.
    """
    found = []
    for name, agent in manifest.agents.items():
        for schedule in agent.schedules:
            if name in skills and (problem := _problem(schedule, skills[name])):
                where, place = f"agents.{name}.schedules.{schedule.name}", schedule.place
                text, hint = problem
                found.append(
                    ConfigError(f"{where}{text}", path=place.path, line=place.line, column=place.column, hint=hint)
                )
    return found


def _problem(schedule: spec.Schedule, skills: list[dict[str, Any]]) -> tuple[str, str] | None:
    skill = next((skill for skill in skills if skill.get("name") == schedule.skill), None)
    if skill is None:
        names = [str(skill.get("name")) for skill in skills]
        return f".skill: there is no skill {schedule.skill!r}", one_of(schedule.skill, names)
    try:
        error = next(jsonschema_rs.validator_for(skill.get("input") or {}).iter_errors(schedule.input), None)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return None  # a schema that is broken is said by others
    if error is None:
        return None
    place = "".join(f".{part}" for part in error.instance_path)
    return f".input{place}: {error.message[:200]}", f"the skill {schedule.skill} says what it takes"
