"""Why it exists: the skills of autogpt: pursue a goal, go on with it, show what is remembered.

One round is think (choose an action), act (ask a skill, durably), observe (remember). It ends its turn when it waits
for the skill, so a kill costs one thought at most. What is seen is kept beside the task, an entry a step.
"""

import time
from typing import Annotated, Any

from pydantic import Field

from sutazai.agents.autogpt import thinking
from sutazai.agents.autogpt.models import STEPS_MAX, Budget, Entry, Memory, Mind, Pursuit
from sutazai.errors import RefusedError
from sutazai.runtime import Agent, Context, NonRetryableError, Result, SkillError, UnavailableError, Wait
from sutazai.runtime.grounding import grounded, lines_of, sentences_of, sentences_schema

agent = Agent("autogpt")

_LINES_MAX = 16
_DIGEST_CHARACTERS_MAX = 240
_SENTENCES_MAX = 5
_THOUGHT_TOKENS_MAX = 120
_ANSWER_TOKENS_MAX = 320
_MATERIAL_CHARACTERS_MAX = 5_000
Goal = Annotated[str, Field(min_length=3, max_length=1_000, description="what to find out or reach, in plain words")]
RunId = Annotated[str, Field(min_length=1, max_length=80, description="task of an earlier pursuit")]
Allowed = Annotated[
    list[str] | None,
    Field(max_length=50, description="agent.skill that may be asked; else all that only look and whose input is known"),
]


@agent.skill
def pursue(
    ctx: Context, goal: Goal, budget: Budget | None = None, allowed: Allowed = None, *, use_llm: bool = True
) -> Wait[Pursuit] | Pursuit:
    """Pursue a goal: think, act by the fleet's skills, observe, until enough is known or a budget is used up."""
    wanted = use_llm and bool(ctx.settings.get("use_llm", True))
    mind = Mind(goal=goal, budget=budget or Budget(), use_llm=wanted, allowed=allowed or [])
    ctx.keep("goal", goal)
    ctx.keep("mind", mind.model_dump(mode="json"))
    return _think(ctx, mind)


@agent.skill
def resume(ctx: Context, run: RunId, budget: Budget | None = None) -> Wait[Pursuit] | Pursuit:
    """Go on with an earlier pursuit: its memory is taken over, nothing of it is asked again, with a new budget."""
    kept = ctx.recall(["goal", "mind"], of=run)
    if "mind" not in kept:
        raise NonRetryableError(f"{run} is no pursuit, or it is long over and was forgotten")
    before = Mind.model_validate(kept["mind"])
    entries = _entries(ctx, run)
    mind = Mind(
        goal=before.goal, budget=budget or before.budget, use_llm=before.use_llm, allowed=before.allowed,
        done=len(entries), used=[thinking.key(each.action, each.arguments) for each in entries],
        digest=[_line(each) for each in entries], resumed_from=run,
    )  # fmt: skip
    ctx.keep("goal", mind.goal)
    ctx.keep("mind", mind.model_dump(mode="json"))
    for each in entries:
        ctx.keep(f"m/{each.number}", each.model_dump(mode="json"))
    return _think(ctx, mind)


@agent.skill
def memory(ctx: Context, run: RunId) -> Memory:
    """Show what a pursuit remembers, also while it runs."""
    goal = ctx.recall(["goal"], of=run).get("goal")
    if goal is None:
        raise NonRetryableError(f"{run} is no pursuit, or it is long over and was forgotten")
    return Memory(run=run, goal=goal, entries=_entries(ctx, run))


@agent.step
def observe(ctx: Context, results: list[Result], carry: Mind) -> Wait[Pursuit] | Pursuit:
    """Remember what came, and think on."""
    end, entry = results[0], carry.open
    if entry is None:
        raise NonRetryableError("nothing was asked")
    entry.status = end.status
    if end.ok:
        entry.facts, entry.left_out = lines_of(end.result, _LINES_MAX)
    else:
        entry.error = str((end.error or {}).get("message") or end.status)[:300]
    ctx.keep(f"m/{entry.number}", entry.model_dump(mode="json"))
    carry.open, carry.done, carry.steps = None, carry.done + 1, carry.steps + 1
    carry.digest.append(_line(entry))
    return _think(ctx, carry, entry)


def _think(ctx: Context, mind: Mind, last: Entry | None = None) -> Wait[Pursuit] | Pursuit:
    """Choose the next action, or end."""
    ended = _used_up(ctx, mind)
    chosen = None if ended else _choose(ctx, mind)
    if chosen is None:
        return _finish(ctx, mind, ended or ("finished" if mind.done else "nothing-left"), last)
    card, entry = chosen
    agent_name, _, skill = card.id.partition(".")
    left_s = min(ctx.deadline_left_s(), max(5.0, mind.budget.seconds - _spent_s(ctx)))
    call = ctx.call(agent_name, skill, entry.arguments, label=f"step {entry.number + 1}", deadline_s=left_s)
    entry.task = call.id
    mind.open = entry
    mind.used.append(thinking.key(card.id, entry.arguments))
    ctx.progress(mind.steps / mind.budget.steps, f"{card.id}: {entry.thought}"[:200])
    return Wait([call], then="observe", carry=mind.model_dump(mode="json"))


def _used_up(ctx: Context, mind: Mind) -> str:
    if mind.steps >= mind.budget.steps or mind.done >= 2 * STEPS_MAX:
        return "out-of-steps"
    if _spent_s(ctx) >= mind.budget.seconds:
        return "out-of-time"
    return "out-of-tokens" if mind.use_llm and mind.budget.tokens and mind.tokens >= mind.budget.tokens else ""


