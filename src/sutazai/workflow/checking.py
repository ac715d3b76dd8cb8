"""Why it exists: what can be known to be wrong with a workflow is said before anything runs, all of it at once.

References (a step that does not exist, that comes later, that is inside of another), cycles of a ``parallel``, unknown
inputs and variables, unknown agents and skills with near names, parameters that are missing, unknown, or of the wrong
type as far as they are written out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sutazai.outside import OUTSIDE
from sutazai.spec.graph import find_cycle
from sutazai.spec.places import Mistakes, Place
from sutazai.spec.section import one_of
from sutazai.workflow import expression
from sutazai.workflow.kinds import CHOOSE, MAP, PARALLEL, STEPS, is_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sutazai.workflow.model import Flow, Step

    #: Agent → skill → JSON schema of its input.
    Catalogue = Mapping[str, Mapping[str, Mapping[str, Any]]]


def check(flow: Flow, catalogue: Catalogue | None = None, path: str = "workflow") -> None:
    """Find what is wrong with a graph.

    Args:
        flow: as it was read.
        catalogue: what the fleet can do; None leaves agents and skills unchecked.
        path: of the file, for the message.

    Raises:
        ConfigErrors: all mistakes, each at its place.
    """
    mistakes = Mistakes()
    checker = _Checker(flow, mistakes)
    checker.block(flow.root, _Scope({}, frozenset()))
    if catalogue is not None:
        for step in walk(flow.root):
            _skill(step, catalogue, mistakes)
            if step.fallback is not None and "agent" in step.fallback:
                _skill(_stand_in(step, step.fallback), catalogue, mistakes)
    mistakes.raise_if_any(path)


def problems_of_inputs(flow: Flow, given: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the inputs that a run is given."""
    found = [f"unknown input {name!r}: {one_of(name, flow.inputs)}" for name in given if name not in flow.inputs]
    for name, wanted in flow.inputs.items():
        if name not in given:
            if wanted.required:
                found.append(f"the input {name!r} is missing")
        elif not is_of(given[name], wanted.type):
            found.append(f"the input {name!r} must be {wanted.type}, not {kind_of(given[name])}")
    return found


def count(flow: Flow) -> int:
    """How many steps have a name: not the body of a map, nor the branches of a choice."""
    return sum(
        1 for step in walk(flow.root) if step is not flow.root and step.name.isidentifier() and step.name != "do"
    )


def walk(step: Step) -> Iterator[Step]:
    """A step and all inside of it."""
    yield step
    for inner in step.steps:
        yield from walk(inner)


def texts(step: Step) -> Iterator[tuple[str, str, Place]]:
    """All expressions of a step itself, without those of inner steps: its key, the text, its place."""
    for key, text in (("if", step.condition), ("map", step.over)):
        if text:
            yield key, text, step.places.get(key, step.place)
    for key, value in (
        ("with", step.given), ("approve", step.text), ("text", step.text), ("show", step.show), ("output", step.output),
        ("fallback", step.fallback),
    ):  # fmt: skip
        if key in step.places:
            yield from ((key, text, place) for text, place in _texts(value, key, step.places, step.place))


