"""Why it exists: a score means something only beside a baseline, on the same folds, and on rows kept apart.

The candidates are few and small on purpose: a model must fit the store (see ``registry``), and the choice among many
would itself be luck. All runs are on one thread with one seed, so the same recipe gives the same model.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.agents.model_training_specialist.models import Advantage, Candidate, Score, Task
from sutazai.runtime import NonRetryableError
from sutazai.runtime.programs import MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from pandas import DataFrame, Series  # type: ignore[import-untyped]

    from sutazai.agents.model_training_specialist.table import Table

FOLDS = 5
HELD_OUT = 0.2
HELD_OUT_ROWS_MIN = 50
LEVEL = 0.95
LEAK_SCORE = 0.99
_LEAK_DEPTH = 3
MEASURES: dict[Task, tuple[tuple[str, bool], ...]] = {
    "classification": (("balanced_accuracy", True), ("accuracy", True), ("f1_macro", True)),
    "regression": (("r2", True), ("rmse", False), ("mae", False)),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training gives.

    Attributes:
        pipeline: fitted on all rows.
        kind: of the model that was chosen.
        tried: all candidates, the best first.
        cross_validation: of the chosen one, with the baseline's.
        held_out: the same on rows kept apart; empty when there are too few.
        advantage: over the baseline.
        warnings: what a reader must know.
    """

    pipeline: Any
    kind: str
    tried: list[Candidate]
    cross_validation: list[Score]
    held_out: list[Score]
    advantage: Advantage
    warnings: list[str]


def require_sklearn() -> None:
    """Make sure that the libraries are there.

    Raises:
        MissingProgramError: they are not.
    """
    try:
        import sklearn  # noqa: F401
        import skops.io  # noqa: F401
    except ImportError as error:
        raise MissingProgramError(
            f"{error.name} is not installed here: run `scripts/bootstrap base llm data ml` in the checkout"
        ) from error


def train(table: Table, seed: int, progress: Callable[[float, str], None]) -> Outcome:
    """Try the candidates, choose by cross-validation, judge on rows kept apart, fit on all.

    Raises:
        NonRetryableError: the rarest class has too few rows for two folds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence and rare classes are judged by the scores
        return _train(table, seed, progress)


def _train(table: Table, seed: int, progress: Callable[[float, str], None]) -> Outcome:
    frame, target, task = table.frame, table.target, table.task
    notes = list(table.notes)
    inside, outside = _split(table, seed)
    folds = _folds(target.iloc[inside], task, seed)
    candidates = _candidates(task, seed)
    scores: dict[str, list[dict[str, float]]] = {}
    rows = frame.iloc[inside], target.iloc[inside]
    for number, (kind, make) in enumerate(candidates.items()):
        progress(0.1 + 0.7 * number / len(candidates), f"cross-validating {kind}")
        scores[kind] = [_fold(_pipeline(table, make()), *rows, fold, task) for fold in folds]
    first, _ = MEASURES[task][0]
    tried = sorted((_summary(kind, found, first) for kind, found in scores.items() if kind != "baseline"), key=_order)
    kind = tried[0].kind
    notes += leaks(table, seed)
    if duplicated := int(frame.assign(**{"\0target": target}).duplicated().sum()):
        notes.append(f"{duplicated} rows are copies of others: the same row may be in training and test")
    chosen = _pipeline(table, candidates[kind]())
    held_out: list[Score] = []
    if len(outside):
        progress(0.85, "judging on rows kept apart")
        measured = _measure(chosen.fit(*rows), frame.iloc[outside], target.iloc[outside], task)
        dull = _pipeline(table, candidates["baseline"]()).fit(*rows)
        against = _measure(dull, frame.iloc[outside], target.iloc[outside], task)
        held_out = scored(task, [measured], [against])
    else:
        notes.append(
            f"under {HELD_OUT_ROWS_MIN} rows none is kept apart: the cross-validated score of the best is optimistic"
        )
    advantage = _advantage(scores[kind], scores["baseline"], folds, task)
    if not advantage.better:
        notes.append("not shown to be better than the baseline: do not use it for decisions")
    progress(0.9, "fitting on all rows")
    chosen = _pipeline(table, candidates[kind]()).fit(frame, target)
    cross = scored(task, scores[kind], scores["baseline"])
    return Outcome(chosen, kind, tried, cross, held_out, advantage, notes)


def _split(table: Table, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np
    from sklearn.model_selection import train_test_split

    every = np.arange(len(table.frame))
    if len(every) < HELD_OUT_ROWS_MIN:
        return every, every[:0]
    strata = table.target if table.task == "classification" else None
    try:
        inside, outside = train_test_split(every, test_size=HELD_OUT, random_state=seed, stratify=strata)
    except ValueError:  # a class is too rare to be in both parts
        inside, outside = train_test_split(every, test_size=HELD_OUT, random_state=seed)
    return np.sort(inside), np.sort(outside)


def _folds(target: Series, task: Task, seed: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    if task == "regression":
        return list(KFold(FOLDS, shuffle=True, random_state=seed).split(target))
    rarest = int(target.value_counts().min())
    count = min(FOLDS, rarest)
    if count < 2:  # noqa: PLR2004 one fold is none
        raise NonRetryableError("a class has a single row: give more rows of it, or leave it out")
    return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(target, target))


def _candidates(task: Task, seed: int) -> dict[str, Callable[[], Any]]:
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    forest = {"n_estimators": 60, "max_depth": 8, "min_samples_leaf": 2, "random_state": seed, "n_jobs": 1}
    tree = {"max_depth": 4, "min_samples_leaf": 5, "random_state": seed}
    if task == "classification":
        return {
            "baseline": lambda: DummyClassifier(strategy="most_frequent"),
            "linear": lambda: LogisticRegression(max_iter=1_000, random_state=seed),
            "tree": lambda: DecisionTreeClassifier(**tree),
            "forest": lambda: RandomForestClassifier(**forest),
        }
    return {
        "baseline": lambda: DummyRegressor(strategy="mean"),
        "linear": lambda: Ridge(alpha=1.0, random_state=seed),
        "tree": lambda: DecisionTreeRegressor(**tree),
        "forest": lambda: RandomForestRegressor(**forest),
    }


def _pipeline(table: Table, model: Any) -> Any:
    """Imputation and encoding are parts of the pipeline, so each fold learns them from its training rows alone."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [column.name for column in table.columns if column.use == "number"]
    words = [column.name for column in table.columns if column.use == "category"]
    parts: list[tuple[str, Any, list[str]]] = []
    if numbers:
        filled = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        parts.append(("numbers", Pipeline([("fill", filled), ("scale", StandardScaler())]), numbers))
    if words:
        filled = SimpleImputer(strategy="constant", fill_value="(missing)", keep_empty_features=True)
        coded = OneHotEncoder(handle_unknown="ignore", max_categories=30, sparse_output=False)
        parts.append(("words", Pipeline([("fill", filled), ("code", coded)]), words))
    return Pipeline([("columns", ColumnTransformer(parts)), ("model", model)])


