"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Literal

from pydantic import BaseModel, Field

from sutazai.runtime.evidence import Finding, Measure


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
