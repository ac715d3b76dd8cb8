"""Why it exists: an agent's ``manifest.toml`` gets the same reader and the same messages as the fleet's YAML.

``tomllib`` knows no places, so the line of a key is looked up in the text.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from sutazai.spec.document import read_text
from sutazai.spec.places import Mapping, Node, Place, Scalar, Sequence, fail

if TYPE_CHECKING:
    from pathlib import Path

_AT = re.compile(r"\s*\(at line (\d+), column (\d+)\)|\s*\(at end of document\)")
_TABLE = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]+")
_KEY = re.compile(r"(\s*)(\"[^\"]+\"|'[^']+'|[A-Za-z0-9_-]+)\s*=\s*")


def read_toml(path: Path) -> tuple[Mapping, dict[str, Any]]:
    """Read a TOML file.

    Returns:
        Its nodes with places, and the same as Python data.

    Raises:
        ConfigErrors: it cannot be read or is no TOML.
    """
    text = read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _AT.search(str(error))
        line, column = (int(match[1]), int(match[2])) if match and match[1] else (text.count("\n") + 1, 1)
        problem = _AT.sub("", str(error))
        hint = 'TOML is: key = "text", key = 12, [table]'
        raise fail(f"is no TOML: {problem}", Place(str(path), line, column), hint) from error
    places = _places(text, str(path))
    node = _node(data, "", places, Place(str(path), 1, 1))
    return (node if isinstance(node, Mapping) else Mapping((), Place(str(path)))), data


def _places(text: str, path: str) -> dict[str, tuple[Place, Place]]:
    """Find the places of each dotted key and of its value, line by line; good enough for messages."""
    found: dict[str, tuple[Place, Place]] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TABLE.match(line):
            table = match[1] + "."
            place = Place(path, number, line.index("[") + 1)
            found.setdefault(match[1], (place, place))
        elif match := _KEY.match(line):
            name = table + match[2].strip("\"'")
            found.setdefault(name, (Place(path, number, len(match[1]) + 1), Place(path, number, match.end() + 1)))
    return found


def _node(value: Any, name: str, places: dict[str, tuple[Place, Place]], near: Place) -> Node:
    key_place, place = places.get(name, (near, near))
    if isinstance(value, dict):
        entries = []
        for key, inner in value.items():
            full = f"{name}.{key}" if name else key
            entries.append((Scalar(key, places.get(full, (key_place, near))[0]), _node(inner, full, places, key_place)))
        return Mapping(tuple(entries), key_place)
    if isinstance(value, list):
        return Sequence(tuple(_node(item, name, places, place) for item in value), place)
    if isinstance(value, bool):
        return Scalar(str(value).lower(), place)
    return Scalar(str(value), place, quoted=isinstance(value, str))
