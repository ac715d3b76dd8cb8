"""Why it exists: what this agent takes and gives is typed: a wrong schema is refused before a row is made."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ROWS_MAX = 50_000
COLUMNS_MAX = 60
VALUES_MAX = 1_000
_LARGEST = 2**53  # beyond it a number in JSON is no longer exact

Name = Annotated[str, Field(min_length=1, max_length=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = str | int | float | bool
FakeKind = Literal[
    "name", "first_name", "last_name", "email", "user_name", "phone_number", "company", "job", "street_address",
    "city", "country", "postcode", "sentence", "paragraph", "url", "ipv4", "iban", "uuid4",
]  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Column(_Part):
    null_share: Share = Field(default=0.0, description="expected share of missing values")


class IntegerColumn(_Column):
    """Whole numbers between two bounds."""

    type: Literal["integer"]
    min: int = Field(ge=-_LARGEST, le=_LARGEST)
    max: int = Field(ge=-_LARGEST, le=_LARGEST)
    distribution: Literal["uniform", "normal", "poisson"] = Field(
        default="uniform", description="cut off at the bounds; normal takes mean and sd, poisson mean"
    )
    mean: float | None = Field(default=None, allow_inf_nan=False)
    sd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    unique: bool = Field(default=False, description="no value twice; uniform only, and no part of a correlation")

    @model_validator(mode="after")
    def _fits(self) -> "IntegerColumn":
        _check_numbers(self.min, self.max, self.distribution, self.mean, self.sd)
        if self.unique and self.distribution != "uniform":
            raise ValueError("unique integers are uniform: leave distribution out")
        if self.distribution == "poisson" and self.max < 0:
            raise ValueError("a poisson number is not negative: max must be at least 0")
        return self


class NumberColumn(_Column):
    """Decimal numbers between two bounds."""

    type: Literal["number"]
    min: float = Field(ge=-1e15, le=1e15, allow_inf_nan=False)
    max: float = Field(ge=-1e15, le=1e15, allow_inf_nan=False)
    distribution: Literal["uniform", "normal", "lognormal", "exponential"] = Field(
        default="uniform", description="cut off at the bounds; mean and sd of lognormal are those of its logarithm"
    )
    mean: float | None = Field(default=None, allow_inf_nan=False)
    sd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    decimals: int = Field(default=2, ge=0, le=9)

    @model_validator(mode="after")
    def _fits(self) -> "NumberColumn":
        _check_numbers(self.min, self.max, self.distribution, self.mean, self.sd)
        if self.distribution in {"lognormal", "exponential"} and self.max <= 0:
            raise ValueError(f"a {self.distribution} number is above 0: max must be above 0")
        return self


class CategoryColumn(_Column):
    """One of some values."""

    type: Literal["category"]
    values: list[Scalar] = Field(min_length=1, max_length=VALUES_MAX)
    weights: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = Field(
        default=None, description="one a value, in the same order; equal when left out"
    )

    @model_validator(mode="after")
    def _fits(self) -> "CategoryColumn":
        if self.weights is not None and len(self.weights) != len(self.values):
            raise ValueError(f"there are {len(self.values)} values and {len(self.weights)} weights")
        if self.weights is not None and not sum(self.weights) > 0:
            raise ValueError("at least one weight must be above 0")
        if len({repr(value) for value in self.values}) != len(self.values):
            raise ValueError("a value stands in values twice")
        return self


class BooleanColumn(_Column):
    """Yes or no."""

    type: Literal["boolean"]
    true_share: Share = 0.5


class DatetimeColumn(_Column):
    """Points in time, uniform between two of them."""

    type: Literal["datetime"]
    start: datetime
    end: datetime
    unit: Literal["second", "minute", "hour", "day"] = Field(default="second", description="day gives dates")

    @model_validator(mode="after")
    def _fits(self) -> "DatetimeColumn":
        if (self.start.tzinfo is None) != (self.end.tzinfo is None):
            raise ValueError("write both start and end with a time zone, or both without")
        if self.start > self.end:
            raise ValueError("start is after end")
        return self


class FakeColumn(_Column):
    """Names, addresses and texts that belong to nobody (library Faker)."""

    type: Literal["fake"]
    kind: FakeKind
    locale: str = Field(default="en_US", pattern=r"^[a-z]{2,3}_[A-Z]{2}$", description="like de_DE")
    unique: bool = False


class PatternColumn(_Column):
    """Codes: ``#`` becomes a digit, ``?`` a capital letter, everything else stays."""

    type: Literal["pattern"]
    pattern: str = Field(min_length=1, max_length=100)
    unique: bool = False


