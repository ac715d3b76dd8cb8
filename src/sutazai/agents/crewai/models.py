"""Why it exists: a crew is data that is checked before anything is asked; its work says what came from where."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="lower case, digits and _, like find_out")]


class Role(BaseModel):
    """Somebody in the crew."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    goal: Annotated[str, Field(max_length=300)] = ""
    backstory: Annotated[str, Field(max_length=500)] = ""


class Ask(BaseModel):
    """A skill of the fleet that gives facts to a task."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    skill: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[A-Za-z_]\w*$", description="agent.skill")]
    given: dict[str, Any] = Field(default_factory=dict, alias="with", description="its parameters")


class CrewTask(BaseModel):
    """Something to do."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Annotated[str, Field(min_length=3, max_length=1_000)]
    expected: Annotated[str, Field(max_length=300, description="what its outcome should hold")] = ""
    role: Annotated[str, Field(max_length=60, description="whose it is; empty: the manager decides")] = ""
    context: Annotated[list[Name] | None, Field(description="tasks whose outcome it needs; else the one before")] = None
    ask: Annotated[list[Ask], Field(max_length=8)] = Field(default_factory=list)


class Seen(BaseModel):
    """How an asked skill ended, as a workflow sees it."""

    status: str
    result: Any = None
    error: dict[str, Any] | None = None


class Told(BaseModel):
    """What a role is told of its task."""

    name: str
    description: str
    expected: str = ""
    asked: list[str] = Field(default_factory=list, description="skills that were asked for facts, in their order")


class Brief(BaseModel):
    """All that one task needs."""

    task: Told
    role: str
    roles: list[Role] = Field(min_length=1)
    facts: dict[str, Seen | None] = Field(default_factory=dict, description="how the asked skills ended, in order")
    context: dict[str, str] = Field(default_factory=dict, description="outcomes of other tasks, by name")
    feedback: str = Field(default="", description="why an earlier outcome would not do")
    use_llm: bool = True


class Facts(BaseModel):
    """What one skill gave, cut to what a reader can take in."""

    skill: str
    lines: list[str] = Field(description="path: value, as the skill gave them")
    left_out: int = 0


class Work(BaseModel):
    """The outcome of one task."""

    task: str
    role: str
    text: str = Field(description="Markdown: the model's words, if there are any, and the facts")
    facts: list[Facts]
    failed: list[str] = Field(description="skills that gave nothing, and why")
    prose: Literal["llm", "none"]
    why: str = Field(default="", description="why there are no words of the model")
    removed: list[str] = Field(
        default_factory=list, description="sentences with invented numbers, or that contradict others"
    )


class Assignment(BaseModel):
    """Who does what."""

    roles: dict[str, str] = Field(description="name of the role by task")
    chosen_by: dict[str, Literal["task", "llm", "words"]]
    why: str = ""


class Review(BaseModel):
    """Whether a task's outcome will do."""

    accept: bool
    why: str = ""
    by: Literal["rules", "llm"]


class CrewResult(BaseModel):
    """What a crew came to."""

    run: str = Field(description="task of the workflow: sutazai workflow history RUN")
    process: str
    complete: bool = Field(description="every skill that was asked gave its facts")
    prose: Literal["llm", "some", "none"]
    text: str
    tasks: list[Work]
    notes: list[str]
