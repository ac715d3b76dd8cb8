"""Why it exists: a schema becomes a table: columns with their dependence, missing values, keys of parents; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from sutazai.agents.synthetic_data_generator import columns as draw
from sutazai.agents.synthetic_data_generator.models import (
    BooleanColumn,
    CategoryColumn,
    Correlation,
    CorrelationFit,
    DatetimeColumn,
    FakeColumn,
    Fit,
    IntegerColumn,
    NumberColumn,
    PatternColumn,
    ReferenceColumn,
    Schema,
)
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CELLS_MAX = 400_000
_ORDERED = (IntegerColumn, NumberColumn, DatetimeColumn)
_TINY = 1e-9


@dataclass(slots=True)
class Table:
    """Columns of one length."""

    columns: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One object a row."""
        names = list(self.columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True)]


def tables(schema: Schema, n: int, seed: int) -> tuple[Table, dict[str, Table]]:
    """Make the table and its parents.

    Raises:
        NonRetryableError: a reference leads nowhere, correlations contradict each other, uniqueness cannot be had, or
            the tables are too large.
    """
    cells = n * len(schema.columns) + sum(parent.n * len(parent.columns) for parent in schema.parents.values())
    if cells > CELLS_MAX:
        raise NonRetryableError(f"{cells} values are more than {CELLS_MAX}: ask for fewer rows or columns")
    parents: dict[str, Table] = {}
    for name, parent in schema.parents.items():
        parents[name] = _table(parent.columns, (), parent.n, (seed, name), {})
    return _table(schema.columns, schema.correlations, n, (seed, ""), parents), parents


def _table(
    columns: Mapping[str, Any],
    correlations: Sequence[Correlation],
    n: int,
    stream: tuple[int, str],
    parents: Mapping[str, Table],
) -> Table:
    seed, table = stream
    uniform = _dependent(columns, correlations, n, stream)
    made = Table()
    for name, column in columns.items():
        shares = uniform.get(name)
        if shares is None:
            shares = draw.generator(seed, table, name).random(n)
        full = f"{table}.{name}" if table else name
        values = _reference(column, shares, full, parents) if isinstance(column, ReferenceColumn) else None
        if values is None:
            values = _values(column, shares, (n, seed, full))
        if share := getattr(column, "null_share", 0.0):
            missing = draw.generator(seed, table, name, "null").random(n) < share
            values = [None if gone else value for value, gone in zip(values, missing, strict=True)]
        made.columns[name] = values
    return made


def _values(column: Any, uniform: NDArray[np.float64], place: tuple[int, int, str]) -> list[Any]:
    n, seed, name = place
    if isinstance(column, IntegerColumn) and column.unique:
        return draw.unique_integers(column, n, seed, name)
    if isinstance(column, _ORDERED):
        return draw.from_shares(column, uniform)
    if isinstance(column, CategoryColumn | BooleanColumn):
        return draw.categories(column, uniform)
    if isinstance(column, FakeColumn):
        return draw.fake(column, n, seed, name)
    if isinstance(column, PatternColumn):
        return draw.pattern(column, n, seed, name)
    return draw.sequence(column, n)


def _reference(
    column: ReferenceColumn, uniform: NDArray[np.float64], name: str, parents: Mapping[str, Table]
) -> list[Any]:
    table, _, key = column.to.partition(".")
    if table not in parents or key not in parents[table].columns:
        known = ", ".join(f"{parent}.{name}" for parent, found in parents.items() for name in found.columns)
        raise NonRetryableError(f"column {name!r}: there is no {column.to}; there are: {known or 'no parents'}")
    keys = [value for value in parents[table].columns[key] if value is not None]
    if len(set(keys)) != len(keys) or not keys:
        raise NonRetryableError(f"column {name!r}: {column.to} is no key: its values are missing or not unique")
    return [keys[int(share * len(keys))] for share in uniform.tolist()]


