"""Why it exists: the skills of incident-timeline-writer: gather what happened, and write the report from facts."""

from typing import Annotated

from pydantic import Field

from sutazai.agents.incident_timeline_writer import drafting, ordering
from sutazai.agents.incident_timeline_writer.ledger import Ledger
from sutazai.agents.incident_timeline_writer.models import Draft, Entry, EventLine, LogLine, Recorded, Span, Timeline
from sutazai.errors import RefusedError
from sutazai.runtime import Agent, Context, NonRetryableError, SkillError, UnavailableError
from sutazai.runtime.evidence import Finding

agent = Agent("incident-timeline-writer")

_LOG_LINES_MAX = 2_000
_INSTRUCTION = (
    "You write the summary of an incident report. Write two or three plain sentences: what is unhealthy, why, and what "
    "to do. Use only the facts given. Do not write any number."
)


@agent.skill
def timeline(
    ctx: Context,
    subject: Annotated[str, Field(max_length=200, description="a process or agent; empty for all")] = "",
    window_s: Annotated[int, Field(ge=10, le=86_400, description="how far to look back, seconds")] = 600,
    recorded: Annotated[Recorded | None, Field(description="recorded facts instead of the live fleet's")] = None,
) -> Timeline:
    """Build one time line out of events, restarts, deploys, condition history and logs; like errors are grouped."""
    facts = recorded if recorded is not None else _facts(ctx, subject, window_s)
    entries, grouped = ordering.order(facts, subject)
    return Timeline(
        window_s=window_s,
        subject=subject,
        entries=entries,
        patterns=grouped,
        findings=ordering.findings(entries, grouped, subject),
        notes=[f"of many entries the newest {ordering.ENTRIES_MAX} are kept"]
        if len(entries) == ordering.ENTRIES_MAX
        else [],
    )


@agent.skill
def draft(
    ctx: Context,
    findings: Annotated[list[Finding], Field(max_length=200, description="statements with measured numbers")],
    title: Annotated[str, Field(max_length=200)] = "Incident report",
    goal: Annotated[str, Field(max_length=1_000, description="what was asked, quoted in the report")] = "",
    entries: Annotated[list[Entry] | None, Field(max_length=500, description="time line")] = None,
    by: Annotated[list[str] | None, Field(max_length=100, description="who found what: agents and tasks")] = None,
) -> Draft:
    """Write the incident report (post-mortem, Markdown) from findings; every number gets a reference to its source."""
    ledger = Ledger()
    material = drafting.Material(title=title, goal=goal, findings=findings, entries=entries or [], by=by or [])
    try:
        written = drafting.statements(ledger, findings)
    except ValueError as error:
        raise NonRetryableError(str(error)) from error
    ctx.progress(0.5, "facts are written")
    return drafting.draft(material, ledger, written, _prose(ctx, ledger, written))


def _prose(ctx: Context, ledger: Ledger, written: dict[str, list[str]]) -> drafting.Prose:
    if not ctx.settings.get("prose", True):
        return drafting.Prose("", "none", "switched off by the setting `prose`")
    facts = drafting.brief(written)
    if not facts:
        return drafting.Prose("", "none", "there are no facts to summarise")
    messages = [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": facts}]
    try:
        answer = ctx.llm.chat(messages, max_tokens=120, temperature=0.0)
    except (UnavailableError, SkillError, RefusedError) as error:
        return drafting.Prose("", "none", f"the language model gave no summary: {error}"[:300])
    return drafting.accept(answer.text, ledger)


def _facts(ctx: Context, subject: str, window_s: int) -> Recorded:
    events = ctx.fleet.events(since_s=window_s, subject=subject)
    spans = ctx.fleet.condition_history(since_s=window_s)
    logs = ctx.fleet.logs(subject, since_s=window_s, level="warning", limit=_LOG_LINES_MAX)
    return Recorded(
        events=[
            EventLine(at_wall_ms=e.at_wall_ms, kind=e.kind, subject=e.subject, text=e.text, source=e.source)
            for e in events
        ],
        conditions=[
            Span(
                name=span.name,
                subject=span.subject,
                severity=span.severity,
                text=span.text,
                raised_wall_ms=span.raised_wall_ms,
                cleared_wall_ms=span.cleared_wall_ms,
                source=span.source,
            )
            for span in spans
        ],
        logs=[
            LogLine(
                at_wall_ms=line.at_wall_ms, process=line.process, level=line.level, text=line.text, source=line.source
            )
            for line in logs
        ],
    )
