"""Why it exists: a part of what each driver must pass: waiting for people, signals, the first of several; kept values.

A driver's tests derive from ``FullStoreContract``, which holds this too.
"""

from __future__ import annotations

from typing import Any

from sutazai.errors import InvalidInputError, NotFoundError, RefusedError
from sutazai.limits import KEPT_BYTES_MAX
from sutazai.store import model
from sutazai.store.failure import Failure
from sutazai.testing.store_contract import StoreContract, expect, expect_refused


class PeopleContract(StoreContract):
    """Tests for a driver."""

    def asks(self, *children: model.NewTask, count: int = 0, task: str = "t1") -> None:
        """Let a task wait for children."""
        self.submit(task)
        wait = model.Wait(tuple(child.id for child in children), "go_on", count=count)
        self.commit(self.claimed(), "wait", wait=wait, emits=children)

    def say(self, task: str, verdict: Any = "approve", **fields: Any) -> dict[str, Any]:
        """Say something to a task that waits."""
        fields.setdefault("by", "ada")
        found: dict[str, Any] = self.do(model.Resolve(task, verdict, **fields))
        return found

    # People

    def test_a_person_is_waited_for(self) -> None:
        """Nobody claims the question; the answer ends it, stands in the history, and lets the parent go on."""
        self.asks(self.task("ask", "human", skill="approve", input='{"text":"go?"}', label="deploy"))
        expect([task["id"] for task in self.do(model.Waiting(10))], ["ask"], "what waits")
        expect(self.get("ask")["label"], "deploy", "its label")
        expect(self.say("ask", comment="fine", data='{"n":1}')["status"], "succeeded", "the answer")
        turn = self.claimed()
        wanted = f'{{"verdict":"approve","by":"ada","comment":"fine","at_wall_ms":{self.now_ms},"data":{{"n":1}}}}'
        expect((turn.step, turn.results[0]["result"]), ("go_on", wanted), "the parent's next turn")
        said = self.do(model.Tree("ask", 10))[0]["turns"][0]
        expect((said["outcome"], b'"by":"ada"' in bytes(said["effects"])), ("approve", True), "the history")
        expect(self.do(model.Waiting(10)), [], "what waits afterwards")

    def test_a_no_is_a_failure(self) -> None:
        """The parent sees who said no, and why."""
        self.asks(self.task("ask", "human", skill="approve"))
        expect(self.say("ask", "deny", comment="too late")["status"], "failed", "the answer")
        error = self.claimed().results[0]["error"]
        expect((error["code"], error["message"]), ("denied", "denied by ada: too late"), "the error")

    def test_one_answer_stands(self) -> None:
        """The same answer under its key is answered alike; any other is refused and told who was first."""
        self.asks(self.task("ask", "human", skill="approve"))
        first = self.say("ask", key="k1")
        expect(self.say("ask", key="k1"), first, "the repeated answer")
        expect_refused(RefusedError, lambda: self.say("ask", key="k2"), "approved by ada")
        expect_refused(RefusedError, lambda: self.say("ask"), "approved by ada")
        expect_refused(RefusedError, lambda: self.say("ask", "deny", key="k1", by="bob"), "approved by ada")
        expect(self.status("ask"), "succeeded", "the status")

    def test_what_does_not_wait_is_refused(self) -> None:
        """Unknown, somebody's work, the wrong word, cancelled, past its deadline."""
        self.submit("work", "b")
        self.asks(self.task("ask", "human", skill="approve"), self.task("sign", "signal", skill="paid", deadline_ms=50))
        expect_refused(NotFoundError, lambda: self.say("none"), "'none'")
        expect_refused(InvalidInputError, lambda: self.say("work"), "nothing below work waits for a person")
        expect_refused(InvalidInputError, lambda: self.say("sign"), "the signal 'paid'")
        expect_refused(InvalidInputError, lambda: self.say("ask", "signal"), "a person")
        expect_refused(InvalidInputError, lambda: self.say("sign", "signal", skill="other"), "the signal 'paid'")
        self.now_ms += 50
        self.do(model.Expire())
        expect_refused(RefusedError, lambda: self.say("sign", "signal"), "it is expired")
        self.do(model.Cancel("t1"))
        expect_refused(RefusedError, lambda: self.say("ask"), "it is cancelled")
        expect_refused(RefusedError, lambda: self.say("t1"), "t1 is cancelled")

    def test_the_only_one_below_is_meant(self) -> None:
        """A task above may be named; of several the right one must be, a signal by its name."""
        self.asks(
            self.task("s1", "signal", skill="paid"),
            self.task("s2", "signal", skill="sent"),
            self.task("ask", "human", skill="approve"),
        )
        expect(
            [self.say("t1", key="k1")["id"] for _ in range(2)], ["ask", "ask"], "who was meant, also when told again"
        )
        expect_refused(RefusedError, lambda: self.say("t1", "deny", key="k1"), "approved by ada")
        expect_refused(InvalidInputError, lambda: self.say("t1"), "nothing below t1 waits for a person now", "s1")
        expect_refused(InvalidInputError, lambda: self.say("t1", "signal"), "s1 (paid), s2 (sent)")
        expect(self.say("t1", "signal", skill="sent")["id"], "s2", "the named signal")
        expect(self.say("t1", "signal")["id"], "s1", "the last signal")
        expect(len(self.claimed().results), 3, "the results")

    # The first of several

    def test_the_first_of_several_wakes(self) -> None:
        """The step gets all of them; those that run on may be waited for again, and count for that wait alone."""
        children = tuple(self.task(f"c{number}", "b") for number in range(3))
        self.asks(*children, count=1)
        expect(self.get("t1")["children_open"], 1, "ends that are waited for")
        self.finish("b")
        turn = self.claimed()
        expect([result["status"] for result in turn.results], ["succeeded", "queued", "queued"], "the results")
        self.finish("b")
        expect(self.status("t1"), "leased", "an end in the middle of the turn changes nothing")
        self.commit(turn, "wait", wait=model.Wait(("c2",), "go_on", count=1))
        expect(self.status("t1"), "waiting", "it waits for the last one")
        self.finish("b")
        expect(self.claimed().results[0]["status"], "succeeded", "the last one")

    def test_an_end_counts_for_its_own_wait(self) -> None:
        """A child of an earlier wait that is not named again does not wake the later one."""
        self.asks(self.task("c1", "b"), self.task("c2", "b"), count=1)
        self.finish("b")
        turn = self.claimed()
        self.commit(turn, "wait", wait=model.Wait(("c3",), "go_on"), emits=(self.task("c3", "c"),))
        self.finish("b")
        expect(self.status("t1"), "waiting", "after the end of the old child")
        self.finish("c")
        expect(self.claimed().results[0]["task"], "c3", "after the end of the new one")

    def test_enough_ends_before_the_wait(self) -> None:
        """When so many are over already, the task goes on at once; more than there are means all."""
        self.submit("t1")
        turn = self.claimed()
        children = (self.task("c1", "b"), self.task("c2", "b"))
        self.commit(turn, "checkpoint", emits=children)
        self.finish("b")
        self.commit(turn, "wait", wait=model.Wait(("c1", "c2"), "go_on", count=1))
        expect(self.claimed().step, "go_on", "the next turn")
        self.asks(self.task("c3", "b"), count=9, task="t2")
        expect(self.get("t2")["children_open"], 1, "all of them")

    # Kept values

    def recall(self, task: str, *names: str, results: tuple[str, ...] = (), agent: str = "a") -> model.Recalled:
        """Read what was kept."""
        found: model.Recalled = self.do(model.Recall(agent, task, names, results))
        return found

    def test_values_are_kept_with_the_turn(self) -> None:
        """They are there after the commit, are replaced by name, and not kept by a turn that is lost or refused."""
        self.submit("t1")
        turn = self.claimed()
        self.commit(turn, "checkpoint", keeps=(("x", "1"), ("y", '"two"')))
        self.commit(turn, "checkpoint", keeps=(("x", "3"),))
        expect(self.recall("t1", "x", "y", "z").values, {"x": "3", "y": '"two"'}, "the values")
        expect(self.recall("t1", "x").left, [], "nothing is left out")
        large = (("large", "1" * (KEPT_BYTES_MAX + 1)),)
        expect(self.commit(turn, keeps=large).status, "failed", "too large a value")
        expect(self.recall("t1", "large").values, {}, "nothing of it")

    def test_results_are_read_on_demand(self) -> None:
        """By the agent whose task emitted them; also of open ones, and of those that failed."""
        self.asks(*(self.task(f"c{number}", "b") for number in range(3)))
        self.commit(self.claimed("b"), result='{"n":1}')
        self.commit(self.claimed("b"), "failed", failure=Failure("x", "y", retryable=False))
        found = self.recall("t1", results=("c0", "c1", "c2", "none")).results
        ends = [(entry["task"], entry["status"], entry["result"]) for entry in found]
        expect(ends, [("c0", "succeeded", '{"n":1}'), ("c1", "failed", None), ("c2", "queued", None)], "the results")
        expect(found[1]["error"]["code"], "x", "the error")
        expect_refused(RefusedError, lambda: self.recall("c0", agent="a"), "is not one of a")
        self.submit("other", "c")
        expect_refused(RefusedError, lambda: self.recall("other", results=("c0",), agent="c"), "others'")
        expect_refused(NotFoundError, lambda: self.recall("none"))

    def test_what_does_not_fit_is_asked_for_again(self) -> None:
        """An answer never grows beyond a frame; what is left is named."""
        self.submit("t1")
        names = [f"n{number}" for number in range(8)]
        text = f'"{"x" * (KEPT_BYTES_MAX - 10)}"'
        self.commit(self.claimed(), keeps=tuple((name, text) for name in names))
        first = self.recall("t1", *names)
        again = self.recall("t1", *first.left)
        expect(sorted([*first.values, *again.values]), names, "both answers")
        expect(0 < len(first.left) < len(names), wanted=True, what="some are left")

    def test_kept_values_go_with_their_task(self) -> None:
        """They are forgotten with it."""
        self.submit("t1")
        self.commit(self.claimed(), keeps=(("x", "1"),))
        self.submit("t2")
        self.finish()
        expect(self.do(model.Purge(0)), 2, "forgotten tasks")
        expect_refused(NotFoundError, lambda: self.recall("t1", "x"))
