"""Why it exists: what each driver must do with a task that ends badly and has something better than an error.

A part of ``store_contract_states.FullStoreContract``, which a driver's tests derive from.
"""

from __future__ import annotations

from typing import Any

from sutazai.store import model
from sutazai.store.failure import Failure, FallBack, Fallback
from sutazai.testing.store_contract import StoreContract, expect

_OPEN = Failure("circuit-open", "the circuit of b is open")


class FallbackContract(StoreContract):
    """Tests of fallbacks."""

    def waits_for(self, *children: model.NewTask, **fields: Any) -> None:
        """Let ``top`` of agent ``a`` wait for children."""
        self.submit("top", **fields)
        wait = model.Wait(tuple(child.id for child in children), "go_on")
        self.commit(self.claimed(), "wait", wait=wait, emits=children)

    def fail(self, agent: str, *, retryable: bool = False) -> str:
        """Fail the next task of an agent; gives its status then."""
        failure = Failure("boom", "it broke", retryable=retryable)
        return self.commit(self.claimed(agent), "failed", failure=failure).status

    def kinds(self, name: str) -> list[str]:
        """What happened to a task."""
        return [event.kind for event in self.do(model.Events(name))]

    def test_a_value_takes_the_place_of_a_failure(self) -> None:
        """The parent goes on with it and is told why; the history shows the failed turn and what was done instead."""
        self.waits_for(self.task("c", "b", fallback=Fallback(value='{"n":1}')))
        expect(self.fail("b"), "succeeded", "the end")
        turn = self.claimed()
        result = turn.results[0]
        expect((result["status"], result["result"], result["error"]), ("succeeded", '{"n":1}', None), "the result")
        used = result["fallback"]
        expect((used["status"], used["by"], used["instead_of"]), ("failed", "value", "b.do"), "what was done")
        expect(used["error"]["message"], "it broke", "why")
        expect(self.get("c")["fallback"], used, "the task says the same")
        [_, child] = self.do(model.Tree("top", 10))
        expect([(past["outcome"], past["error"]["code"]) for past in child["turns"]], [("failed", "boom")], "history")
        expect((self.kinds("c")[-1], self.store.counts.of("b").open), ("succeeded", 0), "its last event")

    def test_another_agent_takes_over_under_the_same_name(self) -> None:
        """Same identifier, own input and attempts; it is over when that agent is done, and there is no third."""
        other = Fallback(agent="c", skill="cheap", input='{"n":2}', deadline_ms=5_000, attempts_max=1)
        self.waits_for(self.task("x", "b", attempts_max=1, fallback=other))
        expect(self.fail("b", retryable=True), "queued", "what would be dead")
        expect((self.store.counts.of("b").open, self.store.counts.of("b").dead), (0, 0), "the first agent")
        expect((self.store.counts.of("c").ready, self.store.counts.of("c").bytes), (1, 7), "the second agent")
        turn = self.claimed("c")
        expect((turn.task, turn.skill, turn.input, turn.attempt), ("x", "cheap", '{"n":2}', 1), "its turn")
        expect(self.kinds("x"), ["queued", "leased", "fallback", "queued", "leased"], "its events")
        failure = Failure("boom", "this one too", retryable=False)
        expect(self.commit(turn, "failed", failure=failure).status, "failed", "its end")
        result = self.claimed().results[0]
        expect((result["agent"], result["error"]["message"]), ("c", "this one too"), "the parent's result")
        expect((result["fallback"]["status"], result["fallback"]["by"]), ("dead", "c.cheap"), "and what was before")

    def test_the_other_agent_has_no_more_time_than_who_waits(self) -> None:
        """What its deadline ended leaves the other agent what the parent has left; nothing left, nothing tried."""
        other = Fallback(agent="c", skill="do", deadline_ms=50_000)
        self.waits_for(self.task("x", "b", deadline_ms=1_000, fallback=other), deadline_ms=4_000)
        turn = self.claimed("b")
        self.now_ms += 1_001
        outcome = self.outcome(model.Expire())
        expect((outcome.revoked, self.status("x")), ([("x", turn.fence)], "queued"), "after its deadline")
        expect(self.get("x")["deadline_left_ms"], 2_999, "what the parent has left")
        self.now_ms += 2_999
        self.do(model.Expire())
        expect((self.status("x"), self.status("top")), ("cancelled", "expired"), "at the parent's deadline")

    def test_a_cancelled_task_has_no_fallback(self) -> None:
        """Nobody wants it any more."""
        self.waits_for(self.task("x", "b", fallback=Fallback(value="1")))
        self.do(model.Cancel("top"))
        expect((self.status("x"), self.get("x")["fallback"]), ("cancelled", None), "the child")

    def test_a_lost_turn_that_was_the_last_falls_back(self) -> None:
        """Its instance died; so does its last attempt."""
        self.submit("x", attempts_max=1, fallback=Fallback(value="[]"))
        turn = self.claimed()
        expect(self.do(model.Lose("x", turn.fence, own=True, reason="died")), "succeeded", "the end")
        expect((self.get("x")["fallback"]["status"], self.get("x")["turns_ended"]), ("dead", 1), "what was done")

    def test_a_refused_call_ends_in_the_transaction_that_stores_it(self) -> None:
        """With a fallback it has its result, without one its error; the parent goes on at once when all are over."""
        self.waits_for(
            self.task("with", "b", refused=_OPEN, fallback=Fallback(value="7")),
            self.task("without", "b", refused=_OPEN),
        )
        turn = self.claimed()
        expect(
            [(result["status"], result["result"]) for result in turn.results],
            [("succeeded", "7"), ("failed", None)], "the results",
        )  # fmt: skip
        error = turn.results[1]["error"]
        expect((error["code"], error["retryable"]), ("circuit-open", True), "the error")
        expect(self.get("with")["turns_ended"], 0, "turns of what was refused")

    def test_what_waits_for_an_open_circuit_takes_its_fallback(self) -> None:
        """Queued ones of that agent, also those in the pause of a retry; others, running ones and others' stay."""
        for name, agent in (("r", "b"), ("p", "b"), ("q", "b"), ("other", "c")):
            self.submit(name, agent, fallback=Fallback(value="0"))
        self.submit("plain", "b")
        running = self.claimed("b")
        self.fail("b", retryable=True)
        reply = self.do(FallBack("b", _OPEN, limit=2))
        expect(reply > 0, wanted=True, what="it says where to go on")
        expect(self.do(FallBack("b", _OPEN, after=reply, limit=3)), 0, "and when it has seen all")
        found = {name: self.status(name) for name in ("r", "p", "q", "other", "plain")}
        wanted = {"r": "leased", "p": "succeeded", "q": "succeeded", "other": "queued", "plain": "queued"}
        expect(found, wanted, "who took it")
        expect(self.commit(running).status, "succeeded", "who ran")
        expect(self.get("r")["fallback"], None, "who did not need it")
        self.do(FallBack("b", _OPEN))
        expect(self.get("r")["fallback"], None, "after what is not needed was forgotten")
