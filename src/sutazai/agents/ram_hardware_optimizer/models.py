"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Literal

from pydantic import BaseModel, Field

from sutazai.runtime.evidence import Finding, Measure


class Series(BaseModel):
    """A recorded memory curve to analyse instead of the live fleet's."""

    process: str = Field(min_length=1, max_length=200, description="name for the report")
    points: list[tuple[int, float]] = Field(
        min_length=1, max_length=20_000, description="[time in milliseconds, bytes], in order of time"
    )
    limit_bytes: int = Field(default=0, ge=0, description="hard limit of the process, 0 for none")


class Owner(BaseModel):
    """One process's memory now. Pages shared by n processes count 1/n for each (PSS)."""

    name: str
    kind: str
    pool: str
    pss: Measure
    private: Measure
    shared: Measure
    page_cache: Measure
    share: Measure = Field(description="share of the fleet's PSS")


class Growth(BaseModel):
    """How one process's memory moves.

    ``basis`` says whether it was computed from the life that runs now or, when that is too short, from the one before.
    """

    process: str
    verdict: Literal["leaking", "stable", "shrinking", "unclear", "not-enough-data"]
    confidence: Literal["high", "medium", "low", "none"]
    why: str
    basis: Literal["current-life", "previous-life", "none"]
    points: Measure
    lives: Measure
    now: Measure
    slope: Measure | None = None
    slope_low: Measure | None = None
    slope_high: Measure | None = None
    growth: Measure | None = None
    fit: Measure | None = Field(default=None, description="R² of a straight line")
    limit: Measure | None = None
    time_to_limit: Measure | None = None
    time_to_limit_earliest: Measure | None = None
    time_to_limit_latest: Measure | None = None


class Analysis(BaseModel):
    """Who holds the memory, who grows, and when a limit is met."""

    at_wall_ms: int
    window_s: int
    owners: list[Owner]
    totals: dict[str, Measure]
    growth: list[Growth]
    leaking: list[str]
    findings: list[Finding]
    notes: list[str]


class Step(BaseModel):
    """One thing that gives memory back without hurting anybody."""

    action: Literal["hibernate", "page-cache"]
    subject: str
    ticket: str = Field(description="of the instance; empty for a process")
    before: Measure
    after: Measure = Field(description="in a dry run: what would be left")
    frees: Measure
    done: bool
    why: str = Field(description="why it was not done")


class Advice(BaseModel):
    """What a person may do beyond that: it costs something, so no agent does it."""

    action: Literal["restart", "lower-limit"]
    subject: str
    frees: Measure
    risk: str
    command: str


class Reclaim(BaseModel):
    """What was given back, or would be in a dry run; all amounts are of the kernel's groups."""

    dry_run: bool
    subject: str
    target: Measure
    before: Measure
    after: Measure
    freed: Measure
    enough: bool
    text: str
    steps: list[Step]
    advice: list[Advice]
    notes: list[str]
