"""Why it exists: how well a task's words fit a skill is a number that can be looked into: TF-IDF over the real skills.

A skill's document is its name and description (counted three times) and the names and texts of its input and output
fields. Cosine of sublinear TF-IDF vectors (Manning, Raghavan, Schütze: *Introduction to Information Retrieval*, 6.4).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sutazai.agents.task_assignment_coordinator.candidates import Skill

_WORD = re.compile(r"[a-z][a-z0-9]+")
_HEAD_WEIGHT = 3
_DEPTH_MAX = 6
_STEM_MIN = 4
_ENDINGS = ("ations", "ation", "ities", "ings", "ions", "ing", "ies", "ion", "ers", "ed", "es", "er", "s", "e", "y")
_STOP = frozenset({
    "a", "an", "up", "and", "any", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "get",
    "has", "have", "how", "i", "in", "into", "is", "it", "its", "me", "my", "need", "not", "of", "on", "or", "our",
    "out", "please", "so", "some", "that", "the", "their", "them", "then", "there", "these", "they", "this", "to",
    "us", "want", "was", "we", "what", "when", "which", "who", "whose", "will", "with", "you", "your", "one", "all",
    "each", "own", "more", "most", "than", "only", "same", "other", "just", "let", "make", "give", "tell",
})  # fmt: skip


def tokens(text: str) -> list[str]:
    """Words without the common ones, endings taken off, so that ``forecasting`` meets ``forecasts``."""
    return [stem(word) for word in _words(text)]


def _words(text: str) -> list[str]:
    words = _WORD.findall(re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower().replace("_", " "))
    return [word for word in words if word not in _STOP]


def stem(word: str) -> str:
    """Take one ending off when enough is left."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_MIN - 1:
            return word[: -len(ending)]
    return word


def document(skill: Skill) -> Counter[str]:
    """Count a skill's words."""
    counts: Counter[str] = Counter()
    for word in tokens(f"{skill.name} {skill.description}"):
        counts[word] += _HEAD_WEIGHT
    counts.update(word for schema in (skill.input, skill.output) for text in _texts(schema, 0) for word in tokens(text))
    return counts


def text(skill: Skill) -> str:
    """What an embedding of a skill is made of."""
    fields = ", ".join(dict.fromkeys([*skill.input.get("properties", {}), *skill.output.get("properties", {})]))
    return f"{skill.agent} {skill.name}: {skill.description} ({fields})".replace("_", " ").replace("-", " ")


def _texts(schema: Any, depth: int) -> Iterator[str]:
    """Names and descriptions of fields, at any depth up to a bound."""
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return
    if isinstance(schema.get("description"), str):
        yield schema["description"]
    for part in ("properties", "$defs"):
        for name, inner in (schema.get(part) or {}).items():
            yield name
            yield from _texts(inner, depth + 1)


@dataclass(frozen=True, slots=True)
class Index:
    """Skills as vectors.

    Attributes:
        idf: weight of each word.
        vectors: one a skill, of length 1.
    """

    idf: dict[str, float]
    vectors: list[dict[str, float]]

    def compare(self, task: str) -> tuple[NDArray[np.float64], list[list[str]]]:
        """Cosine of a task with each skill, and the words of the task that they share, the rarest first."""
        asked = _vector(Counter(tokens(task)), self.idf)
        as_written = {stem(word): word for word in reversed(_words(task))}
        scores = np.zeros(len(self.vectors))
        shared = []
        for place, vector in enumerate(self.vectors):
            common = asked.keys() & vector.keys()
            scores[place] = min(1.0, sum(asked[word] * vector[word] for word in common))
            shared.append([as_written[word] for word in sorted(common, key=lambda word: (-self.idf[word], word))])
        return scores, shared


def index(skills: Sequence[Skill]) -> Index:
    """Make vectors of skills."""
    documents = [document(skill) for skill in skills]
    frequency = Counter(word for found in documents for word in found)
    idf = {word: math.log((1 + len(documents)) / (1 + count)) + 1 for word, count in frequency.items()}
    return Index(idf, [_vector(found, idf) for found in documents])


def _vector(counts: Counter[str], idf: dict[str, float]) -> dict[str, float]:
    """Sublinear TF times IDF, of length 1; words that no skill has make a task's vector longer and so less similar."""
    rarest = max(idf.values(), default=1.0)
    weights = {word: (1 + math.log(count)) * idf.get(word, rarest) for word, count in counts.items()}
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {word: weight / length for word, weight in weights.items() if word in idf} if length else {}


def cosine(task: NDArray[np.float64], skills: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of a task's embedding with each skill's, negative ones as 0."""
    lengths = np.linalg.norm(skills, axis=1) * float(np.linalg.norm(task))
    return np.asarray(np.clip(skills @ task / np.maximum(lengths, 1e-12), 0.0, 1.0))
