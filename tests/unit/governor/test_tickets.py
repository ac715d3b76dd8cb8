"""The gate: what may be granted, who waits, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.errors import InternalError
from sutazai.governor.requests import PoolStatistics
from sutazai.governor.tickets import WAITER_KEPT_MS, Ask, Granted, Ledger, No, Ticket, Wait
from sutazai.limits import PRIORITY_AGING_MS
from sutazai.supervisor.contract import Pool
from sutazai.units import MIB

PLENTY = 1 << 50


@dataclass(frozen=True)
class Size:
    """A pool as the ledger needs it."""

    name: str
    size_bytes: int
    parent: str = ""
    instance_limit: int = 0


POOLS = (
    Size("critical", 1_000),
    Size("platform", 300, "critical"),
    Size("standard", 500, instance_limit=4),
    Size("reserve", 200),
)


def instance(name: str = "a", pool: str = "standard", size: int = 100, priority: int = 5) -> Ask:
    """Ask for an instance."""
    return Ask("instance", name, pool, size, priority)


def granted(ledger: Ledger, ask: Ask, available: int = PLENTY, now_ms: int = 0) -> Ticket:
    """Ask, and expect a yes."""
    answer = ledger.ask(ask, available, now_ms)
    assert isinstance(answer, Granted), answer
    return answer.ticket


def waits(ledger: Ledger, ask: Ask, available: int = PLENTY, now_ms: int = 0) -> Wait:
    """Ask, and expect to wait."""
    answer = ledger.ask(ask, available, now_ms)
    assert isinstance(answer, Wait), answer
    return answer


def test_grant_bind_release() -> None:
    """A ticket is held from the grant to the release, and only then its memory is free again."""
    ledger = Ledger(POOLS)
    ticket = granted(ledger, instance(size=400))
    assert ticket.id.startswith("k_")
    ledger.bind(ticket.id, 77)
    held = ledger.get(ticket.id)
    assert held is not None
    assert held.pid == 77
    answer = waits(ledger, instance("b", size=200))
    assert (answer.reason, answer.need_bytes) == ("pool", 100)
    assert "standard" in answer.why
    assert ledger.release(ticket.id)
    assert not ledger.release(ticket.id), "a second release changes nothing"
    granted(ledger, instance("b", size=200))
    assert ledger.waiting() == ()
    statistics = ledger.statistics()
    assert (statistics.granted, statistics.told_to_wait, statistics.released, statistics.tickets) == (2, 1, 1, 1)


def test_ticket_keeps_the_given_name() -> None:
    """The supervisor names the ticket before it asks (the group's name has it); a name is used once."""
    ledger = Ledger(POOLS)
    assert granted(ledger, Ask("instance", "a", "standard", 1, ticket="k_1")).id == "k_1"
    with pytest.raises(InternalError):
        ledger.ask(Ask("instance", "a", "standard", 1, ticket="k_1"), PLENTY, 0)


def test_never() -> None:
    """What can never fit is refused at once, with the reason, and does not wait."""
    ledger = Ledger(POOLS)
    for ask, reason in (
        (instance(pool="nowhere"), "no pool"),
        (instance(pool="reserve", size=1), "reserve"),
        (instance(size=501), "whole pool"),
    ):
        answer = ledger.ask(ask, PLENTY, 0)
        assert isinstance(answer, No)
        assert reason in answer.why
    assert ledger.waiting() == ()
    assert ledger.statistics().refused == 3


def test_a_pool_cut_from_another() -> None:
    """A sub-pool's whole size is taken from its parent, used or not, and works however full the parent is."""
    ledger = Ledger(POOLS)
    granted(ledger, Ask("process", "db", "critical", 700))
    assert waits(ledger, Ask("process", "more", "critical", 1)).reason == "pool"
    granted(ledger, Ask("process", "broker", "platform", 300))
    assert ledger.pool("critical").cut_bytes == 300
    assert ledger.pool("critical").free_bytes == 0


def test_real_use_above_the_envelope_counts() -> None:
    """A pool is charged what is really used when that is more than was reserved."""
    ledger = Ledger(POOLS)
    ticket = granted(ledger, instance(size=100))
    ledger.observe(ticket.id, 450)
    assert waits(ledger, instance("b", size=100)).need_bytes == 50
    ledger.observe(ticket.id, 20)
    assert ledger.pool("standard").charged_bytes == 100, "the reservation stays"
    granted(ledger, instance("b", size=100))
    ledger.observe("k_unknown", 5)


def test_instance_limit() -> None:
    """The number of instances is limited, processes are not counted, and memory is not the reason."""
    ledger = Ledger(POOLS)
    granted(ledger, Ask("process", "p", "standard", 1))
    tickets = [granted(ledger, instance(f"a{n}", size=1)) for n in range(4)]
    answer = waits(ledger, instance("b", size=1))
    assert (answer.reason, answer.need_bytes) == ("instances", 0)
    granted(ledger, Ask("process", "q", "standard", 1), now_ms=1)
    ledger.release(tickets[0].id)
    granted(ledger, instance("b", size=1))


def test_headroom_of_the_host() -> None:
    """Memory that is promised and not yet visible is not free, whatever MemAvailable says."""
    ledger = Ledger(POOLS, headroom_bytes=100)
    first = granted(ledger, instance("a", size=200), available=300)
    answer = waits(ledger, instance("b", size=100), available=300)
    assert (answer.reason, answer.need_bytes) == ("host", 100)
    ledger.observe(first.id, 200)  # visible now: MemAvailable has fallen to 100
    assert waits(ledger, instance("b", size=100), available=100).need_bytes == 100
    granted(ledger, instance("b", size=100), available=200)


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    """Who waits longer is served first, also when a later, smaller request would fit."""
    ledger = Ledger(POOLS)
    tickets = [granted(ledger, instance("a", size=200)), granted(ledger, instance("a", size=200))]
    assert waits(ledger, instance("big", size=400), now_ms=1).reason == "pool"
    answer = waits(ledger, instance("small", size=50), now_ms=2)
    assert answer.reason == "turn"
    assert "big" in answer.why
    assert [waiter.ask.name for waiter in ledger.waiting()] == ["big", "small"]
    for ticket in tickets:
        ledger.release(ticket.id)
    assert waits(ledger, instance("tiny", size=200), now_ms=3).reason == "turn", "there is room for big and 100 more"
    granted(ledger, instance("big", size=400), now_ms=4)
    granted(ledger, instance("small", size=50), now_ms=5)


def test_other_pools_are_not_held_back() -> None:
    """Waiting for memory of one pool stops nobody in another, nor in a pool that is cut out beforehand."""
    ledger = Ledger(POOLS)
    granted(ledger, instance("a", size=400))
    waits(ledger, instance("big", size=400))
    granted(ledger, Ask("instance", "c", "critical", 650), now_ms=1)
    waits(ledger, Ask("instance", "c2", "critical", 650), now_ms=1)
    granted(ledger, Ask("process", "broker", "platform", 300), now_ms=2)


def test_who_can_never_be_served_holds_back_nobody() -> None:
    """With processes that never end in the way, waiting in line for the impossible would stop the pool for ever."""
    ledger = Ledger(POOLS)
    granted(ledger, Ask("process", "db", "standard", 300))
    waits(ledger, instance("big", size=400))
    granted(ledger, instance("small", size=50), now_ms=1)
    low = Ledger(POOLS, headroom_bytes=0)
    waits(low, instance("big", size=400), available=100)
    granted(low, instance("small", size=50), available=100, now_ms=1)


def test_who_gave_up_holds_back_nobody() -> None:
    """A waiter that does not ask again, or says so, is forgotten."""
    ledger = Ledger(POOLS)
    granted(ledger, instance("a", size=300))
    waits(ledger, instance("big", size=400), now_ms=0)
    waits(ledger, instance("small", size=50), now_ms=1)
    ledger.give_up("instance", "big", "standard")
    granted(ledger, instance("small", size=50), now_ms=2)
    waits(ledger, instance("big", size=400), now_ms=3)
    waits(ledger, instance("small", size=50), now_ms=4)
    granted(ledger, instance("small", size=50), now_ms=4 + WAITER_KEPT_MS)


def test_priority_and_aging() -> None:
    """More urgent is served first, and each level of urgency is worth a fixed time of waiting."""
    ledger = Ledger(POOLS)
    ticket = granted(ledger, instance("a", size=500))
    waits(ledger, instance("late", size=500, priority=5), now_ms=0)
    waits(ledger, instance("urgent", size=500, priority=1), now_ms=10)
    assert [waiter.ask.name for waiter in ledger.waiting()] == ["urgent", "late"]
    ledger.release(ticket.id)
    assert waits(ledger, instance("late", size=500, priority=5), now_ms=20).reason == "turn"
    aged = Ledger(POOLS)
    ticket = granted(aged, instance("a", size=500))
    now_ms = 0
    while now_ms <= 5 * PRIORITY_AGING_MS:
        waits(aged, instance("old", size=500, priority=5), now_ms=now_ms)
        now_ms += WAITER_KEPT_MS
    waits(aged, instance("new", size=500, priority=1), now_ms=now_ms)
    assert [waiter.ask.name for waiter in aged.waiting()] == ["old", "new"]


def test_rebuild_after_a_restart() -> None:
    """What lives is taken over even where it does not fit; nothing more is granted until it does."""
    ledger = Ledger(POOLS)
    ledger.rebuild([Ticket("k_1", "instance", "a", "standard", 400, 450, 7), Ticket("k_2", "process", "b", "gone", 9)])
    assert ledger.pool("standard").used_bytes == 450
    waits(ledger, instance("b", size=100))
    assert [ticket.id for ticket in ledger.tickets()] == ["k_1", "k_2"]


def test_a_new_plan() -> None:
    """Pools may shrink under their tickets: then nothing is granted, and nothing breaks."""
    ledger = Ledger(POOLS)
    ticket = granted(ledger, instance(size=400))
    ledger.set_pools([Size("standard", 100)], 0)
    assert ledger.pool("standard").free_bytes == -300
    waits(ledger, instance("b", size=50))
    ledger.release(ticket.id)
    granted(ledger, instance("b", size=50), now_ms=1)
    with pytest.raises(InternalError):
        ledger.set_pools([Size("x", 1, "y"), Size("y", 1, "x")], 0)


def test_takes_the_plan_files_pools() -> None:
    """The plan file's own pools fit without translation."""
    ledger = Ledger([Pool("standard", MIB, instance_limit=1)])
    granted(ledger, instance(size=MIB))


asks = st.builds(
    Ask,
    kind=st.sampled_from(["process", "instance"]),
    name=st.sampled_from("abcdef"),
    pool=st.sampled_from([pool.name for pool in POOLS]),
    envelope_bytes=st.integers(0, 600),
    priority=st.integers(0, 9),
)
steps = st.lists(st.one_of(asks, st.integers(0, 50)), max_size=60)


def _sound(ledger: Ledger) -> None:
    for size in POOLS:
        pool = ledger.pool(size.name)
        assert pool.free_bytes >= 0
        assert not size.instance_limit or pool.instances <= size.instance_limit
    assert ledger.pool("reserve").charged_bytes == 0


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(0, 3_000))
def test_never_above_a_pool_its_parent_or_the_host(script: list[Ask | int], available: int) -> None:
    """Whatever is asked and released in whatever order: no pool, no parent and no host is overbooked."""
    ledger = Ledger(POOLS, headroom_bytes=100)
    for now_ms, step in enumerate(script):
        if isinstance(step, Ask):
            ledger.ask(step, available, now_ms)
        elif tickets := ledger.tickets():
            ledger.release(tickets[step % len(tickets)].id)
        _sound(ledger)
        assert sum(ticket.envelope_bytes for ticket in ledger.tickets()) <= max(0, available - 100)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_releases_restore_exactly(script: list[Ask | int]) -> None:
    """When all tickets are released, the books are as at the beginning."""
    ledger = Ledger(POOLS)
    fresh = [ledger.pool(pool.name) for pool in POOLS]
    for now_ms, step in enumerate(script):
        if isinstance(step, Ask):
            ledger.ask(step, PLENTY, now_ms)
        elif tickets := ledger.tickets():
            ledger.observe(tickets[step % len(tickets)].id, step * 10)
    for ticket in ledger.tickets():
        assert ledger.release(ticket.id)
    for waiter in ledger.waiting():
        ledger.give_up(waiter.ask.kind, waiter.ask.name, waiter.ask.pool)
    assert [ledger.pool(pool.name) for pool in POOLS] == fresh


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.integers(0, 9), st.lists(st.integers(1, 250), min_size=1, max_size=6), st.integers(1, 4))
def test_nobody_starves(size: int, priority: int, rivals: list[int], lifetime: int) -> None:
    """A request that keeps asking is served in bounded time, against rivals that are smaller and more urgent."""
    ledger = Ledger(POOLS)
    running: list[tuple[int, str]] = []
    step_ms = WAITER_KEPT_MS // 2
    for turn in range(10 * PRIORITY_AGING_MS // step_ms + 20):
        for end, ticket in running[:]:
            if end <= turn:
                ledger.release(ticket)
                running.remove((end, ticket))
        for number, rival in enumerate(rivals):
            answer = ledger.ask(instance(f"r{number}", size=rival, priority=0), PLENTY, turn * step_ms)
            if isinstance(answer, Granted):
                running.append((turn + lifetime, answer.ticket.id))
        if isinstance(ledger.ask(instance("me", size=size, priority=priority), PLENTY, turn * step_ms), Granted):
            return
    pytest.fail("never served")


def test_statistics_are_frozen() -> None:
    """What is handed out cannot be changed from outside."""
    statistics = Ledger(POOLS).statistics()
    with pytest.raises(AttributeError):
        statistics.granted = 5  # type: ignore[misc]
    assert all(isinstance(pool, PoolStatistics) for pool in statistics.pools)
