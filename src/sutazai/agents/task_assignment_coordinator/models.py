"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sutazai.runtime.evidence import Measure

TASKS_MAX = 200
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=3, max_length=4_000)]


class SkillGiven(BaseModel):
    """One skill as the fleet describes it."""

    name: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=4_000)
    input: dict[str, Any] = Field(default_factory=dict)
    output: dict[str, Any] = Field(default_factory=dict)


class AgentGiven(BaseModel):
    """A recorded agent, to match against instead of the live fleet's."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    version: str = Field(default="recorded", max_length=100)
    instances_max: int = Field(default=1, ge=1, le=10_000)
    skills: list[SkillGiven] = Field(min_length=1, max_length=100)
    queued: int = Field(default=0, ge=0)
    leased: int = Field(default=0, ge=0)
    succeeded: int = Field(default=0, ge=0)
    dead: int = Field(default=0, ge=0)
    expired: int = Field(default=0, ge=0)


class Weights(BaseModel):
    """How much each component counts; they are scaled to a sum of 1."""

    model_config = ConfigDict(extra="forbid")

    similarity: Share = 0.7
    availability: Share = 0.15
    success: Share = 0.15


class Options(BaseModel):
    """How to compare."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["auto", "embeddings", "tf-idf"] = Field(
        default="auto", description="auto: embeddings of the language model server when it has them, else tf-idf"
    )
    min_similarity: Share | None = Field(
        default=None, description="agents whose best skill is less similar are left out; 0.1, embeddings 0.15"
    )
    weights: Weights = Field(default_factory=Weights)


class Component(BaseModel):
    """One part of a score: where its number comes from, and what it adds."""

    value: Measure
    weight: float
    adds: float
    why: str


class Candidate(BaseModel):
    """One agent for a task, with its best skill. ``score`` is the sum of what the components add."""

    agent: str
    skill: str
    score: float
    similarity: Component
    availability: Component
    success: Component
    matched_words: list[str] = Field(description="words of the task that this skill has, the rarest first")
    other_skills: list[str] = Field(default_factory=list)
    reason: str


class Method(BaseModel):
    """How similarity was computed."""

    name: Literal["embeddings", "tf-idf"]
    skills: int
    why: str
    min_similarity: float = Field(description="pairs below are left out")


class Matched(BaseModel):
    """Agents for a task, the best first."""

    status: Literal["matched", "no-match"]
    method: Method
    weights: Weights
    candidates: list[Candidate]
    notes: list[str]


class TaskAsk(BaseModel):
    """One task of a batch."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=100)
    text: Text
    value: float = Field(default=1.0, gt=0, le=100, description="how much it counts when not all can be placed")


class Placed(BaseModel):
    """A task and who gets it."""

    task: str
    agent: str
    skill: str
    score: float
    first_choice: bool = Field(description="whether this is the agent that scores highest for this task")
    reason: str


class Unplaced(BaseModel):
    """A task that nobody gets, and why."""

    task: str
    reason: Literal["no-skill", "no-capacity"]
    why: str
    best_agent: str = ""
    best_similarity: float = 0.0


class Capacity(BaseModel):
    """What an agent can take in this batch."""

    agent: str
    instances_max: int
    busy: int
    slots: int
    used: int
    source: str


class Assigned(BaseModel):
    """An optimal assignment of the batch."""

    objective: str
    placed: list[Placed]
    unplaced: list[Unplaced]
    capacities: list[Capacity]
    total: float = Field(description="sum of score times value of the placed tasks")
    greedy_placed: int = Field(description="tasks that taking the best remaining pair each time would place")
    greedy_total: float
    method: Method
    weights: Weights
    notes: list[str]