def _fold(
    pipeline: Any, frame: DataFrame, target: Series, fold: tuple[NDArray[Any], NDArray[Any]], task: Task
) -> dict[str, float]:
    learn, judge = fold
    pipeline.fit(frame.iloc[learn], target.iloc[learn])
    return _measure(pipeline, frame.iloc[judge], target.iloc[judge], task)


def _measure(pipeline: Any, frame: DataFrame, target: Series, task: Task) -> dict[str, float]:
    return measure(target, pipeline.predict(frame), task)


def measure(target: Sequence[Any] | Series, predicted: Any, task: Task) -> dict[str, float]:
    """Compute all measures of a task."""
    from sklearn import metrics

    if task == "classification":
        return {
            "balanced_accuracy": float(metrics.balanced_accuracy_score(target, predicted)),
            "accuracy": float(metrics.accuracy_score(target, predicted)),
            "f1_macro": float(metrics.f1_score(target, predicted, average="macro", zero_division=0)),
        }
    return {
        "r2": float(metrics.r2_score(target, predicted)),
        "rmse": float(metrics.root_mean_squared_error(target, predicted)),
        "mae": float(metrics.mean_absolute_error(target, predicted)),
    }


def scored(task: Task, model: list[dict[str, float]], baseline: list[dict[str, float]]) -> list[Score]:
    """Put the means over the folds side by side."""
    return [
        Score(
            measure=name,
            model=_mean([fold[name] for fold in model]),
            baseline=_mean([fold[name] for fold in baseline]),
            deviation=_deviation([fold[name] for fold in model]) if len(model) > 1 else None,
            higher_is_better=higher,
        )
        for name, higher in MEASURES[task]
    ]


def _summary(kind: str, folds: list[dict[str, float]], measure_name: str) -> Candidate:
    values = [fold[measure_name] for fold in folds]
    return Candidate(kind=kind, score=_mean(values), deviation=_deviation(values))


def _order(candidate: Candidate) -> tuple[float, int]:
    """Best first; of equals the simplest."""
    return -round(candidate.score, 6), ("linear", "tree", "forest").index(candidate.kind)


def _advantage(
    model: list[dict[str, float]],
    baseline: list[dict[str, float]],
    folds: list[tuple[NDArray[Any], NDArray[Any]]],
    task: Task,
) -> Advantage:
    from scipy import stats

    name, _ = MEASURES[task][0]
    gains = [one[name] - other[name] for one, other in zip(model, baseline, strict=True)]
    learn, judge = (sum(len(fold[part]) for fold in folds) for part in (0, 1))
    spread = math.sqrt(_deviation(gains) ** 2 * (1 / len(gains) + judge / learn))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(gains) - 1)) * spread
    mean = _mean(gains)
    return Advantage(mean=mean, low=mean - reach, high=mean + reach, level=LEVEL, better=mean - reach > 0)


def leaks(table: Table, seed: int) -> list[str]:
    """Name columns that alone give the target away: known after the fact, or the target in other words."""
    from sklearn.model_selection import cross_val_score
    from sklearn.preprocessing import OrdinalEncoder
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    found = []
    is_class = table.task == "classification"
    make = DecisionTreeClassifier if is_class else DecisionTreeRegressor
    for column in table.columns:
        if column.use == "dropped":
            continue
        values = table.frame[[column.name]]
        if column.use == "category":
            values = OrdinalEncoder().fit_transform(values.fillna("(missing)"))
        depth = _LEAK_DEPTH if is_class else None
        folds = _folds(table.target, table.task, seed)
        score = cross_val_score(
            make(max_depth=depth, random_state=seed), values, table.target, cv=folds,
            scoring="balanced_accuracy" if is_class else "r2",
        ).mean()  # fmt: skip
        if score >= LEAK_SCORE:
            found.append(
                f"column {column.name} alone predicts the target ({score:.3f}): is it known before the target is?"
            )
    return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: list[float]) -> float:
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
