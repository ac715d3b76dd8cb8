"""A workflow is read and checked as a whole: one graph from YAML and Python, all mistakes at once with their places."""

from __future__ import annotations

from typing import Any

import pytest

from sutazai.errors import ConfigErrors
from sutazai.workflow import (
    Workflow,
    approve,
    ask,
    check,
    choose,
    each,
    otherwise,
    parallel,
    read_data,
    read_text,
    sequence,
    signal,
    when,
)
from sutazai.workflow.checking import problems_of_inputs
from sutazai.workflow.storing import nodes

GOOD = """
workflow: review
inputs:
  files: {type: array, description: what to read}
  limit: {type: integer, default: 3}
steps:
  - name: read
    map: inputs.files
    as: file
    width: 2
    do: {ask: documind.read, with: {file: "${file}"}}
    timeout: 10m
  - name: both
    parallel:
      - {name: one, ask: documind.count, with: {n: 1}}
      - {name: two, ask: documind.count, with: {n: "${steps.one.result}"}}
  - name: way
    if: steps.both.result.two > inputs.limit
    choose:
      - if: inputs.limit > 1
        steps:
          - {name: ok, approve: "Publish ${len(steps.read.result)}?"}
      - steps:
          - {name: sent, signal: go-on}
    retry: {attempts: 2, pause: 1s, longest: 10s}
output: {texts: "${steps.read.result}"}
"""
SCHEMA = {"properties": {"file": {"type": "string"}}, "required": ["file"], "additionalProperties": False}
COUNT = {"properties": {"n": {"type": "integer", "maximum": 5}}}
CATALOGUE: dict[str, Any] = {"documind": {"read": SCHEMA, "count": COUNT}}


def built() -> Workflow:
    """The same in Python."""
    flow = Workflow(
        "review",
        {"files": {"type": "array", "description": "what to read"}, "limit": {"type": "integer", "default": 3}},
    )
    texts = flow.add(
        each("read", "inputs.files", ask("do", "documind.read", file="${file}"), variable="file", width=2),
        timeout="10m",
    )
    flow.add(parallel("both", ask("one", "documind.count", n=1), ask("two", "documind.count", n="${steps.one.result}")))
    flow.add(
        choose(
            "way",
            when("inputs.limit > 1", approve("ok", "Publish ${len(steps.read.result)}?")),
            otherwise(signal("sent", "go-on")),
        ),
        condition="steps.both.result.two > inputs.limit",
        retry={"attempts": 2, "pause": "1s", "longest": "10s"},
    )
    flow.result({"texts": texts})
    return flow


def mistakes(text: str, catalogue: Any = CATALOGUE) -> list[str]:
    """All that is wrong with a text."""
    with pytest.raises(ConfigErrors) as caught:
        check(read_text(text, "f.yaml"), catalogue, "f.yaml")
    return [str(mistake) for mistake in caught.value.exceptions]


def test_yaml_and_python_make_one_graph() -> None:
    """Equal to the last field but the places; the data form can be given to ``run`` too."""
    flow = read_text(GOOD)
    check(flow, CATALOGUE)
    assert built().graph(CATALOGUE) == flow
    assert nodes(read_data(built().document())) == nodes(flow)


def test_a_graph_is_cut_into_small_pieces() -> None:
    """No piece grows with the number of steps; each names what it reads, by place."""
    found = nodes(read_text(GOOD))
    assert found["0.2"]["uses"] == {"inputs": ["limit"], "steps": {"both": ("0.1", 1)}}
    assert found["0.1"]["after"] == [[], [0]]
    assert found["0"]["output_uses"]["steps"] == {"read": ("0.0", 1)}
    many = Workflow("many")
    for number in range(1_000):
        many.add(sequence(f"s{number}", ask(f"a{number}", "documind.count", n=1)))
    pieces = nodes(many.graph())
    assert len(pieces) == 2_001
    assert max(len(str(piece)) for piece in pieces.values()) < 300


FORM = """
workflow: Review
inputs: {files: arry, "a-b": any}
steps:
  - name: a
    ask: documind
    foo: 1
  - name: a
    ask: documind.read
    with: {file: "${inputs.files +}"}
  - name: for
    map: inputs.files
    width: 900
  - {name: c, ask: x.y, approve: z}
  - name: d
    choose:
      - steps: [{name: e, signal: "$x"}]
      - if: true
        steps: []
  - nothing
  - {name: f}
  - {name: g, ask: x.y, timeout: 3, retry: {attempts: 99}, on_error: ignore}
  - {ask: x.y}
  - {name: h, ask: x.y, fallback: 3}
  - {name: i, ask: x.y, fallback: {value: 1, ask: x.z}}
  - {name: j, ask: x.y, fallback: {ask: x, with: [1], els: 2}}
"""


def test_all_mistakes_of_form_at_once() -> None:
    """Each with line and column, and what to write."""
    found = mistakes(FORM)
    wanted = [
        "2:11: workflow: name 'Review' is not allowed (write review",
        "3:17: 'arry' is no type (did you mean array?)",
        "3:23: the input 'a-b' has no name that an expression can use",
        "6:10: a.ask: 'documind' names no skill (write ask: agent.skill)",
        "7:5: unknown key 'foo' in a",
        "8:11: two steps are called a (the first is at f.yaml:5:11)",
        "10:18: 'inputs.files +' is no expression",
        "11:11: a step cannot be called 'for'",
        "13:12: for.width: 900 is out of bounds",
        "says not what to do with each item",
        "c does two things: ask and approve",
        "is never read behind the branch without an if",
        "'$x' is no name of a signal",
        "the list of steps is empty",
        "20:5: a step has keys with values",
        "f does nothing",
        "g.timeout: 3 has no unit",
        "g.on_error: 'ignore' is unknown",
        "99 is out of bounds",
        "a step has no name",
        "h.fallback: here are keys with values meant",
        "i.fallback: is a value, or another skill (write value: … or ask: agent.skill below it)",
        "j.fallback.ask: 'x' names no skill",
        "j.fallback.with: here are the skill's parameters meant",
        "unknown key 'els' in j.fallback",
    ]
    missing = [text for text in wanted if not any(text in mistake for mistake in found)]
    assert not missing, found
    assert all(mistake.startswith("f.yaml:") for mistake in found)


