"""Why it exists: a synthetic table keeps each column's distribution and how the columns go together, and no row.

Gaussian copula: every column becomes normal scores by its ranks; their correlation matrix is all that is learned of the
dependence; samples of it go back through each column's own quantiles. Categories have no order, so each gets the one in
which it goes best with a column of numbers (the mean of that column); without such a column, the most frequent comes
first. Patki, Wedge, Veeramachaneni: *The Synthetic Data Vault* (2016).
"""

from __future__ import annotations

import random
import string
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from sutazai.agents.synthetic_data_generator.columns import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sutazai.agents.synthetic_data_generator.reading import Real

    Array = NDArray[np.float64]

#: A value of a category that fewer rows have is not given away.
CATEGORY_ROWS_MIN = 3
_EIGEN_MIN = 1e-6
_RHO_MAX = 0.999
_STEPS_S = (86_400, 3_600, 60, 1)


@dataclass(slots=True)
class Margin:
    """What is kept of one column.

    Attributes:
        column: the given one.
        values: of numbers and times: sorted; of categories: those that are kept, in their order.
        ends: of categories and discrete numbers: cumulated shares.
        shapes: of texts: how they look (``Aa9``), with counts.
        null_share: of missing values.
        dropped: kinds of categories that were too rare.
    """

    column: Real
    values: Any = None
    ends: Array | None = None
    shapes: Counter[str] = field(default_factory=Counter)
    null_share: float = 0.0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """What was learned.

    Attributes:
        margins: one a column.
        names: columns in the copula, in the order of the matrix.
        root: Cholesky factor of their correlations.
    """

    margins: list[Margin]
    names: list[str]
    root: Array


def learn(columns: Sequence[Real]) -> Model:
    """Learn a table. Texts that nearly all differ are learned by their shape only."""
    scores: dict[str, Array] = {column.name: _scores(column) for column in columns if _has_order(column)}
    margins = [_margin(column, scores) for column in columns]
    for margin in margins:
        if margin.ends is not None and len(margin.values) > 1:
            scores[margin.column.name] = _step_scores(margin)
    names = [name for name, score in scores.items() if np.nanstd(score) > 0]
    stepped = {margin.column.name for margin in margins if margin.ends is not None}
    spreads = [float(np.nanstd(scores[name])) if name in stepped else 1.0 for name in names]
    matrix = _correlations([scores[name] for name in names], spreads)
    root = np.linalg.cholesky(matrix) if names else np.zeros((0, 0))
    return Model(margins, names, np.asarray(root, dtype=np.float64))


def sample(model: Model, n: int, seed: int) -> dict[str, list[float | str | None]]:
    """Draw rows; the same model, n and seed give the same."""
    normal = np.column_stack(
        [generator(seed, "copula", name).standard_normal(n) for name in model.names] or [np.zeros((n, 0))]
    )
    mixed = normal @ model.root.T
    uniform = {name: stats.norm.cdf(mixed[:, place]) for place, name in enumerate(model.names)}
    drawn: dict[str, list[float | str | None]] = {}
    for margin in model.margins:
        name = margin.column.name
        own = uniform.get(name)
        values = _values(margin, own if own is not None else generator(seed, "own", name).random(n), seed)
        missing = generator(seed, "null", name).random(n) < margin.null_share
        drawn[name] = [None if gone else value for value, gone in zip(values, missing, strict=True)]
    return drawn


def _has_order(column: Real) -> bool:
    return column.kind in {"number", "discrete", "time"}


def numbers(column: Real) -> Array:
    """Values of a column of numbers, missing ones as NaN."""
    return np.array([np.nan if value is None else value for value in column.values], dtype=np.float64)


def _scores(column: Real) -> Array:
    values = numbers(column)
    known = ~np.isnan(values)
    score = np.full(len(values), np.nan)
    score[known] = stats.norm.ppf(stats.rankdata(values[known]) / (known.sum() + 1))
    return score


def _margin(column: Real, scores: dict[str, Array]) -> Margin:
    known = [value for value in column.values if value is not None]
    margin = Margin(column, null_share=1 - len(known) / len(column.values))
    if column.kind == "shape":
        margin.shapes = Counter(shape(str(value)) for value in known)
    elif column.kind == "category":
        counts = Counter(str(value) for value in known)
        kept = [value for value, count in counts.most_common() if count >= CATEGORY_ROWS_MIN]
        margin.dropped = len(counts) - len(kept)
        kept = _in_order(column, kept, scores)
        margin.values = kept
        margin.ends = _ends([counts[value] for value in kept])
    else:
        values, counted = np.unique(np.array(known, dtype=np.float64), return_counts=True)
        margin.values = values if column.kind == "discrete" else np.sort(np.array(known, dtype=np.float64))
        margin.ends = _ends(counted) if column.kind == "discrete" else None
    return margin


