"""Why it exists: each type of column is drawn from numbers between 0 and 1, so that dependence can be put in before.

A cut-off distribution is drawn through its quantile function between the shares of its bounds; nothing is thrown away,
so a column costs the same whatever its bounds.
"""

from __future__ import annotations

import math
import random
import string
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from sutazai.agents.synthetic_data_generator.models import (
    BooleanColumn,
    CategoryColumn,
    DatetimeColumn,
    FakeColumn,
    IntegerColumn,
    NumberColumn,
    PatternColumn,
    SequenceColumn,
)
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_TRIES_PER_VALUE = 50
_STEPS_S = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
Ordered = IntegerColumn | NumberColumn | DatetimeColumn


def generator(seed: int, *names: str) -> np.random.Generator:
    """Make a column's own stream: another column beside it does not change its values."""
    return np.random.default_rng([seed, zlib.crc32("\x1f".join(names).encode())])


def distribution(column: IntegerColumn | NumberColumn) -> Any:
    """The frozen distribution that a column names, before it is cut off at the bounds."""
    mean, sd = column.mean or 0.0, column.sd or 1.0
    if column.distribution == "normal":
        return stats.norm(mean, sd)
    if column.distribution == "poisson":
        return stats.poisson(mean)
    if column.distribution == "lognormal":
        return stats.lognorm(sd, scale=math.exp(min(mean, 700.0)))
    if column.distribution == "exponential":
        return stats.expon(scale=mean)
    return stats.uniform(column.min, max(column.max - column.min, 0) or 1e-300)


def shares(column: IntegerColumn | NumberColumn) -> tuple[float, float]:
    """How much of the distribution lies below the lower and below the upper bound.

    Raises:
        NonRetryableError: nothing of it lies between the bounds.
    """
    found = distribution(column)
    if column.distribution == "poisson":
        low, high = float(found.cdf(column.min - 1)), float(found.cdf(column.max))
    elif isinstance(column, IntegerColumn):
        low, high = float(found.cdf(column.min - 0.5)), float(found.cdf(column.max + 0.5))
    else:
        low, high = float(found.cdf(column.min)), float(found.cdf(column.max))
    if high - low < 1e-12:  # noqa: PLR2004 below this a quantile function gives no numbers
        raise NonRetryableError(
            f"{column.distribution} with mean {column.mean} has nothing between {column.min} and {column.max}"
        )
    return low, high


def from_shares(column: Ordered, uniform: Array) -> list[Any]:
    """Turn numbers between 0 and 1 into values of a column that has an order."""
    if isinstance(column, DatetimeColumn):
        return _times(column, uniform)
    if isinstance(column, IntegerColumn) and column.distribution == "uniform":
        count = column.max - column.min + 1
        return [column.min + min(count - 1, int(share * count)) for share in uniform.tolist()]
    if column.distribution == "uniform":
        values = column.min + uniform * (column.max - column.min)
    else:
        low, high = shares(column)
        values = distribution(column).ppf(low + uniform * (high - low))
    if isinstance(column, IntegerColumn):
        return [int(value) for value in np.clip(np.rint(values), column.min, column.max)]
    rounded = np.round(np.clip(values, column.min, column.max), column.decimals)
    return [float(value) for value in np.clip(rounded, column.min, column.max)]


def _times(column: DatetimeColumn, uniform: Array) -> list[str]:
    step = _STEPS_S[column.unit]
    count = int((column.end - column.start).total_seconds() // step) + 1
    moments = [
        column.start + timedelta(seconds=step * min(count - 1, int(share * count))) for share in uniform.tolist()
    ]
    return [moment.date().isoformat() if column.unit == "day" else moment.isoformat() for moment in moments]


def unique_integers(column: IntegerColumn, n: int, seed: int, name: str) -> list[int]:
    """Draw without putting back.

    Raises:
        NonRetryableError: there are fewer values than rows.
    """
    count = column.max - column.min + 1
    if count < n:
        raise NonRetryableError(f"column {name!r}: {n} unique integers do not fit in {column.min} to {column.max}")
    return random.Random(f"{seed}/{name}").sample(range(column.min, column.max + 1), n)  # noqa: S311 not for secrets


def categories(column: CategoryColumn | BooleanColumn, uniform: Array) -> list[Any]:
    """Choose by weight."""
    if isinstance(column, BooleanColumn):
        return [bool(share < column.true_share) for share in uniform]
    weights = np.array(column.weights or [1.0] * len(column.values), dtype=np.float64)
    ends = np.cumsum(weights / weights.sum())
    ends[-1] = 1.0
    return [column.values[int(place)] for place in np.searchsorted(ends, uniform, side="right").clip(0, len(ends) - 1)]


def sequence(column: SequenceColumn, n: int) -> list[int]:
    """Count up."""
    return list(range(column.start, column.start + n * column.step, column.step))


def pattern(column: PatternColumn, n: int, seed: int, name: str) -> list[str]:
    """Fill in digits and letters.

    Raises:
        NonRetryableError: fewer different codes than rows, and they are to be unique.
    """
    chance = random.Random(f"{seed}/{name}")  # noqa: S311 not for secrets
    choices = [
        string.digits if mark == "#" else string.ascii_uppercase if mark == "?" else mark for mark in column.pattern
    ]
    count = math.prod(len(choice) for choice in choices)
    if not column.unique:
        return ["".join(chance.choice(choice) for choice in choices) for _ in range(n)]
    if count < n:
        raise NonRetryableError(f"column {name!r}: the pattern {column.pattern!r} has {count} codes, not {n}")
    return [_code(number, choices) for number in chance.sample(range(count), n)]


def _code(number: int, choices: list[str]) -> str:
    marks = []
    for choice in reversed(choices):
        number, place = divmod(number, len(choice))
        marks.append(choice[place])
    return "".join(reversed(marks))


def fake(column: FakeColumn, n: int, seed: int, name: str) -> list[str]:
    """Ask the library Faker; it is imported by the first column that needs it (0.3 s).

    Raises:
        NonRetryableError: the library does not know the locale, or has not enough different values.
    """
    from faker import Faker

    try:
        source = Faker(column.locale)
    except AttributeError as error:
        raise NonRetryableError(f"column {name!r}: no locale {column.locale!r}; write one like de_DE") from error
    source.seed_instance(zlib.crc32(f"{seed}/{name}".encode()))
    make: Callable[[], Any] = getattr(source, column.kind)
    if not column.unique:
        return [str(make()) for _ in range(n)]
    found: dict[str, None] = {}
    for _ in range(n * _TRIES_PER_VALUE):
        if len(found) >= n:
            break
        found[str(make())] = None
    if len(found) < n:
        raise NonRetryableError(
            f"column {name!r}: only {len(found)} different values of {column.kind} were found for {n} rows; "
            "ask for fewer rows, or leave unique out"
        )
    return list(found)
