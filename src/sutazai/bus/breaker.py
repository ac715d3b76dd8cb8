"""Why it exists: an agent that fails everybody is left alone for a while, so that no task's attempts are spent on it.

One pure state machine for each agent: no clock and no luck of its own. What counts as a failure is decided by
``bus.resilience``; the whole is explained in ``docs/explanation/resilience.md``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

#: Slices of the sliding window: what is older than the window leaves it a tenth at a time.
SLICES = 10
#: Failed tasks that one window tells apart; beyond them the oldest is forgotten, and would count a second time.
TASKS_TOLD_APART_MAX = 2_000
_OPENINGS_GROWN_MAX = 32


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Policy:
    """When a breaker opens, and how it closes again.

    Attributes:
        failures: it opens when so many different tasks failed one after the other.
        ratio: or when this share of the tasks within the window failed, above 0, at most 1.
        volume: which is looked at from so many on.
        window_ms: the sliding window.
        pause_ms: open for so long the first time; each time in a row twice as long.
        pause_ms_max: never longer.
        probes: turns at a time while it is half-open; so many have to succeed.
        timeout_ms: a turn that its deadline ended counts as a failure when it had at least so long.
        when_open: whether callers from outside are taken into the queue, or refused.
    """

    failures: int = 5
    ratio: float = 0.5
    volume: int = 20
    window_ms: int = 60_000
    pause_ms: int = 5_000
    pause_ms_max: int = 120_000
    probes: int = 1
    timeout_ms: int = 1_000
    when_open: Literal["queue", "refuse"] = "queue"

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self | None:
        """Read what the plan says of an agent; None when its breaker is switched off."""
        values = {name: value for name, value in facts.items() if name in cls.__dataclass_fields__}
        return cls(**values) if facts.get("enabled", True) else None


@dataclass(slots=True)
class _Slice:
    """A tenth of the window."""

    until_ms: int
    succeeded: int = 0
    failed: int = 0


class Breaker:
    """Of one agent.

    Args:
        policy: of the agent.

    Attributes:
        state: now; ``advance`` brings it up to date.
        opened: how often it opened.
        why: why it opened last.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = State.CLOSED
        self.opened = 0
        self.why = ""
        self._slices: deque[_Slice] = deque()
        self._told_apart: dict[str, int] = {}
        self._in_a_row: dict[str, None] = {}
        self._until_ms = 0
        self._since_ms = 0
        self._openings = 0
        self._probing: set[str] = set()
        self._passed = 0

    # What is asked of it

    def room(self, now_ms: int) -> int | None:
        """How many turns may start now; None for any number."""
        self.advance(now_ms)
        if self.state is State.CLOSED:
            return None
        if self.state is State.OPEN:
            return 0
        return max(0, self.policy.probes - self._passed - len(self._probing))

    def next_ms(self) -> int:
        """When an open one lets a probe through; 0 when it is not open."""
        return self._until_ms if self.state is State.OPEN else 0

    def probe_pause_ms(self, task: str) -> int:
        """How long a probe that fails stays away, so that the next one is another task; 0 when it is no probe."""
        return 2 * self._ceiling_ms() if task in self._probing else 0

    def _ceiling_ms(self) -> int:
        return min(self.policy.pause_ms_max, self.policy.pause_ms << min(self._openings, _OPENINGS_GROWN_MAX))

    def since_ms(self) -> int:
        """When it came into its state; 0 for the beginning."""
        return self._since_ms

    def counted(self, now_ms: int) -> tuple[int, int]:
        """Tasks that succeeded and tasks that failed within the window."""
        self._forget(now_ms)
        return sum(part.succeeded for part in self._slices), sum(part.failed for part in self._slices)

    def is_of_interest(self, now_ms: int) -> bool:
        """Whether there is anything to say of it: it is not closed, was opened, or has seen a failure."""
        return self.state is not State.CLOSED or self.opened > 0 or self.counted(now_ms)[1] > 0

    # What happens

    def advance(self, now_ms: int) -> bool:
        """Let time pass.

        Returns:
            Whether an open breaker became half-open.
        """
        if self.state is not State.OPEN or now_ms < self._until_ms:
            return False
        self._enter(State.HALF_OPEN, now_ms)
        return True

    def started(self, task: str, now_ms: int) -> None:
        """A turn of this task started; while half-open it is a probe."""
        self.advance(now_ms)
        if self.state is State.HALF_OPEN:
            self._probing.add(task)

    def succeeded(self, task: str, now_ms: int) -> None:
        """A turn ended well."""
        self.advance(now_ms)
        if self.state is State.CLOSED:
            self._slice(now_ms).succeeded += 1
            self._in_a_row.clear()
        elif task in self._probing:
            self._probing.discard(task)
            self._passed += 1
            if self._passed >= self.policy.probes:
                self._close(now_ms)

    def failed(self, task: str, now_ms: int, draw: float) -> bool:
        """A turn failed by the agent's fault.

        Args:
            task: its task; the failures of one task count once within a window.
            now_ms: broker's time.
            draw: from 0 to 1, for the jitter of the pause.

        Returns:
            Whether the breaker has opened by it.
        """
        self.advance(now_ms)
        if self.state is State.HALF_OPEN:
            if task not in self._probing:
                return False  # it began before: it says nothing of now
            self._open(now_ms, draw, "a probe failed")
            return True
        if self.state is State.OPEN:
            return False
        self._in_a_row[task] = None
        if self._is_new(task, now_ms):
            self._slice(now_ms).failed += 1
        why = self._too_much(now_ms)
        if why:
            self._open(now_ms, draw, why)
        return bool(why)

    def _too_much(self, now_ms: int) -> str:
        succeeded, failed = self.counted(now_ms)
        policy = self.policy
        if len(self._in_a_row) >= policy.failures:
            return f"{len(self._in_a_row)} tasks failed one after the other"
        if succeeded + failed >= policy.volume and failed >= policy.ratio * (succeeded + failed):
            return f"{failed} of {succeeded + failed} tasks failed"
        return ""

    def neutral(self, task: str) -> None:
        """A turn ended in a way that says nothing of the agent; a probe's place is free again."""
        self._probing.discard(task)

    # Inside

    def _open(self, now_ms: int, draw: float, why: str) -> None:
        if self.state is State.CLOSED and now_ms - self._since_ms > self.policy.window_ms:
            self._openings = 0  # it was well for a whole window: the pauses begin anew
        self._until_ms = now_ms + max(1, int(self._ceiling_ms() * (0.5 + 0.5 * min(1.0, max(0.0, draw)))))
        self._openings += 1
        self.opened += 1
        self.why = why
        self._enter(State.OPEN, now_ms)

    def _close(self, now_ms: int) -> None:
        self._slices.clear()
        self._told_apart.clear()
        self._in_a_row.clear()
        self._enter(State.CLOSED, now_ms)

    def _enter(self, state: State, now_ms: int) -> None:
        self.state, self._since_ms = state, now_ms
        self._probing.clear()
        self._passed = 0

    def _is_new(self, task: str, now_ms: int) -> bool:
        """Whether this task has not failed within the window."""
        until_ms = self._told_apart.pop(task, 0)
        self._told_apart[task] = max(until_ms, now_ms + self.policy.window_ms) if until_ms <= now_ms else until_ms
        if len(self._told_apart) > TASKS_TOLD_APART_MAX:
            del self._told_apart[next(iter(self._told_apart))]
        return until_ms <= now_ms

    def _slice(self, now_ms: int) -> _Slice:
        width_ms = max(1, self.policy.window_ms // SLICES)
        until_ms = now_ms - now_ms % width_ms + width_ms
        if not self._slices or self._slices[-1].until_ms < until_ms:
            self._slices.append(_Slice(until_ms))
            self._forget(now_ms)
        return self._slices[-1]

    def _forget(self, now_ms: int) -> None:
        while self._slices and self._slices[0].until_ms <= now_ms - self.policy.window_ms:
            self._slices.popleft()
