"""Why it exists: an expected answer is exact or bounded, and a failed check is explained with both sides."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_CHARACTERS = 200
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must hold of one place of a result.

    Attributes:
        path: dotted keys and indexes (``findings.0.subject``); empty is the whole result.
        rules: ``equals``, ``tolerance``, ``min``, ``max``, ``contains``, ``matches``; all must hold.
    """

    path: str
    rules: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a check passed.

    Attributes:
        ok: it did.
        text: why, for people.
    """

    ok: bool
    text: str


def expected(expectation: Expectation, result: Any) -> Verdict:
    """Judge one expectation of a result."""
    place = expectation.path or "the result"
    value = find(result, expectation.path)
    if value is _MISSING:
        return Verdict(ok=False, text=f"{place} is missing in {shown(result)}")
    rules = expectation.rules
    judged: dict[str, Callable[[Any], bool]] = {
        "equals": lambda wanted: _equal(value, wanted, float(rules.get("tolerance", 0))),
        "min": lambda wanted: (size := measure(value)) is not None and size >= wanted,
        "max": lambda wanted: (size := measure(value)) is not None and size <= wanted,
        "contains": lambda wanted: _contains(value, wanted),
        "matches": lambda wanted: isinstance(value, str) and re.search(wanted, value) is not None,
    }
    for rule, holds in judged.items():
        if rule in rules and not holds(rules[rule]):
            return Verdict(ok=False, text=f"{place} is {shown(value)}, expected {rule} {shown(rules[rule])}")
    return Verdict(ok=True, text=f"{place} is {shown(value)}")


def find(result: Any, path: str) -> Any:
    """Go down a dotted path; a sentinel when it leads nowhere."""
    value = result
    for part in path.split(".") if path else ():
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
    return value


def measure(value: Any) -> float | None:
    """Give a number, or the length of a text, list or object; ``None`` when it has no size."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return None if math.isnan(value) else float(value)
    return float(len(value)) if isinstance(value, str | list | dict) else None


def _equal(value: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(value, bool) != isinstance(wanted, bool):
        return False
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return abs(value - wanted) <= tolerance
    if isinstance(value, list) and isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(lambda a, b: _equal(a, b, tolerance), value, wanted))
    if isinstance(value, dict) and isinstance(wanted, dict):
        return value.keys() == wanted.keys() and all(_equal(value[key], wanted[key], tolerance) for key in wanted)
    return bool(value == wanted)


def _contains(value: Any, wanted: Any) -> bool:
    """A text contains a text, a list an element (or one that has these keys), an object a key or these values."""
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    if isinstance(value, list):
        return any(_has(element, wanted) for element in value)
    return isinstance(value, dict) and (_has(value, wanted) or (isinstance(wanted, str) and wanted in value))


def _has(element: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(element, dict):
        return all(key in element and _has(element[key], wanted[key]) for key in wanted)
    return _equal(element, wanted, 0)


def shown(value: Any) -> str:
    """Write a value for a person, cut when it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
