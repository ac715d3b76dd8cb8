"""Why it exists: observed use becomes a limit by one written rule; pure, so that each proposal can be checked by hand.

The worst moment is the highest of all that was seen: samples and the kernel's own peak, start and steady. The proposal
is never below it. What cannot be judged says why: too short an observation, use that still grows, a peak cut off by
the limit itself.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from sutazai.agents.hardware_resource_optimizer.models import Policy, Proposal, Verdict
from sutazai.runtime.evidence import Measure
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.hardware_resource_optimizer.models import Kind

    Points = Sequence[tuple[int, float]]

FLOOR_BYTES = 8 * MIB
STEP_BYTES = 4 * MIB
CHANGE_MIN = 0.1
START_S = 30
START_MARGIN = 0.1
#: A gap between two samples counts as observed up to this long.
GAP_MS_MAX = 5_000
#: A peak from here on was cut off: the process would have taken more.
CUT_OFF_SHARE = 0.98
RAISE_FACTOR = 1.5
_GROWTH_SHARE = 0.03
_LIFE_POINTS_MIN = 12
#: Samples so near to a start may still show the life before.
EDGE_MS = 1_500


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one process or agent.

    Attributes:
        name: of it.
        kind: what it is.
        pool: memory pool.
        limit_bytes: hard limit, 0 for none.
        use: (wall milliseconds, bytes), only times at which it was in memory.
        peaks: the same, the kernel's own peak.
        starts_ms: when it was started.
        kills: kills at its limit in the window.
        source: of use and peaks.
        limit_source: of the limit.
    """

    name: str
    kind: Kind
    pool: str
    limit_bytes: int
    use: Points
    peaks: Points = ()
    starts_ms: Sequence[int] = field(default_factory=tuple)
    kills: int = 0
    source: str = ""
    limit_source: str = ""


def policy(margin: float, observe_min_s: int) -> Policy:
    """Write the rule down."""
    return Policy(
        margin=margin,
        floor=Measure(value=FLOOR_BYTES, unit="bytes", source="policy"),
        step=Measure(value=STEP_BYTES, unit="bytes", source="policy"),
        observe_min=Measure(value=observe_min_s, unit="s", source="input:observe_min_s"),
        change_min=CHANGE_MIN,
        start=Measure(value=START_S, unit="s", source="policy"),
        rule=(
            "limit = worst moment plus the larger of margin and floor, rounded up; reservation = worst moment plus "
            "10 %, rounded up; never below the worst moment; no proposal for short observations, growing use or "
            "changes that are too small; a peak that the limit cut off gives one and a half times the limit"
        ),
    )


def judge(seen: Observed, rule: Policy) -> Proposal:
    """Judge one process or agent."""
    observed_s = observed_seconds(seen.use)
    needed = rule.observe_min
    found = Proposal(
        name=seen.name, kind=seen.kind, pool=seen.pool, verdict="keep", why="", needed=needed,
        observed=Measure(value=round(observed_s, 1), unit="s", source=f"samples of {seen.source}"[:400]),
    )  # fmt: skip
    if seen.limit_bytes:
        found.limit = _bytes(seen.limit_bytes, seen.limit_source or seen.source)
    if not seen.use:
        return _end(found, "not-enough-data", "it was not in memory in this window, so its need was not seen")
    peak, start, steady = _peaks(seen)
    found.peak = _bytes(peak, f"highest of samples and kernel peak of {seen.source}")
    if start is not None:
        found.start_peak = _bytes(start, f"highest in the first {START_S} s of its lives, {seen.source}")
    if steady is not None:
        found.steady_peak = _bytes(steady, f"highest after the first {START_S} s of its lives, {seen.source}")
    if seen.kind in {"platform", "worker"}:
        return _end(found, "fixed", "its limit is the product's own and stands in no manifest")
    if not seen.limit_bytes and _enough(observed_s, rule):
        return _propose(found, peak, rule, "it has no limit: nothing holds it")
    if seen.limit_bytes and (seen.kills or peak >= seen.limit_bytes * CUT_OFF_SHARE):
        return _cut_off(found, seen)
    if not _enough(observed_s, rule):
        return _short(found, observed_s)
    if seen.kind != "agent" and growing(seen):  # an agent is observed by its peak, which only rises
        return _end(found, "still-growing", "its use still rises from the third to the last quarter of its life: "
                    "a limit from today's peak would kill it later")  # fmt: skip
    return _propose(found, peak, rule, "")


def observed_seconds(points: Points) -> float:
    """How long it was really observed: longer gaps (it was away, nobody sampled) do not count."""
    gaps = [after - before for (before, _), (after, _) in pairwise(points)]
    return sum(gap for gap in gaps if gap <= GAP_MS_MAX) / 1000


