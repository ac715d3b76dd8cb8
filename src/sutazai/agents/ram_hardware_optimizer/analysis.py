"""Why it exists: recorded facts become owners, growth and advice, without I/O, so that tests need no fleet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.agents.ram_hardware_optimizer import slopes
from sutazai.agents.ram_hardware_optimizer.models import Advice, Growth, Owner, Reclaim, Step
from sutazai.runtime.evidence import Finding, Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.client import MemoryOwner, Status

OWNERS_MAX = 40
_LOWER_LIMIT_SHARE = 0.5
_LOWER_LIMIT_SPARE = 1.25


@dataclass(frozen=True, slots=True)
class Curve:
    """A process's memory over time.

    Attributes:
        process: name.
        points: (wall milliseconds, bytes) in order.
        source: where they come from.
        limit_bytes: hard limit, 0 for none.
        limit_source: where the limit comes from.
        restarts_ms: wall times at which it was started anew.
    """

    process: str
    points: Sequence[slopes.Point]
    source: str
    limit_bytes: int = 0
    limit_source: str = ""
    restarts_ms: Sequence[int] = field(default_factory=tuple)


def owners(memory: Sequence[MemoryOwner]) -> tuple[list[Owner], dict[str, Measure]]:
    """Order the processes by what they really cost (PSS), and sum up.

    Args:
        memory: one entry a process, from ``smaps_rollup``.
    """
    entries = sorted(memory, key=lambda entry: -entry.pss_bytes)
    where = f"{len(entries)} processes, memory:*@{entries[0].source.rpartition('@')[2]}" if entries else "memory:*"
    total = sum(entry.pss_bytes for entry in entries)
    found = [_owner(entry, total) for entry in entries[:OWNERS_MAX]]
    saved = sum(entry.rss_bytes for entry in entries) - total
    cache = sum(entry.file_bytes for entry in entries)
    totals = {
        "pss": Measure(value=total, unit="bytes", source=f"sum of PSS of {where}"),
        "saved_by_sharing": Measure(value=saved, unit="bytes", source=f"sum of RSS minus sum of PSS of {where}"),
        "page_cache_mapped": Measure(value=cache, unit="bytes", source=f"sum of file pages of {where}"),
        "processes": Measure(value=len(entries), unit="count", source=where),
    }
    return found, totals


def _owner(entry: MemoryOwner, total: int) -> Owner:
    source = entry.source or f"memory:{entry.name}/{entry.pid}"

    def amount(value: int) -> Measure:
        return Measure(value=value, unit="bytes", source=source)

    share = round(entry.pss_bytes / total, 4) if total else 0.0
    return Owner(
        name=entry.name,
        kind=entry.kind,
        pool=entry.pool,
        pss=amount(entry.pss_bytes),
        private=amount(entry.private_bytes),
        shared=amount(entry.shared_bytes),
        page_cache=amount(entry.file_bytes),
        share=Measure(value=share, unit="ratio", source=f"PSS by the fleet's PSS, {source}"),
    )


def growth(curve: Curve) -> Growth:
    """Judge one curve and say when it meets its limit."""
    found = slopes.judge(curve.points, curve.restarts_ms)
    now = curve.points[-1][1] if curve.points else 0
    result = Growth(
        process=curve.process,
        verdict=found.verdict,
        confidence=found.confidence,
        why=found.why,
        basis=found.basis,
        points=Measure(value=len(curve.points), unit="count", source=f"points of {curve.source}"),
        lives=Measure(value=found.lives, unit="count", source=f"falls and restarts in {curve.source}"),
        now=Measure(value=round(now), unit="bytes", source=f"last point of {curve.source}"),
    )
    if curve.limit_bytes:
        result.limit = Measure(value=curve.limit_bytes, unit="bytes", source=curve.limit_source or curve.source)
    if found.slope is not None:
        _add_slope(result, curve, found)
    return result


def _add_slope(result: Growth, curve: Curve, found: slopes.Judgement) -> None:
    line = found.slope
    if line is None:
        return
    method = f"Theil-Sen slope, n={line.points}, {found.basis}, of {curve.source}"
    result.slope = Measure(value=round(line.per_s, 1), unit="bytes/s", source=method)
    result.slope_low = Measure(value=round(line.low, 1), unit="bytes/s", source=f"lower 95 % end of {method}")
    result.slope_high = Measure(value=round(line.high, 1), unit="bytes/s", source=f"upper 95 % end of {method}")
    result.growth = Measure(value=round(line.growth), unit="bytes", source=f"slope times span of {method}")
    result.fit = Measure(value=round(line.fit, 4), unit="ratio", source=f"R² of least squares of {curve.source}")
    if found.verdict != "leaking" or not curve.limit_bytes:
        return
    left = slopes.time_to(curve.limit_bytes, curve.points[-1][1], line)
    if left is not None:
        source = f"(limit - last point) / slope; {method}"
        middle, earliest, latest = (Measure(value=round(seconds, 1), unit="s", source=source) for seconds in left)
        result.time_to_limit, result.time_to_limit_earliest, result.time_to_limit_latest = middle, earliest, latest


def findings(grown: Sequence[Growth], held: Sequence[Owner], totals: dict[str, Measure]) -> list[Finding]:
    """State what was found, leaks first."""
    stated: list[Finding] = []
    for item in grown:
        if item.verdict == "leaking":
            stated.extend(_leak_findings(item))
    if grown and not stated:
        count = Measure(
            value=len(grown), unit="count", source=f"processes judged, first: {grown[0].points.source}"[:400]
        )
        stated.append(
            Finding(section="cause", text="None of {count} processes grows like a leak.", measures={"count": count})
        )
    if held:
        first = held[0]
        stated.append(
            Finding(
                section="impact",
                subject=first.name,
                text=f"`{first.name}` holds the most memory: {{pss}} PSS, {{share}} of the fleet's {{total}}.",
                measures={"pss": first.pss, "share": first.share, "total": totals["pss"]},
            )
        )
    return stated


def _leak_findings(item: Growth) -> list[Finding]:
    if item.slope is None or item.slope_low is None or item.slope_high is None or item.fit is None:
        return []
    life = "its current life" if item.basis == "current-life" else "its previous life"
    stated = [
        Finding(
            section="cause",
            subject=item.process,
            text=(
                f"`{item.process}` leaks memory ({item.confidence} confidence): it grows by {{slope}} "
                f"(interval {{low}} to {{high}}) through {life}, R² {{fit}}; {item.why}."
            ),
            measures={"slope": item.slope, "low": item.slope_low, "high": item.slope_high, "fit": item.fit},
        )
    ]
    if item.limit is not None and item.time_to_limit is not None:
        stated.append(
            Finding(
                section="cause",
                subject=item.process,
                text=f"`{item.process}` holds {{now}} of its limit of {{limit}}; at this slope it is met in {{left}}.",
                measures={"now": item.now, "limit": item.limit, "left": item.time_to_limit},
            )
        )
    stated.append(
        Finding(
            section="action",
            subject=item.process,
            text=(
                f"Find what `{item.process}` keeps and never gives back; until then a restart frees it for a while: "
                f"`sutazai restart {item.process}`."
            ),
        )
    )
    return stated


def reclaim(target_bytes: int, done: dict[str, Any], grown: Sequence[Growth], status: Status) -> Reclaim:
    """Report what was given back, and advise what only a person should do.

    Args:
        target_bytes: wanted, 0 for all there is.
        done: the answer of the action ``reclaim``.
        grown: curves of the processes that are meant.
        status: of the fleet.
    """
    dry_run = bool(done["dry_run"])
    where = "forecast from the cgroup of" if dry_run else "cgroup before and after of"
    steps = [_step(entry, where) for entry in done["steps"]]
    source = f"sum over {len(steps)} steps, {where} each"

    def amount(name: str) -> Measure:
        return Measure(value=int(done[name]), unit="bytes", source=source)

    freed = int(done["freed_bytes"])
    notes = [
        "idle instances keep their state and wake with their next task; page cache is read again from disk when needed",
        "a lower limit frees budget in its pool, not memory",
    ]
    if dry_run:
        notes.append("dry run: nothing was changed; dry_run=false does it")
    return Reclaim(
        dry_run=dry_run,
        subject=str(done["subject"]),
        target=Measure(value=target_bytes, unit="bytes", source="input:target_mb"),
        before=amount("before_bytes"),
        after=amount("after_bytes"),
        freed=amount("freed_bytes"),
        enough=freed >= target_bytes,
        text=str(done["text"]),
        steps=steps,
        advice=[item for item in (*_restart(grown), *_lower(status)) if done["subject"] in {"", item.subject}],
        notes=notes,
    )


def _step(entry: dict[str, Any], where: str) -> Step:
    before, after = int(entry["before_bytes"]), int(entry["after_bytes"])
    source = f"{where} {entry['subject']}{'/' + entry['ticket'] if entry['ticket'] else ''}"
    return Step(
        action=entry["kind"],
        subject=entry["subject"],
        ticket=entry["ticket"],
        before=Measure(value=before, unit="bytes", source=source),
        after=Measure(value=after, unit="bytes", source=source),
        frees=Measure(value=max(0, before - after), unit="bytes", source=f"before - after; {source}"),
        done=bool(entry["done"]),
        why=str(entry["why"]),
    )


def _restart(grown: Sequence[Growth]) -> list[Advice]:
    return [
        Advice(
            action="restart",
            subject=item.process,
            frees=item.growth,
            risk="its open requests break off; the leak begins anew",
            command=f"sutazai restart {item.process}",
        )
        for item in grown
        if item.verdict == "leaking" and item.growth is not None
    ]


def _lower(status: Status) -> list[Advice]:
    advice = []
    for entry in status.processes:
        limit, peak = entry.memory_limit_bytes, entry.memory_peak_bytes
        if not limit or not peak or peak > limit * _LOWER_LIMIT_SHARE:
            continue
        source = f"limit - 1.25 x peak of {entry.source or entry.name}"
        advice.append(
            Advice(
                action="lower-limit",
                subject=entry.name,
                frees=Measure(value=int(limit - peak * _LOWER_LIMIT_SPARE), unit="bytes", source=source),
                risk="a peak higher than any seen so far is killed",
                command=f"lower `memory` of {entry.name} in the manifest, then `sutazai up`",
            )
        )
    return advice
