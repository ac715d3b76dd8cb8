"""Why it exists: the skills of hardware-resource-optimizer: fetch what was observed, hand it to the pure rule."""

import time
from typing import Annotated

from pydantic import Field

from sutazai.agents.hardware_resource_optimizer import observing, patching, sizing
from sutazai.agents.hardware_resource_optimizer.models import Applied, Observation, Proposal, Rightsizing, Step
from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("hardware-resource-optimizer")

Window = Annotated[int, Field(ge=60, le=7_200, description="how far to look back, seconds; the ring keeps two hours")]
Least = Annotated[int, Field(ge=60, le=7_200, description="seconds that a process must have been observed")]
Margin = Annotated[float, Field(ge=0.05, le=2, description="room above the worst moment, share of it")]
Recorded = Annotated[
    list[Observation] | None, Field(min_length=1, max_length=200, description="recorded observations instead")
]
COMMAND = "merge patch_yaml into the fleet's manifest, then: sutazai up MANIFEST"


@agent.skill
def rightsize(
    ctx: Context,
    window_s: Window = 3_600,
    observe_min_s: Least = 600,
    margin: Margin = 0.25,
    subject: Annotated[str, Field(max_length=200, description="one process or agent; empty: all")] = "",
    recorded: Recorded = None,
) -> Rightsizing:
    """Propose memory limits from observed peaks and start spikes: never below a peak, with margin, saving and patch."""
    notes: list[str] = []
    if recorded is not None:
        seen = [observing.recorded(place, one) for place, one in enumerate(recorded)]
    else:
        ctx.progress(0.1, "reading two hours of memory")
        seen, notes = observing.live(ctx.fleet, window_s)
    if subject:
        seen = [one for one in seen if one.name == subject]
        if not seen:
            raise NonRetryableError(f"no process and no agent is called {subject!r}")
    rule = sizing.policy(margin, observe_min_s)
    proposals = sorted((sizing.judge(one, rule) for one in seen), key=_rank)
    total, by_pool = patching.savings(proposals)
    parts = patching.patch(proposals)
    short = sum(one.verdict == "not-enough-data" for one in proposals)
    if short:
        notes.append(f"{short} of {len(proposals)} were observed for too short a time: ask again later")
    return Rightsizing(
        at_wall_ms=time.time_ns() // 1_000_000,
        window_s=window_s,
        policy=rule,
        proposals=proposals,
        saving=total,
        saving_by_pool=by_pool,
        patch=parts,
        patch_yaml=patching.as_yaml(parts),
        findings=patching.findings(proposals, total),
        notes=notes,
    )


@agent.skill
def apply(
    ctx: Context,
    window_s: Window = 3_600,
    observe_min_s: Least = 600,
    margin: Margin = 0.25,
    *,
    dry_run: Annotated[bool, Field(description="false: really change the limits")] = True,
    recorded: Recorded = None,
) -> Applied:
    """Apply proposed memory limits. Dry run unless told otherwise; always gives the exact manifest patch."""
    if recorded is not None and not dry_run:
        raise NonRetryableError("recorded observations are never applied: leave recorded out, or dry_run true")
    found = rightsize(ctx, window_s, observe_min_s, margin, "", recorded)
    steps = [_step(one) for one in patching.changed(found.proposals)]
    result = Applied(
        dry_run=dry_run, status="planned" if steps else "nothing-to-do", steps=steps, patch=found.patch,
        patch_yaml=found.patch_yaml, command=COMMAND if steps else "", notes=found.notes,
    )  # fmt: skip
    if dry_run or not steps:
        return result
    for step in steps:
        step.status, step.why = "unavailable", "this fleet has no power to change a limit of a running process"
    result.status = "unavailable"
    result.notes.append("nothing was changed: a running fleet takes the patch through its manifest")
    return result


def _step(one: Proposal) -> Step:
    nothing = sizing.no_limit()
    return Step(
        name=one.name, kind=one.kind, before=one.limit or nothing, after=one.proposed or nothing, status="planned"
    )


def _rank(one: Proposal) -> tuple[int, float, str]:
    order = ("raise", "no-limit", "lower", "still-growing", "keep", "not-enough-data", "fixed")
    return order.index(one.verdict), -abs(float(one.saving.value)) if one.saving is not None else 0.0, one.name
