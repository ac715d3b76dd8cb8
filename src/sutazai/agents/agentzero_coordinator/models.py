"""Why it exists: a goal's progress lives in the task's stored turns, so it is typed like everything that is stored."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from sutazai.runtime.evidence import Finding

ChosenBy = Literal["llm", "verifier", "no-llm", "replan"]


class CatalogueSkill(BaseModel):
    """One skill as ``/v1/agents`` gives it."""

    name: str
    description: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    output: dict[str, Any] = Field(default_factory=dict)


class CatalogueAgent(BaseModel):
    """One agent as ``/v1/agents`` gives it."""

    name: str
    skills: list[CatalogueSkill] = Field(default_factory=list)


class Step(BaseModel):
    """One planned or executed delegation."""

    skill: str = Field(description="agent.skill")
    capability: str = Field(default="", description="what of the goal it covers; empty for an extra of the model")
    stage: int = 1
    chosen_by: ChosenBy
    why: str = ""
    task: str = ""
    status: str = "planned"
    error: str = ""


class Plan(BaseModel):
    """What will be asked of whom, and why."""

    needs: list[str]
    steps: list[Step]
    uncovered: list[str] = Field(description="needs that no skill of this fleet covers")
    planner: Literal["llm", "no-llm"]
    notes: list[str]


class Run(BaseModel):
    """Where a goal stands between two turns."""

    goal: str
    subject: str
    window_s: int
    max_steps: int
    plan: Plan
    open: list[Step] = Field(default_factory=list, description="waited for now, in the order of the results")
    done: list[Step] = Field(default_factory=list)
    results: dict[str, Any] = Field(default_factory=dict, description="what synthesis needs, by capability")
    findings: list[Finding] = Field(default_factory=list)
    entries: list[dict[str, Any]] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    turns: int = 1


class Trace(BaseModel):
    """How the goal was reached: every step with its task, who chose it, and what became of it."""

    planner: Literal["llm", "no-llm"]
    needs: list[str]
    uncovered: list[str]
    steps: list[Step]
    tasks: list[str]
    turns: int
    notes: list[str]


class Outcome(BaseModel):
    """The report and its trace. ``complete`` means: every need was met and every number has its source."""

    goal: str
    subject: str
    complete: bool
    report: str = Field(description="Markdown")
    numbers: int
    sources: list[dict[str, Any]]
    missing: list[str]
    trace: Trace
    findings: list[Finding] = Field(default_factory=list, description="only when no report could be written")


class Delegated(BaseModel):
    """One task that a goal was turned into."""

    task: str
    skill: str = Field(description="agent.skill")
    status: str
    attempt: int
    error: str = ""
    progress: str = ""
    why: str = Field(default="", description="what a queued task waits for")


class GoalState(BaseModel):
    """Where one goal stands."""

    goal_id: str
    status: str
    stage: str = Field(description="the step it goes on with; empty before the first and at the end")
    elapsed_s: float = Field(description="since it was accepted, until now or its end")
    done: int
    open: int
    failed: int
    waits_for: list[str] = Field(description="agent.skill of each task that is open")
    error: str = ""
    delegated: list[Delegated] = Field(default_factory=list)


class Goals(BaseModel):
    """Goals, those that are open first, then the newest."""

    open: int
    goals: list[GoalState]


class Cancelled(BaseModel):
    """What calling a goal off did."""

    goal_id: str
    status: str
    cancelled: list[Delegated] = Field(description="ended by this, or by an earlier call")
    finished_before: list[Delegated] = Field(description="had ended by themselves; their results stay")
