"""Why it exists: who would rather write Python than YAML makes the same graph with it; nothing runs while it is built.

::

    flow = Workflow("review", inputs={"files": "array"})
    flow.add(each("read", "inputs.files", ask("do", "documind.read", file="${item}"), width=4))
    flow.add(approve("ok", "Publish ${len(steps.read.result)} texts?"))
    flow.result("${steps.read.result}")
    client.submit([{"agent": "agent-orchestrator", "skill": "run", "input": {"workflow": flow.document()}}])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.workflow.checking import check
from sutazai.workflow.reading import read_data

if TYPE_CHECKING:
    from sutazai.workflow.checking import Catalogue
    from sutazai.workflow.model import Flow

#: A step as data, of the same form as in a file.
StepData = dict[str, Any]


def ask(name: str, target: str, /, **given: Any) -> StepData:
    """Ask an agent for a skill: ``ask("read", "documind.read", file="${inputs.file}")``."""
    return {"name": name, "ask": target, **({"with": given} if given else {})}


def approve(name: str, text: str, *, show: Any = None) -> StepData:
    """Wait for a person's yes."""
    return {"name": name, "approve": text, **({"show": show} if show is not None else {})}


def signal(name: str, wanted: str, *, text: str = "") -> StepData:
    """Wait for a signal of this name."""
    return {"name": name, "signal": wanted, **({"text": text} if text else {})}


def sequence(name: str, *steps: StepData, output: Any = None) -> StepData:
    """Do steps one after the other."""
    return {"name": name, "steps": [*steps], **({"output": output} if output is not None else {})}


def parallel(name: str, *steps: StepData) -> StepData:
    """Do steps at once; one that uses another's result, or says ``after``, runs behind it."""
    return {"name": name, "parallel": [*steps]}


def each(name: str, over: str, body: StepData, *, variable: str = "item", width: int = 4) -> StepData:
    """Do a step for each item of a list, so many at once."""
    inner = {key: value for key, value in body.items() if key != "name"}
    return {"name": name, "map": over, "as": variable, "width": width, "do": inner}


def when(condition: str, *steps: StepData) -> StepData:
    """A branch of ``choose``."""
    return {"if": condition, "steps": [*steps]}


def otherwise(*steps: StepData) -> StepData:
    """The branch of ``choose`` that is taken when no other one is."""
    return {"steps": [*steps]}


def choose(name: str, *branches: StepData) -> StepData:
    """Do the steps of the first branch whose condition holds."""
    return {"name": name, "choose": [*branches]}


class Workflow:
    """Collects steps.

    Args:
        name: of the workflow.
        inputs: type, or ``{type, default, description}``, by name.
        description: for people.
    """

    def __init__(self, name: str, inputs: dict[str, Any] | None = None, *, description: str = "") -> None:
        self._name, self._inputs, self._description = name, inputs or {}, description
        self._steps: list[StepData] = []
        self._output: Any = None

    def add(self, step: StepData, **options: Any) -> str:
        """Add a step.

        Args:
            step: as made by ``ask``, ``parallel`` …
            **options: what every step may have: ``condition`` (its ``if``), ``on_error``, ``timeout``, ``retry``;
                an ``ask`` also ``fallback`` (``{"value": …}``, or ``{"ask": "agent.skill", "with": {…}}``).

        Returns:
            The expression of its result, to be put into others: ``${steps.NAME.result}``.
        """
        condition = options.pop("condition", None)
        self._steps.append({**step, **options, **({"if": condition} if condition else {})})
        return f"${{steps.{step['name']}.result}}"

    def result(self, output: Any) -> None:
        """Say what the workflow gives; without it the last step's result."""
        self._output = output

    def document(self) -> dict[str, Any]:
        """The workflow as JSON, of the same form as a file."""
        found: dict[str, Any] = {"workflow": self._name}
        if self._description:
            found["description"] = self._description
        if self._inputs:
            found["inputs"] = self._inputs
        found["steps"] = self._steps
        if self._output is not None:
            found["output"] = self._output
        return found

    def graph(self, catalogue: Catalogue | None = None) -> Flow:
        """Read and check it.

        Raises:
            ConfigErrors: all that is wrong with it.
        """
        flow = read_data(self.document(), self._name)
        check(flow, catalogue, self._name)
        return flow