def _peaks(seen: Observed) -> tuple[int, int | None, int | None]:
    """The worst moment, the highest of the starts, and the highest beyond them.

    The kernel's peak goes into the worst moment only: it may be left from an earlier life.
    """
    starts = sorted(seen.starts_ms)
    starting, steady = [], []
    for at, value in seen.use:
        place = bisect_right(starts, at) - 1
        age_ms = at - starts[place] if place >= 0 else None
        if age_ms is None or age_ms > START_S * 1000:
            steady.append(value)
        elif age_ms > EDGE_MS:
            starting.append(value)
    worst = max(value for _, value in (*seen.use, *seen.peaks))
    return round(worst), round(max(starting)) if starting else None, round(max(steady)) if steady else None


def growing(seen: Observed, *, any_life: bool = False) -> bool:
    """Whether use still rises at the end of the last life (or of any life).

    The median of the last quarter lies above that of the third, and that above the second's, by 3 % of the peak each.
    """
    starts = sorted(seen.starts_ms)
    lives: dict[int, list[tuple[int, float]]] = {}
    for at, value in seen.use:
        lives.setdefault(bisect_right(starts, at), []).append((at, value))
    chosen = list(lives.values()) if any_life else list(lives.values())[-1:]
    return any(_rises(life) for life in chosen)


def _rises(life: Points) -> bool:
    values = [value for at, value in life if at > life[0][0] + START_S * 1000]
    if len(values) < _LIFE_POINTS_MIN:
        values = [value for at, value in life if at > life[0][0] + EDGE_MS]
    if len(values) < _LIFE_POINTS_MIN:
        return False
    quarter = len(values) // 4
    second, third, last = (sorted(values[part * quarter : (part + 1) * quarter])[quarter // 2] for part in (1, 2, 3))
    rise = max(values) * _GROWTH_SHARE
    return third - second > rise and last - third > rise


def rounded_up(amount: float) -> int:
    """To the next step."""
    return -(-int(amount + 0.999) // STEP_BYTES) * STEP_BYTES


def _enough(observed_s: float, rule: Policy) -> bool:
    return observed_s >= float(rule.observe_min.value)


def _short(found: Proposal, observed_s: float) -> Proposal:
    return _end(
        found, "not-enough-data",
        f"it was observed for {observed_s:.0f} s, {found.needed.value} s are needed: a guess would be no proposal",
    )  # fmt: skip


def _end(found: Proposal, verdict: Verdict, why: str) -> Proposal:
    found.verdict, found.why = verdict, why
    return found


def _cut_off(found: Proposal, seen: Observed) -> Proposal:
    if seen.kind != "agent" and growing(seen, any_life=True):
        return _end(found, "still-growing", "it grows until it meets its limit: no limit is right for a leak; "
                    "ask ram-hardware-optimizer analyse")  # fmt: skip
    proposed = rounded_up(seen.limit_bytes * RAISE_FACTOR)
    _set(found, proposed, rounded_up(seen.limit_bytes), seen.limit_bytes)
    reason = f"the kernel killed it {seen.kills} times at its limit" if seen.kills else "its peak is at its limit"
    return _end(
        found, "raise",
        f"{reason}: what it needs was cut off, so one and a half times the limit is a step, not a measurement",
    )  # fmt: skip


def _propose(found: Proposal, peak: int, rule: Policy, why: str) -> Proposal:
    proposed = rounded_up(peak + max(peak * rule.margin, FLOOR_BYTES))
    limit = int(found.limit.value) if found.limit is not None else 0
    if limit and abs(limit - proposed) < max(limit * CHANGE_MIN, STEP_BYTES):
        return _end(found, "keep", f"the rule gives {format_bytes(proposed)}, near enough to its limit")
    _set(found, proposed, min(proposed, rounded_up(peak * (1 + START_MARGIN))), limit)
    if not limit:
        return _end(found, "no-limit", why)
    if proposed < limit:
        return _end(found, "lower", "its worst moment lies far below its limit")
    return _end(found, "raise", "its worst moment leaves less room than the policy's margin")


def _set(found: Proposal, proposed: int, start_peak: int, limit: int) -> None:
    basis = found.peak.source if found.peak is not None else "policy"
    found.proposed = _bytes(proposed, f"policy's rule on {basis}")
    found.proposed_start_peak = _bytes(start_peak, f"policy's rule on {basis}")
    if limit:
        found.saving = _bytes(limit - proposed, f"limit minus proposed, {basis}")


def _bytes(value: int, source: str) -> Measure:
    return Measure(value=value, unit="bytes", source=(source or "observation")[:400])


def no_limit() -> Measure:
    """What a process without a limit has."""
    return _bytes(0, "status: no limit")
