"""Why it exists: a score without its parts cannot be argued with, so each part keeps its number, source and reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.agents.task_assignment_coordinator.models import Candidate, Component, Weights
from sutazai.runtime import NonRetryableError
from sutazai.runtime.evidence import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sutazai.agents.task_assignment_coordinator.candidates import Skill, Worker
    from sutazai.agents.task_assignment_coordinator.models import Method

_WORDS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Fit:
    """One task against all skills.

    Attributes:
        similarity: one number a skill.
        words: what they share, one list a skill.
    """

    similarity: NDArray[np.float64]
    words: list[list[str]]


def scaled(weights: Weights) -> Weights:
    """Bring the weights to a sum of 1.

    Raises:
        NonRetryableError: all are 0.
    """
    total = weights.similarity + weights.availability + weights.success
    if total <= 0:
        raise NonRetryableError("weights: at least one must be above 0")
    return Weights(
        similarity=weights.similarity / total,
        availability=weights.availability / total,
        success=weights.success / total,
    )


def candidates(
    workers: Sequence[Worker], skills: Sequence[Skill], fit: Fit, method: Method, weights: Weights
) -> list[Candidate]:
    """Judge each agent by its best skill for a task; the best first, equal ones by name.

    Agents whose best similarity is 0 are left out: nothing says that they could do it.
    """
    found = []
    for worker in workers:
        places = [place for place, skill in enumerate(skills) if skill.agent == worker.name]
        ranked = sorted(places, key=lambda place: (-float(fit.similarity[place]), skills[place].name))
        if ranked and fit.similarity[ranked[0]] > 0:
            found.append(_candidate(worker, [skills[place] for place in ranked], (fit, ranked), method, weights))
    return sorted(found, key=lambda one: (-one.score, one.agent))


def _candidate(
    worker: Worker, skills: list[Skill], placed: tuple[Fit, list[int]], method: Method, weights: Weights
) -> Candidate:
    fit, ranked = placed
    best = float(fit.similarity[ranked[0]])
    words = fit.words[ranked[0]][:_WORDS_SHOWN]
    similarity = _component(
        best, weights.similarity, f"{method.name} cosine with agent:{worker.name}@{worker.version} {skills[0].name}",
        _words_why(words, method),
    )  # fmt: skip
    load = worker.busy / worker.instances_max
    availability = _component(
        1 / (1 + load), weights.availability, f"1 / (1 + open tasks / instances), {worker.load_source}",
        f"{worker.queued} queued and {worker.leased} at work for {worker.instances_max} instances",
    )  # fmt: skip
    ended = worker.succeeded + worker.dead + worker.expired
    success = _component(
        (worker.succeeded + 1) / (ended + 2), weights.success,
        f"(succeeded + 1) / (succeeded + dead + expired + 2), {worker.record_source}",
        f"{worker.succeeded} of {ended} tasks succeeded" if ended else "no record yet: counts as one half",
    )  # fmt: skip
    parts = (similarity, availability, success)
    return Candidate(
        agent=worker.name, skill=skills[0].name, score=round(sum(part.adds for part in parts), 4),
        similarity=similarity, availability=availability, success=success, matched_words=words,
        other_skills=[skill.name for skill, place in zip(skills[1:], ranked[1:], strict=True)
                      if fit.similarity[place] > 0][:5],
        reason=f"{worker.name}.{skills[0].name}: {similarity.why}; {availability.why}; {success.why}",
    )  # fmt: skip


def _words_why(words: list[str], method: Method) -> str:
    if words:
        return f"shares {', '.join(words)}"
    return "alike in meaning, without a common word" if method.name == "embeddings" else "no common words"


def _component(value: float, weight: float, source: str, why: str) -> Component:
    rounded = round(value, 4)
    return Component(
        value=Measure(value=rounded, unit="ratio", source=source[:400]), weight=round(weight, 4),
        adds=round(rounded * weight, 4), why=why,
    )  # fmt: skip
