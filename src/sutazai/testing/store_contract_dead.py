"""Why it exists: what each driver must do with dead letters, and with idempotency keys that are taken for a time only.

A part of ``store_contract_states.FullStoreContract``, which a driver's tests derive from.
"""

from __future__ import annotations

from typing import Any

from sutazai.errors import InvalidInputError, NotFoundError, QueueFullError, RefusedError
from sutazai.ids import replay_task_id
from sutazai.limits import QUEUE_TASKS_MAX
from sutazai.store import model
from sutazai.store.failure import Failure
from sutazai.store.letters import DeadLetters, Discard, Replay
from sutazai.testing.store_contract import StoreContract, expect, expect_refused


class DeadLetterContract(StoreContract):
    """Tests of dead letters and of keys with a window."""

    def dead(self, name: str = "t1", agent: str = "a", **fields: Any) -> str:
        """Let a task die; gives its identifier."""
        self.submit(name, agent, attempts_max=1, **fields)
        turn = self.claimed(agent)
        expect(turn.task, name, "the task that is to die")
        expect(self.commit(turn, "failed", failure=Failure("boom", "it broke")).status, "dead", "its end")
        return name

    def replay(self, name: str) -> model.Accepted:
        """Do a dead letter again."""
        accepted: model.Accepted = self.do(Replay(name, "tester", 5_000))
        return accepted

    def letters(self, agent: str | None = None, *, handled: bool = False) -> list[str]:
        """Identifiers of dead letters."""
        return [task["id"] for task in self.do(DeadLetters(agent, handled, 10))]

    def test_dead_letters_are_listed_with_their_evidence(self) -> None:
        """Newest first, by agent, with the last error and the turns; a name that is not dead is refused."""
        for name, agent in (("t1", "a"), ("t2", "b"), ("t3", "a")):
            self.dead(name, agent)
        expect((self.letters(), self.letters("a"), self.letters("c")), (["t3", "t2", "t1"], ["t3", "t1"], []), "lists")
        found = self.do(DeadLetters(None, handled=False, limit=1))[0]
        expect((found["error"]["message"], found["attempt"], found["attempts_max"]), ("it broke", 1, 1), "the evidence")
        expect([turn["outcome"] for turn in found["turns"]], ["failed"], "the turns")
        self.submit("t4")
        one = DeadLetters(None, handled=True, limit=1, task="t4")
        expect_refused(RefusedError, lambda: self.do(one), "t4 is queued, not dead")
        expect_refused(NotFoundError, lambda: self.do(DeadLetters(None, handled=True, limit=1, task="none")))

    def test_a_dead_letter_is_replayed_once(self) -> None:
        """A new task with the same input, session and priority; linked both ways; a second replay is the same task."""
        self.dead(session="s", priority=3, input='{"x":1}', idempotency_key="k")
        first, again = self.replay("t1"), self.replay("t1")
        name = replay_task_id("t1")
        expect((first, again), (model.Accepted(name, "queued", False), model.Accepted(name, "queued", True)), "replays")  # noqa: FBT003
        old, new = self.get("t1"), self.get(name)
        expect((old["status"], old["handled"], old["handled_by"], old["replayed_by"], new["replay_of"]),
               ("dead", "replayed", "tester", name, "t1"), "the links")  # fmt: skip
        expect((new["session"], new["priority"], bytes(new["input"]), new["idempotency_key"], new["attempts_max"]),
               ("s", 3, b'{"x":1}', None, 1), "the new task")  # fmt: skip
        expect(self.finish(), name, "the task that runs")
        expect(self.replay("t1"), model.Accepted(name, "succeeded", True), "a replay after its end")  # noqa: FBT003

    def test_only_dead_letters_that_are_not_handled_count(self) -> None:
        """Replayed and discarded ones are listed only when asked for; counting anew gives the same numbers."""
        for name in ("t1", "t2", "t3"):
            self.dead(name)
        self.replay("t1")
        expect(self.do(Discard("t2", "tester")), wanted=False, what="the first time")
        expect(self.do(Discard("t2", "other")), wanted=True, what="the second time")
        expect((self.store.counts.of("a").dead, self.store.counts.of("a").ready), (1, 1), "the counts")
        self.store.begin()
        self.store.rollback()
        expect((self.store.counts.of("a").dead, self.store.counts.of("a").ready), (1, 1), "counted anew")
        expect((self.letters(), self.letters(handled=True)), (["t3"], ["t3", "t2", "t1"]), "lists")
        expect((self.get("t2")["handled"], self.get("t2")["handled_by"]), ("discarded", "tester"), "the evidence")

    def test_what_cannot_be_replayed_or_discarded_says_why(self) -> None:
        """What is not dead, what nobody knows, what was discarded or replayed, and a full queue."""
        self.submit("open")
        self.finish()
        for operation in (Replay("open", "x", 1), Discard("open", "x")):
            expect_refused(RefusedError, lambda o=operation: self.do(o), "open is succeeded, not dead")
        expect_refused(NotFoundError, lambda: self.replay("none"))
        expect_refused(NotFoundError, lambda: self.do(Discard("none", "x")))
        self.do(Discard(self.dead("t1"), "somebody"))
        expect_refused(RefusedError, lambda: self.replay("t1"), "discarded by somebody")
        self.replay(self.dead("t2"))
        expect_refused(RefusedError, lambda: self.do(Discard("t2", "x")), replay_task_id("t2"))
        self.finish()
        self.dead("t3")
        self.store.counts.open = QUEUE_TASKS_MAX
        expect_refused(QueueFullError, lambda: self.replay("t3"), str(QUEUE_TASKS_MAX))
        self.store.counts.open = 0
        expect(self.letters(), ["t3"], "it is still there")

    def test_handled_letters_are_forgotten_without_being_counted_twice(self) -> None:
        """Retention takes a handled letter and an open one; the numbers end at nothing."""
        self.dead("t1")
        self.dead("t2")
        self.do(Discard("t1", "x"))
        for number in range(3):
            self.submit(f"s{number}")
            self.finish()
        expect(self.do(model.Purge(kept=3)), 2, "forgotten")
        expect(self.store.counts.of("a").dead, 0, "dead letters")

    def test_a_replay_has_as_much_time_as_the_old_task(self) -> None:
        """And at least what its agent gives now."""
        self.dead("long", deadline_ms=60_000, delay_ms=0)
        self.dead("short", deadline_ms=10)
        self.now_ms += 1_000_000
        left = [self.get(self.replay(name).id)["deadline_left_ms"] for name in ("long", "short")]
        expect(left, [60_000, 5_000], "deadlines")

    # Keys with a window

    def test_a_key_is_free_again_after_its_window(self) -> None:
        """Within it the key names the first task; then a new one has it, and the old one does not get it back."""
        first = self.submit("t1", idempotency_key="k", key_window_ms=1_000)
        self.now_ms += 999
        inside = self.submit("t2", idempotency_key="k", key_window_ms=1_000)
        expect((first.id, inside.id, inside.duplicate), ("t1", "t1", True), "inside the window")
        self.now_ms += 1
        after = self.submit("t3", idempotency_key="k", input='{"other":1}')
        expect((after.id, after.duplicate), ("t3", False), "after the window, also with another input")
        self.now_ms += 1_000_000
        later = self.submit("t4", idempotency_key="k", input='{"other":1}')
        expect((later.id, later.duplicate), ("t3", True), "the new holder's key has no end")
        expect((self.get("t1")["idempotency_key"], self.get("t3")["idempotency_key"]), ("k", "k"), "both show it")

    def test_two_of_one_submission_share_a_window(self) -> None:
        """The second of a batch is the first one's double; with another input the batch is refused as a whole."""
        pair = tuple(self.task(name, idempotency_key="k", key_window_ms=10) for name in ("t1", "t2"))
        accepted = self.do(model.Submit(pair))
        expect([task.id for task in accepted], ["t1", "t1"], "one task")
        other = self.task("t3", idempotency_key="k", input='{"other":1}')
        expect_refused(InvalidInputError, lambda: self.do(model.Submit((self.task("t4"), other))), "'k'")
        expect_refused(NotFoundError, lambda: self.get("t4"))

    def test_a_turn_may_emit_under_a_key_that_is_free_again(self) -> None:
        """A key that is taken leaves the emitted task out, one whose window is over does not."""
        self.submit("taken", "b", idempotency_key="k", key_window_ms=100)
        for name, wanted in (("c1", 1), ("c2", 2)):
            self.submit(f"p-{name}")
            self.commit(self.claimed(), emits=(self.task(name, "b", idempotency_key="k", key_window_ms=100),))
            expect(self.store.counts.of("b").queued, wanted, name)
            self.now_ms += 100
