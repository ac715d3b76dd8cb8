"""Why it exists: each part of ``sutazaid`` raises conditions by two words, without clock or registry in its hands.

Thin: the registry and its vocabulary are ``telemetry.conditions``. Besides it notices changes, so that the next
``sutazaid`` can be told (``facts``).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sutazai.errors import InternalError, NotFoundError
from sutazai.supervisor.journal import say
from sutazai.telemetry.conditions import ConditionSet
from sutazai.telemetry.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.clock import Clock


class Alarms:
    """The fleet's conditions, as ``sutazaid`` knows them."""

    def __init__(self, clock: Clock, on_change: Callable[[], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._set = ConditionSet()
        self._said_ms: dict[tuple[str, str], int] = {}

    def raise_(self, name: str, subject: str, text: str) -> None:
        """Say that a condition holds; again only renews its text."""
        self._said_ms[name, subject] = self._clock.monotonic_ms()
        if self._set.raise_(name, subject, text, self._clock.wall_ms()):
            say(f"{name} of {subject}: {text}", "warning")
            self._on_change()

    def expire(self, name: str, after_ms: int) -> None:
        """Take back what was an event and was not said again for so long."""
        now_ms = self._clock.monotonic_ms()
        for subject in self.subjects(name):
            if now_ms - self._said_ms.setdefault((name, subject), now_ms) >= after_ms:
                self.clear(name, subject)

    def clear(self, name: str, subject: str) -> None:
        """Say that it no longer holds."""
        self._said_ms.pop((name, subject), None)
        if self._set.clear(name, subject):
            say(f"{name} of {subject} is over")
            self._on_change()

    def clear_subject(self, subject: str) -> None:
        """The subject is gone, and all that was said about it."""
        if self._set.clear_subject(subject):
            self._on_change()

    def reported(self, name: str, subject: str, text: str, *, active: bool) -> None:
        """Take what another process says.

        Raises:
            NotFoundError: there is no such kind of condition.
        """
        if name not in KINDS:
            raise NotFoundError(f"there is no condition {name!r}")
        if active:
            self.raise_(name, subject, text)
        else:
            self.clear(name, subject)

    def holds(self, name: str, subject: str) -> bool:
        """Whether it holds now."""
        return self._set.get(name, subject) is not None

    def subjects(self, name: str) -> list[str]:
        """All subjects of which it holds."""
        return [condition.subject for condition in self._set.active() if condition.name == name]

    def worst(self) -> str:
        """Severity of the worst one: ``critical``, ``warning``, ``info`` or empty."""
        active = self._set.active()
        return active[0].kind.severity if active else ""

    def to_json(self) -> list[dict[str, Any]]:
        """All of them, for the socket and for the next ``sutazaid``."""
        return self._set.to_json()

    def restore(self, entries: list[dict[str, Any]]) -> None:
        """Take over what an earlier ``sutazaid`` knew; what is not understood is left out."""
        with contextlib.suppress(InternalError):
            self._set = ConditionSet.from_json(entries)
