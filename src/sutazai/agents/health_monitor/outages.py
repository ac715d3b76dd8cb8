"""Why it exists: availability and time to repair are simple numbers with one definition each. Pure.

Availability is the share of liveness checks that passed. An outage begins with a failed check and ends with the next
passed one; an outage that still lasts has no time to repair. Without checks, an outage goes from the end of the process
to its next readiness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.health_monitor.models import EventFact

_DOWN = ("process-exited", "oom-killed")
_UP = ("process-ready",)


@dataclass(frozen=True, slots=True)
class Outage:
    """From when to when something did not work; ``end_ms`` is none while it lasts."""

    start_ms: int
    end_ms: int | None


def availability(points: Sequence[tuple[int, float]]) -> float | None:
    """Share of checks passed, 0 to 1; none without checks."""
    if not points:
        return None
    return sum(1 for _, value in points if value >= 1) / len(points)


def from_probe(points: Sequence[tuple[int, float]]) -> list[Outage]:
    """Outages by liveness checks, in order of time."""
    return _join([(at_ms, value >= 1) for at_ms, value in points])


def from_events(events: Sequence[EventFact]) -> list[Outage]:
    """Outages of one process by its ends and its readiness."""
    told = sorted(events, key=lambda event: event.at_wall_ms)
    return _join([(event.at_wall_ms, event.kind in _UP) for event in told if event.kind in (*_DOWN, *_UP)])


def _join(told: Sequence[tuple[int, bool]]) -> list[Outage]:
    found: list[Outage] = []
    start_ms: int | None = None
    for at_ms, works in told:
        if works and start_ms is not None:
            found.append(Outage(start_ms, at_ms))
            start_ms = None
        elif not works and start_ms is None:
            start_ms = at_ms
    if start_ms is not None:
        found.append(Outage(start_ms, None))
    return found


def mttr_s(found: Sequence[Outage]) -> float | None:
    """Mean time to repair of the outages that ended, seconds; none when none did."""
    ended = [(outage.end_ms - outage.start_ms) / 1000 for outage in found if outage.end_ms is not None]
    return sum(ended) / len(ended) if ended else None
