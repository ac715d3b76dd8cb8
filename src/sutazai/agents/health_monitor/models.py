"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Literal

from pydantic import BaseModel, Field

from sutazai.runtime.evidence import Finding, Measure

Severity = Literal["critical", "warning", "info"]


class ProcessFact(BaseModel):
    """A process as ``/v1/status`` gives it."""

    name: str
    kind: str = ""
    pool: str = ""
    state: str = "running"
    ready: bool = True
    restarts: int = 0
    oom_kills: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    source: str = ""


class ConditionFact(BaseModel):
    """An active condition as ``/v1/conditions`` gives it."""

    name: str
    subject: str
    severity: Severity = "warning"
    text: str = ""
    since_wall_ms: int = 0
    depends_on: list[str] = Field(default_factory=list)
    fix: str = ""
    source: str = ""


class SpanFact(BaseModel):
    """A condition with its end, from the history."""

    name: str
    subject: str
    severity: Severity = "warning"
    text: str = ""
    raised_wall_ms: int
    cleared_wall_ms: int | None = None
    source: str = ""


class EventFact(BaseModel):
    """An event as ``/v1/events`` gives it."""

    at_wall_ms: int
    kind: str
    subject: str
    text: str = ""
    source: str = ""


class ProbeFact(BaseModel):
    """Liveness checks of a process: 1 passed, 0 failed."""

    process: str
    points: list[tuple[int, float]] = Field(default_factory=list, max_length=90_000)
    source: str = ""


class Recorded(BaseModel):
    """All facts of a report; given as input, they are judged instead of the live fleet's."""

    at_wall_ms: int
    processes: list[ProcessFact] = Field(default_factory=list)
    conditions: list[ConditionFact] = Field(default_factory=list)
    history: list[SpanFact] = Field(default_factory=list)
    events: list[EventFact] = Field(default_factory=list)
    probes: list[ProbeFact] = Field(default_factory=list)


class Problem(BaseModel):
    """One thing that is or was wrong. ``root`` ones explain the others; ``derived`` ones are no condition."""

    name: str
    subject: str
    severity: Severity
    state: Literal["active", "recent"]
    root: bool
    depth: int = Field(description="0 for a root cause, more for its echoes")
    caused_by: list[str]
    derived: bool
    since: Measure
    until: Measure | None = None
    text: Measure
    fix: str = ""


class ProcessHealth(BaseModel):
    """One process now and in the window."""

    name: str
    kind: str
    pool: str
    state: str
    probe: Literal["passing", "failing", "none"]
    restarts: Measure
    restarts_in_window: Measure
    oom_kills: Measure
    memory: Measure
    limit: Measure | None = None
    share: Measure | None = Field(default=None, description="memory by limit")
    availability: Measure | None = Field(default=None, description="share of liveness checks passed in the window")
    outages: Measure | None = None
    mttr: Measure | None = Field(
        default=None, description="mean time from the first failed check to the next passed one"
    )


class Report(BaseModel):
    """What is unhealthy now, root causes first. ``worst`` is the subject to look into first, empty when all is well."""

    at_wall_ms: int
    window_s: int
    verdict: Literal["healthy", "degraded", "unhealthy"]
    worst: str
    problems: list[Problem]
    processes: list[ProcessHealth]
    findings: list[Finding]


class Change(BaseModel):
    """One thing in the history of a subject."""

    at: Measure
    until: Measure | None = None
    what: Measure


class History(BaseModel):
    """What a subject went through."""

    subject: str
    window_s: int
    changes: list[Change]
    availability: Measure | None = None
    outages: Measure
    mttr: Measure | None = None
    restarts: Measure
    oom_kills: Measure
    findings: list[Finding]
