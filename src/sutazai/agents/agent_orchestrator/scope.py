"""Why it exists: a step reads what it uses and nothing else: nodes, inputs and results are fetched when needed.

A result is found by its place: the task of a step is named after the step, so block and key give its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.errors import SkillError
from sutazai.ids import named_child_id
from sutazai.runtime import Context, NonRetryableError, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.agent_orchestrator.models import Above, Frame


class StepFailedError(SkillError):
    """A step of a workflow failed, and nothing in the workflow goes on without it."""

    code = "step-failed"
    retryable = False


def child_name(key: str, attempt: int) -> str:
    """Name the task of one attempt of a step within its block."""
    return f"{key}#{attempt}"


def node_names(keys: Sequence[str]) -> list[str]:
    """Names under which a run keeps its nodes."""
    return [f"n/{key}" for key in keys]


def read_nodes(ctx: Context, frame: Frame, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read nodes of the graph by their keys.

    Raises:
        NonRetryableError: one is missing: this is no block of a run.
    """
    found = ctx.recall(node_names(keys), of=frame.run)
    missing = [key for key in keys if f"n/{key}" not in found]
    if missing:
        raise NonRetryableError(f"the run {frame.run} keeps no step {missing[0]!r}")
    return {key: found[f"n/{key}"] for key in keys}


class Scope:
    """What the expressions of a block may read.

    Args:
        ctx: of the turn.
        frame: of the block.
    """

    def __init__(self, ctx: Context, frame: Frame) -> None:
        self._ctx, self._frame = ctx, frame
        self._blocks = {above.key: (above.task, above.taken_over) for above in frame.above}
        self._blocks[frame.key] = (ctx.task.id, bool(frame.before))
        self.taken_over: dict[str, str] = {}  # in this turn: key and task of an earlier run

    def values(self, uses: dict[str, Any]) -> dict[str, Any]:
        """Read the values that expressions use: ``{inputs, steps, variables…}``."""
        inputs = (
            self._ctx.recall([f"in/{name}" for name in uses["inputs"]], of=self._frame.run) if uses["inputs"] else {}
        )
        ends = self.ends(list(uses["steps"].values()))
        return {
            **self._frame.variables,
            "inputs": {name: inputs.get(f"in/{name}") for name in uses["inputs"]},
            "steps": {name: _seen(ends.get(key)) for name, (key, _) in uses["steps"].items()},
        }

    def ends(self, wanted: Sequence[Sequence[Any]]) -> dict[str, Result]:
        """Find how steps ended, by their keys; one that was left out has no end.

        Args:
            wanted: key of the step and its most attempts.
        """
        tasks: dict[str, list[str]] = {}
        for key, attempts in wanted:
            block, taken_over = self._blocks[key.rpartition(".")[0]]
            tasks[key] = [named_child_id(block, child_name(key, attempt)) for attempt in range(attempts)]
            if taken_over:
                older = self.taken_over.get(key) or self._ctx.recall([f"ref/{key}"], of=block).get(f"ref/{key}")
                tasks[key] += [older] if older else []
        found = self._ctx.results([task for ids in tasks.values() for task in ids]) if tasks else {}
        ends = {}
        for key, ids in tasks.items():
            there = [found[task] for task in ids if task in found]
            if there:
                ends[key] = next((end for end in there if end.ok), there[-1])
        return ends

    def before(self, key: str, attempts: int) -> Result | None:
        """How a step ended in the earlier run that this one resumes; None when it never began there."""
        block = self._frame.before
        ids = [named_child_id(block, child_name(key, attempt)) for attempt in range(attempts)]
        if older := self._ctx.recall([f"ref/{key}"], of=block).get(f"ref/{key}"):
            ids.append(older)
        found = self._ctx.results(ids)
        there = [found[task] for task in ids if task in found]
        return next((end for end in there if end.ok), there[-1] if there else None)

    def take_over(self, key: str, end: Result) -> None:
        """Let the end of a step in an earlier run be its end in this one."""
        self.taken_over[key] = end.task
        self._ctx.keep(f"ref/{key}", end.task)


def _seen(end: Result | None) -> dict[str, Any]:
    """An end as an expression sees it."""
    if end is None:
        return {"status": "skipped", "result": None, "error": None}
    error = {name: end.error.get(name) for name in ("code", "message", "detail")} if end.error else None
    return {"status": end.status, "result": end.result, "error": error}


def around(frame: Frame, task: str) -> list[Above]:
    """The blocks around an inner block of this one."""
    from sutazai.agents.agent_orchestrator.models import Above

    return [*frame.above, Above(key=frame.key, task=task, taken_over=bool(frame.before))]