def _texts(value: Any, path: str, places: dict[str, Place], place: Place) -> Iterator[tuple[str, Place]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{path}.{name}", places, place)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{path}.{number}", places, place)
    else:
        for text in expression.expressions(value):
            yield text, places.get(path, place)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What an expression may read.

    Attributes:
        steps: by name.
        variables: of maps around it.
    """

    steps: dict[str, Step]
    variables: frozenset[str]


class _Checker:
    """Follows the order in which steps run."""

    def __init__(self, flow: Flow, mistakes: Mistakes) -> None:
        self._flow, self._mistakes = flow, mistakes
        self._above: dict[str, str] = {}
        for outer in walk(flow.root):
            for inner in outer.steps:
                self._above[inner.name] = outer.name
        self._names = {step.name for step in walk(flow.root) if step is not flow.root and step.name.isidentifier()}

    def block(self, step: Step, scope: _Scope) -> None:
        """Check what is inside of a step."""
        if step.kind == PARALLEL:
            self._parallel(step, scope)
            return
        if step.kind == MAP:
            inner = _Scope(scope.steps, scope.variables | {step.variable})
            for body in step.steps:
                self._step(body, inner)
            return
        if step.kind == CHOOSE:
            for branch in step.steps:
                self._step(branch, scope)
            return
        seen = dict(scope.steps)
        for inner_step in step.steps:
            if inner_step.after:
                self._mistakes.add(
                    f"{inner_step.name}: steps of a list run one after the other",
                    inner_step.places.get("after", inner_step.place),
                    "remove after, or put the steps into a parallel",
                )
            self._step(inner_step, _Scope(seen, scope.variables))
            seen[inner_step.name] = inner_step
        if step.kind == STEPS and step.output is not None:
            self._expressions(step, _Scope(seen, scope.variables), only="output")

    def _step(self, step: Step, scope: _Scope) -> None:
        self._expressions(step, scope)
        self.block(step, scope)

    def _parallel(self, step: Step, scope: _Scope) -> None:
        """Steps see those that they run after; using a result means running after it."""
        siblings = {inner.name: inner for inner in step.steps}
        before = {inner.name: needs(inner, siblings) for inner in step.steps}
        for inner in step.steps:
            for name in inner.after:
                if name not in siblings:
                    self._mistakes.add(
                        f"{inner.name} runs after {name!r}, which is no step beside it",
                        inner.places.get("after", inner.place), one_of(name, siblings),
                    )  # fmt: skip
        if cycle := find_cycle(before):
            place = next((inner.place for inner in step.steps if inner.name == cycle[0]), step.place)
            self._mistakes.add(f"a cycle: {' waits for '.join(cycle)}", place, "no step can be the first of them")
            return
        for inner in step.steps:
            reached = dict(scope.steps)
            todo = list(before[inner.name])
            while todo:
                name = todo.pop()
                if name not in reached:
                    reached[name] = siblings[name]
                    todo += before[name]
            self._step(inner, _Scope(reached, scope.variables))

    def _expressions(self, step: Step, scope: _Scope, only: str = "") -> None:
        for key, text, place in texts(step):
            if (key == "output") != (only == "output"):
                continue
            try:
                found = expression.uses(text)
            except expression.ExpressionError as error:
                self._mistakes.add(str(error), place, "")
                continue
            for name in sorted(found.inputs - {"*"} - set(self._flow.inputs)):
                self._mistakes.add(f"there is no input {name!r}", place, one_of(name, self._flow.inputs))
            if "*" in found.steps:
                self._mistakes.add("steps is not read as a whole", place, "write steps.NAME.result")
            for name in sorted(found.steps - {"*"} - set(scope.steps)):
                self._missing(name, step, place, scope)
            for name in sorted(found.names - scope.variables):
                known = [*scope.variables, "inputs", "steps"]
                hint = f"write steps.{name}.result" if name in scope.steps else one_of(name, known)
                self._mistakes.add(f"there is no {name!r} here", place, hint)

    def _missing(self, name: str, step: Step, place: Place, scope: _Scope) -> None:
        if name == step.name:
            self._mistakes.add(f"{name} uses its own result", place, "use an earlier step's")
        elif name not in self._names:
            self._mistakes.add(f"there is no step {name!r}", place, one_of(name, scope.steps))
        else:
            above = self._above.get(name, "")
            hint = f"use steps.{above}.result" if above in scope.steps else "use a step that has ended by then"
            self._mistakes.add(f"the step {name} has not ended here, or is inside of another one", place, hint)


def needs(step: Step, siblings: Mapping[str, Step]) -> list[str]:
    """Names of the steps beside a step that must be over before it: named by ``after``, or used somewhere in it."""
    found = dict.fromkeys(name for name in step.after if name in siblings)
    for inner in walk(step):
        for _, text, _ in texts(inner):
            try:
                used = expression.uses(text).steps
            except expression.ExpressionError:
                continue
            found |= dict.fromkeys(sorted(name for name in used if name in siblings and name != step.name))
    return list(found)


# Skills and types


def _stand_in(step: Step, fallback: Mapping[str, Any]) -> Step:
    """The step as its fallback would be asked."""
    where = step.places.get("fallback.ask", step.place)
    places = {"ask": where, "with": step.places.get("fallback.given", where)}
    for path, place in step.places.items():
        if path.startswith("fallback.given."):
            places["with" + path.removeprefix("fallback.given")] = place
    return replace(
        step, name=f"{step.name}.fallback", agent=fallback["agent"], skill=fallback["skill"],
        given=fallback.get("given", step.given), places=places,
    )  # fmt: skip


def _skill(step: Step, catalogue: Catalogue, mistakes: Mistakes) -> None:
    if step.kind != "ask" or step.agent in OUTSIDE:
        return
    place = step.places.get("ask", step.place)
    if step.agent not in catalogue:
        mistakes.add(
            f"{step.name}: there is no agent {step.agent!r} in this fleet", place, one_of(step.agent, catalogue)
        )
        return
    skills = catalogue[step.agent]
    if step.skill not in skills:
        mistakes.add(f"{step.name}: {step.agent} has no skill {step.skill!r}", place, one_of(step.skill, skills))
        return
    if isinstance(step.given, dict) and skills[step.skill].get("type", "object") == "object":
        _parameters(step, step.given, skills[step.skill], mistakes)


def _parameters(step: Step, given: dict[str, Any], schema: Mapping[str, Any], mistakes: Mistakes) -> None:
    known = schema.get("properties", {})
    where = step.places.get("with", step.place)
    for name in schema.get("required", ()):
        if name not in given:
            mistakes.add(f"{step.name}: {step.agent}.{step.skill} needs {name}", where, f"write {name}: … below with")
    for name, value in given.items():
        there = step.places.get(f"with.{name}", where)
        if name not in known:
            if schema.get("additionalProperties") is not True:
                problem = f"{step.name}: {step.agent}.{step.skill} has no parameter {name!r}"
                mistakes.add(problem, there, one_of(name, known))
        elif not any(True for _ in expression.expressions(value)):
            for problem in _schema_problems(known[name], schema, value):
                mistakes.add(f"{step.name}: {name}: {problem}", there, "")


def _schema_problems(one: Any, whole: Mapping[str, Any], value: Any) -> list[str]:
    """Hold a value that is written out against its parameter's schema."""
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for({**one, "$defs": whole.get("$defs", {})})
    except ValueError:  # a schema that this library does not know is the agent's to judge
        return []
    return [mistake.message for mistake in validator.iter_errors(value)]