def _dependent(
    columns: Mapping[str, Any], correlations: Sequence[Correlation], n: int, stream: tuple[int, str]
) -> dict[str, NDArray[np.float64]]:
    """Draw numbers between 0 and 1 for the columns that correlate (Gaussian copula).

    A Spearman correlation rho is had by a correlation 2 sin(pi rho / 6) of the normal numbers behind (Pearson 1907).
    """
    if not correlations:
        return {}
    names = list(dict.fromkeys(name for pair in correlations for name in (pair.a, pair.b)))
    for name in names:
        column = columns.get(name)
        if not isinstance(column, _ORDERED) or getattr(column, "unique", False):
            raise NonRetryableError(
                f"correlations: {name!r} is no column of numbers or times without unique; only those can correlate"
            )
    matrix = np.eye(len(names))
    asked: set[frozenset[str]] = set()
    for pair in correlations:
        if pair.a == pair.b or frozenset((pair.a, pair.b)) in asked:
            raise NonRetryableError(f"correlations: {pair.a!r} with {pair.b!r} makes no sense or stands there twice")
        asked.add(frozenset((pair.a, pair.b)))
        i, j = names.index(pair.a), names.index(pair.b)
        matrix[i, j] = matrix[j, i] = 2 * math.sin(math.pi * pair.rho / 6)
    if float(np.linalg.eigvalsh(matrix)[0]) < _TINY:
        raise NonRetryableError(
            "correlations contradict each other: no table has all of them at once; weaken one "
            "(pairs that are not named count as 0)"
        )
    seed, table = stream
    normal = np.column_stack([draw.generator(seed, table, name).standard_normal(n) for name in names])
    mixed = normal @ np.linalg.cholesky(matrix).T
    return {name: stats.norm.cdf(mixed[:, place]) for place, name in enumerate(names)}


def fit(schema: Schema, table: Table) -> list[Fit]:
    """Compare each column with what was asked."""
    found = []
    for name, column in schema.columns.items():
        values = [value for value in table.columns[name] if value is not None]
        one = Fit(
            column=name,
            type=column.type,
            rows=len(table.columns[name]),
            nulls=len(table.columns[name]) - len(values),
            distinct=len({repr(value) for value in values}),
        )
        if isinstance(column, _ORDERED) and values:
            one.lowest, one.highest = min(values), max(values)
        if isinstance(column, IntegerColumn | NumberColumn) and values:
            one.distance = round(_distance(column, values), 4)
        elif isinstance(column, CategoryColumn | BooleanColumn) and values:
            one.distance = round(_variation(column, values), 4)
        found.append(one)
    return found


def _distance(column: IntegerColumn | NumberColumn, values: list[Any]) -> float:
    """Kolmogorov-Smirnov distance to the asked distribution, cut off at the bounds; of steps for whole numbers."""
    if column.min == column.max:
        return 0.0
    at, counts = np.unique(np.array(values, dtype=np.float64), return_counts=True)
    ends = np.cumsum(counts) / len(values)
    if isinstance(column, IntegerColumn) and column.distribution == "uniform":
        asked = (at - column.min + 1) / (column.max - column.min + 1)
        return float(np.max(np.abs(ends - asked)))
    low, high = draw.shares(column)
    continuous = column.distribution != "poisson" and isinstance(column, IntegerColumn)
    asked = (draw.distribution(column).cdf(at + 0.5 if continuous else at) - low) / (high - low)
    if isinstance(column, IntegerColumn):
        return float(np.max(np.abs(ends - asked)))
    starts = np.concatenate([[0.0], ends[:-1]])
    return float(max(np.max(np.abs(ends - asked)), np.max(np.abs(starts - asked))))


def _variation(column: CategoryColumn | BooleanColumn, values: list[Any]) -> float:
    if isinstance(column, BooleanColumn):
        return abs(float(sum(values)) / len(values) - column.true_share)
    weights = column.weights or [1.0] * len(column.values)
    total = sum(weights)
    counts: dict[str, int] = {}
    for value in values:
        counts[repr(value)] = counts.get(repr(value), 0) + 1
    pairs = zip(column.values, weights, strict=True)
    return float(sum(abs(counts.get(repr(value), 0) / len(values) - weight / total) for value, weight in pairs) / 2)


def correlation_fit(schema: Schema, table: Table) -> list[CorrelationFit]:
    """Measure what was asked to correlate."""
    found = []
    for pair in schema.correlations:
        both = [
            (one, other)
            for one, other in zip(table.columns[pair.a], table.columns[pair.b], strict=True)
            if one is not None and other is not None
        ]
        ranks = [stats.rankdata(_numbers([row[side] for row in both])) for side in (0, 1)]
        constant = not both or any(float(np.ptp(side)) == 0 for side in ranks)
        value = 0.0 if constant else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
        found.append(CorrelationFit(a=pair.a, b=pair.b, asked=pair.rho, found=round(value, 4)))
    return found


def _numbers(values: list[Any]) -> Any:
    """ISO times of one form are ordered like their texts."""
    if values and isinstance(values[0], str):
        return np.unique(np.array(values), return_inverse=True)[1]
    return np.array(values, dtype=np.float64)