def _spent_s(ctx: Context) -> float:
    began_ms = ctx.task.created_ms
    return max(0.0, time.time() - began_ms / 1_000) if began_ms else 0.0


def _choose(ctx: Context, mind: Mind) -> tuple[thinking.Card, Entry] | None:
    """The next action with its arguments; None when there is nothing more to do."""
    others = [card for card in ctx.fleet.agents() if card.name != agent.name]
    among = thinking.cards(others, mind.goal, mind.allowed, with_llm=mind.use_llm)
    by_id = {card.id: card for card in among[: thinking.CANDIDATES_MAX]}
    if mind.use_llm and by_id:
        data = _ask(ctx, mind, *thinking.question(mind, list(by_id.values())))
        action = data.get("action") if isinstance(data, dict) else None
        if action == thinking.FINISH and mind.done:
            return None
        card = by_id.get(str(action))
        if card is not None and (found := _with_arguments(ctx, mind, card)) is not None:
            if thinking.key(card.id, found) not in mind.used:
                thought = str(data.get("thought", ""))[:160]
                return card, Entry(number=mind.done, thought=thought, chosen_by="llm", action=card.id, arguments=found)
            mind.notes.append(f"the model chose {card.id} again with the same arguments: not asked twice")
    best = thinking.by_words(mind, among)
    if best is None:
        return None
    thought = "it shares most words with the goal"
    return best, Entry(number=mind.done, thought=thought, chosen_by="words", action=best.id, arguments=best.known)


def _with_arguments(ctx: Context, mind: Mind, card: thinking.Card) -> dict[str, Any] | None:
    """What follows from the goal, and what the model fills in; None when it does not fit the skill's schema."""
    found = dict(card.known)
    if card.lacking:
        data = _ask(ctx, mind, *thinking.arguments_question(mind, card))
        if isinstance(data, dict):
            found |= {name: data[name] for name in card.lacking if name in data}
    if wrong := thinking.problems(card, found):
        mind.notes.append(f"{card.id} was not asked: {wrong[0]}"[:300])
        return None
    return found


def _ask(ctx: Context, mind: Mind, messages: list[dict[str, str]], schema: dict[str, Any]) -> Any:
    """Ask the model, and count its tokens; None when there is none, and that is noted once."""
    tokens = _ANSWER_TOKENS_MAX if "sentences" in schema["properties"] else _THOUGHT_TOKENS_MAX
    try:
        answer = ctx.llm.chat(messages, schema=schema, max_tokens=tokens)
    except (UnavailableError, SkillError, RefusedError) as error:
        note = f"without the language model: {error}"[:300]
        if note not in mind.notes:
            mind.notes.append(note)
        return None
    mind.tokens += answer.prompt_tokens + answer.completion_tokens
    return answer.data


def _finish(ctx: Context, mind: Mind, ended: Any, last: Entry | None) -> Pursuit:
    """Write the answer out of what was seen."""
    entries = _entries(ctx, ctx.task.id, last)
    facts = [each for each in entries if each.facts]
    material = "\n\n".join(f"{each.action}:\n" + "\n".join(each.facts) for each in facts)[:_MATERIAL_CHARACTERS_MAX]
    content = f"Goal: {mind.goal}\n\nFacts:\n{material}"
    kept: list[str] = []
    removed: list[str] = []
    if mind.use_llm and facts:
        system = "Say in a few plain sentences what the facts tell about the goal. Invent no numbers. Answer with JSON."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        data = _ask(ctx, mind, messages, sentences_schema(_SENTENCES_MAX))
        kept, removed = grounded(sentences_of(data, _SENTENCES_MAX), content)
    parts = [" ".join(kept)] if kept else []
    parts += [f"Facts of `{each.action}` (task {each.task}):\n\n" + "\n".join(f"- {line}" for line in each.facts)
              for each in facts]  # fmt: skip
    parts += [f"`{each.action}` {each.status}: {each.error}" for each in entries if each.error]
    if not parts:
        parts.append("No skill of this fleet says anything about this goal.")
    planners = {each.chosen_by for each in entries}
    return Pursuit(
        goal=mind.goal,
        run=ctx.task.id,
        ended=ended,
        answer="\n\n".join(parts),
        prose="llm" if kept else "none",
        planner="mixed" if len(planners) > 1 else next(iter(planners), "words"),
        steps=entries,
        tokens=mind.tokens,
        seconds=round(_spent_s(ctx), 3),
        removed=removed,
        notes=mind.notes,
        resumed_from=mind.resumed_from,
    )


def _entries(ctx: Context, run: str, last: Entry | None = None) -> list[Entry]:
    """All that a run remembers, in order; ``last`` and what this turn took over are not stored yet."""
    names = [f"m/{number}" for number in range(2 * STEPS_MAX)]
    found = ctx.recall(names, of=run)
    if run == ctx.task.id:
        found |= {name: value for name, value in ctx.kept.items() if name.startswith("m/")}
    if last is not None:
        found[f"m/{last.number}"] = last.model_dump(mode="json")
    return [Entry.model_validate(found[name]) for name in names if name in found]


def _line(entry: Entry) -> str:
    seen = "; ".join(entry.facts[:4]) if entry.facts else entry.error or entry.status
    return f"{entry.number + 1}. {entry.action} {entry.status}: {seen}"[:_DIGEST_CHARACTERS_MAX]
