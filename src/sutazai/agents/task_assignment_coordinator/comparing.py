"""Why it exists: similarity comes from embeddings where the fleet has them, else from words; the result says which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sutazai.agents.task_assignment_coordinator import similarity
from sutazai.agents.task_assignment_coordinator.models import Method
from sutazai.agents.task_assignment_coordinator.scoring import Fit
from sutazai.errors import RefusedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.task_assignment_coordinator.candidates import Skill, Worker
    from sutazai.agents.task_assignment_coordinator.models import Options
    from sutazai.runtime import Context

_LEAST = {"tf-idf": 0.1, "embeddings": 0.15}  # vectors of unrelated texts lie below 0.15
_KNOWN: dict[str, list[float]] = {}
_KNOWN_MAX = 5_000
_WORDS = "words of the task against names, descriptions and fields of the real skills"
_MEANING = "vectors of the task and of the real skills by the language model server's embedding model"


def compare(
    ctx: Context, workers: Sequence[Worker], texts: list[str], wanted: Options
) -> tuple[list[Skill], list[Fit], Method]:
    """Compare tasks with all skills. Common words are found in any case: they are the reason that a person reads.

    Raises:
        UnavailableError: embeddings were asked for by name, and there are none now.
    """
    name, least = wanted.method, wanted.min_similarity
    skills = [skill for worker in workers for skill in worker.skills]
    index = similarity.index(skills)
    by_words = [Fit(*index.compare(text)) for text in texts]
    why = _WORDS
    if name != "tf-idf":
        try:
            fits = _embedded(ctx, skills, texts, by_words)
        except (UnavailableError, RefusedError) as error:
            if name == "embeddings":
                raise
            why = f"{_WORDS}; embeddings were not to be had: {error}"
        else:
            bound = _LEAST["embeddings"] if least is None else least
            return skills, fits, Method(name="embeddings", skills=len(skills), why=_MEANING, min_similarity=bound)
    bound = _LEAST["tf-idf"] if least is None else least
    return skills, by_words, Method(name="tf-idf", skills=len(skills), why=why[:1_000], min_similarity=bound)


def _embedded(ctx: Context, skills: Sequence[Skill], texts: list[str], by_words: Sequence[Fit]) -> list[Fit]:
    """Vectors of skills stay in the instance while it is awake: they change with the fleet's plan only."""
    described = [similarity.text(skill) for skill in skills]
    missing = [text for text in dict.fromkeys(described) if text not in _KNOWN]
    if len(_KNOWN) + len(missing) > _KNOWN_MAX:
        _KNOWN.clear()
        missing = list(dict.fromkeys(described))
    vectors = ctx.llm.embed([*texts, *missing])
    _KNOWN.update(zip(missing, vectors[len(texts) :], strict=True))
    known = np.array([_KNOWN[text] for text in described], dtype=np.float64)
    return [
        Fit(similarity.cosine(np.array(one, dtype=np.float64), known), fit.words)
        for one, fit in zip(vectors[: len(texts)], by_words, strict=True)
    ]
