"""Why it exists: starting a step, judging its end and trying it again are the same in every kind of block."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sutazai.agents.agent_orchestrator.models import Frame
from sutazai.agents.agent_orchestrator.scope import StepFailedError, around, child_name
from sutazai.outside import HUMAN, SIGNAL
from sutazai.runtime import Fallback, NonRetryableError
from sutazai.workflow import expression
from sutazai.workflow.kinds import APPROVE, ASK, BLOCKS, CHOOSE
from sutazai.workflow.kinds import SIGNAL as SIGNAL_KIND

if TYPE_CHECKING:
    from sutazai.agents.agent_orchestrator.models import Place
    from sutazai.agents.agent_orchestrator.scope import Scope
    from sutazai.runtime import Call, Context, Result

NAME = "agent-orchestrator"
_TRIED_AGAIN = frozenset({"dead", "expired"})


class Steps:
    """Starts and judges the steps of one block.

    Args:
        ctx: of the turn.
        place: of the block.
        scope: what its expressions read.
    """

    def __init__(self, ctx: Context, place: Place, scope: Scope) -> None:
        self._ctx, self._frame, self._scope = ctx, place.frame, scope

    def start(
        self, key: str, node: dict[str, Any], variables: dict[str, Any] | None = None, item: str = ""
    ) -> Call | None:
        """Make the call of a step's first attempt.

        Args:
            key: of the step.
            node: its node.
            variables: of a map's item.
            item: sets apart the items of a map.

        Returns:
            None when there is nothing to do: its condition does not hold, or an earlier run has finished it.
        """
        values = self._values(node, variables)
        if "if" in node and not self._compute(node, lambda: expression.is_true(node["if"], values)):
            return None
        name, before = f"{key}{item}", ""
        if self._frame.before:
            end = self._scope.before(name, attempts(node))
            if end is not None and end.ok:
                self._scope.take_over(name, end)
                return None
            before = end.task if end is not None and node["kind"] in BLOCKS else ""
        return self._call(key, node, values, (item, 0, before))

    def again(self, key: str, node: dict[str, Any], attempt: int, variables: dict[str, Any] | None = None,
              item: str = "") -> Call | None:  # fmt: skip
        """Make the call of a later attempt, after its pause."""
        return self._call(key, node, self._values(node, variables), (item, attempt, ""))

    def _values(self, node: dict[str, Any], variables: dict[str, Any] | None) -> dict[str, Any]:
        return {**self._scope.values(node["uses"]), **(variables or {})}

    def _compute(self, node: dict[str, Any], compute: Any) -> Any:
        try:
            return compute()
        except expression.ExpressionError as error:
            raise StepFailedError(f"step {node['name']}: {error}") from error

    def _call(self, key: str, node: dict[str, Any], values: dict[str, Any], which: tuple[str, int, str]) -> Call | None:
        item, attempt, before = which
        options: dict[str, Any] = {
            "name": child_name(f"{key}{item}", attempt),
            "label": node["name"] + item.replace(":", " ") + (f" (try {attempt + 1})" if attempt else ""),
        }
        if timeout_ms := node.get("timeout_ms"):
            options["deadline_s"] = timeout_ms / 1_000
        if attempt:
            options["delay_s"] = pause_ms(node["retry"], attempt, f"{self._ctx.task.id}{key}{item}") / 1_000
        kind = node["kind"]
        if kind == ASK:
            if "retry" in node:
                options["attempts_max"] = 1  # the workflow counts: not attempts times attempts
            given = self._compute(node, lambda: expression.fill(node.get("given", {}), values))
            if not isinstance(given, dict):
                raise StepFailedError(
                    f"step {node['name']}: with is no object of parameters but {type(given).__name__}"
                )
            if "fallback" in node and attempt + 1 >= attempts(node):
                options["fallback"] = self._fallback(node, values)
            return self._ctx.call(node["agent"], node["skill"], given, **options)
        if kind in {APPROVE, SIGNAL_KIND}:
            asked = self._compute(
                node, lambda: expression.fill({"text": node.get("text", ""), "show": node.get("show")}, values)
            )
            agent, skill = (HUMAN, "approve") if kind == APPROVE else (SIGNAL, node["skill"])
            return self._ctx.call(agent, skill, asked, **options)
        inner = key
        if kind == CHOOSE:
            number = self._chosen(node, values)
            if number is None:
                return None
            inner = f"{key}.{number}"
        above = around(self._frame, self._ctx.task.id)
        frame = Frame(
            run=self._frame.run, key=inner, above=above, before=before,
            variables={name: value for name, value in values.items() if name not in {"inputs", "steps"}},
        )  # fmt: skip
        return self._ctx.call(NAME, "block", frame.model_dump(mode="json"), **options)

    def _fallback(self, node: dict[str, Any], values: dict[str, Any]) -> Any:
        """What takes the place of the last attempt of a step: a value, or another agent's skill."""
        found = self._compute(node, lambda: expression.fill(node["fallback"], values))
        if "agent" not in found:
            return found.get("value")
        given = found.get("given")
        if given is not None and not isinstance(given, dict):
            raise StepFailedError(f"step {node['name']}: with of its fallback is no object of parameters")
        return Fallback(found["agent"], found["skill"], given)

    def _chosen(self, node: dict[str, Any], values: dict[str, Any]) -> int | None:
        for number, condition in enumerate(node["conditions"]):
            if not condition or self._compute(node, lambda text=condition: expression.is_true(text, values)):
                return number
        return None

    def cancel(self, calls: list[str]) -> None:
        """Call off what is open: the block is about to fail. At once; doing it again changes nothing."""
        for task in calls:
            self._ctx.tasks.cancel(task, "another step of the same block failed")


def attempts(node: dict[str, Any]) -> int:
    """Most attempts of a step by the workflow."""
    return int(node["retry"][0]) if "retry" in node else 1


def pause_ms(retry: list[int], attempt: int, seed: str) -> int:
    """The pause before an attempt: exponential with full jitter, drawn from the step's own name, so always the same."""
    _, first_ms, longest_ms = retry
    ceiling = min(longest_ms, first_ms << min(attempt - 1, 20))
    draw = int.from_bytes(hashlib.sha256(f"{seed}#{attempt}".encode()).digest()[:4], "big") / (1 << 32)
    return max(1, int(ceiling * draw))


def may_try_again(node: dict[str, Any], end: Result, attempt: int) -> bool:
    """Whether the workflow tries a step that failed once more."""
    if attempt + 1 >= attempts(node):
        return False
    code = (end.error or {}).get("code")
    return end.status in _TRIED_AGAIN or (end.status == "failed" and code == StepFailedError.code)


def failure(node: dict[str, Any], end: Result, item: str = "") -> StepFailedError:
    """Say which step failed and why."""
    why = (end.error or {}).get("message") or end.status
    code = (end.error or {}).get("code")
    if code == StepFailedError.code:  # the inner step has said it
        return StepFailedError(why)
    return StepFailedError(f"step {node['name']}{item} {end.status}: {why}" + (f" ({code})" if code else ""))


def not_a_block(key: str) -> NonRetryableError:
    """Somebody asked for a block by hand."""
    return NonRetryableError(f"{key!r} is no block of a run: ask for run")
