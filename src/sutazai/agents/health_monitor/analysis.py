"""Why it exists: recorded facts become a report and a history, without I/O, so that tests need no fleet."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from sutazai.agents.health_monitor import causes, outages
from sutazai.agents.health_monitor.models import (
    Change,
    History,
    ProbeFact,
    Problem,
    ProcessFact,
    ProcessHealth,
    Recorded,
    Report,
)
from sutazai.runtime.evidence import Finding, Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

_WEIGHTS = {"critical": 100.0, "warning": 10.0, "info": 1.0}
_RECENT = 0.1  # what has ended weighs less than the mildest active warning with failed checks
_UNAVAILABLE_WEIGHT = 20.0
_PROBLEMS_STATED_MAX = 12
_RUNNING = ("running", "ready", "starting")


def report(facts: Recorded, window_s: int) -> Report:
    """Say what is unhealthy, root causes first."""
    found = causes.problems(facts, window_s)
    healths = [_process(process, facts, window_s) for process in facts.processes]
    worst = _worst(found, healths)
    return Report(
        at_wall_ms=facts.at_wall_ms,
        window_s=window_s,
        verdict=_verdict(found),
        worst=worst,
        problems=found,
        processes=healths,
        findings=_findings(found, healths, worst, window_s),
    )


def _verdict(found: Sequence[Problem]) -> Literal["healthy", "degraded", "unhealthy"]:
    active = [item for item in found if item.state == "active"]
    if any(item.severity == "critical" or item.name == "Unhealthy" for item in active):
        return "unhealthy"
    return "degraded" if any(item.severity != "info" for item in found) else "healthy"


def _process(process: ProcessFact, facts: Recorded, window_s: int) -> ProcessHealth:
    source = process.source or f"status:process/{process.name}@{facts.at_wall_ms}"
    begin_ms = facts.at_wall_ms - window_s * 1000
    probe = next((probe for probe in facts.probes if probe.process == process.name), None)
    kinds = Counter(event.kind for event in facts.events if _is_about(event, process.name, begin_ms))
    where = f"count of event:process-restarted/{process.name}@{begin_ms}..{facts.at_wall_ms}"
    health = ProcessHealth(
        name=process.name,
        kind=process.kind,
        pool=process.pool,
        state=process.state if process.ready or process.state not in _RUNNING else f"{process.state}, not ready",
        probe=_probe_state(probe),
        restarts=Measure(value=process.restarts, unit="count", source=source),
        restarts_in_window=Measure(value=kinds["process-restarted"], unit="count", source=where),
        oom_kills=_kills(process, kinds["oom-killed"], source, f"{begin_ms}..{facts.at_wall_ms}"),
        memory=Measure(value=process.memory_bytes, unit="bytes", source=source),
    )
    if process.memory_limit_bytes:
        health.limit = Measure(value=process.memory_limit_bytes, unit="bytes", source=source)
        share = round(process.memory_bytes / process.memory_limit_bytes, 4)
        health.share = Measure(value=share, unit="ratio", source=f"memory by limit, {source}")
    if probe is not None and probe.points:
        health.availability, health.outages, health.mttr = _availability(probe)
    return health


def _kills(process: ProcessFact, told: int, source: str, span: str) -> Measure:
    """Kills by the kernel: the group's own count, or that of the events when the group is newer than they are."""
    if told > process.oom_kills:
        return Measure(value=told, unit="count", source=f"count of event:oom-killed/{process.name}@{span}")
    return Measure(value=process.oom_kills, unit="count", source=source)


def _is_about(event: object, name: str, begin_ms: int) -> bool:
    return getattr(event, "subject", "") == name and getattr(event, "at_wall_ms", 0) >= begin_ms


def _probe_state(probe: ProbeFact | None) -> Literal["passing", "failing", "none"]:
    if probe is None or not probe.points:
        return "none"
    return "passing" if probe.points[-1][1] >= 1 else "failing"


def _availability(probe: ProbeFact) -> tuple[Measure | None, Measure, Measure | None]:
    source = probe.source or f"probe of {probe.process}"
    ratio = outages.availability(probe.points)
    down = outages.from_probe(probe.points)
    repair = outages.mttr_s(down)
    return (
        None if ratio is None else Measure(value=round(ratio, 4), unit="ratio", source=f"share of ones in {source}"),
        Measure(value=len(down), unit="count", source=f"runs of zeros in {source}"),
        None
        if repair is None
        else Measure(value=round(repair, 1), unit="s", source=f"mean length of outages in {source}"),
    )


def _worst(found: Sequence[Problem], healths: Sequence[ProcessHealth]) -> str:
    """The subject with the most weight: severity, active before recent, and checks that fail."""
    weights: Counter[str] = Counter()
    for item in found:
        weight = _WEIGHTS[item.severity] * (1.0 if item.state == "active" else _RECENT)
        weights[item.subject] += int(weight * 10)
    for health in healths:
        if health.availability is not None and float(health.availability.value) < 1:
            weights[health.name] += int(_UNAVAILABLE_WEIGHT * 10)
    if not weights:
        return ""
    highest = max(weights.values())
    return min(subject for subject, weight in weights.items() if weight == highest)


