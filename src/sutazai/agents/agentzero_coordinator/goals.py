"""Why it exists: a goal is a task and what came out of it; how it stands is read off those, never remembered apart."""

import time

from sutazai.agents.agentzero_coordinator.models import Cancelled, Delegated, Goals, GoalState
from sutazai.runtime import Context, NonRetryableError
from sutazai.runtime.own_tasks import OwnTask

SKILL = "achieve"
LIST_MAX = 100
SHOWN_MAX = 20
_CHARACTERS_MAX = 300


def one(ctx: Context, goal_id: str) -> Goals:
    """Say where a goal stands."""
    tree = _goal(ctx.tasks.tree(goal_id))
    return Goals(open=int(not tree[0].is_over), goals=[_state(tree)])


def newest(ctx: Context) -> Goals:
    """Say where the open goals stand, and how the last ones ended."""
    goals = [task for task in ctx.tasks.asked(LIST_MAX) if task.skill == SKILL and not task.parent]
    goals.sort(key=lambda task: task.is_over)
    states = [_state(ctx.tasks.tree(task.id)) for task in goals[:SHOWN_MAX]]
    return Goals(open=sum(not task.is_over for task in goals), goals=states)


def cancel(ctx: Context, goal_id: str, reason: str) -> Cancelled:
    """Call a goal off, with all that it has handed on."""
    before = {task.id: task for task in _goal(ctx.tasks.tree(goal_id))}
    after = ctx.tasks.cancel(goal_id, reason)
    over = [task for task in after[1:] if task.id in before and before[task.id].is_over and task.status != "cancelled"]
    return Cancelled(
        goal_id=goal_id,
        status=after[0].status,
        cancelled=[_delegated(task) for task in after if task.status == "cancelled"],
        finished_before=[_delegated(task) for task in over],
    )


def _goal(tree: list[OwnTask]) -> list[OwnTask]:
    if tree[0].skill != SKILL:
        raise NonRetryableError(f"{tree[0].id} is no goal: it asked for {tree[0].skill}")
    return tree


def _state(tree: list[OwnTask]) -> GoalState:
    goal, handed_on = tree[0], tree[1:]
    end_ms = goal.finished_wall_ms or time.time_ns() // 1_000_000
    return GoalState(
        goal_id=goal.id,
        status=goal.status,
        stage="" if goal.is_over else goal.step,
        elapsed_s=round(max(0, end_ms - goal.created_wall_ms) / 1_000, 3),
        done=sum(task.is_over for task in handed_on),
        open=sum(not task.is_over for task in handed_on),
        failed=sum(task.is_over and task.status != "succeeded" for task in handed_on),
        waits_for=sorted({f"{task.agent}.{task.skill}" for task in handed_on if not task.is_over}),
        error=_error(goal),
        delegated=[_delegated(task) for task in handed_on],
    )


def _delegated(task: OwnTask) -> Delegated:
    return Delegated(
        task=task.id,
        skill=f"{task.agent}.{task.skill}",
        status=task.status,
        attempt=task.attempt,
        error=_error(task),
        progress=str(task.progress.get("text", ""))[:_CHARACTERS_MAX],
        why=task.why[:_CHARACTERS_MAX],
    )


def _error(task: OwnTask) -> str:
    if not task.error:
        return ""
    return f"{task.error.get('code', '')}: {task.error.get('message', '')}"[:_CHARACTERS_MAX]