REFERENCES = """
workflow: bad
inputs: {n: integer}
steps:
  - {name: first, ask: documind.count, with: {n: "${steps.second.result}"}}
  - {name: second, ask: documind.count, with: {n: "${inputs.m + steps.frist.result + first}"}}
  - {name: own, ask: documind.count, with: {n: "${steps.own.result}"}}
  - name: box
    steps:
      - {name: inner, ask: documind.count, with: {n: 1}, after: first}
  - {name: peek, ask: documind.count, with: {n: "${steps.inner.result}"}, if: len(steps) > 1}
  - name: ring
    parallel:
      - {name: x, ask: documind.count, with: {n: "${steps.z.result}"}}
      - {name: y, ask: documind.count, after: [x, nobody]}
      - {name: z, ask: documind.count, after: y}
  - {name: agent, ask: documnd.read}
  - {name: skill, ask: documind.reed}
  - {name: types, ask: documind.count, with: {n: many, m: 1}}
  - {name: large, ask: documind.count, with: {n: 9}}
  - {name: lacks, ask: documind.read, with: {}}
  - {name: other, ask: documind.count, with: {n: 1}, fallback: {ask: documind.read}}
  - {name: none, ask: documind.count, fallback: {ask: documind.raed}}
  - {name: late, ask: documind.count, fallback: {value: "${steps.never.result}"}}
"""


def test_all_mistakes_of_meaning_at_once() -> None:
    """References, cycles, agents, skills and types, before anything runs."""
    found = mistakes(REFERENCES)
    wanted = [
        "5:50: the step second has not ended here",
        "6:51: there is no input 'm' (write one of: n)",
        "6:51: there is no step 'frist' (did you mean first?)",
        "6:51: there is no 'first' here (write steps.first.result)",
        "own uses its own result",
        "inner: steps of a list run one after the other",
        "the step inner has not ended here, or is inside of another one (use steps.box.result)",
        "steps is not read as a whole",
        "y runs after 'nobody', which is no step beside it",
        "a cycle: x waits for z waits for y waits for x",
        "there is no agent 'documnd' in this fleet (did you mean documind?)",
        "documind has no skill 'reed' (did you mean read?)",
        '"many" is not of type "integer"',
        "documind.count has no parameter 'm'",
        "9 is greater than the maximum of 5",
        "documind.read needs file",
        "other.fallback: documind.read needs file",
        "none.fallback: documind has no skill 'raed' (did you mean read?)",
        "there is no step 'never'",
    ]
    missing = [text for text in wanted if not any(text in mistake for mistake in found)]
    assert not missing, found


def test_a_fallback_is_kept_with_its_step() -> None:
    """A value, which may be nothing; another skill, with the step's parameters or its own; what it reads is named."""
    text = (
        "workflow: w\nsteps:\n  - {name: a, ask: documind.count, with: {n: 1}, fallback: {value: null}}\n"
        "  - {name: b, ask: documind.count, with: {n: 2},"
        " fallback: {ask: documind.read, with: {file: '${steps.a.result}'}}}\n"
    )
    flow = read_text(text)
    check(flow, CATALOGUE)
    found = nodes(flow)
    assert found["0.0"]["fallback"] == {"value": None}
    other = {"agent": "documind", "skill": "read", "given": {"file": "${steps.a.result}"}}
    assert found["0.1"]["fallback"] == other
    assert found["0.1"]["uses"]["steps"] == {"a": ("0.0", 1)}
    built_too = Workflow("w")
    built_too.add(ask("a", "documind.count", n=1), fallback={"value": None})
    again = {"ask": "documind.read", "with": {"file": "${steps.a.result}"}}
    built_too.add(ask("b", "documind.count", n=2), fallback=again)
    assert nodes(built_too.graph(CATALOGUE)) == found


def test_too_much_is_refused() -> None:
    """Steps, branches and depth have bounds."""
    branches = "".join(f"\n      - {{name: s{number}, ask: a.b}}" for number in range(101))
    assert "101 steps at once; at most 100" in mistakes(f"workflow: a\nsteps:\n  - name: p\n    parallel:{branches}")[0]
    deep: dict[str, Any] = ask("s", "a.b")
    for number in range(9):
        deep = sequence(f"d{number}", deep)
    with pytest.raises(ConfigErrors) as caught:
        read_data({"workflow": "a", "steps": [deep]})
    assert "nested more than 8 deep" in str(caught.value.exceptions[0])
    many = {"workflow": "a", "steps": [ask(f"s{number}", "a.b") for number in range(5_001)]}
    with pytest.raises(ConfigErrors) as caught:
        read_data(many)
    assert "at most 5000 steps" in str(caught.value.exceptions[0])


def test_inputs_are_held_against_their_types() -> None:
    """Missing, unknown, of another type; a default fills in."""
    flow = read_text(GOOD)
    assert problems_of_inputs(flow, {"files": []}) == []
    assert problems_of_inputs(flow, {"file": [], "limit": "3"}) == [
        "unknown input 'file': did you mean files?",
        "the input 'files' is missing",
        "the input 'limit' must be integer, not string",
    ]
