"""Why it exists: turns a YAML file, also a hostile or broken one, into nodes with places, or says plainly why not.

It works on libyaml's events, iteratively, with a cap on bytes, depth and nodes: a 10 MB file is refused unread, an
alias bomb when it would unfold, a deeply nested file before the stack ends. Tags and several documents are refused;
anchors, aliases and merge keys (``<<``) work. No value is resolved by its look, so it does not matter which version of
YAML the parser follows: ``no`` and ``0o17`` stay the texts they are.
"""

from __future__ import annotations

import codecs
import re
import stat
from typing import TYPE_CHECKING, Any

import yaml

from sutazai.limits import MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX, MANIFEST_NODES_MAX
from sutazai.spec.places import Mapping, Mistakes, Node, Place, Scalar, Sequence, fail
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai.errors import ConfigErrors

#: The parser in C; a PyYAML that was built without libyaml has only the one in Python, slower with the same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What YAML lets stand in a file (§5.1); the rest is refused before the parser sees it, because we can say where it is.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


#: What to do about a manifest with nothing in it.
EXAMPLE = "start from fleets/demo.yaml"


def read_text(path: Path, *, hint: str = EXAMPLE) -> str:
    """Read a text file of the user, with every reason why that fails put into words.

    Args:
        path: of the file.
        hint: what to do when it is empty.

    Raises:
        ConfigErrors: missing, a directory, no ordinary file, unreadable, too long, not UTF-8, or empty.
    """
    place = Place(str(path))
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise fail("is a directory, not a file", place, _directory_hint(path))
        if not stat.S_ISREG(info.st_mode):
            raise fail("is no ordinary file", place, "name a YAML file")
        if info.st_size > MANIFEST_BYTES_MAX:
            raise _too_long(info.st_size, place)
        with path.open("rb") as file:
            data = file.read(MANIFEST_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise fail("there is no such file", place, _missing_hint(path)) from error
    except PermissionError as error:
        raise fail("you may not read this file", place, f"run: chmod +r {path}") from error
    except OSError as error:
        raise fail(f"cannot be read: {error.strerror}", place) from error
    if len(data) > MANIFEST_BYTES_MAX:
        raise _too_long(len(data), place)
    text = _decode(data, place)
    if not text.strip():
        raise fail("the file is empty", place, hint)
    return text


def read_document(path: Path, mistakes: Mistakes, *, hint: str = EXAMPLE) -> Mapping:
    """Read a YAML file whose top is a mapping.

    Args:
        path: of the file.
        mistakes: where lesser mistakes go.
        hint: what to do when nothing is in it.

    Raises:
        ConfigErrors: it cannot be read, is no YAML, or is no mapping; lesser mistakes (a duplicate key) go to
            ``mistakes``.
    """
    return parse_document(read_text(path, hint=hint), str(path), mistakes, hint=hint)


def parse_document(text: str, path: str, mistakes: Mistakes, *, hint: str = EXAMPLE) -> Mapping:
    """Read YAML text whose top is a mapping.

    Raises:
        ConfigErrors: as ``read_document``.
    """
    place = Place(path, 1, 1)
    if found := _UNPRINTABLE.search(text):
        raise _bad_character(found.start(), text, path)
    try:
        node = _Composer(path, mistakes).compose(text)
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text, path) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise fail(f"is no YAML: {error}", place) from error
    if node is None:
        raise fail("the file holds only comments", place, hint)
    if not isinstance(node, Mapping):
        kind = "a list" if isinstance(node, Sequence) else "a single value"
        raise fail(f"holds {kind}, but keys with values are meant", node.place, hint)
    return node


class _Open:
    """A collection whose end has not been seen yet."""

    __slots__ = ("anchor", "is_mapping", "items", "place", "weight")

    def __init__(self, place: Place, anchor: str | None, *, is_mapping: bool) -> None:
        self.place, self.anchor, self.is_mapping = place, anchor, is_mapping
        self.items: list[Node] = []
        self.weight = 1


