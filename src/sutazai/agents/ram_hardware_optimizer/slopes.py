"""Why it exists: a leak is a slope that lasts, and a restart is not its end; both are told apart here, without I/O.

The slope is Theil and Sen's median of pairwise slopes (Sen 1968, doi:10.1080/01621459.1968.10480934): single outliers,
like a garbage collection, do not move it; its interval is the one of Kendall's tau at 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Point = tuple[int, float]
Verdict = Literal["leaking", "stable", "shrinking", "unclear", "not-enough-data"]

POINTS_MIN = 12
SPAN_MS_MIN = 8_000
CONFIDENCE = 0.95
_POINTS_MAX = 400  # all pairs are compared: the work grows with the square
_RESET_SHARE = 0.3  # a process that lost this share of its memory between two samples was started anew
_RESET_BYTES = 1_048_576
_WARM_UP_MS = 3_000
_GROWTH_BYTES_MIN = 2_097_152
_GROWTH_SHARE_MIN = 0.03
_HALF_SHARE_MIN = 0.3
_AGREEMENT = 2.0
_POINTS_FOR_HIGH = 30


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through a part of a curve.

    Attributes:
        per_s: bytes a second.
        low: lower end of the 95 % interval.
        high: upper end.
        fit: R² of the least-squares line.
        points: how many points it was computed from.
        span_ms: from the first to the last of them.
        growth: last minus first, by the line.
    """

    per_s: float
    low: float
    high: float
    fit: float
    points: int
    span_ms: int
    growth: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a curve is called, how sure, and why.

    Attributes:
        verdict: the name.
        confidence: ``high``, ``medium``, ``low`` or ``none``.
        why: the reason, without numbers.
        basis: the life that it was computed from.
        slope: the line; none without enough data.
        lives: how many lives the curve shows.
    """

    verdict: Verdict
    confidence: Literal["high", "medium", "low", "none"]
    why: str
    basis: Literal["current-life", "previous-life", "none"]
    slope: Slope | None
    lives: int


def lives(points: Sequence[Point], restarts_ms: Sequence[int] = ()) -> list[list[Point]]:
    """Cut a curve where the process was started anew.

    A cut is made at a known restart, where the value falls by more than 30 % and 1 MB between two samples, and where
    the process held nothing at all (it was not there; such samples belong to no life).

    Args:
        points: in order of time.
        restarts_ms: wall times of known restarts.

    Returns:
        Parts, none empty, which put together are the samples above zero.
    """
    cut: list[list[Point]] = []
    known = sorted(restarts_ms)
    before: Point | None = None
    for at_ms, value in points:
        if value > 0:
            if before is None or before[1] <= 0 or _is_reset(before, (at_ms, value), known):
                cut.append([])
            cut[-1].append((at_ms, value))
        before = (at_ms, value)
    return cut


def _is_reset(before: Point, after: Point, restarts_ms: Sequence[int]) -> bool:
    if any(before[0] < at_ms <= after[0] for at_ms in restarts_ms):
        return True
    fall = before[1] - after[1]
    return fall >= _RESET_BYTES and fall > before[1] * _RESET_SHARE


def slope(points: Sequence[Point]) -> Slope | None:
    """Fit one life's curve; none when there is too little of it.

    The first three seconds are left out when enough is left: a program that starts grows, and that is no leak.
    """
    body = [point for point in points if point[0] - points[0][0] >= _WARM_UP_MS] if points else []
    if not _enough(body):
        body = list(points)
    if not _enough(body):
        return None
    return _fit(body)


def _enough(points: Sequence[Point]) -> bool:
    return len(points) >= POINTS_MIN and points[-1][0] - points[0][0] >= SPAN_MS_MIN


def _fit(points: Sequence[Point]) -> Slope:
    from scipy.stats import linregress, theilslopes

    step = -(-len(points) // _POINTS_MAX)
    used = points[::step]
    start_ms = used[0][0]
    seconds = [(at_ms - start_ms) / 1000 for at_ms, _ in used]
    values = [value for _, value in used]
    if min(values) == max(values):
        return Slope(0.0, 0.0, 0.0, 1.0, len(used), used[-1][0] - start_ms, 0.0)
    line = theilslopes(values, seconds, alpha=CONFIDENCE)
    least = linregress(seconds, values)
    return Slope(
        per_s=float(line.slope),
        low=float(line.low_slope),
        high=float(line.high_slope),
        fit=float(least.rvalue) ** 2,
        points=len(used),
        span_ms=used[-1][0] - start_ms,
        growth=float(line.slope) * seconds[-1],
    )


def judge(points: Sequence[Point], restarts_ms: Sequence[int] = ()) -> Judgement:
    """Say whether a process leaks.

    Leaking means: the whole 95 % interval of the slope is above zero, the growth is worth speaking of (2 MB and 3 %),
    and both halves of the life grow. A life that is too short is judged by the one before it.
    """
    parts = lives(points, restarts_ms)
    fits = [slope(part) for part in parts]
    if not parts or all(fit is None for fit in fits):
        return Judgement("not-enough-data", "none", "the curve is too short", "none", None, len(parts))
    current = fits[-1] is not None
    index = max(number for number, fit in enumerate(fits) if fit is not None)
    found = fits[index]
    basis: Literal["current-life", "previous-life"] = "current-life" if current else "previous-life"
    if found is None:
        return Judgement("not-enough-data", "none", "the curve is too short", "none", None, len(parts))
    verdict, why = _verdict(parts[index], found)
    others = [fit for number, fit in enumerate(fits) if fit is not None and number != index]
    return Judgement(verdict, _confidence(verdict, parts[index], found, others), why, basis, found, len(parts))


def _verdict(part: Sequence[Point], found: Slope) -> tuple[Verdict, str]:
    typical = sorted(value for _, value in part)[len(part) // 2]
    worth = abs(found.growth) >= max(_GROWTH_BYTES_MIN, typical * _GROWTH_SHARE_MIN)
    if not worth:
        return "stable", "the change over its life is too small to matter"
    if found.low <= 0 <= found.high:
        return "unclear", "the interval of the slope holds zero"
    halves = _halves(part)
    if any(half.per_s * found.per_s <= 0 or half.per_s / found.per_s < _HALF_SHARE_MIN for half in halves):
        return "unclear", "it moved in one half of its life only: a step, not a slope"
    if found.per_s > 0:
        return "leaking", "it grows all the time, in both halves of its life"
    return "shrinking", "it gives memory back all the time"


def _halves(part: Sequence[Point]) -> list[Slope]:
    middle = len(part) // 2
    return [_fit(half) for half in (part[:middle], part[middle:]) if len(half) >= POINTS_MIN // 2]


def _confidence(
    verdict: Verdict, part: Sequence[Point], found: Slope, others: Sequence[Slope]
) -> Literal["high", "medium", "low", "none"]:
    if verdict == "unclear":
        return "low"
    if verdict == "stable":
        return "high" if found.points >= _POINTS_FOR_HIGH else "medium"
    rates = [half.per_s for half in _halves(part)] + [other.per_s for other in others]
    agree = all(rate * found.per_s > 0 and 1 / _AGREEMENT <= rate / found.per_s <= _AGREEMENT for rate in rates)
    if agree and (found.points >= _POINTS_FOR_HIGH or others):
        return "high"
    return "medium" if agree else "low"


def time_to(limit_bytes: float, now_bytes: float, found: Slope) -> tuple[float, float, float] | None:
    """Seconds until a limit is met: by the slope, at the earliest, at the latest (by its interval).

    Returns:
        None when the process does not surely grow.
    """
    if found.low <= 0 or limit_bytes <= 0:
        return None
    room = max(0.0, limit_bytes - now_bytes)
    return room / found.per_s, room / found.high, room / found.low
