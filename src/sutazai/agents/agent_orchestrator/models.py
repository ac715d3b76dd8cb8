"""Why it exists: a run's place lives in stored turns, so it is typed; it holds what is open, never what is done."""

from typing import Any

from pydantic import BaseModel, Field


class Above(BaseModel):
    """A block around another one: where results of its steps are found."""

    key: str
    task: str
    taken_over: bool = Field(default=False, description="some of its steps were finished by an earlier run")


class Frame(BaseModel):
    """What a block is told when it starts; it never changes."""

    run: str = Field(description="task that keeps the graph")
    key: str = Field(description="of its node")
    above: list[Above] = Field(default_factory=list)
    variables: dict[str, Any] = Field(default_factory=dict, description="items of the maps around it")
    before: str = Field(default="", description="the same block of an earlier run; its finished steps are taken over")


class Place(BaseModel):
    """Where a block stands between two turns: of constant size for a list, of the open steps for the others."""

    frame: Frame
    node: dict[str, Any] = Field(description="of this block")
    at: int = Field(default=0, description="steps or items that are over or open, from the first on")
    open: list[tuple[int, int]] = Field(default_factory=list, description="number and attempt, as the results come")
    states: str = Field(default="", description="of a parallel: one letter a step: waiting, open, done, left out")
    total: int = Field(default=0, description="items of a map")


class Running(BaseModel):
    """What a run carries."""

    workflow: str
    resumed_from: str = ""


class Outcome(BaseModel):
    """What a workflow gave."""

    run: str = Field(description="task of the run: sutazai task tree RUN shows all of it")
    workflow: str
    result: Any = None
    resumed_from: str = ""


class HistoryStep(BaseModel):
    """One task of a run."""

    step: str = Field(description="name in the workflow; with the item of a map, and the try when it is not the first")
    task: str
    skill: str = Field(description="agent.skill")
    status: str
    depth: int = Field(description="how deep it is nested")
    starts: int = Field(description="turns that began")
    commits: int = Field(description="turns that left a result, or a wait for others")
    lost: int = Field(description="turns that left nothing: something died")
    took_s: float = Field(description="from its acceptance to its end, or until now")
    error: str = ""
    fallback: str = Field(default="", description="what took its place, and what had ended how")


class History(BaseModel):
    """What happened in a run: each step, and below it what came out of it."""

    run: str
    status: str
    steps: list[HistoryStep]
    cut: bool = Field(default=False, description="there are more tasks than can be shown at once")