def _ends(counts: Any) -> Array:
    total = float(np.sum(counts))
    ends = np.cumsum(np.array(counts, dtype=np.float64)) / total if total else np.zeros(0)
    if len(ends):
        ends[-1] = 1.0
    return ends


def _in_order(column: Real, kept: list[str], scores: dict[str, Array]) -> list[str]:
    """Put categories into the order in which they go with the column of numbers that tells them apart the best."""
    best, order = 0.0, kept
    labels = np.array([str(value) if value is not None else "" for value in column.values])
    for score in scores.values():
        known = ~np.isnan(score)
        means = {value: score[known & (labels == value)] for value in kept}
        if any(len(group) == 0 for group in means.values()):
            continue
        between = sum(len(group) * float(group.mean()) ** 2 for group in means.values())
        if between > best:
            best, order = between, sorted(kept, key=lambda value: (float(means[value].mean()), value))
    return order


def _step_scores(margin: Margin) -> Array:
    """Score a step (a category, one of few numbers) by the mean of the normal distribution over its probability."""
    ends = margin.ends if margin.ends is not None else np.zeros(0)
    starts = np.concatenate([[0.0], ends[:-1]])
    density = stats.norm.pdf(stats.norm.ppf(starts)) - stats.norm.pdf(stats.norm.ppf(ends))
    steps = zip(margin.values, density / np.maximum(ends - starts, 1e-12), strict=True)
    score_of = {value if isinstance(value, str) else float(value): float(score) for value, score in steps}
    return np.array([np.nan if value is None else score_of.get(value, np.nan) for value in margin.column.values])


def _correlations(scores: list[Array], spreads: list[float]) -> Array:
    """Pairwise complete correlations of the normal numbers behind, made positive definite.

    Steps weaken a correlation by the spread of their scores, since E[score x other] = rho Var(score); it is divided out
    (polyserial correlation). Small eigenvalues are lifted (Rebonato and Jäckel 1999).
    """
    count = len(scores)
    matrix = np.eye(count)
    for i in range(count):
        for j in range(i):
            both = ~np.isnan(scores[i]) & ~np.isnan(scores[j])
            if both.sum() < 3 or np.std(scores[i][both]) == 0 or np.std(scores[j][both]) == 0:  # noqa: PLR2004 a line
                continue
            found = float(np.corrcoef(scores[i][both], scores[j][both])[0, 1]) / (spreads[i] * spreads[j])
            matrix[i, j] = matrix[j, i] = min(_RHO_MAX, max(-_RHO_MAX, found))
    if not count:
        return matrix
    values, vectors = np.linalg.eigh(matrix)
    lifted = vectors @ np.diag(np.maximum(values, _EIGEN_MIN)) @ vectors.T
    scale = np.sqrt(np.diag(lifted))
    return np.asarray(lifted / np.outer(scale, scale))


def _values(margin: Margin, uniform: Array, seed: int) -> list[float | str | None]:
    column = margin.column
    if column.kind == "shape":
        return list(_shaped(margin, len(uniform), seed))
    if not len(margin.values):
        return [None] * len(uniform)
    if margin.ends is not None:
        places = np.searchsorted(margin.ends, uniform, side="right").clip(0, len(margin.values) - 1)
        return [margin.values[place] if isinstance(margin.values, list) else float(margin.values[place])
                for place in places]  # fmt: skip
    values = np.quantile(margin.values, uniform)
    if column.kind == "time":
        step = _time_step(margin.values)
        return [float(value) for value in np.clip(np.round(values / step) * step, margin.values[0], margin.values[-1])]
    return [float(value) for value in np.round(values, column.decimals)]


def _time_step(values: Array) -> int:
    return next((step for step in _STEPS_S if not np.any(np.mod(values, step))), 1)


def shape(text: str) -> str:
    """How a text looks: letters and digits stand for their kind, everything else for itself."""
    return "".join(
        "9" if mark.isdigit() else "A" if mark.isupper() else "a" if mark.isalpha() else mark for mark in text
    )


def _shaped(margin: Margin, n: int, seed: int) -> list[str]:
    chance = random.Random(f"{seed}/{margin.column.name}")  # noqa: S311 not for secrets
    known = list(margin.shapes)
    weights = [margin.shapes[one] for one in known]
    letters = {"9": string.digits, "A": string.ascii_uppercase, "a": string.ascii_lowercase}
    drawn = chance.choices(known, weights, k=n) if known else [""] * n
    return ["".join(chance.choice(letters.get(mark, mark)) for mark in one) for one in drawn]
