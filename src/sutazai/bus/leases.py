"""Why it exists: a turn is lost when its instance is: by a closed socket in milliseconds, by silence in seconds.

The store decides whether a lease still holds (its token is the newest); this book only decides when to ask it. It is
rebuilt from the store after a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sutazai.bus.sessions import HeldLease, Instance
from sutazai.errors import RefusedError
from sutazai.store.model import Lose

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from sutazai.bus.group import Journal
    from sutazai.bus.options import Options
    from sutazai.bus.resilience import Guards
    from sutazai.store.model import Lease, Outcome, Turn

_EXITS_REMEMBERED = 1_000
_UNDELIVERED = "undelivered"
_GONE_BEFORE = "its instance was gone before it got the turn"


class LeaseBook:
    """All turns that run.

    Args:
        journal: where losses are written.
        options: times.
        rng: for the jitter of the backoff.
        kill: asks for the end of an instance that does not stop: ticket and reason.
        guards: the agents' retry budgets, and with their directory the pauses between attempts.
    """

    def __init__(
        self, journal: Journal, options: Options, rng: random.Random, kill: Callable[[str, str], None],
        guards: Guards,
    ) -> None:  # fmt: skip
        self._journal, self._options, self._rng, self._kill = journal, options, rng, kill
        self._guards, self._directory = guards, guards.directory
        self.by_task: dict[str, HeldLease] = {}
        self.supervised = False
        self.draining = False
        self._overdue: dict[Instance, str] = {}
        self._exits: OrderedDict[str, tuple[bool, str]] = OrderedDict()

    def restore(self, leases: list[Lease], now_ms: int) -> None:
        """The broker starts: the turns that ran may still do so; their instances have a grace to come back."""
        for lease in leases:
            self.by_task[lease.task] = HeldLease(
                lease.task, lease.agent, lease.fence, lease.ticket, priority=-1,
                until_ms=now_ms + self._options.reattach_ms, why="restart",
            )  # fmt: skip

    def hold(self, instance: Instance, turn: Turn, now_ms: int) -> HeldLease:
        """An instance was given a turn."""
        lease = HeldLease(
            turn.task, turn.agent, turn.fence, instance.ticket, turn.priority, now_ms + self._options.lease_ms,
            turn.deadline_ms, now_ms, instance,
        )  # fmt: skip
        self.by_task[turn.task] = lease
        instance.lease = lease
        return lease

    def find(self, task: str, fence: int, ticket: str) -> HeldLease | None:
        """The lease of exactly this turn of this instance."""
        lease = self.by_task.get(task)
        if lease is None or lease.fence != fence or lease.ticket != ticket:
            return None
        return lease

    def renew(self, lease: HeldLease, now_ms: int) -> None:
        """Its instance said that it runs."""
        lease.until_ms = now_ms + self._options.lease_ms

    def attach(self, instance: Instance, task: str, fence: int, now_ms: int) -> bool:
        """An instance came back with the turn that it runs.

        Returns:
            Whether the turn still is its own; a loss that is being written is decided by the store.
        """
        lease = self.find(task, fence, instance.ticket)
        if lease is None or lease.ending:
            return False
        if lease.instance is not None and lease.instance is not instance:
            lease.instance.lease = None
        lease.instance, lease.why = instance, ""
        instance.lease = lease
        self.renew(lease, now_ms)
        return True

    def release(self, task: str, fence: int) -> HeldLease | None:
        """A turn is over, in the store."""
        lease = self.by_task.get(task)
        if lease is None or lease.fence != fence:
            return None
        del self.by_task[task]
        if lease.instance is not None and lease.instance.lease is lease:
            lease.instance.lease = None
        return lease

    def revoke(self, task: str, fence: int, now_ms: int) -> None:
        """A turn was ended by others: its instance has to stop it, or is killed after a grace."""
        lease = self.release(task, fence)
        if lease is not None and lease.instance is not None:
            self.stop(lease.instance, lease, now_ms, "its task was cancelled or is past its deadline")

    def stop(self, instance: Instance, lease: HeldLease, now_ms: int, reason: str) -> None:
        """Tell an instance that the turn it runs is over."""
        instance.push({"t": "cancel", "task": lease.task, "fence": lease.fence})
        if not instance.overdue_ms:
            instance.overdue_ms = now_ms + self._options.cancel_grace_ms
            self._overdue[instance] = reason

    def answered(self, instance: Instance) -> None:
        """An instance ended the turn that it was told to stop."""
        instance.overdue_ms = 0
        self._overdue.pop(instance, None)

    def closed(self, instance: Instance, now_ms: int) -> None:
        """The socket of an instance is closed: its turn is lost, once it is known (or not) whose fault that was."""
        self.answered(instance)
        lease, instance.lease = instance.lease, None
        if lease is None:
            return
        lease.instance, lease.why = None, "closed"
        known = self._exits.get(instance.ticket)
        if known is not None or not self.supervised:
            own, reason = known or (not self.draining, "the instance closed its connection in the middle of a turn")
            self._lose(lease, own=own, reason=reason)
        else:
            lease.until_ms = now_ms + self._options.exit_wait_ms

    def came_back_without(self, ticket: str, older: Instance | None) -> None:
        """An instance connected anew and does not run the turn that it was given: that never reached it."""
        if older is not None and older.lease is not None:
            older.lease.instance, older.lease = None, None
        for lease in [lease for lease in self.by_task.values() if lease.ticket == ticket and lease.instance is None]:
            self._lose(lease, own=False, reason="its instance connected anew and did not have the turn")

    def only(self, living: set[str]) -> None:
        """``sutazaid`` says who lives: the turns of others are not waited for after a restart of the broker."""
        for lease in [each for each in self.by_task.values() if each.why == "restart" and each.ticket not in living]:
            self._lose(lease, own=False, reason="the broker restarted and the instance is gone")

    def exited(self, ticket: str, *, own: bool, reason: str) -> None:
        """``sutazaid`` says that an instance's process is gone, and whose fault it was."""
        self._exits[ticket] = (own, reason)
        if len(self._exits) > _EXITS_REMEMBERED:
            self._exits.popitem(last=False)
        for lease in [lease for lease in self.by_task.values() if lease.ticket == ticket and lease.instance is None]:
            self._lose(lease, own=own and lease.why != _UNDELIVERED, reason=reason)

    def undelivered(self, turn: Turn, ticket: str, now_ms: int) -> None:
        """A turn was leased, and its instance is gone before it could get it; on a full disk it is said again."""
        lease = HeldLease(turn.task, turn.agent, turn.fence, ticket, turn.priority, now_ms, why=_UNDELIVERED)
        self.by_task[turn.task] = lease
        self._lose(lease, own=False, reason=_GONE_BEFORE)

    def _lose(self, lease: HeldLease, *, own: bool, reason: str) -> None:
        if lease.ending:
            return
        lease.ending = True
        jitter, retry = self._directory.jitter(lease.agent, self._rng), self._directory.retry(lease.agent)
        hold_ms = self._guards.reserve(lease.agent) if own else 0

        def lost(result: Outcome | RefusedError) -> None:
            if own and (isinstance(result, RefusedError) or result.reply != "queued"):
                self._guards.not_retried(lease.agent, hold_ms)
            self._lost(lease, result)

        self._journal.enqueue(
            Lose(
                lease.task,
                lease.fence,
                own=own,
                reason=reason,
                jitter=jitter,
                retry=retry,
                hold_ms=hold_ms,
                probe_ms=self._guards.probe_ms(lease.agent, lease.task) if own else 0,
            ),
            lost,
        )

    def started_ms(self, task: str) -> int:
        """When the running turn of a task started, broker's time; 0 when none runs, or it began before a restart."""
        lease = self.by_task.get(task)
        return 0 if lease is None else lease.started_ms

    def _lost(self, lease: HeldLease, result: Outcome | RefusedError) -> None:
        if isinstance(result, RefusedError):  # a full disk: asked again with the next tick
            lease.ending = False
            return
        if self.by_task.get(lease.task) is lease:
            self.release(lease.task, lease.fence)

    def tick(self, now_ms: int, paused_ms: int) -> None:
        """Look for turns that are silent for too long, and for instances that do not stop.

        Args:
            now_ms: broker's time.
            paused_ms: how long the broker itself stood still: nobody is blamed for that time.
        """
        for lease in list(self.by_task.values()):
            lease.until_ms += paused_ms
            if lease.ending or now_ms < lease.until_ms:
                continue
            if lease.why == "restart":
                self._lose(lease, own=False, reason="the broker restarted and the instance did not come back")
            elif lease.why == _UNDELIVERED:
                self._lose(lease, own=False, reason=_GONE_BEFORE)
            elif lease.why == "closed":
                self._lose(lease, own=True, reason="the instance died in the middle of the turn")
            else:
                self._silent(lease, now_ms)
        for instance, reason in list(self._overdue.items()):
            instance.overdue_ms += paused_ms
            if now_ms >= instance.overdue_ms:
                instance.overdue_ms = now_ms + self._options.cancel_grace_ms
                self._kill(instance.ticket, reason)

    def _silent(self, lease: HeldLease, now_ms: int) -> None:
        instance = lease.instance
        reason = f"nothing was heard of the turn for {self._options.lease_ms} ms"
        self._lose(lease, own=True, reason=reason)
        if instance is not None:
            self.stop(instance, lease, now_ms, reason)
