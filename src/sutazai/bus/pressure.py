"""Why it exists: when the machine is short of something, less work is begun; nothing that is accepted is lost.

``sutazaid`` says how much of what is due may be claimed. What may not waits in its queue and says why. It is kept in
memory only: a broker that was restarted is told again when it says hello.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.limits import PRIORITY_LOWEST
from sutazai.store.model import Outcome
from sutazai.store.times import Claimable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus.directory import Directory
    from sutazai.bus.group import Journal
    from sutazai.errors import RefusedError
    from sutazai.store.counts import Counts

_LOOK_EVERY_MS = 1_000
_WHY_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much of what is due may be claimed.

    Attributes:
        priority_max: tasks of a larger number wait; 9 lets all go.
        share: of an agent's instances that may have a turn at once, rounded up; 1 for all, 0 for none.
        why: for people.
    """

    priority_max: int = PRIORITY_LOWEST
    share: float = 1.0
    why: str = ""

    @classmethod
    def read(cls, said: dict[str, Any]) -> Pressure:
        """Take what ``sutazaid`` said; what is missing or out of bounds lets all go."""
        priority, share = said.get("priority_max", PRIORITY_LOWEST), said.get("share", 1.0)
        return cls(
            min(PRIORITY_LOWEST, max(0, priority)) if type(priority) is int else PRIORITY_LOWEST,
            min(1.0, max(0.0, float(share))) if type(share) in {int, float} else 1.0,
            str(said.get("why", ""))[:_WHY_CHARACTERS_MAX],
        )

    @property
    def holds(self) -> bool:
        """Whether anything is held back."""
        return self.priority_max < PRIORITY_LOWEST or self.share < 1


class Valve:
    """Lets through what the pressure allows.

    Args:
        journal: for looking whether an agent has a task that may be claimed.
        directory: how many instances an agent may have.
        eased: called when something may have become claimable.
    """

    def __init__(self, journal: Journal, directory: Directory, eased: Callable[[], None]) -> None:
        self._journal, self._directory, self._eased = journal, directory, eased
        self.pressure = Pressure()
        self._held: frozenset[str] = frozenset()
        self._next_ms = 0
        self._looking = False

    def set(self, pressure: Pressure) -> None:
        """``sutazaid`` says it."""
        self.pressure, self._held, self._next_ms = pressure, frozenset(), 0
        self._eased()

    def room(self, agent: str, leased: int) -> int | None:
        """How many more turns of an agent may start while so many run; None for any number."""
        if agent in self._held:
            return 0
        if self.pressure.share >= 1:
            return None
        return max(0, math.ceil(self.pressure.share * self._directory.instances_max(agent)) - leased)

    def priority_max(self) -> int | None:
        """For claims; None lets all go."""
        return None if self.pressure.priority_max >= PRIORITY_LOWEST else self.pressure.priority_max

    def why(self, agent: str, priority: int, leased: int) -> str:
        """Why a due task is held back; empty when it is not."""
        reason = f" ({self.pressure.why})" if self.pressure.why else ""
        if priority > self.pressure.priority_max:
            return f"held back{reason}: only priorities up to {self.pressure.priority_max} start"
        if self.pressure.share < 1 and self.room(agent, leased) == 0:
            return f"held back{reason}: {self.pressure.share:.0%} of the instances may work"
        return ""

    def tick(self, now_ms: int, counts: Counts) -> None:
        """Look which agents have only tasks that wait, so that nobody is woken or kept awake for them."""
        if self.priority_max() is None or self._looking or now_ms < self._next_ms:
            return
        self._next_ms = now_ms + _LOOK_EVERY_MS
        agents = tuple(agent for agent, entry in counts.agents.items() if entry.ready > 0)
        asked = self.pressure
        self._looking = True

        def done(result: Outcome | RefusedError) -> None:
            self._looking = False
            if isinstance(result, Outcome) and self.pressure is asked:
                before, self._held = self._held, frozenset(agents) - frozenset(result.reply)
                if before - self._held:
                    self._eased()

        self._journal.enqueue(Claimable(agents, asked.priority_max), done)
