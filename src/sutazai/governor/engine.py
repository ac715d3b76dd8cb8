"""Why it exists: a fleet under pressure gives memory back in a fixed order, cheapest first, and never loses work.

A tick: one snapshot → detectors → actions. The ladder has one rung so far: hibernate idle instances, which costs a fork
when they are needed again and nothing else. Protected processes, services and busy instances are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sutazai.governor.detectors import DETECTORS, Before, Finding, Thresholds
from sutazai.governor.snapshot import held_bytes, idle_order
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from sutazai.governor.requests import Waiter
    from sutazai.governor.snapshot import Member, PoolFacts, Snapshot


@dataclass(frozen=True, slots=True)
class Policy:
    """What the governor does, as data.

    Attributes:
        thresholds: when something is found.
        pressure_ms: a pool must be under pressure this long before idle instances are hibernated for it.
        repeat_ms: an instance that was asked to go is not counted or asked again for this long.
        dry_run: decide and say it, but let nobody act.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    pressure_ms: int = 5_000
    repeat_ms: int = 10_000
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """One action for the supervisor.

    Attributes:
        action: ``hibernate``: end an idle instance; its agent wakes again at its next task.
        ticket: of the instance.
        name: of the agent.
        pool: of the instance.
        frees_bytes: what the instance holds.
        why: for a person and for the log.
        dry_run: only say it.
    """

    action: Literal["hibernate"]
    ticket: str
    name: str
    pool: str
    frees_bytes: int
    why: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the engine did.

    Attributes:
        ticks: snapshots seen.
        decisions: actions decided, dry runs included.
        findings: that hold now.
    """

    ticks: int
    decisions: int
    findings: tuple[Finding, ...]


class Engine:
    """Looks at snapshots and decides."""

    def __init__(self, policy: Policy | None = None) -> None:
        """Begin with nothing found."""
        self.policy = policy or Policy()
        self._findings: tuple[Finding, ...] = ()
        self._oom_kills: dict[str, int] = {}
        self._since_ms: dict[tuple[str, str], int] = {}
        self._asked_ms: dict[str, int] = {}
        self._ticks = self._decisions = 0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What held at the last tick. ``OomKilled`` holds for the tick in which it was seen."""
        return self._findings

    def statistics(self) -> Statistics:
        """Read all figures at once."""
        return Statistics(self._ticks, self._decisions, self._findings)

    def tick(self, snapshot: Snapshot) -> list[Decision]:
        """Find what is wrong, and decide what to do about it."""
        self._ticks += 1
        held = frozenset((finding.name, finding.subject) for finding in self._findings)
        before = Before(held, self._oom_kills, self.policy.thresholds)
        found = [finding for detector in DETECTORS for finding in detector(snapshot, before)]
        self._remember(snapshot, found)
        decisions = [decision for pool in snapshot.pools for decision in self._relieve(snapshot, pool)]
        decisions += [decision for waiter in snapshot.waiting for decision in self._serve(snapshot, waiter)]
        self._decisions += len(decisions)
        return decisions

    def _remember(self, snapshot: Snapshot, found: list[Finding]) -> None:
        self._findings = tuple(found)
        self._oom_kills = {member.path: snapshot.usage(member.path).oom_kills for member in snapshot.members}
        keys = {(finding.name, finding.subject) for finding in found}
        self._since_ms = {key: self._since_ms.get(key, snapshot.at_ms) for key in keys}
        alive = {member.ticket for member in snapshot.members}
        self._asked_ms = {
            ticket: at_ms
            for ticket, at_ms in self._asked_ms.items()
            if ticket in alive and snapshot.at_ms - at_ms < self.policy.repeat_ms
        }

    def _relieve(self, snapshot: Snapshot, pool: PoolFacts) -> list[Decision]:
        """Hibernate idle instances for a pool that is too full, until enough is on its way back."""
        since_ms = self._since_ms.get(("MemoryPressure", pool.name))
        if since_ms is None or snapshot.at_ms - since_ms < self.policy.pressure_ms:
            return []
        used = snapshot.pool_used_bytes(pool)
        why = f"the pool {pool.name} uses {format_bytes(used)} of {format_bytes(pool.size_bytes)}"
        need = used - int(pool.size_bytes * self.policy.thresholds.pool_off)
        members = [member for member in snapshot.members if member.pool == pool.name]
        return self._hibernate(snapshot, members, need, why)

    def _serve(self, snapshot: Snapshot, waiter: Waiter) -> list[Decision]:
        """Hibernate idle instances of others for somebody who waits for a ticket."""
        reason, pool = waiter.answer.reason, waiter.ask.pool
        if reason == "turn":
            return []  # whoever stands before it is being served
        members = [m for m in snapshot.members if m.name != waiter.ask.name and (m.pool == pool or reason == "host")]
        why = f"{waiter.ask.name} waits: {waiter.answer.why}"
        return self._hibernate(snapshot, members, max(1, waiter.answer.need_bytes), why, by_charge=True)

    def _hibernate(
        self, snapshot: Snapshot, members: list[Member], need_bytes: int, why: str, *, by_charge: bool = False
    ) -> list[Decision]:
        def gain(member: Member) -> int:
            held = held_bytes(snapshot.usage(member.path))
            return max(1, held, member.charge_bytes if by_charge else 0)

        coming = sum(gain(member) for member in members if member.ticket in self._asked_ms)
        idle = [m for m in members if m.kind == "instance" and m.is_idle and not m.is_protected]
        decisions = []
        for member in sorted((m for m in idle if m.ticket not in self._asked_ms), key=idle_order):
            if coming >= need_bytes:
                break
            self._asked_ms[member.ticket] = snapshot.at_ms
            coming += gain(member)
            frees = held_bytes(snapshot.usage(member.path))
            decisions.append(
                Decision("hibernate", member.ticket, member.name, member.pool, frees, why, dry_run=self.policy.dry_run)
            )
        return decisions
