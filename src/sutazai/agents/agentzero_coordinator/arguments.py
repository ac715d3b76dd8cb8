"""Why it exists: the arguments of a delegated skill come from facts and typed defaults, never from a language model.

A parameter is filled by its name: from what is known about the goal. What is not known keeps the skill's own default; a
required parameter that nothing is known about makes the skill unusable for this goal, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "boolean": (bool,),
}
_HORIZON_S = 600
#: Parameters of the same meaning under other names.
_ALIASES = {"process": "subject", "target": "subject", "question": "goal", "since_s": "window_s"}
#: What a subject is known as when a metric must be named.
_METRIC = "process_memory_bytes"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a skill is asked.

    Attributes:
        goal: as the user said it.
        subject: what it is about; empty while it is not known.
        window_s: how far to look back.
        findings: statements so far.
        entries: time line so far.
        by: who found what.
    """

    goal: str
    subject: str = ""
    window_s: int = 300
    findings: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    by: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """By parameter name."""
        found: dict[str, Any] = {
            "goal": self.goal,
            "window_s": self.window_s,
            "horizon_s": _HORIZON_S,
            "findings": self.findings,
            "entries": self.entries,
            "by": self.by,
            "title": f"Incident report: {self.subject}" if self.subject else "Incident report",
        }
        if self.subject:
            found |= {"subject": self.subject, "metric": _METRIC, "labels": {"process": self.subject}}
        return found


def derive(schema: Mapping[str, Any], known: Known) -> tuple[dict[str, Any], list[str]]:
    """Fill a skill's input.

    Returns:
        The input, and the required parameters that nothing is known about (the skill is usable when there are none).
    """
    values = known.values()
    filled: dict[str, Any] = {}
    for name, parameter in schema.get("properties", {}).items():
        value = values.get(_ALIASES.get(name, name))
        if value is not None and _fits(value, parameter):
            filled[name] = _bounded(value, parameter)
    return filled, [name for name in schema.get("required", []) if name not in filled]


def _fits(value: Any, parameter: Mapping[str, Any]) -> bool:
    kinds = [option.get("type") for option in parameter.get("anyOf", [parameter])]
    return any(isinstance(value, _TYPES.get(str(kind), ())) for kind in kinds)


def _bounded(value: Any, parameter: Mapping[str, Any]) -> Any:
    """Keep a value inside the bounds that the schema names."""
    for option in parameter.get("anyOf", [parameter]):
        if isinstance(value, list) and "maxItems" in option:
            return value[: option["maxItems"]]
        if isinstance(value, str) and "maxLength" in option:
            return value[: option["maxLength"]]
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = max(value, option.get("minimum", value))
            value = min(value, option.get("maximum", value))
    return value
