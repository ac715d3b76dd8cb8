"""Why it exists: due tasks meet instances that asked for one, inside a transaction, where a driver says to look.

Instances pull: without a credit nothing is pushed at them. The match is made at the end of each group, so what the
driver lets it see (in process: everything) shares one sync of the disk: a submission, its claim and the commit before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.bus.dispatch.inproc import Inproc
from sutazai.bus.group import Entry
from sutazai.errors import RefusedError
from sutazai.store.model import Claim, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus.directory import Directory
    from sutazai.bus.dispatch.protocol import Driver, Signal
    from sutazai.bus.pressure import Valve
    from sutazai.bus.sessions import Instance
    from sutazai.store.counts import Counts
    from sutazai.store.model import Turn

    Deliver = Callable[[Instance, Turn], None]


class Dispatcher:
    """Credits by agent, and the driver that says where to look.

    Args:
        deliver: hands a claimed turn to its instance, after the commit.
        directory: the agents' rates.
        valve: which priorities may be claimed under pressure.
        let_start: how many more turns of an agent may start while so many run; None for any number.
    """

    def __init__(
        self, deliver: Deliver, directory: Directory, valve: Valve, let_start: Callable[[str, int], int | None]
    ) -> None:
        self._deliver, self._directory, self._valve, self._let_start = deliver, directory, valve, let_start
        self.driver: Driver = Inproc()
        self._idle: dict[str, dict[Instance, None]] = {}
        self._credited: list[tuple[Instance, str, int]] = []
        self._picked: list[tuple[Instance, Signal]] = []
        self._dry: set[str] = set()
        self._limited: dict[str, int] = {}
        self._numbers_us: dict[str, int] = {}
        self.stopped = False

    def idle(self, agent: str) -> int:
        """Instances of an agent that wait for a task."""
        return len(self._idle.get(agent, ()))

    def credit(self, instance: Instance) -> None:
        """An instance asked for a task, outside of a group."""
        if not instance.claiming and not instance.leaving and instance.lease is None and not instance.session.closed:
            self._idle.setdefault(instance.agent, {})[instance] = None

    def credit_in_group(self, instance: Instance, task: str, fence: int) -> None:
        """An instance's commit of this turn, which also asks for a task, was just done inside the group."""
        self._credited.append((instance, task, fence))

    def forget(self, instance: Instance) -> None:
        """An instance leaves, or is gone."""
        waiting = self._idle.get(instance.agent)
        if waiting is not None:
            waiting.pop(instance, None)
            if not waiting:
                del self._idle[instance.agent]

    def can_match(self, counts: Counts) -> bool:
        """Whether a due task and an instance are there for each other."""
        if self.stopped:
            return False
        looks = self.driver.looks
        return any(self._claimable(agent, counts) > 0 and looks(agent) for agent in self._idle)

    def _claimable(self, agent: str, counts: Counts) -> int:
        """How many claims for an agent may succeed now."""
        entry = counts.of(agent)
        if entry.ready <= 0 or agent in self._dry or agent in self._limited:
            return 0
        room = self._let_start(agent, entry.leased)
        return entry.ready if room is None else min(entry.ready, room)

    def matches(self, counts: Counts, judged: frozenset[str] = frozenset()) -> list[Entry]:
        """Claims to be done in this group.

        Args:
            counts: tasks by agent.
            judged: agents of which a task failed in this very group: their breakers decide when it is on disk, so they
                get nothing in it.
        """
        if self.stopped:
            return []
        for instance, task, fence in self._credited:
            lease = instance.lease
            runs_another = lease is not None and (lease.task, lease.fence) != (task, fence)
            if instance.credited == (task, fence):
                continue
            instance.credited = (task, fence)
            gone = instance.session.closed or instance.leaving
            if not gone and not runs_another and not instance.claiming:
                self._idle.setdefault(instance.agent, {})[instance] = None
        entries = []
        for agent, claimable in [
            (agent, self._claimable(agent, counts)) for agent in self._idle if agent not in judged
        ]:
            waiting = self._idle[agent]
            for _ in range(min(claimable, len(waiting), self.driver.looks(agent)) if claimable else 0):
                instance, _ = waiting.popitem()
                instance.claiming = True
                signal = self.driver.take(agent)
                self._picked.append((instance, signal))
                entries.append(self._claim(instance, signal))
            if not waiting:
                del self._idle[agent]
        return entries

    def _claim(self, instance: Instance, signal: Signal) -> Entry:
        return Entry(
            Claim(
                instance.agent, instance.ticket, instance.pid, self._directory.rate(instance.agent),
                self._valve.priority_max(),
            ),
            lambda result: self._claimed(instance, signal, result),
        )  # fmt: skip

    def _claimed(self, instance: Instance, signal: Signal, result: Outcome | RefusedError) -> None:
        instance.claiming = False
        if isinstance(result, Outcome) and result.rate_us:
            self._numbers_us[instance.agent] = result.rate_us
        if isinstance(result, RefusedError):
            self.driver.unused(signal)
            self.credit(instance)
        elif result.limited_ms:
            self.driver.unused(signal)
            self._limited[instance.agent] = result.limited_ms
            self.credit(instance)
        elif result.reply is None:  # its deadline has passed and the timer has not seen it yet
            self.driver.unused(signal)
            self._dry.add(instance.agent)
            self.credit(instance)
        else:
            self.driver.used(signal)
            self._deliver(instance, result.reply)

    def settled(self) -> None:
        """The group is on disk."""
        self._credited.clear()
        self._picked.clear()

    def undone(self) -> None:
        """The group was rolled back: those who were picked wait again, those who committed do not yet."""
        for instance, signal in reversed(self._picked):
            instance.claiming = False
            self.driver.unused(signal)
            self._idle.setdefault(instance.agent, {})[instance] = None
        for instance, _, _ in self._credited:
            instance.credited = ("", 0)
            self.forget(instance)
        self._credited.clear()
        self._picked.clear()

    def look_again(self) -> None:
        """The timers have run."""
        self._dry.clear()

    def tick(self, now_ms: int, counts: Counts) -> None:
        """Tell the driver who waits for a word of it."""
        driver = self.driver
        waiting = [
            (agent, min(claimable, len(idle)))
            for agent, idle in self._idle.items()
            if not self.stopped and (claimable := self._claimable(agent, counts)) > 0 and not driver.looks(agent)
        ]
        driver.tick(now_ms, waiting)

    # Rates

    def limited_ms(self, agent: str, now_ms: int) -> int:
        """How long until an agent's rate lets its next turn start; 0 for now."""
        return max(0, self._limited.get(agent, 0) - now_ms)

    def limited(self) -> dict[str, int]:
        """Agents whose rate holds their tasks, and until when, broker's milliseconds."""
        return dict(self._limited)

    def startable(self, agent: str, now_ms: int) -> int | None:
        """How many turns of an agent its rate lets start now; None when it has no rate."""
        rate = self._directory.rate(agent)
        return None if rate is None else rate.room(self._numbers_us.get(agent, 0), now_ms)

    def next_ms(self) -> int:
        """When the next of them may start a turn; 0 when there is none."""
        return min(self._limited.values(), default=0)

    def let_go(self, now_ms: int) -> bool:
        """Forget the limits that are over.

        Returns:
            Whether there was one.
        """
        over = [agent for agent, until_ms in self._limited.items() if until_ms <= now_ms]
        for agent in over:
            del self._limited[agent]
        return bool(over)

    def replanned(self) -> None:
        """The agents have changed, and perhaps their rates: the store says it again."""
        self._limited.clear()
        self._numbers_us.clear()
