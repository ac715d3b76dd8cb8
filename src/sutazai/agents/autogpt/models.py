"""Why it exists: what is remembered of each step is typed, because a later run goes on with it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

STEPS_MAX = 30


class Budget(BaseModel):
    """What may be used; the first that is used up ends the pursuit."""

    steps: Annotated[int, Field(ge=1, le=STEPS_MAX, description="skills that are asked")] = 6
    tokens: Annotated[int, Field(ge=0, le=100_000, description="of the model, read and written")] = 6_000
    seconds: Annotated[int, Field(ge=5, le=7_000, description="from the beginning, waiting too")] = 600


class Entry(BaseModel):
    """One step: what was thought, done and seen."""

    number: int
    thought: str
    chosen_by: Literal["llm", "words"]
    action: str = Field(description="agent.skill")
    arguments: dict[str, Any] = Field(default_factory=dict)
    task: str = ""
    status: str = "asked"
    facts: list[str] = Field(default_factory=list, description="path: value, as the skill gave them")
    left_out: int = 0
    error: str = ""


class Mind(BaseModel):
    """What a pursuit carries between two turns: bounded by its budget of steps; memory itself is kept apart."""

    goal: str
    budget: Budget
    use_llm: bool
    allowed: list[str] = Field(default_factory=list)
    done: int = Field(default=0, description="entries in memory")
    steps: int = Field(default=0, description="of this run")
    tokens: int = 0
    used: list[str] = Field(default_factory=list, description="action and arguments of all steps")
    digest: list[str] = Field(default_factory=list, description="one line a step, for the model")
    open: Entry | None = None
    notes: list[str] = Field(default_factory=list)
    resumed_from: str = ""


class Pursuit(BaseModel):
    """How far a goal was reached."""

    goal: str
    run: str
    ended: Literal["finished", "nothing-left", "out-of-steps", "out-of-tokens", "out-of-time"]
    answer: str = Field(description="Markdown: the model's words, if there are any, and the facts with their tasks")
    prose: Literal["llm", "none"]
    planner: Literal["llm", "words", "mixed"]
    steps: list[Entry]
    tokens: int
    seconds: float
    removed: list[str] = Field(
        default_factory=list, description="sentences with invented numbers, or that contradict others"
    )
    notes: list[str] = Field(default_factory=list)
    resumed_from: str = ""


class Memory(BaseModel):
    """What a pursuit remembers."""

    run: str
    goal: str
    entries: list[Entry]
