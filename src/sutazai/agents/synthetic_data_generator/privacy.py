"""Why it exists: a synthetic row that is a real one gives somebody away; nearest records show whether any is."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sutazai.agents.synthetic_data_generator import copula
from sutazai.agents.synthetic_data_generator.copula import numbers
from sutazai.agents.synthetic_data_generator.models import Privacy
from sutazai.agents.synthetic_data_generator.reading import written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sutazai.agents.synthetic_data_generator.reading import Real

    Array = NDArray[np.float64]

SAMPLE_MAX = 1_000
ROWS_MIN = 50
#: Above this share of samples nearer to the learned half, rows were learned by heart; 0.5 is none.
SHARE_MAX = 0.6
COPIES_SPARE = 0.01


def report(real: Sequence[Real], synthetic: Sequence[Real], seed: int) -> Privacy:
    """Compare rows with rows; of large tables a random sample of 1 000 each is compared, copies are sought in all."""
    rows, made = _rows(real), _rows(synthetic)
    counts = Counter(rows)
    copies = sum(1 for row in made if row in counts)
    twins = sum(count for count in counts.values() if count > 1) / len(rows)
    chance = np.random.default_rng([seed, 7])
    left = np.sort(chance.permutation(len(rows))[:SAMPLE_MAX])
    right = np.sort(chance.permutation(len(made))[:SAMPLE_MAX])
    encoded_real, encoded_made = _encode(real, synthetic, left, right)
    to_real = _nearest(encoded_made, encoded_real, own=False)
    own = _nearest(encoded_real, encoded_real, own=True)
    share = _learned_half_share(real, seed) if len(rows) >= ROWS_MIN else None
    verdict, why = _verdict(len(rows), share, copies / len(made), twins)
    return Privacy(
        compared_real=len(left), compared_synthetic=len(right), copies=copies,
        copies_share=round(copies / len(made), 4), twins_share_real=round(twins, 4),
        to_real_median=round(float(np.median(to_real)), 4), to_real_p05=round(float(np.quantile(to_real, 0.05)), 4),
        real_to_real_median=round(float(np.median(own)), 4),
        real_to_real_p05=round(float(np.quantile(own, 0.05)), 4),
        nearer_to_learned_half=share, verdict=verdict, why=why,
    )  # fmt: skip


def _learned_half_share(real: Sequence[Real], seed: int) -> float:
    """Learn from one half, and count how many samples are nearer to it than to the half that was not seen.

    A model that learned no row by heart gives about a half (Platzer and Reutterer 2021, holdout-based assessment).
    """
    order = np.random.default_rng([seed, 11]).permutation(len(real[0].values))[: 2 * SAMPLE_MAX]
    halves = [np.sort(part) for part in np.array_split(order, 2)]
    seen, unseen = ([replace(one, values=[one.values[row] for row in half]) for one in real] for half in halves)
    drawn = copula.sample(copula.learn(seen), len(halves[0]), seed)
    made = [replace(one, values=drawn[one.name]) for one in real]
    every = np.arange(len(halves[0]))
    encoded_seen, encoded_made = _encode(seen, made, every, every, scale=real)
    encoded_unseen, _ = _encode(unseen, made, np.arange(len(halves[1])), every, scale=real)
    to_seen = _nearest(encoded_made, encoded_seen, own=False)
    to_unseen = _nearest(encoded_made, encoded_unseen, own=False)
    return round(float(np.mean(to_seen < to_unseen) + np.mean(to_seen == to_unseen) / 2), 4)


def _verdict(rows: int, share: float | None, copies: float, twins: float) -> tuple[Any, str]:
    if share is None:
        return "too-few-rows", f"distances of fewer than {ROWS_MIN} real rows say nothing"
    if copies > twins + COPIES_SPARE:
        return "copies", "more synthetic rows are copies of real ones than real rows have twins"
    if share > max(SHARE_MAX, 0.5 + 1.5 / math.sqrt(min(rows, 2 * SAMPLE_MAX) / 2)):  # three deviations of a half
        return "learned-by-heart", "rows of a model of one half are nearer to that half than to the unseen one"
    return "no-sign-of-copying", "copies are no more than real twins; a model of one half is as near to the unseen half"


def _rows(columns: Sequence[Real]) -> list[tuple[Any, ...]]:
    kept = [column for column in columns if column.kind != "shape"] or list(columns)
    return list(zip(*([written(column, value) for value in column.values] for column in kept), strict=True))


def _encode(
    real: Sequence[Real],
    synthetic: Sequence[Real],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    *,
    scale: Sequence[Real] = (),
) -> tuple[Array, Array]:
    """Numbers over the real range, categories as codes behind 10 (so that two of them differ by at least 1).

    ``scale`` is the whole real table when ``real`` is a part of it.
    """
    sides: tuple[list[Array], list[Array]] = ([], [])
    for one, other, whole in zip(real, synthetic, scale or real, strict=True):
        if one.kind == "shape":
            continue
        if one.kind == "category":
            codes = {
                value: 10.0 + 2 * place for place, value in enumerate(dict.fromkeys([*whole.values, *other.values]))
            }
            values = [np.array([codes[value] for value in column.values]) for column in (one, other)]
        else:
            values = [numbers(column) for column in (one, other)]
            all_real = numbers(whole)
            low, width = np.nanmin(all_real), float(np.nanmax(all_real) - np.nanmin(all_real)) or 1.0
            values = [np.nan_to_num((side - low) / width, nan=-10.0) for side in values]
        sides[0].append(values[0][left])
        sides[1].append(values[1][right])
    if not sides[0]:
        return np.zeros((len(left), 1)), np.ones((len(right), 1))
    return np.column_stack(sides[0]), np.column_stack(sides[1])


def _nearest(rows: Array, among: Array, *, own: bool) -> Array:
    """Gower's distance of each row to its nearest; not to itself when they are the same table."""
    found = np.ones(len(rows))
    for place, row in enumerate(rows):
        distances = np.minimum(np.abs(among - row), 1.0).mean(axis=1)
        if own:
            distances[place] = np.inf
        nearest = float(distances.min()) if len(distances) > int(own) else 1.0
        found[place] = nearest
    return found
