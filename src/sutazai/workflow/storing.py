"""Why it exists: a run of a thousand steps must not read a thousand steps to do the next one.

A graph is cut into nodes of constant size, each under a key that is its place: the root is ``0``, its third step
``0.2``. A node names the inputs and earlier steps that its own expressions read, those by their keys. So whoever has a
key finds the node, and whoever has the key of a result finds the task that made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.workflow import expression
from sutazai.workflow.checking import needs, texts
from sutazai.workflow.kinds import CHOOSE, MAP, PARALLEL, ROOT, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.workflow.model import Flow, Step

#: Key of a step and its most attempts by the workflow.
Place = tuple[str, int]


def nodes(flow: Flow) -> dict[str, dict[str, Any]]:
    """Cut a checked graph into nodes, by their keys."""
    found: dict[str, dict[str, Any]] = {}
    _store(flow.root, ROOT, {}, found, sorted(flow.inputs))
    return found


def _store(step: Step, key: str, scope: dict[str, Place], found: dict[str, dict[str, Any]], inputs: list[str]) -> None:
    keys = [f"{key}.{number}" for number in range(len(step.steps))]
    places = [
        (inner_key, inner.retry.attempts if inner.retry else 1)
        for inner, inner_key in zip(step.steps, keys, strict=True)
    ]
    inside = {inner.name: place for inner, place in zip(step.steps, places, strict=True)}
    node = _node(step)
    own = [text for name, text, _ in texts(step) if name != "output"]
    if step.kind == CHOOSE:
        node["conditions"] = [branch.condition for branch in step.steps]
        own += [branch.condition for branch in step.steps if branch.condition]
    node["uses"] = _uses(own, scope, inputs)
    if step.kind == STEPS and step.output is not None:
        outputs = [text for name, text, _ in texts(step) if name == "output"]
        node["output_uses"] = _uses(outputs, scope | inside, inputs)
    elif step.kind == STEPS and places:
        node["last"] = places[-1]
    found[key] = node
    seen = scope | inside if step.kind == PARALLEL else dict(scope)
    for inner, place in zip(step.steps, places, strict=True):
        _store(inner, place[0], seen, found, inputs)
        if step.kind == STEPS:
            seen[inner.name] = place


def _node(step: Step) -> dict[str, Any]:
    retry = step.retry
    node: dict[str, Any] = {
        "name": step.name, "kind": step.kind, "if": step.condition, "go_on": step.go_on,
        "timeout_ms": step.timeout_ms, "retry": [retry.attempts, retry.pause_ms, retry.longest_ms] if retry else None,
        "agent": step.agent, "skill": step.skill, "given": step.given, "text": step.text, "show": step.show,
        "over": step.over, "count": len(step.steps), "fallback": step.fallback,
    }  # fmt: skip
    if step.kind == MAP:
        node |= {"variable": step.variable, "width": step.width}
    if step.kind == PARALLEL:
        siblings = {inner.name: inner for inner in step.steps}
        order = list(siblings)
        node["names"] = order
        node["tries"] = [inner.retry.attempts if inner.retry else 1 for inner in step.steps]
        node["after"] = [[order.index(name) for name in needs(inner, siblings)] for inner in step.steps]
    kept = {name: value for name, value in node.items() if value or name in {"kind", "name"}}
    return kept | ({"output": step.output} if step.output is not None else {})


def _uses(given: Iterable[str], scope: dict[str, Place], inputs: list[str]) -> dict[str, Any]:
    names: set[str] = set()
    steps: dict[str, Place] = {}
    for text in given:
        used = expression.uses(text)
        names |= set(inputs) if "*" in used.inputs else used.inputs
        steps |= {name: scope[name] for name in sorted(used.steps) if name in scope}
    return {"inputs": sorted(names), "steps": steps}
