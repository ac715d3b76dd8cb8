"""Why it exists: samples come with gaps, jitter and restarts; models want an even grid of one life. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Points that a model needs before it says anything.
POINTS_MIN = 20
_POINTS_MAX = 240
_RESET_SHARE = 0.3
_RESET_OUTLIER = 10.0
_START_STEPS = 3
_FULL_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Grid:
    """Values at even steps.

    Attributes:
        start_ms: wall time of the first.
        step_ms: distance.
        values: one a step.
    """

    start_ms: int
    step_ms: int
    values: NDArray[np.float64]

    @property
    def end_ms(self) -> int:
        """Wall time of the last value."""
        return self.start_ms + self.step_ms * (len(self.values) - 1)


@dataclass(frozen=True, slots=True)
class Life:
    """One run of a process between two restarts."""

    start_ms: int
    end_ms: int
    first: float
    last: float


def split(points: Sequence[tuple[int, float]], restarts_ms: Sequence[int] = ()) -> list[list[tuple[int, float]]]:
    """Cut a series of a process at its restarts.

    A restart is a known one, or a fall by more than 30 % that is also ten times larger than the usual step, so that a
    noisy series, which falls often, is not cut.
    """
    if not points:
        return []
    steps = np.abs(np.diff([value for _, value in points]))
    usual = float(np.median(steps)) if len(steps) else 0.0
    parts = [[points[0]]]
    for before, after in pairwise(points):
        fall = before[1] - after[1]
        fell = fall > abs(before[1]) * _RESET_SHARE and fall > usual * _RESET_OUTLIER
        if fell or any(before[0] < at_ms <= after[0] for at_ms in restarts_ms):
            parts.append([])
        parts[-1].append(after)
    return parts


def grid(parts: Sequence[Sequence[tuple[int, float]]], horizon_s: float) -> Grid | None:
    """Put the last life of a split series on an even grid; gaps are bridged by straight lines.

    The step is the usual distance of samples, made wider for a long horizon as long as enough points are left.

    Returns:
        None when there are fewer than ``POINTS_MIN`` points.
    """
    if not parts or len(parts[-1]) < POINTS_MIN:
        return None
    part = parts[-1]
    if len(parts) > 1 and len(part) >= POINTS_MIN + _START_STEPS:
        part = part[_START_STEPS:]
    times = np.array([at_ms for at_ms, _ in part], dtype=np.float64)
    values = np.array([value for _, value in part], dtype=np.float64)
    span = times[-1] - times[0]
    if span <= 0:
        return None
    usual = max(1.0, float(np.median(np.diff(times))))
    coarse = max(usual, span / _POINTS_MAX, horizon_s * 1000 / _POINTS_MAX)
    step = max(1, int(min(coarse, max(usual, span / (POINTS_MIN * 2)))))
    count = int(span / step) + 1
    at = times[-1] - step * np.arange(count - 1, -1, -1)  # it ends at the newest sample: that is now
    return Grid(int(at[0]), step, np.interp(at, times, values))


def earlier_lives(parts: Sequence[Sequence[tuple[int, float]]], limit: float) -> list[Life]:
    """The complete lives before the current one that ended near their limit: they were ended by it.

    The first life of a window is left out: its beginning was not seen.
    """
    found = [Life(part[0][0], part[-1][0], part[0][1], part[-1][1]) for part in parts[1:-1]]
    return [life for life in found if life.last >= limit * _FULL_SHARE and life.end_ms > life.start_ms]
