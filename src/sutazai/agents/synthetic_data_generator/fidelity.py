"""Why it exists: a synthetic table is worth what it keeps of the real one; that is measured, column by column."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from sutazai.agents.synthetic_data_generator.copula import shape
from sutazai.agents.synthetic_data_generator.models import Dependence, Fidelity, Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.synthetic_data_generator.reading import Real

_PAIRS_SHOWN = 20
_DEPENDENCE_ROWS_MAX = 5_000  # a correlation of so many rows is known to about 0.014
_METHODS: dict[str, Any] = {
    "number": "kolmogorov-smirnov",
    "time": "kolmogorov-smirnov",
    "category": "total-variation",
    "shape": "total-variation of shapes",
}
_KS_95 = 1.358  # 95 % quantile of the Kolmogorov distribution


def columns(real: Sequence[Real], synthetic: Sequence[Real]) -> list[Fidelity]:
    """Compare each column's distribution."""
    return [_column(one, other) for one, other in zip(real, synthetic, strict=True)]


def _column(real: Real, synthetic: Real) -> Fidelity:
    left = [value for value in real.values if value is not None]
    right = [value for value in synthetic.values if value is not None]
    nulls = 1 - len(left) / len(real.values), 1 - len(right) / len(synthetic.values)
    size = math.sqrt((len(left) + len(right)) / max(1, len(left) * len(right)))
    kind: Any = "number" if real.kind in {"number", "discrete"} else real.kind
    note, method = "", _METHODS[kind]
    if not left or not right:
        distance, chance = 0.0 if len(left) == len(right) else 1.0, 1.0
        note = "no values to compare"
    elif kind in {"number", "time"}:
        distance, chance = float(stats.ks_2samp(left, right, method="asymp").statistic), _KS_95 * size
    else:
        texts = [[shape(str(value)) if kind == "shape" else str(value) for value in side] for side in (left, right)]
        distance, chance = _variation(*texts)
        note = "texts were made anew after their shape; none was copied" if kind == "shape" else ""
    return Fidelity(
        column=real.name, kind=kind, method=method, distance=round(distance, 4), chance=round(min(1.0, chance), 4),
        nulls_real=round(nulls[0], 4), nulls_synthetic=round(nulls[1], 4), note=note,
    )  # fmt: skip


def _variation(left: list[str], right: list[str]) -> tuple[float, float]:
    """Total variation distance, and what two samples of one distribution would have (mean plus 1.645 deviations).

    Each share's difference is about normal with variance p(1-p)(1/n+1/m); its mean size is sqrt(2/pi) deviations.
    """
    one, other = Counter(left), Counter(right)
    distance = sum(abs(one[key] / len(left) - other[key] / len(right)) for key in one | other) / 2
    pooled = [(one[key] + other[key]) / (len(left) + len(right)) for key in one | other]
    variances = [share * (1 - share) * (1 / len(left) + 1 / len(right)) for share in pooled]
    mean = sum(math.sqrt(2 * variance / math.pi) for variance in variances) / 2
    spread = math.sqrt(sum(variance * (1 - 2 / math.pi) for variance in variances)) / 2
    return distance, mean + 1.645 * spread


def dependence(real: Sequence[Real], synthetic: Sequence[Real]) -> Dependence:
    """Compare how strongly each two columns go together; of large tables every k-th row, 5 000 at most."""
    sides = [[_thinned(one) for one in side if one.kind != "shape"] for side in (real, synthetic)]
    kept = list(zip(*sides, strict=True))
    found = []
    for (real_a, made_a), (real_b, made_b) in combinations(kept, 2):
        method, left = _association(real_a, real_b)
        _, right = _association(made_a, made_b)
        if left is None or right is None:
            continue
        found.append(
            Pair(a=real_a.name, b=real_b.name, method=method, real=round(left, 4), synthetic=round(right, 4),
                 difference=round(abs(left - right), 4))
        )  # fmt: skip
    differences = [pair.difference for pair in found]
    return Dependence(
        compared=len(found),
        rows_compared=min(len(side[0].values) for side in sides) if kept else 0,
        mean_difference=round(sum(differences) / len(found), 4) if found else 0.0,
        max_difference=max(differences, default=0.0),
        pairs=sorted(found, key=lambda pair: (-pair.difference, pair.a, pair.b))[:_PAIRS_SHOWN],
    )


def _thinned(column: Real) -> Real:
    step = -(-len(column.values) // _DEPENDENCE_ROWS_MAX)
    return replace(column, values=column.values[::step])


def _association(a: Real, b: Real) -> tuple[Any, float | None]:
    both = [(x, y) for x, y in zip(a.values, b.values, strict=True) if x is not None and y is not None]
    categories = [column.kind == "category" for column in (a, b)]
    method = "cramers-v" if all(categories) else "correlation-ratio" if any(categories) else "spearman"
    left, right = [x for x, _ in both], [y for _, y in both]
    if len(set(left)) < 2 or len(set(right)) < 2:  # noqa: PLR2004 a constant goes with nothing
        return method, None
    if method == "spearman":
        return method, float(np.corrcoef(stats.rankdata(left), stats.rankdata(right))[0, 1])
    if method == "cramers-v":
        return method, _cramers_v(left, right)
    return method, _correlation_ratio(*((left, right) if categories[0] else (right, left)))


def _cramers_v(left: list[Any], right: list[Any]) -> float:
    rows, columns_ = np.unique(left, return_inverse=True)[1], np.unique(right, return_inverse=True)[1]
    counts = np.zeros((rows.max() + 1, columns_.max() + 1))
    np.add.at(counts, (rows, columns_), 1)
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    return math.sqrt(chi2 / (counts.sum() * (min(counts.shape) - 1)))


def _correlation_ratio(groups: list[Any], values: list[Any]) -> float:
    ranks = stats.rankdata(values)
    places = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(places)
    means = np.bincount(places, weights=ranks) / sizes
    total = float(((ranks - ranks.mean()) ** 2).sum())
    return math.sqrt(float((sizes * (means - ranks.mean()) ** 2).sum()) / total)
