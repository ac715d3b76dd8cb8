"""Why it exists: relevance, redundancy and near-duplicates are three questions to the same words; pure.

TF-IDF cosine for relevance and redundancy; sets of word triples for near-duplicates (Broder 1997), by Jaccard's measure
and by containment, so that a text inside of a longer one is found too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_WORD = re.compile(r"\w+", re.UNICODE)
_SHINGLE_WORDS = 3
_CONTAINED_SHINGLES_MIN = 5
_STEM_MIN = 4


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two items that say the same.

    Attributes:
        one: place of the first.
        other: place of the second.
        similarity: 0 to 1.
        how: ``same words``, ``shared word triples`` or ``contained``.
    """

    one: int
    other: int
    similarity: float
    how: str


def words(text: str) -> list[str]:
    """Words in small letters, a plural's s taken off."""
    found = _WORD.findall(text.lower())
    return [
        word[:-1] if len(word) > _STEM_MIN and word.endswith("s") and not word.endswith("ss") else word
        for word in found
    ]


def vectors(texts: Sequence[str], query: str) -> tuple[Array, Array]:
    """Compare texts with a query and with each other.

    Returns:
        Cosine of each text with the query (zeros without one), and of each two texts.
    """
    documents = [Counter(words(text)) for text in texts]
    frequency = Counter(word for document in documents for word in document)
    places = {word: place for place, word in enumerate(frequency)}
    idf = np.array([math.log((1 + len(documents)) / (1 + count)) + 1 for count in frequency.values()])
    matrix = _unit(_matrix((_weights(document) for document in documents), places, len(documents)), idf)
    asked = _unit(_matrix([_weights(Counter(words(query)))], places, 1), idf)
    relevance = np.asarray((matrix @ asked.T).todense()).ravel() if places else np.zeros(len(texts))
    each = np.asarray((matrix @ matrix.T).todense()) if places else np.zeros((len(texts), len(texts)))
    return np.clip(relevance, 0, 1), np.clip(each, 0, 1)


def _weights(counts: Counter[str]) -> dict[str, float]:
    return {word: 1 + math.log(count) for word, count in counts.items()}


def _matrix(rows: Iterable[dict[str, float]], places: dict[str, int], count: int) -> sparse.csr_matrix:
    data: list[float] = []
    columns: list[int] = []
    ends = [0]
    for row in rows:
        known = {places[word]: weight for word, weight in row.items() if word in places}
        columns += known.keys()
        data += known.values()
        ends.append(len(data))
    return sparse.csr_matrix((data, columns, ends), shape=(count, len(places)))


def _unit(matrix: sparse.csr_matrix, idf: Array) -> sparse.csr_matrix:
    if not matrix.shape[1]:
        return matrix
    weighted = matrix @ sparse.diags(idf)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(lengths, 1e-12)) @ weighted


def duplicates(texts: Sequence[str], threshold: float) -> list[Duplicate]:
    """Find pairs of near-duplicates, the most similar first.

    Args:
        texts: the items.
        threshold: least share of common word triples, 0 to 1; short texts are compared word by word.
    """
    each_words = [words(text) for text in texts]
    sets = [_shingles(found) for found in each_words]
    places: dict[tuple[str, ...], int] = {}
    for one in sets:
        for shingle in one:
            places.setdefault(shingle, len(places))
    if not places:
        return []
    ends = np.cumsum([0, *(len(one) for one in sets)])
    columns = [places[shingle] for one in sets for shingle in one]
    matrix = sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(texts), len(places)))
    common = np.asarray((matrix @ matrix.T).todense())
    found = []
    for one, other in zip(*np.nonzero(np.triu(common, 1)), strict=True):
        pair = _judge((len(sets[one]), len(sets[other])), float(common[one, other]))
        same = each_words[one] == each_words[other]
        if same or pair[0] >= threshold:
            how = "same words" if same else pair[1]
            found.append(Duplicate(int(one), int(other), 1.0 if same else round(pair[0], 4), how))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.one, pair.other))


def _judge(sizes: tuple[int, int], common: float) -> tuple[float, str]:
    jaccard = common / (sum(sizes) - common)
    contained = common / min(sizes) if min(sizes) >= _CONTAINED_SHINGLES_MIN else 0.0
    # Contained means nearly whole: a paragraph that quotes half of another one is no duplicate of it.
    return (contained, "contained") if contained > max(jaccard, 0.9) else (jaccard, "shared word triples")


def _shingles(found: Sequence[str]) -> set[tuple[str, ...]]:
    if len(found) < _SHINGLE_WORDS:
        return {tuple(found)} if found else set()
    return {tuple(found[place : place + _SHINGLE_WORDS]) for place in range(len(found) - _SHINGLE_WORDS + 1)}
