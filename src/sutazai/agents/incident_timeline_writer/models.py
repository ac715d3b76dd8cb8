"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Literal

from pydantic import BaseModel, Field

from sutazai.runtime.evidence import Finding, Measure


class Entry(BaseModel):
    """One line of the time line. ``text`` is a quotation; ``count`` is above one for a group of like log lines."""

    at: Measure
    until: Measure | None = None
    kind: Literal["restart", "oom-kill", "condition", "deploy", "log", "event"]
    subject: str = Field(max_length=200)
    text: Measure
    level: Literal["info", "warning", "error"] = "info"
    count: Measure | None = None


class Pattern(BaseModel):
    """Log lines that differ in their numbers only."""

    process: str
    pattern: str
    level: str
    count: Measure
    first: Measure
    last: Measure
    sample: Measure


class Timeline(BaseModel):
    """What happened, in order."""

    window_s: int
    subject: str
    entries: list[Entry]
    patterns: list[Pattern]
    findings: list[Finding]
    notes: list[str]


class LogLine(BaseModel):
    """A recorded log line."""

    at_wall_ms: int
    process: str
    level: str = "info"
    text: str
    source: str = ""


class EventLine(BaseModel):
    """A recorded event, as ``/v1/events`` gives it."""

    at_wall_ms: int
    kind: str
    subject: str
    text: str = ""
    source: str = ""


class Span(BaseModel):
    """A recorded condition, as the history of ``/v1/conditions`` gives it."""

    name: str
    subject: str
    severity: str = "warning"
    text: str = ""
    raised_wall_ms: int
    cleared_wall_ms: int | None = None
    source: str = ""


class Recorded(BaseModel):
    """Facts to order instead of the live fleet's."""

    events: list[EventLine] = Field(default_factory=list, max_length=5_000)
    conditions: list[Span] = Field(default_factory=list, max_length=5_000)
    logs: list[LogLine] = Field(default_factory=list, max_length=5_000)


class Source(BaseModel):
    """Where numbers of the report come from, and which numbers."""

    id: str
    source: str
    values: list[str]


class Draft(BaseModel):
    """A post-mortem in Markdown. ``untraced`` is empty when every number has a source that resolves."""

    markdown: str
    sources: list[Source]
    numbers: int
    untraced: list[str]
    prose: Literal["language-model", "dropped", "none"]
    prose_why: str
