"""Why it exists: the broker knows who says "look at this agent" by these verbs alone; what is there, the store says.

A driver is told what a group changed and answers one question: how many claims of an agent may be made now. It never
says *which* task is claimed and never ends one, so a signal that is lost, doubled or late costs time and nothing else.
``testing.dispatch_contract.DispatchContract`` is what each driver must pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sutazai.store.model import Event

#: An answer of ``looks`` that sets no bound.
ALWAYS = 1 << 30


@dataclass(frozen=True, slots=True)
class Signal:
    """One "look at this agent", taken for one claim.

    Attributes:
        agent: whose task may be claimed.
        epoch: of the connection that brought it; what came over an older one is not acknowledged.
        tag: its number there, 0 for a look that nobody brought.
    """

    agent: str
    epoch: int = 0
    tag: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """What a driver may ask of the broker that it serves. All of it is called on the broker's thread.

    Attributes:
        ready: how many tasks of an agent may be claimed now, as the store counts them.
        agents: those with tasks that may be claimed now.
        instances_max: how many instances an agent may have; 0 for one that the plan does not name (any more), and for
            people and signals, whose tasks nobody claims.
        ids: reads up to so many identifiers of an agent's claimable tasks, and hands them over after the group.
        wake: something may be looked at now.
    """

    ready: Callable[[str], int]
    agents: Callable[[], Iterable[str]]
    instances_max: Callable[[str], int]
    ids: Callable[[str, int, Callable[[list[str]], None]], None]
    wake: Callable[[], None]


class Driver(Protocol):
    """Says where to look."""

    name: str
    #: Whether ``committed`` wants to be called: a driver in the process itself needs no news.
    carries: bool

    def serve(self, site: Site) -> None:
        """Work for this broker from now on; called once, before anything else."""

    async def run(self) -> None:
        """Be connected, again and again, until cancelled; returns at once when there is nothing to connect to."""

    def committed(self, events: Sequence[Event]) -> None:
        """These things happened in a group that is on disk now."""

    def looks(self, agent: str) -> int:
        """How many claims of this agent may be made now; ``ALWAYS`` for no bound, 0 when nobody said so."""
        ...

    def take(self, agent: str) -> Signal:
        """Use one of ``looks`` for a claim that is being made."""
        ...

    def used(self, signal: Signal) -> None:
        """The claim is on disk: the signal has done its work."""

    def unused(self, signal: Signal) -> None:
        """The claim was rolled back, or found nothing to claim: the signal stands for another look."""

    def tick(self, now_ms: int, waiting: Sequence[tuple[str, int]]) -> None:
        """Time has passed.

        Args:
            now_ms: broker's time.
            waiting: agents with claimable tasks and with idle instances for which ``looks`` said 0, and how many
                claims are possible. The same agent here for long means that a signal was lost.
        """

    def facts(self) -> dict[str, Any]:
        """How it is doing, for ``stats``: driver, state, why, and counters."""
        ...
