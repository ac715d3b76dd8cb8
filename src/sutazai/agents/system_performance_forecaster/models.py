"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Literal

from pydantic import BaseModel, Field


class Measure(BaseModel):
    """A number (or a quotation) that can be traced: value, unit, source.

    Units: ``ratio`` is 0 to 1, ``wall_ms`` a point in time (milliseconds since 1970 UTC), ``text`` a quotation.
    """

    value: float | int | str
    unit: Literal["bytes", "bytes/s", "s", "ratio", "count", "wall_ms", "text"]
    source: str = Field(min_length=1, max_length=400)


class Finding(BaseModel):
    """One statement: a sentence whose ``{places}`` are measures; it holds no other number."""

    section: Literal["unhealthy", "cause", "impact", "forecast", "timeline", "action", "missing"]
    subject: str = Field(default="", max_length=200)
    text: str = Field(min_length=1, max_length=1000)
    measures: dict[str, Measure] = Field(default_factory=dict)


class Point(BaseModel):
    """One forecast value with its interval."""

    at_wall_ms: int
    value: float
    low: float
    high: float


class Backtest(BaseModel):
    """How well the models would have forecast this series' own past (rolling origin)."""

    folds: Measure
    horizon: Measure
    error: Measure = Field(description="mean absolute error of the chosen model")
    naive_error: Measure = Field(description="mean absolute error of 'it stays as it is'")
    coverage: Measure = Field(description="share of past values inside the interval, before it was widened")


class Forecast(BaseModel):
    """Where a series goes. ``points`` is thinned to at most 60."""

    status: Literal["ok", "constant", "not-enough-data"]
    metric: str
    labels: dict[str, str]
    model: Literal["constant", "naive", "drift", "holt", "none"]
    level: Measure
    observed: Measure
    needed: Measure
    now: Measure | None = None
    end: Measure | None = None
    end_low: Measure | None = None
    end_high: Measure | None = None
    points: list[Point] = Field(default_factory=list)
    backtest: Backtest | None = None
    findings: list[Finding] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Exhaustion(BaseModel):
    """When memory meets its limit. ``latest`` is missing when the slow end of the interval does not meet it in time."""

    status: Literal["exhausts", "not-within-horizon", "not-enough-data", "no-limit"]
    subject: str
    kind: Literal["process", "pool"]
    method: Literal["forecast", "earlier-lives", "none"]
    model: Literal["constant", "naive", "drift", "holt", "none"] = "none"
    horizon: Measure
    observed: Measure
    needed: Measure
    now: Measure | None = None
    limit: Measure | None = None
    left: Measure | None = None
    earliest: Measure | None = None
    latest: Measure | None = None
    at: Measure | None = None
    backtest: Backtest | None = None
    findings: list[Finding] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
