"""The part of JSON Schema that Node's runtime reads means what the standard says; the rest is refused, not ignored."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import jsonschema_rs
import pytest

from sutazai.host.languages import LANGUAGES, RUNTIMES

SEED, PAIRS = 20_261_124, 600
TEXTS = ["", "a", "abc", "grüße", "☃☃", "abcdef"]
CODE = """
import { validate, unsupported } from %s;
let text = "";
for await (const piece of process.stdin) text += piece;
const judge = ([schema, value]) => {
  const refused = unsupported(schema).length;
  return [refused, refused ? 0 : validate(schema, value).mistakes.length];
};
console.log(JSON.stringify(JSON.parse(text).map(judge)));
"""


def judged(pairs: list[tuple[Any, Any]]) -> list[list[int]]:
    """Let Node say, for each schema and value, how many keywords it refuses and how many mistakes it finds."""
    program, why = LANGUAGES["node"].find()
    if not program:
        pytest.skip(f"{why}; {LANGUAGES['node'].hint}")
    code = CODE % json.dumps(str(RUNTIMES / "node/schema.mjs"))
    command = [program, "--input-type=module", "-e", code]
    done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, text=True, check=True, timeout=60)
    found: list[list[int]] = json.loads(done.stdout)
    return found


def value(dice: random.Random, depth: int = 2) -> Any:
    """Any JSON value, small."""
    kind = dice.randrange(8 if depth else 6)
    if kind == 6:
        return [value(dice, depth - 1) for _ in range(dice.randrange(4))]
    if kind == 7:
        return {name: value(dice, depth - 1) for name in dice.sample("abcd", dice.randrange(4))}
    return [
        None,
        dice.random() < 0.5,
        dice.randrange(-3, 9),
        dice.choice([0.5, -1.5, 4.0, 7.25]),
        dice.choice(TEXTS),
        1,
    ][kind]


def schema(dice: random.Random, depth: int = 2) -> dict[str, Any]:
    """Any schema of the supported part, small."""
    types = ["array", "boolean", "integer", "null", "number", "object", "string"]
    made: dict[str, Any] = {}
    if dice.random() < 0.7:
        made["type"] = dice.choice([dice.choice(types), dice.sample(types, 2)])
    bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
    sizes = ["minLength", "maxLength", "minItems", "maxItems"]
    made |= {name: dice.randrange(-2, 8) for name in bounds if dice.random() < 0.15}
    made |= {name: dice.randrange(4) for name in sizes if dice.random() < 0.15}
    if dice.random() < 0.1:
        made["multipleOf"] = dice.choice([0.5, 1, 2, 3])
    if dice.random() < 0.1:
        made["enum"] = [value(dice, 1) for _ in range(3)]
    if dice.random() < 0.1:
        made["const"] = value(dice, 1)
    if dice.random() < 0.1:
        made["pattern"] = dice.choice(["^a", "b", "^.{2,3}$"])
    if dice.random() < 0.2:
        made["uniqueItems"] = True
    return made | (nested(dice, depth - 1) if depth else {})


def nested(dice: random.Random, depth: int) -> dict[str, Any]:
    """Keywords that hold schemas."""
    made: dict[str, Any] = {}
    if dice.random() < 0.4:
        made["properties"] = {name: schema(dice, depth) for name in dice.sample("abcd", 2)}
        made["required"] = dice.sample("abcd", dice.randrange(3))
    if dice.random() < 0.3:
        made["additionalProperties"] = dice.choice([False, True, schema(dice, depth)])
    if dice.random() < 0.3:
        made["items"] = schema(dice, depth)
    for name in ("allOf", "anyOf", "oneOf"):
        if dice.random() < 0.12:
            made[name] = [schema(dice, depth) for _ in range(2)]
    return made


def test_it_judges_as_the_standard_does() -> None:
    """Hundreds of schemas and values, the same each time: valid here and with a full implementation, or in neither."""
    dice = random.Random(SEED)  # noqa: S311 a test's dice
    pairs = [(schema(dice), value(dice)) for _ in range(PAIRS)]
    differ = [
        (one, other)
        for (one, other), (refused, mistakes) in zip(pairs, judged(pairs), strict=True)
        if refused or (mistakes == 0) != jsonschema_rs.is_valid(one, other)
    ]
    assert not differ, differ[:3]
    valid = sum(jsonschema_rs.is_valid(one, other) for one, other in pairs)
    assert PAIRS // 5 < valid < PAIRS * 4 // 5


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "object", "patternProperties": {"a": {}}},
        {"properties": {"a": {"if": {}}}},
        {"type": "text"},
        {"$ref": "https://example.org/x"},
        {"$ref": "#/$defs/gone", "$defs": {}},
        {"pattern": "("},
        {"items": 3},
    ],
)
def test_what_it_does_not_read_is_refused(bad: dict[str, Any]) -> None:
    """A keyword, a type, a reference or a pattern that it would have to ignore."""
    ((refused, _),) = judged([(bad, {})])
    assert refused
