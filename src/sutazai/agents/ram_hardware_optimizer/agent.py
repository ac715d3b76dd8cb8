"""Why it exists: the skills of ram-hardware-optimizer: fetch facts from the fleet, hand them to the pure analysis."""

import time
from typing import Annotated

from pydantic import Field

from sutazai.agents.ram_hardware_optimizer import analysis
from sutazai.agents.ram_hardware_optimizer.models import Analysis, Growth, Reclaim, Series
from sutazai.client import MemoryOwner
from sutazai.runtime import Agent, Context
from sutazai.units import MIB

agent = Agent("ram-hardware-optimizer")

Window = Annotated[int, Field(ge=10, le=86_400, description="how far to look back, seconds")]


@agent.skill
def analyse(
    ctx: Context,
    window_s: Window = 300,
    subject: Annotated[
        str, Field(max_length=200, description="a process; of others only leaks are told; empty: all")
    ] = "",
    series: Annotated[list[Series] | None, Field(max_length=100, description="recorded curves instead")] = None,
) -> Analysis:
    """Diagnose memory: who holds it (PSS by owner, sharing, page cache) and who leaks, with slope and time to limit."""
    if series is not None:
        recorded = [_recorded(index, item) for index, item in enumerate(series)]
        return _report(window_s, subject, [analysis.growth(curve) for curve in recorded], [])
    ctx.progress(0.1, "reading memory and its history")
    grown = [analysis.growth(curve) for curve in _curves(ctx, window_s)]
    return _report(window_s, subject, grown, ctx.fleet.memory())


@agent.skill
def reclaim(
    ctx: Context,
    subject: Annotated[str, Field(max_length=200, description="a process or an agent; empty: the whole fleet")] = "",
    target_mb: Annotated[
        int, Field(ge=0, le=1_048_576, description="enough when so much is free, MB; 0: all there is")
    ] = 0,
    dry_run: Annotated[bool, Field(description="only tell what would be done")] = True,  # noqa: FBT002 a skill's input
    window_s: Window = 300,
) -> Reclaim:
    """Give memory back without hurting anybody: idle instances hibernate, page cache goes; a dry run unless told so."""
    ctx.progress(0.1, "looking" if dry_run else "giving memory back")
    done = ctx.act("reclaim", subject=subject, bytes=target_mb * MIB, dry_run=dry_run)
    curves = [curve for curve in _curves(ctx, window_s) if subject in {"", curve.process}]
    grown = [analysis.growth(curve) for curve in curves]
    return analysis.reclaim(target_mb * MIB, done, grown, ctx.fleet.status())


def _report(window_s: int, subject: str, found: list[Growth], memory: list[MemoryOwner]) -> Analysis:
    held, totals = analysis.owners(memory)
    grown = sorted(
        (item for item in found if not subject or item.process == subject or item.verdict == "leaking"),
        key=lambda item: (item.process != subject, *_rank(item)),
    )
    known = any(item.process == subject for item in grown) if subject else bool(grown)
    notes = [] if known else [f"no memory curve in the last {window_s} s: the fleet is too young or the name is wrong"]
    return Analysis(
        at_wall_ms=time.time_ns() // 1_000_000,
        window_s=window_s,
        owners=held,
        totals=totals,
        growth=grown,
        leaking=[item.process for item in grown if item.verdict == "leaking"],
        findings=analysis.findings(grown, held, totals),
        notes=notes,
    )


def _rank(item: Growth) -> tuple[int, float]:
    order = ("leaking", "unclear", "shrinking", "stable", "not-enough-data")
    return order.index(item.verdict), -float(item.slope.value) if item.slope is not None else 0.0


def _recorded(index: int, item: Series) -> analysis.Curve:
    return analysis.Curve(
        process=item.process,
        points=sorted(item.points),
        source=f"input:series[{index}] {item.process}",
        limit_bytes=item.limit_bytes,
        limit_source=f"input:series[{index}].limit_bytes",
    )


def _curves(ctx: Context, window_s: int) -> list[analysis.Curve]:
    limits = {
        found.labels["process"]: found
        for found in ctx.fleet.metrics("process_memory_limit_bytes", since_s=window_s)
        if found.points
    }
    restarts: dict[str, list[int]] = {}
    for event in ctx.fleet.events(since_s=window_s, kind=("process-restarted",)):
        restarts.setdefault(event.subject, []).append(event.at_wall_ms)
    curves = []
    for found in ctx.fleet.metrics("process_memory_bytes", since_s=window_s):
        name = found.labels["process"]
        limit = limits.get(name)
        curves.append(
            analysis.Curve(
                process=name,
                points=[(int(at_ms), float(value)) for at_ms, value in found.points],
                source=found.source,
                limit_bytes=int(limit.points[-1][1]) if limit is not None else 0,
                limit_source=limit.source if limit is not None else "",
                restarts_ms=restarts.get(name, ()),
            )
        )
    return curves
