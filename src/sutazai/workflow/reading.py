"""Why it exists: a workflow file becomes a graph, or all of its mistakes with file, line and column, at once."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, Any

from sutazai.spec.document import parse_document
from sutazai.spec.document import read_text as read_text_file
from sutazai.spec.places import NOWHERE, Mapping, Mistakes, Node, Place, Scalar, Sequence
from sutazai.spec.section import Section, one_of, plain
from sutazai.workflow import expression
from sutazai.workflow.kinds import (
    APPROVE,
    ASK,
    ATTEMPTS_MAX,
    CHOOSE,
    DEPTH_MAX,
    KINDS,
    MAP,
    PARALLEL,
    PARALLEL_MAX,
    SIGNAL,
    STEPS,
    STEPS_MAX,
    TYPES,
    WIDTH_MAX,
)
from sutazai.workflow.model import Flow, Input, Retry, Step

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = "see docs/howto/write-a-workflow.md"
_RESERVED = frozenset({"inputs", "steps", "true", "false", "null", *keyword.kwlist})


def read_file(path: Path) -> Flow:
    """Read a workflow file.

    Raises:
        ConfigErrors: all mistakes of its form at once, each with file, line, column and a hint.
    """
    return read_text(read_text_file(path, hint=EXAMPLE), str(path))


def read_text(text: str, path: str = "workflow") -> Flow:
    """Read a workflow out of YAML text (JSON is YAML too).

    Args:
        text: of the file.
        path: how it is called in messages.

    Raises:
        ConfigErrors: as ``read_file``.
    """
    mistakes = Mistakes()
    return _read(parse_document(text, path, mistakes, hint=EXAMPLE), path, mistakes)


def read_data(data: dict[str, Any], path: str = "workflow") -> Flow:
    """Read a workflow out of JSON data, as the Python form makes it; mistakes have no lines.

    Raises:
        ConfigErrors: as ``read_file``.
    """
    node = _node(data)
    if not isinstance(node, Mapping):
        node = Mapping((), NOWHERE)
    return _read(node, path, Mistakes())


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Mapping(tuple((Scalar(str(key), NOWHERE), _node(inner)) for key, inner in value.items()), NOWHERE)
    if isinstance(value, list | tuple):
        return Sequence(tuple(_node(inner) for inner in value), NOWHERE)
    if isinstance(value, str):
        return Scalar(value, NOWHERE, quoted=True)
    text = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else None
    return Scalar(text if text is not None else repr(value), NOWHERE)


def _read(document: Mapping, path: str, mistakes: Mistakes) -> Flow:
    place = Place(path, 1, 1) if document.place != NOWHERE else Place(path)
    root = Section(document, "", mistakes, place)
    reader = _Reader(mistakes)
    name = root.identifier("workflow", "workflow", required=True)
    description = root.text("description")
    inputs = _inputs(root)
    steps = reader.steps(root, "steps", 1)
    if not steps and not len(mistakes):
        mistakes.add("the workflow has no steps", root.place, EXAMPLE)
    places: dict[str, Place] = {}
    output = reader.value(root, "output", places)
    root.finish()
    mistakes.raise_if_any(path)
    top = Step(name=name, kind=STEPS, place=place, steps=steps, output=output, places=places)
    return Flow(name, description, inputs, top)


def _inputs(root: Section) -> dict[str, Input]:
    outer = root.section("inputs")
    found: dict[str, Input] = {}
    for name, node in outer.entries() if outer is not None else []:
        if not name.text.isidentifier() or keyword.iskeyword(name.text):
            root.mistakes.add(
                f"the input {name.text!r} has no name that an expression can use", name.place, "write it like a_name"
            )
        if isinstance(node, Scalar):  # the short form: name: type
            found[name.text] = Input(type=_type(node.text, node.place, root.mistakes))
            continue
        section = root.child(node if isinstance(node, Mapping) else Mapping((), name.place), f"inputs.{name.text}")
        default = section.node("default")
        found[name.text] = Input(
            type=_type(section.text("type", "any"), section.place_of("type"), root.mistakes),
            description=section.text("description"),
            required=default is None,
            default=None if default is None else plain(default),
        )
        section.finish()
    return found


def _type(text: str, place: Place, mistakes: Mistakes) -> str:
    if text in TYPES:
        return text
    mistakes.add(f"{text!r} is no type", place, one_of(text, TYPES))
    return "any"


class _Reader:
    """Reads steps; counts them and remembers their names."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._names: dict[str, Place] = {}
        self._count = 0

    def steps(self, section: Section, key: str, depth: int) -> tuple[Step, ...]:
        """Read a list of named steps."""
        node = section.node(key)
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            section.add(key, "here is a list of steps meant", f"write {key}: and below it - name: …")
            return ()
        if not node.items:
            section.add(key, "the list of steps is empty", "write - name: … below it")
        found = []
        for item in node.items:
            if isinstance(item, Mapping):
                found.append(self._named(item, depth))
            else:
                self._mistakes.add("a step has keys with values", item.place, "write - name: … and what it does")
        return tuple(found)

    def _named(self, node: Mapping, depth: int) -> Step:
        section = Section(node, "a step", self._mistakes)
        name = section.text("name", required=True, hint="every step has a name: its result is read by it")
        section.where = name or "a step"
        place = section.place_of("name")
        if name and (not name.isidentifier() or name in _RESERVED):
            self._mistakes.add(f"a step cannot be called {name!r}", place, "use letters, digits and _, like read_file")
        elif name in self._names:
            self._mistakes.add(f"two steps are called {name}", place, f"the first is at {self._names[name]}")
        self._names.setdefault(name, place)
        return self._step(section, name, depth)

    def _step(self, section: Section, name: str, depth: int) -> Step:
        """Read what a step does; its name and place are known."""
        self._count += 1
        if self._count > STEPS_MAX:
            self._mistakes.add(f"a workflow has at most {STEPS_MAX} steps", section.place, "use a map over a list")
            self._mistakes.raise_if_any("the workflow")
        kinds = [kind for kind in KINDS if section.has(kind)]
        if kinds == [MAP, STEPS]:
            kinds = [MAP]
        if len(kinds) != 1:
            problem = f"does two things: {' and '.join(kinds)}" if kinds else "does nothing"
            self._mistakes.add(f"{section.where} {problem}", section.place, f"write one of: {', '.join(KINDS)}")
            section.finish() if kinds else None
            return Step(name, STEPS, section.place)
        if depth > DEPTH_MAX:
            self._mistakes.add(f"steps are nested more than {DEPTH_MAX} deep", section.place, "make it flatter")
            return Step(name, STEPS, section.place)
        kind, places = kinds[0], {"": section.place}
        common: dict[str, Any] = {
            "condition": self._expression(section, "if", places),
            "go_on": section.choice("on_error", ("fail", "continue"), "fail") == "continue",
            "timeout_ms": section.duration_ms("timeout", 0),
            "retry": self._retry(section),
            "after": tuple(item.text for item in section.scalars("after")),
        }
        if section.has("after"):
            places["after"] = section.place_of("after")
        special = getattr(self, f"_{kind}")(section, places, depth)
        section.finish()
        return Step(name=name, kind=kind, place=section.place, places=places, **common, **special)

    def _ask(self, section: Section, places: dict[str, Place], _depth: int) -> dict[str, Any]:
        target = section.text(ASK)
        agent, dot, skill = target.partition(".")
        places[ASK] = section.place_of(ASK)
        if not dot or not agent or not skill:
            section.add(ASK, f"{target!r} names no skill", "write ask: agent.skill")
        given = self.value(section, "with", places)
        if given is not None and not isinstance(given, dict | str):
            section.add("with", "here are the skill's parameters meant", "write name: value below it")
            given = {}
        return {
            "agent": agent, "skill": skill, "given": {} if given is None else given,
            "fallback": self._fallback(section, places),
        }  # fmt: skip

    def _fallback(self, section: Section, places: dict[str, Place]) -> dict[str, Any] | None:
        """Read what takes the place of a skill that fails, or whose agent's circuit is open."""
        inner = section.section("fallback")
        if inner is None:
            return None
        places["fallback"] = section.place_of("fallback")
        found: dict[str, Any] = {"value": None} if "value" in inner.written() else {}  # null is a value
        if ("value" in found) == inner.has(ASK):
            section.add("fallback", "is a value, or another skill", "write value: … or ask: agent.skill below it")
        for key, name in (("value", "value"), ("with", "given")):
            node = inner.node(key)
            if node is not None:
                self._places(node, f"fallback.{name}", places)
                found[name] = plain(node)
        if inner.has(ASK):
            found["agent"], _, found["skill"] = inner.text(ASK).partition(".")
            places["fallback.ask"] = inner.place_of(ASK)
            if not found["agent"] or not found["skill"]:
                inner.add(ASK, f"{inner.text(ASK)!r} names no skill", "write ask: agent.skill")
        if not isinstance(found.get("given", {}), dict | str):
            inner.add("with", "here are the skill's parameters meant", "write name: value below it")
        inner.finish()
        return found

    def _approve(self, section: Section, places: dict[str, Place], _depth: int) -> dict[str, Any]:
        text = self.value(section, APPROVE, places)
        return {"text": str(text), "show": self.value(section, "show", places)}

    def _signal(self, section: Section, places: dict[str, Place], _depth: int) -> dict[str, Any]:
        name = section.text(SIGNAL)
        if not name or "$" in name:
            section.add(SIGNAL, f"{name!r} is no name of a signal", "write it like payment-received")
        return {"skill": name, "text": str(self.value(section, "text", places) or ""),
                "show": self.value(section, "show", places)}  # fmt: skip

    def _steps(self, section: Section, places: dict[str, Place], depth: int) -> dict[str, Any]:
        return {"steps": self.steps(section, STEPS, depth + 1), "output": self.value(section, "output", places)}

    def _parallel(self, section: Section, _places: dict[str, Place], depth: int) -> dict[str, Any]:
        steps = self.steps(section, PARALLEL, depth + 1)
        if len(steps) > PARALLEL_MAX:
            section.add(PARALLEL, f"{len(steps)} steps at once; at most {PARALLEL_MAX}", "use a map, or nest them")
        return {"steps": steps}

    def _map(self, section: Section, places: dict[str, Place], depth: int) -> dict[str, Any]:
        over = self._expression(section, MAP, places)
        variable = section.text("as", "item")
        if not variable.isidentifier() or variable in _RESERVED:
            section.add("as", f"an item cannot be called {variable!r}", "use letters, digits and _, like file")
        width = section.count("width", 4, most=WIDTH_MAX)
        node = section.node("do")
        body: tuple[Step, ...] = ()
        if isinstance(node, Mapping):
            inner = section.child(node, f"{section.where}.do")
            if inner.has("name"):
                inner.add("name", "the step of a map has no name of its own", "remove it: the map's result is a list")
            body = (self._step(inner, "do", depth + 1),)
        elif isinstance(node, Sequence):
            body = (Step("do", STEPS, node.place, steps=self.steps(section, "do", depth + 1)),)
        else:
            self._mistakes.add(
                f"{section.where} says not what to do with each item", section.place, "write do: and a step below it"
            )
        return {"over": over, "variable": variable, "width": width, "steps": body}

    def _choose(self, section: Section, _places: dict[str, Place], depth: int) -> dict[str, Any]:
        node = section.node(CHOOSE)
        branches = []
        if not isinstance(node, Sequence) or not node.items:
            section.add(CHOOSE, "here is a list of branches meant", "write - if: … and steps: … below it")
            return {}
        for number, item in enumerate(node.items):
            if not isinstance(item, Mapping):
                self._mistakes.add("a branch has keys with values", item.place, "write - if: … and steps: …")
                continue
            inner = section.child(item, f"{section.where}.{number}")
            places = {"": item.place}
            condition = self._expression(inner, "if", places)
            if not condition and number < len(node.items) - 1:
                self._mistakes.add(
                    f"{section.where} is never read behind the branch without an if", item.place, "put it last"
                )
            steps = self.steps(inner, STEPS, depth + 1)
            if not inner.has(STEPS):
                self._mistakes.add("a branch has no steps", item.place, "write steps: below it")
            output = self.value(inner, "output", places)
            inner.finish()
            branches.append(
                Step(f"branch {number + 1}", STEPS, item.place, condition, steps=steps, output=output, places=places)
            )
        return {"steps": tuple(branches)}

    def _retry(self, section: Section) -> Retry | None:
        inner = section.section("retry")
        if inner is None:
            return None
        attempts = inner.count("attempts", 3, most=ATTEMPTS_MAX)
        pause, longest = inner.duration_ms("pause", 1_000), inner.duration_ms("longest", 60_000)
        inner.finish()
        return Retry(attempts, pause, max(pause, longest))

    def _expression(self, section: Section, key: str, places: dict[str, Place]) -> str:
        """Read an expression, with or without its braces."""
        text = section.text(key).strip()
        places[key] = section.place_of(key)
        if text.startswith("${") and text.endswith("}"):
            text = text[2:-1]
        if text:
            self._try(text, places[key], whole=True)
        return text

    def value(self, section: Section, key: str, places: dict[str, Place]) -> Any:
        """Read JSON whose texts may hold expressions; remember where each part stands."""
        node = section.node(key)
        if node is None:
            return None
        self._places(node, key, places)
        return plain(node)

    def _places(self, node: Node, path: str, places: dict[str, Place]) -> None:
        places[path] = node.place
        if isinstance(node, Mapping):
            for name, inner in node.entries:
                self._places(inner, f"{path}.{name.text}", places)
                if not isinstance(inner, Scalar):
                    places[f"{path}.{name.text}"] = name.place
        elif isinstance(node, Sequence):
            for number, inner in enumerate(node.items):
                self._places(inner, f"{path}.{number}", places)
        elif "${" in node.text:
            self._try(node.text, node.place, whole=False)

    def _try(self, text: str, place: Place, *, whole: bool) -> None:
        """Note an expression that cannot be read."""
        try:
            for part in [text] if whole else list(expression.expressions(text)):
                expression.parse(part)
        except expression.ExpressionError as error:
            self._mistakes.add(str(error), place, EXAMPLE)
