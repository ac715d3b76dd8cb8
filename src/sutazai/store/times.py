"""Why it exists: how fast turns may start, how long a failed task pauses, what a schedule has seen, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.limits import RETRY_BASE_MS, RETRY_CAP_MS, RETRY_FACTOR_DEFAULT

if TYPE_CHECKING:
    from sutazai.store.model import NewTask

#: A pause that has grown so often is at its longest, whatever its factor; a larger power would overflow.
_GROWTHS_MAX = 64


@dataclass(frozen=True, slots=True)
class Rate:
    """How many turns of an agent may start in a time.

    Attributes:
        interval_us: microseconds from one start to the next.
        burst: starts at once, after a pause.
    """

    interval_us: int
    burst: int = 1

    def ahead_us(self, number_us: int, now_ms: int) -> int:
        """How far an agent's number is ahead of now, at least 0.

        What an older, slower rate has written never holds longer than this rate would.
        """
        return max(0, min(number_us - now_ms * 1_000, self.burst * self.interval_us))

    def next_ms(self, number_us: int, now_ms: int) -> int:
        """When the next turn may start, broker's milliseconds; 0 for now."""
        wait_us = self.ahead_us(number_us, now_ms) - (self.burst - 1) * self.interval_us
        return now_ms - (-wait_us // 1_000) if wait_us > 0 else 0

    def room(self, number_us: int, now_ms: int) -> int:
        """How many turns may start now."""
        return self.burst - -(-self.ahead_us(number_us, now_ms) // self.interval_us)


@dataclass(frozen=True, slots=True)
class Retry:
    """The pause before the next attempt: a draw of ``base_ms * factor ** (attempt - 1)``, at most ``max_ms``.

    Attributes:
        base_ms: before the second attempt.
        factor: how it grows, at least 1.
        max_ms: never longer.
    """

    base_ms: int = RETRY_BASE_MS
    factor: float = RETRY_FACTOR_DEFAULT
    max_ms: int = RETRY_CAP_MS

    def held_ms(self, pause_ms: int, hold_ms: int, left_ms: int) -> int:
        """A pause that the retry budget makes longer, but never past the half of what is left until the deadline.

        Args:
            pause_ms: without it.
            hold_ms: until the retry's token is there.
            left_ms: until the task's deadline.
        """
        return max(pause_ms, min(pause_ms + hold_ms, left_ms // 2))

    def pause_ms(self, attempt: int, jitter: float) -> int:
        """Pause after this attempt, milliseconds, at least 1.

        Args:
            attempt: 1, 2, …
            jitter: a draw from 0 to 1; 1 is the longest.
        """
        ceiling_ms = min(self.max_ms, self.base_ms * self.factor ** min(attempt - 1, _GROWTHS_MAX))
        return max(1, int(ceiling_ms * jitter))


RETRY_DEFAULT = Retry()


@dataclass(frozen=True, slots=True)
class Bound:
    """How much may wait for an agent.

    Attributes:
        tasks_max: open tasks; 0 for no bound of its own.
        bytes_max: of their inputs; 0 for no bound of its own.
    """

    tasks_max: int = 0
    bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a schedule, also of one that is in the plan no more.

    Attributes:
        agent: whose.
        schedule: its name.
        seen_wall_ms: the newest time that was decided on.
        last_wall_ms: the newest one that became a task, 0 for none.
        last_task: identifier of that task.
    """

    agent: str
    schedule: str
    seen_wall_ms: int
    last_wall_ms: int = 0
    last_task: str = ""


@dataclass(frozen=True, slots=True)
class Occur:
    """A time of a schedule has come: make its task, once. Reply: ``Accepted``, or None when nothing was to be made.

    Attributes:
        agent: whose schedule.
        schedule: its name.
        at_wall_ms: the time; nothing behind it was decided on.
        task: to be made; None when the time is left out, or only to begin with.
    """

    agent: str
    schedule: str
    at_wall_ms: int
    task: NewTask | None


@dataclass(frozen=True, slots=True)
class Schedules:
    """Read what was decided on of all schedules. Reply: list of ``Seen``."""


@dataclass(frozen=True, slots=True)
class Claimable:
    """Read which of these agents have a due task of this priority or a better one. Reply: list of names."""

    agents: tuple[str, ...]
    priority_max: int
