"""Why it exists: events, conditions and logs tell one story only when they stand in one order and are not repeated.

Log lines that differ only in their numbers and names of things are one entry with a count. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from sutazai.agents.incident_timeline_writer.models import Entry, Pattern
from sutazai.runtime.evidence import Finding, Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.incident_timeline_writer.models import EventLine, LogLine, Recorded, Span

ENTRIES_MAX = 200
PATTERNS_MAX = 30
_WORST = ("error", "critical", "fatal")
_WARN = ("warning", "warn")
_VARIABLE = re.compile(
    r"""
      \b[0-9a-f]{8}-[0-9a-f-]{27}\b        # UUIDs
    | \b0x[0-9a-f]+\b
    | \b[a-z]{1,8}[-_][0-9]+\b             # order and session numbers
    | \b[0-9]+(?:\.[0-9]+)*\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PATTERN_CHARACTERS_MAX = 200
_TEXT_CHARACTERS_MAX = 300
_LINE_CHARACTERS_MAX = 2_000  # of a very long line only the beginning is compared
_KINDS: dict[str, tuple[Literal["restart", "oom-kill", "deploy", "event"], Literal["info", "warning", "error"]]] = {
    "process-restarted": ("restart", "warning"),
    "oom-killed": ("oom-kill", "error"),
    "plan-swapped": ("deploy", "info"),
    "task-dead": ("event", "error"),
    "process-exited": ("event", "warning"),
    "source-lost": ("event", "warning"),
}
#: Of entries at the same time: a kill comes before its restart, and that before the readiness.
_ORDER = ("log", "deploy", "oom-kill", "condition", "restart", "event")
#: Told by the conditions themselves, with their end.
_TOLD_ELSEWHERE = ("condition-raised", "condition-cleared")
#: Come with every task; they say nothing about an incident.
_NOISE = ("instance-started", "instance-ended")


def pattern_of(text: str) -> str:
    """Replace what varies in a log line by ``#``."""
    return _VARIABLE.sub("#", text[:_LINE_CHARACTERS_MAX])[:_PATTERN_CHARACTERS_MAX]


def patterns(logs: Sequence[LogLine]) -> list[Pattern]:
    """Group the warnings and errors of logs by process and pattern, the most frequent first."""
    groups: dict[tuple[str, str, str], list[LogLine]] = {}
    for line in sorted(logs, key=lambda line: line.at_wall_ms):
        level = _level(line.level)
        if level != "info":
            groups.setdefault((line.process, level, pattern_of(line.text)), []).append(line)
    found = [_pattern(key, lines) for key, lines in groups.items()]
    return sorted(found, key=lambda item: -int(item.count.value))[:PATTERNS_MAX]


def _level(level: str) -> Literal["info", "warning", "error"]:
    if level in _WORST:
        return "error"
    return "warning" if level in _WARN else "info"


def _pattern(key: tuple[str, str, str], lines: Sequence[LogLine]) -> Pattern:
    process, level, pattern = key
    first, last = lines[0], lines[-1]
    span = f"log:{process}@{first.at_wall_ms}..{last.at_wall_ms} lines like '{pattern[:120]}'"
    return Pattern(
        process=process,
        pattern=pattern,
        level=level,
        count=Measure(value=len(lines), unit="count", source=f"count of {span}"),
        first=Measure(value=first.at_wall_ms, unit="wall_ms", source=_source(first)),
        last=Measure(value=last.at_wall_ms, unit="wall_ms", source=_source(last)),
        sample=Measure(value=first.text[:_TEXT_CHARACTERS_MAX], unit="text", source=_source(first)),
    )


def _source(line: LogLine) -> str:
    return line.source or f"log:{line.process}@{line.at_wall_ms}"


def order(facts: Recorded, subject: str = "") -> tuple[list[Entry], list[Pattern]]:
    """Make one time line; the newest ``ENTRIES_MAX`` entries are kept.

    Args:
        facts: events, conditions and logs, in any order.
        subject: keep only what is about it; empty keeps all.
    """
    wanted = [line for line in facts.logs if not subject or line.process == subject]
    grouped = patterns(wanted)
    entries = [_log_entry(item) for item in grouped]
    entries += [
        _event_entry(event)
        for event in facts.events
        if (not subject or event.subject == subject) and event.kind not in (*_TOLD_ELSEWHERE, *_NOISE)
    ]
    entries += [_span_entry(span) for span in facts.conditions if not subject or span.subject == subject]
    entries.sort(key=lambda entry: (int(entry.at.value), _ORDER.index(entry.kind), entry.subject))
    return entries[-ENTRIES_MAX:], grouped


def _log_entry(item: Pattern) -> Entry:
    return Entry(
        at=item.first,
        until=item.last if item.last.value != item.first.value else None,
        kind="log",
        subject=item.process,
        text=item.sample,
        level=_level(item.level),
        count=item.count if int(item.count.value) > 1 else None,
    )


def _event_entry(event: EventLine) -> Entry:
    kind, level = _KINDS.get(event.kind, ("event", "info"))
    source = event.source or f"event:{event.kind}/{event.subject}@{event.at_wall_ms}"
    words = f"{event.kind}: {event.text}" if event.text else event.kind
    return Entry(
        at=Measure(value=event.at_wall_ms, unit="wall_ms", source=source),
        kind=kind,
        subject=event.subject,
        text=Measure(value=words[:_TEXT_CHARACTERS_MAX], unit="text", source=source),
        level=level,
    )


def _span_entry(span: Span) -> Entry:
    source = span.source or f"condition:{span.name}/{span.subject}@{span.raised_wall_ms}"
    until = span.cleared_wall_ms
    words = f"{span.name}: {span.text}" if span.text else span.name
    return Entry(
        at=Measure(value=span.raised_wall_ms, unit="wall_ms", source=source),
        until=None if until is None else Measure(value=until, unit="wall_ms", source=f"end of {source}"),
        kind="condition",
        subject=span.subject,
        text=Measure(value=words[:_TEXT_CHARACTERS_MAX], unit="text", source=source),
        level="error" if span.severity == "critical" else "warning" if span.severity == "warning" else "info",
    )


def findings(entries: Sequence[Entry], grouped: Sequence[Pattern], subject: str) -> list[Finding]:
    """State what the time line shows: kills, restarts, the most frequent errors."""
    stated: list[Finding] = []
    about = f"`{subject}` was" if subject else "Processes were"
    for kind, words in (("oom-kill", "killed at the memory limit"), ("restart", "started anew")):
        hits = [entry for entry in entries if entry.kind == kind]
        if hits:
            count = Measure(value=len(hits), unit="count", source=f"count of {kind} entries: {hits[0].at.source}"[:400])
            measures = {"count": count, "first": hits[0].at, "last": hits[-1].at}
            text = f"{about} {words} {{count}} times, first at {{first}}, last at {{last}}."
            stated.append(Finding(section="impact", subject=subject, text=text, measures=measures))
    stated.extend(
        Finding(
            section="impact",
            subject=item.process,
            text=f"`{item.process}` logged {{count}} errors like {{sample}} from {{first}} to {{last}}.",
            measures={"count": item.count, "sample": item.sample, "first": item.first, "last": item.last},
        )
        for item in [item for item in grouped if item.level == "error"][:3]
    )
    if not entries:
        whom = f"`{subject}`" if subject else "the fleet"
        text = f"Nothing happened to {whom} in the window: no event, no condition, no warning in its log."
        stated.append(Finding(section="timeline", subject=subject, text=text))
    return stated
