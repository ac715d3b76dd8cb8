"""A breaker opens when an agent fails everybody, never because of one task, and always closes again when it is well."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.bus.breaker import Breaker, Policy, State
from sutazai.bus.budget import Budget
from sutazai.bus.budget import Policy as BudgetPolicy
from sutazai.limits import RETRY_BUDGET_BURST
from sutazai.store.times import Retry

POLICY = Policy(failures=3, ratio=0.5, volume=10, window_ms=10_000, pause_ms=1_000, pause_ms_max=8_000, probes=2)


def opened(policy: Policy = POLICY) -> Breaker:
    """A breaker that opened at 100 ms, for a whole pause."""
    breaker = Breaker(policy)
    assert [breaker.failed(f"t{number}", 100, 1.0) for number in range(policy.failures)][-1]
    return breaker


def test_different_tasks_in_a_row_open_it_one_task_never_does() -> None:
    """A poisoned task fails as often as it likes; a success in between begins the count anew."""
    breaker = Breaker(POLICY)
    assert not any(breaker.failed("poison", now_ms, 0.5) for now_ms in range(100, 9_000, 10))
    breaker.succeeded("well", 9_000)
    assert not breaker.failed("a", 9_001, 0.5)
    assert not breaker.failed("b", 9_002, 0.5)
    assert breaker.failed("c", 9_003, 0.5)
    assert (breaker.state, breaker.why) == (State.OPEN, "3 tasks failed one after the other")


def test_a_share_of_enough_tasks_opens_it() -> None:
    """Every other task fails: not before there are ten, and the same tasks again do not count."""
    breaker = Breaker(POLICY)
    for number in range(4):
        breaker.failed(f"bad{number}", 100, 0.5)
        breaker.failed(f"bad{number}", 101, 0.5)
        breaker.succeeded(f"good{number}", 102)
    assert breaker.counted(102) == (4, 4)
    breaker.succeeded("good4", 103)
    assert breaker.failed("bad4", 104, 0.5)
    assert breaker.why == "5 of 10 tasks failed"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    """Failures that are far apart never add up to a share."""
    policy = Policy(failures=1_000, ratio=0.5, volume=3, window_ms=10_000)
    breaker = Breaker(policy)
    assert not any(breaker.failed(f"t{number}", number * 6_000, 0.5) for number in range(50))
    assert breaker.counted(10**6) == (0, 0)


def test_open_then_probes_then_closed() -> None:
    """Nothing starts until the pause is over; then so many at a time; all of them have to succeed."""
    breaker = opened()
    assert (breaker.room(1_099), breaker.next_ms()) == (0, 1_100)
    assert breaker.room(1_100) == 2
    breaker.started("p1", 1_101)
    assert breaker.room(1_101) == 1
    breaker.started("p2", 1_101)
    assert breaker.room(1_101) == 0
    breaker.succeeded("old", 1_102)  # began before it opened: says nothing of now
    assert not breaker.failed("older", 1_102, 0.5)
    breaker.succeeded("p1", 1_103)
    assert (breaker.room(1_103), breaker.state) == (0, State.HALF_OPEN)
    breaker.neutral("p2")
    assert breaker.room(1_104) == 1
    breaker.started("p3", 1_105)
    breaker.succeeded("p3", 1_106)
    assert (breaker.room(1_106), breaker.state) == (None, State.CLOSED)


def test_a_probe_that_fails_opens_it_for_longer_up_to_a_bound() -> None:
    """1 s, 2 s, 4 s, 8 s, 8 s; and anew from 1 s when it was well for a whole window."""
    breaker = opened()
    pauses = []
    for number in range(5):
        at_ms = breaker.next_ms()
        breaker.started(f"p{number}", at_ms)
        assert breaker.failed(f"p{number}", at_ms, 1.0)
        pauses.append(breaker.next_ms() - at_ms)
    assert pauses == [2_000, 4_000, 8_000, 8_000, 8_000]
    at_ms = breaker.next_ms()
    for name in ("q1", "q2"):
        breaker.started(name, at_ms)
        breaker.succeeded(name, at_ms)
    later_ms = at_ms + POLICY.window_ms + 1
    for name in ("a", "b", "c"):
        breaker.failed(name, later_ms, 1.0)
    assert breaker.next_ms() - later_ms == 1_000
    assert breaker.opened == 7


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "good", "bad", "neutral"]), st.integers(0, 5), st.integers(0, 4_000),
        st.floats(0, 1),
    ),
    max_size=120,
)  # fmt: skip


@given(steps=_STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_happens_it_keeps_its_promises(steps: list[tuple[str, int, int, float]]) -> None:
    """Open lets nothing through and ends by its cap; probes are bounded; in the end a well agent is used again."""
    breaker, now_ms, running, shut_ms = Breaker(POLICY), 0, set[str](), 0
    for what, number, passed_ms, draw in steps:
        now_ms += passed_ms
        name = f"t{number}"
        room = breaker.room(now_ms)
        assert (room is None) == (breaker.state is State.CLOSED)
        if breaker.state is State.OPEN:
            assert room == 0
            assert 0 < breaker.next_ms() - now_ms <= POLICY.pause_ms_max
        if what == "start" and room != 0 and name not in running:
            breaker.started(name, now_ms)
            running.add(name)
        elif name in running:
            running.discard(name)
            before = breaker.state
            if what == "good":
                breaker.succeeded(name, now_ms)
                assert breaker.state is not State.OPEN or before is State.OPEN
            elif what == "bad":
                breaker.failed(name, now_ms, draw)
            else:
                breaker.neutral(name)
                assert breaker.state is before
        shut_ms = breaker.next_ms()
        assert len(breaker._probing) <= POLICY.probes
    for number in range(POLICY.probes + 2):  # everybody else is gone, the agent is well
        for name in running:
            breaker.neutral(name)
        now_ms = max(now_ms, shut_ms) + POLICY.pause_ms_max
        if breaker.room(now_ms):
            breaker.started(f"last{number}", now_ms)
            breaker.succeeded(f"last{number}", now_ms)
    assert breaker.room(now_ms) is None


@given(
    share=st.floats(0, 1), least_us=st.integers(10_000, 5_000_000),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 500)), max_size=300),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_retries_never_outrun_their_budget(share: float, least_us: int, steps: list[tuple[bool, int]]) -> None:
    """Up to any time no more retries are let go than the burst, the share of first attempts and the rate allow."""
    budget, now_ms, first, due = Budget(BudgetPolicy(share, least_us)), 0, 0, list[tuple[int, int]]()
    for is_retry, passed_ms in steps:
        now_ms += passed_ms
        if is_retry:
            due.append((now_ms + budget.take(now_ms), first))
        else:
            first += 1
            budget.attempted(now_ms)
    for at_ms, _ in due:
        let_go = sum(other_ms <= at_ms for other_ms, _ in due)
        assert let_go <= RETRY_BUDGET_BURST + share * first + at_ms * 1_000 / least_us + 1


def test_a_token_that_was_not_needed_is_given_back() -> None:
    """A failure that led to no retry costs nothing."""
    budget = Budget(BudgetPolicy(0.0, 1_000_000))
    for _ in range(3 * RETRY_BUDGET_BURST):
        budget.give_back(0, budget.take(0))
    assert (budget.tokens(0), budget.delayed) == (RETRY_BUDGET_BURST, 0)
    holds = [budget.take(0) for _ in range(RETRY_BUDGET_BURST + 3)]
    assert holds[-4:] == [0, 1_000, 2_000, 3_000]


@given(pause_ms=st.integers(1, 60_000), hold_ms=st.integers(0, 10**6), left_ms=st.integers(-10, 10**6))
def test_a_budget_never_delays_a_retry_past_its_deadline(pause_ms: int, hold_ms: int, left_ms: int) -> None:
    """What the budget adds ends at the half of the time that is left; the pause itself is not touched."""
    held_ms = Retry().held_ms(pause_ms, hold_ms, left_ms)
    assert pause_ms <= held_ms <= pause_ms + hold_ms
    assert held_ms == pause_ms or held_ms <= left_ms // 2
