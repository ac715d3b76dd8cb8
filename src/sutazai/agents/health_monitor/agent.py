"""Why it exists: the skills of health-monitor: fetch facts from the fleet, hand them to the pure analysis."""

import time
from typing import Annotated

from pydantic import Field

from sutazai.agents.health_monitor import analysis
from sutazai.agents.health_monitor.models import (
    ConditionFact,
    EventFact,
    History,
    ProbeFact,
    ProcessFact,
    Recorded,
    Report,
    SpanFact,
)
from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("health-monitor")

Window = Annotated[int, Field(ge=10, le=7_200, description="how far to look back, seconds")]


@agent.skill
def report(
    ctx: Context,
    window_s: Window = 300,
    recorded: Annotated[Recorded | None, Field(description="recorded facts instead of the live fleet's")] = None,
) -> Report:
    """Find out what is unhealthy now: conditions with causes (root before symptom), processes, availability, MTTR."""
    return analysis.report(recorded if recorded is not None else _facts(ctx, window_s), window_s)


@agent.skill
def history(
    ctx: Context,
    subject: Annotated[str, Field(min_length=1, max_length=200, description="a process or an agent")],
    window_s: Window = 3_600,
    recorded: Annotated[Recorded | None, Field(description="recorded facts instead of the live fleet's")] = None,
) -> History:
    """Tell what one subject went through: conditions, restarts, outages, availability and mean time to repair."""
    facts = recorded if recorded is not None else _facts(ctx, window_s)
    known = {process.name for process in facts.processes} | {event.subject for event in facts.events}
    known |= {span.subject for span in facts.history} | {probe.process for probe in facts.probes}
    if subject not in known:
        names = ", ".join(sorted(process.name for process in facts.processes)[:20])
        raise NonRetryableError(f"nothing is known of {subject!r}; the processes are: {names}")
    return analysis.history(facts, subject, window_s)


def _facts(ctx: Context, window_s: int) -> Recorded:
    status = ctx.fleet.status()
    return Recorded(
        at_wall_ms=status.at_wall_ms or time.time_ns() // 1_000_000,
        processes=[ProcessFact.model_validate(item, from_attributes=True) for item in status.processes],
        conditions=[ConditionFact.model_validate(item, from_attributes=True) for item in ctx.fleet.conditions()],
        history=[
            SpanFact.model_validate(item, from_attributes=True)
            for item in ctx.fleet.condition_history(since_s=window_s)
        ],
        events=[EventFact.model_validate(item, from_attributes=True) for item in ctx.fleet.events(since_s=window_s)],
        probes=[
            ProbeFact(
                process=found.labels["process"],
                points=[(int(at_ms), float(value)) for at_ms, value in found.points],
                source=found.source,
            )
            for found in ctx.fleet.metrics("probe_success", since_s=window_s)
        ],
    )
