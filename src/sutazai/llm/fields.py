"""Why it exists: what a client sends is checked field by field before a model sees it; both doors check alike."""

from __future__ import annotations

from typing import Any

from sutazai.llm.refusal import Refusal

SCHEMA_NODES_MAX = 2_000
STOPS_MAX = 4
STOP_CHARACTERS_MAX = 200
SEED_MAX = 2**32 - 1
_NAMES = {str: "a string", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}


def wrong(param: str, message: str) -> Refusal:
    """A field that has the wrong value."""
    return Refusal(400, f"{param} {message}", param=param, code="invalid_value")


def mapping(body: Any) -> dict[str, Any]:
    """The body itself."""
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    return body


def field(body: dict[str, Any], name: str, kind: type, default: Any, *, called: str = "") -> Any:
    """A field of one type; ``null`` and absent mean the default.

    Args:
        body: where it stands.
        name: its key.
        kind: ``str``, ``int``, ``bool``, ``dict`` or ``list``.
        default: when it is not there.
        called: its name in messages, when it stands deeper.
    """
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refusal(400, f"{called or name} must be {_NAMES[kind]}", param=called or name, code="invalid_type")
    return value


def number(body: dict[str, Any], name: str, default: float, bounds: tuple[float, float], *, called: str = "") -> float:
    """A number inside its bounds, ends included."""
    value = body.get(name)
    if value is None:
        return default
    least, most = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise wrong(called or name, f"must be a number from {least:g} to {most:g}")
    return float(value)


def seed(value: Any, called: str = "seed") -> int | None:
    """A seed, or ``None`` for chance."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(400, f"{called} must be a whole number", param=called, code="invalid_type")
    if not 0 <= value <= SEED_MAX:
        raise wrong(called, f"must be from 0 to {SEED_MAX}")
    return value


def stops(value: Any, called: str = "stop") -> tuple[str, ...]:
    """A text, or some, that end an answer."""
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    fits = isinstance(found, list) and len(found) <= STOPS_MAX
    if not fits or not all(isinstance(stop, str) and 0 < len(stop) <= STOP_CHARACTERS_MAX for stop in found):
        raise wrong(called, f"must be a text, or up to {STOPS_MAX}, each of 1 to {STOP_CHARACTERS_MAX} characters")
    return tuple(found)


def text(value: Any, called: str) -> str:
    """A text that a model can read."""
    if not isinstance(value, str):
        raise wrong(called, "must be a text")
    if "\x00" in value:
        raise wrong(called, "holds a NUL character")
    return value


def schema(value: Any, called: str) -> dict[str, Any]:
    """A JSON schema of a bounded size; whether it can be a grammar, the driver says."""
    if not isinstance(value, dict):
        raise wrong(called, "must be a JSON schema (an object)")
    if _nodes(value) > SCHEMA_NODES_MAX:
        raise wrong(called, f"has more than {SCHEMA_NODES_MAX} nodes")
    return value


def _nodes(value: Any) -> int:
    waiting, count = [value], 0
    while waiting and count <= SCHEMA_NODES_MAX:
        node = waiting.pop()
        count += 1
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return count
