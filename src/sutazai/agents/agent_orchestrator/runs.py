"""Why it exists: a run begins with a graph that is known to be right, and can be told and taken up again afterwards."""

import time
from typing import Any

from sutazai.agents.agent_orchestrator.models import Frame, History, HistoryStep, Outcome, Running
from sutazai.agents.agent_orchestrator.scope import child_name
from sutazai.agents.agent_orchestrator.steps import NAME
from sutazai.errors import ConfigErrors, SkillError
from sutazai.ids import named_child_id
from sutazai.limits import TREE_TASKS_MAX
from sutazai.runtime import Context, NonRetryableError, Wait
from sutazai.runtime.own_tasks import OwnTask
from sutazai.workflow.kinds import ROOT

_CHARACTERS_MAX = 300
_HISTORY_MAX = 2_000


class BadWorkflowError(SkillError):
    """The workflow, or what it was given, is wrong; the message holds all mistakes."""

    code = "bad-workflow"
    retryable = False


def start(ctx: Context, workflow: str | dict[str, Any], inputs: dict[str, Any], before: str) -> Wait[Outcome]:
    """Check a workflow, keep it, and start its first block.

    Raises:
        BadWorkflowError: with all that is wrong.
    """
    from sutazai.workflow import checking, reading, storing

    try:
        flow = reading.read_text(workflow) if isinstance(workflow, str) else reading.read_data(workflow)
        checking.check(flow, _catalogue(ctx))
    except ConfigErrors as errors:
        lines = "\n".join(f"  {mistake}" for mistake in errors.exceptions)
        raise BadWorkflowError(f"the workflow has mistakes:\n{lines}") from errors
    if problems := checking.problems_of_inputs(flow, inputs):
        raise BadWorkflowError(f"the inputs do not fit {flow.name}: {'; '.join(problems)}")
    for name, wanted in flow.inputs.items():
        ctx.keep(f"in/{name}", inputs.get(name, wanted.default))
    for key, node in storing.nodes(flow).items():
        ctx.keep(f"n/{key}", node)
    ctx.keep("document", {"workflow": workflow, "inputs": inputs})
    frame = Frame(run=ctx.task.id, key=ROOT, before=named_child_id(before, child_name(ROOT, 0)) if before else "")
    call = ctx.call(NAME, "block", frame.model_dump(mode="json"), name=child_name(ROOT, 0), label=flow.name)
    carry = Running(workflow=flow.name, resumed_from=before)
    return Wait([call], then="finish", carry=carry.model_dump(mode="json"))


def _catalogue(ctx: Context) -> dict[str, dict[str, dict[str, Any]]]:
    return {card.name: {skill["name"]: skill.get("input", {}) for skill in card.skills} for card in ctx.fleet.agents()}


def kept(ctx: Context, run: str) -> dict[str, Any]:
    """Read the workflow of an earlier run that is over.

    Raises:
        NonRetryableError: there is none, it is no run, it still runs, or it has succeeded.
    """
    end = ctx.results([run]).get(run)
    found = ctx.recall(["document"], of=run).get("document") if end is not None else None
    if end is None or found is None:
        raise NonRetryableError(f"there is no run {run!r} of a workflow, or it is long over and was forgotten")
    if not end.is_over:
        raise NonRetryableError(f"the run {run} still runs ({end.status}): cancel it first, or wait")
    if end.ok:
        raise NonRetryableError(f"the run {run} has succeeded: there is nothing to go on with")
    document: dict[str, Any] = found
    return document


def history(ctx: Context, run: str) -> History:
    """Tell what happened in a run."""
    tree = ctx.tasks.tree(run)
    below: dict[str, list[OwnTask]] = {}
    for task in tree[1:]:
        below.setdefault(task.parent or "", []).append(task)
    steps: list[HistoryStep] = []
    todo = [(task, 1) for task in reversed(below.get(run, []))]
    while todo and len(steps) < _HISTORY_MAX:
        task, depth = todo.pop()
        steps.append(_step(task, depth))
        todo += [(inner, depth + 1) for inner in reversed(below.get(task.id, []))]
    return History(run=run, status=tree[0].status, steps=steps, cut=bool(todo) or len(tree) >= TREE_TASKS_MAX)


def _step(task: OwnTask, depth: int) -> HistoryStep:
    end_ms = task.finished_wall_ms or time.time_ns() // 1_000_000
    error = f"{task.error.get('code', '')}: {task.error.get('message', '')}" if task.error else ""
    return HistoryStep(
        step=task.label or task.skill,
        task=task.id,
        skill=f"{task.agent}.{task.skill}",
        status=task.status,
        depth=depth,
        starts=task.starts,
        commits=task.commits,
        lost=task.lost,
        took_s=round(max(0, end_ms - task.created_wall_ms) / 1_000, 3),
        error=error[:_CHARACTERS_MAX],
        fallback="{by} after {instead_of} {status}".format_map(task.fallback) if task.fallback else "",
    )
