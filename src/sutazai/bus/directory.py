"""Why it exists: a task for an agent or skill that does not exist is refused at the door, with near names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sutazai.bus import breaker, budget
from sutazai.errors import NotFoundError
from sutazai.limits import ATTEMPTS_MAX_DEFAULT, CALLS_OPEN_MAX_DEFAULT, DEADLINE_MS_DEFAULT, RESULT_BYTES_MAX_DEFAULT
from sutazai.outside import OUTSIDE, WAIT_MS_DEFAULT
from sutazai.store.times import RETRY_DEFAULT, Bound, Rate, Retry

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from sutazai.wire.planfacts import AgentFacts

#: Instances of an agent that no plan describes.
INSTANCES_UNPLANNED_MAX = 1_000


class Directory:
    """The agents of the plan.

    Args:
        agents: by name; None knows every agent (a broker on its own, for tests and benchmarks).
        planned: names of agents that the plan counts and that this version does not run.
    """

    def __init__(self, agents: dict[str, AgentFacts] | None, planned: Iterable[str] = ()) -> None:
        self.agents = agents
        self._planned = frozenset(planned)

    def check(self, agent: str, skill: str) -> None:
        """See that a skill exists.

        Raises:
            NotFoundError: it does not; the message names what is near.
        """
        if self.agents is None or agent in OUTSIDE:
            return
        if problem := self.unknown(agent):
            raise NotFoundError(problem)
        facts = self.agents[agent]
        if facts.skill(skill) is None:
            names = [str(found.get("name")) for found in facts.skills]
            raise NotFoundError(f"{agent} has no skill {skill!r}{_near(skill, names)}")

    def instances_max(self, agent: str) -> int:
        """Concurrent instances of an agent."""
        if agent in OUTSIDE:
            return 0
        if self.agents is None:
            return INSTANCES_UNPLANNED_MAX
        facts = self.agents.get(agent)
        return 0 if facts is None else facts.instances_max

    def attempts_max(self, agent: str) -> int:
        """Own failures until a task is dead."""
        facts = self.agents.get(agent) if self.agents is not None else None
        return ATTEMPTS_MAX_DEFAULT if facts is None else facts.attempts_max

    def rate(self, agent: str) -> Rate | None:
        """How many turns of an agent may start in a time; None for no limit."""
        facts = self.agents.get(agent) if self.agents is not None else None
        return Rate(**facts.rate) if facts is not None and facts.rate else None

    def queue(self, agent: str) -> Bound | None:
        """How much may wait for an agent; None for no bound of its own."""
        facts = self.agents.get(agent) if self.agents is not None else None
        if facts is None or not (facts.queue.get("tasks_max") or facts.queue.get("bytes_max")):
            return None
        return Bound(facts.queue.get("tasks_max", 0), facts.queue.get("bytes_max", 0))

    def calls_max(self, agent: str) -> int:
        """Open tasks that one other agent may have given it."""
        facts = self.agents.get(agent) if self.agents is not None else None
        return CALLS_OPEN_MAX_DEFAULT if facts is None else facts.queue.get("per_caller_max", CALLS_OPEN_MAX_DEFAULT)

    def result_bytes_max(self, agent: str) -> int:
        """Largest result of an agent's skills."""
        facts = self.agents.get(agent) if self.agents is not None else None
        return RESULT_BYTES_MAX_DEFAULT if facts is None else facts.result_bytes_max

    def retry(self, agent: str) -> Retry:
        """Pauses between an agent's attempts."""
        facts = self.agents.get(agent) if self.agents is not None else None
        if facts is None or not facts.retry:
            return RETRY_DEFAULT
        return Retry(facts.retry["base_ms"], facts.retry["factor"], facts.retry["max_ms"])

    def breaker(self, agent: str) -> breaker.Policy | None:
        """When an agent is left alone; None for never: nothing is planned, or its breaker is switched off."""
        facts = self.agents.get(agent) if self.agents is not None else None
        return None if facts is None else breaker.Policy.of(facts.breaker)

    def budget(self, agent: str) -> budget.Policy | None:
        """How many retries an agent may have; None for any number."""
        facts = self.agents.get(agent) if self.agents is not None else None
        return None if facts is None else budget.Policy.of(facts.retry)

    def jitter(self, agent: str, rng: random.Random) -> float:
        """Draw for the next pause of an agent: 0 to 1, or 1 when its pauses are not drawn."""
        facts = self.agents.get(agent) if self.agents is not None else None
        drawn = rng.random()
        return 1.0 if facts is not None and facts.retry.get("jitter") == "none" else drawn

    def deadline_ms(self, agent: str) -> int:
        """Of a task that names none."""
        if agent in OUTSIDE:
            return WAIT_MS_DEFAULT
        facts = self.agents.get(agent) if self.agents is not None else None
        return DEADLINE_MS_DEFAULT if facts is None else facts.deadline_ms

    def state_keep(self) -> tuple[tuple[str, int], ...]:
        """Agents whose states are not kept for ever, and for how long, ms; nothing of who is not in the plan."""
        agents = self.agents or {}
        return tuple((name, facts.state_keep_ms) for name, facts in agents.items() if facts.state_keep_ms)

    def schedules(self) -> list[tuple[str, dict[str, Any]]]:
        """All schedules with their agents."""
        return [(name, schedule) for name, facts in (self.agents or {}).items() for schedule in facts.schedules]

    def unknown(self, agent: str) -> str:
        """Say that there is no such agent, or only a planned one; empty when there is one, or nobody knows."""
        if self.agents is None or agent in self.agents or agent in OUTSIDE:
            return ""
        if agent in self._planned:
            return f"{agent} is planned and not built in this version: it takes no tasks"
        return f"there is no agent {agent!r}{_near(agent, list(self.agents))}"


def _near(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are: {', '.join(sorted(names)[:10])}" if names else ""
