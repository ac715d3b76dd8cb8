"""Why it exists: what may be asked of dead letters, as values; ``store.dead`` says what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sutazai.store.times import Bound


@dataclass(frozen=True, slots=True)
class Replay:
    """Do a dead letter again, as a new task; a second time gives the same task. Reply: ``Accepted``.

    Attributes:
        task: the dead letter.
        by: who asks, for the evidence.
        deadline_ms: the new task has at least so long; more when the old one had more.
        queue: bound of the agent's queue.
    """

    task: str
    by: str
    deadline_ms: int
    queue: Bound | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """A dead letter needs nothing more; its evidence stays. Reply: whether it had been discarded before."""

    task: str
    by: str


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Read dead letters, newest first, with their turns, without input. Reply: list of JSON objects.

    Attributes:
        agent: only this one's.
        handled: also those that were replayed or discarded.
        limit: most of them.
        task: only this one, handled or not; it is an error when it is not dead.
    """

    agent: str | None
    handled: bool
    limit: int
    task: str | None = None
