"""Why it exists: a Compose file is full of ``${NAME:-default}``, and what they stand for is in ``.env`` and the shell.

The forms are those of the Compose specification: ``$NAME``, ``${NAME}``, ``:-`` ``-`` (default), ``:?`` ``?``
(required), ``:+`` ``+`` (replacement), and ``$$`` for a dollar sign. Defaults may hold variables themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.spec.document import read_text
from sutazai.spec.places import Mapping as MappingNode
from sutazai.spec.places import Mistakes, Node, Place, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NESTED_MAX = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(?:([=:])[ \t]*)?", re.ASCII)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


@dataclass
class Variables:
    """What variables stand for, and which were asked for in vain.

    Attributes:
        values: name → text; the shell's win over those of ``.env``.
        mistakes: where what is required and not set is noted.
        unset: name → where it was first used without a value and without a default.
    """

    values: Mapping[str, str]
    mistakes: Mistakes
    unset: dict[str, Place] = field(default_factory=dict)

    def expand(self, text: str, place: Place, nested: int = 0) -> str:
        """Replace the variables in a text; what cannot be read is noted and stays as it was written."""
        if "$" not in text:
            return text
        if nested > NESTED_MAX:
            self.mistakes.add(f"variables are nested deeper than {NESTED_MAX}", place, "write the default in full")
            return ""
        out: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            out.append(text[at:dollar])
            at = dollar + 1
            if text.startswith("$", at):
                out.append("$")
                at += 1
            elif text.startswith("{", at):
                end = _closing(text, at)
                if end < 0:
                    self.mistakes.add(f"{text[dollar : dollar + 40]!r} has no closing brace", place, "write ${NAME}")
                    return text
                out.append(self._braced(text[at + 1 : end], place, nested))
                at = end + 1
            elif match := _NAME.match(text, at):
                out.append(self._plain(match[0], place))
                at = match.end()
            else:
                self.mistakes.add(f"a lone $ stands in {text[:40]!r}", place, "a dollar sign itself is written $$")
                return text
        return "".join(out) + text[at:]

    def expand_node(self, node: Node) -> Node:
        """Replace the variables in all values of a document; keys stay as they are."""
        if isinstance(node, Scalar):
            return (
                Scalar(self.expand(node.text, node.place), node.place, quoted=node.quoted) if "$" in node.text else node
            )
        if isinstance(node, Sequence):
            return Sequence(tuple(self.expand_node(item) for item in node.items), node.place)
        return MappingNode(tuple((key, self.expand_node(value)) for key, value in node.entries), node.place)

    def _plain(self, name: str, place: Place) -> str:
        if name not in self.values:
            self.unset.setdefault(name, place)
        return self.values.get(name, "")

    def _braced(self, inside: str, place: Place, nested: int) -> str:
        match = _NAME.match(inside)
        rest = inside[match.end() :] if match else ""
        operator = next((sign for sign in _OPERATORS if rest.startswith(sign)), "")
        if match is None or (rest and not operator):
            self.mistakes.add(f"${{{inside[:40]}}} is no variable", place, "write ${NAME} or ${NAME:-default}")
            return ""
        name, word = match[0], rest[len(operator) :]
        if not operator:
            return self._plain(name, place)
        value = self.values.get(name)
        have = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("+"):
            return self.expand(word, place, nested + 1) if have else ""
        if have:
            return value or ""
        if operator.endswith("-"):
            return self.expand(word, place, nested + 1)
        told = self.expand(word, place, nested + 1).strip()
        self.mistakes.add(
            f"the variable {name} is required and not set" + (f": {told}" if told else ""),
            place,
            f"write {name}=… into .env beside the Compose file, or set it in the shell",
        )
        return ""


def _closing(text: str, opening: int) -> int:
    """Find the brace that closes the one at ``opening``; -1 when there is none."""
    depth = 0
    for index in range(opening, len(text)):
        if text[index] == "{" and text[index - 1] == "$":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return -1


def read_env_file(path: Path, variables: Variables) -> dict[str, str | None]:
    """Read a file of ``NAME=value`` lines.

    Returns:
        Values by name; ``None`` for a name alone, whose value is the shell's.

    Raises:
        ConfigErrors: the file is missing or cannot be read; lesser mistakes are noted.
    """
    if path.is_file() and path.stat().st_size == 0:
        return {}
    return _EnvFile(path, variables).read()


class _EnvFile:
    """Reads one file from its begin to its end; quoted values may go over several lines."""

    def __init__(self, path: Path, variables: Variables) -> None:
        self._path, self._variables = path, variables
        self._text = read_text(path, hint="write NAME=value, or remove it") + "\n"
        self._at = 0
        self._line = 1
        self._known: dict[str, str] = {}

    def read(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        while self._at < len(self._text):
            end = self._text.index("\n", self._at)
            line = self._text[self._at : end]
            place = Place(str(self._path), self._line, len(line) - len(line.lstrip()) + 1)
            if not line.strip() or line.lstrip().startswith("#"):
                self._to(end + 1)
                continue
            match = _LINE.match(self._text, self._at)
            if match is None or (not match[2] and self._text[match.end() : end].strip()):
                self._variables.mistakes.add(f"{line.strip()[:40]!r} is no NAME=value", place, "write NAME=value")
                self._to(end + 1)
                continue
            self._to(match.end())
            found[match[1]] = self._value(place) if match[2] else None
            self._known[match[1]] = found[match[1]] or ""
        return found

    def _value(self, place: Place) -> str:
        quote = self._text[self._at]
        if quote in "'\"":
            end = self._at + 1
            while end < len(self._text) and self._text[end] != quote:
                end += 2 if self._text[end] == "\\" and quote == '"' else 1
            if end >= len(self._text):
                self._variables.mistakes.add("a quote is not closed", place, f"write the closing {quote}")
                self._to(len(self._text))
                return ""
            raw = self._text[self._at + 1 : end]
            self._to(self._text.index("\n", end) + 1)
            return raw if quote == "'" else self._expand(re.sub(r"\\(.)", _escape, raw, flags=re.DOTALL), place)
        end = self._text.index("\n", self._at)
        raw = re.sub(r"(?:^|[ \t])#.*", "", self._text[self._at : end]).strip()
        self._to(end + 1)
        return self._expand(raw, place)

    def _expand(self, text: str, place: Place) -> str:
        inner = Variables({**self._known, **self._variables.values}, self._variables.mistakes, self._variables.unset)
        return inner.expand(text, place)

    def _to(self, at: int) -> None:
        self._line += self._text.count("\n", self._at, at)
        self._at = at


def _escape(match: re.Match[str]) -> str:
    return "$$" if match[1] == "$" else _ESCAPES.get(match[1], match[1])
