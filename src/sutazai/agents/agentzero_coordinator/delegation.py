"""Why it exists: stages, retries by another skill, and budgets are the same for every goal, so they stand here once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.agents.agentzero_coordinator import arguments, catalogue, synthesis
from sutazai.agents.agentzero_coordinator.models import CatalogueAgent, Outcome, Step, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.agentzero_coordinator.catalogue import Card
    from sutazai.agents.agentzero_coordinator.models import Run
    from sutazai.runtime import Call, Context, Result

STAGE_DETECT, STAGE_INVESTIGATE, STAGE_REPORT = 0, 1, 2
_CHILD_DEADLINE_S_MIN = 20.0
_STAGES = 3
NAME = "agentzero-coordinator"
#: A goal that is handed on as it is would be planned twice.
_PLANNERS = frozenset({"autogpt"})


def read_cards(ctx: Context) -> list[Card]:
    """All skills of the fleet but this agent's own, and but those of agents that plan towards a goal themselves."""
    agents = [
        CatalogueAgent.model_validate(agent, from_attributes=True)
        for agent in ctx.fleet.agents()
        if agent.name not in _PLANNERS
    ]
    return catalogue.cards(agents, without=NAME)


def ask(ctx: Context, run: Run, steps: Sequence[Step], cards: Sequence[Card]) -> list[Call]:
    """Make the calls of steps; one whose arguments cannot be derived goes to another suited skill.

    Sets ``run.open`` to the steps asked, in the order of the calls.
    """
    by_id = {card.id: card for card in cards}
    calls: list[Call] = []
    run.open = []
    queue = list(steps)
    while queue:
        step = queue.pop(0)
        if len(run.done) + len(run.open) >= run.max_steps:
            _give_up(run, step, "left-out", "the budget of steps is used up")
            continue
        card = by_id.get(step.skill)
        filled, lacking = arguments.derive(card.input, _known(run)) if card is not None else ({}, ["the skill"])
        if card is None or lacking:
            step.status, step.error = "not-asked", f"nothing is known about {', '.join(lacking)}"
            other = _another(run, step, cards, [*queue, *run.open])
            if other is None:
                _give_up(run, step, step.status, step.error)
            else:
                run.done.append(step)
                queue.insert(0, other)
            continue
        call = ctx.call(card.agent, card.skill, filled, deadline_s=_deadline_s(ctx, step.stage))
        step.task, step.status = call.id, "asked"
        calls.append(call)
        run.open.append(step)
    return calls


def _known(run: Run) -> arguments.Known:
    return arguments.Known(
        goal=run.goal,
        subject=run.subject,
        window_s=run.window_s,
        findings=[finding.model_dump(mode="json") for finding in synthesis.ordered(run)],
        entries=run.entries,
        by=synthesis.by(run.done),
    )


def _deadline_s(ctx: Context, stage: int) -> float:
    """A fair part of the time left, so that one hung child leaves time for another and for the report."""
    return max(_CHILD_DEADLINE_S_MIN, ctx.deadline_left_s() / (_STAGES - stage + 1))


def collect(run: Run, results: Sequence[Result], cards: Sequence[Card], *, replan: bool) -> list[Step]:
    """Take the results of the open steps.

    Args:
        run: where the goal stands.
        results: in the order of ``run.open``.
        cards: what could be asked instead.
        replan: whether a failed step may still be replaced; else it is given up and named as missing.

    Returns:
        Steps to ask in the place of failed ones, where another suited skill exists.
    """
    again: list[Step] = []
    for step, result in zip(run.open, results, strict=True):
        step.status = result.status
        if result.ok:
            run.done.append(step)
            if step.stage != STAGE_REPORT:
                synthesis.take(run, step, result.result)
            continue
        step.error = str((result.error or {}).get("message") or result.status)
        other = _another(run, step, cards, again) if replan else None
        if other is None:
            _give_up(run, step, result.status, step.error)
        else:
            run.done.append(step)
            again.append(other)
    run.open = []
    return again


def _another(run: Run, failed: Step, cards: Sequence[Card], coming: Sequence[Step]) -> Step | None:
    """Another skill with the same capability that was not tried yet."""
    if not failed.capability:
        return None
    tried = {step.skill for step in (*run.done, *run.open, *coming)} | {failed.skill}
    for card in catalogue.suited(failed.capability, cards):
        if card.id not in tried:
            why = f"{failed.skill} ended as {failed.status}"
            return Step(
                skill=card.id, capability=failed.capability, stage=failed.stage, chosen_by="replan", why=why[:200]
            )
    return None


def _give_up(run: Run, step: Step, status: str, why: str) -> None:
    step.status, step.error = status, why
    run.done.append(step)
    if step.capability in run.plan.needs:
        run.missing.append(f"{step.capability}: {step.skill} {status}: {why}"[:300])
        run.findings.append(synthesis.missing(step, f"task:{step.task}" if step.task else "plan"))
    else:
        run.notes.append(f"the extra step {step.skill} {status}: {why}"[:300])


def outcome(run: Run, results: Sequence[Result]) -> Outcome:
    """Close a goal: the report when one was written, else the findings themselves."""
    written = next((result.result for result in results if result.ok and isinstance(result.result, dict)), {})
    report = str(written.get("markdown") or "")
    untraced = [str(problem) for problem in written.get("untraced") or []]
    missing = [*run.missing, *(f"{need}: no skill of this fleet covers it" for need in run.plan.uncovered)]
    notes = [*run.plan.notes, *run.notes, *(f"untraced: {problem}" for problem in untraced)]
    if written.get("prose_why"):
        notes.append(f"summary: {written.get('prose')}: {written['prose_why']}")
    return Outcome(
        goal=run.goal,
        subject=run.subject,
        complete=bool(report) and not missing and not untraced,
        report=report,
        numbers=int(written.get("numbers") or 0),
        sources=list(written.get("sources") or []),
        missing=missing,
        trace=Trace(
            planner=run.plan.planner,
            needs=run.plan.needs,
            uncovered=run.plan.uncovered,
            steps=run.done,
            tasks=[step.task for step in run.done if step.task],
            turns=run.turns,
            notes=notes,
        ),
        findings=[] if report else synthesis.ordered(run),
    )
