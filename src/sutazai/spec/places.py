"""Why it exists: a mistake is only mended quickly when the message says the file, the line and the column.

Values are kept as *nodes*: the text as it was written, with its place. Nothing is guessed from its look (a bare ``512``
stays text until somebody asks for a size and can say that its unit is missing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sutazai.errors import ConfigError, ConfigErrors
from sutazai.limits import (
    MANIFEST_MESSAGE_CHARACTERS_MAX,
    MANIFEST_MISTAKES_COUNTED_MAX,
    MANIFEST_MISTAKES_MAX,
)


class Place(NamedTuple):
    """Where something was written.

    Attributes:
        path: file as the user named it.
        line: 1-based, 0 when the whole file is meant.
        column: 1-based, 0 when unknown.
    """

    path: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Write it as editors and compilers do: ``file:line:column``."""
        return ":".join(str(part) for part in self if part)


#: Of what was not written.
NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value.

    Attributes:
        text: as written, without quotes.
        place: where it stands.
        quoted: whether it stood in quotes (then ``"12"`` is text, not a number).
    """

    text: str
    place: Place
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of values."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with their values, in the order of the file, each key once."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place


Node = Scalar | Sequence | Mapping


class Mistakes:
    """Collects what is wrong, so that the user sees all of it at once."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []
        self._seen: set[tuple[Place, str]] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, problem: str, place: Place, hint: str = "") -> None:
        """Note a mistake; the same one at the same place is noted once.

        Raises:
            ConfigErrors: there are so many that this is hardly a manifest; what comes behind is not read.
        """
        problem, hint = _short(problem), _short(hint)
        if (place, problem) in self._seen:
            return
        self._seen.add((place, problem))
        self._found.append(
            ConfigError(problem, path=place.path, line=place.line, column=place.column, hint=hint),
        )
        if len(self._found) > MANIFEST_MISTAKES_COUNTED_MAX:
            raise self._group(place.path)

    def take(self, group: ConfigErrors) -> None:
        """Note the mistakes of another file."""
        for mistake in group.exceptions:
            if isinstance(mistake, ConfigError):
                self.add(mistake.problem, Place(mistake.path, mistake.line, mistake.column), mistake.hint)

    def raise_if_any(self, path: str) -> None:
        """Raise all mistakes together, in the order of their places.

        Raises:
            ConfigErrors: at least one mistake was noted.
        """
        if self._found:
            raise self._group(path)

    def _group(self, path: str) -> ConfigErrors:
        ordered = sorted(self._found, key=lambda one: (one.path != path, one.path, one.line, one.column))
        shown = ordered[:MANIFEST_MISTAKES_MAX]
        more = len(ordered) > MANIFEST_MISTAKES_COUNTED_MAX
        count = f"more than {len(ordered) - 1}" if more else str(len(ordered))
        cut = f", the first {len(shown)} are shown" if len(shown) < len(ordered) else ""
        return ConfigErrors(f"{path}: {count} mistake{'s' if len(ordered) > 1 else ''}{cut}", shown)


def _short(text: str) -> str:
    """Cut a message that quotes a whole file; both ends are kept, because the end says what is wrong."""
    if len(text) <= MANIFEST_MESSAGE_CHARACTERS_MAX:
        return text
    half = MANIFEST_MESSAGE_CHARACTERS_MAX // 2
    return f"{text[:half]} … {text[-half:]}"


def fail(problem: str, place: Place, hint: str = "") -> ConfigErrors:
    """Build the group for a mistake behind which nothing more can be read."""
    mistake = ConfigError(problem, path=place.path, line=place.line, column=place.column, hint=hint)
    return ConfigErrors(f"{place.path}: 1 mistake", [mistake])
