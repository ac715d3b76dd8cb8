"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Severity = Literal["error", "warning"]
Confidence = Literal["high", "medium", "low"]


class Place(BaseModel):
    """A range of one file; lines and columns count from 1."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


class SecurityFinding(BaseModel):
    """One fault. `trace` is the way of outside data, from source to sink; empty when none is followed."""

    rank: int
    rule: str
    title: str
    cwe: str
    severity: Severity
    confidence: Confidence
    message: str
    place: Place
    code: str = Field(description="the lines, at most 400 characters")
    trace: list[Place]


class Scan(BaseModel):
    """All faults, the worst first, and the same as SARIF 2.1.0."""

    verdict: Literal["faults", "clean", "incomplete"] = Field(
        description="incomplete: no fault was found, but a file could not be read to its end"
    )
    findings: list[SecurityFinding]
    suppressed: int = Field(description="faults that the code's author marked with nosemgrep")
    files: list[str] = Field(description="files that were scanned")
    skipped: list[str] = Field(description="files in a language that no rule is for")
    errors: list[str] = Field(description="what could not be read or took too long")
    rules: int
    engine: str
    sarif: dict[str, Any]
    notes: list[str]


class Rule(BaseModel):
    """A rule that comes with the product."""

    id: str
    title: str
    cwe: str
    severity: Severity
    confidence: Confidence
    languages: list[str]
    message: str


class Rules(BaseModel):
    """All rules."""

    rules: list[Rule]
