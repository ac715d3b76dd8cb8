"""Why it exists: how the broker is doing, as numbers that cost nothing to keep."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

_STEPS_PER_DOUBLING = 4
_BUCKETS = 30 * _STEPS_PER_DOUBLING  # from 1 microsecond to about 18 minutes
_FIRST_MS = 0.001
_RATE_LEAST = 1.0


class Histogram:
    """Durations in buckets that grow by a fourth of a doubling; a quantile is at most 19 % too high."""

    __slots__ = ("_counts", "count", "max_ms")

    def __init__(self) -> None:
        self._counts = [0] * (_BUCKETS + 1)
        self.count = 0
        self.max_ms = 0.0

    def add(self, milliseconds: float) -> None:
        """Count one duration."""
        if milliseconds <= _FIRST_MS:
            place = 0
        else:
            place = min(_BUCKETS, int(math.log2(milliseconds / _FIRST_MS) * _STEPS_PER_DOUBLING) + 1)
        self._counts[place] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, milliseconds)

    def quantile_ms(self, fraction: float) -> float:
        """The upper end of the bucket that holds this quantile; 0 without any value."""
        missing = fraction * self.count
        for place, count in enumerate(self._counts):
            missing -= count
            if count and missing <= 0:
                return float(min(self.max_ms, _FIRST_MS * 2 ** (place / _STEPS_PER_DOUBLING)))
        return 0.0

    def summary(self) -> dict[str, float]:
        """Count, p50, p99, maximum."""
        return {
            "count": self.count,
            "p50_ms": round(self.quantile_ms(0.5), 3),
            "p99_ms": round(self.quantile_ms(0.99), 3),
            "max_ms": round(self.max_ms, 3),
        }


@dataclass(slots=True)
class Totals:
    """Counters since the broker started."""

    accepted: int = 0
    committed: int = 0
    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    retries: int = 0
    fenced: int = 0
    lost: int = 0
    refused: int = 0
    fallbacks: int = 0
    groups: int = 0
    operations: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """One picture of the broker.

    Attributes:
        queues: by agent: queued, leased, waiting, dead, ready.
        totals: counters since the start.
        outcomes: by agent, how its tasks ended since the start: ``{succeeded: 3, failed: 1}``.
        latency: histograms by name, milliseconds.
        store: sizes and times of the store.
        instances: connected, by agent.
        connections: all of them.
        open_tasks: not terminal.
        open_bytes: of their inputs.
        dispatch: the driver that says where to look: its state, why, and counters.
        cache: of agents: its driver, whether that answers, and counts of answers.
        supervised: whether ``sutazaid`` is connected.
        draining: nothing is leased any more.
        limited: agents whose rate holds their tasks, and for how long, milliseconds.
        pressure: what may be claimed: ``{priority_max, share, why}``.
        breakers: agents that are left alone, or were: ``{state, why, next_in_ms, for_ms, opened, refused, succeeded,
            failed}``, the last two within the window.
        budgets: agents whose retry budget is not full: ``{tokens, delayed}``.
        started_wall_ms: when the broker started.
    """

    queues: dict[str, dict[str, int]]
    totals: dict[str, int]
    outcomes: dict[str, dict[str, int]]
    latency: dict[str, dict[str, float]]
    store: dict[str, Any]
    instances: dict[str, int]
    connections: int
    open_tasks: int
    open_bytes: int
    dispatch: dict[str, Any]
    cache: dict[str, Any]
    supervised: bool
    draining: bool
    limited: dict[str, int]
    pressure: dict[str, Any]
    breakers: dict[str, dict[str, Any]]
    budgets: dict[str, dict[str, Any]]
    started_wall_ms: int

    def as_json(self) -> dict[str, Any]:
        """Write it for the wire."""
        return asdict(self)


class Meters:
    """What is counted while the broker works."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.outcomes: dict[str, dict[str, int]] = {}
        self.latency = {name: Histogram() for name in ("accept", "queue", "turn", "commit", "group")}
        self._rate_count = 0
        self._rate_ms = 0
        self.ends_per_s = 0.0
        self._agent_ends: dict[str, int] = {}
        self._agent_ends_per_s: dict[str, float] = {}

    def ended(self, kind: str, agent: str) -> None:
        """A task of an agent became terminal."""
        setattr(self.totals, kind, getattr(self.totals, kind) + 1)
        own = self.outcomes.setdefault(agent, {})
        own[kind] = own.get(kind, 0) + 1
        self._agent_ends[agent] = self._agent_ends.get(agent, 0) + 1

    def tick(self, now_ms: int) -> None:
        """Follow how many tasks end in a second."""
        totals = self.totals
        count = totals.succeeded + totals.failed + totals.dead + totals.cancelled + totals.expired
        passed = now_ms - self._rate_ms
        if passed >= 1_000:  # noqa: PLR2004 a second
            first = self._rate_ms == 0
            self.ends_per_s = _followed(self.ends_per_s, (count - self._rate_count) * 1_000 / passed, first=first)
            for agent in {*self._agent_ends, *self._agent_ends_per_s}:
                rate = self._agent_ends.get(agent, 0) * 1_000 / passed
                self._agent_ends_per_s[agent] = _followed(self._agent_ends_per_s.get(agent, 0.0), rate, first=first)
            self._agent_ends.clear()
            self._rate_count, self._rate_ms = count, now_ms

    def retry_after_s(self, open_tasks: int, agent: str = "") -> int:
        """When a refused caller should come back: when about a twentieth of the queue is done, 1 to 60 seconds.

        Args:
            open_tasks: in the queue that is full.
            agent: whose queue it is; without one that of all.
        """
        rate = self._agent_ends_per_s.get(agent, 0.0) if agent else self.ends_per_s
        return max(1, min(60, math.ceil(open_tasks / 20 / max(_RATE_LEAST, rate))))


def _followed(before: float, now: float, *, first: bool) -> float:
    return now if first else 0.7 * before + 0.3 * now
