"""Why it exists: three models from plain to clever, each judged on the series' own past, the plainest good one wins.

Naive: it stays as it is. Drift: it goes on as it did on average (Hyndman and Athanasopoulos, *Forecasting: Principles
and Practice*, 3rd ed., 5.2). Holt: exponential smoothing with a trend, state space form with its own intervals
(``statsmodels`` ETS A,A,N). Intervals that were too narrow in the back test are widened by what they lacked there.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ModelName = Literal["constant", "naive", "drift", "holt", "none"]
_FOLDS = 5
_STEPS_BACK_MAX = 60
_TRAIN_MIN = 12
_BETTER = 0.95  # a cleverer model must win by 5 %
_TINY = 1e-12
_WIDENING_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Path:
    """A forecast: one value a step, with the ends of its interval."""

    middle: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class Score:
    """What the back test found.

    Attributes:
        folds: origins tried; 0 when the series is too short for one.
        steps: steps ahead that were judged at each.
        error: mean absolute error of the chosen model.
        naive_error: mean absolute error of the naive model.
        coverage: share of past values inside the interval.
        widening: factor that the interval needed there, at least 1.
    """

    folds: int
    steps: int
    error: float
    naive_error: float
    coverage: float
    widening: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The chosen model, its path and how it did before."""

    model: ModelName
    path: Path
    score: Score


def forecast(values: Array, steps: int, level: float) -> Outcome:
    """Choose a model by back test and forecast ``steps`` values with intervals of ``level``.

    Args:
        values: evenly spaced, at least two.
        steps: how many values ahead, at least 1.
        level: 0.5 to 0.99.
    """
    if float(np.ptp(values)) <= _TINY:
        flat = np.full(steps, values[-1])
        return Outcome("constant", Path(flat, flat, flat), Score(0, 0, 0.0, 0.0, 1.0, 1.0))
    scores = _backtest(values, steps, level)
    chosen = _choose({name: score.error for name, score in scores.items()})
    try:
        path = MODELS[chosen](values, steps, level)
    except (ValueError, np.linalg.LinAlgError):
        chosen = "drift"
        path = MODELS[chosen](values, steps, level)
    score = scores[chosen]
    wide = Path(
        path.middle,
        path.middle - (path.middle - path.low) * score.widening,
        path.middle + (path.high - path.middle) * score.widening,
    )
    return Outcome(chosen, wide, score)


def _choose(errors: dict[ModelName, float]) -> ModelName:
    best: ModelName = "naive"
    for name in ("drift", "holt"):
        if errors[name] < errors[best] * _BETTER:
            best = name
    return best


def _backtest(values: Array, steps: int, level: float) -> dict[ModelName, Score]:
    ahead = max(1, min(steps, _STEPS_BACK_MAX, len(values) // 4))
    first, last = max(_TRAIN_MIN, len(values) // 2 - ahead), len(values) - ahead
    origins = sorted({int(origin) for origin in np.linspace(first, last, _FOLDS)}) if last >= first else []
    results: dict[ModelName, list[tuple[Array, Array]]] = {name: [] for name in MODELS}
    for origin in origins:
        truth = values[origin : origin + ahead]
        for name, model in MODELS.items():
            try:
                path = model(values[:origin], ahead, level)
            except (ValueError, np.linalg.LinAlgError):
                path = _drift(values[:origin], ahead, level)
            results[name].append((np.abs(truth - path.middle), np.maximum((path.high - path.low) / 2, _TINY)))
    naive = _mean_error(results["naive"])
    return {name: _score(found, ahead, level, naive) for name, found in results.items()}


def _mean_error(found: list[tuple[Array, Array]]) -> float:
    return float(np.mean([error.mean() for error, _ in found])) if found else 0.0


def _score(found: list[tuple[Array, Array]], ahead: int, level: float, naive: float) -> Score:
    if not found:
        return Score(0, 0, 0.0, naive, 0.0, 1.0)
    ratios = np.concatenate([error / half for error, half in found])
    scale = float(np.max([error.max() for error, _ in found]))
    widening = float(np.quantile(ratios, level)) if scale > _TINY else 1.0
    return Score(
        len(found),
        ahead,
        _mean_error(found),
        naive,
        float(np.mean(ratios <= 1)),
        min(max(1.0, widening), _WIDENING_MAX),
    )


def _z(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.5 + level / 2))


def _naive(values: Array, steps: int, level: float) -> Path:
    ahead = np.arange(1, steps + 1, dtype=np.float64)
    half = _z(level) * float(np.std(np.diff(values))) * np.sqrt(ahead)
    middle = np.full(steps, float(values[-1]))
    return Path(middle, middle - half, middle + half)


def _drift(values: Array, steps: int, level: float) -> Path:
    ahead = np.arange(1, steps + 1, dtype=np.float64)
    count = len(values) - 1
    slope = float(values[-1] - values[0]) / count
    spread = float(np.std(np.diff(values) - slope))
    half = _z(level) * spread * np.sqrt(ahead * (1 + ahead / count))
    middle = float(values[-1]) + slope * ahead
    return Path(middle, middle - half, middle + half)


def _holt(values: Array, steps: int, level: float) -> Path:
    import pandas as pd  # type: ignore[import-untyped]
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    scale = float(np.ptp(values)) or 1.0
    shift = float(values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a slow optimiser; the back test judges the result
        scaled = pd.Series((values - shift) / scale)  # its predictions need an index
        fitted = ETSModel(scaled, error="add", trend="add").fit(disp=False, maxiter=100)
        frame = fitted.get_prediction(start=len(values), end=len(values) + steps - 1).summary_frame(alpha=1 - level)
    middle = np.asarray(frame["mean"], dtype=np.float64) * scale + shift
    low = np.asarray(frame["pi_lower"], dtype=np.float64) * scale + shift
    high = np.asarray(frame["pi_upper"], dtype=np.float64) * scale + shift
    if not (np.isfinite(middle).all() and np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("the fit did not converge")
    return Path(middle, low, high)


MODELS: dict[ModelName, Callable[[Array, int, float], Path]] = {"naive": _naive, "drift": _drift, "holt": _holt}
