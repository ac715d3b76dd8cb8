"""Why it exists: the skills of crewai: a crew as a workflow, and what its members do in single durable turns.

``crew`` makes a workflow and hands it to agent-orchestrator. ``work``, ``assign`` and ``review`` are its own inner
skills: each is one step of that workflow, so it is committed once and never done again.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from sutazai.agents.crewai import graph, working
from sutazai.agents.crewai.models import Assignment, Brief, CrewResult, CrewTask, Review, Role, Seen, Told, Work
from sutazai.errors import RefusedError
from sutazai.runtime import Agent, Context, NonRetryableError, Result, SkillError, UnavailableError, Wait
from sutazai.runtime.grounding import grounded, sentences_of, sentences_schema

agent = Agent("crewai")

_TOKENS_MAX = 320
_ORCHESTRATOR = "agent-orchestrator"
UseLlm = Annotated[bool, Field(description="let the language model write and choose; facts never come from it")]


@agent.skill
def crew(
    ctx: Context,
    roles: Annotated[list[Role], Field(min_length=1, max_length=12)],
    tasks: Annotated[list[CrewTask], Field(min_length=1, max_length=30)],
    process: Annotated[
        Literal["sequential", "hierarchical"],
        Field(description="one after the other, or assigned, reviewed and done at once where nothing has to wait"),
    ] = "sequential",
    *,
    use_llm: UseLlm = True,
) -> Wait[CrewResult]:
    """Let a crew of roles work through tasks: facts by skills of the fleet, words by the model, each step durable."""
    if found := graph.problems(roles, tasks, process):
        raise NonRetryableError(f"the crew has mistakes: {'; '.join(found)}")
    wanted = use_llm and bool(ctx.settings.get("use_llm", True))
    document = graph.make(roles, tasks, process, use_llm=wanted)
    call = ctx.call(_ORCHESTRATOR, "run", {"workflow": document}, label="crew", deadline_s=ctx.deadline_left_s())
    return Wait([call], then="finish", carry={"process": process, "names": [task.name for task in tasks]})


@agent.step
def finish(results: list[Result], carry: dict[str, Any]) -> CrewResult:
    """Put the outcomes of all tasks together."""
    outcome = results[0].require()
    found = [Work.model_validate(outcome["result"][name]) for name in carry["names"]]
    written = [each.prose == "llm" for each in found]
    notes = [f"{each.task}: {each.why}" for each in found if each.why]
    notes += [f"{each.task}: left out: {text}" for each in found for text in each.removed]
    return CrewResult(
        run=results[0].task,
        process=carry["process"],
        complete=not any(each.failed for each in found),
        prose="llm" if all(written) else "some" if any(written) else "none",
        text="\n\n".join(f"## {each.task} ({each.role})\n\n{each.text}" for each in found),
        tasks=found,
        notes=notes,
    )


@agent.skill
def work(ctx: Context, brief: Brief) -> Work:
    """Inner step of a crew: one task by one role, from facts and the outcomes of other tasks."""
    asked = brief.task.asked
    found = working.facts_of(asked, {name: end or Seen(status="skipped") for name, end in brief.facts.items()})
    who = next((each for each in brief.roles if each.name == brief.role), brief.roles[0])
    messages = working.question(brief, who, found[0])
    has_material = bool(found[0] or brief.context or not asked)
    data, why = _ask(ctx, messages, sentences_schema(working.SENTENCES_MAX), use_llm=brief.use_llm and has_material)
    kept, removed = grounded(sentences_of(data, working.SENTENCES_MAX), messages[1]["content"])
    return working.work(brief, who.name, found, working.Words(kept, removed, why))


@agent.skill
def assign(ctx: Context, roles: list[Role], tasks: list[CrewTask], *, use_llm: UseLlm = True) -> Assignment:
    """Inner step of a crew: say which role does which task; what a task says itself stands."""
    free = [task for task in tasks if not task.role]
    names = [role.name for role in roles]
    one = {"type": "string", "enum": names}
    schema = {
        "type": "object", "properties": {task.name: one for task in free}, "required": [task.name for task in free],
        "additionalProperties": False,
    }  # fmt: skip
    who = "\n".join(f"- {role.name}: {role.goal} {role.backstory}"[:200] for role in roles)
    what = "\n".join(f"- {task.name}: {task.description}"[:200] for task in free)
    messages = [
        {"role": "system", "content": "You lead a crew. Choose the role that fits each task best. Answer with JSON."},
        {"role": "user", "content": f"Roles:\n{who}\n\nTasks:\n{what}"},
    ]
    data, why = _ask(ctx, messages, schema, use_llm=use_llm and bool(free) and len(roles) > 1)
    found: dict[str, str] = {}
    chosen: dict[str, Literal["task", "llm", "words"]] = {}
    for task in tasks:
        said = data.get(task.name) if isinstance(data, dict) else None
        if task.role:
            found[task.name], chosen[task.name] = task.role, "task"
        elif said in names:
            found[task.name], chosen[task.name] = said, "llm"
        else:
            found[task.name], chosen[task.name] = _by_words(task, roles, found), "words"
    return Assignment(roles=found, chosen_by=chosen, why=why)


def _by_words(task: CrewTask, roles: list[Role], given: dict[str, str]) -> str:
    """Choose the role that shares most words with a task; of equals the one with the least to do."""
    words = working.words_of(f"{task.name} {task.description} {task.expected}")

    def rank(role: Role) -> tuple[int, int]:
        shared = words & working.words_of(f"{role.name} {role.goal} {role.backstory}")
        return -len(shared), list(given.values()).count(role.name)

    return min(roles, key=rank).name


@agent.skill
def review(ctx: Context, task: Told, work: Work, *, use_llm: UseLlm = True) -> Review:
    """Inner step of a crew: say whether an outcome will do, by rules first; the model may ask for more."""
    if against := working.review_by_rules(task, work):
        again = work.prose == "llm" or bool(work.removed)  # without words of the model the same would come again
        return Review(accept=not again, why=against, by="rules")
    schema = {
        "type": "object",
        "properties": {"accept": {"type": "boolean"}, "why": {"type": "string", "maxLength": 200}},
        "required": ["accept", "why"],
        "additionalProperties": False,
    }
    asked = f"Asked: {task.description} {task.expected}\n\nText:\n{work.text}"
    messages = [
        {"role": "system", "content": "You lead a crew. Say whether the text does what was asked. Answer with JSON."},
        {"role": "user", "content": asked[:4_000]},
    ]
    data, _ = _ask(ctx, messages, schema, use_llm=use_llm and work.prose == "llm")
    if isinstance(data, dict) and data.get("accept") is False:
        return Review(accept=False, why=str(data.get("why", ""))[:200], by="llm")
    return Review(accept=True, by="llm" if isinstance(data, dict) else "rules")


def _ask(ctx: Context, messages: list[dict[str, str]], schema: dict[str, Any], *, use_llm: bool) -> tuple[Any, str]:
    """Ask the model; gives its data, or why there is none."""
    if not use_llm:
        return None, "the language model was not asked"
    try:
        return ctx.llm.chat(messages, schema=schema, max_tokens=_TOKENS_MAX).data, ""
    except (UnavailableError, SkillError, RefusedError) as error:
        return None, f"there is no language model to write this: {error}"[:300]
