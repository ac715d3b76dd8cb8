"""Why it exists: what the fleet measured about a process is spread over five metrics; here it comes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.agents.hardware_resource_optimizer.sizing import Observed

if TYPE_CHECKING:
    from sutazai.agents.hardware_resource_optimizer.models import Kind, Observation
    from sutazai.client import FleetClient, Series, Status

POINTS_KIND = ("process_memory_bytes", "process_memory_peak_bytes", "process_memory_limit_bytes")


def recorded(place: int, one: Observation) -> Observed:
    """Take a recorded observation."""
    source = f"input:recorded[{place}] {one.name}"
    return Observed(
        name=one.name, kind=one.kind, pool=one.pool, limit_bytes=one.limit_bytes, use=sorted(one.use),
        peaks=sorted(one.peaks), starts_ms=one.starts_ms, kills=one.kills, source=source, limit_source=source,
    )  # fmt: skip


def live(fleet: FleetClient, window_s: int) -> tuple[list[Observed], list[str]]:
    """Read the live fleet.

    Returns:
        What was observed of processes and agents, and notes of what is not known.

    Raises:
        UnavailableError: control does not answer.
    """
    status = fleet.status()
    starts: dict[str, list[int]] = {}
    kills: dict[str, int] = {}
    kinds = ("process-started", "process-restarted", "instance-started", "oom-killed")
    for event in fleet.events(since_s=window_s, kind=kinds, limit=5_000):
        if event.kind == "oom-killed":
            kills[event.subject] = kills.get(event.subject, 0) + 1
        else:
            starts.setdefault(event.subject, []).append(event.at_wall_ms)
    processes = _processes(fleet, status, window_s, (starts, kills))
    agents = _agents(fleet, window_s, (starts, kills))
    notes = ["use of an agent with several instances at once is judged by the largest instance's peak"]
    return processes + agents, notes


def _by(series: list[Series], label: str) -> dict[str, Series]:
    return {one.labels[label]: one for one in series if one.points}


def _points(series: Series | None) -> list[tuple[int, float]]:
    return [(int(at), float(value)) for at, value in series.points] if series is not None else []


def _processes(
    fleet: FleetClient, status: Status, window_s: int, happened: tuple[dict[str, list[int]], dict[str, int]]
) -> list[Observed]:
    starts, kills = happened
    use, peaks, limits = (_by(fleet.metrics(name, since_s=window_s), "process") for name in POINTS_KIND)
    found = []
    for process in status.processes:
        series, limit = use.get(process.name), limits.get(process.name)
        began = [*starts.get(process.name, ()), process.started_wall_ms]
        found.append(
            Observed(
                name=process.name, kind=_kind(process.kind), pool=process.pool,
                limit_bytes=process.memory_limit_bytes,
                use=[point for point in _points(series) if point[1] > 0],
                peaks=[point for point in _points(peaks.get(process.name)) if point[1] > 0],
                starts_ms=began, kills=kills.get(process.name, 0),
                source=series.source if series is not None else f"no samples of {process.name}",
                limit_source=limit.source if limit is not None else process.source,
            )
        )  # fmt: skip
    return found


def _kind(text: str) -> Kind:
    return text if text in {"service", "llm", "worker"} else "platform"  # type: ignore[return-value] # one of Kind's


def _agents(fleet: FleetClient, window_s: int, happened: tuple[dict[str, list[int]], dict[str, int]]) -> list[Observed]:
    """An agent's instance is judged by the kernel's peak: its memory metric is the sum of all its instances."""
    starts, kills = happened
    peaks = _by(fleet.metrics("agent_memory_peak_bytes", since_s=window_s), "agent")
    limits = _by(fleet.metrics("agent_memory_limit_bytes", since_s=window_s), "agent")
    found = []
    for card in fleet.agents():
        series, limit = peaks.get(card.name), limits.get(card.name)
        awake = [point for point in _points(series) if point[1] > 0]
        found.append(
            Observed(
                name=card.name, kind="agent", pool=card.pool,
                limit_bytes=int(limit.points[-1][1]) if limit is not None else 0,
                use=awake, starts_ms=starts.get(card.name, ()), kills=kills.get(card.name, 0),
                source=series.source if series is not None else f"no samples of {card.name}",
                limit_source=limit.source if limit is not None else "",
            )
        )  # fmt: skip
    return found
