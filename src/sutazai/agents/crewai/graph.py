"""Why it exists: a crew becomes a workflow, so that each of its steps is a durable turn that is done once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.workflow import Workflow, ask, parallel, sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.crewai.models import CrewTask, Role

NAME = "crewai"
_ATTEMPTS = {"attempts": 2, "pause": "1s"}


def problems(roles: Sequence[Role], tasks: Sequence[CrewTask], process: str) -> list[str]:
    """Say what is wrong with a crew, all of it."""
    found = []
    names = [role.name for role in roles]
    found += [f"two roles are called {name!r}" for name in sorted({name for name in names if names.count(name) > 1})]
    seen: list[str] = []
    everyone = [task.name for task in tasks]
    for task in tasks:
        if task.name in seen:
            found.append(f"two tasks are called {task.name!r}")
        if task.role and task.role not in names:
            found.append(f"{task.name}: there is no role {task.role!r}; there are: {', '.join(names)}")
        if not task.role and process == "sequential":
            found.append(f"{task.name}: say whose it is (role), or choose the process hierarchical")
        for other in task.context or []:
            if other not in everyone:
                found.append(f"{task.name}: there is no task {other!r} for its context")
            elif process == "sequential" and other not in seen:
                found.append(f"{task.name}: {other} comes later, so it cannot be its context")
        seen.append(task.name)
    return found


def make(roles: Sequence[Role], tasks: Sequence[CrewTask], process: str, *, use_llm: bool) -> dict[str, Any]:
    """Make the workflow of a crew that has no problems."""
    flow = Workflow("crew")
    by_name = {role.name: role for role in roles}
    if process == "sequential":
        previous: list[str] = []
        for task in tasks:
            context = previous if task.context is None else task.context
            flow.add(sequence(task.name, *_facts(task), _work(task, by_name[task.role], context, use_llm=use_llm)))
            previous = [task.name]
        flow.result({task.name: f"${{steps.{task.name}.result}}" for task in tasks})
        return flow.document()
    everyone = [role.model_dump(mode="json") for role in roles]
    named = [task.model_dump(mode="json", by_alias=True) for task in tasks]
    flow.add(ask("assigned", f"{NAME}.assign", **plain({"roles": everyone, "tasks": named, "use_llm": use_llm})))
    flow.add(parallel("team", *(_led(task, everyone, use_llm=use_llm) for task in tasks)))
    flow.result("${steps.team.result}")
    return flow.document()


def _led(task: CrewTask, roles: list[dict[str, Any]], *, use_llm: bool) -> dict[str, Any]:
    """A task that a manager assigned and reviews: once more when it will not do."""
    name, context = task.name, task.context or []
    role = f"${{get(steps.assigned.result.roles, '{name}')}}"
    first = _work(task, None, context, use_llm=use_llm, role_name=role, roles=roles)
    said = plain({"task": _told(task), "use_llm": use_llm}) | {"work": f"${{steps.{name}_work.result}}"}
    again = _work(task, None, context, use_llm=use_llm, role_name=role, roles=roles)
    again |= {"name": f"{name}_again", "if": f"not steps.{name}_review.result.accept"}
    again["with"] = {**again["with"], "feedback": f"${{steps.{name}_review.result.why}}"}
    done = f"${{steps.{name}_again.result if steps.{name}_again.result else steps.{name}_work.result}}"
    review = ask(f"{name}_review", f"{NAME}.review", **said)
    return sequence(name, *_facts(task), first, review, again, output=done)


def _facts(task: CrewTask) -> list[dict[str, Any]]:
    """Ask for facts at once; each ends as ``{status, result, error}``, so that what is missing can be said."""
    boxes = []
    for number, each in enumerate(task.ask):
        name = f"{task.name}_ask{number}"
        asked = {**ask(name, each.skill, **plain(each.given)), "on_error": "continue", "retry": _ATTEMPTS}
        boxes.append(sequence(f"{task.name}_fact{number}", asked, output=f"${{steps.{name}}}"))
    return [parallel(f"{task.name}_facts", *boxes)] if boxes else []


def _work(
    task: CrewTask, role: Role | None, context: Sequence[str], *, use_llm: bool, role_name: str = "",
    roles: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    given: dict[str, Any] = plain({"task": _told(task), "use_llm": use_llm})
    given["roles"] = plain([role.model_dump(mode="json")] if role is not None else roles)
    given["role"] = plain(role.name) if role is not None else role_name
    given["context"] = {other: f"${{steps.{other}.result.text}}" for other in context}
    given["facts"] = f"${{steps.{task.name}_facts.result}}" if task.ask else {}
    return ask(f"{task.name}_work", f"{NAME}.work", **given)


def _told(task: CrewTask) -> dict[str, Any]:
    return {
        "name": task.name, "description": task.description, "expected": task.expected,
        "asked": [each.skill for each in task.ask],
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Write texts of a user so that nothing in them is an expression."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
