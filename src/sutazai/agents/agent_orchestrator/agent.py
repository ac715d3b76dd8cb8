"""Why it exists: the skills of agent-orchestrator: run a workflow, go on with one that failed, tell what happened.

``run`` reads and checks the graph, keeps it in pieces, and starts its first block. A ``block`` is a task of its own;
each of its turns takes the results that came, starts what comes next, and commits both at once. So a kill at any moment
costs the turn that ran and nothing that was done.
"""

from typing import Annotated, Any

from pydantic import Field

from sutazai.agents.agent_orchestrator import blocks, runs, scope
from sutazai.agents.agent_orchestrator.models import Frame, History, Outcome, Place, Running
from sutazai.runtime import Agent, Context, Result, Wait

agent = Agent("agent-orchestrator")

RunId = Annotated[str, Field(min_length=1, max_length=80, description="task of the run")]


@agent.skill
def run(
    ctx: Context,
    workflow: Annotated[str | dict[str, Any], Field(description="the workflow: YAML text, or the same as JSON")],
    inputs: Annotated[dict[str, Any] | None, Field(description="its inputs by name")] = None,
) -> Wait[Outcome]:
    """Run a workflow of other agents' skills: check all of it first, then do each step once, whatever is killed."""
    return runs.start(ctx, workflow, inputs or {}, "")


@agent.skill
def resume(ctx: Context, run: RunId) -> Wait[Outcome]:
    """Go on with a run that failed, expired or was cancelled: steps that had finished are taken over, not repeated."""
    kept = runs.kept(ctx, run)
    return runs.start(ctx, kept["workflow"], kept["inputs"], run)


@agent.skill
def history(ctx: Context, run: RunId) -> History:
    """Tell what happened in a run: each step with its starts and commits, and where it waits or failed."""
    return runs.history(ctx, run)


@agent.skill
def block(ctx: Context, frame: Frame) -> Wait[Any]:
    """Inner part of a run, asked for by run alone: do the steps of one block."""
    node = scope.read_nodes(ctx, frame, [frame.key])[frame.key]
    place = Place(frame=frame, node=node)
    found: Wait[Any] = blocks.begin(ctx, place)
    return found


@agent.step
def advance(ctx: Context, results: list[Result], carry: Place) -> Wait[Any]:
    """Take the results of steps and start what comes next."""
    found: Wait[Any] = blocks.go_on(ctx, carry, results)
    return found


@agent.step
def finish(ctx: Context, results: list[Result], carry: Running) -> Outcome:
    """Close a run."""
    end = results[0]
    if not end.ok:
        why = (end.error or {}).get("message") or end.status
        raise scope.StepFailedError(f"{why}; go on behind what is done with: sutazai workflow resume {ctx.task.id}")
    return Outcome(run=ctx.task.id, workflow=carry.workflow, result=end.result, resumed_from=carry.resumed_from)
