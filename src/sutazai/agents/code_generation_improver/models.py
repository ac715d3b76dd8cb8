"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Literal

from pydantic import BaseModel, Field


class Metrics(BaseModel):
    """What is measured of the code that may be changed; tests are not counted."""

    problems: int = Field(description="findings of ruff: pyflakes, pycodestyle, bugbear, simplify, pyupgrade …")
    complexity: float = Field(description="mean cyclomatic complexity of functions (McCabe), by radon")
    complexity_worst: int
    maintainability: float = Field(description="maintainability index of the worst file, 0 to 100, by radon")
    lines: int = Field(description="source lines without blank lines and comments")


class TestRun(BaseModel):
    """One run of the tests."""

    __test__ = False

    green: bool
    passed: int
    failed: int
    skipped: int
    duration_s: float
    said: str = Field(description="the end of the output when it is not green")


class Change(BaseModel):
    """One proposal and what became of it."""

    source: Literal["ruff", "llm"]
    what: str
    path: str
    accepted: bool
    why: str
    before: Metrics
    after: Metrics | None = None
    tests: TestRun | None = None
    confirmed_by: int = Field(default=0, description="tests that were green before and after")


class Improvement(BaseModel):
    """The diff of all accepted changes, with the measures before and after. Nothing is written to the given place."""

    verdict: Literal["improved", "unchanged"]
    diff: str = Field(description="unified; apply it with `patch -p1`")
    before: Metrics
    after: Metrics
    tests_before: TestRun
    tests_after: TestRun
    changes: list[Change]
    confinement: Literal["bubblewrap", "namespaces", "user"]
    confinement_text: str
    planner: Literal["ruff and llm", "ruff"]
    notes: list[str]


class Measured(BaseModel):
    """The measures of code as it is, and the worst places."""

    metrics: Metrics
    worst: list[str]
    problems: list[str]