class _Composer:
    """Builds nodes out of parser events; ``weight`` counts nodes as if every alias were written out."""

    def __init__(self, path: str, mistakes: Mistakes) -> None:
        self._path, self._mistakes = path, mistakes
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0
        self._root: Node | None = None

    def compose(self, text: str) -> Node | None:
        handlers: dict[type, Callable[[Any, Place], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: lambda event, place: self._open(event, place, is_mapping=True),
            yaml.SequenceStartEvent: lambda event, place: self._open(event, place, is_mapping=False),
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.DocumentStartEvent: self._document,
        }
        for event in yaml.parse(text, Loader=_LOADER):
            if handler := handlers.get(type(event)):
                mark: Any = event.start_mark
                handler(event, Place(self._path, mark.line + 1, mark.column + 1))
        return self._root

    def _document(self, _event: Any, place: Place) -> None:
        self._documents += 1
        if self._documents > 1:
            raise fail("a second document begins here", place, "one fleet, one file: remove the line ---")

    def _scalar(self, event: Any, place: Place) -> None:
        self._refuse_tag(event, place)
        if not self._stack and event.value == "" and not event.style:
            return  # a document of comments only
        self._add(Scalar(event.value, place, quoted=bool(event.style)), 1, event.anchor)

    def _alias(self, event: Any, place: Place) -> None:
        known = self._anchors.get(event.anchor)
        if known is None:
            inside = any(level.anchor == event.anchor for level in self._stack)
            problem = "contains itself" if inside else "has no anchor"
            hint = "remove the alias" if inside else f"write &{event.anchor} before the value it stands for"
            raise fail(f"the alias *{event.anchor} {problem}", place, hint)
        self._add(known[0], known[1], None)

    def _close(self, _event: Any, _place: Place) -> None:
        level = self._stack.pop()
        node = self._mapping(level) if level.is_mapping else Sequence(tuple(level.items), level.place)
        self._add(node, level.weight, level.anchor)

    def _open(self, event: Any, place: Place, *, is_mapping: bool) -> None:
        self._refuse_tag(event, place)
        if len(self._stack) >= MANIFEST_DEPTH_MAX:
            raise fail(f"is nested deeper than {MANIFEST_DEPTH_MAX} levels", place, "no manifest needs that")
        self._stack.append(_Open(place, event.anchor, is_mapping=is_mapping))

    def _add(self, node: Node, weight: int, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = (node, weight)
        if not self._stack:
            self._root = node
            return
        level = self._stack[-1]
        level.items.append(node)
        level.weight += weight
        if level.weight > MANIFEST_NODES_MAX:
            raise self._too_many(node.place)

    def _too_many(self, place: Place) -> ConfigErrors:
        if not self._anchors:
            return fail(f"holds more than {MANIFEST_NODES_MAX} values", place, "is this the right file?")
        return fail(
            f"unfolds to more than {MANIFEST_NODES_MAX} values",
            place,
            "an alias stands for a value that holds aliases itself, many times over",
        )

    def _mapping(self, level: _Open) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Mapping] = []
        for key, value in zip(level.items[::2], level.items[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._mistakes.add("a key must be a plain word", key.place, "write: name: value")
            elif key.text == "<<" and not key.quoted:
                merged.extend(self._merged(value))
            elif first := entries.get(key.text):
                self._mistakes.add(
                    f"{key.text} is written twice",
                    key.place,
                    f"the first is in line {first[0].place.line}; keep one of them",
                )
            else:
                entries[key.text] = (key, value)
        for mapping in merged:
            for key, value in mapping.entries:
                entries.setdefault(key.text, (key, value))
        return Mapping(tuple(entries.values()), level.place)

    def _merged(self, value: Node) -> list[Mapping]:
        parts = value.items if isinstance(value, Sequence) else (value,)
        wrong = [part for part in parts if not isinstance(part, Mapping)]
        for part in wrong:
            self._mistakes.add("<< takes an alias of keys with values", part.place, "write: <<: *defaults")
        return [part for part in parts if isinstance(part, Mapping)]

    def _refuse_tag(self, event: Any, place: Place) -> None:
        tag = str(event.tag) if event.tag is not None else ""
        if tag and tag != "!":
            raise fail(f"the tag {tag} is not used here", place, "remove it: values are read by their key")


def _decode(data: bytes, place: Place) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise fail("is UTF-16, not UTF-8", place, "save it as UTF-8")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        byte = data[error.start]
        raise fail(
            f"the byte 0x{byte:02x} is not UTF-8", Place(place.path, line, column), "save the file as UTF-8"
        ) from error


def _syntax(error: yaml.MarkedYAMLError, text: str, path: str) -> ConfigErrors:
    mark = error.problem_mark or error.context_mark
    place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
    problem = str(error.problem or error.context or "is no YAML").strip()
    if "tab" in problem or (mark and _is_indented_by_tab(text, mark.line, mark.column)):
        return fail("a tab is used as indentation", place, "YAML is indented with spaces")
    hints = {
        "mapping values are not allowed": "put a value that holds ': ' into quotes, or check the indentation",
        "could not find expected ':'": "a key is followed by a colon and a space",
        "did not find expected ','": "a bracket is not closed, or a comma is missing",
        "did not find expected key": "check the indentation: keys of one level begin in one column",
        "did not find expected '-'": "check the indentation: items of one list begin in one column",
        "found unexpected end of stream": "a quote is not closed",
        "found unknown escape character": "write \\\\ for a backslash, or use single quotes",
        "found character": "put the value into quotes",
    }
    hint = next((text for begin, text in hints.items() if begin in problem), "check the indentation and the colons")
    return fail(f"is no YAML: {problem}", place, hint)


def _is_indented_by_tab(text: str, line: int, column: int) -> bool:
    """Tell whether only blanks stand before a place and a tab is among them or right behind."""
    lines = text.split("\n", line + 1)
    before = lines[line][: column + 1] if line < len(lines) else ""
    return "\t" in before and not before.strip()


def _bad_character(offset: int, text: str, path: str) -> ConfigErrors:
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    code = ord(text[offset])
    return fail(f"the control character U+{code:04X} is not allowed", Place(path, line, column), "remove it")


def _too_long(size: int, place: Place) -> ConfigErrors:
    return fail(
        f"is {format_bytes(size)} long; a manifest may have {format_bytes(MANIFEST_BYTES_MAX)}",
        place,
        "is this the right file?",
    )


def _directory_hint(path: Path) -> str:
    inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in {".yaml", ".yml"})
    return f"did you mean {path / inside[0]}?" if inside else "name the YAML file in it"


def _missing_hint(path: Path) -> str:
    import difflib

    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    names = [entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml", ".toml", ".py"}]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"did you mean {folder / near[0]}?" if near else "check the name; fleets/demo.yaml is an example"
