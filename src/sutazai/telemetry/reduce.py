"""Why it exists: two hours of seconds are more than a chart or an agent wants; this makes them fewer and honest.

A bucket can show its mean, its extremes or its last value, so that a spike is not lost unless somebody asks for it.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import Literal

Reduce = Literal["mean", "max", "min", "last"]
Points = list[tuple[int, float]]


class Buckets:
    """Times of samples, cut into buckets once and used for many series."""

    def __init__(self, walls: array[int], step_ms: int) -> None:
        """Cut the times.

        Args:
            walls: wall times, milliseconds; they may run backwards where the clock was set.
            step_ms: width of a bucket, 0 or less for raw samples.
        """
        self._times = walls.tolist()
        self._order: list[int] = []
        if any(later < earlier for earlier, later in pairwise(self._times)):
            self._order = sorted(range(len(self._times)), key=self._times.__getitem__)
            self._times = [self._times[index] for index in self._order]
        self._cuts = list(_cut(self._times, step_ms)) if step_ms > 0 else None

    def points(self, values: array[float], reduce: Reduce) -> Points:
        """Turn one series into points in order of time.

        Args:
            values: one a time; NaN is no value.
            reduce: what a bucket shows.

        Returns:
            ``(beginning of the bucket, value)``, or ``(time, value)`` for raw samples; empty buckets are left out.
        """
        if self._order:
            values = array("d", (values[index] for index in self._order))
        if self._cuts is None:
            pairs = zip(self._times, values, strict=True)
            return [(at, value) for at, value in pairs if value == value]  # noqa: PLR0124 NaN is no value
        shown = ((begin, _show(values[start:end], reduce)) for begin, start, end in self._cuts)
        return [(begin, value) for begin, value in shown if value is not None]


def _cut(times: list[int], step_ms: int) -> list[tuple[int, int, int]]:
    """(beginning, first index, index behind the last) of each bucket with samples."""
    cuts = []
    start, size = 0, len(times)
    while start < size:
        begin = times[start] - times[start] % step_ms
        end = start + 1
        while end < size and times[end] < begin + step_ms:
            end += 1
        cuts.append((begin, start, end))
        start = end
    return cuts


def _show(values: array[float], reduce: Reduce) -> float | None:
    total = sum(values)
    present: array[float] | list[float] = values
    if total != total:  # noqa: PLR0124 NaN: some are missing
        present = [value for value in values if value == value]  # noqa: PLR0124
        if not present:
            return None
        total = sum(present)
    if reduce == "mean":
        return total / len(present)
    if reduce == "max":
        return max(present)
    if reduce == "min":
        return min(present)
    return present[-1]
