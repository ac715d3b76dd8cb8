"""Why it exists: giving each task to its best agent overruns the popular ones; the best whole is another thing.

The Hungarian method (scipy ``linear_sum_assignment``) over tasks and slots. An agent has as many slots as it can still
take. Placing more tasks always wins over placing them better; among equal numbers the sum of score times value decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from sutazai.agents.task_assignment_coordinator.models import Capacity, Placed, Unplaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.task_assignment_coordinator.candidates import Worker
    from sutazai.agents.task_assignment_coordinator.models import Candidate, TaskAsk

OBJECTIVE = (
    "most tasks placed; among those the largest sum of score times value; a pair counts when its similarity reaches "
    "min_similarity; an agent takes instances_max times rounds tasks less those that are open"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of an assignment."""

    placed: list[Placed]
    unplaced: list[Unplaced]
    capacities: list[Capacity]
    total: float
    greedy: tuple[int, float]


def capacities(workers: Sequence[Worker], rounds: int) -> list[Capacity]:
    """What each agent can take now."""
    return [
        Capacity(
            agent=one.name, instances_max=one.instances_max, busy=one.busy,
            slots=max(0, one.instances_max * rounds - one.busy), used=0, source=one.load_source,
        )
        for one in workers
    ]  # fmt: skip


def assign(
    tasks: Sequence[TaskAsk], ranked: Sequence[Sequence[Candidate]], room: list[Capacity], min_similarity: float
) -> Plan:
    """Assign a batch.

    Args:
        tasks: the batch.
        ranked: each task's candidates, best first.
        room: what each agent can take; ``used`` is filled in.
        min_similarity: pairs below are not made.
    """
    allowed = [
        {one.agent: one for one in found if float(one.similarity.value.value) >= min_similarity} for found in ranked
    ]
    slots = [entry.agent for entry in room for _ in range(min(entry.slots, len(tasks)))]
    worth = np.zeros((len(tasks), len(slots)))
    for row, task in enumerate(tasks):
        for column, agent in enumerate(slots):
            if agent in allowed[row]:
                worth[row, column] = allowed[row][agent].score * task.value
    bonus = float(worth.sum(axis=1).max(initial=0.0)) * len(tasks) + 1.0  # more than all that scores could decide
    rows, columns = linear_sum_assignment(np.where(worth > 0, worth + bonus, 0.0), maximize=True)
    chosen = {int(row): slots[int(column)] for row, column in zip(rows, columns, strict=True) if worth[row, column] > 0}
    by_agent = {entry.agent: entry for entry in room}
    for agent in chosen.values():
        by_agent[agent].used += 1
    placed = [_placed(tasks[row], allowed[row][agent], ranked[row][0].agent) for row, agent in sorted(chosen.items())]
    left = [row for row in range(len(tasks)) if row not in chosen]
    unplaced = [_unplaced(tasks[row], ranked[row], allowed[row], (by_agent, min_similarity)) for row in left]
    total = sum(allowed[row][agent].score * tasks[row].value for row, agent in chosen.items())
    return Plan(placed, unplaced, room, round(total, 4), _greedy(worth))


def _placed(task: TaskAsk, one: Candidate, first: str) -> Placed:
    return Placed(
        task=task.id, agent=one.agent, skill=one.skill, score=one.score, first_choice=one.agent == first,
        reason=one.reason if one.agent == first else f"{one.reason}; its first choice {first} is taken by others",
    )  # fmt: skip


def _unplaced(
    task: TaskAsk,
    ranked: Sequence[Candidate],
    allowed: dict[str, Candidate],
    limits: tuple[dict[str, Capacity], float],
) -> Unplaced:
    room, least = limits
    best = max(ranked, key=lambda one: float(one.similarity.value.value), default=None)
    similarity = float(best.similarity.value.value) if best is not None else 0.0
    if not allowed:
        why = f"no skill is similar enough: the nearest has {similarity}, min_similarity is {least}"
        if best is None:
            why = "no word of it stands in any skill: no agent of this fleet says that it does this"
    else:
        taken = ", ".join(
            f"{name} ({room[name].used} of {room[name].slots} slots used, {room[name].busy} tasks open)"
            for name in allowed
        )
        why = f"all agents that could do it are full: {taken}"
    return Unplaced(
        task=task.id,
        reason="no-capacity" if allowed else "no-skill",
        why=why[:2_000],
        best_agent=best.agent if best is not None else "",
        best_similarity=similarity,
    )


def _greedy(worth: np.ndarray) -> tuple[int, float]:
    """Take the best remaining pair each time: what the optimum is compared with."""
    rest = worth.copy()
    count, total = 0, 0.0
    while rest.size and (best := float(rest.max())) > 0:
        row, column = np.unravel_index(int(rest.argmax()), rest.shape)
        rest[row, :] = rest[:, column] = 0
        count, total = count + 1, total + best
    return count, round(total, 4)
