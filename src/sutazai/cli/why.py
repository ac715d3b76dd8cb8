"""Why it exists: "why does this agent do nothing?" has one answer, put together from all that may hold it back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import REFUSED, CliError
from sutazai.cli.output import console, print_json
from sutazai.client import SupervisorClient, TaskClient
from sutazai.spec.section import one_of
from sutazai.units import format_duration_ms

FAILURES_SHOWN = 3
_FAILED = ("dead", "failed", "expired")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an agent.

    Attributes:
        agent: its name.
        instances_max: concurrent instances.
        status: of the fleet, as ``sutazaid`` tells it.
        stats: the broker's numbers.
        waiting: a queued task with its ``why``; None when none is queued.
        failures: tasks that ended badly, newest first.
        now_wall_ms: for ages.
    """

    agent: str
    instances_max: int
    status: dict[str, Any]
    stats: dict[str, Any]
    waiting: dict[str, Any] | None
    failures: list[dict[str, Any]]
    now_wall_ms: int


def run(
    agent: Annotated[str, typer.Argument(help="Name of an agent.")],
    *,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an agent does now, and what holds its tasks back: conditions, circuit, budgets, rates, last failures."""
    paths = fleets.paths_of(fleet)
    agents = {entry["name"]: entry for entry in fleets.plan_of(paths).get("agents", ())}
    if agent not in agents:
        raise CliError(f"there is no agent {agent!r} in this fleet: {one_of(agent, agents)}", REFUSED)
    with SupervisorClient(paths.run.name) as supervisor, TaskClient(paths.run.name, name="why") as tasks:
        queued = tasks.list(status="queued", agent=agent, limit=1)
        failures = [task for status in _FAILED for task in tasks.list(status=status, agent=agent, limit=FAILURES_SHOWN)]
        failures.sort(key=lambda task: -(task["finished_wall_ms"] or 0))
        facts = Facts(
            agent, int(agents[agent].get("instances_max", 1)), supervisor.status(), tasks.stats(),
            tasks.get(queued[0]["id"]) if queued else None, failures[:FAILURES_SHOWN], time.time_ns() // 1_000_000,
        )  # fmt: skip
    if as_json:
        print_json(as_object(facts))
    else:
        console().print("\n".join(explain(facts)), markup=False, soft_wrap=True)


def as_object(facts: Facts) -> dict[str, Any]:
    """Write the facts for another program."""
    waiting = facts.waiting
    stats = facts.stats
    return {
        "agent": facts.agent,
        "instances": _awake(facts),
        "instances_max": facts.instances_max,
        "queue": (stats.get("queues") or {}).get(facts.agent, {}),
        "circuit": (stats.get("breakers") or {}).get(facts.agent),
        "retry_budget": (stats.get("budgets") or {}).get(facts.agent),
        "rate_limited_ms": (stats.get("limited") or {}).get(facts.agent, 0),
        "conditions": _conditions(facts),
        "waiting": None if waiting is None else {"task": waiting["id"], "why": waiting.get("why", "")},
        "failures": [
            {"task": task["id"], "status": task["status"], "error": task.get("error")} for task in facts.failures
        ],
    }


def explain(facts: Facts) -> list[str]:
    """Write the facts for a person, line by line."""
    found = as_object(facts)
    queue = found["queue"]
    numbers = ", ".join(
        f"{queue.get(key, 0)} {word}"
        for key, word in (("queued", "queued"), ("leased", "running"), ("waiting", "waiting for others"))
    )
    lines = [f"{facts.agent}: {numbers}; {found['instances']} of {facts.instances_max} instances awake"]
    if queue.get("dead"):
        lines.append(f"{queue['dead']} dead letters: sutazai task dead --agent {facts.agent}")
    for condition in found["conditions"]:
        lines += [f"● {condition['name']} {condition['subject']}: {condition['text']}", f"    {condition['fix']}"]
    if circuit := found["circuit"]:
        lines.append(_circuit(circuit))
    if budget := found["retry_budget"]:
        left = max(0, int(budget["tokens"]))
        lines.append(f"retries: {left} may come at once, {budget['delayed']} had to wait for the budget so far")
    if found["rate_limited_ms"]:
        lines.append(f"rate: the next turn may start in {format_duration_ms(found['rate_limited_ms'])}")
    if found["waiting"] and found["waiting"]["why"]:
        lines.append(f"waits: {found['waiting']['task']}: {found['waiting']['why']}")
    for task in facts.failures:
        error = task.get("error") or {}
        age = format_duration_ms(max(0, facts.now_wall_ms - (task["finished_wall_ms"] or facts.now_wall_ms)))
        lines.append(f"{task['status']} {age} ago: {task['id']}: {error.get('code', '')}: {error.get('message', '')}")
    if len(lines) == 1:
        lines.append("nothing holds it back")
    return lines


def _circuit(circuit: dict[str, Any]) -> str:
    state = circuit["state"]
    text = f"circuit: {state}"
    if state == "open":
        text += f", next probe in {format_duration_ms(max(1, circuit['next_in_ms']))}"
    if circuit["why"]:
        text += f" ({'' if state != 'closed' else 'last: '}{circuit['why']})"
    text += f"; in its window {circuit['failed']} tasks failed, {circuit['succeeded']} succeeded"
    return f"{text}; opened {circuit['opened']} times, refused {circuit['refused']}"


def _awake(facts: Facts) -> int:
    return sum(entry.get("agent") == facts.agent for entry in facts.status.get("instances") or ())


def _conditions(facts: Facts) -> list[dict[str, Any]]:
    """Those of the agent, and what explains them."""
    every = {f"{entry['name']}/{entry['subject']}": entry for entry in facts.status.get("conditions") or ()}
    own = [entry for entry in every.values() if entry["subject"] == facts.agent]
    causes = [every[key] for entry in own for key in entry.get("depends_on") or () if key in every]
    return list({id(entry): entry for entry in (*own, *causes)}.values())
