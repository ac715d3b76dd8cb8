"""Why it exists: conditions and inputs are expressions over earlier results; they must be unable to do anything else.

The syntax is Python's for values, paths, comparisons and arithmetic. A text is parsed and its tree is walked; only the
node kinds below exist, there is no attribute of an object, no call of anything but the functions in ``FUNCTIONS``, and
no loop, so an expression ends and touches nothing. ``a.b`` and ``a["b"]`` read a key of a JSON object.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CHARACTERS_MAX = 2_000
TEXT_CHARACTERS_MAX = 1_000_000  # of a text that an expression builds
_NODES_MAX = 500
_KEYS_SHOWN_MAX = 10
_MARK = re.compile(r"\$\$\{|\$\{")
_WORDS = {"true": True, "false": False, "null": None}


class ExpressionError(ValueError):
    """An expression that cannot be read, or cannot be evaluated with these values; says why."""


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}


def _get(value: Any, path: str, default: Any = None) -> Any:
    """Follow a dotted path; the default where it ends."""
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return default
    return value


def _join(parts: Any, between: str = ", ") -> str:
    return between.join(as_text(part) for part in parts)


#: What may be called. All give a value and change nothing.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "all": all,
    "any": any,
    "float": float,
    "get": _get,
    "int": int,
    "join": _join,
    "keys": sorted,
    "len": len,
    "lower": lambda text: text.lower(),
    "max": max,
    "min": min,
    "pick": lambda rows, path: [_get(row, path) for row in rows],
    "round": round,
    "sorted": sorted,
    "split": lambda text, between=None: text.split(between),
    "str": lambda value: as_text(value),  # noqa: PLW0108 it is defined below
    "sum": sum,
    "upper": lambda text: text.upper(),
}
_KINDS = (
    ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Compare, ast.BoolOp,
    ast.UnaryOp, ast.BinOp, ast.IfExp, ast.List, ast.Dict, ast.Call, ast.Load, ast.And, ast.Or, ast.Not, ast.USub,
    *_BINARY, *_COMPARE,
)  # fmt: skip


@lru_cache(maxsize=512)
def parse(text: str) -> ast.expr:
    """Read an expression.

    Raises:
        ExpressionError: it is none; names the column where that is known.
    """
    if len(text) > CHARACTERS_MAX:
        raise ExpressionError(f"an expression has at most {CHARACTERS_MAX} characters, this one has {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ExpressionError(f"{text.strip()!r} is no expression: {error.msg} at column {error.offset}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{text.strip()[:80]!r} is no expression: {error}") from error
    nodes = list(ast.walk(tree))
    if len(nodes) > _NODES_MAX:
        raise ExpressionError("the expression is too long: let a step compute it")
    for node in nodes:
        _allow(node, text)
    return tree.body


def _allow(node: ast.AST, text: str) -> None:
    if not isinstance(node, _KINDS):
        raise ExpressionError(f"{text.strip()!r} uses {type(node).__name__}, which is no part of an expression here")
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise ExpressionError(f"{text.strip()!r}: only the functions {', '.join(FUNCTIONS)} can be called")
        if node.func.id not in FUNCTIONS:
            raise ExpressionError(f"there is no function {node.func.id!r}; there are {', '.join(FUNCTIONS)}")
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool | None):
        raise ExpressionError(f"{text.strip()!r} holds a value that is no JSON")


@dataclass(frozen=True, slots=True)
class Uses:
    """What an expression reads.

    Attributes:
        inputs: names of inputs; ``*`` when all of them are read at once.
        steps: names of steps; ``*`` when ``steps`` itself is read.
        names: other names: variables of a map.
    """

    inputs: frozenset[str]
    steps: frozenset[str]
    names: frozenset[str]


@lru_cache(maxsize=512)
def uses(text: str) -> Uses:
    """Find out what an expression reads, without evaluating it.

    Raises:
        ExpressionError: it is none.
    """
    found: dict[str, set[str]] = {"inputs": set(), "steps": set(), "": set()}
    called = {id(node.func) for node in ast.walk(parse(text)) if isinstance(node, ast.Call)}
    roots: set[int] = set()
    for node in ast.walk(parse(text)):
        key = _key(node)
        root = node.value if isinstance(node, ast.Attribute | ast.Subscript) else None
        if key is not None and isinstance(root, ast.Name) and root.id in {"inputs", "steps"}:
            found[root.id].add(key)
            roots.add(id(root))
    for node in ast.walk(parse(text)):
        if not isinstance(node, ast.Name) or id(node) in roots or id(node) in called or node.id in _WORDS:
            continue
        if node.id in {"inputs", "steps"}:
            found[node.id].add("*")
        else:
            found[""].add(node.id)
    return Uses(frozenset(found["inputs"]), frozenset(found["steps"]), frozenset(found[""]))


def _key(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    return None


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """Compute an expression.

    Args:
        text: the expression.
        values: by name: ``inputs``, ``steps``, variables.

    Raises:
        ExpressionError: a key is missing, types do not fit, a number is divided by zero …
    """
    try:
        return _value(parse(text), values)
    except ExpressionError as error:
        raise ExpressionError(f"{text.strip()}: {error}") from error
    except (TypeError, ValueError, ArithmeticError, KeyError, IndexError, RecursionError, AttributeError) as error:
        raise ExpressionError(f"{text.strip()}: {error}") from error


def is_true(text: str, values: Mapping[str, Any]) -> bool:
    """Compute a condition: nothing, zero, empty and false do not hold."""
    return bool(evaluate(text, values))


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:  # noqa: C901, PLR0912 one branch a kind of node
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        if node.id in values:
            return values[node.id]
        if node.id in _WORDS:
            return _WORDS[node.id]
        raise ExpressionError(f"there is no {node.id!r}; there are {', '.join(values)}")
    if isinstance(node, ast.Attribute):
        return _member(_value(node.value, values), node.attr)
    if isinstance(node, ast.Subscript):
        return _item(_value(node.value, values), node.slice, values)
    if isinstance(node, ast.BoolOp):
        return _either(node, values)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, values)
        return not inner if isinstance(node.op, ast.Not) else -inner
    if isinstance(node, ast.BinOp):
        return _arithmetic(node, values)
    if isinstance(node, ast.Compare):
        return _compared(node, values)
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, values) else node.orelse, values)
    if isinstance(node, ast.List):
        return [_value(item, values) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_value(key, values)): _value(value, values) for key, value in _pairs(node)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _bounded(FUNCTIONS[node.func.id](*(_value(argument, values) for argument in node.args)))
    raise ExpressionError(f"{type(node).__name__} is no part of an expression here")


def _pairs(node: ast.Dict) -> Iterator[tuple[ast.expr, ast.expr]]:
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            raise ExpressionError("** is no part of an expression here")
        yield key, value


def _member(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        if key in value:
            return value[key]
        there = ", ".join(sorted(map(str, value))[:_KEYS_SHOWN_MAX]) or "nothing"
        raise ExpressionError(f"there is no {key!r}: there is {there}")
    kind = "null" if value is None else type(value).__name__
    raise ExpressionError(f"{key!r} is asked of {kind}, which has no keys; get(value, {key!r}, default) asks softly")


def _item(value: Any, where: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(where, ast.Slice):
        if where.step is not None:
            raise ExpressionError("a slice has a beginning and an end, no step")
        low, high = (None if end is None else _value(end, values) for end in (where.lower, where.upper))
        return value[low:high]
    key = _value(where, values)
    if isinstance(key, str):
        return _member(value, key)
    if isinstance(value, list | str) and isinstance(key, int) and not -len(value) <= key < len(value):
        raise ExpressionError(f"there is no element {key}: it has {len(value)}")
    return value[key]


def _either(node: ast.BoolOp, values: Mapping[str, Any]) -> Any:
    wanted = isinstance(node.op, ast.Or)
    value: Any = None
    for part in node.values:
        value = _value(part, values)
        if bool(value) is wanted:
            return value
    return value


def _arithmetic(node: ast.BinOp, values: Mapping[str, Any]) -> Any:
    left, right = _value(node.left, values), _value(node.right, values)
    numbers = all(isinstance(value, int | float) for value in (left, right))
    adds = isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, str | list)
    if not numbers and not adds:
        kinds = f"{type(left).__name__} and {type(right).__name__}"
        raise ExpressionError(f"numbers are computed with, and texts or lists added; not {kinds}")
    return _bounded(_BINARY[type(node.op)](left, right))


def _bounded(value: Any) -> Any:
    if isinstance(value, str | list) and len(value) > TEXT_CHARACTERS_MAX:
        raise ExpressionError(f"the value has more than {TEXT_CHARACTERS_MAX} parts")
    if isinstance(value, int) and abs(value) > 1 << 63:
        raise ExpressionError("the number is too large")
    return value


def _compared(node: ast.Compare, values: Mapping[str, Any]) -> bool:
    left = _value(node.left, values)
    for operation, other in zip(node.ops, node.comparators, strict=True):
        right = _value(other, values)
        if not _COMPARE[type(operation)](left, right):
            return False
        left = right
    return True


# Templates


def parts(text: str) -> list[tuple[str, str]]:
    """Cut a text into plain parts (``text``) and expressions (``expression``); ``$${`` is a plain ``${``.

    Raises:
        ExpressionError: an expression has no end.
    """
    found: list[tuple[str, str]] = []
    at = 0
    while mark := _MARK.search(text, at):
        if mark.start() > at:
            found.append(("text", text[at : mark.start()]))
        if mark.group() == "$${":
            found.append(("text", "${"))
            at = mark.end()
            continue
        end = _end(text, mark.end())
        found.append(("expression", text[mark.end() : end]))
        at = end + 1
    if at < len(text):
        found.append(("text", text[at:]))
    return found


def _end(text: str, at: int) -> int:
    """Find the brace that closes an expression, past quoted texts and inner braces."""
    depth, quote = 0, ""
    for position in range(at, len(text)):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return position
            depth -= 1
    raise ExpressionError(f"${{ has no end in {text[:80]!r}")


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Replace the expressions in all texts of a JSON value; a text that is one expression becomes its value.

    Raises:
        ExpressionError: one cannot be evaluated.
    """
    if isinstance(value, dict):
        return {key: fill(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, values) for inner in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    found = parts(value)
    if len(found) == 1 and found[0][0] == "expression":
        return evaluate(found[0][1], values)
    return _bounded("".join(part if kind == "text" else as_text(evaluate(part, values)) for kind, part in found))


def expressions(value: Any) -> Iterator[str]:
    """All expressions in the texts of a JSON value.

    Raises:
        ExpressionError: one has no end.
    """
    if isinstance(value, dict):
        for inner in value.values():
            yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)
    elif isinstance(value, str) and "${" in value:
        yield from (part for kind, part in parts(value) if kind == "expression")


def as_text(value: Any) -> str:
    """Write a value into a text: texts as they are, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
