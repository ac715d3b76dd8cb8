"""Why it exists: a plan is chosen by the model when there is one, and complete in any case.

Three parts, in order: retrieval narrows the skills down; the model picks steps out of an enumeration of real skills;
the verifier adds what the goal needs and the model left out. Each step keeps who chose it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.agents.agentzero_coordinator import arguments, catalogue
from sutazai.agents.agentzero_coordinator.models import Plan, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.agentzero_coordinator.catalogue import Card

CANDIDATES_MAX = 12
STEPS_OF_MODEL_MAX = 6
_DESCRIPTION_CHARACTERS_MAX = 120
_SUBJECT_TO_COME = "?"  # the subject is known after the first stage


@dataclass(frozen=True, slots=True)
class Choice:
    """What the language model answered.

    Attributes:
        data: decoded JSON, of any shape; none when there is no answer.
        why_not: the reason why there is none.
    """

    data: Any = None
    why_not: str = ""


def candidates(goal: str, cards: Sequence[Card]) -> list[Card]:
    """The skills that the model may choose from: those whose arguments can be derived, the best fitting first."""
    known = arguments.Known(goal=goal, subject=_SUBJECT_TO_COME)
    usable = [card for card in cards if not arguments.derive(card.input, known)[1]]
    return catalogue.rank(goal, usable)[:CANDIDATES_MAX]


def question(goal: str, among: Sequence[Card]) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages and the JSON schema that the model is asked with."""
    lines = "\n".join(f"- {card.id}: {card.description[:_DESCRIPTION_CHARACTERS_MAX]}" for card in among)
    messages = [
        {
            "role": "system",
            "content": "You plan work. Choose the skills that are needed for the goal, in the order of work. "
            "Answer with JSON.",
        },
        {"role": "user", "content": f"Skills:\n{lines}\n\nGoal: {goal[:1_000]}"},
    ]
    one = {"type": "string", "enum": [card.id for card in among]}  # names alone: each further word costs time
    schema = {
        "type": "object",
        "properties": {"steps": {"type": "array", "minItems": 1, "maxItems": STEPS_OF_MODEL_MAX, "items": one}},
        "required": ["steps"],
        "additionalProperties": False,
    }
    return messages, schema


def make(goal: str, cards: Sequence[Card], choice: Choice, max_steps: int) -> Plan:
    """Make a plan out of the model's choice, verified and completed."""
    needs = catalogue.needs(goal)
    notes: list[str] = []
    chosen = _of_model(choice, candidates(goal, cards), notes)
    by_model = bool(chosen)
    covered = {step.capability for step in chosen}
    uncovered = []
    for need in needs:
        if need in covered:
            continue
        best = next(iter(catalogue.suited(need, cards)), None)
        if best is None:
            uncovered.append(need)
            continue
        why = "the goal needs it" if not by_model else "the goal needs it and the model left it out"
        chosen.append(_step(best, need, "verifier" if by_model else "no-llm", why))
    steps = _bounded(chosen, needs, max_steps, notes)
    return Plan(needs=needs, steps=steps, uncovered=uncovered, planner="llm" if by_model else "no-llm", notes=notes)


def _step(card: Card, capability: str, chosen_by: Any, why: str) -> Step:
    stage = catalogue.BY_NAME[capability].stage if capability else 1
    return Step(skill=card.id, capability=capability, stage=stage, chosen_by=chosen_by, why=why)


def _of_model(choice: Choice, among: Sequence[Card], notes: list[str]) -> list[Step]:
    """Take what is valid of the model's answer; what is not is named in the notes and left out."""
    if choice.data is None:
        notes.append(f"planned without the language model: {choice.why_not or 'it was not asked'}")
        return []
    entries = choice.data.get("steps") if isinstance(choice.data, dict) else None
    if not isinstance(entries, list):
        notes.append("planned without the language model: its answer is no list of steps")
        return []
    by_id = {card.id: card for card in among}
    steps: list[Step] = []
    for name in entries[:STEPS_OF_MODEL_MAX]:
        card = by_id.get(name) if isinstance(name, str) else None
        if card is None:
            notes.append(f"the language model named {str(name)[:80]!r}, which is no skill to choose: left out")
        elif card.id not in {step.skill for step in steps}:
            _add(steps, card, among, notes)
    if not steps:
        notes.append("planned without the language model: nothing in its answer could be used")
    return steps


def _add(steps: list[Step], card: Card, among: Sequence[Card], notes: list[str]) -> None:
    """Add a choice of the model; of two for the same need the better suited one is kept."""
    free = card.capabilities - {step.capability for step in steps}
    if free or not card.capabilities:
        capability = next((name for name in catalogue.BY_NAME if name in free), "")
        steps.append(_step(card, capability, "llm", "the language model chose it"))
        return
    other = next(step for step in steps if step.capability in card.capabilities)
    best = next(item.id for item in catalogue.suited(other.capability, among) if item.id in {card.id, other.skill})
    left_out = other.skill if best == card.id else card.id
    notes.append(f"the language model chose {card.id} and {other.skill} for the same: {left_out} is left out")
    other.skill = best


def _bounded(chosen: Sequence[Step], needs: Sequence[str], max_steps: int, notes: list[str]) -> list[Step]:
    """Keep the budget: what the goal needs comes before the model's extras."""
    order = sorted(chosen, key=lambda step: needs.index(step.capability) if step.capability in needs else len(needs))
    kept = order[:max_steps]
    notes.extend(f"{step.skill} is over the budget of steps: left out" for step in order[max_steps:])
    return sorted(kept, key=lambda step: step.stage)
