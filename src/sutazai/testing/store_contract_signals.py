"""Why it exists: a part of what each driver must pass: signals that come before anybody waits for them.

A driver's tests derive from ``FullStoreContract``, which holds this too.
"""

from __future__ import annotations

import json
from typing import Any

from sutazai.errors import InvalidInputError, RefusedError
from sutazai.limits import KEPT_BYTES_MAX, SIGNAL_KEEP_MS, SIGNALS_KEPT_MAX
from sutazai.store import model
from sutazai.testing.store_contract import StoreContract, expect, expect_refused


class SignalsContract(StoreContract):
    """Tests for a driver."""

    def send(self, task: str, name: str = "paid", **fields: Any) -> dict[str, Any]:
        """Send a signal by its name."""
        found: dict[str, Any] = self.do(model.Resolve(task, "signal", "shop", skill=name, **fields))
        return found

    def kept_name(self, found: dict[str, Any]) -> str:
        """Name of the signal that an answer says is kept, empty when somebody got it."""
        return str(found.get("signal_kept", ""))

    def begin_wait(self, name: str = "paid", agent: str = "a") -> str:
        """Let the turn that is due wait for a signal; gives the waiting task."""
        turn = self.claimed(agent)
        child = self.task(f"{turn.task}-{turn.fence}", "signal", skill=name, deadline_ms=99 * SIGNAL_KEEP_MS)
        self.commit(turn, "wait", wait=model.Wait((child.id,), "go_on"), emits=(child,))
        return child.id

    def got(self, task: str) -> Any:
        """What a signal said to a waiting task that is over."""
        found = self.get(task)
        expect(found["status"], "succeeded", "the waiting task")
        return json.loads(bytes(found["result"]))["data"]

    def run_of(self, name: str) -> None:
        """Submit a task that lives longer than any signal."""
        self.submit(name, deadline_ms=99 * SIGNAL_KEEP_MS)

    def test_a_signal_that_comes_early_is_given_once(self) -> None:
        """Who begins to wait for it gets it in the same transaction, as it was said; the next one waits."""
        self.run_of("t1")
        said_ms = self.now_ms
        found = self.send("t1", data='{"n":1}', comment="fast")
        expect((found["id"], found["status"], self.kept_name(found)), ("t1", "queued", "paid"), "the answer")
        expect(self.do(model.Waiting(10)), [], "what waits")
        self.now_ms += 500
        child = self.begin_wait()
        turn = self.claimed()
        wanted = f'{{"verdict":"signal","by":"shop","comment":"fast","at_wall_ms":{said_ms},"data":{{"n":1}}}}'
        expect((turn.step, turn.results[0]["result"]), ("go_on", wanted), "the next turn")
        history = self.do(model.Tree(child, 10))[0]["turns"]
        expect([entry["outcome"] for entry in history], ["signal"], "the history")
        self.commit(turn, "wait", wait=model.Wait(("s2",), "on"), emits=(self.task("s2", "signal", skill="paid"),))
        expect(self.status("t1"), "waiting", "it was given once")
        expect(self.kept_name(self.send("t1")), "", "a signal that is waited for")
        expect(self.claimed().step, "on", "the last turn")

    def test_early_signals_are_given_in_order_to_the_right_ones(self) -> None:
        """By name, the oldest first; nobody gets what was sent to another task, but children of its task do."""
        self.run_of("t1")
        for name, data in (("paid", "1"), ("sent", "2"), ("paid", "3")):
            self.send("t1", name, data=data)
        self.run_of("t2")
        expect([self.got(self.begin_wait(name)) for name in ("paid", "paid", "sent")], [1, 3, 2], "what t1 got")
        self.finish()
        self.begin_wait()
        expect(self.status("t2"), "waiting", "who was sent nothing")
        self.run_of("t3")
        self.send("t3", data="4")
        below = self.task("c", "b", deadline_ms=99 * SIGNAL_KEEP_MS)
        self.commit(self.claimed(), "wait", wait=model.Wait(("c",), "go_on"), emits=(below,))
        expect(self.got(self.begin_wait(agent="b")), 4, "what a child of t3 got")

    def test_a_sender_may_repeat_itself(self) -> None:
        """Under its key a signal is one, kept, given or waited for; also when all is over. The key has one meaning."""
        self.run_of("t1")
        expect([self.kept_name(self.send("t1", key="k1")) for _ in range(2)], ["paid", "paid"], "kept, and again")
        first = self.begin_wait()
        expect(self.send("t1", key="k1")["id"], first, "given, and again")
        second = self.begin_wait()
        expect(self.status(second), "queued", "it waits for another one")
        expect([self.send("t1", key="k2")["id"] for _ in range(2)], [second, second], "waited for, and again")
        expect(self.status(self.begin_wait()), "queued", "none is left")
        expect_refused(InvalidInputError, lambda: self.send("t1", "other", key="k1"), "'k1'", "'paid'")
        self.do(model.Cancel("t1"))
        expect(self.send("t1", key="k1")["id"], first, "after the end")
        expect_refused(RefusedError, lambda: self.send("t1", key="k3"), "t1 is cancelled")

    def test_what_is_kept_has_bounds(self) -> None:
        """In number, bytes and time; a signal must have a name; what was refused leaves nothing."""
        self.run_of("t1")
        expect_refused(InvalidInputError, lambda: self.send("t1", ""), "give its name")
        expect_refused(InvalidInputError, lambda: self.send("t1", data="1" * (KEPT_BYTES_MAX + 1)), "above")
        for _ in range(SIGNALS_KEPT_MAX):
            self.send("t1")
        expect_refused(RefusedError, lambda: self.send("t1", "more"), f"{SIGNALS_KEPT_MAX} signals", "later")
        self.now_ms += SIGNAL_KEEP_MS
        expect(self.status(self.begin_wait()), "queued", "they came too long ago")
        self.send("t1", "more")
        self.run_of("t2")
        large = '"' + "x" * (KEPT_BYTES_MAX // 2) + '"'
        self.send("t2", data=large)
        expect_refused(RefusedError, lambda: self.send("t2", data=large), "bytes")

    def test_signals_go_with_their_task(self) -> None:
        """They are forgotten with it, and an identifier that is used again has none."""
        self.submit("t1")
        self.send("t1")
        self.finish()
        self.submit("t2")
        self.finish()
        expect(self.do(model.Purge(0)), 2, "forgotten tasks")
        self.submit("t1")
        self.begin_wait()
        expect(self.status("t1"), "waiting", "the task of the same name")
