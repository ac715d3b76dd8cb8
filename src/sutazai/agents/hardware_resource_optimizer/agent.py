"""Why it exists: the skills of hardware-resource-optimizer: fetch what was observed, hand it to the pure rule."""

import time
from typing import Annotated, Literal

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
LIVE_NOTE = "a limit changed in the running fleet lasts until its next plan; the manifest patch makes it last"
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
    # What gives memory back goes first, so that what needs more finds it.
    changes = sorted(patching.changed(found.proposals), key=lambda one: one.verdict != "lower")
    steps = [_step(one) for one in changes]
    if recorded is None:
        for step in steps:
            _resize(ctx, step, dry_run=dry_run)
    return Applied(
        dry_run=dry_run, status=_status(steps), steps=steps, patch=found.patch, patch_yaml=found.patch_yaml,
        command=COMMAND if steps else "", notes=[*found.notes, *([LIVE_NOTE] if steps else [])],
    )  # fmt: skip


def _resize(ctx: Context, step: Step, *, dry_run: bool) -> None:
    """Ask the fleet to change one limit, or whether it would."""
    try:
        done = ctx.act("resize", subject=step.name, memory_bytes=int(step.after.value), dry_run=dry_run)
    except NonRetryableError as error:
        step.status, step.why = "refused", str(error)
    else:
        step.status, step.why = "planned" if dry_run else "applied", str(done.get("text", ""))


def _status(steps: list[Step]) -> Literal["planned", "applied", "partly", "refused", "nothing-to-do"]:
    if not steps:
        return "nothing-to-do"
    done = [step for step in steps if step.status != "refused"]
    if not done:
        return "refused"
    if len(done) < len(steps):
        return "partly"
    return "applied" if done[0].status == "applied" else "planned"


def _step(one: Proposal) -> Step:
    nothing = sizing.no_limit()
    return Step(
        name=one.name, kind=one.kind, before=one.limit or nothing, after=one.proposed or nothing, status="planned"
    )


def _rank(one: Proposal) -> tuple[int, float, str]:
    order = ("raise", "no-limit", "lower", "still-growing", "keep", "not-enough-data", "fixed")
    return order.index(one.verdict), -abs(float(one.saving.value)) if one.saving is not None else 0.0, one.name
