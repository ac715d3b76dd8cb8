"""Why it exists: what happened to tasks is told to the breakers and budgets of their agents here, and nowhere else.

All of it is in memory: a broker that was restarted has closed breakers and full budgets. That is safe, because neither
holds a task: what waits stands in the store. What an outage costs then says ``docs/explanation/resilience.md``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sutazai.bus.breaker import Breaker, State
from sutazai.bus.budget import Budget
from sutazai.errors import CircuitOpenError
from sutazai.limits import RETRY_BUDGET_BURST
from sutazai.store.failure import Failure, FallBack
from sutazai.store.model import Outcome
from sutazai.units import format_duration_ms

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from sutazai.bus.clock import BrokerClock
    from sutazai.bus.directory import Directory
    from sutazai.bus.group import Journal
    from sutazai.errors import RefusedError
    from sutazai.store.model import Event, NewTask

#: Failures that are somebody else's: infrastructure, back-pressure, an agent that was called.
NOT_ITS_FAULT = frozenset(
    {"interrupted", "queue-full", "storage-full", "circuit-open", "callee-failed", "resource-exhausted"}
)
DEADLINE = "deadline"
#: Ends of a turn that may be a failure of their agent.
FAILED = frozenset({"retry", "dead", "expired"})


def may_be_failure(event: Event) -> bool:
    """Whether an event may be a failure of its agent, also when the task has fallen back on something else."""
    return event.kind in FAILED or event.kind == "fallback" or "fallback" in event.data


_log = logging.getLogger(__name__)


class Guards:
    """Breakers and budgets of all agents.

    Args:
        directory: the agents' policies.
        clock: the broker's.
        rng: for the jitter of pauses.

    Attributes:
        directory: the agents' policies.
    """

    def __init__(self, directory: Directory, clock: BrokerClock, rng: random.Random) -> None:
        self.directory, self._clock, self._rng = directory, clock, rng
        self._started_ms: Callable[[str], int] = lambda _: 0
        self._claiming: Callable[[str], int] = lambda _: 0
        self._breakers: dict[str, Breaker | None] = {}
        self._budgets: dict[str, Budget | None] = {}
        self._refused: dict[str, int] = {}

    def serve(self, started_ms: Callable[[str], int], claiming: Callable[[str], int]) -> None:
        """Ask these from now on.

        Args:
            started_ms: when the running turn of a task started; 0 when none runs, or nobody knows.
            claiming: how many claims of an agent are under way.
        """
        self._started_ms, self._claiming = started_ms, claiming

    def breaker(self, agent: str) -> Breaker | None:
        """The breaker of an agent; None when it has none."""
        if agent not in self._breakers:
            policy = self.directory.breaker(agent)
            self._breakers[agent] = None if policy is None else Breaker(policy)
        return self._breakers[agent]

    def _budget(self, agent: str) -> Budget | None:
        if agent not in self._budgets:
            policy = self.directory.budget(agent)
            self._budgets[agent] = None if policy is None else Budget(policy)
        return self._budgets[agent]

    # What happens

    def happened(self, event: Event) -> bool:
        """Something that is on disk happened to a task.

        Returns:
            Whether the circuit of its agent has opened by it.
        """
        now_ms = self._clock.now_ms()
        found = self.breaker(event.agent)
        kind, data = event.kind, event.data
        if kind == "leased" and data["attempt"] == 1 and (tokens := self._budget(event.agent)) is not None:
            tokens.attempted(now_ms)
        if found is None:
            return False
        if kind == "fallback" or "fallback" in data:  # judged by the end that it would have had
            data = data.get("fallback", data)
            kind = data["status"]
        if kind == "leased":
            found.started(event.task, now_ms)
        elif kind in {"succeeded", "waiting"} or (kind == "queued" and "step" in data):
            self._succeeded(found, event)
        elif kind in FAILED and self._is_its_fault(found, event.task, kind, data):
            return self._failed(found, event)
        elif kind in FAILED or kind in {"failed", "cancelled"}:
            found.neutral(event.task)
        return False

    def _succeeded(self, found: Breaker, event: Event) -> None:
        before = found.state
        found.succeeded(event.task, self._clock.now_ms())
        if before is not found.state:
            _log.warning("the circuit of %s is closed again", event.agent)

    def _failed(self, found: Breaker, event: Event) -> bool:
        now_ms = self._clock.now_ms()
        if not found.failed(event.task, now_ms, self._rng.random()):
            return False
        pause = format_duration_ms(found.next_ms() - now_ms)
        _log.warning("the circuit of %s is open for %s: %s", event.agent, pause, found.why)
        return True

    def _is_its_fault(self, found: Breaker, task: str, kind: str, data: dict[str, Any]) -> bool:
        code = (data.get("error") or {}).get("code")
        if kind != "expired" and code != DEADLINE:
            return code not in NOT_ITS_FAULT
        started_ms = self._started_ms(task)  # 0: it expired in the queue
        return started_ms > 0 and self._clock.now_ms() - started_ms >= found.policy.timeout_ms

    # What may be done

    def room(self, agent: str) -> int | None:
        """How many turns of an agent its breaker lets start now; None for any number."""
        now_ms = self._clock.now_ms()
        found = self.breaker(agent)
        if found is None or (room := found.room(now_ms)) is None:
            return None
        return max(0, room - self._claiming(agent)) if room else 0

    def wait_ms(self, agent: str) -> int:
        """How long an open breaker still lets nothing through; 0 when it is not open."""
        now_ms = self._clock.now_ms()
        found = self.breaker(agent)
        return 0 if found is None else max(0, found.next_ms() - now_ms)

    def admit(self, agent: str, when_open: str | None = None) -> None:
        """See that a caller from outside may hand tasks to an agent.

        Args:
            agent: whose.
            when_open: what the caller wants while its circuit is open; None leaves it to the manifest.

        Raises:
            CircuitOpenError: its circuit is open, and caller or manifest say that callers are refused then.
        """
        found = self.breaker(agent)
        if found is not None and (when_open or found.policy.when_open) == "refuse" and self.room(agent) == 0:
            raise self.refusal(agent)

    def refusal(self, agent: str) -> CircuitOpenError:
        """Count a refusal, and say it."""
        self._refused[agent] = self._refused.get(agent, 0) + 1
        return CircuitOpenError(self.why(agent), -(-self.wait_ms(agent) // 1_000), agent)

    def judge(self, call: NewTask, when_open: str | None, left_ms: int) -> NewTask:
        """Decide of a call whether it waits for an agent whose circuit is open.

        Args:
            call: what a turn emits.
            when_open: what the caller wants then.
            left_ms: who waits for it has no more time than that; 0 when nobody waits.

        Returns:
            The call; refused when it has a fallback, when it is to be refused, or when it would be over before the next
            probe may start.
        """
        if self.room(call.agent) != 0:
            return call
        time_ms = min(call.deadline_ms, left_ms) if left_ms else 0
        if call.fallback is None and when_open != "refuse" and not 0 < time_ms <= self.wait_ms(call.agent):
            return call
        self.refusal(call.agent)
        return replace(call, refused=self.failure(call.agent))

    def failure(self, agent: str) -> Failure:
        """What a task is told that does not wait for an agent whose circuit is open."""
        return Failure(CircuitOpenError.code, self.why(agent))

    def fall_back(self, journal: Journal, agent: str, after: int = 0) -> None:
        """The circuit of an agent has opened: what waits for it and has a fallback takes it, some in each group."""

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, Outcome) and result.reply and self.room(agent) == 0:
                self.fall_back(journal, agent, result.reply)

        journal.enqueue(FallBack(agent, self.failure(agent), after), done)

    def probe_ms(self, agent: str, task: str) -> int:
        """How long a turn that fails now stays away when it is a probe; 0 when it is none."""
        found = self.breaker(agent)
        return 0 if found is None else found.probe_pause_ms(task)

    def reserve(self, agent: str) -> int:
        """A turn failed and may be tried again: take a token for that.

        Returns:
            How long the next attempt has to wait beyond its own pause, milliseconds.
        """
        now_ms = self._clock.now_ms()
        found = self._budget(agent)
        return 0 if found is None else found.take(now_ms)

    def not_retried(self, agent: str, held_ms: int) -> None:
        """The failure led to no retry: the token is given back."""
        now_ms = self._clock.now_ms()
        if (found := self._budget(agent)) is not None:
            found.give_back(now_ms, held_ms)

    # Time

    def tick(self) -> list[str]:
        """Let open breakers become half-open.

        Returns:
            Agents whose breaker did.
        """
        now_ms = self._clock.now_ms()
        turned = [agent for agent, found in self._breakers.items() if found is not None and found.advance(now_ms)]
        for agent in turned:
            _log.info("the circuit of %s is half-open: a probe may start", agent)
        return turned

    def next_ms(self) -> int:
        """When the next breaker becomes half-open; 0 for none."""
        times = [found.next_ms() for found in self._breakers.values() if found is not None and found.next_ms()]
        return min(times, default=0)

    def replanned(self) -> None:
        """The plan has changed: a policy that is another now begins anew."""
        for agent, found in list(self._breakers.items()):
            if found is None or found.policy != self.directory.breaker(agent):
                del self._breakers[agent]
        for agent, tokens in list(self._budgets.items()):
            if tokens is None or tokens.policy != self.directory.budget(agent):
                del self._budgets[agent]

    # Facts

    def why(self, agent: str) -> str:
        """Why an agent's tasks do not start; empty when its breaker is closed."""
        now_ms = self._clock.now_ms()
        found = self.breaker(agent)
        if found is None or found.room(now_ms) is None:
            return ""
        if found.state is State.HALF_OPEN:
            return f"the circuit of {agent} is half-open ({found.why}): a probe is tried first"
        left = format_duration_ms(max(1, found.next_ms() - now_ms))
        return f"the circuit of {agent} is open ({found.why}): next probe in {left}"

    def why_later(self, agent: str) -> str:
        """Why a retry of an agent has to wait longer than its pause; empty when its budget has tokens."""
        now_ms = self._clock.now_ms()
        found = self._budgets.get(agent)
        if found is None or found.tokens(now_ms) >= 0:
            return ""
        return f"the retry budget of {agent} is used up"

    def breakers(self) -> dict[str, dict[str, Any]]:
        """How the breakers stand that there is something to say of."""
        now_ms = self._clock.now_ms()
        told = {}
        for agent, found in self._breakers.items():
            if found is None:
                continue
            found.advance(now_ms)
            if not found.is_of_interest(now_ms) and not self._refused.get(agent):
                continue
            succeeded, failed = found.counted(now_ms)
            told[agent] = {
                "state": str(found.state), "why": found.why, "next_in_ms": self.wait_ms(agent),
                "for_ms": now_ms - found.since_ms() if found.since_ms() else 0, "opened": found.opened,
                "refused": self._refused.get(agent, 0), "succeeded": succeeded, "failed": failed,
            }  # fmt: skip
        return told

    def budgets(self) -> dict[str, dict[str, Any]]:
        """How the budgets stand that are not full."""
        now_ms = self._clock.now_ms()
        return {
            agent: {"tokens": round(tokens, 2), "delayed": found.delayed}
            for agent, found in self._budgets.items()
            if found is not None and ((tokens := found.tokens(now_ms)) < RETRY_BUDGET_BURST or found.delayed)
        }
