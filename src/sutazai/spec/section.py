"""Why it exists: one reader for every table of a manifest, so that each wrong value gets the same good message.

A ``Section`` wraps a mapping. Each getter names its key, reads it, notes a mistake with its place if it is wrong and
then goes on with a value that lets the rest be read. ``finish`` reports the keys nobody asked for.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

from sutazai.limits import MANIFEST_TEXT_CHARACTERS_MAX, NAME_CHARACTERS_MAX
from sutazai.spec.places import Mapping, Mistakes, Node, Place, Scalar, Sequence
from sutazai.spec.quantities import CORES, DURATION, SIZE, Quantity, explain

if TYPE_CHECKING:
    from collections.abc import Iterable

Q = TypeVar("Q", int, float)

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,9}", re.ASCII)
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NEAR_LENGTH_DIFFERENCE_MAX = 8
NEAR_NAMES_MAX = 200
_NULLS = {"", "~", "null", "Null", "NULL"}


def near(word: str, known: Iterable[str]) -> str:
    """Name the known word that was probably meant, or an empty string."""
    lower = word.lower().replace("_", "-")
    # A file may hold thousands of names and hundreds of wrong ones: only names of about this length are compared.
    alike = [name for name in known if abs(len(name) - len(word)) <= NEAR_LENGTH_DIFFERENCE_MAX][:NEAR_NAMES_MAX]
    for text in dict.fromkeys((lower, word)):
        if found := difflib.get_close_matches(text, alike, n=1, cutoff=0.6):
            return found[0]
    return ""


def one_of(word: str, known: Iterable[str], *, shown_max: int = 12) -> str:
    """Write a hint for a word that is not known: what was meant, or what there is."""
    names = list(known)
    if meant := near(word, names):
        return f"did you mean {meant}?"
    if not names:
        return "there is none"
    more = ", …" if len(names) > shown_max else ""
    return f"write one of: {', '.join(names[:shown_max])}{more}"


def is_null(node: Node | None) -> bool:
    """Tell whether nothing was written (``key:`` or ``key: null``)."""
    return node is None or (isinstance(node, Scalar) and not node.quoted and node.text in _NULLS)


def plain(node: Node) -> Any:
    """Turn a node into Python data by YAML's own rules; for the settings that only an agent's code reads."""
    if isinstance(node, Mapping):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if node.quoted:
        return node.text
    if node.text in _NULLS:
        return None
    if node.text in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return node.text.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(node.text)
        except ValueError:
            continue
        return number if math.isfinite(number) else node.text
    return node.text


class Section:
    """A table of the manifest, read key by key.

    Attributes:
        where: how the user would name it, like ``services.leaky-shop``; empty for the whole file.
        place: where it stands.
        mistakes: where wrong values are noted.
    """

    def __init__(self, node: Mapping, where: str, mistakes: Mistakes, place: Place | None = None) -> None:
        self.where, self.mistakes = where, mistakes
        self.place = place or node.place
        self._entries = {key.text: (key, value) for key, value in node.entries}
        self._known: list[str] = []

    # Looking

    def has(self, key: str) -> bool:
        """Tell whether a value is written for this key."""
        self._know(key)
        return key in self._entries and not is_null(self._entries[key][1])

    def node(self, key: str) -> Node | None:
        """Take the raw value; ``None`` when nothing is written."""
        return self._entries[key][1] if self.has(key) else None

    def place_of(self, key: str) -> Place:
        """Place of a key's value, else of the key, else of the section."""
        if key not in self._entries:
            return self.place
        name, value = self._entries[key]
        return name.place if isinstance(value, Mapping | Sequence) or is_null(value) else value.place

    def key_place(self, key: str) -> Place:
        """Place of a key, else of the section."""
        return self._entries[key][0].place if key in self._entries else self.place

    def written(self) -> list[str]:
        """All keys that are written."""
        return list(self._entries)

    def entries(self) -> list[tuple[Scalar, Node]]:
        """All keys that are written, with their values."""
        return list(self._entries.values())

    def add(self, key: str, problem: str, hint: str = "") -> None:
        """Note a mistake at a key's value."""
        self.mistakes.add(f"{self.name(key)}: {problem}", self.place_of(key), hint)

    def name(self, key: str) -> str:
        """Write a key as the user would name it."""
        return f"{self.where}.{key}" if self.where else key

    # Single values

    def raw(self, key: str, *, what: str, required: bool = False, hint: str = "") -> str | None:
        """Take a single value's text; a list or a table is a mistake."""
        node = self.node(key)
        if node is None:
            if required:
                self.mistakes.add(f"{self.where or 'the manifest'} has no {key}", self.place, hint)
            return None
        if not isinstance(node, Scalar):
            kind = "a list" if isinstance(node, Sequence) else "keys with values"
            self.add(key, f"here is one value meant, not {kind}", f"write {key}: {what}")
            return None
        if len(node.text) > MANIFEST_TEXT_CHARACTERS_MAX:
            size = f"{len(node.text)} characters; a value may have {MANIFEST_TEXT_CHARACTERS_MAX}"
            self.add(key, f"has {size}", "put it into a file")
            return None
        return node.text

    def text(self, key: str, default: str = "", *, required: bool = False, hint: str = "") -> str:
        """Read free text."""
        text = self.raw(key, what="some text", required=required, hint=hint)
        if text is not None and "\0" in text:
            self.add(key, "holds a NUL character", "remove it")
            return default
        return default if text is None else text

    def identifier(
        self, key: str, default: str = "", *, required: bool = False, longest: int = NAME_CHARACTERS_MAX
    ) -> str:
        """Read a name: lower case, digits, single dashes."""
        text = self.raw(key, what="a-name", required=required, hint=f"write {key}: a-name")
        if text is None:
            return default
        if problem := name_problem(text, longest):
            self.add(key, problem[0], problem[1])
            return default
        return text

    def choice(self, key: str, known: tuple[str, ...], default: str) -> str:
        """Read one word out of a few."""
        text = self.raw(key, what=known[0])
        if text is None or text in known:
            return default if text is None else text
        self.add(key, f"{text!r} is unknown", one_of(text, known))
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """Read true or false."""
        text = self.raw(key, what="true")
        if text is None:
            return default
        if text.lower() not in _WORDS:
            self.add(key, f"{text!r} is neither true nor false", "write true or false")
            return default
        return _WORDS[text.lower()]

    def count(self, key: str, default: int, *, least: int = 1, most: int = 1_000_000, what: str = "a number") -> int:
        """Read a count: a whole number without a unit."""
        text = self.raw(key, what=str(max(least, 1)))
        if text is None:
            return default
        if _INTEGER.fullmatch(text) is None:
            self.add(key, f"{text!r} is not {what}", f"write a whole number from {least} to {most}, without a unit")
            return default
        if not least <= int(text) <= most:
            self.add(key, f"{text} is out of bounds", f"write a whole number from {least} to {most}")
            return min(max(int(text), least), most)
        return int(text)

    def quantity(self, key: str, kind: Quantity[Q], default: Q) -> Q:
        """Read a quantity with its unit; more than nothing."""
        text = self.raw(key, what=kind.example)
        if text is None:
            return default
        value = self._parse(key, kind, text)
        return default if value is None else value

    def size(self, key: str, default: int = 0) -> int:
        """Read bytes."""
        return self.quantity(key, SIZE, default)

    def duration_ms(self, key: str, default: int) -> int:
        """Read milliseconds."""
        return self.quantity(key, DURATION, default)

    def cores(self, key: str, default: float = 0.0) -> float:
        """Read an amount of CPU."""
        return self.quantity(key, CORES, default)

    def auto_or(self, key: str, kind: Quantity[Q], word: str = "auto") -> Q | None:
        """Read a quantity, or a word (the default), which gives ``None``."""
        text = self.raw(key, what=word)
        if text is None or text == word:
            return None
        if text.lower() == word:
            self.add(key, f"{text!r} is unknown", f"write {word}, in lower case")
            return None
        return self._parse(key, kind, text)

    # Several values

    def scalars(self, key: str) -> list[Scalar]:
        """Read a list of single values; a single value counts as a list of one."""
        node = self.node(key)
        if node is None:
            return []
        if isinstance(node, Scalar):
            return [node]
        if isinstance(node, Mapping):
            self.add(key, "here is a list meant, not keys with values", f"write {key}: [one, two]")
            return []
        for item in node.items:
            if not isinstance(item, Scalar):
                self.mistakes.add(f"{self.name(key)}: here is one value meant", item.place, "write a list of words")
        return [item for item in node.items if isinstance(item, Scalar)]

    def section(self, key: str) -> Section | None:
        """Read a table below this one; ``None`` when nothing is written."""
        node = self.node(key)
        if node is None:
            return None
        return self._below(node, self.name(key), self.key_place(key))

    def sections(self, key: str, what: str) -> list[tuple[Scalar, Section]]:
        """Read a table of named tables (services, agents, pools); ``name:`` with nothing behind it is an empty one."""
        outer = self.section(key)
        if outer is None:
            return []
        found = []
        for name, value in outer.entries():
            if problem := name_problem(name.text, NAME_CHARACTERS_MAX):
                self.mistakes.add(f"{what} {problem[0]}", name.place, problem[1])
            node = Mapping((), name.place) if is_null(value) else value
            inner = outer._below(node, f"{self.name(key)}.{name.text}", name.place, named=True)  # noqa: SLF001 its own kind
            if inner is not None:
                found.append((name, inner))
        return found

    def strings(self, key: str) -> dict[str, str]:
        """Read a table of texts, like an environment."""
        outer = self.section(key)
        if outer is None:
            return {}
        return {name: outer.text(name) for name in outer.written()}

    def child(self, node: Mapping, where: str, place: Place | None = None, *, named: bool = False) -> Section:
        """Make a section below this one.

        Args:
            node: its keys and values.
            where: how the user would name it.
            place: where it stands.
            named: whether its own name is the user's, like that of a service.
        """
        del named  # of interest to those who watch
        return Section(node, where, self.mistakes, place)

    def _below(self, node: Node, where: str, place: Place, *, named: bool = False) -> Section | None:
        """Make a section out of a node, or note that it is none."""
        if isinstance(node, Mapping):
            return self.child(node, where, place, named=named)
        kind = "a list" if isinstance(node, Sequence) else f"the value {node.text!r}"
        self.mistakes.add(
            f"{where}: here are keys with values meant, not {kind}", node.place, "write key: value below it, indented"
        )
        return None

    def finish(self) -> None:
        """Report every key that nobody asked for."""
        for key, (name, _) in self._entries.items():
            if key not in self._known:
                where = f" in {self.where}" if self.where else ""
                self.mistakes.add(f"unknown key {key!r}{where}", name.place, one_of(key, self._known, shown_max=20))

    def _know(self, key: str) -> None:
        if key not in self._known:
            self._known.append(key)

    def _parse(self, key: str, kind: Quantity[Q], text: str) -> Q | None:
        try:
            value = kind.parse(text)
        except ValueError:
            problem, hint = explain(kind, text)
            self.add(key, problem, hint)
            return None
        if value <= 0:
            self.add(key, f"{text} is nothing", f"write more than zero, like {kind.example}")
            return None
        return value


def name_problem(text: str, longest: int) -> tuple[str, str] | None:
    """Say what is wrong with a name, and what to write; ``None`` when it is fine."""
    if len(text) > longest:
        return f"name {text[:20]}… has {len(text)} characters", f"use at most {longest}"
    if NAME.fullmatch(text):
        return None
    mended = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    example = f"write {mended}" if NAME.fullmatch(mended) else "begin with a letter, like my-fleet"
    return f"name {text!r} is not allowed", f"{example}: lower case letters, digits and single dashes"
