"""Why it exists: no ticket, no process: what may occupy memory is decided before it does, in one place.

A ticket reserves its *envelope* (start peak or steady use, the larger) from the grant until the group is empty; a pool
is charged the larger of envelope and real use. A pool that is cut from a parent takes its whole size out of the parent.
Nothing is ever cut from the pool ``reserve``. Who has to wait is served in order: first come, first served, and one
level of priority is worth ``PRIORITY_AGING_MS`` of waiting. A waiter that could be served once instances end holds back
all later ones of its pool, so that many small requests cannot starve a large one.

Pure: memory of the host and the time come in as arguments.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sutazai.errors import InternalError
from sutazai.governor.requests import (
    Ask,
    Granted,
    Kind,
    No,
    PoolLike,
    PoolStatistics,
    Statistics,
    Ticket,
    Wait,
    Waiter,
)
from sutazai.ids import new_id
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ask", "Granted", "Ledger", "No", "PoolStatistics", "Statistics", "Ticket", "Wait", "Waiter"]

RESERVE_POOL = "reserve"
#: A waiter that does not ask again in this time has given up and holds back nobody.
WAITER_KEPT_MS = 5_000


@dataclass(frozen=True, slots=True)
class _Sums:
    """Tickets added up once after each change.

    Attributes:
        charge: bytes by pool.
        processes: bytes by pool, without instances.
        instances: number by pool.
        unseen: bytes reserved and not yet visible.
    """

    charge: Counter[str]
    processes: Counter[str]
    instances: Counter[str]
    unseen: int


class Ledger:
    """All tickets of a fleet, and who waits for one."""

    def __init__(self, pools: Iterable[PoolLike] = (), headroom_bytes: int = 0) -> None:
        """Begin without tickets.

        Args:
            pools: of the plan.
            headroom_bytes: of the host's available memory, never granted.
        """
        self._pools: dict[str, PoolLike] = {}
        self._headroom_bytes = 0
        self._tickets: dict[str, Ticket] = {}
        self._added_up: _Sums | None = None
        self._waiters: dict[tuple[Kind, str, str], Waiter] = {}
        self._granted = self._told_to_wait = self._refused = self._released = 0
        self.set_pools(pools, headroom_bytes)

    def set_pools(self, pools: Iterable[PoolLike], headroom_bytes: int) -> None:
        """Take over the pools of a (new) plan; tickets stay, those of pools that are gone are charged to nobody."""
        self._pools = {pool.name: pool for pool in pools}
        self._added_up = None
        self._headroom_bytes = headroom_bytes
        for pool in self._pools.values():
            if len(self._line(pool.name)) > len(self._pools):
                raise InternalError(f"the pool {pool.name} is cut from itself")

    # Tickets

    def ask(self, ask: Ask, host_available_bytes: int, now_ms: int) -> Granted | Wait | No:
        """Ask for a ticket. Asking again keeps the place in the queue; not asking again gives it up.

        Args:
            ask: the request.
            host_available_bytes: memory that the host has left.
            now_ms: monotonic.
        """
        self._drop_stale(now_ms)
        key = (ask.kind, ask.name, ask.pool)
        if why := self._never(ask):
            self._waiters.pop(key, None)
            self._refused += 1
            return No(why)
        old = self._waiters.get(key)
        since_ms = old.since_ms if old else now_ms
        answer = self._short(ask, host_available_bytes) or self._turn(ask, since_ms, host_available_bytes)
        if answer is not None:
            self._told_to_wait += old is None
            self._waiters[key] = Waiter(ask, since_ms, now_ms, answer)
            return answer
        self._waiters.pop(key, None)
        ticket = Ticket(ask.ticket or new_id("k"), ask.kind, ask.name, ask.pool, ask.envelope_bytes)
        self._add(ticket)
        self._granted += 1
        return Granted(ticket)

    def give_up(self, kind: Kind, name: str, pool: str) -> None:
        """Leave the queue."""
        self._waiters.pop((kind, name, pool), None)

    def bind(self, ticket: str, pid: int) -> None:
        """Say which process a ticket is for."""
        self._change(ticket, pid=pid)

    def observe(self, ticket: str, used_bytes: int) -> None:
        """Say what a ticket's group really uses; unknown tickets are ignored (it may just have ended)."""
        if ticket in self._tickets:
            self._change(ticket, used_bytes=max(0, used_bytes))

    def resize(self, ticket: str, envelope_bytes: int) -> None:
        """Say that a ticket reserves another size from now on.

        Raises:
            InternalError: there is no such ticket.
        """
        held = self._tickets.get(ticket)
        if held is None:
            raise InternalError(f"there is no ticket {ticket}")
        self._added_up = None
        self._tickets[ticket] = replace(held, envelope_bytes=envelope_bytes)

    def release(self, ticket: str) -> bool:
        """Give a ticket back: its group is empty.

        Returns:
            False when there is no such ticket (any more).
        """
        if self._tickets.pop(ticket, None) is None:
            return False
        self._added_up = None
        self._released += 1
        return True

    def rebuild(self, tickets: Iterable[Ticket]) -> None:
        """Take over what lives already, whether it fits or not: the truth is in the kernel's groups."""
        for ticket in tickets:
            self._add(ticket)

    def _add(self, ticket: Ticket) -> None:
        if ticket.id in self._tickets:
            raise InternalError(f"the ticket {ticket.id} exists already")
        self._tickets[ticket.id] = ticket
        self._added_up = None

    def _change(self, ticket: str, *, pid: int | None = None, used_bytes: int | None = None) -> None:
        held = self._tickets.get(ticket)
        if held is None:
            raise InternalError(f"there is no ticket {ticket}")
        self._added_up = None
        self._tickets[ticket] = replace(
            held,
            pid=held.pid if pid is None else pid,
            used_bytes=held.used_bytes if used_bytes is None else used_bytes,
        )

    # Decisions

    def _never(self, ask: Ask) -> str:
        pool = self._pools.get(ask.pool)
        if pool is None:
            return f"there is no pool {ask.pool}"
        if ask.pool == RESERVE_POOL or RESERVE_POOL in self._line(ask.pool):
            return "nothing is ever cut from the reserve"
        if ask.envelope_bytes > pool.size_bytes:
            return (
                f"{ask.name} needs {format_bytes(ask.envelope_bytes)}, "
                f"the whole pool {pool.name} has {format_bytes(pool.size_bytes)}"
            )
        return ""

    def _short(self, ask: Ask, host_available_bytes: int) -> Wait | None:
        """Say what a request lacks by itself; None when it fits."""
        if ask.kind == "instance":
            for name in self._line(ask.pool):
                limit = self._pools[name].instance_limit
                if limit and self._instances(name) >= limit:
                    return Wait(f"the pool {name} has its {limit} instances", 0, "instances")
        for name in self._line(ask.pool):
            need = self._overflow(name, ask)
            if need > 0:
                return Wait(f"the pool {name} is short of {format_bytes(need)}", need, "pool")
        need = ask.envelope_bytes - self._host_room(host_available_bytes)
        if need > 0:
            return Wait(f"the host is short of {format_bytes(need)} above its headroom", need, "host")
        return None

    def _host_room(self, host_available_bytes: int) -> int:
        return host_available_bytes - self._headroom_bytes - self._sums().unseen

    def _overflow(self, name: str, *asks: Ask) -> int:
        """Bytes by which a pool would be too small; a pool whose charge does not grow by the requests is not asked."""
        extra: Counter[str] = Counter()
        for ask in asks:
            extra[ask.pool] += ask.envelope_bytes
        after = self._charge(name, self._sums().charge, extra)
        return after - self._pools[name].size_bytes if after > self._charge(name, self._sums().charge) else 0

    def _turn(self, ask: Ask, since_ms: int, host_available_bytes: int) -> Wait | None:
        """Say who is served first; None when nobody stands before this request."""
        mine = Waiter(ask, since_ms, since_ms, Wait("", 0, "turn")).rank
        for other in sorted(self._waiters.values(), key=lambda waiter: waiter.rank):
            if other.rank >= mine:
                break
            same = (other.ask.kind, other.ask.name, other.ask.pool) == (ask.kind, ask.name, ask.pool)
            if not same and self._holds_back(other, ask, host_available_bytes):
                return Wait(f"{other.ask.name} waits longer for {other.ask.pool}", ask.envelope_bytes, "turn")
        return None

    def _holds_back(self, waiter: Waiter, ask: Ask, host_available_bytes: int) -> bool:
        """Whether memory given to ``ask`` would be taken from ``waiter``, who can be served once instances end."""
        lacks = self._short(waiter.ask, host_available_bytes)
        line = self._line(waiter.ask.pool)
        if self._share_last_slot(waiter.ask, ask):
            return True
        if lacks is None:
            both = waiter.ask.envelope_bytes + ask.envelope_bytes
            shared = any(self._overflow(name, waiter.ask, ask) > 0 for name in line)
            return shared or both > self._host_room(host_available_bytes)
        if lacks.reason == "instances":
            return False
        sums = self._sums()
        if lacks.reason == "host":
            return lacks.need_bytes <= sums.charge.total() - sums.processes.total()
        if not any(self._grows(name, ask) for name in line):
            return False
        extra = Counter({waiter.ask.pool: waiter.ask.envelope_bytes})
        return all(self._charge(name, sums.processes, extra) <= self._pools[name].size_bytes for name in line)

    def _share_last_slot(self, one: Ask, other: Ask) -> bool:
        """Whether both want an instance where the limit of a pool leaves room for one more at most."""
        if one.kind != "instance" or other.kind != "instance":
            return False
        shared = set(self._line(one.pool)) & set(self._line(other.pool))
        limits = ((name, self._pools[name].instance_limit) for name in shared)
        return any(limit and self._instances(name) + 1 >= limit for name, limit in limits)

    def _grows(self, name: str, ask: Ask) -> bool:
        charge = self._sums().charge
        return self._charge(name, charge, Counter({ask.pool: ask.envelope_bytes})) > self._charge(name, charge)

    def _charge(self, name: str, own: Counter[str], extra: Counter[str] | None = None) -> int:
        """Add up a pool: its own tickets, and of each pool cut from it the larger of its size and its charge."""
        total = own[name] + (extra[name] if extra else 0)
        for pool in self._pools.values():
            if pool.parent == name:
                total += max(pool.size_bytes, self._charge(pool.name, own, extra))
        return total

    def _sums(self) -> _Sums:
        if self._added_up is None:
            sums = _Sums(Counter(), Counter(), Counter(), sum(t.unseen_bytes for t in self._tickets.values()))
            for ticket in self._tickets.values():
                sums.charge[ticket.pool] += ticket.charge_bytes
                if ticket.kind == "process":
                    sums.processes[ticket.pool] += ticket.charge_bytes
                elif ticket.kind == "instance":
                    sums.instances[ticket.pool] += 1
            self._added_up = sums
        return self._added_up

    def _instances(self, name: str) -> int:
        return sum(count for pool, count in self._sums().instances.items() if name in self._line(pool))

    def _line(self, name: str) -> list[str]:
        """A pool, its parent, its parent's parent … (bounded, should they form a circle)."""
        line: list[str] = []
        while name in self._pools and len(line) <= len(self._pools):
            line.append(name)
            name = self._pools[name].parent
        return line

    def _drop_stale(self, now_ms: int) -> None:
        stale = [key for key, waiter in self._waiters.items() if now_ms - waiter.seen_ms > WAITER_KEPT_MS]
        for key in stale:
            del self._waiters[key]

    # What others see

    def get(self, ticket: str) -> Ticket | None:
        """Find a ticket."""
        return self._tickets.get(ticket)

    def tickets(self) -> tuple[Ticket, ...]:
        """All tickets, oldest grant first."""
        return tuple(self._tickets.values())

    def waiting(self) -> tuple[Waiter, ...]:
        """Who waits, in the order in which they will be served."""
        return tuple(sorted(self._waiters.values(), key=lambda waiter: waiter.rank))

    def pool(self, name: str) -> PoolStatistics:
        """One pool; all zero when there is none of that name."""
        pool = self._pools.get(name)
        own = [ticket for ticket in self._tickets.values() if ticket.pool == name]
        charged = sum(ticket.charge_bytes for ticket in own)
        return PoolStatistics(
            name=name,
            size_bytes=pool.size_bytes if pool else 0,
            charged_bytes=charged,
            cut_bytes=self._charge(name, self._sums().charge) - charged if pool else 0,
            reserved_bytes=sum(ticket.envelope_bytes for ticket in own),
            used_bytes=sum(ticket.used_bytes for ticket in own),
            instances=self._instances(name),
            waiting=sum(waiter.ask.pool == name for waiter in self._waiters.values()),
        )

    def statistics(self) -> Statistics:
        """Read all figures at once."""
        return Statistics(
            pools=tuple(self.pool(name) for name in self._pools),
            tickets=len(self._tickets),
            granted=self._granted,
            told_to_wait=self._told_to_wait,
            refused=self._refused,
            released=self._released,
        )
