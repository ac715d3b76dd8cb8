"""Why it exists: the skills of agentzero-coordinator: plan, delegate in three stages, report; each stage is a turn.

``achieve`` asks what is unhealthy; ``investigate`` fans out with the subject that was found; ``write_report`` hands
all findings to the report's writer; ``finish`` closes. Every stage ends in a ``Wait``, so a kill between two of them
loses nothing, and a failed step is replaced by another suited skill or named as missing evidence.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from sutazai.agents.agentzero_coordinator import catalogue, delegation, goals, planning
from sutazai.agents.agentzero_coordinator.models import Cancelled, CatalogueAgent, Goals, Outcome, Plan, Run, Step
from sutazai.errors import RefusedError
from sutazai.runtime import Agent, Context, Result, SkillError, UnavailableError, Wait

agent = Agent("agentzero-coordinator")

_LLM_TOKENS_MAX = 200
_LLM_TIME_LEFT_S_MIN = 60.0
Goal = Annotated[str, Field(min_length=3, max_length=1_000, description="what to find out or reach, in plain words")]
MaxSteps = Annotated[int, Field(ge=2, le=20, description="most tasks it may hand to other agents")]
UseLlm = Annotated[bool, Field(description="let the language model choose steps; the verifier completes them anyway")]


@agent.skill
def achieve(
    ctx: Context,
    goal: Goal,
    subject: Annotated[str, Field(max_length=200, description="process it is about; empty: found out")] = "",
    window_s: Annotated[int, Field(ge=10, le=7_200, description="how far to look back, seconds")] = 300,
    max_steps: MaxSteps = 12,
    *,
    use_llm: UseLlm = True,
) -> Wait[Outcome]:
    """Reach a goal by other agents: plan over their real skills, delegate durably, re-plan on failure, and report."""
    cards = delegation.read_cards(ctx)
    ctx.progress(0.05, "planning")
    plan = planning.make(goal, cards, _choice(ctx, goal, cards, use_llm=use_llm), max_steps)
    ctx.log.info("planned", planner=plan.planner, steps=[step.skill for step in plan.steps])
    run = Run(goal=goal, subject=subject, window_s=window_s, max_steps=max_steps, plan=plan)
    first = [step for step in plan.steps if step.stage == delegation.STAGE_DETECT]
    return _next(ctx, run, first, cards, "investigate")


@agent.skill
def plan(
    ctx: Context,
    goal: Goal,
    max_steps: MaxSteps = 12,
    *,
    use_llm: UseLlm = True,
    catalogue_given: Annotated[
        list[CatalogueAgent] | None, Field(max_length=200, description="plan over these agents instead of the fleet's")
    ] = None,
) -> Plan:
    """Show the steps that would be delegated for a goal, and who chose each; asks nobody else and changes nothing."""
    cards = (
        delegation.read_cards(ctx)
        if catalogue_given is None
        else catalogue.cards(catalogue_given, without=delegation.NAME)
    )
    return planning.make(goal, cards, _choice(ctx, goal, cards, use_llm=use_llm), max_steps)


GoalId = Annotated[str, Field(max_length=80, description="id of the task that asked for achieve")]


@agent.skill
def status(ctx: Context, goal_id: GoalId = "") -> Goals:
    """Say where a goal stands: its stage, each task that it handed on, what it waits for; without an id, all goals."""
    return goals.one(ctx, goal_id) if goal_id else goals.newest(ctx)


@agent.skill
def cancel(
    ctx: Context,
    goal_id: Annotated[str, Field(min_length=1, max_length=80, description="id of the task that asked for achieve")],
    reason: Annotated[str, Field(max_length=500, description="for its history")] = "",
) -> Cancelled:
    """Call a goal off, with every task that it has handed on; what has ended by itself stays. Safe to repeat."""
    return goals.cancel(ctx, goal_id, reason)


@agent.step
def investigate(ctx: Context, results: list[Result], carry: Run) -> Wait[Outcome]:
    """Go on with what detection found: ask all other evidence at once."""
    return _collect(ctx, results, carry, _Stage("investigate_again", "write_report", delegation.STAGE_INVESTIGATE))


@agent.step
def investigate_again(ctx: Context, results: list[Result], carry: Run) -> Wait[Outcome]:
    """The same after detection was tried with another skill."""
    return _collect(ctx, results, carry, _Stage("", "write_report", delegation.STAGE_INVESTIGATE))


@agent.step
def write_report(ctx: Context, results: list[Result], carry: Run) -> Wait[Outcome]:
    """Hand all findings to the report's writer."""
    return _collect(ctx, results, carry, _Stage("write_report_again", "finish", delegation.STAGE_REPORT))


@agent.step
def write_report_again(ctx: Context, results: list[Result], carry: Run) -> Wait[Outcome]:
    """The same after failed evidence was tried with other skills."""
    return _collect(ctx, results, carry, _Stage("", "finish", delegation.STAGE_REPORT))


@agent.step
def finish(ctx: Context, results: list[Result], carry: Run) -> Outcome | Wait[Outcome]:
    """Close the goal, or let another writer try when the first failed."""
    carry.turns += 1
    cards = [] if all(result.ok for result in results) else delegation.read_cards(ctx)
    again = delegation.collect(carry, results, cards, replan=True)
    if again:
        return _next(ctx, carry, again, cards, "finish_again")
    return delegation.outcome(carry, results)


@agent.step
def finish_again(results: list[Result], carry: Run) -> Outcome:
    """Close the goal, whatever the second writer did."""
    carry.turns += 1
    delegation.collect(carry, results, [], replan=False)
    return delegation.outcome(carry, results)


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where a stage goes on: with replacements of what failed (empty: no more of them), or with the next stage.

    Each step of a task runs once, so that its history reads like a story; that bounds re-planning to one round a stage.
    """

    again: str
    after: str
    number: int


def _collect(ctx: Context, results: list[Result], run: Run, stage: _Stage) -> Wait[Outcome]:
    """Take results; ask replacements of failed ones once, else go on to the next stage."""
    run.turns += 1
    cards = delegation.read_cards(ctx)
    again = delegation.collect(run, results, cards, replan=bool(stage.again))
    if again:
        return _next(ctx, run, again, cards, stage.again)
    ctx.progress(0.2 + 0.3 * stage.number, f"subject: {run.subject or 'the whole fleet'}")
    steps = [step for step in run.plan.steps if step.stage == stage.number]
    return _next(ctx, run, steps, cards, stage.after)


def _next(ctx: Context, run: Run, steps: list[Step], cards: list[catalogue.Card], then: str) -> Wait[Outcome]:
    """Wait for steps; without a single call the runtime goes on to ``then`` in the same turn."""
    calls = delegation.ask(ctx, run, steps, cards)
    return Wait(calls, then=then, carry=run.model_dump(mode="json"))


def _choice(ctx: Context, goal: str, cards: list[catalogue.Card], *, use_llm: bool) -> planning.Choice:
    if not use_llm or not ctx.settings.get("use_llm", True):
        return planning.Choice(why_not="it was switched off")
    if ctx.deadline_left_s() < _LLM_TIME_LEFT_S_MIN:
        return planning.Choice(why_not="the deadline is too near to ask it")
    among = planning.candidates(goal, cards)
    if not among:
        return planning.Choice(why_not="there is no skill to choose from")
    messages, schema = planning.question(goal, among)
    try:
        return planning.Choice(ctx.llm.chat(messages, schema=schema, max_tokens=_LLM_TOKENS_MAX).data)
    except (UnavailableError, SkillError, RefusedError) as error:
        return planning.Choice(why_not=f"{error.code}: {error}"[:200])
