"""Why it exists: a service is often written in parts: a base that others extend, and files laid over each other.

The rules are Compose's: keys merge, lists are joined, the later single value wins; a command, an entrypoint and a
health test are replaced as a whole, and what is written as ``NAME=value`` lines merges by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.spec.places import Mapping, Mistakes, Node, Scalar, Sequence
from sutazai.spec.section import is_null

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Keys of a service that may be a list of ``NAME=value`` or keys with values.
PAIRS = ("environment", "labels", "annotations", "sysctls")
REPLACED = ("command", "entrypoint", "test", "condition")
LISTS = ("env_file", "dns", "dns_search", "tmpfs", "profiles")


def normalised(service: Mapping, mistakes: Mistakes) -> Mapping:
    """Write a service's short forms as their long ones, so that both merge by name."""
    entries = []
    for key, value in service.entries:
        node: Node = value
        if key.text in PAIRS and isinstance(value, Sequence):
            node = _pairs(key.text, value, mistakes)
        elif key.text == "depends_on" and isinstance(value, Sequence | Scalar) and not is_null(value):
            node = _depends(value)
        elif key.text in LISTS and isinstance(value, Scalar) and not is_null(value):
            node = Sequence((value,), value.place)
        entries.append((key, node))
    return Mapping(tuple(entries), service.place)


def _pairs(name: str, node: Sequence, mistakes: Mistakes) -> Mapping:
    entries: dict[str, tuple[Scalar, Node]] = {}
    for item in node.items:
        if not isinstance(item, Scalar):
            mistakes.add(f"{name}: here is NAME=value meant", item.place, "write - NAME=value")
            continue
        key, sign, value = item.text.partition("=")
        entries[key] = (Scalar(key, item.place), Scalar(value, item.place, quoted=bool(sign)))
    return Mapping(tuple(entries.values()), node.place)


def _depends(node: Sequence | Scalar) -> Mapping:
    names = node.items if isinstance(node, Sequence) else (node,)
    entries = []
    for name in names:
        if isinstance(name, Scalar):
            condition = (Scalar("condition", name.place), Scalar("service_started", name.place))
            entries.append((name, Mapping((condition,), name.place)))
    return Mapping(tuple(entries), node.place)


def merge(base: Node, over: Node, key: str = "") -> Node:
    """Lay a value over another one."""
    if is_null(over) or (key in REPLACED):
        return base if is_null(over) else over
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return _merge_mappings(base, over)
    if isinstance(base, Sequence) and isinstance(over, Sequence):
        return Sequence(tuple(_unique((*base.items, *over.items), key)), over.place)
    return over


def _merge_mappings(base: Mapping, over: Mapping) -> Mapping:
    entries = {key.text: (key, value) for key, value in base.entries}
    for key, value in over.entries:
        known = entries.get(key.text)
        entries[key.text] = (key, value) if known is None else (key, merge(known[1], value, key.text))
    return Mapping(tuple(entries.values()), over.place)


def _unique(items: Iterable[Node], key: str) -> Iterable[Node]:
    """Keep the last of equal items: volumes are equal when their target is, the rest when all of it is."""
    found: dict[str, Node] = {}
    for item in items:
        name = _identity(item, key)
        found.pop(name, None)
        found[name] = item
    return found.values()


def _identity(item: Node, key: str) -> str:
    if isinstance(item, Scalar):
        parts = item.text.split(":")
        return parts[1] if key == "volumes" and len(parts) > 1 else item.text
    if isinstance(item, Mapping) and key == "volumes":
        return next(
            (value.text for name, value in item.entries if name.text == "target" and isinstance(value, Scalar)), ""
        )
    return repr(_bare(item))


def _bare(node: Node) -> object:
    """Strip a node of its places, so that two of them can be compared."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [_bare(item) for item in node.items]
    return [(key.text, _bare(value)) for key, value in node.entries]
