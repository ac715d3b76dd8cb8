"""Why it exists: the skills of task-assignment-coordinator: read who is there, score, rank, assign."""

from typing import Annotated

from pydantic import Field

from sutazai.agents.task_assignment_coordinator import assigning, candidates, comparing, scoring
from sutazai.agents.task_assignment_coordinator.models import (
    TASKS_MAX,
    AgentGiven,
    Assigned,
    Matched,
    Options,
    TaskAsk,
    Text,
)
from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("task-assignment-coordinator")

Given = Annotated[list[AgentGiven] | None, Field(min_length=1, max_length=200, description="recorded agents instead")]


@agent.skill
def match(
    task: Text,
    ctx: Context,
    limit: Annotated[int, Field(ge=1, le=50, description="how many agents to give")] = 5,
    options: Options | None = None,
    agents: Given = None,
) -> Matched:
    """Rank agents for a task with reasons: skill similarity, load now and past success, each with its source."""
    workers, notes = _workers(ctx, agents)
    how = options or Options()
    shares = scoring.scaled(how.weights)
    skills, fits, used = comparing.compare(ctx, workers, [task], how)
    ranked = scoring.candidates(workers, skills, fits[0], used, shares)
    kept = [one for one in ranked if float(one.similarity.value.value) >= used.min_similarity][:limit]
    if not kept:
        notes.append("no agent says that it does this; the nearest words are told by a lower min_similarity")
    return Matched(status="matched" if kept else "no-match", method=used, weights=shares, candidates=kept, notes=notes)


@agent.skill
def assign(
    tasks: Annotated[list[TaskAsk], Field(min_length=1, max_length=TASKS_MAX)],
    ctx: Context,
    rounds: Annotated[int, Field(ge=1, le=100, description="tasks that one instance may take one after the other")] = 1,
    options: Options | None = None,
    agents: Given = None,
) -> Assigned:
    """Assign a batch of tasks to agents optimally under their capacities, and say what could not be placed and why."""
    names = [task.id for task in tasks]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NonRetryableError(f"two tasks have the id {twice!r}")
    workers, notes = _workers(ctx, agents)
    how = options or Options()
    shares = scoring.scaled(how.weights)
    skills, fits, used = comparing.compare(ctx, workers, [task.text for task in tasks], how)
    ranked = [scoring.candidates(workers, skills, fit, used, shares) for fit in fits]
    plan = assigning.assign(tasks, ranked, assigning.capacities(workers, rounds), used.min_similarity)
    return Assigned(
        objective=assigning.OBJECTIVE, placed=plan.placed, unplaced=plan.unplaced, capacities=plan.capacities,
        total=plan.total, greedy_placed=plan.greedy[0], greedy_total=plan.greedy[1], method=used, weights=shares,
        notes=[*notes, "this is a proposal: no task was submitted"],
    )  # fmt: skip


def _workers(ctx: Context, agents: list[AgentGiven] | None) -> tuple[list[candidates.Worker], list[str]]:
    if agents is not None:
        names = [one.name for one in agents]
        if len(set(names)) != len(names):
            raise NonRetryableError("agents: a name stands there twice")
        return candidates.given(agents), []
    workers, notes = candidates.live(ctx.fleet, agent.name)
    if not workers:
        raise NonRetryableError("this fleet has no other agent with a skill")
    return workers, notes
