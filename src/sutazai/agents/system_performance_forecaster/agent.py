"""Why it exists: the skills of system-performance-forecaster: fetch series from the fleet, hand them to the models."""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from sutazai.agents.system_performance_forecaster import analysis
from sutazai.agents.system_performance_forecaster.models import Exhaustion, Forecast
from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("system-performance-forecaster")

_POINTS_MAX = 20_000
_LEVEL = 0.9
_WINDOW_S = 900
Points = Annotated[
    list[tuple[int, float]] | None,
    Field(max_length=_POINTS_MAX, description="recorded [time in milliseconds, value] instead of the live metric"),
]


@agent.skill
def forecast(
    ctx: Context,
    metric: Annotated[str, Field(min_length=1, max_length=100, description="metric name, or a name for `points`")],
    labels: Annotated[dict[str, str] | None, Field(description="labels that pick out one series")] = None,
    horizon_s: Annotated[float, Field(gt=0, le=7_200, description="how far ahead, seconds")] = 60,
    points: Points = None,
    level: Annotated[float, Field(ge=0.5, le=0.99, description="of the interval")] = _LEVEL,
) -> Forecast:
    """Forecast a metric with intervals; says how wrong the model and the naive one were in a back test."""
    if points is not None:
        observed = analysis.Observed(metric, sorted(points), "input:points", labels=labels or {})
    else:
        observed = _read(ctx, metric, labels or {})
    return analysis.forecast(observed, horizon_s, level)


@agent.skill
def exhaustion(
    ctx: Context,
    subject: Annotated[str, Field(max_length=200, description="a process")] = "",
    pool: Annotated[str, Field(max_length=200, description="or a memory pool")] = "",
    horizon_s: Annotated[float, Field(gt=0, le=7_200, description="how far ahead, seconds")] = 600,
    points: Points = None,
    limit_bytes: Annotated[int, Field(ge=0, description="limit for recorded `points`")] = 0,
) -> Exhaustion:
    """Forecast when memory of a process or pool is exhausted (meets its limit), with interval and back-test error."""
    if subject and pool:
        raise NonRetryableError("name a process in `subject` or a pool in `pool`, not both")
    if points is not None:
        name = subject or pool or "recorded"
        observed = analysis.Observed("recorded_bytes", sorted(points), "input:points", "bytes")
        ceiling = analysis.Ceiling(name, "pool" if pool else "process", limit_bytes, "input:limit_bytes")
        return analysis.exhaustion(observed, ceiling, horizon_s, _LEVEL)
    if pool:
        used = _read(ctx, "pool_used_bytes", {"pool": pool})
        return analysis.exhaustion(used, _ceiling(ctx, pool, "pool"), horizon_s, _LEVEL)
    if subject:
        used = _memory(ctx, subject)
        return analysis.exhaustion(used, _ceiling(ctx, subject, "process"), horizon_s, _LEVEL)
    return _first_to_end(ctx, horizon_s)


def _series(ctx: Context, metric: str, labels: dict[str, Any]) -> list[analysis.Observed]:
    return [
        analysis.Observed(
            metric=metric,
            points=[(int(at_ms), float(value)) for at_ms, value in found.points],
            source=found.source,
            unit=found.unit,
            labels=found.labels,
        )
        for found in ctx.fleet.metrics(metric, since_s=_WINDOW_S, **labels)
    ]


def _read(ctx: Context, metric: str, labels: dict[str, str]) -> analysis.Observed:
    found = _series(ctx, metric, labels)
    if len(found) > 1:
        keys = sorted({key for one in found for key in one.labels})
        raise NonRetryableError(f"{metric} has {len(found)} series: pick one by its labels ({', '.join(keys)})")
    if not found:
        return analysis.Observed(metric, [], f"metric:{metric}{labels or ''} (no points)", labels=labels)
    return found[0]


def _memory(ctx: Context, process: str) -> analysis.Observed:
    """A process's memory, with its restarts, which a fall of the curve alone would not always show."""
    counted = _read(ctx, "process_restarts_total", {"process": process}).points
    restarts = [after[0] for before, after in pairwise(counted) if after[1] > before[1]]
    return replace(_read(ctx, "process_memory_bytes", {"process": process}), restarts_ms=restarts)


def _ceiling(ctx: Context, subject: str, kind: Literal["process", "pool"]) -> analysis.Ceiling:
    metric = "pool_size_bytes" if kind == "pool" else "process_memory_limit_bytes"
    limit = _read(ctx, metric, {kind: subject})
    return analysis.Ceiling(subject, kind, limit.points[-1][1] if limit.points else 0.0, limit.source)


def _first_to_end(ctx: Context, horizon_s: float) -> Exhaustion:
    """Look at every process with a limit and forecast the one that goes up to it the fastest."""
    limits = {one.labels["process"]: one for one in _series(ctx, "process_memory_limit_bytes", {}) if one.points}
    chosen: tuple[float, analysis.Ceiling] | None = None
    for used in _series(ctx, "process_memory_bytes", {}):
        name = used.labels["process"]
        limit = limits[name].points[-1][1] if name in limits else 0.0
        if limit <= 0 or not used.points:
            continue
        urgency = analysis.urgency(used, limit)
        if chosen is None or urgency > chosen[0]:
            chosen = (urgency, analysis.Ceiling(name, "process", limit, limits[name].source))
    if chosen is None:
        nothing = analysis.Observed("process_memory_bytes", [], "metric:process_memory_bytes (no points)", "bytes")
        return analysis.exhaustion(nothing, analysis.Ceiling("", "process", 0.0, nothing.source), horizon_s, _LEVEL)
    return analysis.exhaustion(_memory(ctx, chosen[1].subject), chosen[1], horizon_s, _LEVEL)
