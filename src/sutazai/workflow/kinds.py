"""Why it exists: kinds of steps, bounds and JSON types are known to reader, checker and engine; it imports nothing."""

from __future__ import annotations

from typing import Any

ASK, APPROVE, SIGNAL, STEPS, PARALLEL, MAP, CHOOSE = (
    "ask", "approve", "signal", "steps", "parallel", "map", "choose",
)  # fmt: skip
KINDS = (ASK, APPROVE, SIGNAL, STEPS, PARALLEL, MAP, CHOOSE)
#: Kinds that hold other steps: each runs as a task of its own.
BLOCKS = frozenset({STEPS, PARALLEL, MAP, CHOOSE})

STEPS_MAX = 5_000  # of a workflow, inner ones counted
PARALLEL_MAX = 100  # branches of one parallel step
WIDTH_MAX = 64
MAP_ITEMS_MAX = 5_000
DEPTH_MAX = 8
ATTEMPTS_MAX = 20
TYPES = ("any", "string", "integer", "number", "boolean", "array", "object")
#: Key of a workflow's root node.
ROOT = "0"


def kind_of(value: Any) -> str:
    """Name the JSON type of a value."""
    names: dict[type, str] = {
        bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object",
    }  # fmt: skip
    return names.get(type(value), "null")


def is_of(value: Any, wanted: str) -> bool:
    """Whether a value is of a type; a whole number is a number too, and anything is ``any``."""
    if wanted not in TYPES or wanted == "any":
        return True
    kind = kind_of(value)
    return kind == wanted or (wanted == "number" and kind == "integer")
