"""Why it exists: skills, load and record of the fleet's agents come from three places; here they become one list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.task_assignment_coordinator.models import AgentGiven
    from sutazai.client import FleetClient


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill that can be asked."""

    agent: str
    name: str
    description: str
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Worker:
    """One agent as an assignment sees it.

    Attributes:
        name: of it.
        version: from its manifest.
        instances_max: how many turns it can do at once.
        skills: of it.
        queued: tasks that wait.
        leased: tasks at work.
        load_source: where these come from.
        succeeded: tasks that ended well.
        dead: tasks that used up their attempts.
        expired: tasks that ran past their deadline.
        record_source: where these come from.
    """

    name: str
    version: str
    instances_max: int
    skills: tuple[Skill, ...]
    queued: int = 0
    leased: int = 0
    load_source: str = ""
    succeeded: int = 0
    dead: int = 0
    expired: int = 0
    record_source: str = ""

    @property
    def busy(self) -> int:
        """Open tasks that need an instance."""
        return self.queued + self.leased


def given(agents: Sequence[AgentGiven]) -> list[Worker]:
    """Take recorded agents."""
    return [
        Worker(
            one.name, one.version, one.instances_max,
            tuple(Skill(one.name, it.name, it.description, it.input, it.output) for it in one.skills),
            one.queued, one.leased, f"input:agents[{place}]",
            one.succeeded, one.dead, one.expired, f"input:agents[{place}]",
        )
        for place, one in enumerate(agents)
    ]  # fmt: skip


def live(fleet: FleetClient, without: str) -> tuple[list[Worker], list[str]]:
    """Read the live fleet, all agents but one (who assigns does not assign to itself).

    Returns:
        The agents, and notes of what is not known: then load counts as none and the record as empty.

    Raises:
        UnavailableError: control does not answer, so no skill is known.
    """
    notes: list[str] = []
    queues: dict[str, Any] = {}
    outcomes: dict[str, dict[str, int]] = {}
    source = "not known"
    try:
        status = fleet.status()
    except UnavailableError as error:
        notes.append(f"load and record are not known and count as none: {error}")
    else:
        broker = status.broker or {}
        queues, outcomes = broker.get("queues") or {}, broker.get("outcomes") or {}
        source = str(broker.get("source") or "not known")
        if not broker:
            notes.append("load and record are not known and count as none: the broker does not answer control")
        else:
            notes.append(f"records count since the broker's start at {broker.get('started_wall_ms', 0)} (wall_ms)")
    workers = []
    for card in fleet.agents():
        if card.name == without or not card.skills:
            continue
        queue, record = queues.get(card.name) or {}, outcomes.get(card.name) or {}
        skills = tuple(
            Skill(card.name, it["name"], it.get("description", ""), it.get("input") or {}, it.get("output") or {})
            for it in card.skills
        )
        workers.append(
            Worker(
                card.name, card.version, max(1, card.instances_max), skills,
                int(queue.get("queued", 0)), int(queue.get("leased", 0)), f"{source} queues.{card.name}",
                int(record.get("succeeded", 0)), int(record.get("dead", 0)), int(record.get("expired", 0)),
                f"{source} outcomes.{card.name}",
            )
        )  # fmt: skip
    return workers, notes
