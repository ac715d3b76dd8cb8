"""Why it exists: what is wrong is found apart from what is done about it, so that each can be read and tested alone.

A detector is a pure function of one snapshot (and of what held before, for hysteresis) to findings; a finding is the
matter of a condition in ``telemetry.kinds``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sutazai.governor.snapshot import held_bytes
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sutazai.governor.snapshot import Snapshot

HOST = "host"


class Finding(NamedTuple):
    """Something that holds now.

    Attributes:
        name: kind of the condition.
        subject: what it is about.
        text: for a person, with its numbers.
    """

    name: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When something is found, as shares 0–1: above ``on``, until it is below ``off`` again.

    Attributes:
        pool_on: share of a pool.
        pool_off: share of a pool.
        limit_on: share of a process' own memory limit.
        limit_off: share of a process' own memory limit.
        recovery: available memory must be this many times the bound for its condition to end.
    """

    pool_on: float = 0.85
    pool_off: float = 0.75
    limit_on: float = 0.9
    limit_off: float = 0.8
    recovery: float = 1.1


@dataclass(frozen=True, slots=True)
class Before:
    """What was known before this snapshot.

    Attributes:
        held: findings that held, as ``(name, subject)``.
        oom_kills: counters by path.
        thresholds: of this fleet.
    """

    held: frozenset[tuple[str, str]]
    oom_kills: Mapping[str, int]
    thresholds: Thresholds

    def bound(self, name: str, subject: str, on: float, off: float) -> float:
        """Which threshold counts now."""
        return off if (name, subject) in self.held else on


def memory_pressure(snapshot: Snapshot, before: Before) -> list[Finding]:
    """Find pools and members that have nearly used up their memory."""
    name, limits = "MemoryPressure", before.thresholds
    found = []
    for pool in snapshot.pools:
        used = snapshot.pool_used_bytes(pool)
        if pool.size_bytes and used > pool.size_bytes * before.bound(name, pool.name, limits.pool_on, limits.pool_off):
            found.append(Finding(name, pool.name, f"the pool {_share(used, pool.size_bytes)}"))
    worst: dict[str, tuple[float, Finding]] = {}
    for member in snapshot.members:
        used = held_bytes(snapshot.usage(member.path))
        bound = before.bound(name, member.name, limits.limit_on, limits.limit_off)
        if member.limit_bytes and used > member.limit_bytes * bound:
            share = used / member.limit_bytes
            if share > worst.get(member.name, (0.0, None))[0]:
                worst[member.name] = (share, Finding(name, member.name, _share(used, member.limit_bytes)))
    return found + [finding for _, finding in worst.values()]


def reserve_entered(snapshot: Snapshot, before: Before) -> list[Finding]:
    """Find that the emergency reserve is in use: less memory is left than it has."""
    name = "ReserveEntered"
    left = snapshot.host.memory_available_bytes
    bound = snapshot.reserve_bytes * before.bound(name, HOST, 1.0, before.thresholds.recovery)
    if left >= bound:
        return []
    text = f"{format_bytes(left)} are available, the reserve has {format_bytes(snapshot.reserve_bytes)}"
    return [Finding(name, HOST, text)]


def host_memory_low(snapshot: Snapshot, before: Before) -> list[Finding]:
    """Find that the host has less memory left than the plan's headroom."""
    name = "HostMemoryLow"
    left = snapshot.host.memory_available_bytes
    bound = snapshot.headroom_bytes * before.bound(name, HOST, 1.0, before.thresholds.recovery)
    if left >= bound:
        return []
    text = f"{format_bytes(left)} are available, below the headroom of {format_bytes(snapshot.headroom_bytes)}"
    return [Finding(name, HOST, text)]


def oom_killed(snapshot: Snapshot, before: Before) -> list[Finding]:
    """Find members whose group lost a process to the kernel since the last snapshot."""
    found = []
    for member in snapshot.members:
        usage = snapshot.usage(member.path)
        if usage.oom_kills > before.oom_kills.get(member.path, 0):
            whose = "its own limit" if usage.limit_hits else "the limit of its pool"
            text = f"the kernel ended a process at {whose}: peak {_share(usage.memory_peak_bytes, member.limit_bytes)}"
            found.append(Finding("OomKilled", member.name, text))
    return found


def limit_not_enforced(snapshot: Snapshot, before: Before) -> list[Finding]:  # noqa: ARG001 all detectors look alike
    """Find limits that this host does not hold at all."""
    if not snapshot.missing:
        return []
    return [Finding("LimitNotEnforced", HOST, "; ".join(f"{each.limit}: {each.why}" for each in snapshot.missing))]


DETECTORS: tuple[Callable[[Snapshot, Before], list[Finding]], ...] = (
    host_memory_low,
    reserve_entered,
    memory_pressure,
    oom_killed,
    limit_not_enforced,
)


def _share(used_bytes: int, limit_bytes: int) -> str:
    if not limit_bytes:
        return f"uses {format_bytes(used_bytes)}, without a limit of its own"
    return f"uses {format_bytes(used_bytes)} of {format_bytes(limit_bytes)} ({100 * used_bytes // limit_bytes} %)"