def _findings(found: Sequence[Problem], healths: Sequence[ProcessHealth], worst: str, window_s: int) -> list[Finding]:
    ordered = sorted(found, key=lambda item: (item.subject != worst, item.state != "active", item.depth))
    # What only informs (a drain, a busy hour) is listed among the problems, but it is not what is unhealthy.
    unhealthy = [item for item in ordered if item.severity != "info"]
    stated = [_problem_finding(item) for item in unhealthy[:_PROBLEMS_STATED_MAX]]
    for health in sorted(healths, key=lambda health: health.name != worst):
        stated.extend(_process_findings(health, window_s))
    stated.extend(
        Finding(
            section="action", subject=item.subject, text="Advice of the fleet: {fix}.", measures={"fix": _fix(item)}
        )
        for item in ordered
        if item.root and item.fix and item.subject == worst
    )
    if not unhealthy:
        count = Measure(value=len(healths), unit="count", source="status:processes")
        text = "All {count} processes are healthy: no condition that matters is active."
        stated.insert(0, Finding(section="unhealthy", text=text, measures={"count": count}))
    return stated


def _fix(item: Problem) -> Measure:
    return Measure(value=item.fix, unit="text", source=item.since.source)


def _problem_finding(item: Problem) -> Finding:
    causes_named = ", ".join(f"`{cause}`" for cause in item.caused_by)
    role = f"it follows from {causes_named}" if causes_named else "no other condition explains it"
    state = "since {since}" if item.until is None else "from {since} to {until}"
    if item.state == "recent" and item.until is None:
        state = "at {since}"
    measures = {"since": item.since, "text": item.text}
    if item.until is not None:
        measures["until"] = item.until
    return Finding(
        section="unhealthy",
        subject=item.subject,
        text=f"`{item.subject}`: `{item.name}` ({item.severity}, {item.state}) {state}: {{text}}; {role}.",
        measures=measures,
    )


def _process_findings(health: ProcessHealth, window_s: int) -> list[Finding]:
    stated = []
    window = Measure(value=window_s, unit="s", source="input:window_s")
    if health.availability is not None and float(health.availability.value) < 1 and health.outages is not None:
        text = f"`{health.name}` passed {{ratio}} of its health checks in the last {{window}}, with {{outages}} outages"
        measures = {"ratio": health.availability, "window": window, "outages": health.outages}
        if health.mttr is not None:
            text += " that took {mttr} to repair on average"
            measures["mttr"] = health.mttr
        stated.append(Finding(section="impact", subject=health.name, text=f"{text}.", measures=measures))
    if int(health.restarts_in_window.value) or int(health.oom_kills.value):
        text = f"`{health.name}` was started anew {{restarts}} times in the last {{window}}; memory kills: {{kills}}."
        measures = {"restarts": health.restarts_in_window, "window": window, "kills": health.oom_kills}
        stated.append(Finding(section="impact", subject=health.name, text=text, measures=measures))
    return stated


def history(facts: Recorded, subject: str, window_s: int) -> History:
    """Say what a subject went through."""
    begin_ms = facts.at_wall_ms - window_s * 1000
    events = [event for event in facts.events if _is_about(event, subject, begin_ms)]
    probe = next((probe for probe in facts.probes if probe.process == subject and probe.points), None)
    where = f"{subject}@{begin_ms}..{facts.at_wall_ms}"
    ratio, count, repair = None, None, None
    if probe is not None:
        ratio, count, repair = _availability(probe)
    else:
        down = outages.from_events(events)
        count = Measure(value=len(down), unit="count", source=f"ends of process to readiness, events of {where}")
        if (mean := outages.mttr_s(down)) is not None:
            repair = Measure(value=round(mean, 1), unit="s", source=f"mean length of outages, events of {where}")
    kinds = Counter(event.kind for event in events)
    answer = History(
        subject=subject,
        window_s=window_s,
        changes=_changes(facts, events, subject, begin_ms),
        availability=ratio,
        outages=count,
        mttr=repair,
        restarts=Measure(
            value=kinds["process-restarted"], unit="count", source=f"count of event:process-restarted/{where}"
        ),
        oom_kills=Measure(value=kinds["oom-killed"], unit="count", source=f"count of event:oom-killed/{where}"),
        findings=[],
    )
    text = (
        f"In the last {{window}} `{subject}` had {{outages}} outages, {{restarts}} restarts and {{kills}} memory kills."
    )
    window = Measure(value=window_s, unit="s", source="input:window_s")
    measures = {"window": window, "outages": count, "restarts": answer.restarts, "kills": answer.oom_kills}
    answer.findings.append(Finding(section="impact", subject=subject, text=text, measures=measures))
    return answer


def _changes(facts: Recorded, events: Sequence[object], subject: str, begin_ms: int) -> list[Change]:
    changes = []
    for span in facts.history:
        ended = span.cleared_wall_ms
        if span.subject != subject or (ended is not None and ended < begin_ms):
            continue
        source = span.source or f"condition:{span.name}/{subject}@{span.raised_wall_ms}"
        changes.append(
            Change(
                at=Measure(value=span.raised_wall_ms, unit="wall_ms", source=source),
                until=None if ended is None else Measure(value=ended, unit="wall_ms", source=f"end of {source}"),
                what=Measure(value=f"{span.name}: {span.text}", unit="text", source=source),
            )
        )
    for event in facts.events:
        if event in events and not event.kind.startswith("condition-"):
            source = event.source or f"event:{event.kind}/{subject}@{event.at_wall_ms}"
            changes.append(
                Change(
                    at=Measure(value=event.at_wall_ms, unit="wall_ms", source=source),
                    what=Measure(value=f"{event.kind}: {event.text}", unit="text", source=source),
                )
            )
    return sorted(changes, key=lambda change: int(change.at.value))
