"""Why it exists: turns a YAML file, also a hostile or broken one, into nodes with places, or says plainly why not.

It works on the parser's events, iteratively, with a cap on bytes, depth and nodes: a 10 MB file is refused unread, an
alias bomb when it would unfold, a deeply nested file before the stack ends. Tags and several documents are refused;
anchors, aliases and merge keys (``<<``) work.
"""

from __future__ import annotations

import codecs
import io
import stat
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from sutazai.limits import MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX, MANIFEST_NODES_MAX
from sutazai.spec.places import Mapping, Mistakes, Node, Place, Scalar, Sequence, fail
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.errors import ConfigErrors


def read_text(path: Path) -> str:
    """Read a text file of the user, with every reason why that fails put into words.

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
        raise fail("the file is empty", place, "start from fleets/demo.yaml")
    return text


def read_document(path: Path, mistakes: Mistakes) -> Mapping:
    """Read a YAML file whose top is a mapping.

    Raises:
        ConfigErrors: it cannot be read, is no YAML, or is no mapping; lesser mistakes (a duplicate key) go to
            ``mistakes``.
    """
    text = read_text(path)
    place = Place(str(path), 1, 1)
    try:
        node = _Composer(str(path), mistakes).compose(text)
    except MarkedYAMLError as error:
        raise _syntax(error, str(path)) from error
    except ReaderError as error:
        raise _bad_character(error, text, str(path)) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise fail(f"is no YAML: {error}", place) from error
    if node is None:
        raise fail("the file holds only comments", place, "start from fleets/demo.yaml")
    if not isinstance(node, Mapping):
        kind = "a list" if isinstance(node, Sequence) else "a single value"
        raise fail(f"holds {kind}, but a manifest is keys with values", node.place, "begin with: fleet: my-fleet")
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
        for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
            kind = type(event).__name__
            if handler := getattr(self, f"_on_{kind}", None):
                handler(event, Place(self._path, event.start_mark.line + 1, event.start_mark.column + 1))
        return self._root

    def _on_DocumentStartEvent(self, _event: Any, place: Place) -> None:  # noqa: N802 the parser's name
        self._documents += 1
        if self._documents > 1:
            raise fail("a second document begins here", place, "one fleet, one file: remove the line ---")

    def _on_ScalarEvent(self, event: Any, place: Place) -> None:  # noqa: N802 the parser's name
        self._refuse_tag(event, place)
        if not self._stack and event.value == "" and not event.style:
            return  # a document of comments only
        self._add(Scalar(event.value, place, quoted=bool(event.style)), 1, event.anchor)

    def _on_AliasEvent(self, event: Any, place: Place) -> None:  # noqa: N802 the parser's name
        known = self._anchors.get(event.anchor)
        if known is None:
            inside = any(level.anchor == event.anchor for level in self._stack)
            problem = "contains itself" if inside else "has no anchor"
            hint = "remove the alias" if inside else f"write &{event.anchor} before the value it stands for"
            raise fail(f"the alias *{event.anchor} {problem}", place, hint)
        self._add(known[0], known[1], None)

    def _on_MappingStartEvent(self, event: Any, place: Place) -> None:  # noqa: N802 the parser's name
        self._open(event, place, is_mapping=True)

    def _on_SequenceStartEvent(self, event: Any, place: Place) -> None:  # noqa: N802 the parser's name
        self._open(event, place, is_mapping=False)

    def _on_MappingEndEvent(self, _event: Any, _place: Place) -> None:  # noqa: N802 the parser's name
        level = self._stack.pop()
        self._add(self._mapping(level), level.weight, level.anchor)

    def _on_SequenceEndEvent(self, _event: Any, _place: Place) -> None:  # noqa: N802 the parser's name
        level = self._stack.pop()
        self._add(Sequence(tuple(level.items), level.place), level.weight, level.anchor)

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
            raise fail(
                f"unfolds to more than {MANIFEST_NODES_MAX} values",
                node.place,
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


def _syntax(error: MarkedYAMLError, path: str) -> ConfigErrors:
    mark = error.problem_mark or error.context_mark
    place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
    problem = str(error.problem or error.context or "is no YAML").strip()
    if "'\\t'" in problem or "tab" in problem:
        return fail("a tab is used as indentation", place, "YAML is indented with spaces")
    hints = {
        "mapping values are not allowed": "put a value that holds ': ' into quotes, or check the indentation",
        "could not find expected ':'": "a key is followed by a colon and a space",
        "expected <block end>": "check the indentation: keys of one level begin in one column",
        "found undefined alias": "write the anchor (&name) before its alias (*name)",
        "found unexpected end of stream": "a quote is not closed",
        "found character": "put the value into quotes",
    }
    hint = next((text for begin, text in hints.items() if begin in problem), "check the indentation and the colons")
    return fail(f"is no YAML: {problem}", place, hint)


def _bad_character(error: ReaderError, text: str, path: str) -> ConfigErrors:
    offset = int(error.position)
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
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
