"""Why it exists: a reader is shown what caused a trouble before what only followed from it. Pure.

Active conditions name their causes themselves. Conditions that have ended, and troubles that this agent derives from
events and checks, are joined by ``_EXPLAINS``: the same subject, and an overlap or a short distance in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sutazai.agents.health_monitor.models import Problem
from sutazai.runtime.evidence import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.health_monitor.models import ConditionFact, Recorded, Severity

_EXPLAINS: dict[str, tuple[str, ...]] = {
    "OomKilled": ("MemoryPressure",),
    "CrashLoop": ("OomKilled", "MemoryPressure"),
    "NotReady": ("CrashLoop", "OomKilled"),
    "Unhealthy": ("CrashLoop", "NotReady", "OomKilled", "MemoryPressure"),
}
_NEAR_MS = 120_000
_PRESSURE_SHARE = 0.9
_FAILED_CHECKS = 3
_SEVERITIES = ("critical", "warning", "info")
_OOM_KIND = "oom-killed"


@dataclass(slots=True)
class _Trouble:
    name: str
    subject: str
    severity: Severity
    text: str
    since_ms: int
    source: str
    active: bool
    until_ms: int | None = None
    derived: bool = False
    fix: str = ""
    causes: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.name}/{self.subject}"


def problems(facts: Recorded, window_s: int) -> list[Problem]:
    """All that is wrong, or was wrong in the window: active before recent, roots before echoes, severe before mild."""
    begin_ms = facts.at_wall_ms - window_s * 1000
    troubles: dict[str, _Trouble] = {}
    for trouble in (*_active(facts.conditions), *_derived(facts, begin_ms), *_recent(facts, begin_ms)):
        troubles.setdefault(trouble.key, trouble)
    for trouble in troubles.values():
        _explain(trouble, troubles)
    depths = _depths({key: trouble.causes for key, trouble in troubles.items()})
    found = [_problem(trouble, depths[trouble.key]) for trouble in troubles.values()]
    return sorted(
        found,
        key=lambda item: (
            item.state != "active",
            item.depth,
            _SEVERITIES.index(item.severity),
            item.subject,
            item.name,
        ),
    )


def _active(conditions: Sequence[ConditionFact]) -> list[_Trouble]:
    return [
        _Trouble(
            name=item.name,
            subject=item.subject,
            severity=item.severity,
            text=item.text,
            since_ms=item.since_wall_ms,
            source=item.source or f"condition:{item.name}/{item.subject}@{item.since_wall_ms}",
            active=True,
            fix=item.fix,
            causes=list(item.depends_on),
        )
        for item in conditions
    ]


def _recent(facts: Recorded, begin_ms: int) -> list[_Trouble]:
    """Conditions of the window that have ended; of several of one kind the newest."""
    found = []
    for span in sorted(facts.history, key=lambda span: -span.raised_wall_ms):
        if span.cleared_wall_ms is not None and span.cleared_wall_ms >= begin_ms:
            source = span.source or f"condition:{span.name}/{span.subject}@{span.raised_wall_ms}"
            trouble = _Trouble(
                span.name, span.subject, span.severity, span.text, span.raised_wall_ms, source, active=False
            )
            trouble.until_ms = span.cleared_wall_ms
            found.append(trouble)
    return found


def _derived(facts: Recorded, begin_ms: int) -> list[_Trouble]:
    """What the fleet has raised no condition for, yet or any more, and the facts show all the same."""
    found = []
    for event in sorted(facts.events, key=lambda event: -event.at_wall_ms):
        if event.kind == _OOM_KIND and event.at_wall_ms >= begin_ms:
            source = event.source or f"event:{event.kind}/{event.subject}@{event.at_wall_ms}"
            text = event.text or "killed by the kernel at its memory limit"
            found.append(
                _Trouble(
                    "OomKilled", event.subject, "warning", text, event.at_wall_ms, source, active=False, derived=True
                )
            )
    for process in facts.processes:
        share = process.memory_bytes / process.memory_limit_bytes if process.memory_limit_bytes else 0.0
        if share >= _PRESSURE_SHARE:
            source = process.source or f"status:process/{process.name}@{facts.at_wall_ms}"
            text = "memory is near the limit"
            at_ms = facts.at_wall_ms
            found.append(
                _Trouble("MemoryPressure", process.name, "warning", text, at_ms, source, active=True, derived=True)
            )
    for probe in facts.probes:
        last = probe.points[-_FAILED_CHECKS:]
        if len(last) == _FAILED_CHECKS and all(value < 1 for _, value in last):
            text = "the last liveness checks failed"
            found.append(
                _Trouble(
                    "Unhealthy", probe.process, "warning", text, last[0][0], probe.source, active=True, derived=True
                )
            )
    return found


def _explain(trouble: _Trouble, troubles: dict[str, _Trouble]) -> None:
    known = [cause for cause in trouble.causes if cause in troubles]
    for name in _EXPLAINS.get(trouble.name, ()):
        cause = troubles.get(f"{name}/{trouble.subject}")
        if cause is not None and cause.key not in known and _near(cause, trouble):
            known.append(cause.key)
    trouble.causes = known


def _near(one: _Trouble, other: _Trouble) -> bool:
    one_end = one.until_ms if one.until_ms is not None else one.since_ms + _NEAR_MS
    other_end = other.until_ms if other.until_ms is not None else other.since_ms + _NEAR_MS
    return one.since_ms <= other_end + _NEAR_MS and other.since_ms <= one_end + _NEAR_MS


def _depths(causes: dict[str, list[str]]) -> dict[str, int]:
    """How many steps each is away from a root; a circle counts from where it is entered."""
    depths: dict[str, int] = {}

    def depth(key: str, path: tuple[str, ...]) -> int:
        if key not in depths:
            above = [depth(cause, (*path, key)) for cause in causes.get(key, []) if cause not in (*path, key)]
            depths[key] = 1 + max(above) if above else 0
        return depths[key]

    for key in causes:
        depth(key, ())
    return depths


def _problem(trouble: _Trouble, depth: int) -> Problem:
    state: Literal["active", "recent"] = "active" if trouble.active else "recent"
    until = trouble.until_ms
    return Problem(
        name=trouble.name,
        subject=trouble.subject,
        severity=trouble.severity,
        state=state,
        root=depth == 0,
        depth=depth,
        caused_by=trouble.causes,
        derived=trouble.derived,
        since=Measure(value=trouble.since_ms, unit="wall_ms", source=trouble.source),
        until=None if until is None else Measure(value=until, unit="wall_ms", source=f"end of {trouble.source}"),
        text=Measure(value=trouble.text or trouble.name, unit="text", source=trouble.source),
        fix=trouble.fix,
    )
