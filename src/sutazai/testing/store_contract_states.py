"""Why it exists: the last part of what each driver must pass: how long the states of sessions are kept.

A driver's tests derive from ``FullStoreContract``, which holds the other parts too.
"""

from __future__ import annotations

from sutazai.errors import InvalidInputError, NotFoundError
from sutazai.store import model
from sutazai.store.ends import Outcomes
from sutazai.store.failure import Failure
from sutazai.store.protocol import ClockReading
from sutazai.testing.store_contract import expect, expect_refused
from sutazai.testing.store_contract_fallbacks import FallbackContract
from sutazai.testing.store_contract_people import PeopleContract
from sutazai.testing.store_contract_signals import SignalsContract
from sutazai.testing.store_contract_spill import SpillContract
from sutazai.testing.store_contract_times import TimesContract

_DAY_MS = 24 * 3_600_000


class FullStoreContract(FallbackContract, PeopleContract, SignalsContract, SpillContract, TimesContract):
    """All tests for a driver."""

    # States

    def kept(self, session: str = "s") -> bool:
        """Whether a session's state is still there."""
        return self.do(model.ReadState("a", session)) is not None

    def purge(self, keep_ms: int = _DAY_MS) -> int:
        """Forget states of ``a``."""
        return int(self.do(model.PurgeStates((("a", keep_ms),))))

    def with_state(self, session: str, agent: str = "a") -> None:
        """Let a session have a state."""
        self.submit(f"{agent}-{session}-{self.now_ms}", agent, session=session)
        self.commit(self.claimed(agent), state="{}", state_version=0)

    def test_a_state_is_forgotten_when_its_session_rested_for_long(self) -> None:
        """Not a moment before; a task that changed nothing counts as use, and so does one that failed."""
        self.with_state("s")
        self.now_ms += _DAY_MS - 1
        expect((self.purge(), self.kept()), (0, True), "a moment before")
        self.submit("use", session="s")
        self.commit(self.claimed(), "failed", failure=Failure("x", "y", retryable=False))
        self.now_ms += _DAY_MS - 1
        expect((self.purge(), self.kept()), (0, True), "a moment before, after a task")
        self.now_ms += 1
        expect((self.purge(), self.kept(), self.purge()), (1, False, 0), "then")
        self.submit("new", session="s")
        expect(self.claimed().state_version, 0, "the session begins anew")

    def test_a_state_with_an_open_task_is_never_forgotten(self) -> None:
        """However long the task waits for its time or its children; its end starts the time anew."""
        self.with_state("s")
        self.submit("late", session="s", delay_ms=40 * _DAY_MS, deadline_ms=90 * _DAY_MS)
        self.now_ms += 39 * _DAY_MS
        expect((self.purge(), self.kept()), (0, True), "while a task is open")
        self.do(model.Cancel("late"))
        expect((self.purge(), self.kept()), (0, True), "when it has just ended")
        self.now_ms += _DAY_MS
        expect((self.purge(), self.kept()), (1, False), "a day later")

    def test_states_are_forgotten_by_agent_and_in_slices(self) -> None:
        """Who is not named keeps all; one operation forgets no more than its bound, the longest unused first."""
        for session in ("s1", "s2", "s3"):
            self.with_state(session)
            self.now_ms += 1
        self.with_state("s1", "b")
        self.now_ms += _DAY_MS
        expect(self.do(model.PurgeStates((("a", _DAY_MS),), limit=2)), 2, "a slice")
        expect([self.kept(session) for session in ("s1", "s2", "s3")], [False, False, True], "the longest unused")
        expect(self.do(model.ReadState("b", "s1")) is not None, wanted=True, what="another agent's")
        expect(self.do(model.PurgeStates((("a", _DAY_MS), ("b", _DAY_MS)))), 2, "several agents")

    # How tasks ended

    def test_the_ends_of_many_tasks_are_read_together(self) -> None:
        """Of those that are over; one that nobody knows refuses the question."""
        for name in ("t1", "t2", "t3"):
            self.submit(name)
        self.commit(self.claimed(), result='{"n": 1}')
        self.commit(self.claimed(), "failed", failure=Failure("x", "y", retryable=False))
        found = self.do(Outcomes(("t3", "t2", "t1"))).tasks
        ends = {
            task["task"]: (task["status"], bytes(task["result"]), (task["error"] or {}).get("code")) for task in found
        }
        expect(ends, {"t1": ("succeeded", b'{"n": 1}', None), "t2": ("failed", b"null", "x")}, "the ends")
        expect_refused(NotFoundError, lambda: self.do(Outcomes(("t1", "none"))), "none")

    # Groups

    def test_what_is_refused_in_a_group_leaves_nothing_of_itself(self) -> None:
        """Also when it had written already, and more than once: the group is as if it had not been asked."""
        clash = (self.task("new1", "b"), self.task("t1", input='"another"'))
        again = (self.task("new2"), self.task("new3", "b"), self.task("t2", input='"another"'))
        steps: list[model.Operation | tuple[model.NewTask, ...]] = [
            model.Submit((self.task("t1"), self.task("t2", session="s"))),
            model.Claim("a", "k1", 7),
            clash,
            model.Commit("t1", 1, "k1", "result", result="1"),
            again,
            model.Submit((self.task("t3"),)),
            model.Claim("a", "k1", 7),
            clash,
        ]
        self.store.begin()
        done = []
        for step in steps:
            if isinstance(step, tuple):
                expect_refused(InvalidInputError, lambda step=step: self._apply(model.Submit(step)), "another skill")
            else:
                done.append(self._apply(step).reply)
        expect(self.store.wrote(), wanted=True, what="the group wrote")
        expect([turn.task for turn in (done[1], done[4]) if turn is not None], ["t1", "t2"], "the turns")
        counts = self.store.counts
        expect((counts.open, counts.of("a").leased, counts.of("a").ready, counts.of("b").open), (2, 1, 1, 0), "counts")
        self.store.commit(ClockReading(5, 6, 7, "boot"))
        found = {task["id"]: task["status"] for task in self.do(model.List(None, None, 10))}
        expect(found, {"t1": "succeeded", "t2": "leased", "t3": "queued"}, "what is stored")
        expect([event.kind for event in self.do(model.Events("t1"))], ["queued", "leased", "succeeded"], "events")

    def test_a_group_of_nothing_but_refusals_writes_nothing(self) -> None:
        """Nobody waits for the disk then."""
        self.submit("t1")
        self.store.begin()
        given = model.Submit((self.task("new"), self.task("t1", input='"another"')))
        expect_refused(InvalidInputError, lambda: self._apply(given))
        expect_refused(InvalidInputError, lambda: self._apply(given))
        self.store.commit(ClockReading(5, 6, 7, "boot"))
        expect([task["id"] for task in self.do(model.List(None, None, 10))], ["t1"], "what is stored")
        self.submit("new")
        expect(self.store.counts.of("a").ready, 2, "ready")

    def _apply(self, operation: model.Operation) -> model.Outcome:
        return self.store.apply(operation, self.now_ms, self.now_ms)

    # What may be claimed

    def test_the_tasks_that_may_be_claimed_are_named(self) -> None:
        """Of one agent, none that is leased, delayed, behind its session or over; the last to be claimed first."""
        for name, priority in (("first", 0), ("second", 5), ("third", 9)):
            self.submit(name, priority=priority)
        self.submit("late", delay_ms=60_000)
        self.submit("s1", priority=9, session="s")
        self.submit("s2", session="s")
        self.submit("other", "b")
        expect(self.do(model.Ready("a", 10)), ["s1", "third", "second", "first"], "all that are ready")
        expect(self.claimed().task, "first", "claimed")
        self.do(model.Cancel("third"))
        expect(self.do(model.Ready("a", 10)), ["s1", "second"], "what is left")
        expect(self.do(model.Ready("a", 1)), ["s1"], "no more than asked for")
        expect(self.do(model.Ready("nobody", 10)), [], "an agent without tasks")
