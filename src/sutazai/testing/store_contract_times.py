"""Why it exists: what each driver must do about time: rates of agents, pauses between attempts, times of schedules.

A part of ``store_contract_states.FullStoreContract``, which a driver's tests derive from.
"""

from __future__ import annotations

from sutazai.errors import QueueFullError
from sutazai.limits import QUEUE_BYTES_MAX, QUEUE_TASKS_MAX, SCHEDULE_BACK_MS
from sutazai.store import model
from sutazai.store.failure import Failure
from sutazai.store.times import Bound, Claimable, Occur, Rate, Retry, Schedules, Seen
from sutazai.testing.store_contract import expect, expect_refused
from sutazai.testing.store_contract_dead import DeadLetterContract


class TimesContract(DeadLetterContract):
    """Tests of rates, pauses and schedules."""

    def limited(self, rate: Rate) -> tuple[str | None, int]:
        """Claim under a rate; gives the task and when the next may start, from now."""
        found = self.outcome(model.Claim("a", "k1", 7, rate))
        left_ms = found.limited_ms - self.now_ms if found.limited_ms else 0
        return (found.reply.task if found.reply else None), left_ms

    def test_a_rate_is_held_by_the_claim(self) -> None:
        """After the burst one in each interval; the answer says when; other agents and claims without it go on."""
        rate = Rate(interval_us=100_000, burst=2)
        for number in range(6):
            self.submit(f"t{number}")
        self.submit("other", "b")
        expect([self.limited(rate) for _ in range(3)], [("t0", 0), ("t1", 0), (None, 100)], "the burst")
        expect(self.status("t2"), "queued", "what waits")
        expect(self.claimed("b").task, "other", "another agent's task")
        self.now_ms += 99
        expect(self.limited(rate), (None, 1), "a moment before")
        self.now_ms += 1
        expect([self.limited(rate) for _ in range(2)], [("t2", 0), (None, 100)], "at its time")
        self.now_ms += 1_000
        expect([self.limited(rate)[0] for _ in range(3)], ["t3", "t4", None], "no more than the burst after a pause")

    def test_a_claim_that_finds_nothing_costs_nothing(self) -> None:
        """Without a due task, or in a group that is rolled back, the rate is not used."""
        rate = Rate(interval_us=100_000)
        expect(self.limited(rate), (None, 0), "a claim without a task")
        self.submit("t1")
        self.store.begin()
        self.store.apply(model.Claim("a", "k1", 7, rate), self.now_ms, self.now_ms)
        self.store.rollback()
        expect(self.limited(rate), ("t1", 0), "after a group that was rolled back")

    def test_a_claim_may_pass_over_later_priorities(self) -> None:
        """Under pressure only tasks of a priority up to a number are claimed, in their order; the others stay."""
        for name, priority in (("late", 7), ("soon", 3), ("first", 0)):
            self.submit(name, priority=priority)
        expect(self.do(Claimable(("a", "b"), 3)), ["a"], "who has something")
        claims = [self.do(model.Claim("a", "k1", 7, priority_max=3)) for _ in range(3)]
        expect([turn.task if turn else None for turn in claims], ["first", "soon", None], "what is claimed")
        expect((self.do(Claimable(("a",), 3)), self.store.counts.of("a").ready), ([], 1), "what is left")
        expect(self.claimed().task, "late", "without pressure")

    # Bounds

    def test_a_queue_is_bounded_in_bytes(self) -> None:
        """Inputs of open tasks count, in bytes, not in characters; what ends makes room; a restart counts the same."""
        self.submit("t1", input='"ä"')
        expect(self.store.counts.bytes, 4, "bytes of one input")
        self.submit("t2", input='"' + "x" * 96 + '"')
        self.store.begin()
        self.store.rollback()
        expect((self.store.counts.bytes, self.store.counts.of("a").bytes), (102, 102), "counted anew")
        self.store.counts.bytes += QUEUE_BYTES_MAX - 104
        expect_refused(
            QueueFullError, lambda: self.submit("t3", input='"xxxxx"'), "bytes of input", str(QUEUE_BYTES_MAX)
        )
        self.do(model.Cancel("t2"))
        expect(self.submit("t3", input='"xxxxx"').duplicate, wanted=False, what="when there is room")
        self.commit(self.claimed())
        self.store.begin()
        self.store.rollback()
        expect(self.store.counts.bytes, 7, "what is left")

    def test_an_agents_queue_may_have_bounds_of_its_own(self) -> None:
        """In tasks and in bytes; a submission counts as a whole, other agents are not touched, turns may pass it."""
        two, small = Bound(tasks_max=2), Bound(bytes_max=10)
        self.submit("t1", queue=two)
        batch = tuple(self.task(name, queue=two) for name in ("t2", "t3"))
        expect_refused(QueueFullError, lambda: self.do(model.Submit(batch)), "1 tasks of a are open", "its bound is 2")
        self.submit("t2", queue=two)
        self.submit("o1", "b", queue=small, input='"xxxx"')
        expect_refused(QueueFullError, lambda: self.submit("o2", "b", queue=small, input='"xxxx"'), "its bound of 10")
        self.commit(self.claimed(), emits=(self.task("c1", "a", queue=two), self.task("c2", "a", queue=two)))
        expect(self.store.counts.of("a").open, 3, "what a turn emitted")

    def test_pauses_are_those_of_the_operation(self) -> None:
        """A failed commit and a loss of its own wait by the agent's retry; a loss of the infrastructure does not."""
        retry = Retry(base_ms=1_000, factor=3.0, max_ms=2_000)
        self.submit("t1", attempts_max=9)
        failure = Failure("x", "y")
        self.commit(self.claimed(), "failed", failure=failure, retry=retry, jitter=0.5)
        expect(self.get("t1")["due_in_ms"], 500, "the first pause")
        self.now_ms += 500
        self.do(model.Promote())
        self.do(model.Lose("t1", self.claimed().fence, own=True, reason="test", retry=retry))
        expect(self.get("t1")["due_in_ms"], 2_000, "the second pause")
        self.now_ms += 2_000
        self.do(model.Promote())
        self.do(model.Lose("t1", self.claimed().fence, own=False, reason="test", retry=retry))
        expect(self.get("t1")["due_in_ms"], 0, "after a loss of the infrastructure")

    # Schedules

    def occur(self, at_wall_ms: int, *, left_out: bool = False) -> model.Accepted | None:
        """A time of a schedule has come."""
        task = None if left_out else self.task(f"s{at_wall_ms}", schedule="nightly", named=False)
        accepted: model.Accepted | None = self.do(Occur("a", "nightly", at_wall_ms, task))
        return accepted

    def test_a_time_of_a_schedule_is_done_once(self) -> None:
        """The second time it is nothing, also when its task is long forgotten; the last one is remembered."""
        self.occur(1_000, left_out=True)
        first = self.occur(2_000)
        expect((first.id, first.duplicate) if first else None, ("s2000", False), "the first time")
        expect([self.occur(at) for at in (2_000, 1_500, 1_000)], [None] * 3, "the same and older times")
        self.finish()
        self.submit("newer")
        self.finish()
        expect(self.do(model.Purge(kept=1)), 1, "forgotten")
        expect(self.occur(2_000), None, "the same time, later")
        expect(self.do(Schedules()), [Seen("a", "nightly", 2_000, 2_000, "s2000")], "what is known")
        self.occur(3_000, left_out=True)
        expect(self.do(Schedules()), [Seen("a", "nightly", 3_000, 2_000, "s2000")], "after one left out")

    def test_a_clock_that_was_set_far_back_begins_anew(self) -> None:
        """What is stored is not done a second time; what never was is."""
        late = 10 * SCHEDULE_BACK_MS
        self.occur(2_000)
        self.occur(late)
        expect(self.occur(late - SCHEDULE_BACK_MS), None, "an hour back")
        again = self.occur(2_000)
        expect((again.id, again.duplicate) if again else None, ("s2000", True), "far back, a time that was done")
        fresh = self.occur(3_000)
        expect((fresh.id, fresh.duplicate) if fresh else None, ("s3000", False), "a time that never was")

    def test_a_full_queue_decides_nothing(self) -> None:
        """The time can be asked for again when there is room."""
        self.store.counts.open = QUEUE_TASKS_MAX
        expect_refused(QueueFullError, lambda: self.occur(2_000))
        self.store.counts.open = 0
        found = self.occur(2_000)
        expect(found.duplicate if found else None, wanted=False, what="when there is room")