class SequenceColumn(_Part):
    """Numbers that count up: a key."""

    type: Literal["sequence"]
    start: int = Field(default=1, ge=-_LARGEST // 2, le=_LARGEST // 2)
    step: int = Field(default=1, ge=1, le=1_000_000)


class ReferenceColumn(_Column):
    """A foreign key: a value of a parent table's column."""

    type: Literal["reference"]
    to: str = Field(pattern=r"^[^.]+\.[^.]+$", description="parent.column")


Column = Annotated[
    IntegerColumn
    | NumberColumn
    | CategoryColumn
    | BooleanColumn
    | DatetimeColumn
    | FakeColumn
    | PatternColumn
    | SequenceColumn
    | ReferenceColumn,
    Field(discriminator="type"),
]
Columns = Annotated[dict[Name, Column], Field(min_length=1, max_length=COLUMNS_MAX)]


class Correlation(_Part):
    """Two columns of numbers or times that go together."""

    a: Name
    b: Name
    rho: float = Field(ge=-0.99, le=0.99, description="wanted Spearman rank correlation")


class Parent(_Part):
    """A table that references point to."""

    columns: Columns
    n: int = Field(ge=1, le=ROWS_MAX)


class Schema(_Part):
    """What rows look like."""

    columns: Columns
    correlations: list[Correlation] = Field(default_factory=list, max_length=200)
    parents: dict[Name, Parent] = Field(default_factory=dict, max_length=10)


class Fit(BaseModel):
    """One generated column against what was asked."""

    column: str
    type: str
    rows: int
    nulls: int
    distinct: int
    lowest: int | float | str | None = None
    highest: int | float | str | None = None
    distance: float | None = Field(
        default=None,
        description="to the asked distribution: Kolmogorov-Smirnov for numbers, total variation for categories",
    )


class CorrelationFit(BaseModel):
    """One pair of columns against the correlation that was asked."""

    a: str
    b: str
    asked: float
    found: float


class Generated(BaseModel):
    """Rows, and the proof that they obey the schema. The same schema, n and seed give the same ``digest``."""

    n: int
    seed: int
    digest: str = Field(description="SHA-256 of the table as CSV")
    rows: list[dict[str, Any]] = Field(default_factory=list)
    csv: str = ""
    parents: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    parents_csv: dict[str, str] = Field(default_factory=dict)
    fit: list[Fit]
    correlations: list[CorrelationFit] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Fidelity(BaseModel):
    """One column of the real table against the synthetic one. 0 is the same, 1 has nothing in common."""

    column: str
    kind: Literal["number", "time", "category", "shape"]
    method: Literal["kolmogorov-smirnov", "total-variation", "total-variation of shapes"]
    distance: float
    chance: float = Field(description="distance to expect of a true sample of this size: about the 95 % quantile")
    nulls_real: float
    nulls_synthetic: float
    note: str = ""


class Pair(BaseModel):
    """How strongly two columns go together, in both tables."""

    a: str
    b: str
    method: Literal["spearman", "correlation-ratio", "cramers-v"]
    real: float
    synthetic: float
    difference: float


class Dependence(BaseModel):
    """All pairs of columns that have a measure; ``pairs`` holds the 20 that differ the most."""

    compared: int = Field(description="pairs")
    rows_compared: int
    mean_difference: float
    max_difference: float
    pairs: list[Pair]


class Privacy(BaseModel):
    """Whether a synthetic row gives a real one away.

    Distances are Gower's over the columns but texts: 0 is a copy, 1 differs in everything. ``real_to_real`` is how near
    real rows are to each other.
    """

    compared_real: int
    compared_synthetic: int
    copies: int = Field(description="synthetic rows that stand in the real table as they are")
    copies_share: float
    twins_share_real: float = Field(description="share of real rows that have a twin among the other real rows")
    to_real_median: float
    to_real_p05: float
    real_to_real_median: float
    real_to_real_p05: float
    nearer_to_learned_half: float | None = Field(
        description="learned from one random half of the real rows only: share of samples that are nearer to that half "
        "than to the other; about 0.5 when nothing was learned by heart, 1 for copies"
    )
    verdict: Literal["no-sign-of-copying", "copies", "learned-by-heart", "too-few-rows"]
    why: str


class Mimicked(BaseModel):
    """A synthetic table like the given one, with what it keeps and what it gives away."""

    n: int
    seed: int
    rows_real: int
    digest: str = Field(description="SHA-256 of the table as CSV")
    rows: list[dict[str, Any]] = Field(default_factory=list)
    csv: str = ""
    columns: dict[str, str] = Field(description="how each column was understood")
    fidelity: list[Fidelity]
    dependence: Dependence
    privacy: Privacy
    notes: list[str] = Field(default_factory=list)


def _check_numbers(low: float, high: float, distribution: str, mean: float | None, sd: float | None) -> None:
    if low > high:
        raise ValueError(f"min {low} is above max {high}")
    needs_mean = distribution in {"normal", "poisson", "lognormal", "exponential"}
    if needs_mean and mean is None:
        raise ValueError(f"{distribution} needs mean")
    if distribution in {"normal", "lognormal"} and sd is None:
        raise ValueError(f"{distribution} needs sd")
    if distribution in {"poisson", "exponential"} and mean is not None and mean <= 0:
        raise ValueError(f"the mean of {distribution} is above 0")
    if (not needs_mean and mean is not None) or (distribution not in {"normal", "lognormal"} and sd is not None):
        raise ValueError(f"{distribution} does not take {'mean' if mean is not None and not needs_mean else 'sd'}")
