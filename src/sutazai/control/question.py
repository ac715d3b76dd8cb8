"""Why it exists: a wrong question is answered with what is wrong about it, never with an empty answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LIMIT_DEFAULT = 500
LIMIT_MAX = 5_000
DIGITS_MAX = 16


class Question:
    """The query part of a request; take each parameter once, then ``finish``.

    Every method raises ``InvalidInputError`` for a value that cannot be meant.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], now_ms: int) -> None:
        """Take the pairs of the query."""
        self._values: dict[str, list[str]] = {}
        for key, value in pairs:
            self._values.setdefault(key, []).append(value)
        self.now_ms = now_ms

    def many(self, name: str) -> tuple[str, ...]:
        """All values of a parameter that are not empty."""
        return tuple(value for value in self._values.pop(name, []) if value)

    def one(self, name: str, default: str = "") -> str:
        """The only value of a parameter."""
        values = self.many(name)
        if len(values) > 1:
            raise InvalidInputError(f"{name} may be given once")
        return values[0] if values else default

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of some words."""
        value = self.one(name, default)
        if value not in choices:
            raise InvalidInputError(f"{name}={value!r} is none of: {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool:
        """``1`` or ``true``, ``0`` or ``false``."""
        return self.choice(name, ("0", "1", "false", "true"), "0") in {"1", "true"}

    def whole(self, name: str, default: int, most: int = 2**53) -> int:
        """A whole number, not negative."""
        text = self.one(name, str(default))
        if not text.isdecimal() or not text.isascii() or len(text) > DIGITS_MAX or int(text) > most:
            raise InvalidInputError(f"{name}={text[: DIGITS_MAX + 1]!r} is no whole number from 0 to {most}")
        return int(text)

    def limit(self) -> int:
        """How many entries are wanted."""
        return max(1, self.whole("limit", LIMIT_DEFAULT, LIMIT_MAX))

    def since_ms(self, default_last_ms: int = 0) -> int:
        """Beginning of the window: the later of ``since_ms`` and ``last_ms`` before now."""
        since, last = self.whole("since_ms", 0), self.whole("last_ms", 0)
        if not since and not last:
            last = default_last_ms
        return max(since, self.now_ms - last if last else 0)

    def rest(self) -> dict[str, tuple[str, ...]]:
        """All that was not taken."""
        return {name: self.many(name) for name in list(self._values)}

    def finish(self) -> None:
        """Refuse parameters that nobody took."""
        if unknown := sorted(self._values):
            raise InvalidInputError(f"unknown parameter {', '.join(unknown)}: see docs/reference/control-api.md")
