"""Rates and pauses: no time ever sees more starts than its rate allows, whatever is rolled back or changed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.limits import RETRY_BASE_MS, RETRY_CAP_MS
from sutazai.store import model
from sutazai.store.protocol import ClockReading
from sutazai.store.sqlite import SqliteStore
from sutazai.store.times import Rate, Retry
from sutazai.units import parse_rate_us

STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4), st.booleans()), max_size=60)


def submit(store: SqliteStore, count: int) -> None:
    """Give an agent work."""
    store.begin()
    tasks = tuple(model.NewTask(f"t{n}", "a", "do", "{}", 5, 10_000_000, 3) for n in range(count))
    store.apply(model.Submit(tasks), 1, 1)
    store.commit(ClockReading(1, 1, 1, ""))


@settings(max_examples=60, deadline=None)
@given(interval_us=st.integers(1_000, 30_000), burst=st.integers(1, 5), steps=STEPS)
def test_no_time_sees_more_starts_than_the_rate(
    interval_us: int, burst: int, steps: list[tuple[int, int, bool]]
) -> None:
    """For every pair of starts: as many between them as ``burst`` and the intervals between them; no start is lost."""
    store, rate = SqliteStore(None, ballast_bytes=0), Rate(interval_us, burst)
    submit(store, 240)
    now_ms, starts = 1_000, []
    for passed_ms, tries, kept in steps:
        now_ms += passed_ms
        store.begin()
        outcomes = [store.apply(model.Claim("a", "k", 1, rate), now_ms, now_ms) for _ in range(tries)]
        claimed = sum(outcome.reply is not None for outcome in outcomes)
        assert all(outcome.limited_ms > now_ms for outcome in outcomes if outcome.reply is None)
        if kept:
            store.commit(ClockReading(now_ms, 1, 1, ""))
            starts += [now_ms] * claimed
        else:
            store.rollback()
    for first, since_ms in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + (starts[last] - since_ms) * 1_000 // interval_us
    store.close()


@settings(max_examples=40, deadline=None)
@given(interval_us=st.integers(1_000, 300_000), burst=st.integers(1, 5))
def test_the_time_that_is_named_is_the_first_that_works(interval_us: int, burst: int) -> None:
    """A millisecond before it is refused, and at it a turn starts: nobody waits in vain or too long."""
    store, rate = SqliteStore(None, ballast_bytes=0), Rate(interval_us, burst)
    submit(store, 20)
    now_ms = 1_000
    for _ in range(burst + 3):
        store.begin()
        outcome = store.apply(model.Claim("a", "k", 1, rate), now_ms, now_ms)
        if outcome.reply is None:
            early = store.apply(model.Claim("a", "k", 1, rate), outcome.limited_ms - 1, 1)
            assert early.limited_ms == outcome.limited_ms
            now_ms = outcome.limited_ms
            assert store.apply(model.Claim("a", "k", 1, rate), now_ms, now_ms).reply is not None
        store.commit(ClockReading(now_ms, 1, 1, ""))
    store.close()


def test_a_faster_rate_is_not_held_by_the_old_one() -> None:
    """After a plan with another rate its own time counts; without one, none."""
    store = SqliteStore(None, ballast_bytes=0)
    submit(store, 5)
    store.begin()
    assert store.apply(model.Claim("a", "k", 1, Rate(parse_rate_us("1/d"))), 1_000, 1).reply
    limited = store.apply(model.Claim("a", "k", 1, Rate(parse_rate_us("1/d"))), 1_000, 1)
    assert limited.limited_ms == 1_000 + 86_400_000
    assert store.apply(model.Claim("a", "k", 1, Rate(parse_rate_us("10/s"))), 1_000, 1).limited_ms == 1_100
    assert store.apply(model.Claim("a", "k", 1, None), 1_000, 1).reply
    store.close()


@settings(deadline=None)  # a busy machine is no failure
@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1), factor=st.floats(1, 10), base=st.integers(1, 10_000))
def test_a_pause_is_never_longer_than_its_bound(attempt: int, jitter: float, factor: float, base: int) -> None:
    """Whatever the attempt and the factor; with a full draw it grows until it is at its longest."""
    retry = Retry(base, factor, 20_000)
    assert 1 <= retry.pause_ms(attempt, jitter) <= 20_000
    assert retry.pause_ms(attempt, 1.0) <= retry.pause_ms(attempt + 1, 1.0)


def test_pauses_double_from_the_first_to_the_longest() -> None:
    """The defaults: 200 ms, 400 ms … a minute."""
    pauses = [Retry().pause_ms(attempt, 1.0) for attempt in range(1, 11)]
    assert pauses == [min(RETRY_CAP_MS, RETRY_BASE_MS << growth) for growth in range(10)]
