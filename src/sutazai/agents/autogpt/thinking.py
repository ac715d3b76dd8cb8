"""Why it exists: the next action is one out of an enumeration of real skills, and its arguments fit the skill's schema.

Pure: the model's answer comes in as an argument. Without one, words decide: the skill that shares most with the goal,
each once, until none shares anything.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sutazai.agents.autogpt.models import Mind

FINISH = "finish"
CANDIDATES_MAX = 10
_ALREADY_MAX = 8
#: Skills that change something, or that would pursue the goal by themselves: chosen only when they are allowed by name.
NOT_BY_ITSELF = frozenset(
    {"achieve", "apply", "assign", "block", "cancel", "crew", "forget", "pursue", "reclaim", "resume", "review", "run",
     "train", "work"}
)  # fmt: skip
_GOAL_NAMES = frozenset({"goal", "question", "query", "task", "text", "prompt", "topic"})
_STOP = frozenset(
    {"what", "which", "with", "that", "this", "from", "find", "give", "show", "tell", "about", "have", "into"}
)


@dataclass(frozen=True, slots=True)
class Card:
    """A skill that may be asked.

    Attributes:
        id: ``agent.skill``.
        description: one sentence.
        schema: of its input.
        lacking: required parameters that nothing is known about.
        known: arguments that follow from the goal.
    """

    id: str
    description: str
    schema: Mapping[str, Any]
    lacking: tuple[str, ...]
    known: dict[str, Any]


def cards(agents: Sequence[Any], goal: str, allowed: Sequence[str], *, with_llm: bool) -> list[Card]:
    """The skills that may be chosen for a goal, the best fitting first."""
    found = []
    for agent in agents:
        for skill in agent.skills:
            name = f"{agent.name}.{skill['name']}"
            if (allowed and name not in allowed) or (not allowed and skill["name"] in NOT_BY_ITSELF):
                continue
            schema = skill.get("input", {})
            known, lacking = derive(schema, goal)
            if lacking and not (with_llm and all(_can_be_said(schema["properties"][name]) for name in lacking)):
                continue
            found.append(Card(name, skill.get("description", ""), schema, tuple(lacking), known))
    wanted = words(goal)
    found.sort(key=lambda card: (-len(wanted & words(f"{card.id} {card.description}")), card.id))
    return found


def derive(schema: Mapping[str, Any], goal: str) -> tuple[dict[str, Any], list[str]]:
    """Arguments that follow from the goal, and required ones that do not."""
    properties = schema.get("properties", {})
    known = {
        name: goal[: one.get("maxLength", len(goal))]
        for name, one in properties.items()
        if name in _GOAL_NAMES and one.get("type") == "string"
    }
    return known, [name for name in schema.get("required", ()) if name not in known]


def _can_be_said(parameter: Mapping[str, Any]) -> bool:
    """Whether a model may be asked for a parameter: a plain value of a bounded kind."""
    return parameter.get("type") in {"string", "integer", "boolean"} or "enum" in parameter


def words(text: str) -> set[str]:
    """Words of a text that mean something, plural endings taken off."""
    found = re.findall(r"[a-z0-9]{4,}", text.lower())
    return {word.removesuffix("s") for word in found if word not in _STOP}


def question(mind: Mind, among: Sequence[Card]) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages and the schema that the model is asked with: what next?"""
    lines = "\n".join(f"- {card.id}: {card.description[:120]}" for card in among)
    so_far = "\n".join(mind.digest[-_ALREADY_MAX:]) or "nothing yet"
    system = "You pursue a goal step by step. Choose the next action, or finish when enough is known. Answer with JSON."
    content = f"Goal: {mind.goal}\n\nActions:\n{lines}\n- {FINISH}: enough is known\n\nDone so far:\n{so_far}"
    schema = {
        "type": "object",
        "properties": {
            "thought": {"type": "string", "maxLength": 160},
            "action": {"type": "string", "enum": [*(card.id for card in among), FINISH]},
        },
        "required": ["thought", "action"],
        "additionalProperties": False,
    }
    return [{"role": "system", "content": system}, {"role": "user", "content": content}], schema


def arguments_question(mind: Mind, card: Card) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages and the schema for what a skill needs and nobody knows: choices, not facts."""
    properties = {name: _bounded(card.schema["properties"][name]) for name in card.lacking}
    content = f"Goal: {mind.goal}\n\nSkill {card.id}: {card.description}\n\nFill its parameters."
    schema = {"type": "object", "properties": properties, "required": [*card.lacking], "additionalProperties": False}
    system = "You fill the parameters of a skill. Answer with JSON."
    return [{"role": "system", "content": system}, {"role": "user", "content": content}], schema


def _bounded(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's schema with bounds, so that a small model ends."""
    if "enum" in parameter:
        return {"enum": parameter["enum"]}
    if parameter["type"] == "string":
        return {"type": "string", "maxLength": min(200, parameter.get("maxLength", 200))}
    if parameter["type"] == "integer":
        low = parameter.get("minimum", 0)
        return {"type": "integer", "minimum": low, "maximum": parameter.get("maximum", low + 1_000)}
    return {"type": "boolean"}


def problems(card: Card, arguments: Mapping[str, Any]) -> list[str]:
    """What does not fit the skill's schema."""
    import jsonschema_rs

    try:
        return [
            mistake.message for mistake in jsonschema_rs.validator_for(dict(card.schema)).iter_errors(dict(arguments))
        ]
    except ValueError as error:
        return [str(error)]


def key(action: str, arguments: Mapping[str, Any]) -> str:
    """Name an action with its arguments, to see whether it was done before."""
    return f"{action} {json.dumps(arguments, sort_keys=True)}"[:400]


def by_words(mind: Mind, among: Sequence[Card]) -> Card | None:
    """The best fitting skill that was not asked yet; None when none shares a word with the goal."""
    wanted = words(mind.goal)
    tried = {text.partition(" ")[0] for text in mind.used}
    return next(
        (card for card in among if card.id not in tried and not card.lacking
         and wanted & words(f"{card.id} {card.description}")), None,
    )  # fmt: skip
