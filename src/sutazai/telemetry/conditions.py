"""Why it exists: what a user must know about has one registry, so that a cause is shown and its echoes are not.

A *condition* is a state (``MemoryPressure`` of ``leaky-shop``), not a message: it is raised once, keeps the time at
which it began, and is cleared. Each kind says what it means, what to do, and which other conditions explain it; a
reader is shown the roots first.

A cause is written ``Kind`` (the same subject), ``Kind/*`` (any subject) or ``Kind/subject``. The kinds' causes form no
cycle; this is checked when the module is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sutazai.errors import InternalError
from sutazai.telemetry.kinds import KINDS, SEVERITIES, Kind

Severity = Literal["info", "warning", "critical"]

#: Longest text of one condition, characters; the rest is cut.
TEXT_CHARACTERS_MAX = 500
#: Most conditions that one set holds; at the bound a new one is not taken (and the old ones stay true).
CONDITIONS_ACTIVE_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Condition:
    """One active condition.

    Attributes:
        name: its kind.
        subject: what it is about: a process, an agent, a pool, ``host``.
        text: what is the matter, for a person, with its numbers.
        since_wall_ms: when it began.
        because: causes beyond those of the kind, named by who raised it, as ``Kind/subject``.
    """

    name: str
    subject: str
    text: str
    since_wall_ms: int
    because: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``Kind/subject``, unique among active conditions."""
        return f"{self.name}/{self.subject}"

    @property
    def kind(self) -> Kind:
        """Its entry in the registry."""
        return kind_of(self.name)


def kind_of(name: str) -> Kind:
    """Find a kind.

    Raises:
        InternalError: there is no such kind; add it to ``telemetry/kinds.py``.
    """
    try:
        return KINDS[name]
    except KeyError:
        raise InternalError(f"there is no condition kind {name!r}: add it to telemetry/kinds.py") from None


class ConditionSet:
    """The conditions that hold now. Not safe to change from two threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._active: dict[str, Condition] = {}

    def raise_(self, name: str, subject: str, text: str, at_wall_ms: int, because: tuple[str, ...] = ()) -> bool:
        """Say that a condition holds; saying it again only renews its text.

        Args:
            name: kind.
            subject: what it is about.
            text: the matter with its numbers; empty means the kind's own words.
            at_wall_ms: now; kept as the beginning when the condition is new.
            because: further causes as ``Kind/subject``.

        Returns:
            Whether it is new.

        Raises:
            InternalError: unknown kind.
        """
        kind = kind_of(name)
        words = (text or kind.summary.format(subject=subject))[:TEXT_CHARACTERS_MAX]
        key = f"{name}/{subject}"
        old = self._active.get(key)
        if old is None and len(self._active) >= CONDITIONS_ACTIVE_MAX:
            return False
        since = old.since_wall_ms if old else at_wall_ms
        self._active[key] = Condition(name, subject, words, since, because)
        return old is None

    def clear(self, name: str, subject: str) -> bool:
        """Say that a condition no longer holds.

        Returns:
            Whether it held.

        Raises:
            InternalError: unknown kind.
        """
        kind_of(name)
        return self._active.pop(f"{name}/{subject}", None) is not None

    def clear_subject(self, subject: str) -> list[Condition]:
        """Clear all conditions of a subject that is gone; returns them."""
        gone = [condition for condition in self._active.values() if condition.subject == subject]
        for condition in gone:
            del self._active[condition.key]
        return gone

    def get(self, name: str, subject: str) -> Condition | None:
        """The active condition of this kind and subject."""
        return self._active.get(f"{name}/{subject}")

    def active(self) -> list[Condition]:
        """All that hold: the most severe first, then the oldest."""
        return sorted(self._active.values(), key=_order)

    def causes(self, condition: Condition) -> list[Condition]:
        """The active conditions that explain this one directly."""
        found: dict[str, Condition] = {}
        for cause in (*condition.kind.causes, *condition.because):
            name, slash, subject = cause.partition("/")
            if subject == "*":
                found |= {other.key: other for other in self._active.values() if other.name == name}
            elif other := self._active.get(f"{name}/{subject if slash else condition.subject}"):
                found[other.key] = other
        found.pop(condition.key, None)
        return sorted(found.values(), key=_order)

    def roots(self) -> list[Condition]:
        """The conditions that no other active one explains; what follows from them is hidden.

        Causes named by raisers could form a circle; then its oldest member counts as the root.
        """
        causes = {key: [other.key for other in self.causes(condition)] for key, condition in self._active.items()}
        roots = [key for key in causes if not causes[key]]
        explained = _reached(roots, causes)
        while len(explained) < len(causes):
            rest = (self._active[key] for key in causes if key not in explained)
            oldest = min(rest, key=lambda condition: (condition.since_wall_ms, condition.key))
            roots.append(oldest.key)
            explained = _reached(roots, causes)
        return sorted((self._active[key] for key in roots), key=_order)

    def to_json(self) -> list[dict[str, Any]]:
        """All that hold, as ``sutazaid.sock`` and ``/v1/conditions`` give them.

        ``depends_on`` names the *active* causes; ``root`` says whether it is one.
        """
        roots = {condition.key for condition in self.roots()}
        return [
            {
                "name": condition.name,
                "subject": condition.subject,
                "severity": condition.kind.severity,
                "text": condition.text,
                "since_wall_ms": condition.since_wall_ms,
                "depends_on": [other.key for other in self.causes(condition)],
                "root": condition.key in roots,
                "fix": condition.kind.fix.format(subject=condition.subject),
            }
            for condition in self.active()
        ]

    @classmethod
    def from_json(cls, entries: list[dict[str, Any]]) -> ConditionSet:
        """Build a set out of ``to_json``'s list.

        Raises:
            InternalError: an entry has an unknown kind or lacks a field.
        """
        built = cls()
        for entry in entries:
            try:
                because = tuple(entry.get("depends_on", ()))
                built.raise_(entry["name"], entry["subject"], entry["text"], entry["since_wall_ms"], because)
            except (KeyError, TypeError, AttributeError) as error:
                raise InternalError(f"not a condition: {entry!r}") from error
        return built


def _order(condition: Condition) -> tuple[int, int, str]:
    return SEVERITIES.index(condition.kind.severity), condition.since_wall_ms, condition.key


def _reached(roots: list[str], causes: dict[str, list[str]]) -> set[str]:
    """All keys that follow from the roots, the roots among them."""
    effects: dict[str, list[str]] = {}
    for key, explained_by in causes.items():
        for cause in explained_by:
            effects.setdefault(cause, []).append(key)
    seen: set[str] = set()
    open_keys = list(roots)
    while open_keys:
        key = open_keys.pop()
        if key not in seen:
            seen.add(key)
            open_keys.extend(effects.get(key, ()))
    return seen
